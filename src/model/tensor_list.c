/* See tensor_list.h. */
#include "model/tensor_list.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "model/recipe.h"
#include "model/rope_config.h"
#include "model/scales.h"

void fm_list_release(struct fm_recode_list *list)
{
    fm_free(list->v);
    fm_free(list->rows);
    fm_free(list->divisors);
    *list = (struct fm_recode_list){0};
}

/* ---- from a bound model ---- */

struct maker {
    const struct fm_config *cfg;
    bool gguf, without_mtp;
    struct fm_recode_list *list;
};

static struct fm_recode_tensor *add(struct maker *m, const char *name, const char *gguf, const struct fm_mat *mats,
                                    int n_mats)
{
    struct fm_recode_tensor *t = &m->list->v[m->list->n++];
    *t = (struct fm_recode_tensor){.name = name, .gguf = gguf, .mats = mats, .n_mats = n_mats, .n_slices = 1};
    t->from = mats->fmt;
    t->from_name = fm_formats[mats->fmt].name;
    return t;
}

static void set_shape(struct fm_recode_tensor *t, int n_dims, uint64_t a, uint64_t b, uint64_t c)
{
    const uint64_t shape[3] = {a, b, c};
    t->n_dims = n_dims;
    t->rows = 1;
    for (int d = 0; d < n_dims; d++) t->shape[d] = shape[d + 3 - n_dims];
    for (int d = 0; d < n_dims - 1; d++) t->rows *= t->shape[d];
    t->cols = c;
}

static void set_latent(struct fm_recode_tensor *t, const struct fm_config *cfg, enum fm_row_order order)
{
    t->order = order;
    t->Dn = cfg->mla.Dn;
    t->Dv = cfg->mla.Dv;
    t->R = cfg->mla.Rkv;
}

/* kv_b: as it is, in two parts, or joined from them.  b, b + 1 and b + 2 are its row, attn_k_b's and attn_v_b's. */
static void add_latent(struct maker *m, const struct fm_binding *b)
{
    const struct fm_mla_shape *a = &m->cfg->mla;
    const uint64_t H = (uint64_t)a->H, Dn = (uint64_t)a->Dn, Dv = (uint64_t)a->Dv, R = (uint64_t)a->Rkv;
    const bool whole = b->mat->data, split = m->gguf && m->cfg->kv_split;
    if (split) {
        struct fm_recode_tensor *k = add(m, b[1].gguf, b[1].gguf, whole ? b->mat : b[1].mat, 1);
        set_shape(k, 3, H, R, Dn);
        struct fm_recode_tensor *v = add(m, b[2].gguf, b[2].gguf, whole ? b->mat : b[2].mat, 1);
        set_shape(v, 3, H, Dv, R);
        k->n_slices = v->n_slices = a->H;
        if (whole) {
            set_latent(k, m->cfg, FM_ROWS_K_B);
            set_latent(v, m->cfg, FM_ROWS_V_B);
        }
        return;
    }
    /* the two parts are neighbours in struct fm_mla, so that they are an array */
    struct fm_recode_tensor *t = add(m, m->gguf ? b->gguf : b->hf, b->gguf, whole ? b->mat : b[1].mat, whole ? 1 : 2);
    set_shape(t, 2, 0, H * (Dn + Dv), R);
    if (!whole) set_latent(t, m->cfg, FM_ROWS_KV_B);
}

_Static_assert(offsetof(struct fm_mla, wv_b) == offsetof(struct fm_mla, wk_b) + sizeof(struct fm_mat),
               "add_latent takes wk_b and wv_b as an array");

static void set_order(const struct maker *m, const struct fm_binding *b, struct fm_recode_tensor *t)
{
    const bool permuted = m->cfg->rope_interleaved; /* the rows are those of a GGUF file */
    if (!(b->flags & FM_BIND_PERMUTE) || !m->cfg->family->permuted_gguf || permuted == m->gguf) return;
    t->order = m->gguf ? FM_ROWS_PAIRS : FM_ROWS_HALVES;
    t->head = b->rows / b->heads;
}

static void add_binding(struct maker *m, const struct fm_binding *b)
{
    const uint64_t r = (uint64_t)b->rows, c = (uint64_t)b->cols;
    if (b->flags & FM_BIND_SPLIT_PART || (m->without_mtp && b->layer >= m->cfg->L)) return;
    if (b->flags & FM_BIND_SPLIT_WHOLE) {
        add_latent(m, b);
        return;
    }
    const bool stacked = m->gguf && b->expert >= 0;
    if (stacked && b->expert > 0) return;
    struct fm_recode_tensor *t = add(m, m->gguf ? b->gguf : b->hf, b->gguf, b->mat, stacked ? b->n_experts : 1);
    if (stacked) t->n_slices = b->n_experts;
    set_shape(t, b->flags & FM_BIND_VECTOR ? 1 : stacked ? 3 : 2, (uint64_t)t->n_mats, r, c);
    t->fixed = t->must_f32 = b->flags & (FM_BIND_VECTOR | FM_BIND_F32);
    set_order(m, b, t);
}

/* RoPE scaling that GGUF has no keys for: each frequency's divisor, in a tensor. */
static enum fm_status add_divisors(struct maker *m, struct fm_error *err)
{
    const int n = m->cfg->rope_dim / 2;
    if (!m->gguf || !fm_rope_needs_divisors(m->cfg)) return FM_OK;
    m->list->divisors = fm_calloc((size_t)n, sizeof(float));
    if (!m->list->divisors || !fm_rope_divisors(m->cfg, m->list->divisors))
        return fm_fail_memory(err, "RoPE divisors", (size_t)n * sizeof(float));
    struct fm_recode_tensor *t = &m->list->v[m->list->n++];
    *t = (struct fm_recode_tensor){.name = "rope_freqs.weight", .gguf = "rope_freqs.weight", .n_slices = 1};
    t->own = fm_mat_of(FM_F32, 1, n, m->list->divisors);
    t->from = FM_F32;
    t->from_name = "F32";
    t->fixed = t->must_f32 = true;
    set_shape(t, 1, 0, 0, (uint64_t)n);
    return FM_OK;
}

enum fm_status fm_list_from_model(const struct fm_config *cfg, struct fm_weights *w, bool gguf, bool without_mtp,
                                  struct fm_recode_list *list, struct fm_error *err)
{
    struct maker m = {.cfg = cfg, .gguf = gguf, .without_mtp = without_mtp, .list = list};
    int n = 0;
    enum fm_status st;
    *list = (struct fm_recode_list){0};
    FM_GOTO(fm_bindings_new(cfg, w, &list->rows, &n, err));
    list->v = fm_calloc((size_t)n + 1, sizeof *list->v);
    if (!list->v) FM_GOTO(fm_fail_memory(err, "list of tensors", (size_t)n * sizeof *list->v));
    FM_GOTO(add_divisors(&m, err));
    for (int i = 0; i < n; i++) add_binding(&m, &list->rows[i]);
    return FM_OK;
out:
    fm_list_release(list);
    return st;
}

/* ---- from a file ---- */

static enum fm_status refuse(const struct fm_tensor *t, const char *why, struct fm_error *err)
{
    return fm_fail(err, FM_ERR_INPUT, "convert model: %s, tensor '%s': %s", t->path, t->name, why);
}

/* The number behind `mark` in a tensor's name, or -1. */
static int layer_of(const char *name, const char *mark)
{
    const char *at = strstr(name, mark);
    char *end;
    const long n = at ? strtol(at + strlen(mark), &end, 10) : -1;
    return n >= 0 && n < INT_MAX && *end == '.' ? (int)n : -1;
}

enum { NAME_BYTES = 1200 }; /* above the limit of the readers, FM_MAX_NAME */

/* The weight that t holds scales for, of its own values or of its input's; NULL when it is none of that. */
static const struct fm_tensor *scaled_by(const struct fm_file *f, const struct fm_tensor *t, struct fm_tensor *view)
{
    static const struct {
        const char *tail, *weight;
        bool of_input;
    } rows[] = {{".weight_scale_inv", ".weight", false},
                {".weight_scale", ".weight", false},
                {".weight_scale_2", ".weight", false},
                {".weight_global_scale", ".weight", false},
                {".scale", ".weight", false},
                {".input_scale", ".weight", true},
                {".input_global_scale", ".weight", true}};
    char name[NAME_BYTES];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!fm_ends_with(t->name, rows[i].tail)) continue;
        snprintf(name, sizeof name, "%.*s%s", (int)(strlen(t->name) - strlen(rows[i].tail)), t->name, rows[i].weight);
        const struct fm_tensor *w = fm_weight_find(f, name, view);
        if (w && (rows[i].of_input ? fm_scales_beside(f, w) : fm_scales_are(f, w, t->name))) return w;
    }
    return NULL;
}

/* Vectors and small matrices whose rounding is felt everywhere. */
static bool is_fixed(const struct fm_tensor *t, bool gguf)
{
    if (t->n_dims < 2 || !fm_formats[t->fmt].decode) return true;
    if (gguf) return fm_role_of(t->name) == FM_ROLE_FIXED;
    return fm_ends_with(t->name, "norm.weight") || fm_ends_with(t->name, ".mlp.gate.weight");
}

static enum fm_status add_tensor(const struct fm_file *f, const struct fm_tensor *in_file, struct fm_recode_list *list,
                                 struct fm_error *err)
{
    const bool gguf = fm_file_container(f) == FM_GGUF;
    struct fm_tensor view;
    const struct fm_tensor *t = fm_weight_find(f, in_file->name, &view);
    if (t->fmt == FM_FMT_COUNT) return refuse(t, "is of a type that is not known", err);
    if (fm_ends_with(t->name, "_packed")) return refuse(t, "packed under another name: give the type GGUF", err);
    if (!gguf && t->n_dims > 1 && !fm_formats[t->fmt].decode && fm_formats[t->fmt].block_bytes == 1)
        return refuse(t, "holds packed weights without scales", err);
    struct fm_recode_tensor *out = &list->v[list->n];
    *out = (struct fm_recode_tensor){.name = t->name,
                                     .gguf = gguf ? t->name : "",
                                     .from = t->fmt,
                                     .from_name = t->type_name,
                                     .n_dims = t->n_dims,
                                     .source = *t};
    memcpy(out->shape, t->shape, sizeof out->shape);
    out->cols = t->n_dims ? t->shape[t->n_dims - 1] : 1;
    out->rows = out->cols ? t->n_elements / out->cols : 0;
    if (out->cols > INT_MAX || out->rows > INT_MAX) return refuse(t, "is too large to be converted", err);
    out->n_slices = t->n_dims == 3 && out->rows && t->shape[0] <= INT_MAX ? (int)t->shape[0] : 1;
    out->own = fm_mat_of(t->fmt, (int)out->rows, (int)out->cols, (void *)(size_t)t->data);
    out->scaled = fm_scales_beside(f, t);
    out->fixed = !out->scaled && is_fixed(t, gguf);
    list->n++;
    return FM_OK;
}

enum fm_status fm_list_from_file(const struct fm_file *f, int layers, struct fm_recode_list *list, struct fm_error *err)
{
    const int n = fm_file_n_tensors(f);
    const char *mark = fm_file_container(f) == FM_GGUF ? "blk." : "model.layers.";
    *list = (struct fm_recode_list){.v = fm_calloc((size_t)n, sizeof *list->v)};
    if (!list->v) return fm_fail_memory(err, "list of tensors", (size_t)n * sizeof *list->v);
    enum fm_status st = FM_OK;
    for (int i = 0; i < n && !st; i++) {
        const struct fm_tensor *t = fm_file_tensor(f, i);
        struct fm_tensor view;
        if (layer_of(t->name, mark) >= layers || scaled_by(f, t, &view)) continue;
        st = add_tensor(f, t, list, err);
    }
    if (st) fm_list_release(list);
    return st;
}
