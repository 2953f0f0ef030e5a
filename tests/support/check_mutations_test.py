#!/usr/bin/env python3
"""If this fails, check_mutations.py may call a mutation noticed that was never applied."""

import unittest

import check_mutations

GOOD = """Something is wrong then,
and this is why.
test: tier_test Tier.KeepsBothLimits
file: a.hpp
-  one;
+  two;
-  three;
file: b.hpp
-old
+new
"""


class Parsing(unittest.TestCase):
    def test_reads_what_why_and_where(self):
        mutation = check_mutations.parse("name", GOOD)
        self.assertEqual(mutation.what, "Something is wrong then, and this is why.")
        self.assertEqual((mutation.target, mutation.test), ("tier_test", "Tier.KeepsBothLimits"))
        self.assertEqual([(h.path, h.old, h.new) for h in mutation.hunks],
                         [("a.hpp", ["  one;"], ["  two;"]), ("a.hpp", ["  three;"], []),
                          ("b.hpp", ["old"], ["new"])])

    def test_refuses_what_says_too_little(self):
        for text in ["", "What.\ntest: t\n", "What.\nfile: a\n-x\n", "test: t\nfile: a\n-x\n",
                     "What.\ntest: t\nfile: a\n+x\n", "What.\ntest: t\nfile: a\n-x\nstray\n",
                     "What.\ntest: a b c\nfile: a\n-x\n"]:
            with self.assertRaises(ValueError, msg=text):
                check_mutations.parse("name", text)


class Applying(unittest.TestCase):
    def hunk(self, old, new):
        hunk = check_mutations.Hunk("a.hpp")
        hunk.old, hunk.new = old, new
        return hunk

    def test_replaces_whole_lines_once(self):
        self.assertEqual(check_mutations.apply("a\nb\nc\n", self.hunk(["b"], ["x", "y"])), "a\nx\ny\nc\n")
        self.assertEqual(check_mutations.apply("a\nb\nc\n", self.hunk(["a", "b"], [])), "c\n")

    def test_refuses_what_is_not_there_or_not_alone(self):
        for text in ["a\nbb\nc\n", "a\nb\nb\n", "a\n b\n", ""]:
            with self.assertRaises(ValueError, msg=text):
                check_mutations.apply(text, self.hunk(["b"], ["x"]))


if __name__ == "__main__":
    unittest.main()
