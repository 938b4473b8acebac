"""Do to a running server what no client should do, while another client goes on.
usage: abuse.py PORT [LLHTTP_REQUESTS]     the server's: --idle-seconds 2 --body-seconds 2 --connections-per-address 60

Whatever is sent, the answer is a right status or a closed connection, never a success, a crash, or somebody else's text;
and the next request of the other client works.  LLHTTP_REQUESTS is a folder of that parser's published cases.
Prints a line for each thing that is not as it should be; exit code 1 then."""
import json
import os
import re
import socket
import struct
import sys
import threading
import time

from client import PORT, ask, check, finish

ROUTES = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens",
          "/api/chat", "/api/generate", "/api/show", "/tokenize", "/detokenize", "/apply-template"]
RIGHT = {400, 403, 404, 405, 408, 411, 413, 414, 415, 417, 422, 431, 501, 505}
LENIENT = {"sample.md: Line folding in header value with LF"}  # the library takes lines that end with LF alone

# ---- the other client ----

class Other(threading.Thread):
    """From 127.0.0.2, one greedy answer after another: all must be the same."""

    def __init__(self):
        super().__init__(daemon=True)
        self.stop, self.count, self.wrong = False, 0, []
        self.text = self.answer()
        self.start()

    def answer(self):
        body = {"prompt": "It was the best of times", "max_tokens": 16, "temperature": 0}
        status, _, raw = ask("POST", "/v1/completions", body, source="127.0.0.2")
        return json.loads(raw)["choices"][0]["text"] if status == 200 else raw.decode()

    def run(self):
        while not self.stop:
            try:
                text = self.answer()
            except OSError as e:
                text = str(e)
            if text != self.text:
                self.wrong.append(text)
            self.count += 1
            time.sleep(0.02)

    def served(self, what):
        """It got an answer after this moment."""
        count, until = self.count + 1, time.time() + 30
        while self.count <= count and time.time() < until:
            time.sleep(0.002)
        check(self.count > count, f"{what}: nobody else is served any more")
        check(not self.wrong, f"{what}: somebody else got {self.wrong[:1]}")
        self.wrong.clear()


# ---- raw bytes ----

def connect():
    return socket.create_connection(("127.0.0.1", PORT), timeout=20)


def talk(data, close_after=True, seconds=20):
    """What comes back for these bytes until the connection ends; with close_after our side of it is closed first."""
    got = b""
    try:
        with connect() as s:
            s.settimeout(seconds)
            try:
                s.sendall(data)
                if close_after:
                    time.sleep(0.02)  # an answer that needs no model is out by then
                    s.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it hung up: what it said may still be there
            while piece := s.recv(65536):
                got += piece
    except TimeoutError:
        return got + b"<still open>"
    except OSError:
        pass
    return got


def statuses(got):
    return [int(x) for x in re.findall(rb"^HTTP/1\.[01] (\d{3}) ", got, re.M)]


def refused(data, what, allowed=frozenset(), **how):
    got = talk(data, **how)
    codes = statuses(got)
    check(not got.endswith(b"<still open>"), f"{what}: neither answered nor closed")
    check(all(c in RIGHT or c in allowed for c in codes), f"{what}: {codes}: {got[:300]}")
    check(got == b"" or got.startswith(b"HTTP/1."), f"{what}: that is no HTTP: {got[:100]}")
    check(other.text.encode() not in got, f"{what}: another's text: {got[:300]}")
    return codes


def post(path, body, kind="application/json", length=None):
    body = body if isinstance(body, bytes) else body.encode()
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nConnection: close\r\n"
            f"Content-Length: {len(body) if length is None else length}\r\n\r\n").encode() + body


def get(path, more=b"", version=b"HTTP/1.1"):
    path = path if isinstance(path, bytes) else path.encode()
    return b"GET " + path + b" " + version + b"\r\nHost: localhost\r\nConnection: close\r\n" + more + b"\r\n"


# ---- the cases of llhttp ----

def cases(folder):
    """(file and heading, bytes, messages that it finds whole) of each request."""
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            text = f.read()
        for part in re.split(r"^#+ ", text, flags=re.M)[1:]:
            for m in re.finditer(r"^```http\n(.*?)\n```\n+```log\n(.*?)\n```", part, re.M | re.S):
                data = re.sub(r"\\\n", "", m.group(1)).replace("\n", "\r\n")
                data = re.sub(r"\\x([0-9A-Fa-f]{2})", lambda x: chr(int(x.group(1), 16)), data)
                for escape, byte in (("\\r", "\r"), ("\\n", "\n"), ("\\t", "\t"), ("\\f", "\f")):
                    data = data.replace(escape, byte)
                yield f"{name}: {part.splitlines()[0]}", data.encode("latin-1", "replace"), m.group(2).count("message complete")


def llhttp(folder):
    n = 0
    for what, data, whole in cases(folder):
        named = re.sub(rb"(?m)^([A-Z]+ \S+ HTTP/1\.1\r\n)", rb"\1Host: localhost\r\n", data)
        for sent in (data, named):
            codes = refused(sent, what, allowed={200, 204})  # OPTIONS is answered everywhere, GET / as well
            good = sum(c < 300 for c in codes)
            check(good <= whole + (what in LENIENT) and len(codes) <= whole + 1, f"{what}: {codes} for {whole} requests and perhaps a fault")
        n += 1
    check(n > 80, f"only {n} cases in {folder}")
    other.served("llhttp")


# ---- heads ----

def heads():
    for path in ["/..", "/../../etc/passwd", "/v1/../health", "/./health", "//health", "/health/", "/health%00", "/%00/health",
                 "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%c0%ae%c0%ae/etc/passwd", "/\\..\\health",
                 "/v1/models\x01", "/%", "/%zz", "/health;x=1", "http://localhost/health", "http://evil.example/health",
                 "https://evil.example/v1/models", "evil.example:80", "health", "*", "/" + "a" * 7000, "/" + "a" * 100000,
                 "/health#x", "/v1" * 2000, "/v1/v1/anthropic/v1/nothing"]:
        refused(get(path), f"path {path[:40]!r}")
    for data in [get("/health", b"Content-Length: 5\r\nContent-Length: 6\r\n") + b"hello!",
                 get("/health", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
                 get("/health", b"Host: evil.example\r\n"), get("/health", b"Content-Length: -1\r\n"),
                 get("/health", b"Content-Length: 5x\r\n") + b"hello", get("/health", b"Content-Length: 99999999999999999999999\r\n"),
                 get("/health", b"Transfer-Encoding: chunked\r\n") + b"FFFFFFFFFFFFFFFFF\r\nx",
                 get("/health", b"Transfer-Encoding: chunked\r\n") + b"-1\r\nx", get("/health", version=b"HTTP/9.9"),
                 get("/health", version=b"HTTP/1.1.1"), get("/health", version=b"SMTP"), b"GET /health\r\n\r\n",
                 b"GET /health HTTP/1.1\r\n\r\n", b"GET\r\n\r\n", b"\r\n" * 5000, b"\0" * 5000, b"\xff" * 5000, bytes(range(256)) * 50,
                 b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"A" * 100000 + b" / HTTP/1.1\r\n\r\n",
                 get("/health", b"X: " + b"y" * 1000000 + b"\r\n"), get("/health", b"X: y\r\n" * 20000), get("/health", b"X" * 100000),
                 get("/health", b"A:\r\n" * 3000)]:
        refused(data, f"head {data[:60]!r}")
    for data in [get("/health", b"X: a\0b\r\n"), get("/health", b"X\0Y: a\r\n"), get("/hea\0lth"), get("/health", b" folded: x\r\n"),
                 get("/health", b"X : y\r\n"), get("/health", b": y\r\n"), get("/health", b"no colon\r\n"), get("/health", b"X: \xff\xfe\r\n")]:
        refused(data, f"head {data[60:120]!r}", allowed={200})  # the library takes some of these for a header that says nothing
    other.served("heads")


# ---- bodies ----

def bodies():
    deep = 10000
    for path in ROUTES:
        for body in ["[" * deep, "[" * deep + "]" * deep, '{"a":' * deep + "1" + "}" * deep, '{"messages":' + "[" * deep, b'{"prompt":"\xff"}',
                     b'{"messages":[{"role":"user","content":"\xc3("}]}', b'{"prompt":"a\0b"}', b"\0" * 1000, b"\xef\xbb\xbf", "", "null", "0",
                     '"' + "x" * 100000, '{"prompt":"\\ud800"}', '{"max_tokens":1e400}', '{"max_tokens":' + "9" * 100000 + "}", "{" * 100,
                     '{"messages":[' + '{"role":"user"},' * 10000 + "1]}", '{"model":{"a":[1,{"b":null}]}}', '{"input":{},"prompt":{},"messages":{}}']:
            loads = {200} if path.startswith("/api/") else set()  # Ollama's question whether the model is there
            refused(post(path, body), f"{path} {body[:40]!r}", loads, close_after=False)
        refused(post(path, "a=b", "application/x-www-form-urlencoded"), f"{path}: a form", close_after=False)
        refused(post(path, "{", length=100), f"{path}: half a body")
    other.served("bodies")
    refused(post("/v1/completions", b"x" * (100 << 20)), "100 MB", close_after=False)
    chunk = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    codes = refused(head + chunk * 100 + b"0\r\n\r\n", "100 MB in chunks")
    check(codes in ([], [413]), f"100 MB in chunks: {codes}")
    other.served("large bodies")


# ---- time ----

def drip(head, rest, seconds):
    """head at once, rest byte by byte; after how long it was closed."""
    begun = time.time()
    with connect() as s:
        s.sendall(head)
        for i in range(int(seconds * 10)):
            time.sleep(0.1)
            try:
                s.sendall(rest[i:i + 1])
                s.setblocking(False)
                if s.recv(1000) == b"":
                    break
            except BlockingIOError:
                pass
            except OSError:
                break
            finally:
                s.setblocking(True)
    return time.time() - begun


def slow():
    for what, head, rest in [("head", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ", b"y" * 200), ("nothing", b"", b""),
                             ("request line", b"GE", b"T" * 200), ("body", post("/v1/completions", "", length=1000), b" " * 200),
                             ("chunks", b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 40)]:
        took = drip(head, rest, 12)
        check(1.5 < took < 8, f"slow {what}: closed after {took:.1f} s, not 2")
    other.served("slow clients")


def crowd():
    held = []
    try:
        for _ in range(90):
            held.append(connect())
        time.sleep(0.3)
        open_ones = 0
        for s in held:
            s.setblocking(False)
            try:
                s.recv(1)
            except BlockingIOError:
                open_ones += 1
            except OSError:
                pass
        check(40 <= open_ones <= 60, f"{open_ones} connections of one address are open, not 60")
        other.served("a crowd")
    finally:
        for s in held:
            s.close()
    time.sleep(0.3)


def hang_ups():
    body = json.dumps({"prompt": "a", "max_tokens": 300, "stream": True})
    whole = post("/v1/completions", body)
    for i in range(60):
        s = connect()
        s.sendall(whole[:len(whole) * (i % 6) // 5] if i % 6 < 5 else whole)
        if i % 3 == 1:
            s.shutdown(socket.SHUT_WR)
        if i % 3 == 2:  # RST
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if i % 2:
            time.sleep(0.005)
        s.close()
    half = talk(whole)  # closed on our side: taken for gone, so the stream may be cut, but not mixed up
    check(half == b"" or half.startswith(b"HTTP/1.1 200"), f"half closed: {half[:100]}")
    other.served("hang-ups")


def idle():
    """No slot is taken by anybody who left."""
    for _ in range(200):
        busy = sum(x["is_processing"] for x in json.loads(ask("GET", "/slots")[2]))
        if not busy:
            return
        time.sleep(0.05)
    check(False, f"{busy} slots are still busy")


other = Other()
if len(sys.argv) > 2:
    llhttp(sys.argv[2])
heads()
bodies()
slow()
crowd()
hang_ups()
other.stop = True
other.join()
idle()
finish()
