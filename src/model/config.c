/* From config.json or GGUF keys to struct fm_config: the numbers all families share, then the family's own. */
#include "model/config.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "model/quant_config.h"
#include "model/rope_config.h"

static const struct fm_family *family_of_json(const json_t *j)
{
    const char *type = fm_json_str(j, "model_type", "");
    for (int i = 0; i < fm_n_families; i++)
        for (const char *const *t = fm_families[i]->hf_types; *t; t++)
            if (!strcmp(*t, type)) return fm_families[i];
    return NULL;
}

static const struct fm_family *family_of_gguf(const struct fm_file *f, struct fm_str arch)
{
    for (int i = 0; i < fm_n_families; i++) {
        const struct fm_family *m = fm_families[i];
        if (strlen(m->gguf_arch) == arch.len && !memcmp(m->gguf_arch, arch.data, arch.len) &&
            (!m->gguf_match || m->gguf_match(f)))
            return m;
    }
    return NULL;
}

static enum fm_status unknown_family(const char *where, const char *what, const char *type, int len,
                                     struct fm_error *err)
{
    (void)fm_fail(err, FM_ERR_INPUT, "open model: %s: %s '%.*s' is not supported", where, what, len, type);
    fm_hint(err, "supported families: llama, qwen2, qwen3, deepseek_v2, deepseek_v3");
    return FM_ERR_INPUT;
}

/* What attention and its matrices can hold (op.h).  H is within FM_OP_HEADS; no product here exceeds 2^31. */
static void check_heads(struct fm_reader *r, const struct fm_config *cfg)
{
    const struct fm_mla_shape *a = &cfg->mla;
    const char *const key = "num_attention_heads", *const wide = "makes the heads together too wide";
    if (!a->Rkv) {
        if (cfg->mha.Dh < 2 || 3 * cfg->mha.Dh > FM_OP_HEAD_WIDTH)
            fm_reader_fail(r, "head_dim", "is too small or too large");
        if ((int64_t)cfg->H * cfg->mha.Dh > FM_OP_INPUTS) fm_reader_fail(r, key, wide);
        return;
    }
    if (3 * a->Rkv + a->Dr > FM_OP_HEAD_WIDTH || a->Dn + a->Dr + 2 * a->Dv > FM_OP_HEAD_WIDTH)
        fm_reader_fail(r, "kv_lora_rank", "and the widths of a head are too large");
    const int k = a->Dn + (a->Dr > a->Dv ? a->Dr : a->Dv), most = a->Rkv > k ? a->Rkv : k;
    if ((int64_t)cfg->H * most > FM_OP_INPUTS) fm_reader_fail(r, key, wide);
}

/* What must hold for any family before a single size is computed from these numbers. */
static void check(struct fm_reader *r, const struct fm_config *cfg)
{
    const struct fm_router *m = &cfg->moe.router;
    if (cfg->rope_dim % 2) fm_reader_fail(r, "rope dimension", "is odd");
    if (!cfg->mla.Rkv && cfg->mha.Hkv > 0 && cfg->mha.H % cfg->mha.Hkv)
        fm_reader_fail(r, "num_key_value_heads", "does not divide the number of heads");
    if (!cfg->mla.Rkv && cfg->rope_dim != cfg->mha.Dh)
        fm_reader_fail(r, "head_dim", "partial rotation is not supported");
    check_heads(r, cfg);
    if (!m->E) return;
    if (m->n_group > FM_OP_GROUPS) fm_reader_fail(r, "n_group", "is too large");
    if (m->K > m->E) fm_reader_fail(r, "num_experts_per_tok", "is larger than the number of experts");
    if (m->n_group < 1 || m->E % m->n_group) fm_reader_fail(r, "n_group", "does not divide the number of experts");
    if (m->topk_group < 1 || m->topk_group > m->n_group)
        fm_reader_fail(r, "topk_group", "is not within 1 … n_group");
    else if (m->K > m->E / m->n_group * m->topk_group)
        fm_reader_fail(r, "num_experts_per_tok", "is larger than the experts of the kept groups");
}

enum fm_status fm_config_from_json(const json_t *j, const char *where, struct fm_config *out, struct fm_error *err)
{
    struct fm_config cfg = {0};
    if (!json_is_object(j)) return fm_fail(err, FM_ERR_INPUT, "read model config: %s: is not a JSON object", where);
    if (!(cfg.family = family_of_json(j))) {
        const char *type = fm_json_str(j, "model_type", "(none)");
        return unknown_family(where, "model_type", type, (int)strlen(type), err);
    }
    struct fm_reader r = {.json = j, .where = where, .err = err};
    cfg.V = fm_read_int(&r, "vocab_size", 1, FM_MAX_VOCAB, FM_NEEDED);
    cfg.D = fm_read_int(&r, "hidden_size", 1, FM_MAX_DIM, FM_NEEDED);
    cfg.L = fm_read_int(&r, "num_hidden_layers", 1, FM_MAX_LAYERS - 1, FM_NEEDED);
    cfg.F = fm_read_int(&r, "intermediate_size", 1, FM_MAX_DIM, FM_NEEDED);
    cfg.H = fm_read_int(&r, "num_attention_heads", 1, FM_OP_HEADS, FM_NEEDED);
    cfg.eps = (float)fm_read_num(&r, "rms_norm_eps", 0, 1, 1e-6);
    cfg.tied = fm_read_bool(&r, "tie_word_embeddings", false);
    cfg.ctx_train = fm_read_int(&r, "max_position_embeddings", 1, FM_MAX_CTX, 2048);
    cfg.bos = fm_read_int(&r, "bos_token_id", 0, FM_MAX_VOCAB, -1);
    const json_t *eos = json_object_get(j, "eos_token_id");
    cfg.eos = json_is_integer(eos) ? fm_read_int(&r, "eos_token_id", 0, FM_MAX_VOCAB, -1)
                                   : -1; /* lists: the tokenizer knows */
    cfg.init_std = (float)fm_read_num(&r, "initializer_range", 1e-6, 10, 0.02);
    cfg.family->read_json(&r, &cfg);
    fm_quant_read_json(&r, &cfg);
    fm_rope_read_json(&r, &cfg);
    fm_rope_amplitudes(&r, &cfg);
    check(&r, &cfg);
    FM_TRY(r.status);
    *out = cfg;
    return FM_OK;
}

static int gguf_vocab(struct fm_reader *r)
{
    const struct fm_tensor *t = fm_file_find(r->gguf, "token_embd.weight");
    if (t && t->n_dims == 2 && t->shape[0] >= 1 && t->shape[0] <= FM_MAX_VOCAB) return (int)t->shape[0];
    return fm_read_int(r, "vocab_size", 1, FM_MAX_VOCAB, FM_NEEDED);
}

static enum fm_status from_gguf(const struct fm_file *f, struct fm_config *out, struct fm_error *err)
{
    struct fm_config cfg = {0};
    struct fm_str arch = {"", 0}, name = {"", 0};
    const char *where = fm_file_path(f);
    char prefix[64];
    if (!fm_meta_str(f, "general.architecture", &arch) || arch.len >= sizeof prefix)
        return fm_fail(err, FM_ERR_INPUT, "open model: %s: has no general.architecture", where);
    if (!(cfg.family = family_of_gguf(f, arch)))
        return unknown_family(where, "architecture", arch.data, (int)arch.len, err);
    snprintf(prefix, sizeof prefix, "%.*s", (int)arch.len, arch.data);
    struct fm_reader r = {.gguf = f, .arch = prefix, .where = where, .err = err};
    (void)fm_meta_str(f, "general.name", &name);
    snprintf(cfg.name, sizeof cfg.name, "%.*s", (int)(name.len < 63 ? name.len : 63), name.data);
    cfg.V = gguf_vocab(&r);
    cfg.D = fm_read_int(&r, "embedding_length", 1, FM_MAX_DIM, FM_NEEDED);
    cfg.L = fm_read_int(&r, "block_count", 1, FM_MAX_LAYERS - 1, FM_NEEDED);
    cfg.F = fm_read_int(&r, "feed_forward_length", 1, FM_MAX_DIM, FM_NEEDED);
    cfg.H = fm_read_int(&r, "attention.head_count", 1, FM_OP_HEADS, FM_NEEDED);
    cfg.eps = (float)fm_read_num(&r, "attention.layer_norm_rms_epsilon", 0, 1, 1e-5);
    cfg.tied = !fm_file_find(f, "output.weight");
    cfg.ctx_train = fm_read_int(&r, "context_length", 1, FM_MAX_CTX, 2048);
    cfg.bos = (int)fm_meta_int(f, "tokenizer.ggml.bos_token_id", -1);
    cfg.eos = (int)fm_meta_int(f, "tokenizer.ggml.eos_token_id", -1);
    cfg.init_std = 0.02f;
    cfg.family->read_gguf(&r, &cfg);
    fm_rope_read_gguf(&r, &cfg);
    fm_rope_amplitudes(&r, &cfg);
    check(&r, &cfg);
    FM_TRY(r.status);
    *out = cfg;
    return FM_OK;
}

static enum fm_status from_folder(const struct fm_file *f, struct fm_config *cfg, struct fm_error *err)
{
    const char *folder = fm_file_path(f);
    struct fm_buf path = {0};
    json_t *j = NULL;
    fm_buf_printf(&path, "%s/config.json", folder);
    if (path.failed) return fm_fail_memory(err, "path", 0);
    enum fm_status st = fm_json_read(path.data, &j, err);
    if (!st) st = fm_config_from_json(j, path.data, cfg, err);
    json_decref(j);
    fm_buf_release(&path);
    if (st) return st;
    const size_t n = strlen(folder);
    const char *end = folder + n, *start;
    while (end > folder && end[-1] == '/') end--;
    for (start = end; start > folder && start[-1] != '/'; start--) continue;
    snprintf(cfg->name, sizeof cfg->name, "%.*s", (int)(end - start < 63 ? end - start : 63), start);
    return FM_OK;
}

enum fm_status fm_config_from_file(const struct fm_file *f, struct fm_config *out, struct fm_error *err)
{
    struct fm_config cfg;
    char name[64];
    switch (fm_file_container(f)) {
    case FM_GGUF: FM_TRY(from_gguf(f, &cfg, err)); break;
    case FM_HF_FOLDER: FM_TRY(from_folder(f, &cfg, err)); break;
    default:
        (void)fm_fail(err, FM_ERR_INPUT, "open model: %s: a safetensors file alone has no config", fm_file_path(f));
        fm_hint(err, "give the folder that holds it together with config.json");
        return FM_ERR_INPUT;
    }
    /* Re-saved checkpoints announce MTP blocks that they do not hold. */
    snprintf(name, sizeof name,
             fm_file_container(f) == FM_GGUF ? "blk.%d.nextn.eh_proj.weight" : "model.layers.%d.eh_proj.weight", cfg.L);
    if (cfg.n_mtp && !fm_file_find(f, name)) cfg.n_mtp = 0;
    *out = cfg;
    return FM_OK;
}

json_t *fm_config_to_json(const struct fm_config *cfg)
{
    json_t *j = json_pack("{s:[s], s:s, s:i, s:i, s:i, s:i, s:i, s:f, s:b, s:i, s:s, s:f, s:s}", "architectures",
                          cfg->family->hf_class, "model_type", cfg->family->hf_types[0], "vocab_size", cfg->V,
                          "hidden_size", cfg->D, "num_hidden_layers", cfg->L, "intermediate_size", cfg->F,
                          "num_attention_heads", cfg->H, "rms_norm_eps", (double)cfg->eps, "tie_word_embeddings",
                          cfg->tied, "max_position_embeddings", cfg->ctx_train, "hidden_act", "silu",
                          "initializer_range", (double)cfg->init_std, "torch_dtype", "float32");
    if (!j) return NULL;
    json_object_set_new(j, "bos_token_id", cfg->bos >= 0 ? json_integer(cfg->bos) : json_null());
    json_object_set_new(j, "eos_token_id", cfg->eos >= 0 ? json_integer(cfg->eos) : json_null());
    cfg->family->write_json(cfg, j);
    fm_rope_write_json(cfg, j);
    return j;
}

void fm_config_to_gguf(const struct fm_config *cfg, struct fm_writer *w)
{
    const char *arch = cfg->family->gguf_arch;
    const struct {
        const char *key;
        int value;
    } ints[] = {{"vocab_size", cfg->V},  {"context_length", cfg->ctx_train}, {"embedding_length", cfg->D},
                {"block_count", cfg->L}, {"feed_forward_length", cfg->F},    {"attention.head_count", cfg->H}};
    char key[96];
    fm_writer_meta_str(w, "general.architecture", arch, strlen(arch));
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        snprintf(key, sizeof key, "%s.%s", arch, ints[i].key);
        fm_writer_meta_int(w, key, 4, ints[i].value);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
    fm_writer_meta_float(w, key, cfg->eps);
    cfg->family->write_gguf(cfg, w);
    fm_rope_write_gguf(cfg, w, arch);
}

struct fm_kv_shape fm_kv_shape(const struct fm_config *cfg, enum fm_kv_type type)
{
    return cfg->mla.Rkv ? (struct fm_kv_shape){type, 1, 1, cfg->mla.Rkv + cfg->mla.Dr}
                        : (struct fm_kv_shape){type, 2 * cfg->mha.Hkv, cfg->mha.Hkv, cfg->mha.Dh};
}
