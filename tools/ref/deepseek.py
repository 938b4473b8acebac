"""DeepSeek V2 and V3: latent attention, mixture of experts, multi-token prediction."""

import numpy as np

from common import (Weights, causal_attention, cross_entropy, linear, next_token_loss,
                    rms_norm, rope_settings, rope_tables, rotate_neighbours, sigmoid,
                    softmax, split_heads, swiglu, yarn_mscale)

LATENT_EPS = 1e-6   # of the two norms inside the attention, whatever rms_norm_eps says


def softmax_scale(config: dict) -> float:
    scale = (config["qk_nope_head_dim"] + config["qk_rope_head_dim"]) ** -0.5
    settings = rope_settings(config)
    if settings["kind"] == "yarn" and settings.get("mscale_all_dim"):
        scale *= yarn_mscale(settings["factor"], settings["mscale_all_dim"]) ** 2
    return scale


def attention(x: np.ndarray, config: dict, weights: Weights, name: str) -> np.ndarray:
    heads, rank = config["num_attention_heads"], config["kv_lora_rank"]
    nope, rope = config["qk_nope_head_dim"], config["qk_rope_head_dim"]
    cos, sin = rope_tables(config, rope, x.shape[1])

    if config.get("q_lora_rank"):
        q = linear(x, weights, name + ".q_a_proj")
        q = rms_norm(q, weights[name + ".q_a_layernorm.weight"], LATENT_EPS)
        q = linear(q, weights, name + ".q_b_proj")
    else:
        q = linear(x, weights, name + ".q_proj")
    q = split_heads(q, heads)
    q_turned = rotate_neighbours(q[..., nope:], cos, sin)
    q = np.concatenate([q[..., :nope], q_turned], axis=-1)

    latent = linear(x, weights, name + ".kv_a_proj_with_mqa")
    k_turned = rotate_neighbours(latent[..., rank:], cos, sin)      # one for all heads
    latent = rms_norm(latent[..., :rank], weights[name + ".kv_a_layernorm.weight"], LATENT_EPS)
    kv = split_heads(linear(latent, weights, name + ".kv_b_proj"), heads)
    k_turned = np.broadcast_to(k_turned[:, None], kv.shape[:3] + (rope,))
    k = np.concatenate([kv[..., :nope], k_turned], axis=-1)
    v = kv[..., nope:]
    return linear(causal_attention(q, k, v, softmax_scale(config)), weights, name + ".o_proj")


def largest(x: np.ndarray, count: int) -> np.ndarray:
    """True for the `count` largest along the last axis; the lower index wins a tie."""
    order = np.argsort(-x, axis=-1, kind="stable")[..., :count]
    mask = np.zeros(x.shape, bool)
    np.put_along_axis(mask, order, True, axis=-1)
    return mask


def allowed_experts(score: np.ndarray, config: dict, best_of_group: int) -> np.ndarray:
    """True for the experts of the groups whose `best_of_group` best scores sum highest."""
    groups = config["n_group"]
    grouped = score.reshape(score.shape[:-1] + (groups, -1))
    group_score = np.sort(grouped, axis=-1)[..., -best_of_group:].sum(axis=-1)
    kept = largest(group_score, config["topk_group"])
    return np.repeat(kept, grouped.shape[-1], axis=-1)


def route(x: np.ndarray, config: dict, weights: Weights, name: str) -> np.ndarray:
    """The weight of every expert for every token; zero where it is not chosen."""
    logits = linear(x, weights, name + ".gate")
    if config["model_type"] == "deepseek_v3":
        score = sigmoid(logits)
        choice = score + weights[name + ".gate.e_score_correction_bias"]
        choice = np.where(allowed_experts(choice, config, 2), choice, -np.inf)
    else:
        score = choice = softmax(logits)
        if config.get("topk_method") == "group_limited_greedy":
            choice = np.where(allowed_experts(choice, config, 1), choice, -np.inf)
    weight = np.where(largest(choice, config["num_experts_per_tok"]), score, 0)
    if config.get("norm_topk_prob"):
        weight = weight / (weight.sum(axis=-1, keepdims=True) + 1e-20)
    return weight * config["routed_scaling_factor"]


def mixture(x: np.ndarray, config: dict, weights: Weights, name: str) -> np.ndarray:
    weight = route(x, config, weights, name)
    out = swiglu(x, weights, name + ".shared_experts")
    for expert in range(config["n_routed_experts"]):
        out = out + weight[..., expert, None] * swiglu(x, weights, f"{name}.experts.{expert}")
    return out


def block(h: np.ndarray, config: dict, weights: Weights, layer: int) -> np.ndarray:
    eps, name = config["rms_norm_eps"], f"model.layers.{layer}"
    u = rms_norm(h, weights[name + ".input_layernorm.weight"], eps)
    h = h + attention(u, config, weights, name + ".self_attn")
    u = rms_norm(h, weights[name + ".post_attention_layernorm.weight"], eps)
    if layer < config["first_k_dense_replace"]:
        return h + swiglu(u, weights, name + ".mlp")
    return h + mixture(u, config, weights, name + ".mlp")


def predict_second(h: np.ndarray, tokens: np.ndarray, config: dict, weights: Weights,
                   layer: int) -> np.ndarray:
    """The MTP layer: from the hidden state of t and the token t+1, logits for token t+2."""
    eps, name = config["rms_norm_eps"], f"model.layers.{layer}"
    embedding = weights["model.embed_tokens.weight"][tokens[:, 1:]]
    joined = np.concatenate([
        rms_norm(embedding, weights[name + ".enorm.weight"], eps),
        rms_norm(h[:, :-1], weights[name + ".hnorm.weight"], eps)], axis=-1)
    g = block(linear(joined, weights, name + ".eh_proj"), config, weights, layer)
    g = rms_norm(g, weights[name + ".shared_head.norm.weight"], eps)
    return linear(g, weights, "lm_head")


def forward(config: dict, weights: Weights, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Everything a vectors.safetensors holds, by the same names (without gradients)."""
    layers = config["num_hidden_layers"]
    out = {}
    h = weights["model.embed_tokens.weight"][tokens]
    for layer in range(layers):
        out[f"hidden.{layer}"] = h
        h = block(h, config, weights, layer)
    h = rms_norm(h, weights["model.norm.weight"], config["rms_norm_eps"])
    out[f"hidden.{layers}"] = h
    out["logits"] = linear(h, weights, "lm_head")
    out["loss"] = np.array([next_token_loss(out["logits"], tokens)])

    # A re-saved checkpoint may announce an MTP layer that its file does not hold.
    if f"model.layers.{layers}.eh_proj.weight" in weights:
        out["mtp.logits"] = predict_second(h, tokens, config, weights, layers)
        loss = cross_entropy(out["mtp.logits"][:, :-1], tokens[:, 2:])
        out["mtp.loss"] = np.array([loss])
    return out
