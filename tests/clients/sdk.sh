#!/usr/bin/env bash
# OpenAI's and Anthropic's Python clients, as published, against fathom serve: with the shipped model, and with SmolLM2 where it is.
# They come into a virtual environment once (build/cache, or $FATHOM_VENV_CLIENTS); where they cannot be had it skips, but not in CI.
. "$(dirname "${BASH_SOURCE[0]}")/../cli/common.sh"
need_model
wanted=$root/tests/clients/requirements.txt
cache=$root/build/cache
venv=${FATHOM_VENV_CLIENTS:-$cache/clients-$(sha256sum <"$wanted" | cut -c1-12)}

no_clients() { # why
    echo "the clients cannot be had: $1"
    [ "${CI:-}" != true ] || exit 1
    exit 77
}

make_venv() {
    local work
    mkdir -p "$cache" && work=$(mktemp -d "$cache/venv.XXXXXX") || no_clients 'no folder'
    python3 -m venv "$work" >venv.log 2>&1 || { rm -rf "$work"; no_clients 'python3 makes no virtual environment (python3-venv)'; }
    if ! timeout 300 "$work/bin/python" -m pip install --quiet --disable-pip-version-check -r "$wanted" >venv.log 2>&1; then
        rm -rf "$work"
        no_clients "$(tail -n 1 venv.log)"
    fi
    mv -T "$work" "$venv" 2>/dev/null || rm -rf "$work" # somebody else was faster: theirs is as good
}
[ -x "$venv/bin/python" ] || make_venv

serve_and_ask() { # model, words for sdk.py…
    local served=$1
    shift
    last="serve -m $served, for clients $*"
    "$BIN" serve -m "$served" --port 0 2>log &
    local pid=$! port=
    for _ in $(seq 400); do
        port=$(sed -n 's|^listening on http://.*:\([0-9]*\)/v1$|\1|p' log)
        [ -z "$port" ] || break
        sleep 0.05
    done
    (cd "$root" && "$venv/bin/python" tests/server/sdk.py "$port" "$@") >out 2>err || complain 'a client is not content'
    [ $# -gt 0 ] || (cd "$root" && "$venv/bin/python" tests/server/pasted.py "$port" README.md docs/SERVER.md) >out 2>err ||
        complain 'an example of the documents does not work'
    kill "$pid"
    wait "$pid" || complain 'a bad end'
}

serve_and_ask "$model"
if [ -e "${FATHOM_SMOLLM2:-}" ]; then
    serve_and_ask "$FATHOM_SMOLLM2"
    # its own chat format knows no tools: the file says that it is Qwen 2.5's, whose marks it has
    python3 "$root/tests/server/retemplate.py" "$FATHOM_SMOLLM2" model.gguf \
        '<|im_start|> You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' || exit 1
    serve_and_ask model.gguf tools
else
    echo 'SKIP  SmolLM2 is not here (tests/fetch_smollm2.sh)'
fi
finish
