"""Compares the reference with recorded vectors: check.py [--grad] DIR...

Each DIR is a model folder with a vectors.safetensors, or holds such folders.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import deepseek
import llama
from common import Weights, load_model, read_safetensors

MODELS = {"llama": llama, "qwen2": llama, "qwen3": llama,
          "deepseek_v2": deepseek, "deepseek_v3": deepseek}
TOLERANCE = 1e-4
MTP_WEIGHT = 0.3


def total_loss(config: dict, weights: Weights, tokens: np.ndarray) -> float:
    out = MODELS[config["model_type"]].forward(config, weights, tokens)
    return float(out["loss"][0] + MTP_WEIGHT * out.get("mtp.loss", [0])[0])


def gradient_error(config: dict, weights: Weights, vectors: Weights) -> float:
    """The worst disagreement of recorded gradients with central differences.

    Each tensor is moved along its own gradient plus a random direction of equal length.
    """
    random, worst, step = np.random.default_rng(1), 0.0, 1e-5
    for key, gradient in vectors.items():
        if not key.startswith("grad."):
            continue
        name, size = key.removeprefix("grad."), np.linalg.norm(gradient)
        if size == 0:
            continue
        noise = random.standard_normal(gradient.shape)
        direction = gradient / size + noise / np.linalg.norm(noise)
        direction /= np.linalg.norm(direction)
        ahead = weights | {name: weights[name] + step * direction}
        behind = weights | {name: weights[name] - step * direction}
        slope = (total_loss(config, ahead, vectors["tokens"])
                 - total_loss(config, behind, vectors["tokens"])) / (2 * step)
        worst = max(worst, abs(slope - np.sum(gradient * direction)) / size)
    return worst


def check(folder: Path, with_gradients: bool) -> bool:
    config, weights = load_model(folder)
    vectors = read_safetensors(folder / "vectors.safetensors")
    out = MODELS[config["model_type"]].forward(config, weights, vectors["tokens"])
    expected = {n for n in vectors if not n.startswith(("grad.", "adamw.")) and n != "tokens"}
    if expected != set(out):
        print(f"{folder.name}: names differ: {sorted(expected ^ set(out))}")
        return False

    error = {name: np.abs(out[name] - vectors[name]).max() / np.abs(vectors[name]).max()
             for name in sorted(out)}
    hidden = max(e for name, e in error.items() if name.startswith("hidden."))
    rest = "  ".join(f"{n} {e:.1e}" for n, e in error.items() if not n.startswith("hidden."))
    line = f"{folder.name:22} hidden {hidden:.1e}  {rest}"
    worst = max(error.values())
    if with_gradients:
        gradient = gradient_error(config, weights, vectors)
        worst = max(worst, gradient)
        line += f"  grad {gradient:.1e}"
    good = worst <= TOLERANCE
    print(line + ("" if good else "  TOO FAR"), flush=True)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grad", action="store_true",
                        help="also hold the gradients against finite differences (slow)")
    parser.add_argument("dirs", nargs="+", type=Path, metavar="DIR")
    options = parser.parse_args()
    folders = []
    for path in options.dirs:
        cases = sorted(file.parent for file in path.glob("*/vectors.safetensors"))
        folders += cases or [path]
    results = [check(folder, options.grad) for folder in folders]
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
