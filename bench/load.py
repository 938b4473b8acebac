#!/usr/bin/env python3
"""Closed-loop load on a running server: N clients, each asks again when it has its answer.

  load.py PORT [--label NAME] [--streams 1,2,4,8,16] [--tokens-in 128] [--tokens-out 128] [--requests 2] [--timeout 600]

Prompts are random token ids, never the same twice, so no prefix is cached; end tokens are ignored, so every answer has its
length; answers are made of common words (logit_bias), so every token is text that is sent at once.  A row of CSV per number of
clients:

  total_tps     answer tokens of all clients per second, from the first request to the last answer
  ttft_*        seconds from a request to its first text
  itl_*         milliseconds between two texts of one answer
  fairness      slowest client's tokens per second over the fastest's; each client is a user of its own
  jain          of these rates: (sum)² over n times the sum of squares, 1 when all are equal
"""
import argparse
import asyncio
import json
import random
import sys
import time
import urllib.request

HEADER = "label,streams,tokens_in,tokens_out,requests,total_tps,ttft_p50,ttft_p95,ttft_p99,itl_p50,itl_p95,itl_p99,fairness,jain,failed"


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))] if values else float("nan")


def jain(rates):
    return sum(rates) ** 2 / (len(rates) * sum(r * r for r in rates))


class Load:
    def __init__(self, args, streams):
        self.a, self.streams = args, streams
        self.random = random.Random(f"{args.seed} {streams}")
        self.ttft, self.gaps, self.rates, self.tokens, self.failed = [], [], [], 0, 0

    async def ask(self, user):
        ids = [self.random.randrange(*self.a.ids) for _ in range(self.a.tokens_in)]
        body = json.dumps({"model": "m", "prompt": ids, "max_tokens": self.a.tokens_out, "temperature": 0, "ignore_eos": True,
                           "stream": True, "stream_options": {"include_usage": True}, "cache_prompt": False,
                           "logit_bias": self.a.words, "user": user}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.a.port, limit=1 << 22)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
                     b"Content-Length: %d\r\n\r\n" % len(body) + body)
        start = last = time.perf_counter()
        first, got = True, 0
        status = await reader.readline()
        if b" 200 " not in status:
            sys.exit(f"the server says {status.decode().strip()}: {(await reader.read()).decode()[-300:]}")
        async for line in reader:
            if not line.startswith(b"data: {"):
                continue
            chunk, now = json.loads(line[6:]), time.perf_counter()
            if chunk.get("usage"):
                got = chunk["usage"]["completion_tokens"]
            if not any(c.get("text") for c in chunk.get("choices", [])):
                continue
            (self.ttft if first else self.gaps).append(now - last)
            first, last = False, now
        writer.close()
        if got != self.a.tokens_out:
            self.failed += 1
        return got, time.perf_counter() - start

    async def client(self, user):
        tokens = seconds = 0
        for _ in range(self.a.requests):
            got, took = await asyncio.wait_for(self.ask(user), self.a.timeout)
            tokens, seconds = tokens + got, seconds + took
        self.tokens += tokens
        self.rates.append(tokens / seconds)

    async def run(self):
        start = time.perf_counter()
        await asyncio.gather(*(self.client(f"user {i}") for i in range(self.streams)))
        a, total = self.a, self.tokens / (time.perf_counter() - start)
        ms = [1e3 * quantile(self.gaps, q) for q in (0.5, 0.95, 0.99)]
        print(f"{a.label},{self.streams},{a.tokens_in},{a.tokens_out},{a.requests * self.streams},{total:.1f},"
              f"{','.join(f'{quantile(self.ttft, q):.3f}' for q in (0.5, 0.95, 0.99))},{','.join(f'{x:.1f}' for x in ms)},"
              f"{min(self.rates) / max(self.rates):.3f},{jain(self.rates):.4f},{self.failed}", flush=True)


def words(port):
    """Ids of common words, as the server's model has them, and a bias for each that leaves no other token a chance."""
    text = " the of and to in is was for on that with as by at from it an be this which or are not have his they we you all one"
    request = urllib.request.Request(f"http://127.0.0.1:{port}/tokenize", json.dumps({"content": text}).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return {str(i): 100 for i in json.load(answer)["tokens"][2:]}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("port", type=int)
    p.add_argument("--label", default="fathom")
    p.add_argument("--streams", default="1,2,4,8,16")
    p.add_argument("--tokens-in", type=int, default=128)
    p.add_argument("--tokens-out", type=int, default=128)
    p.add_argument("--requests", type=int, default=2, help="of each client")
    p.add_argument("--timeout", type=float, default=600, help="seconds for one request")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--ids", default="1000,4000", help="prompts' ids: from, to")
    a = p.parse_args()
    a.ids = tuple(int(x) for x in a.ids.split(","))
    a.words = words(a.port)
    for n in a.streams.split(","):
        load = Load(a, int(n))
        asyncio.run(load.run())
        if load.failed:
            sys.exit(f"{load.failed} answers are not whole")


if __name__ == "__main__":
    main()
