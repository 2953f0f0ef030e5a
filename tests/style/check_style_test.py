#!/usr/bin/env python3
"""If this fails, check_style.py has gone blind or sees ghosts, and its silence proves nothing."""

import os
import tempfile
import unittest

import check_style

SOURCE = "sim/src/a.cpp"
PUBLIC = "sim/include/loracle/sim/a.hpp"


def breaches(path, text):
    return [what for _, what in check_style.check_file(path, text)]


class Types(unittest.TestCase):
    def test_no_two_headers_share_the_name_of_a_type(self):
        one = (PUBLIC, "struct Model {\n};\nclass Other;\nenum class Kind : int { kA };\n")
        for text in ("struct Model {", "class Model final : public Base {", "enum class Kind {"):
            self.assertTrue(list(check_style.check_types([one, ("traces/src/b.hpp", text)])), text)
        for text in ("struct Model;", "  struct Model {", "// struct Model {", "class Other {",
                     "struct Model::State {"):
            self.assertEqual(list(check_style.check_types([one, ("traces/src/b.hpp", text)])), [], text)
        self.assertEqual(list(check_style.check_types([one, ("tests/sim/b.hpp", "struct Model {")])), [])


class Includes(unittest.TestCase):
    def test_arrows_point_down_only(self):
        for module, header in [("policy", "traces/trace.hpp"), ("policy", "sim/replay.hpp"),
                               ("traces", "sim/grid.hpp"), ("sim", "engine/engine.hpp"),
                               ("sim", "kernels/device_info.hpp"),
                               ("kernels", "core/units.hpp"), ("engine", "unknown/x.hpp")]:
            line = f'#include "loracle/{header}"\n'
            self.assertTrue(breaches(f"{module}/src/a.cpp", line), (module, header))
        for module, header in [("policy", "core/units.hpp"), ("traces", "core/result.hpp"),
                               ("sim", "traces/trace.hpp"), ("engine", "sim/plan.hpp"),
                               ("engine", "kernels/device_info.hpp"),
                               ("tests", "sim/plan.hpp")]:
            line = f'#include "loracle/{header}"\n'
            self.assertEqual(breaches(f"{module}/src/a.cpp", line), [], (module, header))

    def test_each_library_has_its_places(self):
        for path, include in [("policy/src/a.cpp", "<nlohmann/json.hpp>"),
                              ("policy/src/a.cpp", "<Eigen/Dense>"),
                              ("traces/src/a.hpp", "<fmt/format.h>"),
                              ("sim/src/a.cpp", "<tl/expected.hpp>"),
                              ("sim/src/a.cpp", "<zstd.h>"), ("engine/src/a.cpp", "<sqlite3.h>"),
                              ("sim/src/a.cpp", "<cuda_runtime.h>"), ("engine/src/a.cpp", "<gtest/gtest.h>"),
                              ("engine/src/tiers/slot_parts.cpp", "<cuda_runtime_api.h>"),
                              ("sim/src/a.cpp", "<boost/any.hpp>"), ("sim/src/a.cpp", "<thread>"),
                              ("policy/src/a.cpp", "<chrono>"), ("policy/src/a.cpp", "<sys/mman.h>"),
                              ("sim/src/a.cpp", '"../other.hpp"'), ("sim/src/a.c", "<stdio.h>")]:
            text = ("#pragma once\n" if path.endswith(".hpp") else "") + f"#include {include}\n"
            self.assertTrue(breaches(path, text), (path, include))
        for path, include in [("policy/include/loracle/core/result.hpp", "<tl/expected.hpp>"),
                              ("sim/src/a.cpp", "<nlohmann/json.hpp>"), ("sim/src/a.cpp", "<fmt/format.h>"),
                              ("traces/src/a.cpp", "<zstd.h>"), ("traces/src/a.cpp", "<sys/mman.h>"),
                              ("sim/src/a.cpp", "<immintrin.h>"), ("engine/src/a.cpp", "<thread>"),
                              ("kernels/include/loracle/kernels/a.hpp", "<cuda_runtime_api.h>"),
                              ("engine/src/tiers/device_cuda.cpp", "<cuda_runtime_api.h>"),
                              ("tests/sim/a.cpp", "<gtest/gtest.h>"), ("sim/src/a.cpp", '"beside.hpp"'),
                              ("engine/c/a.h", "<stddef.h>"), ("tests/engine/a.c", "<stdio.h>"),
                              ("tests/sim/a.cpp", '"../../sim/src/beside.hpp"')]:
            head = "#pragma once\n/// What it is.\n" if path.endswith(".hpp") else ""
            text = head + f"#include {include}\n"
            self.assertEqual(breaches(path, text), [], (path, include))

    def test_public_headers_include_public_headers_only(self):
        head = "#pragma once\n/// What it is.\n"
        self.assertTrue(breaches(PUBLIC, head + "#include <fmt/format.h>\n"))
        self.assertTrue(breaches(PUBLIC, head + '#include "beside.hpp"\n'))
        good = '#include <vector>\n#include "loracle/core/units.hpp"\n'
        self.assertEqual(breaches(PUBLIC, head + good), [])


class Text(unittest.TestCase):
    def test_refused_calls_are_found_in_code(self):
        for line in ["throw 1;", "std::cout << 1;", 'std::printf("x");', "fprintf(stderr, s);", "puts(s);",
                     "auto t = std::chrono::steady_clock::now();", "auto t = std::time(nullptr);",
                     "auto t = time(nullptr);", "clock_gettime(CLOCK_MONOTONIC, &t);", "int r = rand();",
                     "std::mt19937 twister;", "std::random_device device;", "long t = std::clock();",
                     "std::uniform_int_distribution<int> d;"]:
            for module in check_style.BELOW_ENGINE:
                self.assertTrue(breaches(f"{module}/src/a.cpp", line + "\n"), line)

    def test_comments_strings_and_likenesses_are_left_alone(self):
        for line in ["// never throws; would throw; rand() is banned", "/* throw\n std::cout */",
                     'auto s = "throw";', 'auto s = R"(rand() "throw" )";', "PoissonClock clock(rate);",
                     "char c = '\"'; int rethrow_count = 0;",
                     'std::snprintf(b, n, "%d", 1);', "auto x = event.time(); grand(1); arrival_time(2);",
                     "const int million = 1'000'000; int overclock(int);"]:
            self.assertEqual(breaches(SOURCE, line + "\n"), [], line)

    def test_code_after_a_literal_is_still_seen(self):
        for line in ['auto s = "a"; throw 1;', "auto n = 1'000'000; throw 1;",
                     "char c = '\"'; throw 1; char d = '\"';", 'auto s = R"x(")x"; throw 1;',
                     "/* a */ throw 1;"]:
            self.assertTrue(breaches(SOURCE, line + "\n"), line)

    def test_a_failed_check_may_print(self):
        self.assertEqual(breaches("policy/src/check.cpp", 'std::fprintf(stderr, "x");\n'), [])

    def test_lines_end_in_time_and_clean(self):
        self.assertEqual(breaches(SOURCE, "x" * 110 + "\n"), [])
        self.assertTrue(breaches(SOURCE, "x" * 111 + "\n"))
        self.assertEqual(breaches(SOURCE, "ä" * 110 + "\n"), [])
        self.assertEqual(breaches(SOURCE, "// https://example.org/" + "x" * 111 + "\n"), [])
        self.assertTrue(breaches(SOURCE, "x \n"))
        self.assertTrue(breaches(SOURCE, "x"))

    def test_unfinished_work_is_found_in_comments_too(self):
        self.assertTrue(breaches(SOURCE, "// FIXME later\n"))
        self.assertTrue(breaches("engine/README.md", "FIXME\n"))


class Headers(unittest.TestCase):
    def test_a_public_header_says_what_it_is(self):
        self.assertEqual(breaches(PUBLIC, "#pragma once\n/// What it is.\n"), [])
        self.assertTrue(breaches(PUBLIC, "#pragma once\n\nnamespace loracle {}\n"))
        self.assertTrue(breaches(PUBLIC, "/// What it is.\n#pragma once\n"))
        self.assertTrue(breaches("sim/src/a.hpp", "int a;\n"))


class Folders(unittest.TestCase):
    def test_the_top_level_is_fixed(self):
        with tempfile.TemporaryDirectory() as root:
            for folder in check_style.TOP_FOLDERS:
                os.mkdir(os.path.join(root, folder))
                with open(os.path.join(root, folder, "README.md"), "w", encoding="utf-8"):
                    pass
            with open(os.path.join(root, ".gitignore"), "w", encoding="utf-8") as file:
                file.write("/build/\n")
            os.mkdir(os.path.join(root, "build"))
            self.assertEqual(list(check_style.check_folders(root, os.listdir(root))), [])
            os.mkdir(os.path.join(root, "docs"))
            self.assertEqual(len(list(check_style.check_folders(root, os.listdir(root)))), 1)
            os.rmdir(os.path.join(root, "docs"))
            os.remove(os.path.join(root, "sim", "README.md"))
            self.assertEqual(len(list(check_style.check_folders(root, os.listdir(root)))), 1)
            with open(os.path.join(root, "notes.txt"), "w", encoding="utf-8"):
                pass
            self.assertEqual(len(list(check_style.check_folders(root, os.listdir(root)))), 2)


if __name__ == "__main__":
    unittest.main()
