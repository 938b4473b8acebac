/* See json.h. */
#include "base/json.h"

#include "base/map.h"

enum fm_status fm_json_parse(const char *text, size_t n, const char *where, json_t **out, struct fm_error *err)
{
    json_error_t e;
    json_t *j = json_loadb(text ? text : "", n, JSON_REJECT_DUPLICATES, &e);
    if (!j && (!e.text[0] || json_error_code(&e) == json_error_out_of_memory)) /* no text: no memory to make one */
        return fm_fail_memory(err, where, n);
    if (!j)
        return fm_fail(err, FM_ERR_INPUT, "parse JSON: %s, line %d, byte %d: %s", where, e.line, e.position, e.text);
    *out = j;
    return FM_OK;
}

enum fm_status fm_json_read(const char *path, json_t **out, struct fm_error *err)
{
    struct fm_map m;
    FM_TRY(fm_map_open(&m, path, err));
    enum fm_status st = fm_json_parse((const char *)m.data, m.size, path, out, err);
    fm_map_close(&m);
    return st;
}

int64_t fm_json_int(const json_t *obj, const char *key, int64_t dflt)
{
    const json_t *v = json_object_get(obj, key);
    if (json_is_integer(v)) return json_integer_value(v);
    double x = json_is_real(v) ? json_real_value(v) : 0.5; /* 1e4 written as a real is still a whole number */
    return x > -9e15 && x < 9e15 && x == (double)(int64_t)x ? (int64_t)x : dflt;
}

double fm_json_num(const json_t *obj, const char *key, double dflt)
{
    const json_t *v = json_object_get(obj, key);
    return json_is_number(v) ? json_number_value(v) : dflt;
}

bool fm_json_bool(const json_t *obj, const char *key, bool dflt)
{
    const json_t *v = json_object_get(obj, key);
    return json_is_boolean(v) ? json_is_true(v) : dflt;
}

const char *fm_json_str(const json_t *obj, const char *key, const char *dflt)
{
    const json_t *v = json_object_get(obj, key);
    return json_is_string(v) ? json_string_value(v) : dflt;
}
