#!/usr/bin/env python3
"""Perplexity and distance from `--exact`, fathom's beside llama.cpp's, over the same windows of the same text.

usage: tools/compare_perplexity.py MODEL.gguf TEXT [--chunks N] [--ctx N] [--fathom PROGRAM] [--threads N]

needs numpy and llama_cpp (llama-cpp-python).  For each window all three sets of logits are computed: llama.cpp's,
fathom's, and fathom's with --exact.  From them, in float64 and without fathom's own statistics: the perplexities by the
rule of llama.cpp's perplexity tool, and the mean KL divergence of either from the exact ones.  Then `fathom perplexity`
itself is run over the same windows; its figures must agree.
"""
import argparse
import ctypes
import json
import subprocess
import sys
import time

import llama_cpp
import numpy as np


class Llama:
    """Logits of windows through libllama's own API."""

    def __init__(self, path, ctx, threads):
        llama_cpp.llama_backend_init()
        m = llama_cpp.llama_model_default_params()
        m.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), m)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        c = llama_cpp.llama_context_default_params()
        c.n_ctx = c.n_batch = c.n_ubatch = ctx
        c.n_threads = c.n_threads_batch = threads
        self.ctx = llama_cpp.llama_init_from_model(self.model, c)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(self.vocab)
        self.batch = llama_cpp.llama_batch_init(ctx, 0, 1)

    def tokenize(self, text):
        ids = (ctypes.c_int32 * (len(text) + 8))()
        n = llama_cpp.llama_tokenize(self.vocab, text, len(text), ids, len(ids), True, False)
        assert n >= 0, n
        return np.array(ids[:n], np.int32)

    def bos(self):
        return llama_cpp.llama_vocab_bos(self.vocab) if llama_cpp.llama_vocab_get_add_bos(self.vocab) else -1

    def logits(self, ids, first):
        """[len(ids) - 1 - first, V] of the scored rows."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.ctx), True)
        b = self.batch
        b.n_tokens = len(ids)
        for i, t in enumerate(ids):
            b.token[i], b.pos[i], b.n_seq_id[i], b.logits[i] = int(t), i, 1, i >= first
            b.seq_id[i][0] = 0
        rc = llama_cpp.llama_decode(self.ctx, b)
        assert rc == 0, rc
        rows = len(ids) - first
        flat = np.ctypeslib.as_array(llama_cpp.llama_get_logits(self.ctx), (rows * self.n_vocab,))
        return flat.reshape(rows, self.n_vocab)[:-1].copy()


def fathom_logits(o, ids, first, vocab, *flags):
    said = subprocess.run([o.fathom, "logits", "-m", o.model, "--tokens", "-", "--all", "--format", "f32", "--threads",
                           str(o.threads), *flags], input=" ".join(map(str, ids)).encode(), capture_output=True,
                          check=True).stdout
    return np.frombuffer(said, "<f4").reshape(len(ids), vocab)[first:-1]


def log_softmax(z):
    z = z.astype(np.float64)
    z -= z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def estimate(x):
    x = np.concatenate(x)
    return x.mean(), x.std(ddof=1) / np.sqrt(len(x))


def measure(o, llama, ids):
    first, names = o.ctx // 2, ("exact", "fathom", "llama.cpp")
    nll, kld, same, cpu = ({n: [] for n in names} for _ in range(4))
    for i in range(o.chunks):
        window = ids[i * o.ctx:(i + 1) * o.ctx]
        target, fed = window[first + 1:], window.copy()
        if llama.bos() >= 0:
            fed[0] = llama.bos()
        start = time.process_time()
        rows = {"llama.cpp": llama.logits(fed, first)}
        cpu["llama.cpp"].append(time.process_time() - start)
        rows["fathom"] = fathom_logits(o, fed, first, llama.n_vocab)
        rows["exact"] = fathom_logits(o, fed, first, llama.n_vocab, "--exact")
        base = log_softmax(rows["exact"])
        for n in names:
            q = log_softmax(rows[n])
            nll[n].append(-q[np.arange(len(target)), target])
            kld[n].append((np.exp(base) * (base - q)).sum(1))
            same[n].append((q.argmax(1) == base.argmax(1)).astype(float))
        print(f"chunk {i + 1}/{o.chunks}", file=sys.stderr, flush=True)
    for n in names:
        mean, error = estimate(nll[n])
        line = f"{n:10} PPL {np.exp(mean):.5f} +- {np.exp(mean) * error:.5f}"
        if n != "exact":
            line += "  ln(PPL/PPL(exact)) %+.6f +- %.6f" % estimate([a - b for a, b in zip(nll[n], nll["exact"])])
            line += "  KLD from exact %.7f +- %.7f" % estimate(kld[n]) + "  same top %.3f %%" % (100 * estimate(same[n])[0])
        print(line)
    seconds = sum(cpu["llama.cpp"])
    print(f"llama.cpp  {o.chunks * o.ctx / seconds:.1f} tokens per second of processor time, {llama_cpp.__version__}")


def run_fathom(o, *flags):
    said = subprocess.run([o.fathom, "perplexity", o.model, "--text", o.text, "--chunks", str(o.chunks), "--ctx",
                           str(o.ctx), "--threads", str(o.threads), "--json", "-q", *flags], capture_output=True,
                          check=True).stdout
    return json.loads(said)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("text")
    p.add_argument("--chunks", type=int, default=40)
    p.add_argument("--ctx", type=int, default=512)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--fathom", default="build/fathom")
    o = p.parse_args()
    llama = Llama(o.model, o.ctx, o.threads)
    with open(o.text, "rb") as f:
        text = f.read()
    ids = llama.tokenize(text)
    ours = subprocess.run([o.fathom, "tokenize", "-m", o.model, "--no-special", *(["--bos"] if llama.bos() >= 0 else [])],
                          input=text, capture_output=True, check=True).stdout
    print("tokens    ", len(ids), "the same" if np.array_equal(ids, np.array(ours.split(), np.int32)) else "DIFFERENT")
    o.chunks = min(o.chunks, len(ids) // o.ctx)
    measure(o, llama, ids)
    r = run_fathom(o, "--kld", o.model, "--kld-exact")
    print("fathom perplexity says: PPL %.5f +- %.5f, exact %.5f, KLD %.7f +- %.7f, same top %.3f %%" %
          (r["ppl"], r["ppl_error"], r["ppl_base"], r["kld"], r["kld_error"], 100 * r["same_top"]))


if __name__ == "__main__":
    main()
