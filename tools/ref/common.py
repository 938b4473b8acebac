"""What the reference models share: files, norms, rotary embeddings, attention, losses.

Everything is float64 numpy and written for reading, not for speed.
Activations have the shape [batch, token, channel].
"""

import json
import math
from pathlib import Path

import numpy as np

Weights = dict[str, np.ndarray]


# --- files ---------------------------------------------------------------

def e4m3_table() -> np.ndarray:
    """The 256 values of FP8 E4M3: no infinities, 0x7f and 0xff are NaN."""
    table = np.empty(256)
    for code in range(256):
        exponent, mantissa = code >> 3 & 15, code & 7
        if exponent == 0:
            value = mantissa / 8 * 2.0 ** -6
        else:
            value = (1 + mantissa / 8) * 2.0 ** (exponent - 7)
        if code & 127 == 127:
            value = math.nan
        table[code] = -value if code & 128 else value
    return table


E4M3 = e4m3_table()


def decode(raw: bytes, dtype: str) -> np.ndarray:
    """The bytes of one safetensors entry as float64 or int64."""
    if dtype == "BF16":
        high = np.frombuffer(raw, "<u2").astype(np.uint32)
        return (high << 16).view(np.float32).astype(np.float64)
    if dtype == "F8_E4M3":
        return E4M3[np.frombuffer(raw, np.uint8)]
    if dtype == "I64":
        return np.frombuffer(raw, "<i8").astype(np.int64)
    formats = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
    if dtype not in formats:
        raise ValueError(f"unsupported safetensors dtype {dtype}")
    return np.frombuffer(raw, formats[dtype]).astype(np.float64)


def read_safetensors(path: Path) -> Weights:
    data = path.read_bytes()
    body = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:body])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        values = decode(data[body + begin:body + end], entry["dtype"])
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def apply_block_scales(weights: Weights, block: tuple[int, int]) -> Weights:
    """FP8 checkpoints: multiply each block of a weight by its `weight_scale_inv`."""
    plain = {n: w for n, w in weights.items() if not n.endswith("_scale_inv")}
    for name, weight in plain.items():
        scale = weights.get(name + "_scale_inv")
        if scale is not None:
            rows, columns = weight.shape
            spread = np.repeat(np.repeat(scale, block[0], 0), block[1], 1)
            plain[name] = weight * spread[:rows, :columns]
    return plain


def load_model(folder: Path) -> tuple[dict, Weights]:
    config = json.loads((folder / "config.json").read_text())
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        files = ["model.safetensors"]
    weights: Weights = {}
    for file in files:
        weights.update(read_safetensors(folder / file))
    block = config.get("quantization_config", {}).get("weight_block_size", [128, 128])
    return config, apply_block_scales(weights, (block[0], block[1]))


# --- rotary embeddings -----------------------------------------------------

def rope_settings(config: dict) -> dict:
    """One dict from either spelling: `rope_parameters`, or `rope_theta` + `rope_scaling`."""
    if config.get("rope_parameters"):
        settings = dict(config["rope_parameters"])
    else:
        settings = dict(config.get("rope_scaling") or {})
        settings["rope_theta"] = config["rope_theta"]
    settings["kind"] = settings.get("rope_type", settings.get("type", "default"))
    return settings


def yarn_mscale(factor: float, mscale: float) -> float:
    return 0.1 * mscale * math.log(factor) + 1 if factor > 1 else 1.0


def llama3_frequencies(freq: np.ndarray, settings: dict) -> np.ndarray:
    factor, length = settings["factor"], settings["original_max_position_embeddings"]
    low, high = settings["low_freq_factor"], settings["high_freq_factor"]
    share = (length * freq / (2 * math.pi) - low) / (high - low)
    share = np.clip(share, 0, 1)    # 1: a short wave, kept; 0: a long one, divided
    return (1 - share) * freq / factor + share * freq


def yarn_frequencies(freq: np.ndarray, width: int, settings: dict) -> np.ndarray:
    length = settings["original_max_position_embeddings"]

    def dimension(turns: float) -> float:
        return (width * math.log(length / (2 * math.pi * turns))
                / (2 * math.log(settings["rope_theta"])))

    low = max(math.floor(dimension(settings.get("beta_fast", 32))), 0)
    high = min(math.ceil(dimension(settings.get("beta_slow", 1))), width - 1)
    if low == high:
        high += 0.001
    ramp = np.clip((np.arange(width // 2) - low) / (high - low), 0, 1)
    return freq / settings["factor"] * ramp + freq * (1 - ramp)


def yarn_amplitude(settings: dict) -> float:
    """The factor on cos and sin (1 in every DeepSeek release)."""
    if "attention_factor" in settings:
        return settings["attention_factor"]
    factor = settings["factor"]
    if settings.get("mscale") and settings.get("mscale_all_dim"):
        return (yarn_mscale(factor, settings["mscale"])
                / yarn_mscale(factor, settings["mscale_all_dim"]))
    return yarn_mscale(factor, 1.0)


def rope_tables(config: dict, width: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin, each [token, width / 2]."""
    settings = rope_settings(config)
    freq = settings["rope_theta"] ** (-np.arange(0, width, 2) / width)
    amplitude = 1.0
    if settings["kind"] == "llama3":
        freq = llama3_frequencies(freq, settings)
    elif settings["kind"] == "yarn":
        freq = yarn_frequencies(freq, width, settings)
        amplitude = yarn_amplitude(settings)
    elif settings["kind"] != "default":
        raise ValueError(f"unsupported rope type {settings['kind']}")
    angle = np.arange(length)[:, None] * freq
    return np.cos(angle) * amplitude, np.sin(angle) * amplitude


def rotate_halves(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """x [..., token, width]; channel i turns with channel i + width/2."""
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def rotate_neighbours(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """x [..., token, width]; channel 2i turns with channel 2i + 1."""
    a, b = x[..., 0::2], x[..., 1::2]
    out = np.empty_like(x)
    out[..., 0::2] = a * cos - b * sin
    out[..., 1::2] = b * cos + a * sin
    return out


# --- building blocks ---------------------------------------------------------

def linear(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    y = x @ weights[name + ".weight"].T
    bias = weights.get(name + ".bias")
    return y if bias is None else y + bias


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return weight * x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def swiglu(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    gate = linear(x, weights, name + ".gate_proj")
    up = linear(x, weights, name + ".up_proj")
    return linear(gate * sigmoid(gate) * up, weights, name + ".down_proj")


def split_heads(x: np.ndarray, heads: int) -> np.ndarray:
    """[batch, token, heads * width] -> [batch, head, token, width]"""
    batch, length, channels = x.shape
    return x.reshape(batch, length, heads, channels // heads).transpose(0, 2, 1, 3)


def causal_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float) -> np.ndarray:
    """q, k, v [batch, head, token, width] -> [batch, token, heads * width]"""
    length = q.shape[2]
    score = scale * q @ k.swapaxes(-1, -2)
    score[..., np.triu(np.ones((length, length), bool), 1)] = -np.inf
    out = softmax(score) @ v
    return out.transpose(0, 2, 1, 3).reshape(q.shape[0], length, -1)


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    top = logits.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(axis=-1)) + top[..., 0]
    chosen = np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return float(np.mean(log_sum - chosen))


def next_token_loss(logits: np.ndarray, tokens: np.ndarray) -> float:
    return cross_entropy(logits[:, :-1], tokens[:, 1:])
