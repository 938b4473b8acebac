"""Holds logits that fathom wrote against another program's.

    fathom logits -m MODEL --tokens 1,2,3 --all --format f32 > logits.f32
    python3 tools/check_export.py MODEL 1,2,3 logits.f32

MODEL is a Hugging Face folder, computed by transformers in float32, or a .gguf file,
computed by llama.cpp (whose rounding of activations is far coarser than float32 unless
the file itself is F32).
"""

import argparse
import sys
from pathlib import Path

import numpy as np


def from_transformers(folder: Path, ids: list[int]) -> np.ndarray:
    import torch
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                 attn_implementation="eager")
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0].numpy()


def from_llama_cpp(path: Path, ids: list[int]) -> np.ndarray:
    import gguf
    import llama_cpp
    f32 = int(gguf.GGMLQuantizationType.F32)
    llama = llama_cpp.Llama(str(path), n_ctx=len(ids) + 8, verbose=False, logits_all=True,
                            type_k=f32, type_v=f32)
    llama.eval(ids)
    return llama.scores[:len(ids)].copy()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("ids", metavar="IDS", help="token ids with commas between")
    parser.add_argument("logits", type=Path, metavar="LOGITS", help="raw float32 [T,V]")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    options = parser.parse_args()
    ids = [int(part) for part in options.ids.split(",")]
    compute = from_llama_cpp if options.model.suffix == ".gguf" else from_transformers
    expected = compute(options.model, ids)
    found = np.fromfile(options.logits, "<f4")
    if found.size != expected.size:
        print(f"{options.logits}: {found.size} values, expected {list(expected.shape)}")
        return 1
    found = found.reshape(expected.shape)
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    same = int((found.argmax(-1) == expected.argmax(-1)).sum())
    print(f"max|diff|/max|logit| {error:.2e}, best token the same at {same} of {len(ids)}")
    return 0 if error <= options.tolerance else 1


if __name__ == "__main__":
    sys.exit(main())
