"""`python conformance/python`: runs the tests and closes with "N passed, N failed", which CI counts."""

import pathlib
import sys
import unittest

tests = unittest.defaultTestLoader.discover(str(pathlib.Path(__file__).parent))
result = unittest.TextTestRunner(verbosity=2).run(tests)
failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
skipped = len(result.skipped)
# An error in a set-up stands for no test that ran, so it may outnumber them.
passed = max(result.testsRun - failed - skipped, 0)
sys.stderr.flush()
print(f"{passed} passed, {failed} failed, {skipped} skipped")
sys.exit(failed > 0 or passed == 0)
