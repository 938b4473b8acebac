/* See packing.h. */
#include "run/packing.h"

#include "base/mem.h"

enum { ALIGN = 64 };

/* Latent attention multiplies with parts of these: each must begin with a group of packed rows. */
static bool heads_fit(const struct fm_mla_shape *s, int rows)
{
    return s->Dn % rows == 0 && s->Dv % rows == 0 && s->Rkv % rows == 0;
}

/* Of files that hold kv_b in two parts the whole is derived (model/bind.c), for prompts only. */
static bool is_derived(const struct fm_config *cfg, const struct fm_weights *w, const struct fm_binding *b)
{
    if (!(b->flags & FM_BIND_SPLIT_WHOLE)) return false;
    return (b->layer < cfg->L ? w->layers[b->layer].mla : w->mtp[b->layer - cfg->L].layer.mla).wv_b.data != NULL;
}

/* Bytes of a binding's matrix if it is packed, else 0.  An embedding that is not the head, too, is only looked up in. */
static size_t bytes_of(const struct fm_config *cfg, const struct fm_weights *w, const struct fm_binding *b)
{
    const struct fm_mat *m = b->mat;
    if (!m->data || b->flags & FM_BIND_VECTOR || m->scale.at || (m == &w->embed && !cfg->tied)) return 0;
    if (is_derived(cfg, w, b)) return 0;
    const int rows = fm_cpu_pack_rows(m->fmt, m->cols);
    if (!rows || m->rows < rows) return 0;
    if (b->flags & (FM_BIND_SPLIT_WHOLE | FM_BIND_SPLIT_PART) && !heads_fit(&cfg->mla, rows)) return 0;
    return (size_t)fm_format_bytes(m->fmt, (uint64_t)m->cols) * (size_t)m->rows;
}

static size_t aligned(size_t n) { return (n + ALIGN - 1) & ~(size_t)(ALIGN - 1); }

enum fm_status fm_model_pack_bytes(const struct fm_config *cfg, const struct fm_weights *w, size_t *bytes,
                                   struct fm_error *err)
{
    struct fm_binding *list;
    int n;
    FM_TRY(fm_bindings_new(cfg, (struct fm_weights *)w, &list, &n, err)); /* only read here */
    *bytes = 0;
    for (int i = 0; i < n; i++) *bytes += aligned(bytes_of(cfg, w, &list[i]));
    fm_free(list);
    return FM_OK;
}

static void give_back(void *file, const void *from, size_t bytes) { fm_file_advise(file, from, bytes, FM_FILE_DONE); }

enum fm_status fm_model_pack(struct fm_model *m, const struct fm_file *f, struct fm_error *err)
{
    struct fm_binding *list;
    size_t bytes, used = 0;
    int n, count = 0;
    FM_TRY(fm_model_pack_bytes(&m->cfg, &m->w, &bytes, err));
    if (!bytes) return FM_OK;
    FM_TRY(fm_bindings_new(&m->cfg, &m->w, &list, &n, err));
    m->packed = fm_calloc((size_t)n, sizeof *m->packed);
    if (m->packed) m->packed_at = fm_pages_alloc(m->packed_bytes = bytes);
    for (int i = 0; m->packed_at && i < n; i++) {
        const struct fm_mat *w = list[i].mat;
        const size_t size = bytes_of(&m->cfg, &m->w, &list[i]);
        if (!size) continue;
        m->packed[count] = (struct fm_packed){w->data, m->packed_at + used, w->rows,          w->row_bytes,
                                              false,   give_back,           (void *)(size_t)f};
        list[i].mat->packed = &m->packed[count++];
        used += aligned(size);
    }
    fm_free(list);
    m->n_packed = count;
    if (m->cfg.tied) m->w.head = m->w.embed;
    return m->packed_at ? FM_OK : fm_fail_memory(err, "packed weights", bytes);
}
