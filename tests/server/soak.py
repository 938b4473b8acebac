"""Long use of a real server: what it holds afterwards is what it held before.
usage: soak.py BIN MODEL FOLDER [REQUESTS [CONNECTIONS [SECONDS [MINUTES]]]]     (10000, 1000, 30, 0)

  requests      whole and streamed, in several dialects, some wrong, some left in the middle, each by another user; a fifth first,
                so that pools and caches are full; then memory (RssAnon), descriptors and slots must stay as they are;
                spread over MINUTES, where given
  connections   idle ones, kept alive: their memory, and the server's processor time for the same requests without and with them
  seconds       of storms: 200 connections a second that are cut at every stage of a request

Prints figures and a line for each thing that is not as it should be; exit code 1 then."""
import asyncio
import json
import os
import random
import re
import resource
import socket
import struct
import sys
import time

from checks import check, finish
from server import Server as Started

BIN, MODEL, FOLDER = sys.argv[1:4]
REQUESTS, CONNECTIONS, SECONDS, MINUTES = (int(x) for x in (sys.argv[4:] + ["10000", "1000", "30", "0"][len(sys.argv) - 4:]))
MIB, TOGETHER = 1 << 20, 16


class Server(Started):
    def __init__(self):
        super().__init__(BIN, MODEL, FOLDER, "--slots", "8", "--threads", "2", "--quiet", "--cache-gb", "0.004", "--cache-dir",
                         os.path.join(FOLDER, "kv"), "--cache-bytes", "8000000", "--log-level", "info")

    def status(self, name):
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(re.search(rf"^{name}:\s+(\d+)", f.read(), re.M)[1])

    def memory(self):
        return self.status("RssAnon") * 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def get(self, path):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode())
        raw = await reader.read()
        writer.close()
        return raw.split(b"\r\n\r\n", 1)[1]

    async def at_rest(self):
        """Wait until nothing is under way; what it holds then."""
        for _ in range(600):
            text = (await self.get("/metrics")).decode()
            m = {k: float(v) for k, v in re.findall(r"^(\w+) (\S+)$", text, re.M)}
            # the connection that asks is one of its own
            if not m["fathom_requests_running"] and not m["fathom_requests_waiting"] and m["fathom_http_requests_open"] <= 1:
                break
            await asyncio.sleep(0.05)
        else:
            check(False, "requests do not end")
        slots = json.loads(await self.get("/slots"))
        check(not any(s["is_processing"] for s in slots), f"slots are held: {slots}")
        await asyncio.sleep(1.5)  # cut connections are noticed twice a second, files are written
        return self.memory(), self.descriptors(), self.status("Threads")


def some_request(r):
    """Method, path, body; how far the client stays: None to the end, else bytes of the answer."""
    ids = [r.randrange(300, 2000) for _ in range(r.choice((3, 20, 70, 200)))]
    user = f"user {r.random()}"
    stay = r.choice((None,) * 8 + (0, 200))
    many = {"model": "m", "max_tokens": r.choice((1, 8, 40)), "user": user, "stream": r.random() < 0.5, "temperature": r.choice((0, 1))}
    say = [{"role": "user", "content": "It was the best of times " * r.randrange(1, 6)}]
    return r.choice((
        ("POST", "/v1/completions", {**many, "prompt": ids, "logprobs": r.choice((None, 2))}, stay),
        ("POST", "/v1/completions", {**many, "prompt": ids}, stay),
        ("POST", "/v1/chat/completions", {**many, "messages": say, "stop": ["q", "xyz"]}, stay),
        ("POST", "/v1/messages", {**many, "messages": say, "metadata": {"user_id": user}}, stay),
        ("POST", "/v1/responses", {"input": "It was the best", "max_output_tokens": 8, "stream": many["stream"]}, stay),
        ("POST", "/api/chat", {"messages": say, "options": {"num_predict": 8}}, stay),
        ("POST", "/v1/chat/completions", {**many, "messages": 7}, None),
        ("POST", "/v1/completions", "{\"prompt\": [1, 2", None),
        ("POST", "/tokenize", {"content": "times " * r.randrange(1, 1000)}, None),
        ("GET", r.choice(("/v1/models", "/metrics", "/slots", "/nowhere", "/health")), None, None)))


def bytes_of(method, path, body):
    data = b"" if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
    return (b"%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            % (method.encode(), path.encode(), len(data)) + data)


async def ask(server, request):
    method, path, body, stay = request
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(bytes_of(method, path, body))
    raw = await (reader.read() if stay is None else reader.read(stay) if stay else asyncio.sleep(0.002))
    writer.close()
    return raw


async def load(server, n, seed, request=some_request, minutes=0):
    """n requests, as fast as they go or spread over minutes."""
    left, start = iter(range(n)), time.perf_counter()

    async def client(i):
        r = random.Random(f"{seed} {i}")
        for k in left:
            await asyncio.sleep(max(0, start + 60 * minutes * k / n - time.perf_counter()))
            raw = await asyncio.wait_for(ask(server, request(r)), 600)
            check(raw is None or raw.startswith(b"HTTP/1.1 ") and b" 500 " not in raw[:20], f"an answer: {raw and raw[:200]}")

    await asyncio.gather(*(client(i) for i in range(TOGETHER)))


def same(before, after, what, limit=MIB):
    print(f"{what}: memory {before[0] / MIB:.2f} MiB, then {after[0] / MIB:.2f}; descriptors {before[1]}, {after[1]}; threads "
          f"{before[2]}, {after[2]}", flush=True)
    check(after[0] - before[0] <= limit, f"{what}: memory grew by {after[0] - before[0]} bytes")
    check(after[1] <= before[1] and after[2] <= before[2], f"{what}: descriptors or threads are left: {before[1:]}, {after[1:]}")


async def requests(server):
    await load(server, max(REQUESTS // 5, 1000), "first")
    before, start = await server.at_rest(), time.perf_counter()
    await load(server, REQUESTS, "then", minutes=MINUTES)
    took = time.perf_counter() - start
    same(before, await server.at_rest(), f"{REQUESTS} requests in {took:.0f} s")


def always_the_same(r):
    return "POST", "/v1/completions", {"prompt": [r.randrange(300, 2000) for _ in range(40)], "max_tokens": 8, "ignore_eos": True}, None


async def cost(server):
    """Processor seconds of a fixed load."""
    start = server.seconds()
    await load(server, max(REQUESTS // 20, 100), "cost", always_the_same)
    return server.seconds() - start


async def connections(server):
    before = await server.at_rest()
    alone, with_idle, closed = [], [], []
    for _ in range(3):
        alone.append(await cost(server))
        idle = []
        for _ in range(CONNECTIONS):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            check(b"200" in await reader.readline(), "no answer on a connection that is kept")
            idle.append(writer)
        await asyncio.sleep(0.5)
        held = server.memory() - before[0]
        with_idle.append(await cost(server))
        for writer in idle:
            writer.close()
        await asyncio.sleep(1)
        closed.append(await server.at_rest())
    print(f"{CONNECTIONS} idle connections: {held / 1e6:.2f} MB; processor seconds without {min(alone):.2f}, with {min(with_idle):.2f}",
          flush=True)
    check(held < 10e6, f"idle connections hold {held} bytes")
    check(min(with_idle) < 1.25 * min(alone) + 0.1, f"idle connections cost time: {alone}, {with_idle}")
    same(closed[0], closed[2], "connections closed, opened and closed again")  # the allocator keeps what was once in use


def cut(server, r):
    """A connection that ends at some stage, orderly or with a reset."""
    s = socket.create_connection(("127.0.0.1", server.port))
    method, path, body, _ = some_request(r)
    request = bytes_of(method, path, body)
    stage = r.randrange(5)
    s.sendall((b"", request[:10], request[:r.randrange(len(request))], request, request)[stage])
    if stage == 4:
        s.settimeout(0.02)
        try:
            s.recv(100)
        except OSError:
            pass
    if r.random() < 0.5:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


async def storms(server):
    r = random.Random("storm")
    for phase in range(2):  # the first one fills pools
        before, start, n = await server.at_rest(), time.perf_counter(), 0
        seconds = SECONDS if phase else max(SECONDS // 5, 1)
        while time.perf_counter() - start < seconds:
            cut(server, r)
            n += 1
            await asyncio.sleep(max(0, start + n / 200 - time.perf_counter()))
        rate = n / (time.perf_counter() - start)
        if phase:
            same(before, await server.at_rest(), f"{n} connections cut, {rate:.0f} a second")


async def main():
    server = Server()
    try:
        await requests(server)
        await connections(server)
        await storms(server)
    finally:
        check(server.end() == 0, "it does not end well")


soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
asyncio.run(main())
finish()
