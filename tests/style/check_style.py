#!/usr/bin/env python3
"""The laws of this repository that a compiler does not enforce.

    check_style.py <repository>

Prints `file:line: what` for each breach, and fails if there was one. Standard library only; reads every
source file once and needs no build and no git.
"""

import os
import re
import sys

MODULES = ("policy", "traces", "sim", "kernels", "engine")
TOP_FOLDERS = MODULES + ("tests", "bench", "notebooks")
TOP_FILES = {"CMakeLists.txt", "CMakePresets.json", "Makefile", "README.md", "LICENSE", "CHANGELOG.md",
             ".clang-format", ".clang-tidy", ".gitignore"}
LINE_LENGTH_MAX = 110

# Arrows point down only.
LAYERS = {
    "policy": {"policy"},
    "kernels": {"kernels"},
    "traces": {"traces", "policy"},
    "sim": {"sim", "traces", "policy"},
    "engine": set(MODULES),
    "tests": set(MODULES),
    "bench": set(MODULES),
}
# The shared vocabulary lies in policy/, under a name of its own; engine/ holds three libraries.
MODULE_OF_PREFIX = {"core": "policy", "storage": "engine", "service": "engine",
                    **{module: module for module in MODULES}}

# Third-party headers: (pattern of the include, pattern of the paths that may have it).
THIRD_PARTY = [
    (r"tl/", r"policy/include/loracle/core/result\.hpp"),
    (r"Eigen/", r"(kernels|sim)/src/|tests/|bench/"),
    (r"nlohmann/", r"(traces|sim|engine)/.*\.cpp|engine/app/trace_json\.hpp|sim/src/report_spec\.hpp|"
                   r"tests/.*\.cpp|bench/.*\.cpp"),
    (r"fmt/", r"(policy|traces|sim|kernels|engine|tests|bench)/.*\.cpp"),
    (r"CLI/", r"engine/app/"),
    (r"(zlib|lzma|zstd|zstd_errors|xxhash)\.h", r"(traces|engine)/src/.*\.cpp|tests/.*|bench/.*\.cpp"),
    (r"zip\.h", r"engine/src/loader/.*\.cpp|tests/.*"),
    (r"sqlite3\.h", r"engine/src/catalog/.*\.cpp"),
    (r"openssl/", r"engine/src/(catalog|storage|service)/.*\.cpp|tests/(storage|service)/"),
    (r"curl/", r"engine/src/storage/.*\.cpp"),
    (r"pugixml\.hpp", r"engine/src/storage/.*\.cpp"),
    (r"(prometheus/|spdlog/|toml\+\+/)",
     r"engine/src/service/.*\.cpp|tests/(storage|service)/"),
    (r"httplib\.h", r"tests/(storage|service)/|bench/"),
    (r"loracle\.h", r"engine/c/.*\.cpp|tests/"),  # ours, and nobody's above it: it is for C
    (r"(cuda|cooperative_groups|cub/|cublas|mma\.h)",
     r"kernels/|engine/src/tiers/device_cuda\.cpp|tests/kernels/|tests/engine/device_cuda_\w+\.cpp|bench/"),
    (r"(gtest|gmock)/", r"tests/"),
    (r"benchmark/", r"bench/"),
]
# Parts of the system below the standard library.
SYSTEM = [
    (r"(sys/.*|unistd\.h|fcntl\.h|dirent\.h|dlfcn\.h|fnmatch\.h|poll\.h|spawn\.h|signal\.h|pthread\.h"
     r"|sched\.h|malloc\.h)",
     r"(traces|engine)/(src|app|c)/|tests/|bench/"),
    (r"(linux/.*|netinet/.*|arpa/.*|netdb\.h)",
     r"engine/src/(storage|service)/|engine/src/rooted_files\.cpp|tests/|bench/"),
    (r"(\w*intrin|cpuid)\.h", r"(policy|traces|sim|kernels)/src/|tests/|bench/"),
    (r"(stdlib|string|stdio|errno|math|stdint|inttypes|stddef|time)\.h", r"engine/(src|c)/|tests/|bench/"),
]
STANDARD = set("""
algorithm any array atomic barrier bit bitset cassert cctype cerrno cfenv cfloat charconv chrono cinttypes
climits clocale cmath codecvt compare complex concepts condition_variable coroutine csetjmp csignal cstdarg
cstddef cstdint cstdio cstdlib cstring ctime cuchar cwchar cwctype deque exception execution filesystem
forward_list fstream functional future initializer_list iomanip ios iosfwd iostream istream iterator latch
limits list locale map memory memory_resource mutex new numbers numeric optional ostream queue random ranges
ratio regex scoped_allocator semaphore set shared_mutex span sstream stack stdexcept stop_token streambuf
string string_view system_error thread tuple type_traits typeindex typeinfo unordered_map unordered_set
utility valarray variant vector version
""".split())
# Standard headers of threads, clocks, random numbers and consoles: the engine's, nobody else's.
ENGINE_ONLY = set("barrier chrono condition_variable ctime future iostream latch mutex random semaphore "
                  "shared_mutex stop_token thread".split())
BELOW_ENGINE = ("policy", "traces", "sim", "kernels")

# Refused in code (comments and strings do not count) of the libraries.
BANNED_CODE = [
    (r"\bthrow\b", "throw: the world's failures are a Result, ours a CHECK"),
    (r"\bstd::(cout|cerr|clog)\b|(?<![\w:.>])(std::)?f?printf\s*\(|(?<![\w:.>])(std::)?f?puts\s*\(",
     "prints: a library says what it has to say in its results"),
    (r"\b(system_clock|steady_clock|high_resolution_clock|clock_gettime|gettimeofday)\b"
     r"|(?<![\w:.>])(std::)?(time\s*\(\s*(nullptr|NULL|0|&\s*\w+)\s*\)|clock\s*\(\s*\))",
     "reads a clock: time comes in as a parameter"),
    (r"(?<![\w:.>])(std::)?(s?rand|[dlm]rand48)\s*\(|\b(random_device|default_random_engine|mt19937(_64)?)\b"
     r"|\bstd::\w+_distribution\b",
     "random numbers that differ between libraries or runs: use loracle::Rng"),
]
MAY_PRINT = {"policy/src/check.cpp"}  # a failed check is the one thing a library prints

SOURCE_SUFFIXES = (".hpp", ".cpp", ".h", ".c", ".cu", ".cuh")
WIDTH_SUFFIXES = SOURCE_SUFFIXES + (".py", ".cmake", ".sh", "CMakeLists.txt", "Makefile")

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:<([^>]+)>|"([^"]+)")')
TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<tag>[^()\s\\]{0,16})\(.*?\)(?P=tag)"|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'", re.DOTALL)


def code_only(text):
    """The text with comments and literals blanked out; lines keep their numbers."""
    return TOKEN.sub(lambda token: re.sub(r"[^\n]", " ", token.group()), text)


def check_includes(path, text):
    """The layers, and which library may appear where."""
    module = path.split("/")[0]
    public = "/include/" in path
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        name = match.group(1) or match.group(2)
        if name.startswith("loracle/"):
            target = MODULE_OF_PREFIX.get(name.split("/")[1])
            if target is None:
                yield number, f"includes {name}, which belongs to no module"
            elif target not in LAYERS.get(module, set()):
                yield number, f"includes {name}: {module} may not know {target}"
            elif match.group(1):
                yield number, f'includes <{name}>: our own headers are "quoted"'
            continue
        if match.group(2) and not any(re.match(p, name) for p, _ in THIRD_PARTY):
            if ".." in name.split("/") and module not in ("tests", "bench"):
                yield number, f"includes {name}: a path out of its folder"
            elif public:
                yield number, f"includes {name}: a public header includes public headers only"
            continue
        if name in STANDARD:
            if name in ENGINE_ONLY and module in BELOW_ENGINE:
                yield number, f"includes <{name}>: threads, clocks, randomness and consoles belong to engine"
            continue
        for pattern, where in THIRD_PARTY + SYSTEM:
            if re.match(pattern, name):
                if not re.match(where, path):
                    yield number, f"includes {name}, which is not allowed here"
                elif public and module != "kernels" and not name.startswith("tl/"):
                    yield number, f"includes {name}: users of a public header would pay for it"
                break
        else:
            yield number, f"includes {name}, which no rule of check_style.py knows"


def check_text(path, text):
    """Line length, unfinished work, and what code of the libraries must not call."""
    if path.endswith(WIDTH_SUFFIXES):
        for number, line in enumerate(text.split("\n"), 1):
            if len(line) > LINE_LENGTH_MAX and "://" not in line:
                yield number, f"{len(line)} characters, {LINE_LENGTH_MAX} are allowed"
            if line != line.rstrip():
                yield number, "blanks at the end of the line"
        if text and not text.endswith("\n"):
            yield text.count("\n") + 1, "no newline at the end of the file"
    if not path.startswith("tests/style/"):
        for match in re.finditer(r"\b(FIXME|XXX)\b", text):
            yield text.count("\n", 0, match.start()) + 1, f"{match.group()}: mend it, or say what is true"
    if path.endswith(SOURCE_SUFFIXES) and path.startswith(tuple(m + "/" for m in BELOW_ENGINE)):
        code = code_only(text)
        for pattern, why in BANNED_CODE:
            if why.startswith("prints") and path in MAY_PRINT:
                continue
            for match in re.finditer(pattern, code):
                yield code.count("\n", 0, match.start()) + 1, why


def check_header(path, text):
    """A header guards itself, and a public one says what it is before anything else."""
    if not path.endswith((".hpp", ".cuh")):
        return
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines or lines[0] != "#pragma once":
        yield 1, "a header begins with #pragma once"
    elif "/include/" in path and not (len(lines) > 1 and lines[1].startswith("///")):
        yield 2, "a public header says after #pragma once what it is: /// ..."


TYPE = re.compile(
    r"^(?:struct|class|enum(?: class)?|union) (\w+)(?: final)?(?: *:(?!:)[^;{]*)? *\{", re.MULTILINE)


def types_of(path, text):
    """(name, line) of each type that a header of the libraries defines at the margin, in any namespace."""
    if path.endswith((".hpp", ".cuh")) and path.startswith(tuple(m + "/" for m in MODULES)):
        code = code_only(text)
        for match in TYPE.finditer(code):
            yield match.group(1), code.count("\n", 0, match.start()) + 1


def check_types(files):
    """Two types of one name are one to the linker, which keeps either's members and says nothing.

    `files`: (path, text) of each.
    """
    first = {}
    for path, text in files:
        for name, line in types_of(path, text):
            if first.get(name, path) != path:
                yield f"{path}:{line}: {name} is the name of a type of {first[name]} too"
            first.setdefault(name, path)


def check_file(path, text):
    """All breaches of one file: (line, what). `path` is relative to the repository, with slashes."""
    yield from check_header(path, text)
    if path.endswith(SOURCE_SUFFIXES):
        yield from check_includes(path, text)
    yield from check_text(path, text)


def check_folders(root, names):
    """The top level: eight folders, each with a README, and a fixed list of files."""
    for name in sorted(names):
        full = os.path.join(root, name)
        if name in (".git", ".ci", "shared") or ignored_at_top(root, name):
            continue
        if os.path.isdir(full):
            if name not in TOP_FOLDERS:
                yield f"{name}/: no ninth folder; in which of {' '.join(TOP_FOLDERS)} does it belong?"
        elif name not in TOP_FILES:
            yield f"{name}: no file of that name belongs at the top"
    for folder in TOP_FOLDERS:
        if not os.path.isfile(os.path.join(root, folder, "README.md")):
            yield f"{folder}/README.md: missing; it says what the folder is for"


def ignored_at_top(root, name):
    """True for what .gitignore names at the top level, and for folders of editors and of other builds."""
    if name.startswith(("build-", "cmake-build-")) or name in (".idea", ".vscode", ".clangd"):
        return True
    try:
        with open(os.path.join(root, ".gitignore"), encoding="utf-8") as file:
            patterns = file.read().split()
    except FileNotFoundError:
        return False
    return name in (pattern.strip("/") for pattern in patterns)


def files_of(root):
    for folder in TOP_FOLDERS:
        for where, folders, names in os.walk(os.path.join(root, folder)):
            folders[:] = sorted(f for f in folders if f != "__pycache__" and not f.startswith("."))
            for name in sorted(names):
                yield os.path.relpath(os.path.join(where, name), root).replace(os.sep, "/")
    for name in sorted(TOP_FILES):
        if os.path.isfile(os.path.join(root, name)):
            yield name


def main(arguments):
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    root = arguments[1]
    breaches = list(check_folders(root, os.listdir(root)))
    count = 0
    files = []
    for path in files_of(root):
        if not path.endswith(WIDTH_SUFFIXES + (".md", ".json")):
            continue
        count += 1
        try:
            with open(os.path.join(root, path), encoding="utf-8") as file:
                text = file.read()
        except UnicodeDecodeError:
            breaches.append(f"{path}: not UTF-8")
            continue
        breaches.extend(f"{path}:{line}: {what}" for line, what in check_file(path, text))
        files.append((path, text))
    breaches.extend(check_types(files))
    for breach in breaches:
        print(breach)
    print(f"{count} files, {len(breaches)} breaches")
    return 1 if breaches or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
