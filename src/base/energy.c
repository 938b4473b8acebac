/* See energy.h. */
#include "base/energy.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool read_number(int fd, uint64_t *out)
{
    char text[32], *end;
    const ssize_t n = pread(fd, text, sizeof text - 1, 0);
    if (n <= 0) return false;
    text[n] = 0;
    *out = strtoull(text, &end, 10);
    return end > text;
}

static int open_in(const char *root, int package, const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/intel-rapl:%d/%s", root, package, name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

void fm_energy_open(struct fm_energy *e, const char *root)
{
    *e = (struct fm_energy){0};
    if (!root) root = "/sys/class/powercap";
    for (int i = 0; i < FM_ENERGY_PACKAGES; i++) {
        const int fd = open_in(root, i, "energy_uj"), max = open_in(root, i, "max_energy_range_uj");
        if (fd >= 0 && read_number(fd, &e->of[e->n].last)) {
            if (max < 0 || !read_number(max, &e->of[e->n].range)) e->of[e->n].range = 0;
            e->of[e->n++].fd = fd;
        } else if (fd >= 0) {
            (void)close(fd);
        }
        if (max >= 0) (void)close(max);
    }
}

double fm_energy_read(struct fm_energy *e)
{
    for (int i = 0; i < e->n; i++) {
        uint64_t now;
        if (!read_number(e->of[i].fd, &now)) continue;
        const uint64_t last = e->of[i].last, range = e->of[i].range;
        const uint64_t used = now >= last ? now - last : range >= last ? range - last + now : 0;
        e->joules += (double)used * 1e-6;
        e->of[i].last = now;
    }
    return e->joules;
}

void fm_energy_close(struct fm_energy *e)
{
    while (e->n) (void)close(e->of[--e->n].fd);
}
