#!/usr/bin/env python3
"""Time to the first text of a prompt that begins as an earlier one did: cold, from memory, after a restart from disk.

  cache.py MODEL.gguf [--bin build/fathom] [--shared 4096] [--own 16] [--rounds 3] [--options "--threads 2"]

A round starts a server with an empty cache and asks four questions, each of the shared tokens and some of its own: the
first one is cold; the second finds the first in memory; the third comes after a restart, with the files in the system's
memory; the fourth after another, with the files thrown out of it, as far as the system heeds that.  CSV: seconds and share of the
cold one, then medians.  Prompts are random token ids.
"""
import argparse
import json
import os
import random
import re
import statistics
import subprocess
import tempfile
import time
import urllib.request


def start(a, folder):
    log = open(os.path.join(folder, "log"), "w+")
    command = [a.bin, "serve", "-m", a.model, "--port", "0", "--ctx", str(a.shared + a.own + 64), "--cache-dir",
               os.path.join(folder, "kv"), *a.options.split()]
    process = subprocess.Popen(command, stderr=log)
    while True:
        found = re.search(r"^listening on http://.*:(\d+)/v1$", open(log.name).read(), re.M)
        if found:
            return process, int(found[1])
        if process.poll() is not None:
            raise SystemExit(open(log.name).read())
        time.sleep(0.05)


def ask(port, ids):
    """Seconds to the first text, and how many tokens were not computed."""
    body = {"prompt": ids, "max_tokens": 4, "temperature": 0, "ignore_eos": True, "stream": True,
            "stream_options": {"include_usage": True}}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    begin, first, cached = time.perf_counter(), None, None
    with urllib.request.urlopen(request, timeout=600) as reply:
        for line in reply:
            chunk = json.loads(line[6:]) if line.startswith(b"data: {") else {}
            if first is None and any(c.get("text") for c in chunk.get("choices", [])):
                first = time.perf_counter() - begin
            if chunk.get("usage"):
                cached = chunk["usage"]["prompt_cache_hit_tokens"]
    return first, cached


def throw_out(folder):
    for name in os.listdir(folder):
        f = os.open(os.path.join(folder, name), os.O_RDONLY)
        os.fsync(f)
        os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(f)


def one_round(a, rng):
    shared = [rng.randrange(*a.ids) for _ in range(a.shared)]
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for questions, out in ((2, False), (1, False), (1, True)):
            if out:
                throw_out(os.path.join(folder, "kv"))
            process, port = start(a, folder)
            for _ in range(questions):
                took, cached = ask(port, shared + [rng.randrange(*a.ids) for _ in range(a.own)])
                expected = a.shared // 64 * 64 if seconds else 0
                if cached != expected:
                    raise SystemExit(f"{cached} tokens came from the cache, not {expected}")
                seconds.append(took)
            process.terminate()
            process.wait()
    return seconds


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--bin", default="build/fathom")
    p.add_argument("--shared", type=int, default=4096)
    p.add_argument("--own", type=int, default=16)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--options", default="--threads 2")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--ids", default="1000,4000", help="prompts' ids: from, to")
    a = p.parse_args()
    a.ids = tuple(int(x) for x in a.ids.split(","))
    rng = random.Random(a.seed)
    rounds = []
    print("round,cold_s,memory_s,restart_s,disk_s,memory_pct,restart_pct,disk_pct")

    def tell(name, s):
        print(name, *(f"{x:.3f}" for x in s), *(f"{100 * x / s[0]:.2f}" for x in s[1:]), sep=",", flush=True)

    for i in range(a.rounds):
        rounds.append(one_round(a, rng))
        tell(i, rounds[-1])
    tell("median", [statistics.median(r[k] for r in rounds) for k in range(4)])


if __name__ == "__main__":
    main()
