/* What the system says about this machine: processor, caches, memory and limits.  Linux: /proc, /sys, control groups of both
 * generations.  What cannot be read is 0 or empty. */
#ifndef FM_BASE_HOST_H
#define FM_BASE_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fm_host {
    char cpu[96];                                    /* "AMD EPYC"                                                 */
    int cores_online, cores_physical, cores_allowed; /* logical; with their own units; by affinity                 */
    int numa_nodes;
    double cpu_quota;                      /* processors that a control group allows; 0: no limit                */
    double load;                           /* programs that want to run, average of the last minute              */
    uint64_t l1_bytes, l2_bytes, l3_bytes; /* data caches of one core, L3 as far as it is shared                 */
    uint64_t memory_total, memory_available;
    uint64_t memory_limit, memory_limit_free; /* the tightest control group; 0 and 0: none                       */
    uint64_t swap_total, swap_used;
    char huge_pages[16]; /* "always", "madvise", "never"                                          */
    char governor[24];   /* "performance"                                                         */
    int turbo;           /* 1 on, 0 off, -1 unknown                                               */
    bool virtual_machine;
};

/* root: "" for this machine; a folder that holds proc/ and sys/ in tests. */
void fm_host_read(struct fm_host *h, const char *root);

/* Only cpu_quota, or load, of that. */
double fm_host_cpu_quota(const char *root);
double fm_host_load(const char *root);

/* text: the beginning of root/path, room − 1 bytes at most; "" when it cannot be read. */
const char *fm_host_text(char *text, size_t room, const char *root, const char *path);

/* What this process may still take: available memory, or less where a control group says so.  0: unknown. */
uint64_t fm_host_memory_free(const struct fm_host *h);

/* The most bytes that this process had in memory so far, mapped files included; 0: unknown. */
uint64_t fm_host_resident_peak(const char *root);

#endif
