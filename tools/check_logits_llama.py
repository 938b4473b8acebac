#!/usr/bin/env python3
"""Logits and greedy tokens of GGUF files against llama.cpp's: one line each, exit code 1 when they differ too much.

usage: check_logits_llama.py FATHOM FILE.gguf …  [--tokens N] [--greedy N] [--limit X]
needs: llama-cpp-python; numpy

Both get the same N ids (no tokenizer is asked) and give the logits of every position: fathom by `logits --all --exact`, the
reference with flash attention off and an F32 cache, then token by token for the --greedy ones that it draws.  Reported:
max |a − b| over the largest |b| of the position, the worst one of all; and how many of the drawn tokens are fathom's best,
too, until the first that is not, with the gap of the two best logits there.  In F32 both round about 2^-24 per operation: of the order of 1e-6 is expected, more
where a choice of experts is a near tie."""
import argparse
import ctypes
import subprocess
import sys

import llama_cpp as ll
import numpy as np


class Reference:
    def __init__(self, path, n_ctx):
        m = ll.llama_model_default_params()
        m.use_mmap, m.n_gpu_layers = True, 0
        self.model = ll.llama_model_load_from_file(path.encode(), m)
        if not self.model:
            sys.exit(f"{path}: llama.cpp does not open it")
        c = ll.llama_context_default_params()
        c.n_ctx, c.n_batch, c.n_ubatch = n_ctx, n_ctx, n_ctx
        c.flash_attn_type = ll.LLAMA_FLASH_ATTN_TYPE_DISABLED
        c.type_k = c.type_v = ll.GGML_TYPE_F32
        c.n_threads = c.n_threads_batch = 1  # several would wait for each other busily
        self.ctx = ll.llama_init_from_model(self.model, c)
        self.n_vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(self.model))

    def logits(self, ids, at=0):
        """[T,V] of these ids, which stand behind `at` others that are in the cache."""
        if not at:
            ll.llama_memory_clear(ll.llama_get_memory(self.ctx), True)
        batch = ll.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, t in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = t, at + i, 1, 1
            batch.seq_id[i][0] = 0
        if ll.llama_decode(self.ctx, batch):
            sys.exit("llama.cpp fails to decode")
        rows = [np.ctypeslib.as_array(ctypes.cast(ll.llama_get_logits_ith(self.ctx, i), ctypes.POINTER(ctypes.c_float)),
                                      (self.n_vocab,)).copy() for i in range(len(ids))]
        ll.llama_batch_free(batch)
        return np.stack(rows)

    def greedy(self, ids, n):
        """The n most likely tokens behind ids, one by one, and the logits that each was drawn from."""
        ids, rows = list(ids), [self.logits(ids)[-1]]
        for _ in range(n - 1):
            ids.append(int(rows[-1].argmax()))
            rows.append(self.logits(ids[-1:], len(ids) - 1)[0])
        return [int(r.argmax()) for r in rows], np.stack(rows)


def fathom_logits(fathom, path, ids):
    out = subprocess.run([fathom, "logits", "-m", path, "--tokens", "-", "--exact", "--all", "--format", "f32", "--quiet"],
                         input=" ".join(map(str, ids)).encode(), capture_output=True)
    if out.returncode:
        sys.exit(out.stderr.decode())
    return np.frombuffer(out.stdout, "<f4").reshape(len(ids), -1)


def compare(fathom, path, o):
    ref = Reference(path, o.tokens + o.greedy + 8)
    rng = np.random.default_rng(5)
    ids = [int(i) for i in rng.integers(3, ref.n_vocab, o.tokens)]
    drawn, rows = ref.greedy(ids, o.greedy)
    a, b = fathom_logits(fathom, path, ids + drawn[:-1]), np.concatenate([ref.logits(ids)[:-1], rows])
    worst = float((np.abs(a - b).max(1) / np.abs(b).max(1)).max())
    best = int((a.argmax(1) == b.argmax(1)).sum())
    # as long as they agree, fathom's greedy text is the reference's
    equal, gap = 0, 0.0
    for i, t in enumerate(drawn):
        if a[len(ids) - 1 + i].argmax() != t:
            top = np.sort(rows[i])[-2:]
            gap = float(top[1] - top[0])
            break
        equal += 1
    print(f"{path}: {len(a)} positions, max relative difference {worst:.2e}, best token equal at {best}; "
          f"{equal} of {o.greedy} greedy tokens equal" + (f", then a gap of {gap:.1e}" if equal < o.greedy else ""), flush=True)
    ll.llama_free(ref.ctx)
    ll.llama_model_free(ref.model)
    return worst <= o.limit and equal == o.greedy


def main():
    p = argparse.ArgumentParser()
    p.add_argument("fathom")
    p.add_argument("files", nargs="+")
    p.add_argument("--tokens", type=int, default=64)
    p.add_argument("--greedy", type=int, default=64)
    p.add_argument("--limit", type=float, default=1e-4)
    o = p.parse_args()
    log = ll.llama_log_callback(lambda level, text, data: None)
    ll.llama_log_set(log, ctypes.c_void_p(0))
    ll.llama_backend_init()
    sys.exit(0 if all([compare(o.fathom, f, o) for f in o.files]) else 1)


main()
