/* Llama 2, 3, 3.1–3.3 and every model of their shape (SmolLM, R1-Distill-Llama).  models.md §2; tools/ref/llama.py.
 * Differences to Hugging Face: none in the function; GGUF files hold q and k rows permuted, so RoPE pairs neighbours there. */
#include <stddef.h>
#include <stdio.h>

#include "model/dense.h"

static const struct fm_tensor_row rows[] = {FM_DENSE_ROWS};

static void read_json(struct fm_reader *r, struct fm_config *cfg)
{
    fm_dense_read_json(r, cfg);
    if (fm_read_bool(r, "attention_bias", false) || fm_read_bool(r, "mlp_bias", false))
        fm_reader_fail(r, "attention_bias", "biases are not supported in this family");
}

static void read_gguf(struct fm_reader *r, struct fm_config *cfg)
{
    fm_dense_read_gguf(r, cfg);
    cfg->rope_interleaved = true;
    if (fm_read_int(r, "expert_count", 0, FM_MAX_EXPERTS, 0))
        fm_reader_fail(r, "expert_count", "experts are not supported in this family");
}

static void write_json(const struct fm_config *cfg, json_t *j)
{
    fm_dense_write_json(cfg, j);
    json_object_set_new(j, "attention_bias", json_false());
    json_object_set_new(j, "mlp_bias", json_false());
}

const struct fm_family fm_family_llama = {
    .name = "llama",
    .hf_types = (const char *const[]){"llama", NULL},
    .gguf_arch = "llama",
    .hf_class = "LlamaForCausalLM",
    .rows = rows,
    .n_rows = sizeof rows / sizeof *rows,
    .permuted_gguf = true,
    .read_json = read_json,
    .read_gguf = read_gguf,
    .write_json = write_json,
    .write_gguf = fm_dense_write_gguf,
};
