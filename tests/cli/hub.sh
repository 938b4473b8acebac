#!/usr/bin/env bash
# fathom pull, list, rm, verify against a hub on this machine (tests/hub/fake_hub.py): redirects, resuming, hostile replies.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
for name in HF_TOKEN HUGGING_FACE_HUB_TOKEN HF_TOKEN_PATH HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_HUB_OFFLINE \
    HF_HUB_DISABLE_PROGRESS_BARS HF_HUB_DOWNLOAD_TIMEOUT HF_HUB_ETAG_TIMEOUT http_proxy all_proxy ALL_PROXY; do
    unset "$name"
done
export HF_HOME=$tmp/home HF_ENDPOINT=http://127.0.0.1:1
if HF_HUB_OFFLINE=1 "$BIN" pull a/b --dir x 2>&1 | grep -q 'built without'; then
    echo 'built without libcurl'
    exit 77
fi

fake=$tmp/fake
mkdir "$fake"
python3 "$root/tests/hub/fake_hub.py" "$fake" >fake.out 2>&1 &
fake_pid=$!
trap 'kill "$fake_pid"; umount "$tmp/small" 2>/dev/null; rm -rf "$tmp"' EXIT
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

# several parts, several pages, a small file, bytes from the hub itself, a revision
fresh
t 0 pull -q org/split:Q4_0
out "$(snapshot split)/big-Q4_0-00001-of-00003.gguf\n"
for part in 1 2 3; do truth org/split/big-Q4_0-0000$part-of-00003.gguf "$(snapshot split)/big-Q4_0-0000$part-of-00003.gguf"; done
t 0 pull -q org/split:big-Q4_0-00002-of-00003.gguf
out "$(snapshot split)/big-Q4_0-00001-of-00003.gguf\n"
t 0 pull -q org/split:empty.txt
truth org/split/empty.txt "$(snapshot split)/empty.txt"
t 0 pull -q org/pages --rev refs/pr/1
same "$(cat "$HF_HOME/hub/models--org--pages/refs/refs/pr/1")" $commit
t 0 pull -q org/single --rev $commit
[ ! -e "$HF_HOME/hub/models--org--single/refs" ] || complain 'a commit became a ref'
t 0 pull -q org/direct
truth org/direct/m-Q4_0.gguf "$(snapshot direct)/m-Q4_0.gguf"
t 0 pull -q https://huggingface.co/org/direct
t 0 list --json
python3 -c 'import json, sys; l = json.load(sys.stdin); assert [r["repo"] for r in l] == ["org/direct", "org/pages", "org/single", "org/split"], l; assert l[0]["bytes"] == 1000' <out ||
    complain 'the list is another'

# plain files in a folder; what lies there already is compared
fresh
t 0 pull -q org/folder --dir a/b
out 'a/b\n'
for file in a/b/*; do truth "org/folder/${file##*/}" "$file"; done
same "$(cd a/b && find . -type f | wc -l)" 6
[ ! -e "$HF_HOME" ] || complain 'the cache was touched'
: >"$fake/log"
t 0 pull -q org/folder --dir a/b
same "$(sent)" 0
printf 'x' | dd of=a/b/tokenizer.json conv=notrunc status=none
t 0 pull -q org/folder --dir a/b
truth org/folder/tokenizer.json a/b/tokenizer.json
rm -r a

# the token goes to the hub and nowhere else, and into no message
fresh
export HF_TOKEN=hf_secretsecretsecret
t 0 pull org/gated
grep '"server": "hub"' "$fake/log" | grep -q '"token": true' || complain 'the hub saw no token'
! grep '"server": "cdn"' "$fake/log" | grep -q '"token": true' || complain 'another host saw the token'
HF_TOKEN=hf_wrong t 3 pull org/gated
! grep -q hf_ out err || complain 'a token in a message'
HF_TOKEN='a b' t 2 pull org/gated
failed_well
HF_TOKEN=$'a\nX-Evil: 1' t 2 pull org/gated
unset HF_TOKEN
mkdir -p "$HF_HOME"
printf ' hf_secretsecretsecret\n' >"$HF_HOME/token"
t 0 pull -q org/gated
fresh
t 3 pull -q org/gated
failed_well
err_has 'HF_TOKEN'
err_has "$HF_ENDPOINT/org/gated"

# what is not there
t 3 pull -q org/none
err 'fathom: ask the hub: org/none: no such repository, or a private one
hint: check the name; a private repository needs an access token in HF_TOKEN'
t 3 pull -q org/gguf --rev v9
err "fathom: ask the hub: org/gguf: it has no branch, tag or commit 'v9'"
t 2 pull -q org/gguf --rev ../x
failed_well
t 3 pull -q org/other
err_has 'pytorch_model.bin'
t 2 pull -q no-such-name
failed_well
t 2 pull -q ../../etc:passwd
failed_well
t 2 pull -q org/gguf:../../x
failed_well
HF_HUB_OFFLINE=1 t 3 pull -q org/gguf
failed_well
HF_ENDPOINT=ftp://x t 2 pull -q org/gguf
failed_well
HF_HUB_ETAG_TIMEOUT=soon t 2 pull -q org/gguf
failed_well
same "$(find "$HF_HOME" -type f 2>/dev/null)" ''

# names and sizes that no honest hub sends; replies that are not what was asked for
for evil in up absolute dot empty backslash newline escape inner nul size twice deep; do
    t 3 pull -q evil/$evil
    failed_well
done
t 1 pull -q org/liar
failed_well
t 1 pull -q org/longer
failed_well
t 1 pull -q org/down
failed_well
same "$(find "$tmp" /tmp/evil.gguf -name '*evil*' 2>/dev/null)" ''

# a server without ranges: once more from the beginning, in one piece
fresh
set_to ignore_range 8
t 0 pull -q org/gguf
truth org/gguf/model-Q4_K_M.gguf "$(snapshot gguf)/model-Q4_K_M.gguf"

# connections that die: the bytes that came are not fetched again
fresh
set_to die_each 400000
t 0 pull -q org/gguf
truth org/gguf/model-Q4_K_M.gguf "$(snapshot gguf)/model-Q4_K_M.gguf"
same "$(sent)" 6300001
fresh
set_to die_after 100000
t 0 pull -q org/gguf:Q8_0 --connections 1
same "$(sent)" 300000

# too busy, down, a signature that has expired
fresh
set_to busy 1
set_to broken 2
set_to expire 1
t 0 pull -q org/gguf:Q8_0
truth org/gguf/model-Q8_0.gguf "$(snapshot gguf)/model-Q8_0.gguf"

# damage on the way
fresh
set_to damage 1
t 3 pull -q org/gguf:Q8_0
failed_well
err_has 'its hash is not'
same "$(find "$HF_HOME/hub" -type f -path '*blobs*')" ''
t 0 pull -q org/gguf:Q8_0

# Ctrl-C keeps the bytes; the next pull takes them, unless they are damaged meanwhile
state_of() { python3 -c 'import json, sys; s = json.load(open(sys.argv[1])); print(sum(s["done"]), s["hashed"])' "$@"; }
interrupt() {
    fresh
    set_to slow 0.04
    env --default-signal=INT "$BIN" pull org/gguf >out 2>err & # the shell ignores it for jobs in the background
    local pid=$! code=0
    for ((i = 0; i < 100; i++)); do
        [ "$(cat "$HF_HOME"/hub/*/blobs/*.fa7403e0.incomplete 2>/dev/null | tr -d '\0' | wc -c)" -lt 600000 ] || break
        sleep 0.05
    done
    kill -INT $pid
    wait $pid || code=$?
    last='pull, interrupted'
    same "$code" 130
    [ ! -s out ] || complain 'an interrupted pull printed a result'
    read -r done hashed <<<"$(state_of "$HF_HOME"/hub/*/blobs/*.state.incomplete)"
    [ "$done" -gt 500000 ] || complain "only $done bytes are kept"
    rm "$fake/set/slow"
    : >"$fake/log"
}
interrupt
t 0 list
out_has 'not finished'
t 0 pull -q org/gguf
truth org/gguf/model-Q4_K_M.gguf "$(snapshot gguf)/model-Q4_K_M.gguf"
same "$(sent)" $((6300001 - done))
same "$(find "$HF_HOME" -name '*incomplete*')" ''
interrupt
[ "$hashed" -gt 0 ] || complain 'nothing was hashed'
printf '\1\2\3\4' | dd of="$(echo "$HF_HOME"/hub/*/blobs/*.fa7403e0.incomplete)" conv=notrunc status=none
t 0 pull -q org/gguf
truth org/gguf/model-Q4_K_M.gguf "$(snapshot gguf)/model-Q4_K_M.gguf"
same "$(sent)" 6300001

# no room: known before, or met on the way
fresh
mkdir small
if mount -t tmpfs -o size=3m none small 2>/dev/null; then
    HF_HUB_CACHE=$tmp/small t 4 pull -q org/gguf
    failed_well
    err_has '6.3 MB are needed, 3.1 MB are free'
    umount small
else
    echo 'SKIP no room before a download: no tmpfs may be mounted here'
fi
(
    ulimit -f 3000
    t 4 pull -q org/gguf --connections 1
    failed_well
    exit "$failures"
) || failures=$((failures + 1))
read -r done hashed <<<"$(state_of "$HF_HOME"/hub/*/blobs/*.state.incomplete)"
same "$done" $((3000 * 1024))
: >"$fake/log"
t 0 pull -q org/gguf
same "$(sent)" $((6300001 - 3000 * 1024))

# two at once: one of them downloads
fresh
set_to slow 0.002
"$BIN" pull -q org/gguf >out2 2>err2 &
t 0 pull -q org/gguf
wait $! || complain 'the other pull failed'
same "$(sent)" 6300001
cmp -s out out2 || complain 'two pulls, two paths'

# models by name, from this cache or from one that another program has filled
fresh
t 3 logits -m org/real --tokens 1
err 'fathom: find the model: org/real: no such file or folder, and it is not in the cache
hint: fathom pull org/real'
t 3 run -m qwen3-0.6b x
err_has 'hint: fathom pull qwen3-0.6b'
t 0 pull -q org/real
t 0 logits -m org/real --tokens 1,2
cp out by-name
t 0 logits -m "$golden/qwen3" --tokens 1,2
cmp -s out by-name || complain 'another model by name'
HF_HUB_OFFLINE=1 t 0 pull -q org/real
out "$(snapshot real)\n"
theirs=$HF_HOME/hub/models--other--model
mkdir -p "$theirs/refs" "$theirs/blobs" "$theirs/snapshots/$commit"
printf %s $commit >"$theirs/refs/main"
for file in config.json model.safetensors; do
    cp "$golden/qwen3/$file" "$theirs/blobs/$file-blob"
    ln -s "../../blobs/$file-blob" "$theirs/snapshots/$commit/$file"
done
t 0 logits -m other/model --tokens 1,2
cmp -s out by-name || complain 'another model by name'
t 0 ls
out_has 'other/model'
out_has '(2 files)'

# checking and removing; a blob that another snapshot needs stays
t 0 verify org/real
out '2 files, 137 kB: no damage\n'
blob=$(readlink -f "$(snapshot real)/model.safetensors")
printf 'x' | dd of="$blob" bs=1 seek=5000 conv=notrunc status=none
t 3 verify
out_has 'damaged  org/real:model.safetensors'
err_has '1 of 4 files are damaged or missing'
t 2 rm org/real
failed_well
second=$HF_HOME/hub/models--org--real/snapshots/1111111111111111111111111111111111111111
mkdir "$second"
ln -s "../../blobs/${blob##*/}" "$second/kept.safetensors"
t 0 rm -q --yes org/real:model.safetensors
[ -e "$blob" ] || complain 'a blob went that another snapshot needs'
[ ! -e "$(snapshot real)/model.safetensors" ] || complain 'the link is still there'
t 0 delete -q --yes org/real:kept.safetensors
[ ! -e "$blob" ] || complain 'a blob without links stayed'
t 3 logits -m org/real --tokens 1
failed_well
t 0 rm -q --yes org/real other/model
t 3 rm --yes org/real
failed_well
t 0 list -q
out ''
silent
t 0 verify
out '0 files, 0 B: no damage\n'

# at a terminal a missing model is offered, and removing is asked for
at_terminal() { # answer, arguments…: prints "exit CODE", and leaves in seen what the terminal showed
    printf 'see [y/N]\nsend %s\\r\n' "$1" | python3 "$root/tests/cli/terminal.py" "$BIN" "${@:2}" >seen
    tail -n 1 seen
}
last='at a terminal'
same "$(at_terminal n logits -m org/real --tokens 1)" "exit 3"
grep -q 'org/real is not here yet. Download org/real?' seen || complain 'it was not offered'
same "$(at_terminal y logits -m org/real --tokens 1)" "exit 0"
grep -q '"vocab":80' seen || complain 'no answer after the download'
same "$(at_terminal n rm org/real)" "exit 0"
[ -e "$(snapshot real)/config.json" ] || complain 'it was removed against the answer'
same "$(at_terminal yes rm org/real)" "exit 0"
[ ! -e "$(snapshot real)" ] || complain 'it was not removed'
t 3 run qwen3-0.6b x
err_has 'hint: fathom pull qwen3-0.6b'

t 0 pull --help
out_has 'qwen3-0.6b'
t 0 pull help
out_has 'qwen3-0.6b'
finish
