/* A model in memory: config + weights, and the only loop over its layers. */
#ifndef FM_MODEL_MODEL_H
#define FM_MODEL_MODEL_H

#include "model/config.h"
#include "model/family.h"

/* Config of a config.json (already parsed), a GGUF file, or a folder.  Every number is checked against named limits. */
enum fm_status fm_config_from_json(const json_t *j, const char *where, struct fm_config *cfg,
                                   struct fm_error *err) FM_MUST_USE;
enum fm_status fm_config_from_file(const struct fm_file *f, struct fm_config *cfg, struct fm_error *err) FM_MUST_USE;
/* A new object in published spelling; json_decref it. NULL when memory is short. */
json_t *fm_config_to_json(const struct fm_config *cfg);
void fm_config_to_gguf(const struct fm_config *cfg, struct fm_writer *w);

/* All tensors of a model with this config, bound to the mats of w (whose layers, mtp and expert arrays exist).
 * *list: heap, n items, free with fm_free. The order is the file order of exports. */
enum fm_status fm_bindings_new(const struct fm_config *cfg, struct fm_weights *w, struct fm_binding **list, int *n,
                               struct fm_error *err) FM_MUST_USE;
/* Layers, MTP and expert arrays, all mats absent. */
enum fm_status fm_weights_init(struct fm_weights *w, const struct fm_config *cfg, struct fm_error *err) FM_MUST_USE;
void fm_weights_release(struct fm_weights *w, const struct fm_config *cfg);

/* A model bound to a file: matrices point into the mapping, vectors and derived matrices are owned copies. */
struct fm_model {
    struct fm_config cfg;
    struct fm_weights w;
    double *rope_freq;       /* [rope_dim/2], scaling applied */
    struct fm_arena derived; /* f32 vectors, absorbed matrices */
    uint64_t derived_bytes;
    struct fm_packed *packed; /* of matrices that will be packed, or NULL … */
    char *packed_at;          /* … and where to */
    size_t packed_bytes;
    int n_packed;
};
/* f must outlive m.  for_inference: build the absorbed MLA matrices.  Every shape is checked; a missing, misshapen or
 * unusable tensor is FM_ERR_INPUT naming it. */
enum fm_status fm_model_load(const struct fm_file *f, bool for_inference, struct fm_model *m,
                             struct fm_error *err) FM_MUST_USE;
/* The bytes fm_model_load would allocate, without loading. */
enum fm_status fm_model_derived_bytes(const struct fm_file *f, uint64_t *bytes, struct fm_error *err) FM_MUST_USE;
void fm_model_release(struct fm_model *m);
/* Scaled RoPE frequencies [cfg->rope_dim/2] into freq. */
void fm_rope_frequencies(const struct fm_config *cfg, double *freq);

/* What the cache keeps of a token and layer. */
struct fm_kv_shape fm_kv_shape(const struct fm_config *cfg, enum fm_kv_type type);

/* Counts for `show`, plans and progress. */
struct fm_counts {
    int64_t params_total, params_active;
    double flops_per_token;         /* forward, 2·weights of a token's matrices, head included */
    double flops_per_token_per_ctx; /* per key attended, absorbed or dense as decoded          */
    double train_flops_per_token;   /* forward + backward (3×), attention at mean length seq/2 and MTP included */
};
void fm_model_count(const struct fm_config *cfg, int seq, struct fm_counts *out);

/* ---- forward ---- */

struct fm_layer_saved {
    fm_real *x;      /* [T,D] input of the block            */
    fm_real *u1, *h; /* after attn_norm; after attention     */
    fm_real *u2;     /* after ffn_norm                       */
    struct fm_mha_saved mha;
    struct fm_mla_saved mla;
    struct fm_mlp_saved mlp;
    struct fm_moe_saved moe;
};
/* One block: y[T,D] from x[T,D]; y may be x when saved is NULL.  layer: index in the cache. */
void fm_block_forward(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_layer *w, bool moe,
                      const struct fm_batch *b, int layer, const struct fm_rope *rope, fm_real *y, fm_real *x,
                      struct fm_layer_saved *saved);
/* d[T,D]: gradient of the output in, of the input out. */
void fm_block_backward(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_layer *w, struct fm_layer *dw,
                       bool moe, const struct fm_batch *b, const struct fm_rope *rope, fm_real *d,
                       const struct fm_layer_saved *saved);

struct fm_rope fm_rope_build(struct fm_ctx *c, const struct fm_config *cfg, const double *freq,
                             const struct fm_batch *b);

struct fm_mtp_saved {
    fm_real *emb, *both; /* [T,D] embedding of the next token; [T,2D] normed [embedding | hidden] */
};
/* The MTP block's input x[T,D], in the arena. */
fm_real *fm_mtp_input(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w, const struct fm_mtp *m,
                      int T, const int32_t *next, const fm_real *hidden, struct fm_mtp_saved *s);

/* hidden[T,D] = after the final norm.  taps: NULL, or [L+1] pointers of [T,D] that receive the embedding output and each
 * layer's output (the last one after the final norm), as transformers' hidden_states. */
void fm_model_forward(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w,
                      const double *rope_freq, const struct fm_batch *b, fm_real *hidden, fm_real *const *taps);
/* logits[n,V] = head of n rows of hidden. */
void fm_model_logits(struct fm_ctx *c, const struct fm_weights *w, fm_real *logits, const fm_real *hidden, int n);
/* MTP module i over the whole batch: out[T,D] (after shared_head.norm) from hidden[T,D] and the next tokens ids_next[T]. */
void fm_mtp_forward(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w, const double *rope_freq,
                    int i, const struct fm_batch *b, const int32_t *ids_next, const fm_real *hidden, fm_real *out);

/* What MTP module i's cache keeps of these rows, nothing else: a single block's keys do not depend on its attention. */
void fm_mtp_append(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w, const double *rope_freq,
                   int i, const struct fm_batch *b, const int32_t *ids_next, const fm_real *hidden);
/* Describe positions pos0 … pos0+n−1 of one cache as n segments of one token each: computed together, every row gets the
 * bits it would get alone.  seqs: room for n; returns how many were needed (one, but where the MLA form changes). */
int fm_seqs_of_single(const struct fm_config *cfg, struct fm_kv *kv, int pos0, int n, struct fm_seq *seqs);

/* ---- training step ---- */

struct fm_step {
    const int32_t *target;         /* [T] next token, or -1                                                        */
    const int32_t *next, *target2; /* [T] MTP: next token to embed (>= 0 always), token after it or -1; NULL: no MTP */
    double scale, scale_mtp; /* gradient of scale·Σ loss + scale_mtp·Σ mtp_loss + balance                    */
    double balance_alpha, balance_seq_weight; /* 0: no balance loss                                             */
    int64_t *load; /* NULL, or [(L + n_mtp)·E] += tokens per expert                                 */
    /* results: sums over the rows of this step */
    double loss_sum, mtp_loss_sum, balance_sum;
};
/* Forward, loss and backward of one micro-batch; dw += gradients (dw NULL: loss only).  batch: training sequences. */
void fm_model_step(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w, struct fm_weights *dw,
                   const double *rope_freq, const struct fm_batch *b, struct fm_step *s);

/* ---- convert: the same rows, other direction ---- */

/* Write a model (w) as GGUF (path ends in .gguf) or as a folder with config.json and
 * model.safetensors.  fmt: of the matrices (vectors, router and rows that
 * are no whole blocks stay F32).
 * add_text: called with the writer before tensors are declared, for the tokenizer's GGUF keys; may be NULL. */
struct fm_convert {
    enum fm_fmt fmt;
    enum fm_status (*add_text)(void *arg, struct fm_writer *w, struct fm_error *err);
    void *arg;
    const char *name; /* general.name */
    bool without_mtp; /* leave the MTP blocks out, for readers of GGUF that do not know them */
};
/* Pieces of it: config.json for matrices in fmt; the keys of a GGUF file (name NULL: without general.name). */
enum fm_status fm_model_write_config(const struct fm_config *cfg, enum fm_fmt fmt, const char *folder,
                                     struct fm_error *err) FM_MUST_USE;
void fm_model_write_keys(const struct fm_config *cfg, bool without_mtp, const char *name, struct fm_writer *w);
enum fm_status fm_model_write(const struct fm_config *cfg, struct fm_weights *w, const char *path,
                              const struct fm_convert *o, struct fm_error *err) FM_MUST_USE;

#endif
