/* What DeepSeek V2 and V3 share: latent attention, experts, their tensor rows and numbers.  models.md §3. */
#ifndef FM_MODEL_DEEPSEEK_H
#define FM_MODEL_DEEPSEEK_H

#include "model/family.h"
#include "model/rows.h"

void fm_deepseek_read_json(struct fm_reader *r, struct fm_config *cfg);
void fm_deepseek_read_gguf(struct fm_reader *r, struct fm_config *cfg);
/* Files older than the key expert_gating_func are V3's if a layer has the bias that only V3's router has. */
bool fm_deepseek_gguf_is_v3(const struct fm_file *f);
/* Whether the file has the key at all: some older ones lack those whose value follows from the model. */
bool fm_deepseek_has_key(const struct fm_reader *r, const char *key);
void fm_deepseek_write_json(const struct fm_config *cfg, json_t *j);
void fm_deepseek_write_gguf(const struct fm_config *cfg, struct fm_writer *w);

FM_SHAPE(fm_shape_mla_q);     /* [H·(Dn+Dr),D]   */
FM_SHAPE(fm_shape_mla_qa);    /* [Rq,D]          */
FM_SHAPE(fm_shape_mla_qn);    /* [Rq]            */
FM_SHAPE(fm_shape_mla_qb);    /* [H·(Dn+Dr),Rq]  */
FM_SHAPE(fm_shape_mla_kva);   /* [Rkv+Dr,D]      */
FM_SHAPE(fm_shape_mla_kvn);   /* [Rkv]           */
FM_SHAPE(fm_shape_mla_kvb);   /* [H·(Dn+Dv),Rkv] */
FM_SHAPE(fm_shape_mla_kb);    /* [H·Rkv,Dn]      */
FM_SHAPE(fm_shape_mla_vb);    /* [H·Dv,Rkv]      */
FM_SHAPE(fm_shape_mla_o);     /* [D,H·Dv]        */
FM_SHAPE(fm_shape_router);    /* [E,D]           */
FM_SHAPE(fm_shape_router_b);  /* [E]             */
FM_SHAPE(fm_shape_expert_up); /* [F,D]           */
FM_SHAPE(fm_shape_expert_down);
FM_SHAPE(fm_shape_shared_up); /* [Fs,D]          */
FM_SHAPE(fm_shape_shared_down);
bool fm_when_low_rank_q(const struct fm_config *cfg, int layer);
bool fm_when_plain_q(const struct fm_config *cfg, int layer);
bool fm_when_moe(const struct fm_config *cfg, int layer);
bool fm_when_shared(const struct fm_config *cfg, int layer);
bool fm_when_router_bias(const struct fm_config *cfg, int layer);

/* clang-format off */
#define FM_DS_ATTN(hf, gguf, field, shape, when, flags) \
    {"model.layers.{l}.self_attn." hf ".weight", "blk.{l}." gguf ".weight", LAYER(mla.field), shape, when, flags, NULL}
#define FM_DS_MOE(hf, gguf, place, shape, when, flags) \
    {"model.layers.{l}.mlp." hf ".weight", "blk.{l}." gguf ".weight", place, shape, when, flags, NULL}

/* kv_b is one tensor in safetensors and older GGUF files, two (k_b transposed) in newer GGUF files. */
#define FM_DEEPSEEK_ROWS \
    FM_MODEL_ROWS, FM_NORM_ROWS, \
    FM_DS_ATTN("q_proj", "attn_q", wq, fm_shape_mla_q, fm_when_plain_q, 0), \
    FM_DS_ATTN("q_a_proj", "attn_q_a", wq_a, fm_shape_mla_qa, fm_when_low_rank_q, 0), \
    FM_DS_ATTN("q_a_layernorm", "attn_q_a_norm", q_a_norm, fm_shape_mla_qn, fm_when_low_rank_q, FM_BIND_VECTOR | FM_BIND_NORM), \
    FM_DS_ATTN("q_b_proj", "attn_q_b", wq_b, fm_shape_mla_qb, fm_when_low_rank_q, 0), \
    FM_DS_ATTN("kv_a_proj_with_mqa", "attn_kv_a_mqa", wkv_a, fm_shape_mla_kva, NULL, 0), \
    FM_DS_ATTN("kv_a_layernorm", "attn_kv_a_norm", kv_a_norm, fm_shape_mla_kvn, NULL, FM_BIND_VECTOR | FM_BIND_NORM), \
    FM_DS_ATTN("kv_b_proj", "attn_kv_b", wkv_b, fm_shape_mla_kvb, NULL, FM_BIND_SPLIT_WHOLE), \
    {NULL, "blk.{l}.attn_k_b.weight", LAYER(mla.wk_b), fm_shape_mla_kb, NULL, FM_BIND_SPLIT_PART, NULL}, \
    {NULL, "blk.{l}.attn_v_b.weight", LAYER(mla.wv_b), fm_shape_mla_vb, NULL, FM_BIND_SPLIT_PART, NULL}, \
    FM_DS_ATTN("o_proj", "attn_output", wo, fm_shape_mla_o, NULL, 0), \
    FM_MLP_ROWS, \
    FM_DS_MOE("gate", "ffn_gate_inp", LAYER(moe.router), fm_shape_router, fm_when_moe, FM_BIND_F32), \
    {"model.layers.{l}.mlp.gate.e_score_correction_bias", "blk.{l}.exp_probs_b.bias", LAYER(moe.bias), fm_shape_router_b, \
     fm_when_router_bias, FM_BIND_VECTOR | FM_BIND_ZERO | FM_BIND_BUFFER, NULL}, \
    FM_DS_MOE("experts.{e}.gate_proj", "ffn_gate_exps", EXPERT(moe.gate), fm_shape_expert_up, fm_when_moe, 0), \
    FM_DS_MOE("experts.{e}.up_proj", "ffn_up_exps", EXPERT(moe.up), fm_shape_expert_up, fm_when_moe, 0), \
    FM_DS_MOE("experts.{e}.down_proj", "ffn_down_exps", EXPERT(moe.down), fm_shape_expert_down, fm_when_moe, 0), \
    FM_DS_MOE("shared_experts.gate_proj", "ffn_gate_shexp", LAYER(moe.shared.gate), fm_shape_shared_up, fm_when_shared, 0), \
    FM_DS_MOE("shared_experts.up_proj", "ffn_up_shexp", LAYER(moe.shared.up), fm_shape_shared_up, fm_when_shared, 0), \
    FM_DS_MOE("shared_experts.down_proj", "ffn_down_shexp", LAYER(moe.shared.down), fm_shape_shared_down, fm_when_shared, 0)

/* clang-format on */
#endif
