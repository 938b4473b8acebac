/* The list of families, and their table rows made concrete. */
#include "model/family.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "model/model.h"

extern const struct fm_family fm_family_llama, fm_family_qwen2, fm_family_qwen3, fm_family_deepseek_v2,
    fm_family_deepseek_v3;

const struct fm_family *const fm_families[] = {&fm_family_llama, &fm_family_qwen2, &fm_family_qwen3,
                                               &fm_family_deepseek_v2, &fm_family_deepseek_v3};
const int fm_n_families = sizeof fm_families / sizeof *fm_families;

/* out = pattern with {l} and {e} replaced; patterns are ours and short enough. */
static void fill(char *out, size_t cap, const char *pattern, int layer, int expert)
{
    size_t n = 0;
    for (const char *p = pattern ? pattern : ""; *p && n + 12 < cap;) {
        if (p[0] == '{' && (p[1] == 'l' || p[1] == 'e') && p[2] == '}') {
            n += (size_t)snprintf(out + n, cap - n, "%d", p[1] == 'l' ? layer : expert);
            p += 3;
        } else {
            out[n++] = *p++;
        }
    }
    out[n] = 0;
}

struct list {
    const struct fm_config *cfg;
    struct fm_binding *items; /* NULL: only count */
    int n;
};

static void emit(struct list *l, const struct fm_tensor_row *row, int layer, int expert, struct fm_mat *mat)
{
    if (l->items) {
        struct fm_binding *b = &l->items[l->n];
        fill(b->hf, sizeof b->hf, row->hf, layer, expert);
        fill(b->gguf, sizeof b->gguf, row->gguf, layer, expert);
        row->shape(l->cfg, &b->rows, &b->cols);
        b->expert = expert;
        b->n_experts = expert >= 0 ? l->cfg->moe.router.E : 0;
        b->mat = mat;
        b->layer = layer;
        b->flags = row->flags;
        b->heads = row->heads ? row->heads(l->cfg) : 0;
    }
    l->n++;
}

static void *at(void *base, size_t offset) { return (char *)base + offset; }

/* All rows of one layer; layer is also its number in names. */
static void emit_layer(struct list *l, struct fm_layer *w, int layer)
{
    const struct fm_family *f = l->cfg->family;
    for (int i = 0; i < f->n_rows; i++) {
        const struct fm_tensor_row *row = &f->rows[i];
        if ((row->where != FM_IN_LAYER && row->where != FM_IN_EXPERT) || (row->when && !row->when(l->cfg, layer)))
            continue;
        if (row->where == FM_IN_LAYER)
            emit(l, row, layer, -1, at(w, row->offset));
        else
            for (int e = 0; e < l->cfg->moe.router.E; e++)
                emit(l, row, layer, e, *(struct fm_mat **)at(w, row->offset) + e);
    }
}

static void emit_all(struct list *l, struct fm_weights *w)
{
    const struct fm_family *f = l->cfg->family;
    for (int i = 0; i < f->n_rows; i++)
        if (f->rows[i].where == FM_IN_MODEL && (!f->rows[i].when || f->rows[i].when(l->cfg, 0)))
            emit(l, &f->rows[i], 0, -1, at(w, f->rows[i].offset));
    for (int layer = 0; layer < l->cfg->L; layer++) emit_layer(l, &w->layers[layer], layer);
    for (int m = 0; m < l->cfg->n_mtp; m++) {
        for (int i = 0; i < f->n_rows; i++)
            if (f->rows[i].where == FM_IN_MTP)
                emit(l, &f->rows[i], l->cfg->L + m, -1, at(&w->mtp[m], f->rows[i].offset));
        emit_layer(l, &w->mtp[m].layer, l->cfg->L + m);
    }
}

enum fm_status fm_bindings_new(const struct fm_config *cfg, struct fm_weights *w, struct fm_binding **list, int *n,
                               struct fm_error *err)
{
    struct list l = {.cfg = cfg};
    emit_all(&l, w);
    struct fm_binding *items = fm_calloc((size_t)l.n, sizeof *items);
    if (!items) return fm_fail_memory(err, "tensor list", (size_t)l.n * sizeof *items);
    l.items = items;
    l.n = 0;
    emit_all(&l, w);
    *list = items;
    *n = l.n;
    return FM_OK;
}

static bool init_layer(struct fm_layer *l, const struct fm_config *cfg, int index)
{
    if (!fm_layer_is_moe(cfg, index)) return true;
    const size_t E = (size_t)cfg->moe.router.E;
    l->moe.gate = fm_calloc(3 * E, sizeof *l->moe.gate); /* one block, three arrays */
    if (!l->moe.gate) return false;
    l->moe.up = l->moe.gate + E;
    l->moe.down = l->moe.up + E;
    return true;
}

enum fm_status fm_weights_init(struct fm_weights *w, const struct fm_config *cfg, struct fm_error *err)
{
    *w = (struct fm_weights){0};
    w->layers = fm_calloc((size_t)cfg->L, sizeof *w->layers);
    w->mtp = fm_calloc((size_t)cfg->n_mtp, sizeof *w->mtp);
    bool ok = w->layers && w->mtp;
    for (int l = 0; ok && l < cfg->L; l++) ok = init_layer(&w->layers[l], cfg, l);
    for (int m = 0; ok && m < cfg->n_mtp; m++) ok = init_layer(&w->mtp[m].layer, cfg, cfg->L + m);
    if (ok) return FM_OK;
    fm_weights_release(w, cfg);
    return fm_fail_memory(err, "weight tables", (size_t)cfg->L * sizeof *w->layers);
}

void fm_weights_release(struct fm_weights *w, const struct fm_config *cfg)
{
    for (int l = 0; w->layers && l < cfg->L; l++) fm_free(w->layers[l].moe.gate);
    for (int m = 0; w->mtp && m < cfg->n_mtp; m++) fm_free(w->mtp[m].layer.moe.gate);
    fm_free(w->layers);
    fm_free(w->mtp);
    *w = (struct fm_weights){0};
}
