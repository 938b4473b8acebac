/* A folder in Hugging Face layout: which files in it are the weights.
 *
 *   model.safetensors, or else
 *   model.safetensors.index.json   {"weight_map": {tensor: file, …}} and the files it names, or else
 *   the only GGUF in the folder (of a split one, its first part)
 *
 * Source: spec models.md §9.1, cli.md.  Other .safetensors files there are not ours to guess about. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "file/container.h"

static bool exists(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0;
}

/* ---- shards ---- */

/* File names come from a downloaded index: they must not lead out of the folder. */
static bool plain_name(const char *s)
{
    return *s && strcmp(s, ".") && strcmp(s, "..") && !strchr(s, '/') && fm_name_ok(s, strlen(s));
}

/* The file names of the map, sorted, each once: *out is an array to be freed of *n pointers into the map. */
static enum fm_status shard_names(json_t *map, const char *index, const char ***out, size_t *n, struct fm_error *err)
{
    size_t count = json_object_size(map), used = 0, unique = 0;
    const char *name, **v;
    json_t *file;
    if (!count || count > FM_MAX_TENSORS)
        return fm_fail(err, FM_ERR_INPUT, "open model: %s: weight_map is missing, empty or too large", index);
    json_object_foreach(
        map, name,
        file) if (!json_is_string(file) ||
                  !plain_name(json_string_value(
                      file))) return fm_fail(err, FM_ERR_INPUT,
                                             "open model: %s: %s is mapped to something that is no plain file name",
                                             index, name);
    if (!(v = fm_malloc(count * sizeof *v))) return fm_fail_memory(err, index, count * sizeof *v);
    json_object_foreach(map, name, file) v[used++] = json_string_value(file);
    qsort(v, used, sizeof *v, fm_compare_strings);
    for (size_t i = 0; i < used; i++)
        if (!unique || strcmp(v[unique - 1], v[i])) v[unique++] = v[i];
    *out = v;
    *n = unique;
    return FM_OK;
}

static enum fm_status add_shards(struct fm_file *f, const char *const *names, size_t n, struct fm_error *err)
{
    for (size_t i = 0; i < n; i++) {
        const char *path = fm_file_join(f, f->path, names[i]);
        if (!path) return fm_fail_memory(err, "file name", strlen(names[i]));
        FM_TRY(fm_file_add(f, path, err));
        if (f->kind != FM_SAFETENSORS) return fm_fail(err, FM_ERR_INPUT, "open model: %s: is not safetensors", path);
    }
    return FM_OK;
}

/* Every tensor of the map must be in the file that the map says. */
static enum fm_status check_map(struct fm_file *f, json_t *map, const char *index, struct fm_error *err)
{
    const char *name;
    json_t *file;
    FM_TRY(fm_file_sort(f, err));
    json_object_foreach(map, name, file)
    {
        const struct fm_tensor *t = fm_file_find(f, name);
        if (!t || strcmp(strrchr(t->path, '/') + 1, json_string_value(file)))
            return fm_fail(err, FM_ERR_INPUT, "open model: %s: tensor %s is not in %s", index, name,
                           json_string_value(file));
    }
    return FM_OK;
}

static enum fm_status read_index(struct fm_file *f, const char *index, struct fm_error *err)
{
    struct fm_buf text = {0};
    json_t *root = NULL, *map;
    const char **names = NULL;
    size_t n = 0;
    enum fm_status st;
    FM_GOTO(fm_buf_read_file(&text, index, FM_MAX_INDEX, err));
    FM_GOTO(fm_json_parse(text.data, text.len, index, &root, err));
    map = json_object_get(root, "weight_map");
    FM_GOTO(shard_names(map, index, &names, &n, err));
    FM_GOTO(add_shards(f, names, n, err));
    FM_GOTO(check_map(f, map, index, err));
out:
    fm_free(names);
    json_decref(root);
    fm_buf_release(&text);
    return st;
}

/* ---- a GGUF ---- */

/* MODEL.gguf, or the first part of a split one; its other parts do not count. */
static bool gguf_name(const char *s)
{
    size_t n = strlen(s), tail = sizeof "-00001-of-00003.gguf" - 1;
    if (n < 6 || strcmp(s + n - 5, ".gguf")) return false;
    if (n <= tail || s[n - tail] != '-' || memcmp(s + n - tail + 6, "-of-", 4)) return true;
    return !memcmp(s + n - tail + 1, "00001", 5);
}

static enum fm_status only_gguf(struct fm_file *f, const char **out, struct fm_error *err)
{
    DIR *d = opendir(f->path);
    if (!d) return fm_fail(err, FM_ERR_INPUT, "open model: %s: %s", f->path, strerror(errno));
    struct dirent *e;
    const char *path = NULL;
    enum fm_status st = FM_OK;
    int n = 0;
    while (!st && (e = readdir(d)))
        if (gguf_name(e->d_name) && ++n == 1 && !(path = fm_file_join(f, f->path, e->d_name)))
            st = fm_fail_memory(err, "file name", strlen(e->d_name));
    closedir(d);
    if (!st && n > 1) {
        st = fm_fail(err, FM_ERR_INPUT, "open model: %s: the folder holds %d GGUF files", f->path, n);
        fm_hint(err, "give one of the files");
    }
    if (!st && !n)
        st = fm_fail(err, FM_ERR_INPUT,
                     "open model: %s: the folder holds no model.safetensors, no model.safetensors.index.json, no GGUF",
                     f->path);
    if (!st) *out = path;
    return st;
}

enum fm_status fm_folder_read(struct fm_file *f, struct fm_error *err)
{
    const char *one = fm_file_join(f, f->path, "model.safetensors");
    const char *index = fm_file_join(f, f->path, "model.safetensors.index.json");
    if (!one || !index) return fm_fail_memory(err, "file name", strlen(f->path));
    bool whole = exists(one), shards = !whole && exists(index);
    if (!whole && !shards) {
        FM_TRY(only_gguf(f, &one, err));
        FM_TRY(fm_file_add(f, one, err));
        return f->kind == FM_GGUF ? fm_gguf_read_split(f, err) : FM_OK;
    }
    FM_TRY(whole ? fm_file_add(f, one, err) : read_index(f, index, err));
    if (f->kind != FM_SAFETENSORS) return fm_fail(err, FM_ERR_INPUT, "open model: %s: is not safetensors", one);
    f->kind = FM_HF_FOLDER;
    return FM_OK;
}
