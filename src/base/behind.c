/* See behind.h.  A ring: given counts buffers handed in, done those passed on; both only grow. */
#include "base/behind.h"

#include <pthread.h>
#include <stdbool.h>

#include "base/mem.h"

enum { SLOTS = 3 };

struct fm_behind {
    fm_behind_fn fn;
    void *arg;
    void *buffer[SLOTS];
    size_t bytes, n[SLOTS];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned long given, done;
    bool quit, started;
    enum fm_status status; /* the first failure sticks */
    struct fm_error err;
};

static void *work(void *v)
{
    struct fm_behind *b = v;
    pthread_mutex_lock(&b->lock);
    for (;;) {
        while (!b->quit && b->done == b->given) pthread_cond_wait(&b->changed, &b->lock);
        if (b->quit) break;
        const size_t slot = b->done % SLOTS;
        const bool skip = b->status != FM_OK;
        pthread_mutex_unlock(&b->lock);
        struct fm_error err = {0};
        const enum fm_status st = skip ? FM_OK : b->fn(b->arg, b->buffer[slot], b->n[slot], &err);
        pthread_mutex_lock(&b->lock);
        if (st) b->status = st, b->err = err;
        b->done++;
        pthread_cond_broadcast(&b->changed);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

enum fm_status fm_behind_new(size_t bytes, fm_behind_fn fn, void *arg, struct fm_behind **out, struct fm_error *err)
{
    struct fm_behind *b = fm_calloc(1, sizeof *b);
    if (!b) return fm_fail_memory(err, "write buffers", sizeof *b);
    *b = (struct fm_behind){.fn = fn, .arg = arg, .bytes = bytes};
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
    bool ok = true;
    for (int i = 0; i < SLOTS; i++) ok = (b->buffer[i] = fm_pages_alloc(bytes)) && ok;
    enum fm_status st = ok ? FM_OK : fm_fail_memory(err, "write buffers", SLOTS * bytes);
    if (!st && pthread_create(&b->thread, NULL, work, b))
        st = fm_fail(err, FM_ERR_MEMORY, "start threads: the writing one: the system refuses");
    b->started = !st;
    if (st)
        fm_behind_free(b);
    else
        *out = b;
    return st;
}

/* Until at most `left` buffers wait, or a failure. */
static enum fm_status wait_for(struct fm_behind *b, unsigned long left, struct fm_error *err)
{
    pthread_mutex_lock(&b->lock);
    while (!b->status && b->given - b->done > left) pthread_cond_wait(&b->changed, &b->lock);
    const enum fm_status st = b->status;
    if (st && err) *err = b->err;
    pthread_mutex_unlock(&b->lock);
    return st;
}

enum fm_status fm_behind_take(struct fm_behind *b, void **buffer, struct fm_error *err)
{
    FM_TRY(wait_for(b, SLOTS - 1, err));
    *buffer = b->buffer[b->given % SLOTS];
    return FM_OK;
}

void fm_behind_give(struct fm_behind *b, size_t n)
{
    pthread_mutex_lock(&b->lock);
    b->n[b->given % SLOTS] = n;
    b->given++;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

enum fm_status fm_behind_finish(struct fm_behind *b, struct fm_error *err) { return wait_for(b, 0, err); }

void fm_behind_free(struct fm_behind *b)
{
    if (!b) return;
    pthread_mutex_lock(&b->lock);
    b->quit = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    if (b->started) pthread_join(b->thread, NULL);
    for (int i = 0; i < SLOTS; i++) fm_pages_free(b->buffer[i], b->bytes);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    fm_free(b);
}
