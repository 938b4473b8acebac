/* Rows laid side by side for the kernels, and a row back.  What is left over behind the last whole group stays as in the file. */
#include <string.h>

#include "op/cpu/backend.h"

enum {
    PIECE = 1 << 18, /* bytes packed at a time: they fit a second-level cache                         */
    PIECES_EACH = 4, /* for each thread, before the file's are let go: so much is in memory twice */
};

/* A row must fit the tile that it is unpacked to. */
int fm_cpu_pack_rows(enum fm_fmt fmt, int cols)
{
    const struct fm_kernels *k = fm_kernels_get(NULL);
    bool packs = k->pack[fmt] && cols % 32 == 0 && fm_format_bytes(fmt, (uint64_t)cols) <= FM_CPU_TILE * sizeof(float);
    return packs ? k->pack_rows : 0;
}

struct job {
    const struct fm_kernels *k;
    const char *from;
    char *to;
    enum fm_fmt fmt;
    size_t row_bytes;
    int cols, rows, piece;
};

static void pack_pieces(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    (void)thread;
    for (int i = begin; i < end; i++) {
        const int row = i * j->piece;
        const size_t at = (size_t)row * j->row_bytes;
        const int rows = fm_min_int(j->piece, j->rows - row), left = rows % j->k->pack_rows;
        const size_t bytes = (size_t)(rows - left) * j->row_bytes;
        if (rows > left) j->k->pack[j->fmt](j->to + at, j->from + at, j->row_bytes, rows - left, j->cols);
        memcpy(j->to + at + bytes, j->from + at + bytes, (size_t)left * j->row_bytes);
    }
}

/* Whole groups of rows that take at most that many bytes, one at least. */
static int rows_within(size_t bytes, const struct fm_mat *w, int group)
{
    const int n = (int)(bytes / w->row_bytes) / group * group;
    return n ? n : group;
}

int fm_cpu_grouped_rows(const struct fm_ctx *c, const struct fm_packed *p)
{
    return p->rows - p->rows % fm_cpu_kernels(c)->pack_rows;
}

void fm_cpu_pack(struct fm_ctx *c, const struct fm_mat *w)
{
    struct fm_packed *p = w->packed;
    const struct fm_kernels *k = fm_cpu_kernels(c);
    const size_t twice = (size_t)PIECES_EACH * PIECE * (size_t)fm_cpu_backend(c)->n_threads;
    const int stride = rows_within(twice, w, k->pack_rows), piece = rows_within(PIECE, w, k->pack_rows);
    for (int row = 0; row < p->rows && !c->status; row += stride) {
        const int rows = fm_min_int(stride, p->rows - row);
        const size_t at = (size_t)row * w->row_bytes;
        struct job j = {k, (const char *)p->from + at, (char *)p->to + at, w->fmt, w->row_bytes, w->cols, rows, piece};
        fm_cpu_for(c, (rows + piece - 1) / piece, 1, pack_pieces, &j);
        if (!c->status && p->done) p->done(p->arg, j.from, (size_t)rows * w->row_bytes);
    }
    p->ready = !c->status;
}

const void *fm_cpu_unpack(const struct fm_ctx *c, const struct fm_mat *w, int row, int thread)
{
    const struct fm_kernels *k = fm_cpu_kernels(c);
    const int within = row % k->pack_rows;
    void *dst = fm_cpu_tile(c, thread);
    if (row >= fm_cpu_grouped_rows(c, w->packed)) return (const char *)w->packed->to + (size_t)row * w->row_bytes;
    k->unpack_row[w->fmt](dst, (const char *)w->packed->to + (size_t)(row - within) * w->row_bytes, w->row_bytes,
                          within, w->cols);
    return dst;
}
