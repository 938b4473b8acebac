"""Holds greedy answers of fathom against llama.cpp's, on the same GGUF.

    python3 tools/check_llama.py MODEL.gguf [--fathom build/fathom] [--tokens 12]

llama.cpp continues each prompt greedily, one token after the other (flash attention off, keys
and values in float32); fathom computes the logits of the same ids with --exact. Where the two
disagree about the best token, the distance of fathom's two best logits says whether it is
rounding: llama.cpp rounds activations to 8 bits before products with quantised weights, so
that its logits are off by what the run prints as deviation, the root mean square over the
vocabulary after the centre of both is taken out. A choice counts as equal where fathom's
margin is above six of these deviations; every such choice must be the same. A deviation above
--limit of the largest logit is no rounding any more. Both tokenizers must give the same ids for
the prompts.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import llama_cpp
import numpy as np

PROMPTS = [
    "The capital of France is", "Once upon a time there was", "Water boils at", "def add(a, b):",
    "In the beginning", "The sea was calm and", "She opened the door and", "1, 2, 3, 4,",
    "To be or not to be", "The king said to his son", "It was a dark and", "A cat and a dog",
    "My dear friend,", "The history of the world", "Chapter I.", "for i in range(10):",
    "He had never seen", "The sun rises in the", "What is the meaning of", "At last the old man",
]
SIGMAS = 6


def run_fathom(options, *arguments) -> bytes:
    return subprocess.run([options.fathom, *arguments], capture_output=True, check=True).stdout


def tokenize(options, text: str) -> list[int]:
    out = subprocess.run([options.fathom, "tokenize", "-m", options.model], input=text.encode(),
                         capture_output=True, check=True).stdout
    return [int(part) for part in out.split()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--fathom", default="build/fathom")
    parser.add_argument("--tokens", type=int, default=12)
    parser.add_argument("--limit", type=float, default=0.03)
    options = parser.parse_args()
    f32 = 0
    llama = llama_cpp.Llama(options.model, n_ctx=128, verbose=False, logits_all=True, type_k=f32,
                            type_v=f32, flash_attn=False)
    same = checked = close = tokens_differ = 0
    relative = 0.0
    worst = []
    for prompt in PROMPTS:
        ids = llama.tokenize(prompt.encode(), add_bos=False, special=False)
        if ids != tokenize(options, prompt):
            tokens_differ += 1
        llama.reset()
        llama.eval(ids)
        for _ in range(options.tokens):
            ids.append(int(np.argmax(llama.scores[len(ids) - 1])))
            llama.eval(ids[-1:])
        theirs = llama.scores[:len(ids)].astype(np.float64)
        with tempfile.TemporaryDirectory() as folder:
            listing = Path(folder, "ids")
            listing.write_text(",".join(map(str, ids)))
            raw = run_fathom(options, "logits", "-m", options.model, "--tokens",
                             listing.read_text(), "--all", "--exact", "--format", "f32")
        ours = np.frombuffer(raw, "<f4").reshape(len(ids), -1).astype(np.float64)
        theirs = theirs[:, :ours.shape[1]]
        diff = ours - theirs
        diff -= diff.mean(-1, keepdims=True)
        deviation = np.sqrt((diff**2).mean(-1))
        best = np.sort(ours, -1)
        margin = best[:, -1] - best[:, -2]
        equal = ours.argmax(-1) == theirs.argmax(-1)
        clear = margin > SIGMAS * deviation
        at = slice(len(ids) - options.tokens - 1, len(ids) - 1)   # where a token was chosen
        same += int(equal[at].sum())
        checked += options.tokens
        close += int((~clear[at]).sum())
        worst += [float(m / d) for m, d, e in zip(margin[at], deviation[at], equal[at]) if not e]
        relative = max(relative, float((deviation / np.abs(ours).max()).max()))
    bad = [x for x in worst if x > SIGMAS]
    print(f"{Path(options.model).name}: {len(PROMPTS)} prompts, {checked} greedy tokens: {same} the same, "
          f"{checked - close} clear of rounding, {len(bad)} of these differ; largest margin that flipped "
          f"{max(worst, default=0):.1f} deviations; deviation {relative:.1e} of the largest logit"
          + (f"; {tokens_differ} PROMPTS WITH OTHER IDS" if tokens_differ else ""))
    return 1 if bad or tokens_differ or relative > options.limit else 0


if __name__ == "__main__":
    sys.exit(main())
