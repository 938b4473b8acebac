#!/usr/bin/env python3
"""Every file of the shared format vectors through `fathom tensor`, bit for bit.

usage: formats.py FATHOM FOLDER SCRATCH

Each vector's bytes are put into the container they come from (a GGUF, or a safetensors file with the scales beside the
codes); what `fathom tensor --format f32` prints must be the vector's `f32`.  Only the sign of a zero is free."""
import json
import pathlib
import struct
import subprocess
import sys

GGML = dict(f32=0, f16=1, bf16=30, q8_0=8, q4_0=2, q4_1=3, q5_0=6, q5_1=7, q2_k=10, q3_k=11, q4_k=12, q5_k=13, q6_k=14,
            iq2_xxs=16, iq2_xs=17, iq3_xxs=18, iq1_s=19, iq4_nl=20, iq3_s=21, iq2_s=22, iq4_xs=23, iq1_m=29, mxfp4=39,
            nvfp4=40)
PLAIN = ("f32", "f16", "bf16")  # also in safetensors, under the name in capitals


def read(path):
    data = path.read_bytes()
    n, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + n])
    header.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]])
            for k, v in header.items()}


def safetensors(tensors):
    header, body = {}, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def gguf(kind, rows, cols, data):
    name = b"t.weight"
    head = struct.pack("<4sIQQ", b"GGUF", 3, 1, 0) + struct.pack("<Q", len(name)) + name
    head += struct.pack("<IQQIQ", 2, cols, rows, kind, 0)
    return head + bytes(-len(head) % 32) + data + bytes(-len(data) % 32)


def without_signed_zeros(data):
    return [0 if u == 1 << 31 else u for u in struct.unpack("<%dI" % (len(data) // 4), data)]


def main():
    fathom, folder, scratch = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    checked = 0

    def check(what, text, want):
        nonlocal checked
        path = scratch / "vector"
        path.write_bytes(text)
        run = subprocess.run([fathom, "tensor", "-m", path, "t.weight", "--format", "f32"], capture_output=True)
        if run.returncode or without_signed_zeros(run.stdout) != without_signed_zeros(want):
            sys.exit(f"{what}: other values; {run.stderr.decode()}")
        checked += 1

    for path in sorted(folder.glob("*.safetensors")):
        name, v = path.stem, read(path)
        if name == "scalars":  # value tables, no tensor: tests/test_quant.c
            continue
        want, raw = v["f32"][2], v["raw"][2]
        rows, cols = struct.unpack("<2q", v["shape"][2])
        if name in GGML:
            check(name, gguf(GGML[name], rows, cols, raw), want)
        if name in PLAIN:
            check(name, safetensors({"t.weight": (name.upper(), [rows, cols], raw)}), want)
        if "scale" not in v:
            if name not in GGML:
                sys.exit(f"{name}: what is this?")
            continue
        dtype, shape, scale = v["scale"]
        e8m0 = dtype == "U8"
        beside = "t.scale" if e8m0 else "t.weight_scale_inv"
        for kind in ["U8", "F8_E8M0"] if e8m0 else [dtype]:
            scales = {beside: (kind, shape, scale)}
            if "fp4" in name:
                for bytes_as in "I8", "U8":
                    check(name, safetensors({"t.weight": (bytes_as, [rows, cols // 2], raw), **scales}), want)
                check(name, safetensors({"t.weight": ("F4", [rows, cols], raw), **scales}), want)
            else:
                check(name, safetensors({"t.weight": ("F8_E4M3", [rows, cols], raw), **scales}), want)
    print(checked, "containers of vectors")


main()
