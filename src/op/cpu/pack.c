/* Rows laid side by side for the kernels, and a row back. */
#include "op/cpu/backend.h"

/* A row must fit the tile that it is unpacked to. */
int fm_cpu_pack_rows(enum fm_fmt fmt, int cols)
{
    const struct fm_kernels *k = fm_kernels_get(NULL);
    bool packs = k->pack[fmt] && cols % 32 == 0 && fm_format_bytes(fmt, (uint64_t)cols) <= FM_CPU_TILE * sizeof(float);
    return packs ? k->pack_rows : 0;
}

void fm_cpu_pack(void *dst, const struct fm_mat *w, int row, int n)
{
    fm_kernels_get(NULL)->pack[w->fmt](dst, (const char *)w->data + (size_t)row * w->row_bytes, w->row_bytes, n,
                                       w->cols);
}

const void *fm_cpu_unpack(const struct fm_ctx *c, const struct fm_mat *w, int row, int thread)
{
    const struct fm_kernels *k = fm_cpu_kernels(c);
    int within = row % k->pack_rows;
    void *dst = fm_cpu_tile(c, thread);
    k->unpack_row[w->fmt](dst, (const char *)w->data + (size_t)(row - within) * w->row_bytes, w->row_bytes, within,
                          w->cols);
    return dst;
}
