/* Shapes and numbers that DeepSeek V2 and V3 share. */
#include "model/deepseek.h"

#include <stdio.h>
#include <string.h>

FM_SHAPE(fm_shape_mla_q) { *rows = cfg->mla.H * (cfg->mla.Dn + cfg->mla.Dr), *cols = cfg->D; }
FM_SHAPE(fm_shape_mla_qa) { *rows = cfg->mla.Rq, *cols = cfg->D; }
FM_SHAPE(fm_shape_mla_qn) { *rows = 1, *cols = cfg->mla.Rq; }
FM_SHAPE(fm_shape_mla_qb) { *rows = cfg->mla.H * (cfg->mla.Dn + cfg->mla.Dr), *cols = cfg->mla.Rq; }
FM_SHAPE(fm_shape_mla_kva) { *rows = cfg->mla.Rkv + cfg->mla.Dr, *cols = cfg->D; }
FM_SHAPE(fm_shape_mla_kvn) { *rows = 1, *cols = cfg->mla.Rkv; }
FM_SHAPE(fm_shape_mla_kvb) { *rows = cfg->mla.H * (cfg->mla.Dn + cfg->mla.Dv), *cols = cfg->mla.Rkv; }
FM_SHAPE(fm_shape_mla_kb) { *rows = cfg->mla.H * cfg->mla.Rkv, *cols = cfg->mla.Dn; }
FM_SHAPE(fm_shape_mla_vb) { *rows = cfg->mla.H * cfg->mla.Dv, *cols = cfg->mla.Rkv; }
FM_SHAPE(fm_shape_mla_o) { *rows = cfg->D, *cols = cfg->mla.H * cfg->mla.Dv; }
FM_SHAPE(fm_shape_router) { *rows = cfg->moe.router.E, *cols = cfg->D; }
FM_SHAPE(fm_shape_router_b) { *rows = 1, *cols = cfg->moe.router.E; }
FM_SHAPE(fm_shape_expert_up) { *rows = cfg->moe.F, *cols = cfg->D; }
FM_SHAPE(fm_shape_expert_down) { *rows = cfg->D, *cols = cfg->moe.F; }
FM_SHAPE(fm_shape_shared_up) { *rows = cfg->moe.Fs, *cols = cfg->D; }
FM_SHAPE(fm_shape_shared_down) { *rows = cfg->D, *cols = cfg->moe.Fs; }

bool fm_when_low_rank_q(const struct fm_config *cfg, int layer) { return (void)layer, cfg->mla.Rq > 0; }
bool fm_when_plain_q(const struct fm_config *cfg, int layer) { return (void)layer, cfg->mla.Rq == 0; }
bool fm_when_moe(const struct fm_config *cfg, int layer) { return fm_layer_is_moe(cfg, layer); }
bool fm_when_shared(const struct fm_config *cfg, int layer) { return fm_layer_is_moe(cfg, layer) && cfg->moe.Fs > 0; }
bool fm_when_router_bias(const struct fm_config *cfg, int layer)
{
    return fm_layer_is_moe(cfg, layer) && cfg->router_bias;
}

/* The two norms inside MLA use 1e-6 whatever rms_norm_eps says (models.md §1.2). */
static const fm_real INNER_EPS = (fm_real)1e-6;

static void finish(struct fm_reader *r, struct fm_config *cfg)
{
    cfg->mla.H = cfg->H;
    cfg->mla.eps = INNER_EPS;
    cfg->rope_dim = cfg->mla.Dr;
    cfg->rope_interleaved = true;
    if (!cfg->moe.router.E) cfg->n_dense = cfg->L + FM_MAX_LAYERS;
    if ((int64_t)cfg->n_shared * cfg->moe.F > FM_MAX_DIM)
        fm_reader_fail(r, "n_shared_experts", "makes the shared expert too wide");
    cfg->moe.Fs = cfg->n_shared * cfg->moe.F;
    if (r->status) return;
    if (!cfg->moe.router.n_group) cfg->moe.router.n_group = cfg->moe.router.topk_group = 1;
}

void fm_deepseek_read_json(struct fm_reader *r, struct fm_config *cfg)
{
    struct fm_router *m = &cfg->moe.router;
    cfg->mla.Rq = fm_read_int(r, "q_lora_rank", 1, FM_MAX_DIM, 0);
    cfg->mla.Rkv = fm_read_int(r, "kv_lora_rank", 1, FM_MAX_DIM, FM_NEEDED);
    cfg->mla.Dn = fm_read_int(r, "qk_nope_head_dim", 1, 4096, FM_NEEDED);
    cfg->mla.Dr = fm_read_int(r, "qk_rope_head_dim", 2, 4096, FM_NEEDED);
    cfg->mla.Dv = fm_read_int(r, "v_head_dim", 1, 4096, FM_NEEDED);
    m->E = fm_read_int(r, "n_routed_experts", 1, FM_MAX_EXPERTS, 0);
    if (m->E) {
        m->K = fm_read_int(r, "num_experts_per_tok", 1, FM_MAX_EXPERTS, FM_NEEDED);
        cfg->moe.F = fm_read_int(r, "moe_intermediate_size", 1, FM_MAX_DIM, FM_NEEDED);
        cfg->n_shared = fm_read_int(r, "n_shared_experts", 0, 64, 0);
        cfg->n_dense = fm_read_int(r, "first_k_dense_replace", 0, FM_MAX_LAYERS, 0);
        m->n_group = fm_read_int(r, "n_group", 1, FM_MAX_EXPERTS, 1);
        m->topk_group = fm_read_int(r, "topk_group", 1, FM_MAX_EXPERTS, 1);
        m->norm_topk = fm_read_bool(r, "norm_topk_prob", false);
        m->scale = (fm_real)fm_read_num(r, "routed_scaling_factor", -1e6, 1e6, 1);
        if (fm_read_int(r, "moe_layer_freq", 1, 1000, 1) != 1) fm_reader_fail(r, "moe_layer_freq", "must be 1");
    }
    cfg->n_mtp = fm_read_int(r, "num_nextn_predict_layers", 0, 8, 0);
    if (fm_read_bool(r, "attention_bias", false))
        fm_reader_fail(r, "attention_bias", "biases are not supported in this family");
    finish(r, cfg);
}

/* Two generations of files: since 2025-04 key_length_mla and value_length_mla give the head widths. */
static void read_gguf_widths(struct fm_reader *r, struct fm_config *cfg)
{
    cfg->mla.Rq = fm_read_int(r, "attention.q_lora_rank", 0, FM_MAX_DIM, 0);
    cfg->mla.Rkv = fm_read_int(r, "attention.kv_lora_rank", 1, FM_MAX_DIM, FM_NEEDED);
    cfg->mla.Dr = fm_read_int(r, "rope.dimension_count", 2, 4096, FM_NEEDED);
    int Dk = fm_read_int(r, "attention.key_length_mla", 2, 8192, 0),
        Dv = fm_read_int(r, "attention.value_length_mla", 1, 4096, 0);
    if (!Dk) Dk = fm_read_int(r, "attention.key_length", 2, 8192, FM_NEEDED);
    if (!Dv) Dv = fm_read_int(r, "attention.value_length", 1, 4096, FM_NEEDED);
    if (Dk <= cfg->mla.Dr) fm_reader_fail(r, "attention.key_length", "is not larger than rope.dimension_count");
    cfg->mla.Dn = Dk - cfg->mla.Dr;
    cfg->mla.Dv = Dv;
}

bool fm_deepseek_gguf_is_v3(const struct fm_file *f)
{
    char name[48];
    const int64_t gate = fm_meta_int(f, "deepseek2.expert_gating_func", 0); /* 1 softmax, 2 sigmoid */
    for (int l = 0; !gate && l < FM_MAX_LAYERS; l++) {
        snprintf(name, sizeof name, "blk.%d.exp_probs_b.bias", l);
        if (fm_file_find(f, name)) return true;
    }
    return gate == 2;
}

bool fm_deepseek_has_key(const struct fm_reader *r, const char *key)
{
    char full[96];
    snprintf(full, sizeof full, "%s.%s", r->arch, key);
    return fm_file_meta(r->gguf, full) != NULL;
}

/* Layers in front of the first one with a router. */
static int leading_dense(const struct fm_file *f)
{
    char name[48];
    for (int l = 0; l < FM_MAX_LAYERS; l++) {
        snprintf(name, sizeof name, "blk.%d.ffn_gate_inp.weight", l);
        if (fm_file_find(f, name)) return l;
    }
    return 0;
}

void fm_deepseek_read_gguf(struct fm_reader *r, struct fm_config *cfg)
{
    struct fm_router *m = &cfg->moe.router;
    read_gguf_widths(r, cfg);
    m->E = fm_read_int(r, "expert_count", 0, FM_MAX_EXPERTS, 0);
    if (m->E) {
        m->K = fm_read_int(r, "expert_used_count", 1, FM_MAX_EXPERTS, FM_NEEDED);
        cfg->moe.F = fm_read_int(r, "expert_feed_forward_length", 1, FM_MAX_DIM, FM_NEEDED);
        cfg->n_shared = fm_read_int(r, "expert_shared_count", 0, 64, 0);
        cfg->n_dense = fm_read_int(r, "leading_dense_block_count", 0, FM_MAX_LAYERS, leading_dense(r->gguf));
        m->n_group = fm_read_int(r, "expert_group_count", 1, FM_MAX_EXPERTS, 0);
        m->topk_group = fm_read_int(r, "expert_group_used_count", 1, FM_MAX_EXPERTS, 0);
        m->norm_topk = fm_read_bool(r, "expert_weights_norm", false);
        m->scale = (fm_real)fm_read_num(r, "expert_weights_scale", -1e6, 1e6, 1);
        if (m->scale == 0) m->scale = 1;
    }
    cfg->n_mtp = fm_read_int(r, "nextn_predict_layers", 0, 8, 0);
    cfg->L -= cfg->n_mtp; /* block_count includes the MTP blocks */
    if (cfg->L < 1) fm_reader_fail(r, "nextn_predict_layers", "leaves no layer");
    finish(r, cfg);
}

void fm_deepseek_write_json(const struct fm_config *cfg, json_t *j)
{
    const struct fm_mla_shape *a = &cfg->mla;
    const struct fm_router *m = &cfg->moe.router;
    json_object_set_new(j, "num_key_value_heads", json_integer(cfg->H));
    json_object_set_new(j, "attention_bias", json_false());
    json_object_set_new(j, "q_lora_rank", a->Rq ? json_integer(a->Rq) : json_null());
    json_object_set_new(j, "kv_lora_rank", json_integer(a->Rkv));
    json_object_set_new(j, "qk_nope_head_dim", json_integer(a->Dn));
    json_object_set_new(j, "qk_rope_head_dim", json_integer(a->Dr));
    json_object_set_new(j, "v_head_dim", json_integer(a->Dv));
    json_object_set_new(j, "num_nextn_predict_layers", json_integer(cfg->n_mtp));
    if (!m->E) return;
    json_object_set_new(j, "n_routed_experts", json_integer(m->E));
    json_object_set_new(j, "num_experts_per_tok", json_integer(m->K));
    json_object_set_new(j, "moe_intermediate_size", json_integer(cfg->moe.F));
    json_object_set_new(j, "n_shared_experts", cfg->n_shared ? json_integer(cfg->n_shared) : json_null());
    json_object_set_new(j, "first_k_dense_replace", json_integer(cfg->n_dense));
    json_object_set_new(j, "moe_layer_freq", json_integer(1));
    json_object_set_new(j, "n_group", json_integer(m->n_group));
    json_object_set_new(j, "topk_group", json_integer(m->topk_group));
    json_object_set_new(j, "norm_topk_prob", json_boolean(m->norm_topk));
    json_object_set_new(j, "routed_scaling_factor", json_real((double)m->scale));
    json_object_set_new(j, "scoring_func", json_string(m->sigmoid ? "sigmoid" : "softmax"));
}

static void put(struct fm_writer *w, const char *key, int v)
{
    char full[96];
    snprintf(full, sizeof full, "deepseek2.%s", key);
    fm_writer_meta_int(w, full, 4, v);
}

/* Files whose kv_b is split see a single key head as wide as the latent (models.md §10.1). */
static void put_heads(struct fm_writer *w, const struct fm_config *cfg)
{
    const struct fm_mla_shape *a = &cfg->mla;
    put(w, "attention.head_count_kv", cfg->kv_split ? 1 : cfg->H);
    put(w, "attention.key_length", cfg->kv_split ? a->Rkv + a->Dr : a->Dn + a->Dr);
    put(w, "attention.value_length", cfg->kv_split ? a->Rkv : a->Dv);
    if (!cfg->kv_split) return;
    put(w, "attention.key_length_mla", a->Dn + a->Dr);
    put(w, "attention.value_length_mla", a->Dv);
}

void fm_deepseek_write_gguf(const struct fm_config *cfg, struct fm_writer *w)
{
    const struct fm_mla_shape *a = &cfg->mla;
    const struct fm_router *m = &cfg->moe.router;
    put_heads(w, cfg);
    if (a->Rq) put(w, "attention.q_lora_rank", a->Rq);
    put(w, "attention.kv_lora_rank", a->Rkv);
    put(w, "leading_dense_block_count", m->E ? cfg->n_dense : cfg->L);
    if (cfg->n_mtp) put(w, "nextn_predict_layers", cfg->n_mtp);
    if (!m->E) return;
    put(w, "expert_count", m->E);
    put(w, "expert_used_count", m->K);
    put(w, "expert_feed_forward_length", cfg->moe.F);
    put(w, "expert_shared_count", cfg->n_shared);
    put(w, "expert_group_count", m->n_group);
    put(w, "expert_group_used_count", m->topk_group);
    put(w, "expert_gating_func", m->sigmoid ? 2 : 1);
    fm_writer_meta_bool(w, "deepseek2.expert_weights_norm", m->norm_topk);
    fm_writer_meta_float(w, "deepseek2.expert_weights_scale", (float)m->scale);
}
