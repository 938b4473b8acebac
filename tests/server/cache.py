"""The cache on disk of a real server: cold, warm, restarted, killed, spoilt: always the same text.
usage: cache.py BIN MODEL FOLDER

Prints a line for each thing that is not as it should be; exit code 1 then."""
import json
import os
import random
import re
import signal
import sys
import threading
import time
import urllib.request

from checks import check, finish
from server import Server as Started

BIN, MODEL, FOLDER = sys.argv[1:4]
DIR = os.path.join(FOLDER, "kv")


class Server(Started):
    def __init__(self, *options):
        super().__init__(BIN, MODEL, FOLDER, "--slots", "16", "--deterministic", *options)

    def ask(self, path, body=None, key=None):
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        data = json.dumps(body).encode() if body else None
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers), timeout=120) as r:
            return r.read()

    def text(self, prompt, key=None, **more):
        """What it says behind these ids, and how many of them came from the cache."""
        body = {"prompt": prompt, "max_tokens": 20, "temperature": 0, "ignore_eos": True, **more}
        r = json.loads(self.ask("/v1/completions", body, key))
        usage = r["usage"]
        check(usage["prompt_cache_hit_tokens"] + usage["prompt_cache_miss_tokens"] == len(prompt), f"usage: {usage}")
        return r["choices"][0]["text"], usage["prompt_cache_hit_tokens"]

    def metric(self, name, key=None):
        return int(float(re.search(rb"^fathom_%s (\S+)$" % name.encode(), self.ask("/metrics", key=key), re.M)[1]))

    def written(self, n):
        """Wait until n blocks are on disk."""
        for _ in range(500):
            if self.metric("disk_cache_blocks") >= n:
                return
            time.sleep(0.01)
        check(False, f"{n} blocks were not written")


def prompt(seed, n):
    r = random.Random(seed)
    return [r.randrange(300, 2000) for _ in range(n)]


def in_company(s, prompts):
    """All at once."""
    got = [None] * len(prompts)

    def one(i):
        got[i] = s.text(prompts[i])

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(prompts))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return got


def restarts():
    prompts = [prompt(0, 40 + 9 * i) + prompt(100 + i, 100) for i in range(16)]
    s = Server("--cache-gb", "0")
    want = [s.text(p)[0] for p in prompts]
    check(all(hit == 0 for _, hit in in_company(s, prompts)), "hits without a cache")
    s.end()
    s = Server("--cache-dir", DIR)
    check([t for t, _ in in_company(s, prompts)] == want, "cold, in company: another text")
    got = in_company(s, prompts)
    check(got == [(w, (len(p) - 1) // 64 * 64) for p, w in zip(prompts, want)], f"warm, in company: {got}")
    check(s.metric("disk_cached_tokens_total") == 0, "memory comes first")
    s.end()
    for alone in (True, False):
        s = Server("--cache-dir", DIR)
        got = [s.text(p) for p in prompts] if alone else in_company(s, prompts)
        check(got == [(w, (len(p) - 1) // 64 * 64) for p, w in zip(prompts, want)], f"restarted, alone: {alone}")
        check(s.metric("disk_cached_tokens_total") > 0 and s.metric("disk_cache_read_total") > 0, "nothing from disk")
        check(s.metric("disk_cache_dropped_total") == 0, "good files were dropped")
        s.end()
    s = Server("--cache-dir", DIR, "--cache-gb", "0")  # on disk only
    check(in_company(s, prompts) == [(w, (len(p) - 1) // 64 * 64) for p, w in zip(prompts, want)], "on disk only")
    s.end()


def whose():
    p = prompt(1, 300)
    s = Server("--cache-dir", DIR)
    want, hit = s.text(p, user="alice")
    check(hit == 0, "a prompt nobody asked")
    s.end()
    s = Server("--cache-dir", DIR)
    for user, hits in (("alice", 256), ("bob", 0), ("bob", 256), ("", 0), ("alice", 256)):
        check(s.text(p, user=user) == (want, hits), f"{user}: not {hits}")
    check(s.text(p[:150] + [7] + p[151:], user="alice")[1] == 128, "an edit keeps what stands before")
    s.end()
    for key, hits in (("k1", 0), ("k2", 0), ("k1", 256), ("k2", 256)):
        s = Server("--cache-dir", DIR, "--api-key", "k1", "--api-key", "k2")
        check(s.text(p, key=key, user="alice") == (want, hits), f"{key}: not {hits}")
        s.end()
    for name in os.listdir(DIR):
        with open(os.path.join(DIR, name), "rb") as f:
            check(b"alice" not in f.read(), "a name is in a file")


def killed():
    s = Server("--cache-gb", "0")
    prompts = [prompt(200 + i, 330) for i in range(8)]
    want = [s.text(p)[0] for p in prompts]
    s.end()
    for i, p in enumerate(prompts):
        s = Server("--cache-dir", DIR, "--kv-type", "f32" if i % 2 else "q8_0")
        got = []
        t = threading.Thread(target=lambda: got.append(s.text(p)[0]) if not i % 2 else s.text(p))
        threading.excepthook = lambda _: None  # the connection breaks
        t.start()
        time.sleep(random.Random(i).uniform(0.005, 0.05))
        s.end(signal.SIGKILL)
        t.join()
        check(got in ([], [want[i]]), "before the kill")
        s = Server("--cache-dir", DIR)
        check(s.text(p)[0] == want[i], "after a kill: another text")
        check(s.metric("disk_cache_dropped_total") == 0, "a kill left something wrong")
        s.end()
    check(not [n for n in os.listdir(DIR) if n.startswith("tmp-")], "rests stay")


def spoilt():
    p = prompt(2, 330)
    s = Server("--cache-dir", DIR)
    want, _ = s.text(p)
    s.written(5)
    s.end()
    for spoil in ("cut", "change", "empty"):
        for name in os.listdir(DIR):
            path = os.path.join(DIR, name)
            size = os.path.getsize(path)
            with open(path, "r+b") as f:
                if spoil == "change":
                    f.seek(random.Random(name).randrange(size))
                    c = f.read(1)
                    f.seek(-1, 1)
                    f.write(bytes([c[0] ^ 1]))
                else:
                    f.truncate(size - 1 if spoil == "cut" else 0)
        s = Server("--cache-dir", DIR)
        check(s.text(p) == (want, 0), f"{spoil}: trusted")
        check(s.metric("disk_cache_dropped_total") == 1 and b": dropped" in s.said(), f"{spoil}: not told")
        s.end()
        hits = []
        while hits[-1:] != [320] and len(hits) < 5:  # each start finds the next one of its five blocks spoilt
            s = Server("--cache-dir", DIR)
            text, hit = s.text(p)
            hits.append(hit)
            check(text == want, f"{spoil}: another text")
            s.end()
        check(hits == [64, 128, 192, 256, 320], f"{spoil}: {hits}")


def bounded():
    size = max(os.path.getsize(os.path.join(DIR, n)) for n in os.listdir(DIR))
    limit = 12 * size
    s = Server("--cache-dir", DIR, "--cache-bytes", str(limit))
    for i in range(6):
        s.text(prompt(300 + i, 330))
        check(sum(os.path.getsize(os.path.join(DIR, n)) for n in os.listdir(DIR)) <= limit + size, "too much on disk")
    check(s.metric("disk_cache_evicted_total") > 0 and s.metric("disk_cache_bytes") <= limit, "not bounded")
    s.end()


restarts()
whose()
killed()
spoilt()
bounded()
finish()
