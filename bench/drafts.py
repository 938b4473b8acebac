#!/usr/bin/env python3
"""Do drafts pay, and what do they cost where they do not?

drafts.py [--fathom FILE] [--turns N] [--tokens N] [--threads N] MODEL…

Each model answers three prompts: a file of code to be written once more with a name changed, a text to be told again, and
the beginning of a text that goes on by itself (sampled, so that it does not run in circles).  With every source of drafts
and twice without, in turns; the answers must be the same, letter by letter.  Prints tokens per second, medians, and the median
of the ratios within a turn: what `again` is away from 1 is the machine's noise."""

import argparse, json, pathlib, statistics, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CODE = (ROOT / "src/base/rng.c").read_text()[:1800]
TEXT = (ROOT / "README.md").read_text()[:1500]
TASKS = [
    ("code edit", "Below is a file.\n\n" + CODE + "\n\nThe same file with fm_ replaced by my_:\n\n" + CODE[:300].replace("fm_", "my_"), ["--temp", "0"]),
    ("told again", TEXT + "\n\nOnce more, word for word:\n\n" + TEXT[:200], ["--temp", "0"]),
    ("free", "Once upon a time", ["--temp", "1", "--seed", "3", "--top-k", "0", "--top-p", "1"]),
]


def answer(o, model, prompt, how, draft):
    args = [o.fathom, "run", "-m", model, "--raw", "--json", "-q", "-n", str(o.tokens), "--draft", draft.replace("again", "off"), *how]
    args += ["-c", str(o.ctx)] if o.ctx else []
    args += ["--threads", str(o.threads)] if o.threads else []
    p = subprocess.run(args, input=prompt.encode(), capture_output=True)
    if p.returncode:
        sys.exit(p.stderr.decode())
    return json.loads(p.stdout)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--fathom", default=str(ROOT / "build/fathom"))
    a.add_argument("--turns", type=int, default=5)
    a.add_argument("--tokens", type=int, default=300)
    a.add_argument("--threads", type=int, default=0)
    a.add_argument("--ctx", type=int, default=0)
    a.add_argument("--sources", default="lookup,auto")
    a.add_argument("models", nargs="+")
    o = a.parse_args()
    sources = ["off", "again", *o.sources.split(",")]
    print("%-12s %-11s %-7s %7s %9s %7s %9s %8s" % ("model", "text", "drafts", "tokens", "tokens/s", "ratio", "drafted", "accepted"))
    for model in o.models:
        for name, prompt, how in TASKS:
            rates, texts, last = {s: [] for s in sources}, set(), {}
            for turn in range(o.turns):
                for s in sources if turn % 2 == 0 else sources[::-1]:
                    last[s] = r = answer(o, model, prompt, how, s)
                    texts.add(r["text"])
                    rates[s].append(r["answer_tokens"] / r["answer_seconds"])
            if len(texts) != 1:
                sys.exit("%s, %s: drafts change the answer" % (model, name))
            for s in sources:
                rate = statistics.median(rates[s])
                pairs = statistics.median(b / a for a, b in zip(rates["off"], rates[s]))
                print("%-12s %-11s %-7s %7d %9.1f %7.3f %9d %8d" % (pathlib.Path(model).stem[:12], name, s, last[s]["answer_tokens"], rate, pairs, last[s].get("drafted", 0), last[s].get("accepted", 0)))
            sys.stdout.flush()


main()
