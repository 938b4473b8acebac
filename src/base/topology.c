/* See topology.h.  Sources: sysfs-devices-system-cpu, sysfs-devices-node, sched_setaffinity(2). */
#include "base/topology.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/env.h"
#include "base/host.h"
#include "base/pool.h"

enum { TEXT = 1 << 13 };

/* ---- reading --------------------------------------------------------------------------------------------------- */

/* Marks with value the entries below n of a list such as "0-3,8,10-11"; the first of them, or −1. */
static int mark(const char *list, int *marks, int n, int value)
{
    int first = -1, a, b, used;
    while (sscanf(list, "%d%n", &a, &used) == 1) {
        list += used;
        b = a;
        if (*list == '-' && sscanf(list, "-%d%n", &b, &used) == 1) list += used;
        if (first < 0) first = a;
        for (int i = a < 0 ? 0 : a; i <= b && i < n; i++) marks[i] = value;
        if (*list++ != ',') break;
    }
    return first;
}

/* usable[i]: may processor i be used? */
static void read_usable(const char *root, int *usable)
{
    char text[TEXT];
    cpu_set_t set;
    if (*root) {
        mark(fm_host_text(text, sizeof text, root, "/sys/devices/system/cpu/online"), usable, FM_CPUS_MAX, 1);
    } else if (sched_getaffinity(0, sizeof set, &set) == 0) {
        for (int i = 0; i < FM_CPUS_MAX && i < CPU_SETSIZE; i++) usable[i] = CPU_ISSET(i, &set) != 0;
    } else {
        for (int i = 0; i < fm_cpu_allowed() && i < FM_CPUS_MAX; i++) usable[i] = 1;
    }
}

/* node[i]: the system's number of the node of processor i. */
static void read_nodes(const char *root, int *node)
{
    char text[TEXT], path[96];
    int there[FM_CPUS_MAX] = {0};
    mark(fm_host_text(text, sizeof text, root, "/sys/devices/system/node/online"), there, FM_CPUS_MAX, 1);
    for (int k = 0; k < FM_CPUS_MAX; k++) {
        if (!there[k]) continue;
        snprintf(path, sizeof path, "/sys/devices/system/node/node%d/cpulist", k);
        mark(fm_host_text(text, sizeof text, root, path), node, FM_CPUS_MAX, k);
    }
}

static int core_of(const char *root, int id)
{
    char text[TEXT], path[96];
    int none;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", id);
    const int first = mark(fm_host_text(text, sizeof text, root, path), &none, 0, 0);
    return first < 0 ? id : first;
}

/* The place of a node in the list; nodes beyond the most share the last. */
static int node_index(struct fm_topology *t, int id)
{
    for (int k = 0; k < t->n_nodes; k++)
        if (t->node_id[k] == id) return k;
    if (t->n_nodes == FM_NODES_MAX) return FM_NODES_MAX - 1;
    t->node_id[t->n_nodes] = id;
    return t->n_nodes++;
}

static int by_place(const void *a, const void *b)
{
    const struct fm_cpu *x = a, *y = b;
    if (x->node != y->node) return x->node - y->node;
    return x->sibling != y->sibling ? x->sibling - y->sibling : x->id - y->id;
}

void fm_topology_read(struct fm_topology *t, const char *root)
{
    int usable[FM_CPUS_MAX] = {0}, node[FM_CPUS_MAX] = {0}, siblings[FM_CPUS_MAX] = {0};
    *t = (struct fm_topology){0};
    read_usable(root, usable);
    read_nodes(root, node);
    for (int i = 0; i < FM_CPUS_MAX; i++) {
        if (!usable[i]) continue;
        const int core = core_of(root, i), k = node_index(t, node[i]),
                  before = core < FM_CPUS_MAX ? siblings[core]++ : 0;
        t->cpu[t->n++] = (struct fm_cpu){i, core, k, before};
        t->node_cpus[k]++;
        t->node_cores[k] += !before;
        t->n_cores += !before;
    }
    if (!t->n) *t = (struct fm_topology){.n = 1, .n_cores = 1, .n_nodes = 1, .node_cpus = {1}, .node_cores = {1}};
    qsort(t->cpu, (size_t)t->n, sizeof *t->cpu, by_place);
}

void fm_topology_here(struct fm_topology *t)
{
    const char *root = fm_env("FATHOM_SYS");
    fm_topology_read(t, root ? root : "");
    t->pretended = root != NULL;
}

/* ---- sharing out ----------------------------------------------------------------------------------------------- */

void fm_topology_share(const struct fm_topology *t, int n, int first[FM_NODES_MAX + 1])
{
    long cores = 0;
    first[0] = 0;
    for (int k = 0; k < t->n_nodes; k++) {
        cores += t->node_cores[k];
        first[k + 1] = (int)((n * cores + t->n_cores / 2) / t->n_cores);
    }
}

const struct fm_cpu *fm_topology_place(const struct fm_topology *t, int n, int i)
{
    int first[FM_NODES_MAX + 1], k = 0, at = 0;
    fm_topology_share(t, n, first);
    while (k + 1 < t->n_nodes && i >= first[k + 1]) at += t->node_cpus[k++];
    return &t->cpu[at + (i - first[k]) % t->node_cpus[k]];
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

void fm_nodes_of(const struct fm_topology *t, struct fm_nodes *out)
{
    *out = (struct fm_nodes){0};
    if (t->n_nodes < 2 || t->pretended) return;
    out->n = t->n_nodes;
    memcpy(out->id, t->node_id, sizeof out->id);
}

void fm_nodes_place(const struct fm_nodes *nodes, void *at, size_t bytes)
{
    enum { BITS = 8 * sizeof(unsigned long), PREFERRED = 1, INTERLEAVE = 3 }; /* linux/mempolicy.h */
    unsigned long mask[FM_CPUS_MAX / BITS] = {0};
    if (!nodes->n) return;
    for (int i = 0; i < nodes->n; i++) mask[(size_t)nodes->id[i] / BITS] |= 1UL << (size_t)nodes->id[i] % BITS;
    (void)syscall(SYS_mbind, at, bytes, nodes->n > 1 ? INTERLEAVE : PREFERRED, mask, FM_CPUS_MAX + 1UL, 0);
}

/* ---- pinning --------------------------------------------------------------------------------------------------- */

enum fm_pin fm_pin_named(const char *word)
{
    static const char *const words[] = {"auto", "on", "off"};
    int i = 0;
    while (word && i < FM_PIN_COUNT && strcmp(words[i], word) != 0) i++;
    return (enum fm_pin)i;
}

enum fm_pin fm_pin_decide(enum fm_pin wanted, const struct fm_topology *t, int n, double load, double quota)
{
    if (wanted == FM_PIN_OFF || n > t->n || t->pretended) return FM_PIN_OFF;
    if (wanted == FM_PIN_ON) return FM_PIN_ON;
    const bool limited = quota > 0 && quota < n;
    return t->n_nodes > 1 && !limited && n <= t->n_cores - load + 0.5 ? FM_PIN_AUTO : FM_PIN_OFF;
}

void fm_pin_thread(enum fm_pin how, const struct fm_topology *t, int n, int i)
{
    const struct fm_cpu *own = fm_topology_place(t, n, i);
    cpu_set_t set;
    if (how == FM_PIN_OFF) return;
    CPU_ZERO(&set);
    for (int c = 0; c < t->n; c++)
        if (how == FM_PIN_ON ? t->cpu[c].id == own->id : t->cpu[c].node == own->node)
            if (t->cpu[c].id < CPU_SETSIZE) CPU_SET((size_t)t->cpu[c].id, &set);
    (void)sched_setaffinity(0, sizeof set, &set); /* 0: this thread alone */
}
