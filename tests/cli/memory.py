"""What a process has in memory at its most beside what `fathom plan` says: memory.py FATHOM FOLDER GOLDEN MODEL…

Each model is read with a full context, packed and as mapped; so is a generated mixture of experts of 43 million parameters."""

import json, os, random, re, struct, subprocess, sys

fathom, folder, golden = sys.argv[1:4]
MB = 1 << 20
failed = 0


def generate():
    """golden/v2-lite, 32 times as wide, with random weights, as Q8_0."""
    wide = 32
    config = json.load(open(golden + "/v2-lite/config.json"))
    for key in config:
        if key in ("hidden_size", "intermediate_size", "kv_lora_rank", "moe_intermediate_size", "vocab_size") or key.endswith("_dim"):
            config[key] *= wide
    os.mkdir(folder + "/moe")
    json.dump(config, open(folder + "/moe/config.json", "w"))
    with open(golden + "/v2-lite/model.safetensors", "rb") as f:
        head = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    head.pop("__metadata__", None)
    at = 0
    for name, t in head.items():
        experts = name.endswith("mlp.gate.weight")
        t["shape"] = [n if experts and i == 0 else n * wide for i, n in enumerate(t["shape"])]
        size = 2
        for n in t["shape"]:
            size *= n
        t.update(dtype="BF16", data_offsets=[at, at + size])
        at += size
    r = random.Random(1)
    some = b"".join(struct.pack("<f", r.gauss(0, 0.03))[2:] for _ in range(1 << 16))
    text = json.dumps(head).encode()
    with open(folder + "/moe/model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        while at:
            at -= f.write(some[:at])
    subprocess.run([fathom, "quantize", folder + "/moe", folder + "/moe.gguf", "--type", "Q8_0", "-q"], check=True)
    return folder + "/moe.gguf"


def run(args):
    """Runs to its end: the most that was resident, and the plan's rows in bytes."""
    with open(folder + "/plan", "w+") as err, open(os.devnull, "w") as out:
        p = subprocess.Popen([fathom, "logits", "--mem", *args], stdout=out, stderr=err)
        _, status, usage = os.wait4(p.pid, 0)
        p.returncode = status
        err.seek(0)
        text = err.read()
    assert status == 0, text
    rows = re.findall(r"^(\S.*?)  +(\d+)  ", text, re.M)
    return usage.ru_maxrss * 1024, {name: int(n) for name, n in rows}


def check(model, ctx):
    global failed
    vocab = json.loads(subprocess.run([fathom, "show", model, "--json"], check=True, capture_output=True).stdout)["vocab"]
    r = random.Random(2)
    ids = ",".join(str(r.randrange(vocab)) for _ in range(ctx))
    for pack in "on", "off":
        args = ["-m", model, "--tokens", ids, "-t", "2", "-c", str(ctx), "--pack", pack]
        most, rows = run(args)
        plan = rows["memory"] + rows.get("mapped, may be dropped", 0)
        wanted = 1.05 * (os.path.getsize(model) + rows["KV cache"]) + 16 * MB
        # huge pages are whole, and packing has a few MiB in memory twice; of small models the program and scratch are the most
        ok = 0.75 * plan < most < 1.02 * plan + 4 * MB and (most < wanted or os.path.getsize(model) < 1 << 30)
        print("%-6s %-14s pack %-3s context %5d: at most %7.1f MiB, planned %7.1f, file + KV + 5 %% + 16 MiB %7.1f (%+.1f)"
              % ("ok" if ok else "FAILED", os.path.basename(model), pack, ctx, most / MB, plan / MB, wanted / MB, (most - wanted) / MB))
        failed += not ok


check(generate(), 2048)
for word in sys.argv[4:]:
    model, ctx = word.rsplit(":", 1)
    check(model, int(ctx))
sys.exit(failed > 0)
