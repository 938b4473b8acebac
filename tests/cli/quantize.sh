#!/usr/bin/env bash
# fathom quantize: four directions, refusals, a full disk, an interruption, any number of threads.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

t 0 quantize --type help
out_has 'Q4_K_M'
t 2 quantize
failed_well
t 2 quantize a b
err_has '--type'
t 2 quantize a.gguf b.gguf --type Q9
err "fathom: convert model: --type: 'Q9' is no type
hint: fathom quantize --type help lists the types"
t 2 quantize "$golden/qwen3" out --type Q8_0
err_has 'does not go into safetensors'
t 2 quantize "$golden/qwen3" out.gguf --type Q8_0 --experts Q4_K_M
err_has 'is a mixture'
t 2 quantize "$golden/qwen3" out.gguf --type Q8_0 --tensor x
failed_well
t 3 quantize none out.gguf --type Q8_0
failed_well
[ -z "$(ls)" ] || [ "$(ls | tr '\n' ' ')" = 'err out want ' ] || complain 'a failure leaves files'

# folder → GGUF → GGUF and → folder: every family, the same numbers
for case in "$golden"/*/; do
    name=$(basename "$case")
    ids=1,2,3,4,5,6,7
    t 0 logits -m "$case" --tokens $ids --exact --format f32
    cp out wanted
    t 0 quantize "$case" m.gguf --type F32 --quiet
    silent
    t 0 quantize m.gguf back --type F32 --quiet
    for m in m.gguf back; do
        t 0 logits -m $m --tokens $ids --exact --format f32
        worst=$(paste <(od -An -v -tf4 -w4 wanted) <(od -An -v -tf4 -w4 out) | awk '
            {d = $1 - $2; if (d < 0) d = -d; if (d > w) w = d; x = $1 < 0 ? -$1 : $1; if (x > m) m = x}
            END {print (NR && w <= 1e-5 * m) ? "close" : "off by " w " of " m}')
        [ "$worst" = close ] || complain "$name, $m: logits $worst"
    done
    t 0 quantize back again.gguf --type F32 --quiet
    # only general.name, made of the folder's, differs
    t 0 tensor -m m.gguf --json
    sed 's/"offset":[0-9]*//; s/"path":"[^"]*"//' out >list
    t 0 tensor -m again.gguf --json
    sed 's/"offset":[0-9]*//; s/"path":"[^"]*"//' out | cmp -s list - || complain "$name: another list of tensors"
done

# the input is never the output
cp "$golden/qwen3/model.safetensors" one.safetensors
ln -s m.gguf link.gguf
ln m.gguf hard.gguf
for o in m.gguf link.gguf hard.gguf ./m.gguf; do
    t 2 quantize m.gguf $o --type Q8_0
    err_has 'is the input'
done
t 2 quantize back back --type BF16
err_has 'is the input'
t 3 quantize one.safetensors x --type BF16
failed_well
mkdir other && touch other/thing
t 2 quantize m.gguf other --type F32
err_has 'something else than a model'
t 0 quantize m.gguf other.gguf --type Q8_0 --dry-run
out_has 'bits per weight'
[ ! -e other.gguf ] || complain 'a dry run writes'

# shards, and an older model in their place
t 0 quantize m.gguf back --type F32 --shard-size 1 --quiet
[ -s back/config.json ] || complain 'no config.json'
t 0 logits -m back --tokens 1,2,3 --exact

[ "$quick" = 0 ] || finish
[ -f "$model" ] || { echo 'SKIP models/default.gguf is not there'; finish; }

# sizes, threads, the dry run's promise
t 0 quantize "$model" one.gguf --type Q4_K_M --threads 1
err_has 'bits per weight'
t 0 quantize "$model" three.gguf --type Q4_K_M --threads 3 --json
out_has '"written":true'
cmp -s one.gguf three.gguf || complain 'three threads give other bytes'
t 0 quantize "$model" plan.gguf --type Q4_K_M --dry-run --json
out_has "\"bytes_out\":$(stat -c %s one.gguf),"
out_has '"wish":"Q4_K"'
[ ! -e plan.gguf ] || complain 'a dry run writes'
t 0 quantize "$model" mixed.gguf --type Q8_0 --experts Q4_0 --tensor 'blk.1.*_exps*=Q5_0' --tensor '*down_exps*=MXFP4' \
    --quiet
t 0 tensor -m mixed.gguf
grep -q '^blk.2.ffn_up_exps.weight *Q4_0 ' out || complain 'no Q4_0 expert'
grep -q '^blk.1.ffn_up_exps.weight *Q5_0 ' out || complain 'no Q5_0 expert'
grep -q '^blk.1.ffn_down_exps.weight *MXFP4 ' out || complain 'no MXFP4 expert'
grep -q '^blk.1.attn_q_a.weight *Q8_0 ' out || complain 'no Q8_0 attention'
t 0 quantize "$model" same.gguf --type Q8_0 --quiet
for f in same "$model"; do
    t 0 logits -m "${f%.gguf}.gguf" --tokens 1,2,3 --exact --format f32
    cp out "$(basename "$f" .gguf).logits"
done
cmp -s same.logits default.logits || complain 'the same type gives another model'
t 0 quantize "$model" short.gguf --type Q8_0 --without-mtp --quiet
t 0 show -m short.gguf
t 0 quantize "$model" folder --type F32 --shard-size 5 --quiet
[ -s folder/model.safetensors.index.json ] || complain 'no index'
t 0 quantize folder round.gguf --type Q8_0 --quiet
t 0 run -m round.gguf --temp 0 -n 8 --raw 'The '
cp out answer
t 0 run -m "$model" --temp 0 -n 8 --raw 'The '
cmp -s answer out || complain 'folder and back answers something else'

# a file that may not become as large, a disk that is full: nothing is left, the old file stays
echo old >kept.gguf
before=$(ls -A)
(ulimit -f 1000 && exec "$BIN" quantize "$model" kept.gguf --type Q8_0 --quiet >out 2>err)
same "$?" 4
same "$(cat kept.gguf)" old
same "$(ls -A)" "$before"
mkdir small
if mount -t tmpfs -o size=2m tmpfs small 2>/dev/null; then
    t 4 quantize "$model" small/x.gguf --type Q8_0
    err_has 'bytes are needed'
    t 4 quantize "$model" small/x --type F32
    err_has 'bytes are needed'
    same "$(ls -A small)" ''
    umount small
else
    echo 'SKIP full disk: no small file system can be mounted'
fi

# interrupted
for o in cut.gguf cut; do
    timeout --preserve-status -s INT 0.2 "$BIN" quantize "$model" $o --type F32 --threads 1 --quiet >out 2>err
    case $? in
    130) [ -z "$(ls -Ad cut* 2>/dev/null)" ] || complain "an interruption leaves $(ls -Ad cut*)" ;;
    0) rm -rf $o ;; # too quick a machine
    *) complain 'an interruption does not end with 130' ;;
    esac
done
finish
