/* A GGUF model in several files: MODEL-00001-of-00003.gguf and so on.
 *
 * Every part has its own tensor list and data; all keys but split.* are in the first.  split.no counts from 0, file
 * names from 1.  Source: spec models.md §9.4; llama.cpp's gguf-split. */
#include <stdio.h>
#include <string.h>

#include "file/container.h"

enum { TAIL = sizeof "-00001-of-00003.gguf" - 1 };

static int64_t int_key(const struct fm_file *f, int first, const char *key, int64_t dflt)
{
    for (int i = first; i < f->n_meta; i++)
        if (f->meta[i].type == FM_META_INT && !strcmp(f->meta[i].key, key)) return f->meta[i].i;
    return dflt;
}

/* The name of part no of n, made from that of the first; NULL when that does not follow the pattern. */
static const char *part_path(struct fm_file *f, const char *first, int no, int n)
{
    char tail[TAIL + 16];
    size_t len = strlen(first);
    snprintf(tail, sizeof tail, "-00001-of-%05d.gguf", n);
    if (len < TAIL || strcmp(first + len - TAIL, tail)) return NULL;
    const char *path = fm_file_text(f, first, len);
    if (path) snprintf((char *)(size_t)path + len - TAIL, TAIL + 1, "-%05d-of-%05d.gguf", no, n);
    return path;
}

static enum fm_status read_part(struct fm_file *f, const char *path, int no, int n, struct fm_error *err)
{
    int first_key = f->n_meta;
    FM_TRY(fm_file_add(f, path, err));
    if (f->kind != FM_GGUF || int_key(f, first_key, "split.no", -1) != no - 1 ||
        int_key(f, first_key, "split.count", -1) != n)
        return fm_fail(err, FM_ERR_INPUT, "open GGUF: %s: is not part %d of %d, as its name says", path, no, n);
    f->n_meta = first_key;
    return FM_OK;
}

enum fm_status fm_gguf_read_split(struct fm_file *f, struct fm_error *err)
{
    int64_t n = int_key(f, 0, "split.count", 1), total = int_key(f, 0, "split.tensors.count", -1);
    if (n <= 1) return FM_OK;
    const char *first = f->parts[0].path;
    if (n > FM_MAX_PARTS) return fm_fail(err, FM_ERR_INPUT, "open GGUF: %s: more than %d parts", first, FM_MAX_PARTS);
    if (int_key(f, 0, "split.no", -1) != 0 || !part_path(f, first, 1, (int)n)) {
        (void)fm_fail(err, FM_ERR_INPUT, "open GGUF: %s: is one of %d parts and not the first", first, (int)n);
        fm_hint(err, "give the file whose name ends in -00001-of-%05d.gguf", (int)n);
        return FM_ERR_INPUT;
    }
    for (int no = 2; no <= n; no++) {
        const char *path = part_path(f, first, no, (int)n);
        if (!path) return fm_fail_memory(err, "file name", strlen(first));
        FM_TRY(read_part(f, path, no, (int)n, err));
    }
    if (total >= 0 && total != f->n_tensors)
        return fm_fail(err, FM_ERR_INPUT, "open GGUF: %s: %lld tensors are announced, the parts hold %d", first,
                       (long long)total, f->n_tensors);
    return FM_OK;
}
