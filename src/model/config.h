/* Every hyper-parameter once: meaning, unit, source key.  Filled by a family's read_config from config.json or GGUF keys. */
#ifndef FM_MODEL_CONFIG_H
#define FM_MODEL_CONFIG_H

#include "nn/nn.h"

/* Limits on what a file may claim; the largest published models stay well below. */
enum {
    FM_MAX_LAYERS = 256,
    FM_MAX_DIM = 1 << 18,
    FM_MAX_VOCAB = 1 << 22,
    FM_MAX_EXPERTS = FM_OP_HEADS,
    FM_MAX_CTX = 1 << 28
};

enum fm_rope_scaling { FM_ROPE_PLAIN, FM_ROPE_LLAMA3, FM_ROPE_YARN, FM_ROPE_LINEAR };

struct fm_config {
    const struct fm_family *family;
    char name[64];  /* general.name, or empty */
    int V, D, L, F; /* vocab_size hidden_size num_hidden_layers intermediate_size (dense layers) */
    int H;          /* num_attention_heads */
    float eps;      /* rms_norm_eps of the block norms and the final one */
    bool tied;      /* tie_word_embeddings: the head is the embedding */
    int ctx_train;  /* max_position_embeddings */
    int bos, eos;   /* -1: unknown */

    /* RoPE, models.md §1.3 */
    int rope_dim;          /* rotated width */
    bool rope_interleaved; /* pairs (2i, 2i+1), else halves */
    double rope_theta;
    enum fm_rope_scaling rope_scaling;
    double rope_factor, rope_orig_ctx; /* factor, original_max_position_embeddings   */
    double rope_low, rope_high;        /* llama3: low_freq_factor, high_freq_factor  */
    double yarn_beta_fast, yarn_beta_slow, yarn_mscale, yarn_mscale_all_dim;
    double yarn_attn;           /* the amplitude of cos and sin counts so many times; 0: once */
    const float *rope_divisors; /* GGUF rope_freqs.weight [rope_dim/2], or NULL; owned by the file */

    /* dense attention (mla.Rkv == 0) or latent attention */
    struct fm_mha_shape mha;
    bool qkv_bias, head_norms;
    struct fm_mla_shape mla;
    bool kv_split; /* writing GGUF: attn_k_b and attn_v_b instead of attn_kv_b, and the keys of that layout */

    /* experts; moe.router.E == 0: all layers dense */
    struct fm_moe_shape moe;
    bool router_bias; /* topk_method noaux_tc */
    int n_dense;      /* first_k_dense_replace */
    int n_shared;     /* n_shared_experts */

    int fp8_block
        [2];        /* quantization_config.weight_block_size: rows and columns of a scale of FP8 weights; 0: not said */
    int n_mtp;      /* num_nextn_predict_layers that the file really holds */
    float init_std; /* initializer_range, training only */
};

/* fm_mat of one block; which halves are used follows from the config (fm_layer_is_moe, mla.Rkv). */
struct fm_layer {
    struct fm_mat attn_norm, ffn_norm; /* [D] */
    struct fm_mha mha;
    struct fm_mla mla;
    struct fm_mlp mlp;
    struct fm_moe moe;
};
/* models.md §4.3 */
struct fm_mtp {
    struct fm_mat enorm, hnorm, eh_proj, norm; /* [D] [D] [D,2D] [D]; embedding and head are the main model's */
    struct fm_layer layer;
};
struct fm_weights {
    struct fm_mat embed, norm, head; /* [V,D] [D] [V,D]; head aliases embed when tied */
    struct fm_layer *layers;         /* L */
    struct fm_mtp *mtp;              /* n_mtp */
};

static inline bool fm_layer_is_moe(const struct fm_config *cfg, int l)
{
    return cfg->moe.router.E > 0 && l >= cfg->n_dense;
}

#endif
