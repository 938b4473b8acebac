/* What the processor could do at best: loops of nothing but multiply-adds, one per instruction that a kernel could use.
 * They measure, they compute nothing: the yardstick of `fathom doctor` and of bench/. */
#ifndef FM_KERNEL_PROBE_H
#define FM_KERNEL_PROBE_H

#include <stdbool.h>

enum fm_probe_kind { FM_PROBE_F32, FM_PROBE_INT8, FM_PROBE_KINDS };

struct fm_probe {
    const char *name; /* the instruction: "vfmadd231ps ymm" */
    enum fm_probe_kind kind;
    bool (*runs_here)(void);
    void (*run)(long rounds); /* on one thread, over values that are neither zero nor denormal */
    double macs;              /* multiply-adds of one round                                   */
};

/* The i-th probe of this build, NULL behind the last; whether it may run here is its own question. */
const struct fm_probe *fm_probe_at(int i);

#if defined(__x86_64__)
extern const struct fm_probe fm_x86_probes[];
extern const int fm_n_x86_probes;
#endif

#endif
