/* Which files of a repository make the model that was asked for.
 *
 *   GGUF repository        one quantisation, all of its parts: NAME-Q4_K_M.gguf, or NAME-Q4_K_M-0000i-of-0000n.gguf
 *   safetensors repository config.json, the tokenizer's files, model.safetensors or the shards that the index names
 *
 * Without a wish a GGUF repository gives Q4_K_M, as other programs do, or the next best of the order below. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/mem.h"
#include "hub/hub_impl.h"

static const char *const preferred[] = {"Q4_K_M", "Q4_K_S", "Q4_0",   "Q4_1", "IQ4_XS", "IQ4_NL", "Q5_K_M", "Q5_K_S",
                                        "Q6_K",   "Q8_0",   "Q3_K_M", "BF16", "F16",    "Q2_K",   "F32",    NULL};

static const char *const folder_files[] = {"config.json",
                                           "generation_config.json",
                                           "tokenizer.json",
                                           "tokenizer_config.json",
                                           "tokenizer.model",
                                           "special_tokens_map.json",
                                           "added_tokens.json",
                                           "vocab.json",
                                           "merges.txt",
                                           "tiktoken.model",
                                           "chat_template.jinja",
                                           "chat_template.json",
                                           "LICENSE",
                                           "LICENSE-MODEL",
                                           NULL};

static const char weights_file[] = "model.safetensors", index_file[] = "model.safetensors.index.json";

enum { PICK_MAX = 10000 };

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* ---- GGUF names ------------------------------------------------------------------------------------------------ */

static bool is_gguf(const char *path)
{
    size_t n = strlen(path);
    const char *name = base_name(path);
    return n > 5 && !strcasecmp(path + n - 5, ".gguf") && strncasecmp(name, "mmproj", 6) != 0 &&
           !strcasestr(name, "imatrix");
}

/* Length of the path without .gguf and without -00001-of-00003; *part 1, … or 0: in one file. */
static size_t stem_length(const char *path, int *part)
{
    size_t n = strlen(path) - 5;
    int of, used = 0;
    *part = 0;
    if (n > 15 && sscanf(path + n - 15, "-%5d-of-%5d%n", part, &of, &used) == 2 && used == 15 && *part > 0)
        return n - 15;
    *part = 0;
    return n;
}

static bool same_stem(const char *a, const char *b)
{
    int part;
    size_t n = stem_length(a, &part);
    return n == stem_length(b, &part) && !strncmp(a, b, n);
}

/* 0: the file has not this quantisation; 1: a variant of it ("UD-Q4_K_M" for "Q4_K_M"); 2: it has */
static int matches(const char *path, const char *want)
{
    int part;
    const char *name = base_name(path);
    size_t n = stem_length(path, &part) - (size_t)(name - path), k = strlen(want);
    if (n < k || strncasecmp(name + n - k, want, k) != 0) return 0;
    if (n == k) return 2;
    if (!strchr("-._", name[n - k - 1])) return 0;
    return n >= k + 4 && !strncasecmp(name + n - k - 4, "-UD", 3) ? 1 : 2;
}

/* What stands behind the last - or . of a name: "Q4_K_M" */
static const char *tag_of(const char *path, char out[64])
{
    int part;
    const char *name = base_name(path);
    size_t n = stem_length(path, &part) - (size_t)(name - path), k = n;
    while (k && name[k - 1] != '-' && name[k - 1] != '.') k--;
    if (k >= 3 && !strncasecmp(name + k - 3, "UD-", 3)) k -= 3;
    snprintf(out, 64, "%.*s", (int)(n - k), name + k);
    return out;
}

/* ---- choosing -------------------------------------------------------------------------------------------------- */

static enum fm_status add(struct fm_pick *p, const struct fm_hub_file *f, struct fm_error *err)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->files[i] == f) return FM_OK;
    if (p->n >= PICK_MAX)
        return fm_fail(err, FM_ERR_INPUT, "choose files: %.200s: more than %d files are no model", f->path, PICK_MAX);
    if (!(p->n & (p->n - 1))) {
        size_t cap = p->n ? p->n * 2 : 1;
        const struct fm_hub_file **v = fm_realloc(p->files, cap * sizeof *v);
        if (!v) return fm_fail_memory(err, "the choice of files", cap * sizeof *v);
        p->files = v;
    }
    p->files[p->n++] = f;
    return FM_OK;
}

/* All parts of the file f, in order; FM_ERR_INPUT when one is missing. */
static enum fm_status add_parts(const struct fm_hub_listing *l, const struct fm_hub_file *f, struct fm_pick *p,
                                struct fm_error *err)
{
    int part, of = 0;
    size_t n = stem_length(f->path, &part);
    if (!part) return add(p, f, err);
    sscanf(f->path + n + 10, "%5d", &of);
    for (int i = 1; i <= of; i++) {
        char *name = fm_hub_text("%.*s-%05d-of-%05d%s", (int)n, f->path, i, of, f->path + n + 15);
        if (!name) return fm_fail_memory(err, "a file's name", n);
        const struct fm_hub_file *g = fm_listing_find(l, name);
        enum fm_status st = FM_OK;
        if (!g) st = fm_fail(err, FM_ERR_INPUT, "choose files: %.200s: part %d of %d is not there", name, i, of);
        fm_free(name);
        if (!st) st = add(p, g, err);
        if (st) return st;
    }
    return FM_OK;
}

/* The hint: "it has Q2_K, Q4_K_M, …", or the files' names. */
static void list_choices(const struct fm_hub_listing *l, bool names, struct fm_error *err)
{
    if (!err) return;
    struct fm_buf b = {0};
    const char *last = NULL;
    char tag[64];
    for (size_t i = 0; i < l->n; i++) {
        const char *path = l->files[i].path;
        if (!is_gguf(path) || (last && same_stem(last, path))) continue;
        last = path;
        if (b.len > 200) {
            fm_buf_str(&b, ", …");
            break;
        }
        fm_buf_printf(&b, "%s%.60s", b.len ? ", " : "it has ", names ? path : tag_of(path, tag));
    }
    for (size_t i = 0; !last && i < l->n && b.len < 200; i++)
        fm_buf_printf(&b, "%s%.60s", b.len ? ", " : "it has ", l->files[i].path);
    if (b.data) fm_hint(err, "%s", b.data);
    fm_buf_release(&b);
}

/* The first file of the quantisation want.  *n: how many different ones there are. */
static const struct fm_hub_file *find_quant(const struct fm_hub_listing *l, const char *want, int *n)
{
    const struct fm_hub_file *best = NULL;
    int best_match = 0;
    *n = 0;
    for (size_t i = 0; i < l->n; i++) {
        const struct fm_hub_file *f = &l->files[i];
        int m = is_gguf(f->path) ? matches(f->path, want) : 0;
        if (!m || m < best_match || (m == best_match && same_stem(best->path, f->path))) continue;
        *n = m > best_match ? 1 : *n + 1;
        if (m > best_match) best = f;
        best_match = m;
    }
    return best;
}

static const struct fm_hub_file *only_quant(const struct fm_hub_listing *l)
{
    const struct fm_hub_file *f = NULL;
    for (size_t i = 0; i < l->n; i++)
        if (is_gguf(l->files[i].path)) {
            if (f && !same_stem(f->path, l->files[i].path)) return NULL;
            if (!f) f = &l->files[i];
        }
    return f;
}

static enum fm_status pick_quant(const struct fm_hub_listing *l, const char *repo, const char *want, struct fm_pick *p,
                                 struct fm_error *err)
{
    int n = 0;
    const struct fm_hub_file *f = *want ? NULL : only_quant(l);
    if (f) return add_parts(l, f, p, err);
    if (*want) f = find_quant(l, want, &n);
    for (int i = 0; !*want && !f && preferred[i]; i++) f = find_quant(l, preferred[i], &n);
    if (f && n == 1) return add_parts(l, f, p, err);
    if (!f && *want)
        (void)fm_fail(err, FM_ERR_INPUT, "choose files: %s: it holds no %.100s", repo, want);
    else if (*want)
        (void)fm_fail(err, FM_ERR_USAGE, "choose files: %s: %d files are called %.100s; name one", repo, n, want);
    else
        (void)fm_fail(err, FM_ERR_USAGE, "choose files: %s: it holds several models; name one: %s:FILE", repo, repo);
    list_choices(l, n > 1, err);
    return err ? err->code : FM_ERR_INPUT;
}

static bool has_gguf(const struct fm_hub_listing *l)
{
    for (size_t i = 0; i < l->n; i++)
        if (is_gguf(l->files[i].path)) return true;
    return false;
}

static enum fm_status pick_folder(const struct fm_hub_listing *l, const char *repo, struct fm_pick *p,
                                  struct fm_error *err)
{
    const struct fm_hub_file *weights = fm_listing_find(l, weights_file);
    p->kind = FM_PICK_FOLDER;
    p->index = fm_listing_find(l, index_file);
    if (!fm_listing_find(l, "config.json") || (!weights && !p->index)) {
        (void)fm_fail(err, FM_ERR_INPUT, "choose files: %s: no GGUF files, and no config.json with model.safetensors",
                      repo);
        list_choices(l, true, err);
        return FM_ERR_INPUT;
    }
    for (int i = 0; folder_files[i]; i++) {
        const struct fm_hub_file *f = fm_listing_find(l, folder_files[i]);
        if (f) FM_TRY(add(p, f, err));
    }
    return p->index ? add(p, p->index, err) : add(p, weights, err);
}

enum fm_status fm_pick_files(const struct fm_hub_listing *l, const char *repo, const char *want, struct fm_pick *out,
                             struct fm_error *err)
{
    struct fm_pick p = {.kind = FM_PICK_GGUF};
    enum fm_status st;
    const struct fm_hub_file *exact = *want ? fm_listing_find(l, want) : NULL;
    if (exact && is_gguf(exact->path))
        st = add_parts(l, exact, &p, err);
    else if (exact) {
        p.kind = FM_PICK_FILE;
        st = add(&p, exact, err);
    } else if (!strcasecmp(want, "safetensors") || (!*want && !has_gguf(l)))
        st = pick_folder(l, repo, &p, err);
    else
        st = pick_quant(l, repo, want, &p, err);
    if (st)
        fm_pick_release(&p);
    else
        *out = p;
    return st;
}

static enum fm_status add_shard(const struct fm_hub_listing *l, const char *name, struct fm_pick *p,
                                struct fm_error *err)
{
    const struct fm_hub_file *f = name && fm_hub_path_ok(name) ? fm_listing_find(l, name) : NULL;
    if (f) return add(p, f, err);
    return fm_fail(err, FM_ERR_INPUT, "read the index: %s: it names '%.120s', which is not in the repository",
                   index_file, name ? name : "?");
}

enum fm_status fm_pick_shards(const struct fm_hub_listing *l, const char *text, size_t n, struct fm_pick *pick,
                              struct fm_error *err)
{
    json_t *j;
    FM_TRY(fm_json_parse(text, n, index_file, &j, err));
    json_t *map = json_object_get(j, "weight_map"), *v;
    const char *key, *last = "";
    enum fm_status st = FM_OK;
    if (!json_is_object(map)) st = fm_fail(err, FM_ERR_INPUT, "read the index: %s: it has no weight_map", index_file);
    json_object_foreach(map, key, v)
    {
        const char *name = json_string_value(v);
        if (st || (name && !strcmp(name, last))) continue; /* neighbours mostly lie in the same shard */
        st = add_shard(l, name, pick, err);
        if (name) last = name;
    }
    json_decref(j);
    return st;
}

void fm_pick_release(struct fm_pick *p)
{
    fm_free(p->files);
    *p = (struct fm_pick){0};
}
