#!/usr/bin/env bash
# fathom tensor on every format: the shared vectors bit for bit, scales beside their weights, and what is wrong with them.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# st FILE NAME DTYPE SHAPE BYTES …: a safetensors file of zero bytes but for the last tensor's, which are all \177
st() {
    local file=$1 header='{' at=0 body=
    shift
    while [ $# -gt 0 ]; do
        header+="\"$1\":{\"dtype\":\"$2\",\"shape\":$3,\"data_offsets\":[$at,$((at + $4))]},"
        at=$((at + $4)) last_bytes=$4
        shift 4
    done
    header=${header%,}'}'
    { printf '%b' "$(printf '\\%03o' $((${#header} % 256)) $((${#header} / 256)))" && head -c 6 /dev/zero
        printf '%s' "$header" && head -c $((at - last_bytes)) /dev/zero
        head -c "$last_bytes" /dev/zero | tr '\0' '\177'; } >"$file"
}

# a byte of E8M0 127 is 1; packed FP4 shows its values' shape
st a.safetensors w.weight I8 '[2,16]' 32 w.scale F8_E8M0 '[2,1]' 2
t 0 tensor -m a.safetensors
out_has 'F4_E2M1   [2,32]'
t 0 tensor -m a.safetensors w.weight --format f32
[ "$(stat -c %s out)" = 256 ] || complain 'not 64 floats'
t 0 tensor -m a.safetensors w.weight --json
out_has '"shape":[2,32]'
t 3 tensor -m a.safetensors w.scale.weight
failed_well

# without scales the codes' own values, if the bytes have any
st b.safetensors w.weight F8_E4M3 '[2,3]' 6
t 0 tensor -m b.safetensors w.weight --format f32
st b.safetensors w.weight I8 '[2,16]' 32
t 3 tensor -m b.safetensors w.weight
err 'fathom: decode tensor: w.weight: format I8 cannot be computed with'

# scales of another shape or format
st c.safetensors w.weight F8_E4M3 '[2,300]' 600 w.weight_scale_inv F32 '[1,4]' 16
t 3 tensor -m c.safetensors w.weight
err_has "c.safetensors, tensor 'w.weight_scale_inv': shape [1,4] is no scale per block, row or whole of a matrix [2,300]"
failed_well
st c.safetensors w.weight F8_E4M3 '[2,300]' 600 w.weight_scale I32 '[1]' 4
t 3 tensor -m c.safetensors w.weight
err_has "tensor 'w.weight_scale': scales in this format are not supported"
failed_well

# NaN: code 0 times scale 255
st d.safetensors w.weight F8_E4M3 '[2,4]' 8 w.scale F8_E8M0 '[2,1]' 2
LC_ALL=C sed -i 's/\x7f/\xff/g' d.safetensors
t 0 tensor -m d.safetensors w.weight
out_has 'NaN or infinite  8'

shared=${FATHOM_SHARED:-$root/../shared}/golden/formats
if [ ! -d "$shared" ]; then
    echo "SKIP cli/formats: $shared is not there"
else
    last='tensor on the shared vectors'
    python3 "$root/tests/cli/formats.py" "$BIN" "$shared" "$tmp" >out 2>err || complain 'other values'
    out_has 'containers of vectors'
fi
finish
