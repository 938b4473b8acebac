/* What a repository holds, from the tree API.  Every name and number here was written by a stranger.
 *
 *   [{"type":"file","path":"a/b.gguf","size":123,"oid":"<git's hash>","lfs":{"oid":"<sha256>","size":123}}, …] */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "hub/hub_impl.h"

bool fm_hub_path_ok(const char *path)
{
    size_t n = strlen(path), part = 0;
    if (!n || n > 1024 || path[0] == '/' || !fm_utf8_valid(path, n)) return false;
    for (size_t i = 0; i <= n; i++) {
        unsigned char c = (unsigned char)path[i];
        if (c && c != '/') {
            if (c < 0x20 || c == 0x7F || c == '\\') return false;
            part++;
            continue;
        }
        const char *s = path + i - part;
        if (!part || part > 255 || (part == 1 && s[0] == '.') || (part == 2 && s[0] == '.' && s[1] == '.'))
            return false;
        part = 0;
    }
    return true;
}

static enum fm_status grow(struct fm_hub_listing *l, struct fm_error *err)
{
    if (l->n >= FM_HUB_FILES_MAX)
        return fm_fail(err, FM_ERR_INPUT, "read the list of files: entry %zu: at most %d files are accepted", l->n + 1,
                       FM_HUB_FILES_MAX);
    if (l->n < l->cap) return FM_OK;
    size_t cap = l->cap ? l->cap * 2 : 32;
    struct fm_hub_file *f = fm_realloc(l->files, cap * sizeof *f);
    if (!f) return fm_fail_memory(err, "the list of files", cap * sizeof *f);
    l->files = f;
    l->cap = cap;
    return FM_OK;
}

enum fm_status fm_listing_add(struct fm_hub_listing *l, const char *path, uint64_t size, const char *oid,
                              struct fm_error *err)
{
    FM_TRY(grow(l, err));
    struct fm_hub_file f = {.path = fm_strdup(path), .size = size};
    if (!f.path) return fm_fail_memory(err, "a file's name", strlen(path));
    if (oid && (fm_hub_is_hex(oid, 64) || fm_hub_is_hex(oid, 40))) strcpy(f.oid, oid);
    l->files[l->n++] = f;
    return FM_OK;
}

static enum fm_status add_entry(struct fm_hub_listing *l, const json_t *e, size_t i, const char *where,
                                struct fm_error *err)
{
    const char *type = fm_json_str(e, "type", ""), *path = fm_json_str(e, "path", NULL);
    if (!strcmp(type, "directory")) return FM_OK;
    if (strcmp(type, "file") != 0 || !path)
        return fm_fail(err, FM_ERR_INPUT, "read the list of files: %s, entry %zu: neither a file nor a folder", where,
                       i + 1);
    if (!fm_hub_path_ok(path))
        return fm_fail(err, FM_ERR_INPUT, "read the list of files: %s, entry %zu: '%.120s' is not a safe name", where,
                       i + 1, path);
    const json_t *lfs = json_object_get(e, "lfs");
    int64_t size = fm_json_int(e, "size", -1);
    if (json_is_object(lfs)) size = fm_json_int(lfs, "size", size);
    if (size < 0 || (uint64_t)size > FM_HUB_SIZE_MAX)
        return fm_fail(err, FM_ERR_INPUT, "read the list of files: %s: %.120s: its size is no size", where, path);
    return fm_listing_add(l, path, (uint64_t)size, fm_json_str(json_is_object(lfs) ? lfs : e, "oid", NULL), err);
}

enum fm_status fm_listing_parse(struct fm_hub_listing *l, const char *text, size_t n, const char *where,
                                struct fm_error *err)
{
    json_t *j;
    FM_TRY(fm_json_parse(text, n, where, &j, err));
    enum fm_status st = FM_OK;
    if (!json_is_array(j)) st = fm_fail(err, FM_ERR_INPUT, "read the list of files: %s: it is no list", where);
    for (size_t i = 0; !st && i < json_array_size(j); i++) st = add_entry(l, json_array_get(j, i), i, where, err);
    json_decref(j);
    return st;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct fm_hub_file *)a)->path, ((const struct fm_hub_file *)b)->path);
}

void fm_listing_sort(struct fm_hub_listing *l)
{
    if (l->n) qsort(l->files, l->n, sizeof *l->files, by_path);
}

const struct fm_hub_file *fm_listing_find(const struct fm_hub_listing *l, const char *path)
{
    const struct fm_hub_file key = {.path = (char *)(uintptr_t)path};
    return l->n ? bsearch(&key, l->files, l->n, sizeof *l->files, by_path) : NULL;
}

void fm_listing_release(struct fm_hub_listing *l)
{
    for (size_t i = 0; i < l->n; i++) fm_free(l->files[i].path);
    fm_free(l->files);
    *l = (struct fm_hub_listing){0};
}
