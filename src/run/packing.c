/* See packing.h. */
#include "run/packing.h"

#include "base/mem.h"

enum { PIECE = 1 << 18, ALIGN = 64 }; /* bytes packed at a time: they fit a second-level cache */

/* Latent attention multiplies with parts of these: each must begin with a group of packed rows. */
static bool heads_fit(const struct fm_mla_shape *s, int rows)
{
    return s->Dn % rows == 0 && s->Dv % rows == 0 && s->Rkv % rows == 0;
}

/* Bytes of a binding's matrix if it is packed, else 0.  An embedding that is not the head, too, is only looked up in. */
static size_t bytes_of(const struct fm_config *cfg, const struct fm_weights *w, const struct fm_binding *b)
{
    const struct fm_mat *m = b->mat;
    if (!m->data || b->flags & FM_BIND_VECTOR || m->scale.at || (m == &w->embed && !cfg->tied)) return 0;
    const int rows = fm_cpu_pack_rows(m->fmt, m->cols);
    if (!rows || m->rows % rows) return 0;
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

struct item {
    const struct fm_mat *from;
    char *to;
    int piece_rows, first_piece;
};

struct job {
    const struct fm_file *f;
    const struct item *items;
    int n;
};

/* Whole groups of rows, about a piece of bytes. */
static int piece_rows(const struct fm_mat *m)
{
    const int group = fm_cpu_pack_rows(m->fmt, m->cols), n = (int)(PIECE / m->row_bytes) / group * group;
    return n ? n : group;
}

static void pack_pieces(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    int at = 0;
    (void)thread;
    for (int p = begin; p < end; p++) {
        while (at + 1 < j->n && j->items[at + 1].first_piece <= p) at++;
        const struct item *x = &j->items[at];
        const int row = (p - x->first_piece) * x->piece_rows, left = x->from->rows - row,
                  n = left < x->piece_rows ? left : x->piece_rows;
        const size_t offset = (size_t)row * x->from->row_bytes;
        fm_cpu_pack(x->to + offset, x->from, row, n);
        fm_file_advise(j->f, (const char *)x->from->data + offset, (size_t)n * x->from->row_bytes, FM_FILE_DONE);
    }
}

/* The items of list, each with its place from `to` on; returns the number of their pieces. */
static int lay_out(const struct fm_model *m, const struct fm_binding *list, int n, char *to, struct item *items,
                   int *count)
{
    int pieces = 0;
    *count = 0;
    for (int i = 0; i < n; i++) {
        const size_t bytes = bytes_of(&m->cfg, &m->w, &list[i]);
        if (!bytes) continue;
        struct item *x = &items[(*count)++];
        *x = (struct item){list[i].mat, to, piece_rows(list[i].mat), pieces};
        pieces += (x->from->rows + x->piece_rows - 1) / x->piece_rows;
        to += aligned(bytes);
    }
    return pieces;
}

enum fm_status fm_model_pack(struct fm_model *m, const struct fm_file *f, struct fm_pool *pool, struct fm_error *err)
{
    struct fm_binding *list;
    size_t bytes;
    int n, count;
    FM_TRY(fm_model_pack_bytes(&m->cfg, &m->w, &bytes, err));
    if (!bytes) return FM_OK;
    FM_TRY(fm_bindings_new(&m->cfg, &m->w, &list, &n, err));
    struct item *items = fm_malloc((size_t)n * sizeof *items);
    void *to = items ? fm_pages_alloc(bytes) : NULL;
    if (!to) {
        fm_free(items);
        fm_free(list);
        return fm_fail_memory(err, "packed weights", bytes);
    }
    const int pieces = lay_out(m, list, n, to, items, &count);
    fm_parallel_for(pool, pieces, 1, pack_pieces, &(struct job){f, items, count});
    for (int i = 0, k = 0; i < n; i++)
        if (k < count && list[i].mat == items[k].from) {
            list[i].mat->data = items[k++].to;
            list[i].mat->packed = true;
        }
    if (m->cfg.tied) m->w.head = m->w.embed;
    m->packed = to;
    m->packed_bytes = bytes;
    fm_free(items);
    fm_free(list);
    return FM_OK;
}
