/* See inventory.h.  Where a matrix lies in struct fm_weights says which part of the model it is. */
#include "run/inventory.h"

#include "base/mem.h"
#include "model/recipe.h"
#include "run/resources.h"

static bool inside(const void *p, const void *start, size_t bytes)
{
    const uintptr_t at = (uintptr_t)p, from = (uintptr_t)start;
    return at >= from && at - from < bytes;
}

static enum fm_part_kind kind_of(const struct fm_inventory *inv, const struct fm_binding *b)
{
    if (b->mat == &inv->w.embed) return FM_KIND_EMBED;
    if (b->mat == &inv->w.head) return FM_KIND_HEAD;
    if (b->layer >= inv->cfg->L) return FM_KIND_MTP;
    if (b->expert >= 0) return FM_KIND_EXPERTS;
    if (b->flags & (FM_BIND_VECTOR | FM_BIND_F32) || b->mat == &inv->w.norm) return FM_KIND_SMALL;
    const struct fm_layer *l = &inv->w.layers[b->layer];
    if (inside(b->mat, &l->mlp, sizeof l->mlp)) return FM_KIND_FFN;
    return inside(b->mat, &l->moe.shared, sizeof l->moe.shared) ? FM_KIND_SHARED : FM_KIND_ATTENTION;
}

/* ---- formats --------------------------------------------------------------------------------------------------- */

/* A type is a mixture with rules of its own, or one format throughout. */
struct wish {
    struct fm_recipe recipe;
    enum fm_fmt fmt; /* when there is no mixture of that name */
};

static struct wish wish_of(const struct fm_config *cfg, const char *type)
{
    const struct fm_mixture *m = fm_mixture_find(type);
    struct wish w = {.recipe = fm_recipe_of(m), .fmt = m ? FM_FMT_COUNT : fm_format_by_name(type)};
    w.recipe.n_layers = cfg->L;
    w.recipe.n_experts = cfg->moe.router.E;
    w.recipe.n_gqa = cfg->mla.Rkv ? 1 : cfg->mha.H / cfg->mha.Hkv;
    w.recipe.tied = cfg->tied;
    return w;
}

bool fm_inventory_knows(const char *type)
{
    const enum fm_fmt f = fm_format_by_name(type);
    return fm_mixture_find(type) || (f != FM_FMT_COUNT && fm_formats[f].decode && f != FM_F64 && f != FM_F8_E8M0);
}

static enum fm_fmt planned(const struct wish *w, const struct fm_binding *b)
{
    const struct fm_recode_tensor t = {.name = b->gguf, .gguf = b->gguf, .n_dims = 2, .cols = (uint64_t)b->cols};
    if (b->flags & (FM_BIND_VECTOR | FM_BIND_F32)) return FM_F32;
    return fm_recipe_fallback(&w->recipe, w->fmt != FM_FMT_COUNT ? w->fmt : fm_recipe_wish(&w->recipe, &t), t.cols);
}

/* kv_b is written as two tensors. */
static void as_planned(struct fm_stored *s, const struct fm_binding *b, const struct wish *w)
{
    s->there = !(b->flags & FM_BIND_SPLIT_WHOLE);
    s->fmt = planned(w, b);
    s->bytes = fm_format_bytes(s->fmt, (uint64_t)b->rows * (uint64_t)b->cols);
}

static void as_stored(struct fm_stored *s, const struct fm_binding *b, const struct fm_file *f)
{
    struct fm_tensor view;
    const struct fm_tensor *t = fm_binding_tensor(f, b, &view);
    if (!t) return;
    const bool stacked = b->expert >= 0 && fm_file_container(f) == FM_GGUF;
    s->there = true;
    s->fmt = t->fmt;
    s->bytes = stacked ? t->n_bytes / (uint64_t)b->n_experts : t->n_bytes;
}

/* ---- work ------------------------------------------------------------------------------------------------------ */

/* Latent attention, generating: of kv_b's heads only the rows of values, the keys come from the absorbed matrices. */
static double decoded_part(const struct fm_mla_shape *a, const struct fm_binding *b)
{
    return b->flags & FM_BIND_SPLIT_WHOLE ? (double)a->Dv / (a->Dn + a->Dv) : 1;
}

static void count_work(struct fm_inventory *inv, const struct fm_binding *b, struct fm_stored *s)
{
    const struct fm_config *cfg = inv->cfg;
    const bool lookup = s->kind == FM_KIND_EMBED && !cfg->tied,
               split = b->flags & (FM_BIND_SPLIT_WHOLE | FM_BIND_SPLIT_PART);
    if (!s->there || s->kind == FM_KIND_MTP || lookup) return;
    const double share = b->expert >= 0 ? (double)cfg->moe.router.K / cfg->moe.router.E : 1;
    const double used = share * decoded_part(&cfg->mla, b);
    s->decode_bytes = used * (double)s->bytes;
    if (b->flags & FM_BIND_VECTOR) return;
    s->decode_macs = used * b->rows * b->cols;
    const bool once = s->kind == FM_KIND_HEAD || s->kind == FM_KIND_EMBED; /* logits of the last token only */
    if (!once && !split) s->prefill_macs = share * b->rows * b->cols;
}

/* Files with kv_b in one tensor: W_UK transposed, in float32. */
static void count_absorbed(struct fm_inventory *inv, const struct fm_binding *b, const struct fm_stored *s)
{
    const struct fm_mla_shape *a = &inv->cfg->mla;
    if (s->there && b->flags & FM_BIND_SPLIT_WHOLE && s->kind == FM_KIND_ATTENTION)
        inv->absorbed_bytes += (double)a->H * a->Rkv * a->Dn * sizeof(float);
}

/* ---- all of it ------------------------------------------------------------------------------------------------- */

static void give_shapes(struct fm_inventory *inv)
{
    static char nowhere;
    for (int i = 0; i < inv->n; i++)
        if (inv->stored[i].there)
            *inv->rows[i].mat = (struct fm_mat){
                .fmt = inv->stored[i].fmt, .rows = inv->rows[i].rows, .cols = inv->rows[i].cols, .data = &nowhere};
    if (inv->cfg->tied) inv->w.head = inv->w.embed;
    for (int l = 0; l < inv->cfg->L + inv->cfg->n_mtp; l++) { /* what loading derives */
        struct fm_mla *m = l < inv->cfg->L ? &inv->w.layers[l].mla : &inv->w.mtp[l - inv->cfg->L].layer.mla;
        if (m->wkv_b.data && !m->wk_b.data) m->wk_b = (struct fm_mat){.fmt = FM_F32, .data = &nowhere};
        if (m->wk_b.data && !m->wkv_b.data) m->wkv_b = (struct fm_mat){.fmt = FM_Q8_0, .data = &nowhere};
    }
}

enum fm_status fm_inventory_new(struct fm_inventory *inv, const struct fm_config *cfg, const struct fm_file *f,
                                const char *type, struct fm_error *err)
{
    *inv = (struct fm_inventory){.cfg = cfg};
    FM_TRY(fm_weights_init(&inv->w, cfg, err));
    enum fm_status st = fm_bindings_new(cfg, &inv->w, &inv->rows, &inv->n, err);
    if (!st && !(inv->stored = fm_calloc((size_t)inv->n, sizeof *inv->stored)))
        st = fm_fail_memory(err, "tensor list", (size_t)inv->n * sizeof *inv->stored);
    if (st) {
        fm_inventory_release(inv);
        return st;
    }
    const struct wish wish = f ? (struct wish){0} : wish_of(cfg, type);
    for (int i = 0; i < inv->n; i++) {
        struct fm_stored *s = &inv->stored[i];
        s->kind = kind_of(inv, &inv->rows[i]);
        if (f)
            as_stored(s, &inv->rows[i], f);
        else
            as_planned(s, &inv->rows[i], &wish);
        count_work(inv, &inv->rows[i], s);
        count_absorbed(inv, &inv->rows[i], s);
    }
    give_shapes(inv);
    return FM_OK;
}

void fm_inventory_release(struct fm_inventory *inv)
{
    fm_free(inv->stored);
    fm_free(inv->rows);
    fm_weights_release(&inv->w, inv->cfg);
    *inv = (struct fm_inventory){.cfg = inv->cfg};
}
