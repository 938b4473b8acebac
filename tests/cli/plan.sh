#!/usr/bin/env bash
# fathom plan: bytes by part and format, whether they fit, how fast it will be; from files and from configs alone.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

export XDG_CACHE_HOME=$tmp/cache
t 2 plan "$golden/v2-lite" --type Q9_9
failed_well
err_has 'Q9_9'
t 3 plan /no/such/model
failed_well
mkdir empty
t 3 plan empty
failed_well
echo '{"model_type":"gpt2"}' >empty/config.json
t 3 plan empty
failed_well
err_has 'gpt2'
[ "$quick" = 0 ] || finish

t 0 doctor --quick --seconds 0.2 -q
for file in "$golden/v3-mtp" "$golden/llama-tied-scaled"; do
    t 0 plan "$file" --ctx 128 # with the figures of doctor: at once, and nothing to say
    silent
    for text in 'weights, mapped' 'KV cache per token' 'fits: needs' 'attention' 'head' 'one token after 0' \
        'one token after 128' 'a prompt of 128 tokens' 'decode: ' 'prefill: ' 'billion parameters'; do
        out_has "$text"
    done
done

# what a config alone promises is what quantize writes
check_json() { # python code over a and b
    python3 - "$1" <<'END' || complain "not so: $1"
import json, sys
a, b = json.load(open("a")), json.load(open("b"))
sys.exit(0 if eval("(" + sys.argv[1] + ")") else 1)
END
}
for name in v2-lite qwen3 v3-groups-yarn; do
    t 0 quantize "$golden/$name" "$name.gguf" --type Q4_K_M -q
    t 0 plan "$name.gguf" --json --ctx 128
    cp out a
    mkdir "$name"
    cp "$golden/$name/config.json" "$name/"
    t 0 plan "$name" --type q4_k_m --json --ctx 128 # a folder without weights
    cp out b
    check_json 'a["weights"] == b["weights"] and a["params_total"] == b["params_total"]'
    check_json 'a["type"] is None and b["type"] == "Q4_K_M" and a["kv_bytes_per_token"] == b["kv_bytes_per_token"]'
    check_json '[x for x in a["memory"] if "KV" in x["item"] or "derived" in x["item"]] ==
                [x for x in b["memory"] if "KV" in x["item"] or "derived" in x["item"]]'
    check_json 'a["needs_bytes"] == a["weight_bytes"] + a["other_bytes"] == sum(x["bytes"] for x in a["memory"])'
    check_json '[(s["what"], s["tokens"]) for s in a["speed"]] == [("prefill", 128), ("decode", 0), ("decode", 128)]'
    check_json 'all(s["tokens_per_second"] > 0 and abs(sum(t["seconds"] for t in s["terms"]) / s["seconds"] - 1) < 1e-3
                    for s in a["speed"] + b["speed"])'
done

# too large for any machine
sed 's/"num_hidden_layers": *[0-9]*/"num_hidden_layers": 255/; s/"moe_intermediate_size": *[0-9]*/"moe_intermediate_size": 65536/;
     s/"hidden_size": *[0-9]*/"hidden_size": 65536/' "$golden/v2-lite/config.json" >huge.json
t 0 plan huge.json --type F32
out_has 'does not fit: needs'
t 4 plan huge.json --type F32 --check
err_has 'are available'
t 0 plan v2-lite.gguf --check --ctx 64

# figures of this model's formats only, when there are no others
rm -r cache
t 0 plan v2-lite.gguf -q --ctx 64
silent
out_has 'decode: '
[ ! -e cache/fathom/doctor.json ] || complain 'a plan kept figures'
finish
