/* Machines with several memory nodes: which rows of a packed matrix lie where, and who multiplies them.
 *
 *   rows of each matrix    │ part of node 0    │ part of node 1    │
 *   a call's list          │ W₁ W₂ … : part 0  │ W₁ W₂ … : part 1  │
 *   threads, in order      │ 0    1    2    3  │ 4    5    6    7  │
 *
 * Parts follow from the threads that a node has (fm_pool_part), for memory and for products alike; as the pool gives every
 * thread an equal range of the list, in order, most of what a thread reads lies on its own node.  Where parts are small, and
 * for everything else, pages lie on all nodes in turn.  No bits depend on any of this; with one node nothing happens. */
#include "op/cpu/backend.h"

enum {
    PART_MIN = 1 << 18,  /* bytes of a part that are worth a place of their own         */
    PAGE = 1 << 12,      /* parts begin at pages, …                                     */
    HUGE_PAGE = 2 << 20, /* … large ones at pages that stay huge, if the middle of them */
    PAGES_MIN = 4,       /* … has that many                                             */
};

static size_t aligned(size_t at, size_t bytes) { return at / bytes * bytes + (at % bytes ? bytes : 0); }

int fm_cpu_node_pieces(const struct fm_pool *pool, size_t at, int rows, size_t row_bytes, struct fm_node_piece *out)
{
    const int nodes = fm_pool_nodes(pool);
    const size_t all = (size_t)rows * row_bytes, part = all / (size_t)nodes;
    const size_t page = part / PAGES_MIN < HUGE_PAGE ? PAGE : HUGE_PAGE;
    int n = 0;
    if (nodes < 2 || part < PART_MIN) return 0;
    for (int k = 0; k < nodes; k++) {
        const size_t from = aligned(at + (size_t)fm_pool_part(pool, k, rows) * row_bytes, page);
        const size_t to = k + 1 < nodes ? aligned(at + (size_t)fm_pool_part(pool, k + 1, rows) * row_bytes, page)
                                        : (at + all) / PAGE * PAGE; /* the last page may be another's, too */
        if (to > from) out[n++] = (struct fm_node_piece){from, to - from, k};
    }
    return n;
}

void fm_cpu_place(const struct fm_pool *pool, void *at, size_t bytes, const struct fm_packed *packed, int n)
{
    struct fm_node_piece pieces[FM_NODES_MAX];
    if (fm_pool_nodes(pool) < 2) return;
    fm_pool_place(pool, at, bytes, -1);
    for (int i = 0; i < n; i++) {
        const int count = fm_cpu_node_pieces(pool, (size_t)packed[i].to, packed[i].rows, packed[i].row_bytes, pieces);
        for (int k = 0; k < count; k++)
            fm_pool_place(pool, (char *)packed[i].to + (pieces[k].at - (size_t)packed[i].to), pieces[k].bytes,
                          pieces[k].node);
    }
}

static bool is_whole(const struct fm_cpu_product *p) { return p->packed > 0 && p->n == p->w.packed->rows; }

static struct fm_cpu_product columns(struct fm_cpu_product p, int begin, int end)
{
    p.w = fm_mat_rows(&p.w, begin, end - begin);
    p.c += begin;
    p.n = end - begin;
    p.packed = fm_min_int(fm_max_int(p.packed - begin, 0), p.n);
    return p;
}

int fm_cpu_by_node(const struct fm_pool *pool, struct fm_cpu_product *list, int n)
{
    const int nodes = fm_pool_nodes(pool);
    if (nodes < 2 || n > FM_CPU_PRODUCTS / nodes) return n;
    for (int i = 0; i < n; i++)
        if (!is_whole(&list[i])) return n; /* heads, say: neighbours in one matrix, in order already */
    for (int k = nodes - 1; k >= 0; k--)   /* the first part last: it takes the whole's place */
        for (int i = 0; i < n; i++)
            list[k * n + i] = columns(list[i], fm_pool_part(pool, k, list[i].n), fm_pool_part(pool, k + 1, list[i].n));
    return n * nodes;
}
