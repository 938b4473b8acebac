"""Speak with a server whose keys have limits (serve.sh writes the file).  usage: keys.py PORT

Prints a line for each thing that is not as it should be; exit code 1 then."""
import json
import socket

import client
from client import PORT, check, finish


def ask(key, body=None, path="/v1/completions", headers=None):
    given = {"Authorization": "Bearer " + key} if key else {}
    status, got, raw = client.ask("POST" if body else "GET", path, body, {**given, **(headers or {})})
    return status, got, json.loads(raw)


def body(tokens, **more):
    return {"prompt": "It was the best of times", "max_tokens": tokens, "temperature": 0, "ignore_eos": True, **more}


def limits():
    for key in (None, "sk-fre", "sk-free2", "sk-" + "x" * 300, "name=free", ""):
        check(ask(key, body(1))[0] == 401, f"{key} is no key")
    check(all(ask("sk-free", body(1))[0] == 200 for _ in range(5)), "a key without limits")
    got = [ask("sk-rate", body(1)) for _ in range(4)]
    check([g[0] for g in got] == [200, 200, 200, 429], f"three requests a minute: {[g[0] for g in got]}")
    check(1 <= int(got[3][1]["Retry-After"]) <= 20, f"the fourth comes in 20 s: {got[3]}")
    check(got[3][2]["error"]["code"] == "rate_limit_exceeded", f"{got[3]}")
    check(ask("sk-rate", None, "/v1/models")[0] == 200, "what computes nothing is free")
    check(ask("sk-tokens", body(20))[0] == 200, "tokens are counted at the end")
    got = ask("sk-tokens", body(1))
    check(got[0] == 429 and "tokens per day" in got[2]["error"]["message"] and int(got[1]["Retry-After"]) > 1000, f"{got}")
    got = ask("sk-short", body(50))[2]
    check(got["usage"]["completion_tokens"] == 3 and got["choices"][0]["finish_reason"] == "length", f"max-tokens: {got}")
    got = ask("sk-other", body(1))
    check(got[0] == 403 and got[2]["error"]["code"] == "permission_error", f"another model's key: {got}")


def concurrent():
    s = socket.create_connection(("127.0.0.1", PORT), timeout=60)
    data = json.dumps(body(8000, stream=True))
    s.sendall(("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nx-api-key: sk-one\r\nContent-Type: application/json\r\n"
               f"Content-Length: {len(data)}\r\n\r\n{data}").encode())
    s.recv(100)
    got = ask("sk-one", body(1))
    check(got[0] == 429 and "at once" in got[2]["error"]["message"], f"two at once: {got}")
    s.close()
    for _ in range(200):  # it is noticed soon that the first one left
        if ask("sk-one", body(1))[0] == 200:
            break
    check(ask("sk-one", body(1))[0] == 200, "one at a time")


def names():
    for host, status in [("api.example:8080", 200), ("api.example", 200), ("localhost", 200), ("evil.example", 403),
                         ("api.example.evil", 403)]:
        got = ask("sk-free", body(1), headers={"Host": host})
        check(got[0] == status, f"Host {host}: {got[0]}")
    for origin, status in [("https://app.example", 200), ("https://app.example.evil", 403), ("null", 403)]:
        check(ask("sk-free", body(1), headers={"Origin": origin})[0] == status, f"Origin {origin}")


limits()
concurrent()
names()
finish()
