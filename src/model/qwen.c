/* Qwen2, Qwen2.5 (biases on q, k, v) and Qwen3 dense (norms on each q and k head).  models.md §2; tools/ref/llama.py. */
#include <stddef.h>

#include "model/dense.h"

static const struct fm_tensor_row qwen2_rows[] = {FM_DENSE_ROWS, FM_QKV_BIAS_ROWS};
static const struct fm_tensor_row qwen3_rows[] = {FM_DENSE_ROWS, FM_HEAD_NORM_ROWS};

/* No published dense model uses a window: it would be another model. */
static void no_window(struct fm_reader *r)
{
    if (fm_read_bool(r, "use_sliding_window", false))
        fm_reader_fail(r, "use_sliding_window", "sliding windows are not supported");
}

static void qwen2_json(struct fm_reader *r, struct fm_config *cfg)
{
    fm_dense_read_json(r, cfg);
    no_window(r);
    cfg->qkv_bias = true;
}

static void qwen2_gguf(struct fm_reader *r, struct fm_config *cfg)
{
    fm_dense_read_gguf(r, cfg);
    cfg->qkv_bias = true;
}

static void qwen3_json(struct fm_reader *r, struct fm_config *cfg)
{
    fm_dense_read_json(r, cfg);
    no_window(r);
    cfg->head_norms = true;
    if (fm_read_bool(r, "attention_bias", false))
        fm_reader_fail(r, "attention_bias", "biases are not supported in this family");
}

static void qwen3_gguf(struct fm_reader *r, struct fm_config *cfg)
{
    fm_dense_read_gguf(r, cfg);
    cfg->head_norms = true;
}

const struct fm_family fm_family_qwen2 = {
    .name = "qwen2",
    .hf_types = (const char *const[]){"qwen2", NULL},
    .gguf_arch = "qwen2",
    .hf_class = "Qwen2ForCausalLM",
    .rows = qwen2_rows,
    .n_rows = sizeof qwen2_rows / sizeof *qwen2_rows,
    .read_json = qwen2_json,
    .read_gguf = qwen2_gguf,
    .write_json = fm_dense_write_json,
    .write_gguf = fm_dense_write_gguf,
};

const struct fm_family fm_family_qwen3 = {
    .name = "qwen3",
    .hf_types = (const char *const[]){"qwen3", NULL},
    .gguf_arch = "qwen3",
    .hf_class = "Qwen3ForCausalLM",
    .rows = qwen3_rows,
    .n_rows = sizeof qwen3_rows / sizeof *qwen3_rows,
    .read_json = qwen3_json,
    .read_gguf = qwen3_gguf,
    .write_json = fm_dense_write_json,
    .write_gguf = fm_dense_write_gguf,
};
