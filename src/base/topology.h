/* Which processors this process may use, which of them share a core, and which memory node each is near.
 *
 *   node 0   core 0: cpu 0, cpu 8    core 1: cpu 1, cpu 9    …
 *   node 1   core 4: cpu 4, cpu 12   …
 *
 * Threads are numbered so that those of one node are neighbours.  A loop gives each thread a contiguous range of its items
 * (pool.h), hence each node a contiguous range of a matrix's rows: those whose memory should lie in it. */
#ifndef FM_BASE_TOPOLOGY_H
#define FM_BASE_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

enum { FM_CPUS_MAX = 1024, FM_NODES_MAX = 64 };

struct fm_cpu {
    int id, core, node; /* core: the lowest id of its siblings; node: 0 … n_nodes − 1 */
    int sibling;        /* how many usable ones of its core stand before it           */
};
struct fm_topology {
    bool pretended;          /* not this machine                      */
    int n, n_cores, n_nodes; /* usable: logical, cores, nodes; n >= 1 */
    int node_id[FM_NODES_MAX], node_cpus[FM_NODES_MAX], node_cores[FM_NODES_MAX];
    struct fm_cpu cpu[FM_CPUS_MAX]; /* by node, then siblings (first ones first), then id */
};

/* root: "" for this machine and this process's affinity; else a folder that holds sys/, all of whose processors are usable.
 * What cannot be read counts as one node and cores of their own. */
void fm_topology_read(struct fm_topology *t, const char *root);
/* This machine; or the folder that FATHOM_SYS names, to try how another one would be used: nothing is pinned then. */
void fm_topology_here(struct fm_topology *t);

/* Threads first[k] … first[k+1] − 1 of n stand on node k: as many as its part of the cores. */
void fm_topology_share(const struct fm_topology *t, int n, int first[FM_NODES_MAX + 1]);
/* Where thread i of n stands: one thread per core before a second one; beyond all processors from the first again. */
const struct fm_cpu *fm_topology_place(const struct fm_topology *t, int n, int i);

/* ---- memory ---- */

struct fm_nodes {
    int n, id[FM_NODES_MAX]; /* the system's numbers */
};
void fm_nodes_of(const struct fm_topology *t, struct fm_nodes *out);
/* Pages in [at, at + bytes) that are not in memory yet come from these nodes in turn, from one if possible; a wish that the
 * system may refuse.  Nothing where n is 0 or the whole address range is no pages.  Source: mbind(2). */
void fm_nodes_place(const struct fm_nodes *nodes, void *at, size_t bytes);

/* ---- keeping threads there ---- */

enum fm_pin {
    FM_PIN_AUTO, /* to the processors of their node, where there are several nodes and cores are free */
    FM_PIN_ON,   /* to one processor each                                                             */
    FM_PIN_OFF,
    FM_PIN_COUNT
};
/* NULL is auto; FM_PIN_COUNT: no such word. */
enum fm_pin fm_pin_named(const char *word);
/* What n threads really do: FM_PIN_OFF where they are more than the processors, or these only pretended; AUTO only on several nodes, while others (load:
 * programs that want to run) leave a core to each thread and no control group would stop threads anyway. */
enum fm_pin fm_pin_decide(enum fm_pin wanted, const struct fm_topology *t, int n, double load, double quota);
/* Binds the calling thread as thread i of n; does nothing where the system refuses. */
void fm_pin_thread(enum fm_pin how, const struct fm_topology *t, int n, int i);

#endif
