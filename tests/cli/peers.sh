#!/usr/bin/env bash
# bench/peers.py beside two programs that only say what such programs say, and bench/compare.py on its rows.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
last='beside peers'

p() { # exit code, then python3's arguments
    local want=$1 code=0
    shift
    last="$*"
    python3 "$root/bench/$1" "${@:2}" >out 2>err || code=$?
    [ "$code" = "$want" ] || complain "exit code $code, not $want"
}

mkdir ik llama
cat >llama/llama-bench <<'END'
#!/bin/sh
echo "llama-bench $*" >>"${0%/*}/../asked"
echo 'a line that is no figure'
echo '{"n_prompt": 512, "n_gen": 0, "n_depth": 0, "avg_ts": 10.0}'
echo '{"n_prompt": 0, "n_gen": 64, "n_depth": 0, "avg_ts": 0.5}'
END
cat >ik/llama-bench <<'END'
#!/bin/sh
echo "ik $*" >>"${0%/*}/../asked"
echo '[{"n_prompt": 512, "n_gen": 0, "avg_ts": 20.0}, {"n_prompt": 0, "n_gen": 64, "avg_ts": 0.25}]'
END
chmod +x ik/llama-bench llama/llama-bench
p 0 peers.py "$golden/v3-mtp" --fathom "$BIN" --ik ik@abc --llama llama --work short --threads 1 --turns 2 --csv rows.csv
for text in '| v3-mtp | prefill 512 | 1 |' '| v3-mtp | decode 64 | 1 |' '| 20 |' '| 0.25 |' '| 10 |' '| 0.5 |' '| 2 / 2 / 2 |' \
    'fathom bench MODEL --thread-list 1' 'llama-bench -m MODEL -t 1 -fa 1 -mla 3 -fmoe 1 -rtr 1 -p 512 -n 64'; do
    out_has "$text"
done
same "$(cut -c 1-2 asked | tr '\n' ' ')" 'ik ll ik ll ' # in turns
same "$(grep -c ',ik_llama.cpp,abc,' rows.csv)" 4
cp out table
p 0 peers.py --csv rows.csv
cmp -s out table || complain 'the rows of the file give another table'

p 0 compare.py rows.csv rows.csv
out_has '2 rows, 0 slower by more than 10 %'
awk -F, 'BEGIN { OFS = "," } /,fathom,/ { $11 = $11 / 2 } { print }' rows.csv >half.csv
p 1 compare.py rows.csv half.csv
out_has '-50.0 %'
out_has '2 rows, 2 slower by more than 10 %'
p 0 compare.py rows.csv half.csv --margin 60
p 0 compare.py half.csv rows.csv
sed 's/cores/other cores/' rows.csv >other.csv
p 2 compare.py rows.csv other.csv
echo a,b >broken.csv
p 1 compare.py rows.csv broken.csv
err_has 'broken.csv: its columns are not'

printf '#!/bin/sh\nexit 3\n' >ik/llama-bench
p 1 peers.py "$golden/v3-mtp" --fathom "$BIN" --ik ik --work short --threads 1 --turns 1
err_has 'exit code 3'
finish
