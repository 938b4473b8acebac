/* Which format each tensor gets: a type's name, changes for groups of tensors, rules by name.
 *
 * A type is a format throughout ("Q4_K") or a mixture ("Q4_K_M") that spends bits where they count.  What decides is the
 * role of a tensor, told by its GGUF name, also where the output has other names. */
#ifndef FM_MODEL_RECIPE_H
#define FM_MODEL_RECIPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "model/recode.h"
#include "quant/format.h"

enum fm_role {
    FM_ROLE_FIXED, /* norms, routers and their like: not quantised */
    FM_ROLE_EMBED,
    FM_ROLE_OUTPUT,
    FM_ROLE_ATTN, /* queries, and what has no rules of its own */
    FM_ROLE_ATTN_K,
    FM_ROLE_ATTN_V,
    FM_ROLE_ATTN_QKV, /* in one tensor */
    FM_ROLE_ATTN_OUT,
    FM_ROLE_ATTN_LATENT, /* attn_kv_b, attn_k_b, attn_v_b: Q8_0 at least, unless a rule names them */
    FM_ROLE_FFN,
    FM_ROLE_FFN_DOWN,
    FM_ROLE_EXPERT,
    FM_ROLE_EXPERT_DOWN,
    FM_ROLE_SHARED,
    FM_ROLE_SHARED_DOWN,
    FM_ROLE_OTHER,
    FM_ROLE_COUNT
};
enum fm_role fm_role_of(const char *gguf_name);

/* What options can change apart. */
enum fm_part_of_model {
    FM_PART_EXPERTS,
    FM_PART_SHARED,
    FM_PART_ATTENTION,
    FM_PART_EMBEDDINGS,
    FM_PART_OUTPUT,
    FM_PART_COUNT
};

struct fm_mixture;
/* The i-th type; NULL behind the last.  Find: without regard to case; NULL when unknown. */
const struct fm_mixture *fm_mixture_at(int i);
const struct fm_mixture *fm_mixture_find(const char *name);
const char *fm_mixture_name(const struct fm_mixture *m);
const char *fm_mixture_summary(const struct fm_mixture *m);
int fm_mixture_file_type(const struct fm_mixture *m); /* general.file_type */
enum fm_fmt fm_mixture_base(const struct fm_mixture *m);

struct fm_recipe_rule {
    const char *glob; /* of fnmatch, against the name in the output and the GGUF name */
    enum fm_fmt fmt;
};

struct fm_recipe {
    const struct fm_mixture *mixture;
    enum fm_fmt part[FM_PART_COUNT];    /* FM_FMT_COUNT: as the mixture says */
    const struct fm_recipe_rule *rules; /* the last that matches counts */
    int n_rules;
    enum fm_fmt odd; /* of rows that no blocks fit; F16 unless set                  */
    bool pure;       /* exactly one format: no minimum for latent attention, no other blocks for such rows */
    /* the model */
    int n_layers, n_experts, n_gqa; /* n_gqa: query heads per key head, 1 when unknown */
    bool tied;                      /* the embedding is the output, too                */
};

/* A recipe that is nothing but its mixture. */
struct fm_recipe fm_recipe_of(const struct fm_mixture *m);

/* Fill fmt and copied of every tensor. */
void fm_recipe_apply(const struct fm_recipe *r, struct fm_recode_tensor *list, int n);
/* The format that is written instead where rows of cols are no whole blocks of f. */
enum fm_fmt fm_recipe_fallback(const struct fm_recipe *r, enum fm_fmt f, uint64_t cols);
/* What the recipe asks for, before the fallback. */
enum fm_fmt fm_recipe_wish(const struct fm_recipe *r, const struct fm_recode_tensor *t);

#endif
