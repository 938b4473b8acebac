#!/usr/bin/env python3
"""A model hub for the tests: two servers on 127.0.0.1, the hub and the "CDN" that it redirects to.

usage: fake_hub.py STATE_FOLDER     writes STATE_FOLDER/{hub,cdn} (port numbers) when it listens

Repositories are made up at the start from seeded bytes (see REPOS); oracle files lie in STATE_FOLDER/truth/REPO/PATH.
What the servers saw goes to STATE_FOLDER/log, a line of JSON per request:
  {"server": "hub"|"cdn", "method": …, "path": …, "range": …, "token": bool, "status": …, "sent": bytes of the body}
Behaviour that tests switch on is a file STATE_FOLDER/set/NAME holding a number or a text; the server reads it anew for
each request and, where it counts, decreases it:
  ignore_range   N   the CDN answers the next N ranges with 200 and the whole file
  die_after      N   the next CDN body is cut after N bytes, once
  die_each       N   every CDN body is cut after N bytes
  busy           N   the next N requests to the hub get 429 with Retry-After: 1
  broken         N   the next N requests to the CDN get 503
  expire         N   the next N requests to the CDN get 403, as for an old signature
  damage         N   the next N CDN bodies have a wrong byte in the middle
  slow           S   the CDN sends 64 kB every S seconds
"""
import hashlib
import json
import os
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

TOKEN = "hf_secretsecretsecret"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
STATE = sys.argv[1]
LOCK = threading.Lock()


def noise(seed, n):
    return random.Random(seed).randbytes(n)


SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
INDEX = json.dumps({"metadata": {}, "weight_map": {"a": SHARDS[0], "b": SHARDS[1], "c": SHARDS[0]}}).encode()
REPOS = {
    "org/gguf": {
        "README.md": b"# a model\n",
        "model-Q4_K_M.gguf": noise(1, 6_300_001),
        "model-Q8_0.gguf": noise(2, 300_000),
        "mmproj-model-f16.gguf": noise(3, 1000),
    },
    "org/split": {
        **{f"big-Q4_0-0000{i}-of-00003.gguf": noise(10 + i, 100_000 + i) for i in (1, 2, 3)},
        "big-Q2_K.gguf": noise(14, 1000),
        "empty.txt": b"",
    },
    "org/folder": {
        "config.json": b'{"model_type": "x"}\n',
        "tokenizer.json": noise(20, 200_000),
        "tokenizer_config.json": b"{}\n",
        "model.safetensors.index.json": INDEX,
        SHARDS[0]: noise(21, 500_000),
        SHARDS[1]: noise(22, 400_000),
        "extra.bin": noise(23, 100_000),
        "vectors.safetensors": noise(24, 1000),
    },
    "org/single": {"config.json": b"{}\n", "model.safetensors": noise(30, 50_000), "LICENSE": b"MIT\n"},
    "org/many": {f"m{i}-{q}.gguf": noise(40 + i, 10) for i in (1, 2) for q in ("Q4_K_M", "Q8_0")},
    "org/other": {"pytorch_model.bin": noise(50, 10)},
    "org/gated": {"m-Q4_0.gguf": noise(60, 10)},
    "org/direct": {"m-Q4_0.gguf": noise(70, 1000)},  # no redirect: the hub itself has the bytes
    "org/liar": {"m-Q4_0.gguf": noise(80, 5000)},    # the CDN has another length than the hub says
    "org/longer": {"m-Q4_0.gguf": noise(81, 5000)},  # and here sends more than its Content-Length says
    "org/down": {"m-Q4_0.gguf": noise(82, 10)},      # redirects to ftp
    "org/pages": {f"f{i:02}-Q4_0.gguf" if i == 7 else f"f{i:02}.txt": noise(90 + i, 10) for i in range(12)},
}
GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "qwen3")
REPOS["org/real"] = {f: open(os.path.join(GOLDEN, f), "rb").read() for f in ("config.json", "model.safetensors")}
SMALL = 4096  # files up to here are git's, not LFS's
EVIL = {
    "up": "../../../evil.gguf", "absolute": "/tmp/evil.gguf", "dot": "a/./evil.gguf", "empty": "a//evil.gguf",
    "backslash": "..\\\\evil.gguf", "newline": "evil\n.gguf", "escape": "evil\x1b[2J.gguf", "inner": "a/../../evil.gguf",
}


def is_lfs(path, data):
    return path.endswith((".gguf", ".safetensors", ".bin")) or len(data) > SMALL


def oid(path, data):
    if is_lfs(path, data):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def setting(name, default=0):
    try:
        with open(f"{STATE}/set/{name}") as f:
            return type(default)(f.read())
    except OSError:
        return default


def take(name):
    """The number under name; counts down."""
    with LOCK:
        n = setting(name)
        if n > 0:
            with open(f"{STATE}/set/{name}", "w") as f:
                f.write(str(n - 1))
        return n


def tree(repo):
    files = []
    for path, data in REPOS[repo].items():
        entry = {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(path.encode()).hexdigest()}
        if is_lfs(path, data):
            entry["lfs"] = {"oid": oid(path, data), "size": len(data), "pointerSize": 135}
        else:
            entry["oid"] = oid(path, data)
        files.append(entry)
    return [{"type": "directory", "path": "folder", "size": 0, "oid": "0" * 40}] + files


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def note(self, status, sent=0):
        line = {"server": self.server.role, "method": self.command, "path": self.path, "status": status, "sent": sent,
                "range": self.headers.get("Range"), "token": "Authorization" in self.headers}
        with LOCK, open(f"{STATE}/log", "a") as f:
            f.write(json.dumps(line) + "\n")

    def reply(self, status, body=b"", **headers):
        self.send_response(status)
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), v)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        sent = 0
        if self.command != "HEAD":
            try:
                sent = self.send_body(body)
            except OSError:
                pass
        self.note(status, sent)

    def send_body(self, body):
        if self.server.role == "hub":
            self.wfile.write(body)
            return len(body)
        limit, slow = setting("die_each"), setting("slow", 0.0)
        if not limit:
            limit = setting("die_after")
            if limit:
                os.unlink(f"{STATE}/set/die_after")
        whole = body
        if limit and len(body) > limit:
            body = body[:limit]
        for i in range(0, len(body), 65536):
            self.wfile.write(body[i:i + 65536])
            if slow:
                time.sleep(slow)
        if len(body) < len(whole):
            self.wfile.flush()
            self.close_connection = True
        return len(body)

    do_HEAD = lambda self: self.do_GET()

    def do_GET(self):
        (self.hub if self.server.role == "hub" else self.cdn)()

    # ---- the hub

    def hub(self):
        url = urlsplit(self.path)
        parts = [unquote(p) for p in url.path.split("/") if p]
        if take("busy"):
            return self.reply(429, b"slow down", Retry_After="1")
        token = self.headers.get("Authorization")
        if token not in (None, f"Bearer {TOKEN}"):
            return self.reply(401, b"bad token")
        if parts[:2] == ["api", "models"] and len(parts) >= 6 and parts[4] == "tree":
            return self.hub_tree("/".join(parts[2:4]), parts[5], parse_qs(url.query))
        if len(parts) >= 5 and parts[2] == "resolve":
            return self.hub_resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        return self.reply(404, b"{}")

    def check(self, repo, rev):
        if repo not in REPOS and not repo.startswith("evil/"):
            self.reply(401, b"{}", X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        elif repo == "org/gated" and "Authorization" not in self.headers:
            self.reply(401, b"{}", X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
        elif rev not in ("main", "refs/pr/1", COMMIT):
            self.reply(404, b"{}", X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")
        else:
            return True
        return False

    def hub_tree(self, repo, rev, query):
        if not self.check(repo, rev):
            return None
        if repo.startswith("evil/"):
            kind = repo[5:]
            if kind == "nul":
                return self.reply(200, b'[{"type":"file","path":"a\\u0000.gguf","size":1,"oid":"00"}]')
            if kind == "size":
                return self.reply(200, b'[{"type":"file","path":"a.gguf","size":-1,"oid":"00"}]')
            if kind == "huge":
                return self.reply(200, b'[{"type":"file","path":"a.gguf","size":999999999999999,"oid":"00"}]')
            if kind == "twice":
                return self.reply(200, b'[' + b','.join([b'{"type":"file","path":"a.gguf","size":1,"oid":"00"}'] * 2) + b']')
            if kind == "deep":
                return self.reply(200, b"[" * 100000)
            return self.reply(200, json.dumps([{"type": "file", "path": EVIL[kind], "size": 1, "oid": "00"}]).encode())
        files = tree(repo)
        if repo == "org/pages":
            at = int(query.get("cursor", ["0"])[0])
            link = {}
            if at + 5 < len(files):
                link["Link"] = f'<http://127.0.0.1:{PORTS["hub"]}/api/models/{repo}/tree/{quote(rev, safe="")}?recursive=true&cursor={at + 5}>; rel="next"'
            return self.reply(200, json.dumps(files[at:at + 5]).encode(), **link)
        return self.reply(200, json.dumps(files).encode())

    def hub_resolve(self, repo, rev, path):
        if not self.check(repo, rev):
            return None
        data = REPOS.get(repo, {}).get(path)
        if data is None:
            return self.reply(404, b"{}", X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        if not is_lfs(path, data) or repo == "org/direct":
            return self.reply(200, data, ETag=f'"{oid(path, data)}"', X_Repo_Commit=COMMIT)
        host = f"ftp://127.0.0.1:{PORTS['cdn']}" if repo == "org/down" else f"http://127.0.0.1:{PORTS['cdn']}"
        return self.reply(302, b"", Location=f"{host}/{repo}/{path}?sig=abc", X_Repo_Commit=COMMIT,
                          X_Linked_Etag=f'"{oid(path, data)}"', X_Linked_Size=str(len(data)), ETag='"not-this"')

    # ---- the CDN

    def cdn(self):
        repo, path = "/".join(self.path.split("/")[1:3]), "/".join(urlsplit(self.path).path.split("/")[3:])
        data = REPOS[repo][path]
        if take("broken"):
            return self.reply(503, b"down")
        if take("expire"):
            return self.reply(403, b"expired")
        if repo == "org/liar":
            data += b"more"
        if take("damage"):
            data = data[:len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1:]
        span = self.headers.get("Range")
        if not span or take("ignore_range"):
            if repo == "org/longer":
                self.send_response(200)
                self.end_headers()  # no length: until the connection closes
                self.close_connection = True
                self.wfile.write(data + b"more")
                return self.note(200, len(data) + 4)
            return self.reply(200, data)
        first, last = span.removeprefix("bytes=").split("-")
        first, last = int(first), min(int(last or len(data)), len(data) - 1)
        return self.reply(206, data[first:last + 1], Content_Range=f"bytes {first}-{last}/{len(data)}")


PORTS = {}


def main():
    os.makedirs(f"{STATE}/set", exist_ok=True)
    for repo, files in REPOS.items():
        for path, data in files.items():
            os.makedirs(os.path.dirname(f"{STATE}/truth/{repo}/{path}"), exist_ok=True)
            with open(f"{STATE}/truth/{repo}/{path}", "wb") as f:
                f.write(data)
    for role in ("hub", "cdn"):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
        server.daemon_threads = True
        server.role = role
        PORTS[role] = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
    for role in ("cdn", "hub"):
        with open(f"{STATE}/{role}.tmp", "w") as f:
            f.write(str(PORTS[role]))
        os.rename(f"{STATE}/{role}.tmp", f"{STATE}/{role}")
    while os.getppid() != 1:
        time.sleep(0.2)


main()
