#!/usr/bin/env bash
# fathom bench: the table, the JSON, the CSV; refusals; Ctrl-C.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

m=$golden/v3-mtp
t 2 bench "$m" --depth 0,x
failed_well
err_has 'is no list of numbers'
t 2 bench "$m" --depth 1, -q
failed_well
t 2 bench "$m" --thread-list 1 --threads 2
failed_well
t 2 bench "$m" --json --csv
failed_well
t 2 bench "$m" --prompt -1 --tokens -1
failed_well
t 3 bench /no/such/model.gguf
failed_well
err_has '/no/such/model.gguf'
t 2 bench "$m" --depth 1000000000000
failed_well
[ "$quick" = 0 ] || finish

t 0 bench "$m" -q -p 8 -n 4 -r 2 -d 0,16,100000 --thread-list 1,2
silent
for text in 'what     threads' 'prefill        1       0       8' 'decode         2      16       4' \
    'the context is shorter' 'reading' 'resident at most'; do
    out_has "$text"
done

t 0 bench "$m" -q -p 8 -n 4 -r 2 -d 0,16,100000 --thread-list 1,2 --json
silent
python3 - out <<'END' || complain 'the JSON is not what it should be'
import json, sys
b = json.load(open(sys.argv[1]))
rows = b["rows"]
assert [(r["what"], r["threads"], r["depth"]) for r in rows] == [
    (w, t, d) for d in (0, 16, 100000) for t in (1, 2) for w in ("prefill", "decode")], rows
for r in rows:
    if r["depth"] == 100000:
        assert r["runs"] == 0 and r["left_out"]
        continue
    assert r["runs"] == 2 and r["left_out"] is None
    assert 0 < r["slowest"] <= r["tokens_per_second"] <= r["fastest"], r
    l = b["limits"][r["threads"] - 1]
    need = [r["bytes_per_token"] / l["read"]]
    if l["f32_peak"]: # no probe on some machines
        need.append(r["int8_macs_per_token"] / max(l["int8_peak"], 1) + r["f32_macs_per_token"] / l["f32_peak"])
        assert abs(r["limit"] * max(need) - 1) < 1e-3, (r, l)
    assert abs(r["fraction"] * r["limit"] / r["tokens_per_second"] - 1) < 1e-2
assert [l["threads"] for l in b["limits"]] == [1, 2] and b["resident_bytes"] > 1e6
END

t 0 bench -m "$m" -q -p 8 -n -1 -r 1 -d 0 -t 1 --csv
silent
python3 - out <<'END' || complain 'the CSV is not what it should be'
import csv, sys
rows = list(csv.DictReader(open(sys.argv[1])))
assert len(rows) == 1 and rows[0]["what"] == "prefill" and float(rows[0]["tokens_per_second"]) > 0, rows
assert None not in rows[0] and rows[0]["runs"] == "1"
END

timeout --preserve-status -s INT 2 "$BIN" bench "$m" -q -r 1000 -p 2000 -n 2000 --ctx 4096 -d 0 >out 2>err
same "$?" 130
[ ! -s out ] || complain 'a stopped bench prints something'
finish
