/* What the dense families share: rows of their tensor tables and the numbers of grouped-query attention. */
#ifndef FM_MODEL_DENSE_H
#define FM_MODEL_DENSE_H

#include "model/family.h"
#include "model/rows.h"

void fm_dense_read_json(struct fm_reader *r, struct fm_config *cfg);
void fm_dense_read_gguf(struct fm_reader *r, struct fm_config *cfg);
void fm_dense_write_json(const struct fm_config *cfg, json_t *j);
void fm_dense_write_gguf(const struct fm_config *cfg, struct fm_writer *w);

/* clang-format off */
#define FM_DENSE_ROWS \
    FM_MODEL_ROWS, FM_NORM_ROWS, \
    {"model.layers.{l}.self_attn.q_proj.weight", "blk.{l}.attn_q.weight", LAYER(mha.wq), fm_shape_q, NULL, FM_BIND_PERMUTE, fm_heads_q}, \
    {"model.layers.{l}.self_attn.k_proj.weight", "blk.{l}.attn_k.weight", LAYER(mha.wk), fm_shape_kv, NULL, FM_BIND_PERMUTE, fm_heads_kv}, \
    {"model.layers.{l}.self_attn.v_proj.weight", "blk.{l}.attn_v.weight", LAYER(mha.wv), fm_shape_kv, NULL, 0, NULL}, \
    {"model.layers.{l}.self_attn.o_proj.weight", "blk.{l}.attn_output.weight", LAYER(mha.wo), fm_shape_o, NULL, 0, NULL}, \
    FM_MLP_ROWS

#define FM_QKV_BIAS_ROWS \
    {"model.layers.{l}.self_attn.q_proj.bias", "blk.{l}.attn_q.bias", LAYER(mha.bq), fm_shape_bq, NULL, FM_BIND_VECTOR | FM_BIND_ZERO, NULL}, \
    {"model.layers.{l}.self_attn.k_proj.bias", "blk.{l}.attn_k.bias", LAYER(mha.bk), fm_shape_bkv, NULL, FM_BIND_VECTOR | FM_BIND_ZERO, NULL}, \
    {"model.layers.{l}.self_attn.v_proj.bias", "blk.{l}.attn_v.bias", LAYER(mha.bv), fm_shape_bkv, NULL, FM_BIND_VECTOR | FM_BIND_ZERO, NULL}

#define FM_HEAD_NORM_ROWS \
    {"model.layers.{l}.self_attn.q_norm.weight", "blk.{l}.attn_q_norm.weight", LAYER(mha.q_norm), fm_shape_head, NULL, FM_BIND_VECTOR | FM_BIND_NORM, NULL}, \
    {"model.layers.{l}.self_attn.k_norm.weight", "blk.{l}.attn_k_norm.weight", LAYER(mha.k_norm), fm_shape_head, NULL, FM_BIND_VECTOR | FM_BIND_NORM, NULL}

/* clang-format on */
#endif
