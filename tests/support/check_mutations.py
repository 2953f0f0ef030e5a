#!/usr/bin/env python3
"""Puts bugs back on purpose and looks whether a test notices.

    check_mutations.py REPOSITORY                       does each one still apply, and is there its test?
    check_mutations.py REPOSITORY [NAME...] --work DIR  builds and runs the test of each, or of those named

A mutation is a file tests/support/mutations/NAME.txt:

    What is wrong then, in a sentence or two.
    test: tier_test Tier.KeepsBothLimits
    file: policy/include/loracle/policy/make_room.hpp
    -  return used.bytes <= capacity.bytes;
    +  return used.bytes < capacity.bytes;

`test:` is a CMake target and, if it is a GoogleTest binary, the one test that must go red. Lines after
`file:` that begin with `-` are the old text, whole lines that occur exactly once in the file; those that
begin with `+`, the new. There may be several such hunks, and several files.

Mutations are applied, one at a time, to a copy of the repository in DIR/source, built in DIR/build. First
every test must be green without them. A mutation that no test notices, or that does not compile, is a
failure. So is a run of none. Standard library only.
"""

import argparse
import filecmp
import os
import pathlib
import re
import shutil
import subprocess
import sys

RUN_SECONDS_MAX = 120  # a mutation that makes its test hang has been noticed
NOT_COPIED = {".git", "build", "shared", "notebooks", "__pycache__", ".cache"}


class Hunk:
    def __init__(self, path):
        self.path = path
        self.old = []
        self.new = []


class Mutation:
    def __init__(self, name):
        self.name = name
        self.what = ""
        self.target = None
        self.test = None  # SUITE.NAME, or None: the whole binary
        self.hunks = []


def parse(name, text):
    """A mutation from its file; ValueError says which line is wrong."""
    mutation = Mutation(name)
    path = None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("test:"):
            words = line[len("test:"):].split()
            if not 1 <= len(words) <= 2:
                raise ValueError(f"{name}:{number}: test: TARGET [SUITE.NAME]")
            mutation.target, mutation.test = words[0], words[1] if len(words) == 2 else None
        elif line.startswith("file:"):
            path = line[len("file:"):].strip()
            mutation.hunks.append(Hunk(path))
        elif line[:1] in ("-", "+") and path is not None:
            hunk = mutation.hunks[-1]
            if line[0] == "-" and hunk.new:
                hunk = Hunk(path)
                mutation.hunks.append(hunk)
            (hunk.old if line[0] == "-" else hunk.new).append(line[1:])
        elif path is None:
            mutation.what += line.strip() + " "
        elif line.strip():
            raise ValueError(f"{name}:{number}: after file: come lines that begin with - or +")
    mutation.what = mutation.what.strip()
    if not mutation.what or mutation.target is None or not mutation.hunks:
        raise ValueError(f"{name}: needs a sentence, a test: and a file:")
    if any(not hunk.old for hunk in mutation.hunks):
        raise ValueError(f"{name}: a hunk without old text")
    return mutation


def apply(text, hunk):
    """The text with the hunk's old lines replaced; ValueError unless they occur exactly once."""
    old = "".join(line + "\n" for line in hunk.old)
    new = "".join(line + "\n" for line in hunk.new)
    count = len(re.findall("^" + re.escape(old), text, re.MULTILINE))
    if count != 1:
        raise ValueError(f"{hunk.path}: the old text occurs {count} times: {hunk.old[0].strip()}")
    at = re.search("^" + re.escape(old), text, re.MULTILINE).start()
    return text[:at] + new + text[at + len(old):]


def apply_all(root, mutation):
    """{path: (text before, text after)} of every file the mutation touches."""
    files = {}
    for hunk in mutation.hunks:
        if hunk.path not in files:
            text = (root / hunk.path).read_text(encoding="utf-8")
            files[hunk.path] = (text, text)
        before, after = files[hunk.path]
        files[hunk.path] = (before, apply(after, hunk))
    return files


def test_exists(root, test):
    suite, _, name = test.partition(".")
    pattern = re.compile(r"TEST(_F|_P)?\(\s*%s,\s*%s\)" % (re.escape(suite), re.escape(name)))
    return any(pattern.search(path.read_text(encoding="utf-8")) for path in (root / "tests").rglob("*.cpp"))


def load(root, names):
    """The mutations named, or all; ValueError if one cannot be used."""
    folder = root / "tests" / "support" / "mutations"
    known = sorted(path.stem for path in folder.glob("*.txt"))
    for name in names:
        if name not in known:
            raise ValueError(f"{name}: no such mutation; there are {' '.join(known)}")
    mutations = []
    for name in names or known:
        mutation = parse(name, (folder / f"{name}.txt").read_text(encoding="utf-8"))
        try:
            apply_all(root, mutation)
        except (ValueError, OSError) as error:
            raise ValueError(f"{name}: does not apply any more: {error}") from error
        if mutation.test and not test_exists(root, mutation.test):
            raise ValueError(f"{name}: there is no test {mutation.test}")
        mutations.append(mutation)
    return mutations


def sync(source, copy):
    """Makes `copy` equal to `source`. What is equal keeps its time, so that it is not built again."""
    copy.mkdir(parents=True, exist_ok=True)
    names = {entry.name for entry in source.iterdir()} - NOT_COPIED
    for entry in list(copy.iterdir()):
        if entry.name not in names:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for name in names:
        here, there = source / name, copy / name
        if here.is_dir():
            sync(here, there)
        elif not there.exists() or not filecmp.cmp(here, there, shallow=False):
            shutil.copyfile(here, there)


class Bench:
    """A copy of the repository, its build, and what is run in it."""

    def __init__(self, root, work, jobs):
        self.source = work / "source"
        self.build = work / "build"
        self.jobs = jobs
        sync(root, self.source)
        self.log = open(work / "build.log", "w", encoding="utf-8")
        self.call(["cmake", "-S", self.source, "-B", self.build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug",
                   "-DLORACLE_DCHECKS=ON", "-DLORACLE_BENCH=OFF", "-DLORACLE_APP=OFF"], check=True)

    def call(self, command, check=False):
        return subprocess.run([str(word) for word in command], stdout=self.log, stderr=subprocess.STDOUT,
                              check=check).returncode

    def compiles(self, target):
        return self.call(["cmake", "--build", self.build, "--target", target, "-j", self.jobs]) == 0

    def binary(self, target):
        found = [path for path in (self.build / "tests").rglob(target) if path.is_file()]
        if len(found) != 1:
            raise ValueError(f"{target}: no such binary")
        return found[0]

    def outcome(self, mutation):
        """"green", "red" or "hangs"; ValueError if no test of that name ran."""
        command = [str(self.binary(mutation.target))]
        if mutation.test:
            command.append(f"--gtest_filter={mutation.test}")
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  errors="replace", timeout=RUN_SECONDS_MAX, check=False)
        except subprocess.TimeoutExpired:
            return "hangs"
        self.log.write(done.stdout)
        if done.returncode != 0:
            return "red"
        if mutation.test and "[  PASSED  ] 1 test." not in done.stdout:
            raise ValueError(f"{mutation.target}: {mutation.test} did not run")
        return "green"


def try_mutation(bench, mutation):
    """"noticed" or what went wrong."""
    files = apply_all(bench.source, mutation)
    try:
        for path, (_, after) in files.items():
            (bench.source / path).write_text(after, encoding="utf-8")
        if not bench.compiles(mutation.target):
            return "DOES NOT COMPILE"
        outcome = bench.outcome(mutation)
        return "NOBODY NOTICES" if outcome == "green" else f"noticed ({outcome})"
    finally:
        for path, (before, _) in files.items():
            (bench.source / path).write_text(before, encoding="utf-8")


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("repository", type=pathlib.Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--work", type=pathlib.Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args(arguments)
    try:
        mutations = load(options.repository, options.names)
    except ValueError as error:
        print(error)
        return 1
    if not mutations:
        print("no mutations: nothing was tried")
        return 1
    if options.work is None:
        print(f"{len(mutations)} mutations apply")
        return 0
    options.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.repository, options.work, options.jobs)
    failed = 0
    for mutation in mutations:
        if not bench.compiles(mutation.target) or bench.outcome(mutation) != "green":
            print(f"{mutation.target} {mutation.test or ''}: red without any mutation: {bench.log.name}")
            return 1
    for mutation in mutations:
        outcome = try_mutation(bench, mutation)
        failed += not outcome.startswith("noticed")
        print(f"{mutation.name}: {outcome}: {mutation.target} {mutation.test or ''}", flush=True)
    print(f"{len(mutations)} mutations, {len(mutations) - failed} noticed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
