/* One job at a time; workers spin for a moment, then sleep on a condition.
 *
 * Each thread has a range of the items of its own, contiguous: two halves of a matrix stream better from memory than
 * pieces handed out in turns.  Whoever is done with its range goes on with what others have left of theirs, piece by piece.
 *
 * How long a worker spins follows from what it saw: twice as long when it was woken after a short sleep, as at first when
 * it slept long.  So the workers of an engine that writes token after token stay awake between the steps, too, and those
 * of one that rests are soon asleep.
 *
 * The caller works too, and at the end waits only for workers that have entered the job: on a busy machine a worker that
 * the system has not scheduled yet costs nothing.  A worker enters by counting itself in (active) and then looking
 * whether the job is still open; the caller closes the job and then looks at the count.  With sequentially consistent
 * order one of the two sees the other.  A worker that comes so late that the next job is open joins that one. */
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/host.h"
#include "base/mem.h"
#include "base/topology.h"

enum {
    SPINS = 4000,       /* pauses, about 50 us: the caller's before it yields, a worker's at first … */
    SPINS_MOST = 32000, /* … and at most                                                            */
    MAX_THREADS = 256
};
static const double SHORT_SLEEP = 1e-3;

/* Items [next, end) of one thread that nobody has taken; next runs past end by a grain per thread.  Wide enough that two
 * never lie in one cache line. */
struct range {
    atomic_long next;
    long end;
    char apart[112];
};

struct fm_pool {
    int n_threads, n_wanted;
    enum fm_pin pin;
    struct fm_topology topology;
    pthread_t threads[MAX_THREADS];
    pthread_mutex_t lock;
    pthread_cond_t wake;
    atomic_uint generation; /* a new job: +1 */
    atomic_bool quit;
    atomic_int sleepers;
    /* the job */
    fm_pool_fn fn;
    void *arg;
    int n, grain;
    atomic_bool open;  /* may workers enter? */
    atomic_int active; /* workers inside     */
    struct range ranges[MAX_THREADS];
};

struct worker_arg {
    struct fm_pool *pool;
    int thread;
};

int fm_cpu_allowed(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

int fm_cpu_count(void)
{
    struct fm_topology *t = fm_malloc(sizeof *t);
    if (!t) return 1;
    fm_topology_here(t);
    const int n = fm_cpu_within(t->n_cores, fm_host_cpu_quota(""));
    fm_free(t);
    return n;
}

int fm_cpu_within(int allowed, double quota)
{
    if (!(quota > 0) || quota >= allowed) return allowed;
    return quota > 1 ? (int)(quota + 0.5) : 1;
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    sched_yield();
#endif
}

/* Equal ranges that begin at multiples of grain. */
static void share_out(struct fm_pool *p)
{
    const long pieces = (p->n + (long)p->grain - 1) / p->grain;
    for (int i = 0; i < p->n_threads; i++) {
        const long end = pieces * (i + 1) / p->n_threads * p->grain;
        atomic_store_explicit(&p->ranges[i].next, pieces * i / p->n_threads * p->grain, memory_order_relaxed);
        p->ranges[i].end = end < p->n ? end : p->n;
    }
}

static void take_range(struct fm_pool *p, struct range *r, int thread)
{
    while (atomic_load_explicit(&r->next, memory_order_relaxed) < r->end) {
        const long begin = atomic_fetch_add_explicit(&r->next, p->grain, memory_order_relaxed);
        if (begin >= r->end) return;
        const long end = r->end - begin < p->grain ? r->end : begin + p->grain;
        p->fn(p->arg, (int)begin, (int)end, thread);
    }
}

static void take_items(struct fm_pool *p, int thread)
{
    for (int i = 0; i < p->n_threads; i++) take_range(p, &p->ranges[(thread + i) % p->n_threads], thread);
}

static void wait_for_job(struct fm_pool *p, unsigned seen, int *spins)
{
    for (int i = 0; i < *spins; i++) {
        if (atomic_load_explicit(&p->generation, memory_order_acquire) != seen) return;
        cpu_relax();
    }
    const double asleep = fm_seconds();
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleepers, 1);
    while (atomic_load(&p->generation) == seen) pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->lock);
    *spins = fm_seconds() - asleep > SHORT_SLEEP ? SPINS : *spins < SPINS_MOST ? 2 * *spins : SPINS_MOST;
}

static void *worker(void *v)
{
    struct worker_arg w = *(struct worker_arg *)v;
    fm_free(v);
    fm_pin_thread(w.pool->pin, &w.pool->topology, w.pool->n_wanted, w.thread);
    unsigned seen = 0;
    int spins = SPINS;
    for (;;) {
        wait_for_job(w.pool, seen, &spins);
        seen = atomic_load(&w.pool->generation);
        if (atomic_load(&w.pool->quit)) return NULL;
        atomic_fetch_add(&w.pool->active, 1);
        if (atomic_load(&w.pool->open)) take_items(w.pool, w.thread);
        atomic_fetch_sub(&w.pool->active, 1);
    }
}

static void start_job(struct fm_pool *p)
{
    atomic_fetch_add(&p->generation, 1);
    if (atomic_load(&p->sleepers) == 0) return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

enum fm_status fm_pool_new(int n_threads, struct fm_pool **out, struct fm_error *err)
{
    return fm_pool_new_pinned(n_threads, FM_PIN_AUTO, out, err);
}

enum fm_status fm_pool_new_pinned(int n_threads, enum fm_pin pin, struct fm_pool **out, struct fm_error *err)
{
    if (n_threads <= 0) n_threads = fm_cpu_count();
    if (n_threads > MAX_THREADS) n_threads = MAX_THREADS;
    struct fm_pool *p = fm_calloc(1, sizeof *p);
    if (!p) return fm_fail_memory(err, "thread pool", sizeof *p);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->n_threads = 1;
    p->n_wanted = n_threads;
    fm_topology_here(&p->topology);
    p->pin = fm_pin_decide(pin, &p->topology, n_threads, fm_host_load(""), fm_host_cpu_quota(""));
    for (int i = 1; i < n_threads; i++) {
        struct worker_arg *w = fm_malloc(sizeof *w);
        if (w) *w = (struct worker_arg){p, i};
        if (!w || pthread_create(&p->threads[i], NULL, worker, w)) {
            fm_free(w);
            fm_pool_free(p);
            return fm_fail(err, FM_ERR_MEMORY, "start threads: thread %d of %d: the system refuses", i, n_threads);
        }
        p->n_threads = i + 1;
    }
    *out = p;
    return FM_OK;
}

void fm_pool_free(struct fm_pool *p)
{
    if (!p) return;
    atomic_store(&p->quit, true);
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->generation, 1);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 1; i < p->n_threads; i++) pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    fm_free(p);
}

int fm_pool_size(const struct fm_pool *p) { return p ? p->n_threads : 1; }
const struct fm_topology *fm_pool_topology(const struct fm_pool *p) { return &p->topology; }
int fm_pool_nodes(const struct fm_pool *p) { return p && p->n_threads > 1 ? p->topology.n_nodes : 1; }

int fm_pool_part(const struct fm_pool *p, int k, int rows)
{
    enum { GROUP = 64 };
    int first[FM_NODES_MAX + 1];
    if (k >= fm_pool_nodes(p)) return rows;
    if (k <= 0) return 0;
    fm_topology_share(&p->topology, p->n_threads, first);
    return (int)((long)rows * first[k] / p->n_threads / GROUP * GROUP);
}

void fm_pool_place(const struct fm_pool *p, void *at, size_t bytes, int k)
{
    struct fm_nodes nodes;
    fm_nodes_of(&p->topology, &nodes);
    if (k >= 0 && nodes.n) nodes = (struct fm_nodes){.n = 1, .id = {nodes.id[k]}};
    fm_nodes_place(&nodes, at, bytes);
}

enum fm_pin fm_pool_pin(const struct fm_pool *p) { return p ? p->pin : FM_PIN_OFF; }

void fm_parallel_for(struct fm_pool *p, int n, int grain, fm_pool_fn fn, void *arg)
{
    if (n <= 0) return;
    if (!p || p->n_threads == 1 || n <= grain) {
        fn(arg, 0, n, 0);
        return;
    }
    p->fn = fn;
    p->arg = arg;
    p->n = n;
    p->grain = grain > 0 ? grain : 1;
    share_out(p);
    atomic_store(&p->open, true);
    start_job(p);
    take_items(p, 0);
    atomic_store(&p->open, false);
    for (int spins = 0; atomic_load(&p->active) > 0; spins++) {
        if (spins < SPINS)
            cpu_relax();
        else
            sched_yield();
    }
}
