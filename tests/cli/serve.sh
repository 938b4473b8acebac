#!/usr/bin/env bash
# fathom serve: a real process, spoken to by tests/server/talk.py; keys, addresses, the way down.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_model

start() { serve -m "$model" --slots 4 "$@"; } # options…

stop() { # signal, exit code wanted
    local rc=0
    kill "-$1" "$pid"
    wait "$pid" || rc=$?
    last="serve, $1"
    [ "$rc" = "$2" ] || complain "exit code $rc, not $2"
}

streams=${FATHOM_SHARED:-$root/../shared}/data/5-conformance/api-streams
last='the grammars of streams, against recorded ones'
if [ -d "$streams" ]; then
    python3 "$root/tests/server/sse_recorded.py" "$streams" >out 2>err || complain 'a checker is wrong'
else
    echo "SKIP  the recorded streams are not here ($streams)"
fi

last='docs/SERVER.md'
python3 "$root/tests/server/fields.py" "$root" >out 2>err || complain 'it and the code name different routes or fields'

start --log-level info
last='serve'
python3 "$root/tests/server/talk.py" "$port" >out 2>err || complain 'clients are not content'
python3 "$root/tests/server/choices.py" "$port" >out 2>err || complain 'several choices or prompts are not right'
python3 "$root/tests/server/bound.py" "$port" >out 2>err || complain 'an answer is not what it was bound to'
python3 "$root/tests/server/embeddings.py" "$port" >out 2>err || complain 'embeddings, models or holes are not right'
stop TERM 0
for line in '^POST /v1/chat/completions 200 [0-9]+ prompt tokens \([0-9]+ cached\), 24 answered in [0-9.]+ s, [0-9a-f]{24}$' \
    '^GET /v1/models 403 in 0\.[0-9]+ s, ' '^POST /v1/chat/completions 200 .* s, the client left, ' '^POST /api/generate 400 '; do
    grep -qE "$line" served || complain "no line of its log is like $line"
done
! grep -q 'best of times' served || complain 'texts of requests are in its log'

cat >manager.py <<'END'
import os, socket, subprocess, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace("@", "\0"))
s.settimeout(60)
p = subprocess.Popen(sys.argv[2:], env={**os.environ, "NOTIFY_SOCKET": sys.argv[1]}, stderr=subprocess.DEVNULL)
said = [s.recv(100)]
p.terminate()
said.append(s.recv(100))
sys.exit(p.wait() or said != [b"READY=1", b"STOPPING=1"])
END
last='serve, for a service manager'
for socket in "$tmp/notify" "@fathom-test-$$"; do
    python3 manager.py "$socket" "$BIN" serve -m "$model" --port 0 2>err || complain "$socket is not told"
done

for format in qwen2.5 deepseek-v4; do # words that the model does not know, and yet has to say
    start --chat-format "$format" --ctx 2048
    last="serve --chat-format $format"
    python3 "$root/tests/server/forced.py" "$port" >out 2>err || complain 'a call is not what was asked for'
    stop TERM 0
done

start --log-json
python3 - "$port" <<'END'
import http.client, sys
for path in ("/health", '/a"b%0a%5c', "/%c3%a4"):
    c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
    c.request("GET", path)
    c.getresponse().read()
END
stop TERM 0
python3 - >out 2>err <<'END' || complain 'its log is not JSON'
import json
lines = [json.loads(x) for x in open("served") if x.startswith("{")]
assert [(x["path"], x["status"], x["left"]) for x in lines] == [("/health", 200, False), ("/a?b??", 404, False),
                                                              ("/??", 404, False)], lines
END

start --log-level warn
python3 -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$port/health')"
stop TERM 0
! grep -q health served || complain 'it tells requests though warnings only were asked for'

start --api-key secret --strict-model
last='serve --api-key'
python3 "$root/tests/server/talk.py" "$port" secret >out 2>err || complain 'keys do not keep'
stop TERM 0

cat >keys <<'END'
# name and limits stand behind a key
sk-free name=free
sk-rate requests-per-minute=3
sk-tokens	tokens-per-minute=1000000 tokens-per-day=20
sk-short max-tokens=3
sk-one concurrent=1 name=one
sk-other models=another,and-another
END
start --api-key-file keys --allowed-host api.example --cors-origin https://app.example --log-level info --ctx 9000
last='serve --api-key-file'
python3 "$root/tests/server/keys.py" "$port" >out 2>err || complain 'limits do not hold'
stop TERM 0
! grep -q 'sk-' served || complain 'a key is in its log'
grep -qE '^POST /v1/completions 429 in .* s, one, ' served || complain 'its log does not name keys'

for how in 'whole 30' 'cut 1'; do
    start --quiet --drain-seconds "${how#* }" --ctx 200000
    last="serve, stopped in the middle: ${how% *}"
    python3 "$root/tests/server/drain.py" "$port" "$pid" "${how% *}" >out 2>err || complain 'no graceful end'
    wait "$pid" || complain "exit code $?, not 0"
    [ "$(grep -vc '^warning: a context of' served)" = 1 ] ||
        complain 'it says more than where it listens though it is to be quiet'
done

t 2 serve --host 0.0.0.0 --port 0 -m "$model"
failed_well
t 2 serve --chat-format nope -m "$model"
failed_well
t 3 serve -m nowhere.gguf
failed_well
for line in '' 'k rpm=3' 'k requests-per-minute=0' 'k tokens-per-day=x' 'k name=' 'k name=a"b' 'k word'; do
    echo "$line" >keys
    t 3 serve --api-key-file keys -m "$model"
    failed_well
done
: >keys
t 3 serve --api-key-file keys -m "$model"
failed_well
finish
