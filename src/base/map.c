/* See map.h. */
#include "base/map.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum fm_status fm_map_open(struct fm_map *m, const char *path, struct fm_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not make us wait */
    if (fd < 0) return fm_fail(err, FM_ERR_INPUT, "open file: %s: %s", path, strerror(errno));
    enum fm_status st = FM_OK;
    struct stat s;
    if (fstat(fd, &s))
        st = fm_fail(err, FM_ERR_INPUT, "open file: %s: %s", path, strerror(errno));
    else if (S_ISDIR(s.st_mode))
        st = fm_fail(err, FM_ERR_INPUT, "open file: %s: is a directory, a file is needed", path);
    else if (!S_ISREG(s.st_mode))
        st = fm_fail(err, FM_ERR_INPUT, "open file: %s: is not a regular file", path);
    if (!st) {
        struct fm_map r = {NULL, (size_t)s.st_size};
        if (r.size) {
            void *p = mmap(NULL, r.size, PROT_READ, MAP_PRIVATE, fd, 0);
            if (p == MAP_FAILED)
                st = fm_fail(err, FM_ERR_MEMORY, "map file: %s: %s", path, strerror(errno));
            else
                r.data = p;
        }
        if (!st) *m = r;
    }
    close(fd);
    return st;
}

void fm_map_close(struct fm_map *m)
{
    if (m->data) munmap((void *)(size_t)m->data, m->size);
    *m = (struct fm_map){0};
}
