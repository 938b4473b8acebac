/* Persistent threads for data-parallel loops.  Results never depend on who ran which item. */
#ifndef FM_BASE_POOL_H
#define FM_BASE_POOL_H

#include "base/status.h"
#include "base/topology.h"

struct fm_pool;

/* fn handles items [begin, end); thread is 0 … size-1, unique among concurrently running calls. */
typedef void (*fm_pool_fn)(void *arg, int begin, int end, int thread);

/* n_threads: 1 … 256, the caller's thread included; more count as 256; 0 = fm_cpu_count. */
enum fm_status fm_pool_new(int n_threads, struct fm_pool **out, struct fm_error *err) FM_MUST_USE;
/* The same, kept where they stand (topology.h); all but the caller's, which is the program's own: with the other cores taken,
 * the system runs it on the one left.  fm_pool_new: FM_PIN_AUTO. */
enum fm_status fm_pool_new_pinned(int n_threads, enum fm_pin pin, struct fm_pool **out,
                                  struct fm_error *err) FM_MUST_USE;
void fm_pool_free(struct fm_pool *p); /* NULL is fine */
int fm_pool_size(const struct fm_pool *p);
enum fm_pin fm_pool_pin(const struct fm_pool *p); /* what was decided */

const struct fm_topology *fm_pool_topology(const struct fm_pool *p);
/* Memory nodes, 1 where p is NULL; node k has the rows fm_pool_part(p, k, rows) … fm_pool_part(p, k + 1, rows) − 1 of a matrix, as
 * many as its part of the threads, in whole groups of 64.  fm_pool_place: memory at pages comes from node k, from all in turn
 * where k is −1. */
int fm_pool_nodes(const struct fm_pool *p);
int fm_pool_part(const struct fm_pool *p, int k, int rows);
void fm_pool_place(const struct fm_pool *p, void *at, size_t bytes, int k);

/* Run fn over [0, n) in pieces of grain items (the last may be shorter), in order within an equal share for each
 * thread, then as threads come free; returns when all are done.  One piece, [0, n), on the caller's thread when p is NULL or of one thread or n <= grain.
 * One call at a time: not from inside fn, nor from two threads at once. */
void fm_parallel_for(struct fm_pool *p, int n, int grain, fm_pool_fn fn, void *arg);

/* Processors this process may run on: those of its affinity.  And how many threads should compute: one per core of these,
 * as siblings share its arithmetic and its way to memory; no more than the control group lets be busy: threads beyond that
 * would be stopped in the middle of a loop while others wait for them. */
int fm_cpu_allowed(void);
int fm_cpu_count(void);
/* allowed, or a quota of processors (0: none) to the nearest whole number, at least 1 */
int fm_cpu_within(int allowed, double quota);

#endif
