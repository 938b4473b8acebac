"""Llama, Qwen2 and Qwen3 (dense)."""

import numpy as np

from common import (Weights, causal_attention, linear, next_token_loss, rms_norm,
                    rope_tables, rotate_halves, split_heads, swiglu)


def attention(x: np.ndarray, config: dict, weights: Weights, name: str) -> np.ndarray:
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    width = config.get("head_dim") or config["hidden_size"] // heads

    q = split_heads(linear(x, weights, name + ".q_proj"), heads)
    k = split_heads(linear(x, weights, name + ".k_proj"), kv_heads)
    v = split_heads(linear(x, weights, name + ".v_proj"), kv_heads)
    if name + ".q_norm.weight" in weights:      # Qwen3
        q = rms_norm(q, weights[name + ".q_norm.weight"], config["rms_norm_eps"])
        k = rms_norm(k, weights[name + ".k_norm.weight"], config["rms_norm_eps"])

    cos, sin = rope_tables(config, width, x.shape[1])
    q, k = rotate_halves(q, cos, sin), rotate_halves(k, cos, sin)
    k = np.repeat(k, heads // kv_heads, axis=1)
    v = np.repeat(v, heads // kv_heads, axis=1)
    return linear(causal_attention(q, k, v, width ** -0.5), weights, name + ".o_proj")


def forward(config: dict, weights: Weights, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Everything a vectors.safetensors holds, by the same names (without gradients)."""
    eps = config["rms_norm_eps"]
    out = {}
    h = weights["model.embed_tokens.weight"][tokens]
    for layer in range(config["num_hidden_layers"]):
        out[f"hidden.{layer}"] = h
        name = f"model.layers.{layer}"
        u = rms_norm(h, weights[name + ".input_layernorm.weight"], eps)
        h = h + attention(u, config, weights, name + ".self_attn")
        u = rms_norm(h, weights[name + ".post_attention_layernorm.weight"], eps)
        h = h + swiglu(u, weights, name + ".mlp")
    h = rms_norm(h, weights["model.norm.weight"], eps)
    out[f"hidden.{config['num_hidden_layers']}"] = h

    tied = config.get("tie_word_embeddings") or "lm_head.weight" not in weights
    out["logits"] = linear(h, weights, "model.embed_tokens" if tied else "lm_head")
    out["loss"] = np.array([next_token_loss(out["logits"], tokens)])
    return out
