/* See kvpool.h.  A slab whose blocks are all free is given back at once, so free blocks exist only beside live ones. */
#include "run/kvpool.h"

#include <assert.h>

#include "base/mem.h"

struct fm_kv_slab {
    struct fm_kv_slab *next;
    void *pages;
    size_t bytes;
    int n, live;
    struct fm_kv_block blocks[];
};

enum fm_status fm_kvpool_init(struct fm_kvpool *p, size_t block_bytes, struct fm_error *err)
{
    *p = (struct fm_kvpool){.block_bytes = block_bytes};
    return pthread_mutex_init(&p->lock, NULL) ? fm_fail_memory(err, "KV cache lock", sizeof p->lock) : FM_OK;
}

void fm_kvpool_release(struct fm_kvpool *p)
{
    if (!p->block_bytes) return;
    assert(!p->slabs);
    (void)pthread_mutex_destroy(&p->lock);
    *p = (struct fm_kvpool){0};
}

static struct fm_kv_slab *slab_new(struct fm_kvpool *p, int n)
{
    size_t head = sizeof(struct fm_kv_slab) + (size_t)n * sizeof(struct fm_kv_block), bytes;
    struct fm_kv_slab *s = fm_mul_size((size_t)n, p->block_bytes, &bytes) ? fm_malloc(head) : NULL;
    if (!s) return NULL;
    *s = (struct fm_kv_slab){.pages = fm_pages_alloc(bytes), .bytes = bytes, .n = n};
    if (!s->pages) {
        fm_free(s);
        return NULL;
    }
    fm_nodes_place(&p->nodes, s->pages, bytes);
    for (int i = 0; i < n; i++)
        s->blocks[i] = (struct fm_kv_block){(char *)s->pages + (size_t)i * p->block_bytes, 0, s};
    s->next = p->slabs;
    p->slabs = s;
    p->reserved_bytes += bytes;
    return s;
}

static void slab_free(struct fm_kvpool *p, struct fm_kv_slab *s)
{
    struct fm_kv_slab **at = &p->slabs;
    while (*at != s) at = &(*at)->next;
    *at = s->next;
    p->reserved_bytes -= s->bytes;
    fm_pages_free(s->pages, s->bytes);
    fm_free(s);
}

/* Up to n free blocks of this slab; returns how many. */
static int slab_take(struct fm_kv_slab *s, int n, struct fm_kv_block **out)
{
    int taken = 0;
    for (int i = 0; i < s->n && taken < n && s->live < s->n; i++) {
        if (s->blocks[i].refs) continue;
        s->blocks[i].refs = 1;
        s->live++;
        out[taken++] = &s->blocks[i];
    }
    return taken;
}

static void drop_locked(struct fm_kvpool *p, struct fm_kv_block *b)
{
    assert(b->refs > 0);
    if (--b->refs == 0 && --b->slab->live == 0) slab_free(p, b->slab);
}

enum fm_status fm_kvpool_take(struct fm_kvpool *p, int n, struct fm_kv_block **out, struct fm_error *err)
{
    int have = 0;
    enum fm_status st = FM_OK;
    (void)pthread_mutex_lock(&p->lock);
    for (struct fm_kv_slab *s = p->slabs; s && have < n; s = s->next) have += slab_take(s, n - have, out + have);
    struct fm_kv_slab *fresh = have < n ? slab_new(p, n - have) : NULL;
    if (fresh) have += slab_take(fresh, n - have, out + have);
    if (have < n) {
        st = fm_fail_memory(err, "the KV cache", (unsigned long long)(n - have) * p->block_bytes);
        while (have) drop_locked(p, out[--have]);
    }
    (void)pthread_mutex_unlock(&p->lock);
    return st;
}

void fm_kvpool_share(struct fm_kvpool *p, struct fm_kv_block *b)
{
    (void)pthread_mutex_lock(&p->lock);
    assert(b->refs > 0);
    b->refs++;
    (void)pthread_mutex_unlock(&p->lock);
}

void fm_kvpool_drop(struct fm_kvpool *p, struct fm_kv_block *b)
{
    if (!b) return;
    (void)pthread_mutex_lock(&p->lock);
    drop_locked(p, b);
    (void)pthread_mutex_unlock(&p->lock);
}

uint64_t fm_kvpool_reserved(struct fm_kvpool *p)
{
    (void)pthread_mutex_lock(&p->lock);
    const uint64_t bytes = p->reserved_bytes;
    (void)pthread_mutex_unlock(&p->lock);
    return bytes;
}
