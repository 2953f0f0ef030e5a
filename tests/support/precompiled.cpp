// No code: what the tests include most is parsed once, with this file.
