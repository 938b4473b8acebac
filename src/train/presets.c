/* See presets.h.
 *
 * How the sizes of "default" were chosen.  Training has about 100 minutes of two shared cores, some 3e14 FLOPs in all;
 * compute-optimal is then 1.5–2 M active parameters on 15–30 M tokens (training.md §5).
 *  - D = 160, L = 6: 1.9 M active with the head, another 0.6 M for multi-token prediction, which pays in decoding speed.
 *  - 32 experts of width 64, 4 active, 1 shared: DeepSeekMoE's fine grain (arXiv 2401.06066 §3.1: more, narrower experts at
 *    equal cost) gives 7.5 M parameters for the price of 1.9 M; the file is 8 MB in Q8_0.
 *  - Rkv + Dr = 64 + 16 cached values per token and layer instead of 2·5·48 of plain attention.
 *  - V = 2048: twice that vocabulary would make the head a third of all work.
 *  - every width is a multiple of 32, so that Q8_0 and Q4_0 blocks fit. */
#include "train/presets.h"

#include <string.h>

/* clang-format off */
static const struct fm_preset_row presets[] = {
    {.name = "default", .summary = "DeepSeek-V3 architecture, 7.5 M parameters, 1.9 M active: the shipped model, 100 minutes on 2 cores",
     .V = 2048, .D = 160, .L = 6, .F = 416, .H = 5, .Rq = 96, .Rkv = 64, .Dn = 32, .Dr = 16, .Dv = 32,
     .E = 32, .K = 4, .Fe = 64, .n_shared = 1, .n_dense = 1, .n_mtp = 1, .routed_scale = 2,
     .seq = 384, .batch = 16, .lr = 2e-3f, .minutes = 100},
    {.name = "tiny", .summary = "DeepSeek-V3 architecture, 2 M parameters: talks after 2 minutes on 2 cores",
     .V = 1024, .D = 128, .L = 3, .F = 256, .H = 4, .Rq = 64, .Rkv = 32, .Dn = 32, .Dr = 16, .Dv = 32,
     .E = 16, .K = 2, .Fe = 64, .n_shared = 1, .n_dense = 1, .n_mtp = 1, .routed_scale = 1.5,
     .seq = 128, .batch = 16, .lr = 3e-3f, .minutes = 2},
    {.name = "tiny-llama", .summary = "Llama architecture of the size of tiny: the yardstick beside it",
     .V = 1024, .D = 128, .L = 3, .F = 352, .H = 4, .Hkv = 2, .tied = true,
     .seq = 128, .batch = 16, .lr = 3e-3f, .minutes = 2},
    {.name = "d128", .summary = "Llama architecture, width 128, 4 layers, 1 M parameters",
     .V = 1024, .D = 128, .L = 4, .F = 352, .H = 4, .Hkv = 4,
     .seq = 256, .batch = 16, .lr = 3e-3f, .minutes = 25},
    {.name = "d256", .summary = "Llama architecture, width 256, 4 layers, 5 M parameters",
     .V = 4096, .D = 256, .L = 4, .F = 672, .H = 8, .Hkv = 8,
     .seq = 512, .batch = 16, .lr = 1.5e-3f, .minutes = 60},
    {.name = "d256-l6", .summary = "Llama architecture, width 256, 6 layers, 7 M parameters",
     .V = 4096, .D = 256, .L = 6, .F = 672, .H = 8, .Hkv = 8,
     .seq = 512, .batch = 16, .lr = 1.5e-3f, .minutes = 60},
};
/* clang-format on */
enum { N_PRESETS = sizeof presets / sizeof *presets };

int fm_preset_count(void) { return N_PRESETS; }

struct fm_preset_info fm_preset(int i) { return (struct fm_preset_info){presets[i].name, presets[i].summary}; }

const struct fm_preset_row *fm_preset_find(const char *name)
{
    for (int i = 0; i < N_PRESETS; i++)
        if (strcmp(presets[i].name, name) == 0) return &presets[i];
    return NULL;
}

static json_t *llama(const struct fm_preset_row *p)
{
    return json_pack("{s:s, s:i, s:i}", "model_type", "llama", "num_key_value_heads", p->Hkv, "head_dim", p->D / p->H);
}

static json_t *deepseek(const struct fm_preset_row *p)
{
    json_t *j =
        json_pack("{s:s, s:i, s:o, s:i, s:i, s:i, s:i, s:i}", "model_type", "deepseek_v3", "num_key_value_heads", p->H,
                  "q_lora_rank", p->Rq ? json_integer(p->Rq) : json_null(), "kv_lora_rank", p->Rkv, "qk_nope_head_dim",
                  p->Dn, "qk_rope_head_dim", p->Dr, "v_head_dim", p->Dv, "num_nextn_predict_layers", p->n_mtp);
    json_t *moe =
        json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:f, s:s, s:s}", "n_routed_experts", p->E,
                  "num_experts_per_tok", p->K, "moe_intermediate_size", p->Fe, "n_shared_experts", p->n_shared,
                  "first_k_dense_replace", p->n_dense, "n_group", 1, "topk_group", 1, "norm_topk_prob", 1,
                  "routed_scaling_factor", p->routed_scale, "scoring_func", "sigmoid", "topk_method", "noaux_tc");
    const int failed = json_object_update_missing(j, moe);
    json_decref(moe);
    if (!failed) return j;
    json_decref(j);
    return NULL;
}

json_t *fm_preset_config(const struct fm_preset_row *p, int V)
{
    json_t *j = p->Hkv ? llama(p) : deepseek(p);
    json_t *all = json_pack("{s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:b, s:i, s:s}", "vocab_size", V, "hidden_size",
                            p->D, "num_hidden_layers", p->L, "intermediate_size", p->F, "num_attention_heads", p->H,
                            "rms_norm_eps", 1e-6, "initializer_range", 0.02, "rope_theta", 1e4, "tie_word_embeddings",
                            p->tied, "max_position_embeddings", p->seq, "hidden_act", "silu");
    const int failed = json_object_update_missing(j, all);
    json_decref(all);
    if (!failed) return j;
    json_decref(j);
    return NULL;
}
