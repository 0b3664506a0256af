"""Private names of dependencies: every one that the package uses, with the reason.

`tests/test_compat.py` fails when one of them is gone, or when a public way has come.
"""
