#!/usr/bin/env python3
"""What became slower: medians of fathom's rows in two files as bench/peers.py --csv writes them.

usage: bench/compare.py OLD.csv NEW.csv [--margin PERCENT]

Compared are the rows that both have for the same model, work and number of threads.  Exit code 1 when the new rate is more
than the margin below the old one, 2 when there is nothing to compare or the machines differ.
"""
import argparse
import sys

import figures


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("old")
    p.add_argument("new")
    p.add_argument("--margin", type=float, default=10, help="percent, default 10: what shared machines differ by from run to run")
    o = p.parse_args()
    rows = [figures.read(path) for path in (o.old, o.new)]
    old, new = (figures.medians(r, "fathom") for r in rows)
    both = [k for k in new if k in old]
    machines = {f.machine for r in rows for f in r}
    if not both or len(machines) > 1:
        print(f"nothing to compare: {' and '.join(sorted(machines)) if both else 'no row is in both files'}", file=sys.stderr)
        return 2
    slower = 0
    for model, work, threads in both:
        (was, _, n), (now, fraction, m) = old[model, work, threads], new[model, work, threads]
        change = 100 * (now / was - 1)
        slower += change < -o.margin
        print(f"{model:16} {work:20} threads {threads} {was:10.2f} ({n}) → {now:10.2f} ({m}) tokens/s {change:+6.1f} %, "
              f"{fraction:.0%} of the limit{'  SLOWER' if change < -o.margin else ''}")
    print(f"{len(both)} rows, {slower} slower by more than {o.margin:g} %")
    return 1 if slower else 0


sys.exit(main())
