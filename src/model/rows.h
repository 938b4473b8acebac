/* Pieces of tensor tables that several families use, and the shapes behind them. */
#ifndef FM_MODEL_ROWS_H
/* clang-format off */
#define FM_MODEL_ROWS_H

#include <stddef.h>

#include "model/family.h"

#define MODEL(field) offsetof(struct fm_weights, field), FM_IN_MODEL
#define LAYER(field) offsetof(struct fm_layer, field), FM_IN_LAYER
#define EXPERT(field) offsetof(struct fm_layer, field), FM_IN_EXPERT
#define MTP(field) offsetof(struct fm_mtp, field), FM_IN_MTP

/* shapes: rows, cols of one matrix; vectors have rows 1 */
#define FM_SHAPE(name) void name(const struct fm_config *cfg, int *rows, int *cols)
FM_SHAPE(fm_shape_vocab);  /* [V,D]        */
FM_SHAPE(fm_shape_dim);    /* [D]          */
FM_SHAPE(fm_shape_q);      /* [H·Dh,D]     */
FM_SHAPE(fm_shape_kv);     /* [Hkv·Dh,D]   */
FM_SHAPE(fm_shape_o);      /* [D,H·Dh]     */
FM_SHAPE(fm_shape_bq);     /* [H·Dh]       */
FM_SHAPE(fm_shape_bkv);    /* [Hkv·Dh]     */
FM_SHAPE(fm_shape_head);   /* [Dh]         */
FM_SHAPE(fm_shape_up);     /* [F,D]        */
FM_SHAPE(fm_shape_down);   /* [D,F]        */
int fm_heads_q(const struct fm_config *cfg);
int fm_heads_kv(const struct fm_config *cfg);
bool fm_when_untied(const struct fm_config *cfg, int layer);
bool fm_when_dense(const struct fm_config *cfg, int layer);

#define FM_MODEL_ROWS \
    {"model.embed_tokens.weight", "token_embd.weight", MODEL(embed), fm_shape_vocab, NULL, 0, NULL}, \
    {"model.norm.weight", "output_norm.weight", MODEL(norm), fm_shape_dim, NULL, FM_BIND_VECTOR | FM_BIND_NORM, NULL}, \
    {"lm_head.weight", "output.weight", MODEL(head), fm_shape_vocab, fm_when_untied, 0, NULL}

#define FM_NORM_ROWS \
    {"model.layers.{l}.input_layernorm.weight", "blk.{l}.attn_norm.weight", LAYER(attn_norm), fm_shape_dim, NULL, FM_BIND_VECTOR | FM_BIND_NORM, NULL}, \
    {"model.layers.{l}.post_attention_layernorm.weight", "blk.{l}.ffn_norm.weight", LAYER(ffn_norm), fm_shape_dim, NULL, FM_BIND_VECTOR | FM_BIND_NORM, NULL}

#define FM_MLP_ROWS \
    {"model.layers.{l}.mlp.gate_proj.weight", "blk.{l}.ffn_gate.weight", LAYER(mlp.gate), fm_shape_up, fm_when_dense, 0, NULL}, \
    {"model.layers.{l}.mlp.up_proj.weight", "blk.{l}.ffn_up.weight", LAYER(mlp.up), fm_shape_up, fm_when_dense, 0, NULL}, \
    {"model.layers.{l}.mlp.down_proj.weight", "blk.{l}.ffn_down.weight", LAYER(mlp.down), fm_shape_down, fm_when_dense, 0, NULL}

/* clang-format on */
#endif
