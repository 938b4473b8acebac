#!/usr/bin/env bash
# fathom pull, list, rm, verify against a hub on this machine (tests/hub/fake_hub.py): redirects, resuming, hostile replies.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
for name in HF_TOKEN HUGGING_FACE_HUB_TOKEN HF_TOKEN_PATH HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_HUB_OFFLINE \
    HF_HUB_DISABLE_PROGRESS_BARS HF_HUB_DOWNLOAD_TIMEOUT HF_HUB_ETAG_TIMEOUT http_proxy all_proxy ALL_PROXY; do
    unset "$name"
done
export HF_HOME=$tmp/home HF_ENDPOINT=http://127.0.0.1:1
if "$BIN" verify 2>&1 | grep -q 'built without'; then
    echo 'built without libcurl'
    exit 77
fi

fake=$tmp/fake
mkdir "$fake"
python3 "$root/tests/hub/fake_hub.py" "$fake" >fake.out 2>&1 &
fake_pid=$!
trap 'kill "$fake_pid" 2>/dev/null; rm -rf "$tmp"' EXIT
for ((i = 0; i < 100; i++)); do
    [ ! -s "$fake/hub" ] || break
    sleep 0.1
done
HF_ENDPOINT=http://127.0.0.1:$(cat "$fake/hub")

commit=0123456789abcdef0123456789abcdef01234567
snapshot() { printf '%s/hub/models--org--%s/snapshots/%s' "$HF_HOME" "$1" $commit; }
truth() { cmp -s "$fake/truth/$1" "$2" || complain "$2 is not $1"; }
set_to() { printf '%s' "$2" >"$fake/set/$1"; }
# bytes of the CDN's bodies, and requests to it, since the log was last emptied
sent() { grep '"server": "cdn"' "$fake/log" | sed 's/.*"sent": \([0-9]*\).*/\1/' | awk '{ n += $1 } END { print n + 0 }'; }
fresh() { # an empty cache, an empty log, no tricks
    rm -rf "$HF_HOME" "$fake/set"
    mkdir "$fake/set"
    : >"$fake/log"
}

# a quantisation over several connections, into the layout that others read
fresh
t 0 pull -q org/gguf
out "$(snapshot gguf)/model-Q4_K_M.gguf\n"
silent
truth org/gguf/model-Q4_K_M.gguf "$(snapshot gguf)/model-Q4_K_M.gguf"
same "$(cat "$HF_HOME/hub/models--org--gguf/refs/main")" $commit
same "$(readlink "$(snapshot gguf)/model-Q4_K_M.gguf")" \
    "../../blobs/$(sha256sum "$fake/truth/org/gguf/model-Q4_K_M.gguf" | cut -d' ' -f1)"
same "$(sent)" 6300001
[ "$(grep -c '"status": 206' "$fake/log")" -ge 6 ] || complain 'the file was not fetched in pieces'
same "$(find "$HF_HOME" -name '*incomplete*')" ''

# once more: nothing is sent but questions
: >"$fake/log"
t 0 pull -q org/gguf
same "$(sent)" 0

t 0 pull -q org/gguf:q8_0
truth org/gguf/model-Q8_0.gguf "$(snapshot gguf)/model-Q8_0.gguf"
t 3 pull -q org/gguf:Q5_0
err 'fathom: choose files: org/gguf: it holds no Q5_0
hint: it has Q4_K_M, Q8_0'
t 2 pull -q org/many
failed_well

# a folder: the shards that the index names, and no other file
t 0 pull -q org/folder
out "$(snapshot folder)\n"
same "$(cd "$(snapshot folder)" && echo *)" 'config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json tokenizer.json tokenizer_config.json'
for file in "$(snapshot folder)"/*; do truth "org/folder/${file##*/}" "$file"; done
t 0 verify
out '8 files, 7.70 MB: no damage\n'
finish
