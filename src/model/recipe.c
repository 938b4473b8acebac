/* See recipe.h.  The mixtures follow those that llama.cpp writes under the same names, so that files compare. */
#include "model/recipe.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- roles ---- */

/* Behind "blk.N."; the first that fits.  What is not called .weight is fixed before it comes here. */
static const struct {
    const char *glob;
    enum fm_role role;
} roles[] = {
    {"*_norm.weight", FM_ROLE_FIXED},
    {"*norm_*.weight", FM_ROLE_FIXED},
    {"ffn_gate_inp*", FM_ROLE_FIXED},
    {"rope_*", FM_ROLE_FIXED},
    {"*hc_*", FM_ROLE_FIXED},
    {"*_ape.weight", FM_ROLE_FIXED},
    {"ssm_conv1d.weight", FM_ROLE_FIXED},
    {"shortconv.conv.weight", FM_ROLE_FIXED},
    {"position_embd.weight", FM_ROLE_FIXED},
    {"token_types.weight", FM_ROLE_FIXED},
    {"pos_embd.weight", FM_ROLE_FIXED},
    {"attn_rel_b.weight", FM_ROLE_FIXED},
    {"time_mix_*", FM_ROLE_FIXED},
    {"altup*", FM_ROLE_FIXED},
    {"laurel*", FM_ROLE_FIXED},
    {"per_layer_model_proj.weight", FM_ROLE_FIXED},
    {"token_embd.weight", FM_ROLE_EMBED},
    {"per_layer_token_embd.weight", FM_ROLE_EMBED},
    {"nextn.embed_tokens.weight", FM_ROLE_EMBED},
    {"output.weight", FM_ROLE_OUTPUT},
    {"nextn.shared_head_head.weight", FM_ROLE_OUTPUT},
    {"attn_k.weight", FM_ROLE_ATTN_K},
    {"attn_v.weight", FM_ROLE_ATTN_V},
    {"attn_qkv.weight", FM_ROLE_ATTN_QKV},
    {"attn_output*", FM_ROLE_ATTN_OUT},
    {"attn_kv_b.weight", FM_ROLE_ATTN_LATENT},
    {"attn_k_b.weight", FM_ROLE_ATTN_LATENT},
    {"attn_v_b.weight", FM_ROLE_ATTN_LATENT},
    {"attn_*", FM_ROLE_ATTN},
    {"indexer*", FM_ROLE_ATTN},
    {"ffn_down_exps.weight", FM_ROLE_EXPERT_DOWN},
    {"ffn_*_exps.weight", FM_ROLE_EXPERT},
    {"ffn_down_shexp.weight", FM_ROLE_SHARED_DOWN},
    {"ffn_*_shexp.weight", FM_ROLE_SHARED},
    {"ffn_down.weight", FM_ROLE_FFN_DOWN},
    {"ffn_*", FM_ROLE_FFN},
};

static const int part_of_role[FM_ROLE_COUNT] = {
    [FM_ROLE_FIXED] = -1,
    [FM_ROLE_EMBED] = FM_PART_EMBEDDINGS,
    [FM_ROLE_OUTPUT] = FM_PART_OUTPUT,
    [FM_ROLE_ATTN] = FM_PART_ATTENTION,
    [FM_ROLE_ATTN_K] = FM_PART_ATTENTION,
    [FM_ROLE_ATTN_V] = FM_PART_ATTENTION,
    [FM_ROLE_ATTN_QKV] = FM_PART_ATTENTION,
    [FM_ROLE_ATTN_OUT] = FM_PART_ATTENTION,
    [FM_ROLE_ATTN_LATENT] = FM_PART_ATTENTION,
    [FM_ROLE_FFN] = -1,
    [FM_ROLE_FFN_DOWN] = -1,
    [FM_ROLE_EXPERT] = FM_PART_EXPERTS,
    [FM_ROLE_EXPERT_DOWN] = FM_PART_EXPERTS,
    [FM_ROLE_SHARED] = FM_PART_SHARED,
    [FM_ROLE_SHARED_DOWN] = FM_PART_SHARED,
    [FM_ROLE_OTHER] = -1,
};

/* *layer: its number, or -1. */
static const char *behind_block(const char *name, int *layer)
{
    const char *blk = strstr(name, "blk.");
    char *end;
    *layer = -1;
    if (!blk) return name;
    const long n = strtol(blk + 4, &end, 10);
    if (end == blk + 4 || *end != '.') return name;
    *layer = (int)(n < 1 << 20 ? n : 1 << 20);
    return end + 1;
}

enum fm_role fm_role_of(const char *gguf_name)
{
    int layer;
    const char *tail = behind_block(gguf_name, &layer);
    const size_t n = strlen(tail);
    if (n < 7 || strcmp(tail + n - 7, ".weight") != 0) return FM_ROLE_FIXED;
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (!fnmatch(roles[i].glob, tail, 0)) return roles[i].role;
    return FM_ROLE_OTHER;
}

/* ---- mixtures ---- */

enum when {
    ALWAYS,
    MORE_BITS,       /* the first and the last eighth of the layers, and every third between */
    FIRST_EIGHTH,    /* of the layers */
    FIRST_SIXTEENTH, /* of the layers */
    FIRST_TWO,       /* layers */
    FIRST_FOUR,      /* layers */
    SHARED_KEYS,     /* four query heads or more per key head: keys and values are few */
    EIGHT_EXPERTS,   /* as Mixtral: attention is a small part */
};

struct step {
    enum fm_role role;
    enum when when;
    enum fm_fmt fmt;
};

enum { STEPS = 12 };
struct fm_mixture {
    const char *name;
    enum fm_fmt base;
    int file_type; /* llama.cpp's number */
    const char *summary;
    struct step steps[STEPS]; /* the first that fits; fmt 0 (F32) ends the list */
};

/* clang-format off */
#define OUT(fmt) {FM_ROLE_OUTPUT, ALWAYS, fmt}
#define EIGHT {FM_ROLE_ATTN_V, EIGHT_EXPERTS, FM_Q8_0}, {FM_ROLE_ATTN_K, EIGHT_EXPERTS, FM_Q8_0}, \
              {FM_ROLE_ATTN_OUT, EIGHT_EXPERTS, FM_Q5_K}
#define DOWN(when, fmt) {FM_ROLE_FFN_DOWN, when, fmt}, {FM_ROLE_EXPERT_DOWN, when, fmt}, {FM_ROLE_SHARED_DOWN, when, fmt}

static const struct fm_mixture mixtures[] = {
    {"F32",    FM_F32,    0,  "32-bit floats", {{0}}},
    {"F16",    FM_F16,    1,  "16-bit floats, up to 65504", {{0}}},
    {"BF16",   FM_BF16,   32, "16-bit floats with the range of F32", {{0}}},
    {"Q8_0",   FM_Q8_0,   7,  "8.5 bits: hardly any loss", {{0}}},
    {"Q6_K",   FM_Q6_K,   18, "6.6 bits", {{0}}},
    {"Q5_K",   FM_Q5_K,   16, "5.5 bits throughout", {{0}}},
    {"Q5_1",   FM_Q5_1,   9,  "6 bits", {{0}}},
    {"Q5_0",   FM_Q5_0,   8,  "5.5 bits", {{0}}},
    {"Q4_K",   FM_Q4_K,   14, "4.5 bits throughout", {{0}}},
    {"IQ4_NL", FM_IQ4_NL, 25, "4.5 bits, uneven steps", {{0}}},
    {"Q4_1",   FM_Q4_1,   3,  "5 bits", {{0}}},
    {"Q4_0",   FM_Q4_0,   2,  "4.5 bits", {{0}}},
    {"IQ4_XS", FM_IQ4_XS, 30, "4.25 bits, uneven steps", {{0}}},
    {"MXFP4",  FM_MXFP4,  38, "4.25 bits, floats of four bits", {{0}}},
    {"Q3_K",   FM_Q3_K,   11, "3.4 bits throughout", {{0}}},
    {"Q2_K",   FM_Q2_K,   10, "2.6 bits throughout", {{0}}},
    {"Q5_K_M", FM_Q5_K,   17, "mixture: Q5_K, Q6_K for values and down projections of half the layers",
     {OUT(FM_Q6_K), {FM_ROLE_ATTN_V, EIGHT_EXPERTS, FM_Q8_0}, {FM_ROLE_ATTN_K, EIGHT_EXPERTS, FM_Q8_0},
      {FM_ROLE_ATTN_V, MORE_BITS, FM_Q6_K}, {FM_ROLE_ATTN_QKV, ALWAYS, FM_Q6_K}, DOWN(MORE_BITS, FM_Q6_K)}},
    {"Q5_K_S", FM_Q5_K,   16, "mixture: Q5_K, output Q6_K",
     {OUT(FM_Q6_K), {FM_ROLE_ATTN_V, EIGHT_EXPERTS, FM_Q8_0}, {FM_ROLE_ATTN_K, EIGHT_EXPERTS, FM_Q8_0}}},
    {"Q4_K_M", FM_Q4_K,   15, "mixture: Q4_K, Q6_K for values and down projections of half the layers",
     {OUT(FM_Q6_K), EIGHT, {FM_ROLE_ATTN_V, MORE_BITS, FM_Q6_K}, {FM_ROLE_ATTN_QKV, ALWAYS, FM_Q5_K},
      DOWN(MORE_BITS, FM_Q6_K)}},
    {"Q4_K_S", FM_Q4_K,   14, "mixture: Q4_K, Q5_K in the first layers, output Q6_K",
     {OUT(FM_Q6_K), EIGHT, {FM_ROLE_ATTN_V, FIRST_FOUR, FM_Q5_K}, DOWN(FIRST_EIGHTH, FM_Q5_K)}},
    {"Q3_K_L", FM_Q3_K,   13, "mixture: Q3_K, Q5_K for values, down projections and attention's output",
     {OUT(FM_Q6_K), EIGHT, {FM_ROLE_ATTN_V, ALWAYS, FM_Q5_K}, {FM_ROLE_ATTN_OUT, ALWAYS, FM_Q5_K},
      {FM_ROLE_ATTN_QKV, ALWAYS, FM_Q4_K}, DOWN(ALWAYS, FM_Q5_K)}},
    {"Q3_K_M", FM_Q3_K,   12, "mixture: Q3_K, Q4_K and Q5_K for values, down projections and attention's output",
     {OUT(FM_Q6_K), EIGHT, {FM_ROLE_ATTN_V, FIRST_TWO, FM_Q5_K}, {FM_ROLE_ATTN_V, ALWAYS, FM_Q4_K},
      {FM_ROLE_FFN_DOWN, FIRST_SIXTEENTH, FM_Q5_K}, {FM_ROLE_ATTN_QKV, ALWAYS, FM_Q4_K},
      {FM_ROLE_ATTN_OUT, ALWAYS, FM_Q4_K}, DOWN(ALWAYS, FM_Q4_K)}},
    {"Q3_K_S", FM_Q3_K,   11, "mixture: Q3_K, output Q6_K", {OUT(FM_Q6_K), EIGHT}},
    {"Q2_K_M", FM_Q2_K,   10, "mixture: Q2_K, Q3_K and Q4_K for values, down projections and attention's output",
     {OUT(FM_Q6_K), EIGHT, {FM_ROLE_ATTN_V, SHARED_KEYS, FM_Q4_K}, {FM_ROLE_ATTN_V, ALWAYS, FM_Q3_K},
      {FM_ROLE_ATTN_OUT, ALWAYS, FM_Q3_K}, DOWN(ALWAYS, FM_Q3_K)}},
    {"Q2_K_S", FM_Q2_K,   21, "mixture: Q2_K, Q4_K in the first layers, output Q6_K",
     {OUT(FM_Q6_K), EIGHT, {FM_ROLE_ATTN_V, SHARED_KEYS, FM_Q4_K}, DOWN(FIRST_EIGHTH, FM_Q4_K)}},
    {"MXFP4_MOE", FM_Q8_0, 38, "mixture: experts MXFP4, all else Q8_0",
     {{FM_ROLE_EXPERT, ALWAYS, FM_MXFP4}, {FM_ROLE_EXPERT_DOWN, ALWAYS, FM_MXFP4}}},
};
/* clang-format on */
enum { N_MIXTURES = sizeof mixtures / sizeof *mixtures };

const struct fm_mixture *fm_mixture_at(int i) { return i >= 0 && i < N_MIXTURES ? &mixtures[i] : NULL; }

const struct fm_mixture *fm_mixture_find(const char *name)
{
    for (int i = 0; i < N_MIXTURES; i++)
        if (!strcasecmp(mixtures[i].name, name)) return &mixtures[i];
    return NULL;
}

const char *fm_mixture_name(const struct fm_mixture *m) { return m->name; }
const char *fm_mixture_summary(const struct fm_mixture *m) { return m->summary; }
int fm_mixture_file_type(const struct fm_mixture *m) { return m->file_type; }
enum fm_fmt fm_mixture_base(const struct fm_mixture *m) { return m->base; }

static bool applies(const struct fm_recipe *r, enum when when, int layer)
{
    const int n = r->n_layers, eighth = n / 8;
    switch (when) {
    case ALWAYS: return true;
    case MORE_BITS: return layer < eighth || layer >= 7 * n / 8 || (layer - eighth) % 3 == 2;
    case FIRST_EIGHTH: return layer < eighth;
    case FIRST_SIXTEENTH: return layer < n / 16;
    case FIRST_TWO: return layer < 2;
    case FIRST_FOUR: return layer < 4;
    case SHARED_KEYS: return r->n_gqa >= 4;
    case EIGHT_EXPERTS: return r->n_experts == 8;
    }
    return false;
}

static enum fm_fmt from_mixture(const struct fm_recipe *r, enum fm_role role, int layer)
{
    const struct fm_mixture *m = r->mixture;
    for (int i = 0; i < STEPS && m->steps[i].fmt; i++)
        if (m->steps[i].role == role && applies(r, m->steps[i].when, layer)) return m->steps[i].fmt;
    return m->base;
}

/* ---- one tensor ---- */

struct fm_recipe fm_recipe_of(const struct fm_mixture *m)
{
    struct fm_recipe r = {.mixture = m, .n_gqa = 1, .odd = FM_F16};
    for (int i = 0; i < FM_PART_COUNT; i++) r.part[i] = FM_FMT_COUNT;
    return r;
}

static double bits(enum fm_fmt f) { return 8.0 * fm_formats[f].block_bytes / fm_formats[f].block; }

static enum fm_fmt from_rules(const struct fm_recipe *r, const struct fm_recode_tensor *t)
{
    enum fm_fmt fmt = FM_FMT_COUNT;
    for (int i = 0; i < r->n_rules; i++)
        if (!fnmatch(r->rules[i].glob, t->name, 0) || (*t->gguf && !fnmatch(r->rules[i].glob, t->gguf, 0)))
            fmt = r->rules[i].fmt;
    return fmt;
}

enum fm_fmt fm_recipe_wish(const struct fm_recipe *r, const struct fm_recode_tensor *t)
{
    int layer;
    const enum fm_fmt rule = t->n_dims > 1 && fm_formats[t->from].decode ? from_rules(r, t) : FM_FMT_COUNT;
    if (rule != FM_FMT_COUNT) return rule;
    if (t->fixed) return t->must_f32 ? FM_F32 : t->from;
    enum fm_role role = *t->gguf ? fm_role_of(t->gguf) : FM_ROLE_OTHER;
    (void)behind_block(t->gguf, &layer);
    if (role == FM_ROLE_EMBED && r->tied) role = FM_ROLE_OUTPUT;
    enum fm_fmt fmt = from_mixture(r, role, layer);
    int part = part_of_role[role];
    if (part >= 0 && r->part[part] != FM_FMT_COUNT)
        fmt = r->part[part];
    else if (part == FM_PART_OUTPUT && r->tied && r->part[FM_PART_EMBEDDINGS] != FM_FMT_COUNT)
        fmt = r->part[FM_PART_EMBEDDINGS];
    if (role == FM_ROLE_ATTN_LATENT && !r->pure && bits(fmt) < bits(FM_Q8_0)) fmt = FM_Q8_0;
    return fmt;
}

enum fm_fmt fm_recipe_fallback(const struct fm_recipe *r, enum fm_fmt f, uint64_t cols)
{
    static const struct {
        enum fm_fmt from, to;
    } next[] = {{FM_Q2_K, FM_Q4_0}, {FM_Q3_K, FM_Q4_0}, {FM_Q4_K, FM_Q5_0},
                {FM_Q5_K, FM_Q5_1}, {FM_Q6_K, FM_Q8_0}, {FM_IQ4_XS, FM_IQ4_NL}};
    if (cols % fm_formats[f].block == 0) return f;
    for (size_t i = 0; !r->pure && i < sizeof next / sizeof *next; i++)
        if (next[i].from == f) return fm_recipe_fallback(r, next[i].to, cols);
    return r->odd;
}

void fm_recipe_apply(const struct fm_recipe *r, struct fm_recode_tensor *list, int n)
{
    for (int i = 0; i < n; i++) {
        struct fm_recode_tensor *t = &list[i];
        t->fmt = fm_recipe_fallback(r, fm_recipe_wish(r, t), t->cols);
        const bool gathered = t->order == FM_ROWS_K_B || t->order == FM_ROWS_V_B || t->order == FM_ROWS_KV_B;
        bool scaled = t->scaled;
        for (int k = 0; k < t->n_mats; k++) scaled = scaled || t->mats[k].scale.at || t->mats[k].fmt != t->fmt;
        t->copied = t->fmt == t->from && !scaled && !gathered;
    }
}
