/* See kvstore.h.  Under the lock: the index, both queues, the statistics.  The lock is never held over I/O. */
#include "run/kvstore.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "run/kvdir.h"
#include "run/kvindex.h"

enum { LOOK_SECONDS = 5, COMPLAIN_SECONDS = 60 };
static const uint64_t WAITING_BYTES = 1u << 29; /* of blocks in jobs: their memory is pinned */

/* A timeline to be saved, block by block. */
struct job {
    struct job *next;
    int n, at;
    struct fm_kvplace place;          /* of block at − 1  */
    int32_t *ids;                     /* [64·n]           */
    uint8_t (*keys)[FM_SHA256_BYTES]; /* [at] so far      */
    struct fm_kv_block **blocks;      /* [n], NULL: done  */
};

struct fm_kvstore {
    struct fm_kvstore_options o;
    int dir;
    struct fm_kvindex index;
    struct job *jobs, *last_job;
    struct fm_kvload *loads, *last_load;
    uint64_t waiting_bytes;
    struct fm_disk_cache_stats stats;

    unsigned looks; /* at the whole folder; the last one: */
    double looked, look_seconds;
    struct timespec looked_changed;
    double complained;

    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    bool quit;
};

static void lock(struct fm_kvstore *s) { (void)pthread_mutex_lock(&s->lock); }
static void unlock(struct fm_kvstore *s) { (void)pthread_mutex_unlock(&s->lock); }

static uint64_t file_bytes(const struct fm_kvstore *s) { return FM_KVFILE_HEAD + s->o.origin.block_bytes; }

/* ---- the folder and the index ---- */

static void evict_oldest(struct fm_kvstore *s)
{
    uint8_t key[FM_SHA256_BYTES];
    lock(s);
    memcpy(key, s->index.oldest->key, sizeof key);
    fm_kvindex_remove(&s->index, s->index.oldest);
    s->stats.evicted++;
    unlock(s);
    fm_kvdir_remove(s->dir, key);
}

static void make_room(struct fm_kvstore *s, uint64_t bytes)
{
    while (s->index.oldest && s->index.bytes + bytes > s->o.limit) evict_oldest(s);
}

/* Bring the index in line with the folder: what others wrote and removed. */
static void look(struct fm_kvstore *s)
{
    struct fm_kvlisted *list = NULL;
    size_t n = 0;
    const double start = fm_seconds();
    s->looked_changed = fm_kvdir_changed(s->dir);
    if (fm_kvdir_list(s->dir, &list, &n)) {
        lock(s);
        s->looks++;
        for (size_t i = 0; i < n; i++) {
            struct fm_kventry *e = fm_kvindex_find(&s->index, list[i].key);
            if (!e) e = fm_kvindex_add(&s->index, list[i].key, list[i].bytes);
            if (e) e->seen = s->looks;
        }
        for (struct fm_kventry *e = s->index.newest, *older; e; e = older) {
            older = e->older;
            if (e->seen != s->looks) fm_kvindex_remove(&s->index, e);
        }
        unlock(s);
    }
    fm_free(list);
    s->looked = fm_seconds();
    s->look_seconds = s->looked - start;
}

static void look_again(struct fm_kvstore *s)
{
    const double pause = s->look_seconds * 50 > LOOK_SECONDS ? s->look_seconds * 50 : LOOK_SECONDS;
    if (fm_seconds() - s->looked < pause) return;
    const struct timespec now = fm_kvdir_changed(s->dir);
    if (now.tv_sec == s->looked_changed.tv_sec && now.tv_nsec == s->looked_changed.tv_nsec) return;
    look(s);
    make_room(s, 0);
}

static bool known(struct fm_kvstore *s, const uint8_t *key, bool touch)
{
    lock(s);
    struct fm_kventry *e = fm_kvindex_find(&s->index, key);
    if (e && touch) fm_kvindex_touch(&s->index, e);
    unlock(s);
    return e;
}

static void forget(struct fm_kvstore *s, const uint8_t *key)
{
    lock(s);
    struct fm_kventry *e = fm_kvindex_find(&s->index, key);
    if (e) fm_kvindex_remove(&s->index, e);
    unlock(s);
}

/* A whole timeline was used: its end first, so that a block is always newer than those that need it. */
static void touch_path(struct fm_kvstore *s, uint8_t (*keys)[FM_SHA256_BYTES], int n)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    for (int i = n; i-- > 0;) {
        if (!known(s, keys[i], true)) continue;
        fm_kvdir_used(s->dir, keys[i], now);
        if (++now.tv_nsec == 1000000000) now = (struct timespec){.tv_sec = now.tv_sec + 1};
    }
}

/* ---- saving ---- */

static void complain(struct fm_kvstore *s, const struct fm_error *err)
{
    const double now = fm_seconds();
    if (s->complained > 0 && now - s->complained < COMPLAIN_SECONDS) return;
    s->complained = now;
    fm_log(FM_LOG_WARN, "%s", err->message);
}

static bool write_block(struct fm_kvstore *s, const struct fm_kvplace *p, const void *body)
{
    struct fm_error err;
    make_room(s, file_bytes(s));
    const bool written = !fm_kvdir_write(s->dir, &s->o.origin, p, body, &err);
    lock(s);
    *(written ? &s->stats.written : &s->stats.failed) += 1;
    const bool listed =
        written && (fm_kvindex_find(&s->index, p->key) || fm_kvindex_add(&s->index, p->key, file_bytes(s)));
    unlock(s);
    if (!written) complain(s, &err);
    if (written && !listed) fm_kvdir_remove(s->dir, p->key); /* what is not counted must not stay */
    return listed;
}

static void drop_block(struct fm_kvstore *s, struct job *j, int i)
{
    fm_kvpool_drop(s->o.pool, j->blocks[i]);
    j->blocks[i] = NULL;
    lock(s);
    s->waiting_bytes -= s->o.origin.block_bytes;
    unlock(s);
}

/* The next block of a job.  false: it was the last, or the rest is of no use. */
static bool save_next(struct fm_kvstore *s, struct job *j)
{
    const int i = j->at;
    if (!i) look_again(s);
    if ((uint64_t)(i + 1) * file_bytes(s) > s->o.limit) return false;
    fm_kvplace_next(&j->place, j->ids + i * FM_KV_BLOCK);
    memcpy(j->keys[i], j->place.key, sizeof j->keys[i]);
    if (!known(s, j->place.key, true) && !write_block(s, &j->place, j->blocks[i]->data)) return false;
    drop_block(s, j, i);
    return ++j->at < j->n;
}

static void free_job(struct job *j)
{
    if (!j) return;
    fm_free(j->ids);
    fm_free(j->keys);
    fm_free(j->blocks);
    fm_free(j);
}

static struct job *new_job(const struct fm_kvstore *s, const char *user, const int32_t *ids, int n)
{
    struct job *j = fm_calloc(1, sizeof *j);
    if (!j) return NULL;
    j->n = n;
    j->ids = fm_malloc((size_t)n * FM_KV_BLOCK * sizeof *ids);
    j->keys = fm_malloc((size_t)n * sizeof *j->keys);
    j->blocks = fm_malloc((size_t)n * sizeof(struct fm_kv_block *));
    if (!j->ids || !j->keys || !j->blocks) {
        free_job(j);
        return NULL;
    }
    memcpy(j->ids, ids, (size_t)n * FM_KV_BLOCK * sizeof *ids);
    fm_kvplace_root(&j->place, &s->o.origin, user);
    return j;
}

/* One step of the first job. */
static void work_on(struct fm_kvstore *s, struct job *j)
{
    if (save_next(s, j)) return;
    touch_path(s, j->keys, j->at);
    for (int i = 0; i < j->n; i++)
        if (j->blocks[i]) drop_block(s, j, i);
    lock(s);
    s->jobs = j->next;
    unlock(s);
    free_job(j);
}

void fm_kvstore_save(struct fm_kvstore *s, const char *user, const int32_t *ids, int n_blocks,
                     struct fm_kv_block *const *blocks)
{
    if (n_blocks < 1) return;
    const uint64_t bytes = (uint64_t)n_blocks * s->o.origin.block_bytes;
    struct job *j = new_job(s, user, ids, n_blocks);
    lock(s);
    if (!j || (s->jobs && s->waiting_bytes + bytes > WAITING_BYTES)) {
        s->stats.skipped += (uint64_t)n_blocks;
        unlock(s);
        free_job(j);
        return;
    }
    for (int i = 0; i < n_blocks; i++) fm_kvpool_share(s->o.pool, j->blocks[i] = blocks[i]);
    s->waiting_bytes += bytes;
    *(s->jobs ? &s->last_job->next : &s->jobs) = j;
    s->last_job = j;
    (void)pthread_cond_signal(&s->work);
    unlock(s);
}

void fm_kvstore_flush(struct fm_kvstore *s)
{
    lock(s);
    while (s->jobs) (void)pthread_cond_wait(&s->done, &s->lock);
    unlock(s);
}

/* ---- loading ---- */

static bool wanted(struct fm_kvstore *s, const struct fm_kvload *l)
{
    lock(s);
    const bool go_on = !l->stop;
    unlock(s);
    return go_on;
}

static bool read_block(struct fm_kvstore *s, const struct fm_kvplace *p, void *body)
{
    const char *why;
    char name[FM_KVNAME];
    const enum fm_kvread r = fm_kvdir_read(s->dir, &s->o.origin, p, body, &why);
    if (r != FM_KVREAD_OK) forget(s, p->key);
    if (r == FM_KVREAD_BAD) {
        fm_kvdir_remove(s->dir, p->key);
        fm_kvdir_name(p->key, name);
        fm_log(FM_LOG_WARN, "cache: %s: %s: dropped", name, why);
    }
    lock(s);
    s->stats.read += r == FM_KVREAD_OK;
    s->stats.dropped += r == FM_KVREAD_BAD;
    unlock(s);
    return r == FM_KVREAD_OK;
}

static void load(struct fm_kvstore *s, struct fm_kvload *l)
{
    const int all = l->first + l->n;
    uint8_t(*keys)[FM_SHA256_BYTES] = fm_malloc((size_t)all * sizeof *keys);
    struct fm_kvplace start, p;
    int there = 0;
    if (!keys) return;
    fm_kvplace_root(&p, &s->o.origin, l->user);
    for (int i = 0; i < l->first; i++) {
        fm_kvplace_next(&p, l->ids + i * FM_KV_BLOCK);
        memcpy(keys[i], p.key, sizeof keys[i]);
    }
    for (start = p; there < l->n; there++) {
        fm_kvplace_next(&p, l->ids + (l->first + there) * FM_KV_BLOCK);
        memcpy(keys[l->first + there], p.key, sizeof *keys);
        if (!known(s, p.key, false)) break;
    }
    if (there && !fm_kvpool_take(s->o.pool, there, l->blocks, NULL)) {
        for (p = start; l->got < there && wanted(s, l); l->got++) {
            fm_kvplace_next(&p, l->ids + (l->first + l->got) * FM_KV_BLOCK);
            if (!read_block(s, &p, l->blocks[l->got]->data)) break;
        }
        for (int i = l->got; i < there; i++) fm_kvpool_drop(s->o.pool, l->blocks[i]);
    }
    touch_path(s, keys, l->first + l->got);
    fm_free(keys);
}

bool fm_kvload_start(struct fm_kvstore *s, struct fm_kvload *l)
{
    struct fm_kvplace p;
    l->got = 0;
    l->busy = l->stop = false;
    l->next = NULL;
    if (l->n < 1) return false;
    fm_kvplace_root(&p, &s->o.origin, l->user);
    for (int i = 0; i <= l->first; i++) fm_kvplace_next(&p, l->ids + i * FM_KV_BLOCK);
    lock(s);
    if (fm_kvindex_find(&s->index, p.key)) {
        l->busy = true;
        *(s->loads ? &s->last_load->next : &s->loads) = l;
        s->last_load = l;
        (void)pthread_cond_signal(&s->work);
    }
    const bool busy = l->busy;
    unlock(s);
    return busy;
}

bool fm_kvload_busy(struct fm_kvstore *s, const struct fm_kvload *l)
{
    lock(s);
    const bool busy = l->busy;
    unlock(s);
    return busy;
}

void fm_kvload_stop(struct fm_kvstore *s, struct fm_kvload *l)
{
    lock(s);
    l->stop = true;
    while (l->busy) (void)pthread_cond_wait(&s->done, &s->lock);
    unlock(s);
}

/* ---- the thread ---- */

static void *work(void *arg)
{
    struct fm_kvstore *s = arg;
    lock(s);
    for (;;) {
        struct fm_kvload *l = s->loads;
        struct job *j = s->jobs;
        if (l) s->loads = l->next;
        if (!l && !j && s->quit) break;
        if (!l && !j) {
            (void)pthread_cond_wait(&s->work, &s->lock);
            continue;
        }
        unlock(s);
        if (l)
            load(s, l);
        else
            work_on(s, j);
        lock(s);
        if (l) l->busy = false;
        (void)pthread_cond_broadcast(&s->done);
        if (!l || !s->o.on_loaded) continue;
        unlock(s);
        s->o.on_loaded(s->o.arg);
        lock(s);
    }
    unlock(s);
    return NULL;
}

/* ---- making one ---- */

static void release(struct fm_kvstore *s)
{
    if (s->dir >= 0) close(s->dir);
    fm_kvindex_release(&s->index);
    (void)pthread_cond_destroy(&s->work);
    (void)pthread_cond_destroy(&s->done);
    (void)pthread_mutex_destroy(&s->lock);
    fm_free(s);
}

enum fm_status fm_kvstore_open(const struct fm_kvstore_options *o, struct fm_kvstore **out, struct fm_error *err)
{
    struct fm_kvstore *s = fm_calloc(1, sizeof *s);
    if (!s) return fm_fail_memory(err, "the cache on disk", sizeof *s);
    enum fm_status st;
    s->o = *o;
    s->o.dir = NULL; /* the caller's */
    s->dir = -1;
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_cond_init(&s->work, NULL);
    (void)pthread_cond_init(&s->done, NULL);
    if (!fm_kvindex_init(&s->index)) FM_GOTO(fm_fail_memory(err, "the cache on disk", sizeof *s));
    if (o->limit < file_bytes(s))
        FM_GOTO(fm_fail(err, FM_ERR_USAGE, "open the cache: %s: %llu bytes: a block of %d tokens has %llu", o->dir,
                        (unsigned long long)o->limit, FM_KV_BLOCK, (unsigned long long)file_bytes(s)));
    FM_GOTO(fm_kvdir_open(o->dir, &s->dir, err));
    look(s);
    make_room(s, 0);
    if (pthread_create(&s->thread, NULL, work, s))
        FM_GOTO(fm_fail(err, FM_ERR_MEMORY, "open the cache: its thread: the system gives none"));
    fm_log(FM_LOG_INFO, "cache: %s: %zu blocks in %llu bytes", o->dir, s->index.n, (unsigned long long)s->index.bytes);
    *out = s;
    return FM_OK;
out:
    release(s);
    return st;
}

void fm_kvstore_close(struct fm_kvstore *s)
{
    if (!s) return;
    lock(s);
    s->quit = true;
    (void)pthread_cond_signal(&s->work);
    unlock(s);
    (void)pthread_join(s->thread, NULL);
    release(s);
}

void fm_kvstore_stats(struct fm_kvstore *s, struct fm_disk_cache_stats *out)
{
    lock(s);
    *out = s->stats;
    out->bytes = s->index.bytes;
    out->files = s->index.n;
    out->limit = s->o.limit;
    unlock(s);
}
