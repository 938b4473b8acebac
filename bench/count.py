#!/usr/bin/env python3
"""Instructions of the hot kernels under callgrind: the same on a busy machine, so a regression shows anywhere.

usage: bench/count.py PROGRAM [--tiers avx2,scalar] [--csv FILE]          counts; PROGRAM: build/bench/count_kernel
       bench/count.py PROGRAM --compare FILE.csv [--margin PERCENT]       counts and compares; exit code 1 when one has risen

An instruction is not a cycle: counts tell that the code has changed, the time of it must be measured.  Compilers differ, too; the
file's first line names the one that made it.  valgrind of Debian 12 knows no AVX-512.
"""
import argparse
import csv
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

COLUMNS = ["tier", "kernel", "format", "work", "instructions", "per_work"]


def compiler():
    said = subprocess.run([os.environ.get("CC", "gcc"), "--version"], capture_output=True, text=True, check=True).stdout
    return said.splitlines()[0]


def count(program, tier):
    """One row a kernel: the program's lines and callgrind's files come in the same order."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", "--toggle-collect=counted",
                   "--dump-after=counted", program, "--tier", tier]
        p = subprocess.run(command, capture_output=True, text=True, check=False)
        if p.returncode:
            sys.exit(f"{' '.join(command)}: exit code {p.returncode}\n{p.stderr[-2000:]}")
        rows = [line.split(",") for line in p.stdout.splitlines()]
        files = sorted(glob.glob(f"{folder}/out.*"), key=lambda f: int(f.rsplit(".", 1)[1]))
        totals = []
        for path in files:
            with open(path, encoding="utf-8") as f:
                totals.append(int(re.search(r"^(?:totals|summary): (\d+)", f.read(), re.M).group(1)))
    if len(rows) != len(totals):
        sys.exit(f"{program}: {len(rows)} kernels, but {len(totals)} counts")
    return [[tier, *row, n, f"{n / int(row[2]):.4f}"] for row, n in zip(rows, totals)]


def read(path):
    with open(path, newline="", encoding="utf-8") as f:
        made_by = f.readline().lstrip("# ").strip()
        return made_by, {tuple(r[c] for c in COLUMNS[:4]): int(r["instructions"]) for r in csv.DictReader(f)}


def compare(rows, path, margin):
    made_by, old = read(path)
    worse, known = 0, [r for r in rows if tuple(r[:4]) in old]
    for row in known:
        was = old[tuple(row[:4])]
        change = 100 * (row[4] / was - 1)
        if abs(change) > margin:
            worse += change > 0
            print(f"{row[0]:7} {row[1]:18} {row[2]:8} {was:10} → {row[4]:10} instructions {change:+6.1f} %")
    print(f"{len(known)} of {len(rows)} kernels compared, {worse} with more instructions by over {margin:g} %")
    if made_by != compiler():
        print(f"note: recorded with {made_by}, this is {compiler()}")
    return 1 if worse or not known else 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("program")
    p.add_argument("--tiers", default="avx2,scalar")
    p.add_argument("--csv")
    p.add_argument("--compare")
    p.add_argument("--margin", type=float, default=2)
    o = p.parse_args()
    if not shutil.which("valgrind"):
        sys.exit("count: valgrind: it is not installed")
    rows = [row for tier in o.tiers.split(",") for row in count(o.program, tier)]
    if o.compare:
        return compare(rows, o.compare, o.margin)
    with open(o.csv or 1, "w", newline="", encoding="utf-8") as f:
        f.write(f"# {compiler()}\n")
        csv.writer(f, lineterminator="\n").writerows([COLUMNS, *rows])
    return 0


sys.exit(main())
