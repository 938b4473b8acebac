/* See bpe.h. */
#include "text/bpe.h"

#include <string.h>

#include "base/mem.h"

/* ---- pair table ---- */

void fm_pairs_release(struct fm_pairs *p)
{
    fm_free(p->slots);
    *p = (struct fm_pairs){0};
}

static struct fm_pair *find_slot(struct fm_pairs *p, uint64_t key)
{
    uint32_t mask = p->n_slots - 1, i = (uint32_t)((key * 0x9E3779B97F4A7C15u) >> 32) & mask;
    while (p->slots[i].key != FM_PAIR_EMPTY && p->slots[i].key != key) i = (i + 1) & mask;
    return &p->slots[i];
}

static enum fm_status grow(struct fm_pairs *p, struct fm_error *err)
{
    struct fm_pairs old = *p;
    uint32_t n = old.n_slots ? old.n_slots * 2 : 64;
    struct fm_pair *slots = fm_malloc(n * sizeof *slots);
    if (!slots) return fm_fail_memory(err, "merges", n * sizeof *slots);
    for (uint32_t i = 0; i < n; i++) slots[i].key = FM_PAIR_EMPTY;
    p->slots = slots;
    p->n_slots = n;
    for (uint32_t i = 0; i < old.n_slots; i++)
        if (old.slots[i].key != FM_PAIR_EMPTY) *find_slot(p, old.slots[i].key) = old.slots[i];
    fm_free(old.slots);
    return FM_OK;
}

enum fm_status fm_pairs_add(struct fm_pairs *p, int32_t left, int32_t right, uint32_t rank, int32_t id,
                            struct fm_error *err)
{
    if (p->n_slots < 2 * (p->n + 1)) FM_TRY(grow(p, err));
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    struct fm_pair *s = find_slot(p, key);
    if (s->key == key && s->rank <= rank) return FM_OK;
    if (s->key != key) p->n++;
    *s = (struct fm_pair){key, rank, id};
    return FM_OK;
}

static uint32_t rank_of(const struct fm_pairs *p, int32_t left, int32_t right)
{
    const struct fm_pair *s = fm_pairs_find(p, left, right);
    return s ? s->rank : FM_RANK_NONE;
}

/* ---- short pieces: look for the lowest rank each time ---- */

enum { SHORT = 48 }; /* nearly every word; the quadratic loop beats a heap up to here */

static size_t merge_short(const struct fm_pairs *p, int32_t *ids, size_t n)
{
    uint32_t rank[SHORT];
    for (size_t i = 0; i + 1 < n; i++) rank[i] = rank_of(p, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == FM_RANK_NONE) break;
        ids[best] = fm_pairs_find(p, ids[best], ids[best + 1])->id;
        n--;
        memmove(ids + best + 1, ids + best + 2, (n - best - 1) * sizeof *ids);
        memmove(rank + best, rank + best + 1, (n - best - 1) * sizeof *rank);
        if (best + 1 < n) rank[best] = rank_of(p, ids[best], ids[best + 1]);
        if (best > 0) rank[best - 1] = rank_of(p, ids[best - 1], ids[best]);
    }
    return n;
}

/* ---- long pieces: linked symbols and a heap of candidate pairs ---- */

struct symbol {
    int32_t id; /* -1: merged into its left neighbour */
    int32_t prev, next;
};

struct candidate {
    uint32_t rank;
    int32_t left;              /* index of the left symbol                            */
    int32_t left_id, right_id; /* as they were: a symbol that changed since is stale */
};

struct heap {
    const struct fm_pairs *pairs;
    struct symbol *symbols;
    struct candidate *items;
    size_t n;
};

static bool before(const struct candidate *a, const struct candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

/* Room is never short: n-1 pairs at first, and each of at most n-1 merges makes two new ones. */
static void push(struct heap *h, int32_t left)
{
    if (left < 0 || h->symbols[left].next < 0) return;
    struct candidate c = {0, left, h->symbols[left].id, h->symbols[h->symbols[left].next].id};
    c.rank = rank_of(h->pairs, c.left_id, c.right_id);
    if (c.rank == FM_RANK_NONE) return;
    size_t i = h->n++;
    for (; i && before(&c, &h->items[(i - 1) / 2]); i = (i - 1) / 2) h->items[i] = h->items[(i - 1) / 2];
    h->items[i] = c;
}

static struct candidate pop(struct heap *h)
{
    struct candidate top = h->items[0], last = h->items[--h->n];
    size_t i = 0;
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= h->n) break;
        if (c + 1 < h->n && before(&h->items[c + 1], &h->items[c])) c++;
        if (!before(&h->items[c], &last)) break;
        h->items[i] = h->items[c];
        i = c;
    }
    h->items[i] = last;
    return top;
}

static void merge_at(struct heap *h, const struct candidate *c)
{
    struct symbol *l = &h->symbols[c->left];
    if (l->id != c->left_id || l->next < 0 || h->symbols[l->next].id != c->right_id) return;
    struct symbol *r = &h->symbols[l->next];
    l->id = fm_pairs_find(h->pairs, c->left_id, c->right_id)->id;
    l->next = r->next;
    r->id = -1;
    if (r->next >= 0) h->symbols[r->next].prev = c->left;
    push(h, l->prev);
    push(h, c->left);
}

static enum fm_status merge_long(const struct fm_pairs *p, int32_t *ids, size_t *n, struct fm_error *err)
{
    size_t bytes, count = *n;
    if (count > INT32_MAX / 4 || !fm_mul_size(count, sizeof(struct symbol) + 3 * sizeof(struct candidate), &bytes))
        return fm_fail(err, FM_ERR_USAGE, "encode text: one piece of %zu symbols: too long", count);
    struct symbol *symbols = fm_malloc(bytes);
    if (!symbols) return fm_fail_memory(err, "encoding", bytes);
    struct heap h = {p, symbols, (struct candidate *)(symbols + count), 0};
    for (size_t i = 0; i < count; i++)
        symbols[i] = (struct symbol){ids[i], (int32_t)i - 1, i + 1 < count ? (int32_t)i + 1 : -1};
    for (size_t i = 0; i + 1 < count; i++) push(&h, (int32_t)i);
    while (h.n) {
        struct candidate c = pop(&h);
        merge_at(&h, &c);
    }
    size_t k = 0;
    for (int32_t i = 0; i >= 0; i = symbols[i].next) ids[k++] = symbols[i].id;
    *n = k;
    fm_free(symbols);
    return FM_OK;
}

enum fm_status fm_bpe_merge(const struct fm_pairs *p, int32_t *ids, size_t *n, struct fm_error *err)
{
    if (*n < 2) return FM_OK;
    if (*n > SHORT) return merge_long(p, ids, n, err);
    *n = merge_short(p, ids, *n);
    return FM_OK;
}
