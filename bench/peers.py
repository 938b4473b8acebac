#!/usr/bin/env python3
"""fathom's speed beside other programs' in the same minutes: A B C, A B C, …; medians and their ratios.

usage: bench/peers.py [MODEL.gguf …] [--ik DIR[@COMMIT]] [--llama DIR[@COMMIT]] [--work LIST] [--threads LIST] [--turns N]
                      [--csv FILE]

  --ik DIR     the folder that holds ik_llama.cpp's llama-bench and llama-sweep-bench; COMMIT is only noted
  --llama DIR  the folder that holds llama.cpp's llama-bench
  --work LIST  of short (a prompt of 512, then single tokens), decode (only these), long (a prompt of 2048), deep (as short, behind
               4096 tokens)
  --csv FILE   one line a run is added; without models its medians are printed and nothing is run

Each run is a process of its own, so a turn costs loading the model once for each program.  The first run of each touches the
file; a warm-up that the programs do themselves comes before every figure.  `others` tells what else ran meanwhile.
"""
import argparse
import datetime
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile

import figures

PROMPT, LONG, DEPTH, TOKENS = 512, 2048, 4096, 64
PREFILL, DECODE, BEHIND = f"prefill {PROMPT}", f"decode {TOKENS}", f" @{DEPTH}"


def last_object(text):
    """The last line that is a JSON object."""
    return json.loads([line for line in text.splitlines() if line.startswith("{")][-1])


# ---- programs: (command, what to read from its standard output: {work: (rate, fraction)}) ----------------------------

def fathom(o, model, threads, work):
    ask = {"short": ["-p", PROMPT, "-n", TOKENS, "-d", 0], "decode": ["-p", -1, "-n", TOKENS, "-d", 0],
           "long": ["-p", LONG, "-n", -1, "-d", 0], "deep": ["-p", PROMPT, "-n", TOKENS, "-d", DEPTH]}[work]
    ctx = LONG if work == "long" else PROMPT + ask[-1]

    def rates(out):
        rows = [r for r in json.loads(out)["rows"] if r["runs"]]
        return {f"{r['what']} {r['tokens']}" + (f" @{r['depth']}" if r["depth"] else ""):
                (r["tokens_per_second"], r["fraction"]) for r in rows}
    return [o.fathom, "bench", model, "--thread-list", threads, *ask, "-c", ctx, "-r", o.runs, "--json", "-q"], rates


def folder(option):
    return os.path.abspath(option.partition("@")[0])


def bench_rates(out):
    """Of llama-bench's JSON lines."""
    rates = {}
    for row in (json.loads(line) for line in out.splitlines() if line.startswith("{")):
        name = f"prefill {row['n_prompt']}" if row["n_prompt"] else f"decode {row['n_gen']}"
        rates[name + (f" @{row['n_depth']}" if row.get("n_depth") else "")] = (row["avg_ts"], 0)
    return rates


def llama(o, model, threads, work):
    ask = {"short": ["-p", PROMPT, "-n", TOKENS], "decode": ["-p", 0, "-n", TOKENS], "long": ["-p", LONG, "-n", 0],
           "deep": ["-p", PROMPT, "-n", TOKENS, "-d", DEPTH]}[work]
    command = [f"{folder(o.llama)}/llama-bench", "-m", model, "-t", threads, *ask, "-fa", 1, "-r", o.runs, "-o", "jsonl"]
    return command, bench_rates


def ik(o, model, threads, work):
    common = ["-m", model, "-t", threads, "-fa", 1, "-mla", 3]
    if work == "deep":
        return [f"{folder(o.ik)}/llama-sweep-bench", *common, "-rtr", "-c", DEPTH + PROMPT, "-ub", PROMPT, "-n", TOKENS,
                "--sweep-stride", DEPTH // PROMPT, "--output-format", "jsonl"], sweep_rates
    ask = {"short": ["-p", PROMPT, "-n", TOKENS], "decode": ["-p", 0, "-n", TOKENS], "long": ["-p", LONG, "-n", 0]}[work]
    return [f"{folder(o.ik)}/llama-bench", *common, "-fmoe", 1, "-rtr", 1, *ask, "-r", o.runs, "-o", "json"], \
        lambda out: bench_rates("\n".join(json.dumps(row) for row in json.loads(out)))


def sweep_rates(out):
    row = last_object(out)
    assert row["n_kv"] == DEPTH, row
    return {PREFILL + BEHIND: (row["speed_pp"], 0), DECODE + BEHIND: (row["speed_tg"], 0)}


PROGRAMS = {"fathom": fathom, "ik_llama.cpp": ik, "llama.cpp": llama}


# ---- the machine ---------------------------------------------------------------------------------------------------

def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        names = re.findall(r"^model name\s*: (.*)$", f.read(), re.M) or [os.uname().machine]
    return f"{names[0]}, {len(os.sched_getaffinity(0))} cores"


def busy_and_all():
    """Seconds that all cores worked, and all seconds, since the machine began."""
    with open("/proc/stat", encoding="utf-8") as f:
        v = [int(x) / os.sysconf("SC_CLK_TCK") for x in f.readline().split()[1:9]]
    return sum(v) - v[3] - v[4], sum(v)


def children():
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    return r.ru_utime + r.ru_stime


def run(command):
    """What it says, and the share of the cores that others had meanwhile; files that it drops go away with the folder."""
    busy, whole, own = *busy_and_all(), children()
    with tempfile.TemporaryDirectory() as folder:
        p = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if p.returncode:
        sys.exit(f"{shlex.join(command)}: exit code {p.returncode}\n{p.stderr[-2000:]}")
    b, w = busy_and_all()
    return p.stdout or p.stderr, max(0.0, (b - busy - (children() - own)) / max(w - whole, 1e-9))


def versions(o):
    said = {}
    if o.fathom:
        out = subprocess.run([o.fathom, "version"], capture_output=True, text=True, check=True).stdout
        said["fathom"] = re.search(r"^commit (\S+)", out, re.M).group(1)
    for name, option in (("ik_llama.cpp", o.ik), ("llama.cpp", o.llama)):
        if option:
            said[name] = option.partition("@")[2] or "unknown"
    return said


# ---- turns and the table -------------------------------------------------------------------------------------------

def short(x):
    """As many digits as the file keeps: a table of its rows is the same."""
    return float(f"{x:.4g}")


def measure(o, model, threads, work, program, version):
    command, rates = PROGRAMS[program](o, model, threads, work)
    command = [str(c) for c in command]
    when, load = datetime.datetime.utcnow().strftime("%FT%TZ"), short(os.getloadavg()[0])
    out, others = run(command)
    shown = shlex.join("MODEL" if c == model else os.path.basename(c) for c in command)
    rows = [figures.Figure(when, machine(), load, short(others), os.path.basename(model).removesuffix(".gguf"), name, threads,
                           program, version, short(rate), short(fraction), shown) for name, (rate, fraction) in rates(out).items()]
    for r in rows:
        print(f"{r.program:14} {r.model:14} {r.work:20} threads {r.threads} {r.rate:9.2f} tokens/s  others {r.others:.0%}",
              file=sys.stderr, flush=True)
    return rows


def table(rows):
    """Markdown: a line for each model, work and number of threads."""
    ours, peers = figures.medians(rows, "fathom"), [p for p in PROGRAMS if p != "fathom"]
    theirs = {p: figures.medians(rows, p) for p in peers}
    print("| model | work | threads | fathom t/s (of the limit) | " + " | ".join(f"{p} t/s | ratio" for p in peers) + " | runs |")
    print("|---|---|---|---|" + "---|---|" * len(peers) + "---|")
    for key, (rate, fraction, n) in ours.items():
        cells, runs = [], [str(n)]
        for p in peers:
            if key in theirs[p]:
                other, _, m = theirs[p][key]
                cells += [f"{other:.4g}", f"{rate / other:.2f}"]
                runs.append(str(m))
            else:
                cells += ["–", "–"]
        model, work, threads = key
        print(f"| {model} | {work} | {threads} | {rate:.4g} ({fraction:.0%}) | " + " | ".join(cells) + f" | {' / '.join(runs)} |")
    if rows:
        print(f"\n{rows[-1].machine}; load {min(r.load for r in rows):.1f} to {max(r.load for r in rows):.1f} before a run, other "
              f"programs used {min(r.others for r in rows):.0%} to {max(r.others for r in rows):.0%} of the cores during it")
        for command in dict.fromkeys(r.command for r in rows):
            print(f"  {command}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="*")
    p.add_argument("--fathom", default="build/fathom", help="the program; empty: only the peers")
    p.add_argument("--ik")
    p.add_argument("--llama")
    p.add_argument("--work", default="short,long,deep")
    p.add_argument("--threads", default=str(len(os.sched_getaffinity(0))))
    p.add_argument("--turns", type=int, default=5)
    p.add_argument("--runs", type=int, default=1, help="of one process; its mean or median is one figure")
    p.add_argument("--csv")
    o = p.parse_args()
    if o.csv and not o.models:
        table(figures.read(o.csv))
        return
    rows, o.fathom = [], o.fathom and os.path.abspath(o.fathom)
    for model in map(os.path.abspath, o.models):
        for work in o.work.split(","):
            for threads in map(int, o.threads.split(",")):
                for _ in range(o.turns):
                    for program, version in versions(o).items():
                        new = measure(o, model, threads, work, program, version)
                        rows += new
                        if o.csv:
                            figures.append(o.csv, new)
    table(rows)


main()
