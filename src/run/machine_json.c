/* A machine as JSON and back: one row per member. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "fathom.h"
#include "file/replace.h"

enum kind { TEXT, INT, BOOL, COUNT, REAL, PAIR, TIME };

static const struct member {
    const char *key;
    enum kind kind;
    size_t at, size; /* size: of a text */
} members[] = {
#define ROW(kind, name)                                                                      \
    {                                                                                        \
#name, kind, offsetof(struct fm_machine, name), sizeof((struct fm_machine *)0)->name \
    }
    ROW(TEXT, cpu),
    ROW(TEXT, tier),
    ROW(INT, threads),
    ROW(INT, cores_online),
    ROW(INT, cores_physical),
    ROW(INT, cores_allowed),
    ROW(REAL, cpu_quota),
    ROW(INT, numa_nodes),
    ROW(BOOL, virtual_machine),
    ROW(INT, turbo),
    ROW(TEXT, governor),
    ROW(REAL, load),
    ROW(COUNT, l1_bytes),
    ROW(COUNT, l2_bytes),
    ROW(COUNT, l3_bytes),
    ROW(COUNT, memory_total),
    ROW(COUNT, memory_available),
    ROW(COUNT, memory_limit),
    ROW(COUNT, memory_free),
    ROW(COUNT, swap_total),
    ROW(COUNT, swap_used),
    ROW(TEXT, huge_pages),
    ROW(PAIR, read),
    ROW(PAIR, read_huge),
    ROW(PAIR, f32_peak),
    ROW(PAIR, f32_gemm),
    ROW(TEXT, f32_instruction),
    ROW(PAIR, int8_peak),
    ROW(PAIR, int8_gemm),
    ROW(TEXT, int8_instruction),
    ROW(REAL, attn_read),
    ROW(REAL, attn_decode),
    ROW(REAL, attn_prefill),
    ROW(REAL, loop_seconds),
    ROW(REAL, disk),
    ROW(REAL, disk_direct),
    ROW(TEXT, disk_path),
    ROW(REAL, noise),
    ROW(REAL, seconds),
    ROW(TIME, when),
#undef ROW
};
enum { N_MEMBERS = sizeof members / sizeof *members };

/* ---- out ---- */

static json_t *member_json(const struct member *r, const struct fm_machine *m)
{
    const void *at = (const char *)m + r->at;
    const double *d = at;
    switch (r->kind) {
    case TEXT: return json_string(fm_utf8_valid(at, strlen(at)) ? (const char *)at : "");
    case INT: return json_integer(*(const int *)at);
    case BOOL: return json_boolean(*(const bool *)at);
    case COUNT: return json_integer((json_int_t) * (const uint64_t *)at);
    case TIME: return json_integer((json_int_t) * (const int64_t *)at);
    case REAL: return json_real(*d);
    case PAIR: return json_pack("[f,f]", d[0], d[1]);
    }
    return NULL;
}

static json_t *format_json(const struct fm_machine_format *f)
{
    return json_pack("{s:f,s:f,s:f}", "decode", f->decode, "decode_cache", f->decode_cache, "prefill", f->prefill);
}

static json_t *to_json(const struct fm_machine *m)
{
    json_t *j = json_object(), *formats = json_object();
    int failed = 0;
    for (int i = 0; i < N_MEMBERS; i++) failed |= json_object_set_new(j, members[i].key, member_json(&members[i], m));
    for (int i = 0; i < m->n_formats; i++)
        failed |= json_object_set_new(formats, m->formats[i].name, format_json(&m->formats[i]));
    failed |= json_object_set_new(j, "formats", formats);
    if (!failed) return j;
    json_decref(j);
    return NULL;
}

enum fm_status fm_machine_json(const struct fm_machine *m, char **text, size_t *n, struct fm_error *err)
{
    json_t *j = to_json(m);
    char *dump = j ? json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) : NULL,
         *copy = dump ? fm_strdup(dump) : NULL;
    json_decref(j);
    free(dump); /* jansson's */
    if (!copy) return fm_fail_memory(err, "the machine's description", 4096);
    *n = strlen(copy);
    *text = copy;
    return FM_OK;
}

/* ---- in ---- */

static bool read_member(const struct member *r, const json_t *v, struct fm_machine *m)
{
    void *at = (char *)m + r->at;
    double *d = at;
    switch (r->kind) {
    case TEXT:
        if (json_is_string(v)) snprintf(at, r->size, "%s", json_string_value(v));
        return json_is_string(v);
    case INT:
        if (json_is_integer(v)) *(int *)at = (int)json_integer_value(v);
        return json_is_integer(v);
    case BOOL: *(bool *)at = json_is_true(v); return json_is_boolean(v);
    case COUNT:
    case TIME: /* both of 64 bits */
        if (json_is_integer(v)) *(int64_t *)at = json_integer_value(v);
        return json_is_integer(v) && json_integer_value(v) >= 0;
    case REAL: *d = json_number_value(v); return json_is_number(v) && *d >= 0;
    case PAIR:
        for (size_t i = 0; i < 2; i++) d[i] = json_number_value(json_array_get(v, i));
        return json_array_size(v) == 2 && d[0] >= 0 && d[1] >= 0;
    }
    return false;
}

static bool read_formats(const json_t *formats, struct fm_machine *m)
{
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)formats, name, v)
    {
        struct fm_machine_format f = {.decode = fm_json_num(v, "decode", -1),
                                      .decode_cache = fm_json_num(v, "decode_cache", -1),
                                      .prefill = fm_json_num(v, "prefill", -1)};
        if (m->n_formats == FM_MACHINE_FORMATS || strlen(name) >= sizeof f.name) return false;
        if (!(f.decode > 0 && f.decode_cache > 0 && f.prefill > 0)) return false;
        memcpy(f.name, name, strlen(name) + 1);
        m->formats[m->n_formats++] = f;
    }
    return m->n_formats > 0;
}

/* ---- the file: one entry per machine --------------------------------------------------------------------------- */

enum { KEY = 192 };

static void make_key(const struct fm_machine *m, char key[KEY])
{
    snprintf(key, KEY, "%s, %s, %d threads on %d cores", fm_utf8_valid(m->cpu, strlen(m->cpu)) ? m->cpu : "", m->tier,
             m->threads, m->cores_allowed);
}

enum fm_status fm_machine_load(const char *path, const struct fm_machine *here, struct fm_machine *out,
                               struct fm_error *err)
{
    json_t *j = NULL;
    struct fm_machine m = {0};
    const char *wrong = NULL;
    char key[KEY];
    make_key(here, key);
    FM_TRY(fm_json_read(path, &j, err));
    const json_t *entry = json_object_get(j, key);
    for (int i = 0; i < N_MEMBERS && !wrong; i++)
        if (!read_member(&members[i], json_object_get(entry, members[i].key), &m)) wrong = members[i].key;
    if (!wrong && !read_formats(json_object_get(entry, "formats"), &m)) wrong = "formats";
    enum fm_status st = FM_OK;
    if (!entry)
        st = fm_fail(err, FM_ERR_INPUT, "read figures: %s: none of this machine (%s)", path, key);
    else if (wrong)
        st = fm_fail(err, FM_ERR_INPUT, "read figures: %s: '%s' is missing or no possible value", path, wrong);
    else
        *out = m;
    json_decref(j);
    return st;
}

/* Folders above path, as far as they are missing; a failure shows when the file is made. */
static void make_folders(const char *path)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    for (char *p = strchr(folder + 1, '/'); *folder && p; p = strchr(p + 1, '/')) {
        *p = 0;
        (void)mkdir(folder, 0777);
        *p = '/';
    }
}

static enum fm_status write_whole(const char *path, const char *text, struct fm_error *err)
{
    struct fm_replace r;
    make_folders(path);
    FM_TRY(fm_replace_open(&r, "save figures", path, err));
    enum fm_status st = fm_replace_write(&r, text, strlen(text), err);
    if (!st) return fm_replace_commit(&r, err);
    fm_replace_abort(&r);
    return st;
}

enum fm_status fm_machine_save(const struct fm_machine *m, const char *path, struct fm_error *err)
{
    json_t *j = NULL;
    char key[KEY], *dump = NULL;
    make_key(m, key);
    if (fm_json_read(path, &j, NULL) || !json_is_object(j)) {
        json_decref(j);
        j = json_object();
    }
    if (!json_object_set_new(j, key, to_json(m))) dump = json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    json_decref(j);
    enum fm_status st = dump ? write_whole(path, dump, err) : fm_fail_memory(err, "the machine's description", 4096);
    free(dump); /* jansson's */
    return st;
}
