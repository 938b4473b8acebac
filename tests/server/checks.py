"""Counting what is wrong."""
import sys

faults = []


def check(ok, what):
    if not ok:
        faults.append(what)
        print(what)


def finish():
    sys.exit(1 if faults else 0)
