/* What the processors' own meters have counted: RAPL, as Linux shows it under /sys/class/powercap.  Readable by root only on
 * most systems (CVE-2020-8694). */
#ifndef FM_BASE_ENERGY_H
#define FM_BASE_ENERGY_H

#include <stdint.h>

enum { FM_ENERGY_PACKAGES = 16 };
struct fm_energy {
    int n; /* packages: 0 where nothing can be read */
    struct {
        int fd;
        uint64_t last, range; /* microjoules; the count begins anew behind range */
    } of[FM_ENERGY_PACKAGES];
    double joules; /* since it was opened */
};

/* root NULL: /sys/class/powercap.  Its files stay open until closed. */
void fm_energy_open(struct fm_energy *e, const char *root);
/* Joules of all packages since it was opened.  More often than the count runs over: every few minutes. */
double fm_energy_read(struct fm_energy *e);
void fm_energy_close(struct fm_energy *e);

#endif
