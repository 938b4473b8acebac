"""Makes tests/golden: small random models with the answers of transformers.

    python3 tools/make_golden.py [--out DIR] [CASE...]

Each case becomes a folder with config.json, the weights, vectors.safetensors and case.json;
tools/README.md describes them. Everything is computed on the CPU in float32 with eager
attention. Seeds are tried in turn until no router choice is a close one.
"""

import argparse
import copy
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2TopkRouter
from transformers.models.deepseek_v3.modeling_deepseek_v3 import (
    DeepseekV3DecoderLayer, DeepseekV3RMSNorm, DeepseekV3TopkRouter)

BATCH = 2
MARGIN = 2e-5           # least distance of two router scores that decide a choice
MARGIN_TRAINING = 1e-5  # the same during the optimiser steps, where errors have grown
MTP_WEIGHT = 0.3
STEPS = 10
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
TOLERANCE = {
    "logits, hidden": "max|diff| <= 1e-4 * max|value|",
    "grad": "|diff|_2 <= 1e-4 * |grad|_2 per tensor",
    "adamw.loss": "1e-4 absolute",
}

COMMON = {"vocab_size": 80, "hidden_size": 32, "intermediate_size": 48,
          "num_hidden_layers": 3, "num_attention_heads": 4, "hidden_act": "silu",
          "max_position_embeddings": 2048, "bos_token_id": 0, "eos_token_id": 1,
          "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "rope_scaling": None,
          "tie_word_embeddings": False}
LATENT = {"kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
          "num_key_value_heads": 4, "first_k_dense_replace": 1, "moe_layer_freq": 1,
          "moe_intermediate_size": 16}
V2 = {"scoring_func": "softmax", "norm_topk_prob": False, "n_shared_experts": 2,
      "num_experts_per_tok": 3}
V3 = {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "norm_topk_prob": True,
      "n_shared_experts": 1, "routed_scaling_factor": 2.5, "q_lora_rank": 12,
      "num_nextn_predict_layers": 0}


@dataclass
class Case:
    name: str
    family: str
    config: dict
    length: int = 24
    dtype: str = "f32"
    published: bool = True      # spelling of config.json; False: as transformers writes it
    shard_bytes: int = 0        # 0: one file
    mtp: bool = False
    stored: dict = field(init=False)

    def __post_init__(self) -> None:
        self.config = {"model_type": self.family} | COMMON | self.config
        self.stored = {"dtype": self.dtype, "published": self.published}
        if self.shard_bytes:
            self.stored["shard_bytes"] = self.shard_bytes

    def hf_config(self) -> transformers.PretrainedConfig:
        return AutoConfig.for_model(**copy.deepcopy(self.config))   # it edits its arguments


CASES = [
    # Of its eight frequencies one is kept, one lies between the bounds, six are divided.
    Case("llama-tied-scaled", "llama", {
        "num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True,
        "rms_norm_eps": 1e-5, "rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 32}},
         length=40, dtype="bf16"),
    Case("qwen2-tied", "qwen2", {
        "num_key_value_heads": 2, "rope_theta": 1000000.0, "tie_word_embeddings": True},
         dtype="f16", published=False),
    Case("qwen3", "qwen3", {
        "num_key_value_heads": 2, "head_dim": 12, "rope_theta": 1000000.0}, published=False),
    Case("v2-lite", "deepseek_v2", LATENT | V2 | {
        "q_lora_rank": None, "n_routed_experts": 8, "topk_method": "greedy",
        "n_group": 1, "topk_group": 1, "routed_scaling_factor": 1.0}, published=False),
    # rms_norm_eps differs from the 1e-6 of the latent norms, whose inputs are made small.
    # Of its eight YaRN frequencies two are kept, one is blended, five are divided.
    Case("v2-groups-yarn", "deepseek_v2", LATENT | V2 | {
        "q_lora_rank": 12, "n_routed_experts": 16, "topk_method": "group_limited_greedy",
        "n_group": 4, "topk_group": 2, "routed_scaling_factor": 4.0, "rms_norm_eps": 1e-5,
        "qk_rope_head_dim": 16, "rope_scaling": {
            "type": "yarn", "factor": 8.0, "beta_fast": 1.5, "beta_slow": 0.25,
            "mscale": 0.707, "mscale_all_dim": 0.707,
            "original_max_position_embeddings": 32}},
         length=40, shard_bytes=100_000),
    Case("v3-groups-yarn", "deepseek_v3", LATENT | V3 | {
        "n_routed_experts": 16, "num_experts_per_tok": 4, "n_group": 4, "topk_group": 2,
        "rms_norm_eps": 1e-5, "rope_scaling": {
            "type": "yarn", "factor": 40.0, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0,
            "mscale_all_dim": 1.0, "original_max_position_embeddings": 16}},
         length=40, dtype="bf16"),
    Case("v3-one-group", "deepseek_v3", LATENT | V3 | {
        "num_hidden_layers": 2, "q_lora_rank": None, "n_routed_experts": 8,
        "num_experts_per_tok": 3, "n_group": 1, "topk_group": 1}, published=False),
    Case("v3-mtp", "deepseek_v3", LATENT | V3 | {
        "num_hidden_layers": 2, "n_routed_experts": 8, "num_experts_per_tok": 3, "n_group": 2,
        "topk_group": 1, "num_nextn_predict_layers": 1}, mtp=True),
]


class Mtp(nn.Module):
    """The multi-token-prediction layer; embedding and head are the main model's."""

    def __init__(self, config: transformers.PretrainedConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.rms_norm_eps
        self.enorm = DeepseekV3RMSNorm(width, eps)
        self.hnorm = DeepseekV3RMSNorm(width, eps)
        self.eh_proj = nn.Linear(2 * width, width, bias=False)
        self.block = DeepseekV3DecoderLayer(config, config.num_hidden_layers)
        self.norm = DeepseekV3RMSNorm(width, eps)

    def forward(self, model: nn.Module, hidden: Tensor, tokens: Tensor) -> Tensor:
        embedding = model.model.embed_tokens(tokens[:, 1:])
        joined = torch.cat([self.enorm(embedding), self.hnorm(hidden[:, :-1])], -1)
        x = self.eh_proj(joined)
        length = x.shape[1]
        rope = model.model.rotary_emb(x, torch.arange(length)[None])
        mask = torch.full((length, length), -torch.inf).triu(1)[None, None]
        x = self.block(x, attention_mask=mask, position_embeddings=rope)
        return model.lm_head(self.norm(x))


class Network(nn.Module):
    """A transformers model, its MTP layer if it has one, and what the tests want of them."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        config = case.hf_config()
        self.model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        self.mtp = Mtp(self.model.config) if case.mtp else None
        self.margin = float("inf")
        for module in self.modules():
            if isinstance(module, (DeepseekV2TopkRouter, DeepseekV3TopkRouter)):
                module.register_forward_hook(self.watch_router)

    def watch_router(self, router: nn.Module, inputs: tuple, outputs: tuple) -> None:
        self.margin = min(self.margin, router_margin(router, outputs[0].detach()))

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        result = self.model(tokens, output_hidden_states=True, use_cache=False)
        out = {"logits": result.logits,
               "loss": cross_entropy(result.logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())}
        out |= {f"hidden.{i}": h for i, h in enumerate(result.hidden_states)}
        if self.mtp:
            logits = self.mtp(self.model, result.hidden_states[-1], tokens)
            out["mtp.logits"] = logits
            out["mtp.loss"] = cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 2:].flatten())
        return out

    def objective(self, out: dict[str, Tensor]) -> Tensor:
        return out["loss"] + MTP_WEIGHT * out["mtp.loss"] if self.mtp else out["loss"]

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and router biases by published name, experts still in one piece."""
        found = dict(self.model.named_parameters())
        found |= {n: b for n, b in self.model.named_buffers() if "e_score_correction" in n}
        if self.mtp:
            prefix = f"model.layers.{self.model.config.num_hidden_layers}."
            for name, tensor in (*self.mtp.named_parameters(), *self.mtp.named_buffers()):
                name = name.removeprefix("block.")
                if name == "norm.weight":
                    name = "shared_head.norm.weight"
                found[prefix + name] = tensor
        return found


def gap(score: Tensor, kept: int) -> float:
    """The least distance between the last score kept and the first one dropped."""
    if kept >= score.shape[-1]:
        return float("inf")
    best = score.topk(kept + 1).values
    distance = best[..., kept - 1] - best[..., kept]
    return float(distance[distance.isfinite()].min())


def router_margin(router: nn.Module, logits: Tensor) -> float:
    if isinstance(router, DeepseekV3TopkRouter):
        score, best_of_group, groups = logits.sigmoid(), 2, router.num_group
        score = score + router.e_score_correction_bias
    else:
        score, best_of_group, groups = logits.softmax(-1), 1, router.num_group
        if router.topk_method == "greedy":
            return gap(score, router.top_k)
    grouped = score.unflatten(-1, (groups, -1))
    group_score = grouped.topk(best_of_group).values.sum(-1)
    chosen = group_score.topk(router.topk_group).indices
    allowed = torch.zeros_like(group_score, dtype=torch.bool).scatter(-1, chosen, True)
    allowed_score = grouped.masked_fill(~allowed[..., None], -torch.inf).flatten(-2)
    return min(gap(group_score, router.topk_group), gap(allowed_score, router.top_k))


@torch.no_grad()
def randomise(network: Network, dtype: torch.dtype) -> None:
    """Weights that make every part matter, rounded to the dtype they are stored in."""
    for name, tensor in network.tensors().items():
        noise = torch.randn(tensor.shape)
        if name.endswith("norm.weight"):
            noise = 1 + 0.2 * noise
        elif name.endswith("e_score_correction_bias"):
            tensor.copy_(0.2 * noise)
            continue
        elif name.endswith(".bias"):
            noise *= 0.3
        else:
            noise *= tensor.shape[-1] ** -0.5
        if name.endswith("q_a_proj.weight"):
            noise *= 0.1
        elif name.endswith("kv_a_proj_with_mqa.weight"):
            noise[:network.model.config.kv_lora_rank] *= 0.1
        tensor.copy_(noise.to(dtype))


def published(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Takes the experts apart, as published checkpoints store them."""
    out = {}
    for name, tensor in tensors.items():
        if name.endswith("experts.gate_up_proj"):
            stem = name.removesuffix(".gate_up_proj")
            for expert, both in enumerate(tensor):
                gate, up = both.chunk(2)
                out[f"{stem}.{expert}.gate_proj.weight"] = gate
                out[f"{stem}.{expert}.up_proj.weight"] = up
        elif name.endswith("experts.down_proj"):
            stem = name.removesuffix(".down_proj")
            for expert, down in enumerate(tensor):
                out[f"{stem}.{expert}.down_proj.weight"] = down
        else:
            out[name] = tensor
    return {name: tensor.detach().clone().contiguous() for name, tensor in out.items()}


def stored_weights(network: Network, case: Case) -> dict[str, Tensor]:
    weights = published(network.tensors())
    if case.mtp:
        prefix = f"model.layers.{case.config['num_hidden_layers']}."
        weights[prefix + "embed_tokens.weight"] = weights["model.embed_tokens.weight"].clone()
        weights[prefix + "shared_head.head.weight"] = weights["lm_head.weight"].clone()
    return {name: tensor if name.endswith("correction_bias") else tensor.to(DTYPES[case.dtype])
            for name, tensor in weights.items()}


def train(network: Network, tokens: Tensor) -> Tensor:
    """The loss before each of ten AdamW steps on the same batch."""
    parameters = list(network.parameters())
    groups = [{"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.1},
              {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8)
    losses = []
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss = network.objective(network(tokens))
        losses.append(loss.item())
        loss.backward()
        optimiser.step()
    return torch.tensor(losses)


def compute(case: Case, seed: int) -> tuple[dict, dict, dict] | None:
    """(weights, vectors, margins), or nothing if a router choice is too close."""
    torch.manual_seed(seed)
    network = Network(case)
    randomise(network, DTYPES[case.dtype])
    tokens = torch.randint(case.config["vocab_size"], (BATCH, case.length))
    weights = stored_weights(network, case)

    out = network(tokens)
    margins = {"initial": network.margin}
    if network.margin < MARGIN:
        return None
    network.objective(out).backward()
    vectors = {"tokens": tokens}
    vectors |= {name: value.detach().clone().contiguous() for name, value in out.items()}
    vectors["loss"] = vectors["loss"].reshape(1)
    if case.mtp:
        vectors["mtp.loss"] = vectors["mtp.loss"].reshape(1)
    gradients = {name: tensor.grad for name, tensor in network.tensors().items()
                 if tensor.requires_grad}
    vectors |= {"grad." + name: grad for name, grad in published(gradients).items()}

    vectors["adamw.loss"] = train(network, tokens)
    margins["training"] = network.margin
    if network.margin < MARGIN_TRAINING:
        return None
    return weights, vectors, margins


def write_config(case: Case, folder: Path) -> None:
    dtype = str(DTYPES[case.dtype]).removeprefix("torch.")
    if case.published:
        architecture = type(AutoModelForCausalLM.from_config(case.hf_config())).__name__
        config = {"architectures": [architecture]} | case.config
        config["torch_dtype"] = dtype
    else:
        config = json.loads(case.hf_config().to_json_string())
        # Fields of our own dict that transformers does not know are published ones.
        for name in ("rope_theta", "rope_scaling", "scoring_func", "moe_layer_freq"):
            config.pop(name, None)
        config["dtype"] = dtype
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def write_weights(case: Case, weights: dict[str, Tensor], folder: Path) -> None:
    metadata = {"format": "pt"}
    if not case.shard_bytes:
        save_file(weights, folder / "model.safetensors", metadata)
        return
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in weights.items():
        if size and size + tensor.nbytes > case.shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    place = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / file, metadata)
        place |= {name: file for name in shard}
    index = {"metadata": {"total_size": sum(t.nbytes for t in weights.values())},
             "weight_map": dict(sorted(place.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def verify(folder: Path, vectors: dict[str, Tensor]) -> None:
    """What was written must give the same logits when transformers loads it."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                 attn_implementation="eager")
    with torch.no_grad():
        logits = model(vectors["tokens"]).logits
    error = float((logits - vectors["logits"]).abs().max() / vectors["logits"].abs().max())
    if error > 1e-6:
        raise RuntimeError(f"{folder.name}: reloaded logits differ by {error:.1e}")


def make(case: Case, first_seed: int, out: Path) -> None:
    for seed in range(first_seed, first_seed + 200):
        result = compute(case, seed)
        if result:
            break
    else:
        raise RuntimeError(f"{case.name}: every seed has a close router choice")
    weights, vectors, margins = result
    folder = out / case.name
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    write_config(case, folder)
    write_weights(case, weights, folder)
    save_file(vectors, folder / "vectors.safetensors", {"format": "pt"})
    record = {"name": case.name, "family": case.family, "seed": seed,
              "tokens": [BATCH, case.length], "stored": case.stored, "tolerance": TOLERANCE,
              "torch": torch.__version__, "transformers": transformers.__version__}
    if margins["initial"] < float("inf"):
        record["router_margin"] = margins
    (folder / "case.json").write_text(json.dumps(record, indent=1) + "\n")
    verify(folder, vectors)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{case.name:20} seed {seed}  {size / 1e3:6.0f} kB  adamw "
          f"{vectors['adamw.loss'][0]:.4f} -> {vectors['adamw.loss'][-1]:.4f}", flush=True)


def main() -> int:
    default = Path(__file__).resolve().parent.parent / "tests" / "golden"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=default, metavar="DIR")
    parser.add_argument("cases", nargs="*", metavar="CASE",
                        help="any of " + ", ".join(case.name for case in CASES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for number, case in enumerate(CASES):
        if not options.cases or case.name in options.cases:
            make(case, 1000 * (number + 1), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
