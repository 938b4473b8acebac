"""Makes tests/oracle/smollm2: what others say about the SmolLM2-135M-Instruct GGUF.

    python3 tools/make_oracle_smollm2.py --gguf FILE [--out DIR] [tokens] [logits]

tokens: llama.cpp's ids of many texts. logits: transformers in float32 on the dequantised
weights: logits and greedy continuations of four chats. tools/README.md has the schema.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import gguf
import jinja2
import llama_cpp
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parent / "ref"))
from texts import all_texts  # noqa: E402

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
CHATS = [   # none of their greedy choices is a close one
    [{"role": "user", "content": "Tell me about the moon."}],
    [{"role": "system", "content": "You answer in one short paragraph."},
     {"role": "user", "content": "What is rain?"}],
    [{"role": "system", "content": "You write Python."},
     {"role": "user", "content": "Write a function that adds two numbers."}],
    [{"role": "system", "content": "You speak French."},
     {"role": "user", "content": "Décris l'été à Paris."}],
]
LENGTH = 64     # tokens of a continuation, unless it ends by itself
TOP = 20
END = 2         # <|im_end|>


def render(messages: list[dict]) -> str:
    """ChatML as the template inside the GGUF writes it, ready for the answer."""
    if messages[0]["role"] != "system":
        messages = [{"role": "system", "content": SYSTEM}, *messages]
    turns = (f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return "".join(turns) + "<|im_start|>assistant\n"


def render_with_template(template: str, messages: list[dict]) -> str:
    return jinja2.Template(template).render(messages=messages, add_generation_prompt=True)


# --- the model ---------------------------------------------------------------

HF_NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def hf_name(name: str) -> str:
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{HF_NAMES[part]}.{kind}"


def pair_halves(weight: np.ndarray, heads: int) -> np.ndarray:
    """Undoes the row order of GGUF: its row 2i+p of a head is row p*width/2+i here."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def load_model(reader: gguf.GGUFReader) -> LlamaForCausalLM:
    def meta(key: str):
        return reader.fields["llama." + key].contents()

    heads, kv_heads = meta("attention.head_count"), meta("attention.head_count_kv")
    config = LlamaConfig(
        vocab_size=meta("vocab_size"), hidden_size=meta("embedding_length"),
        intermediate_size=meta("feed_forward_length"), num_hidden_layers=meta("block_count"),
        num_attention_heads=heads, num_key_value_heads=kv_heads,
        max_position_embeddings=meta("context_length"),
        rms_norm_eps=meta("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": meta("rope.freq_base")},
        tie_word_embeddings=True, attn_implementation="eager")
    state = {}
    for tensor in reader.tensors:
        weight = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if tensor.name.endswith("attn_q.weight"):
            weight = pair_halves(weight, heads)
        elif tensor.name.endswith("attn_k.weight"):
            weight = pair_halves(weight, kv_heads)
        state[hf_name(tensor.name)] = torch.from_numpy(weight.copy())
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model = LlamaForCausalLM(config)
    model.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def logits_of(model: LlamaForCausalLM, ids: list[int]) -> np.ndarray:
    return model(torch.tensor([ids]), use_cache=False).logits[0].double().numpy()


@torch.no_grad()
def greedy(model: LlamaForCausalLM, ids: list[int]) -> tuple[list[int], list[float]]:
    """The continuation, and how far each choice lay above the second best."""
    new, margins, cache, step = [], [], None, torch.tensor([ids])
    while len(new) < LENGTH and END not in new:
        result = model(step, cache=cache, use_cache=True)
        cache = result.cache
        best = result.logits[0, -1].topk(2)
        new.append(int(best.indices[0]))
        margins.append(float(best.values[0] - best.values[1]))
        step = torch.tensor([new[-1:]])
    return new, margins


def write_f32_copy(reader: gguf.GGUFReader, path: Path) -> None:
    """The same model with every weight dequantised."""
    writer = gguf.GGUFWriter(path, "llama")
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        items = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), kind, sub_type=items)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        weight = gguf.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, weight.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def ask_llama_cpp(path: Path, ids: list[int], new: list[int], logits: np.ndarray) -> dict:
    """Where llama.cpp's greedy continuation and logits (cache in F32) stand beside ours."""
    f32 = int(gguf.GGMLQuantizationType.F32)
    llama = llama_cpp.Llama(str(path), n_ctx=512, n_threads=1, verbose=False, logits_all=True,
                            type_k=f32, type_v=f32)
    llama.eval(ids)
    difference = np.abs(llama.scores[len(ids) - 1] - logits).max() / np.abs(logits).max()
    other: list[int] = []
    while len(other) < LENGTH and END not in other:
        other.append(int(llama.scores[llama.n_tokens - 1].argmax()))
        llama.eval(other[-1:])
    same = 0
    while same < min(len(new), len(other)) and new[same] == other[same]:
        same += 1
    return {"greedy_ids": other, "leading_ids_the_same": same,
            "last_logits_relative_difference": float(f"{difference:.2e}")}


# --- the two results -----------------------------------------------------------

def write_lines(path: Path, records: list[dict]) -> None:
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_bytes("".join(lines).encode())


def make_tokens(path: Path, out: Path) -> None:
    llama = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    records = []
    for text in all_texts():
        ids = llama.tokenize(text.encode(), add_bos=False, special=True)
        records.append({"text": text, "ids": ids})
    write_lines(out / "tokens.jsonl", records)
    print(f"tokens.jsonl: {len(records)} texts, {sum(len(r['ids']) for r in records)} ids")


def top_of(row: np.ndarray) -> dict:
    best = np.argsort(-row, kind="stable")[:TOP]
    return {"ids": best.tolist(), "logits": row[best].astype(np.float32).tolist()}


def answer_chat(number: int, model: LlamaForCausalLM, reader: gguf.GGUFReader,
                llama: llama_cpp.Llama, sources: dict[str, Path], out: Path) -> dict:
    messages = CHATS[number]
    prompt = render(messages)
    template = reader.fields["tokenizer.chat_template"].contents()
    if prompt != render_with_template(template, messages):
        raise RuntimeError(f"chat {number}: not what the template renders")
    ids = llama.tokenize(prompt.encode(), add_bos=False, special=True)
    logits = logits_of(model, ids)
    file = f"logits{number}.f32"
    logits[-1].astype("<f4").tofile(out / file)
    positions = sorted({0, len(ids) // 4, len(ids) // 2, 3 * len(ids) // 4, len(ids) - 2})
    new, margins = greedy(model, ids)
    print(f"chat {number}: {len(ids)} + {len(new)} ids, least margin {min(margins):.4f}")
    case = {
        "messages": messages, "prompt": prompt, "ids": ids, "last_logits": file,
        "top": [{"position": p} | top_of(logits[p]) for p in positions],
        "greedy": {
            "ids": new, "text": llama.detokenize([i for i in new if i != END]).decode(),
            "ended": new[-1] == END, "least_margin": round(min(margins), 5),
            "margins": [round(m, 4) for m in margins]},
    }
    for name, source in sources.items():
        case[name] = ask_llama_cpp(source, ids, new, logits[-1])
        print(f"  {name}: {case[name]['leading_ids_the_same']} ids the same, "
              f"logits off by {case[name]['last_logits_relative_difference']:.1e}", flush=True)
    return case


def make_logits(path: Path, out: Path) -> None:
    reader = gguf.GGUFReader(path)
    model = load_model(reader)
    llama = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    with tempfile.TemporaryDirectory() as scratch:
        sources = {"llama_cpp": path, "llama_cpp_f32": Path(scratch) / "f32.gguf"}
        write_f32_copy(reader, sources["llama_cpp_f32"])
        cases = [answer_chat(number, model, reader, llama, sources, out)
                 for number in range(len(CHATS))]
    record = {
        "model": {"file": path.name, "bytes": path.stat().st_size,
                  "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
        "versions": {name: version(name)
                     for name in ("torch", "transformers", "gguf", "llama-cpp-python")},
        "vocab": model.config.vocab_size,
        "cases": cases,
    }
    text = json.dumps(record, ensure_ascii=False, indent=1)
    (out / "logits.json").write_bytes(text.encode() + b"\n")


def main() -> int:
    default = Path(__file__).resolve().parent.parent / "tests" / "oracle" / "smollm2"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gguf", type=Path, required=True, metavar="FILE")
    parser.add_argument("--out", type=Path, default=default, metavar="DIR")
    parser.add_argument("parts", nargs="*", metavar="tokens|logits")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    parts = options.parts or ["tokens", "logits"]
    if "tokens" in parts:
        make_tokens(options.gguf, options.out)
    if "logits" in parts:
        make_logits(options.gguf, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
