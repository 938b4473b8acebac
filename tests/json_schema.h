/* A validator of JSON schemas that shares nothing with src/text: doubles, PCRE2, sscanf.  Only the keywords that
 * tests/test_schema.c makes; anything else fails the test. */
#ifndef TESTS_JSON_SCHEMA_H
#define TESTS_JSON_SCHEMA_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <math.h>
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

static bool schema_holds(const json_t *root, const json_t *s, const json_t *v);

static bool schema_matches(const char *pattern, const char *s)
{
    int code;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_ALT_BSUX, &code, &at, NULL);
    if (!re) fail_msg("pattern %s", pattern);
    pcre2_match_data *m = pcre2_match_data_create_from_pattern(re, NULL);
    const int n = pcre2_match(re, (PCRE2_SPTR)s, strlen(s), 0, 0, m, NULL);
    pcre2_match_data_free(m);
    pcre2_code_free(re);
    return n >= 0;
}

static bool schema_is_date(const char *s, size_t n)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int y, m, d, used = 0;
    if (n != 10 || sscanf(s, "%4d-%2d-%2d%n", &y, &m, &d, &used) != 3 || used != 10) return false;
    const bool leap = (y % 4 == 0 && y % 100) || y % 400 == 0;
    return m >= 1 && m <= 12 && d >= 1 && d <= days[m - 1] + (m == 2 && leap);
}

static bool schema_has_format(const char *format, const char *s)
{
    int a, b, c, d, used = 0;
    const size_t n = strlen(s);
    if (!strcmp(format, "date")) return schema_is_date(s, n);
    if (!strcmp(format, "date-time"))
        return n > 18 && s[10] == 'T' && schema_is_date(s, 10) && sscanf(s + 11, "%2d:%2d:%2d", &a, &b, &c) == 3 &&
               a < 24 && b < 60 && c < 60 && (s[n - 1] == 'Z' || s[n - 6] == '+' || s[n - 6] == '-');
    if (!strcmp(format, "uuid")) return n == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-';
    if (!strcmp(format, "ipv4"))
        return sscanf(s, "%d.%d.%d.%d%n", &a, &b, &c, &d, &used) == 4 && (size_t)used == n && a < 256 && b < 256 &&
               c < 256 && d < 256;
    if (!strcmp(format, "email")) return strchr(s, '@') && strchr(s, '@') == strrchr(s, '@') && s[n - 1] != '.';
    return true;
}

static bool schema_type(const char *t, const json_t *v)
{
    if (!strcmp(t, "integer"))
        return json_is_integer(v) || (json_is_real(v) && json_real_value(v) == floor(json_real_value(v)));
    return (!strcmp(t, "null") && json_is_null(v)) || (!strcmp(t, "boolean") && json_is_boolean(v)) ||
           (!strcmp(t, "number") && json_is_number(v)) || (!strcmp(t, "string") && json_is_string(v)) ||
           (!strcmp(t, "array") && json_is_array(v)) || (!strcmp(t, "object") && json_is_object(v));
}

static bool schema_same(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b)) return json_number_value(a) == json_number_value(b);
    return json_equal(a, b);
}

static size_t schema_length(const char *s)
{
    size_t n = 0;
    for (; *s; s++) n += (*s & 0xC0) != 0x80;
    return n;
}

static bool schema_scalar(const json_t *s, const json_t *v)
{
    const json_t *k;
    const double x = json_number_value(v);
    if (json_is_number(v) && (((k = json_object_get(s, "minimum")) && x < json_number_value(k)) ||
                              ((k = json_object_get(s, "maximum")) && x > json_number_value(k)) ||
                              ((k = json_object_get(s, "exclusiveMinimum")) && x <= json_number_value(k)) ||
                              ((k = json_object_get(s, "exclusiveMaximum")) && x >= json_number_value(k))))
        return false;
    if (json_is_number(v) && (k = json_object_get(s, "multipleOf")) && fmod(x, json_number_value(k)) != 0) return false;
    if (!json_is_string(v)) return true;
    const char *text = json_string_value(v);
    return !(((k = json_object_get(s, "minLength")) && schema_length(text) < (size_t)json_integer_value(k)) ||
             ((k = json_object_get(s, "maxLength")) && schema_length(text) > (size_t)json_integer_value(k)) ||
             ((k = json_object_get(s, "pattern")) && !schema_matches(json_string_value(k), text)) ||
             ((k = json_object_get(s, "format")) && !schema_has_format(json_string_value(k), text)));
}

static bool schema_array(const json_t *root, const json_t *s, const json_t *v)
{
    const json_t *k, *front = json_object_get(s, "prefixItems"), *items = json_object_get(s, "items");
    const size_t n = json_array_size(v);
    if ((k = json_object_get(s, "minItems")) && n < (size_t)json_integer_value(k)) return false;
    if ((k = json_object_get(s, "maxItems")) && n > (size_t)json_integer_value(k)) return false;
    for (size_t i = 0; i < n && json_is_true(json_object_get(s, "uniqueItems")); i++)
        for (size_t j = 0; j < i; j++)
            if (schema_same(json_array_get(v, i), json_array_get(v, j))) return false;
    if ((k = json_object_get(s, "contains"))) {
        size_t hits = 0;
        for (size_t i = 0; i < n; i++) hits += schema_holds(root, k, json_array_get(v, i));
        if (!hits) return false;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *one = i < json_array_size(front) ? json_array_get(front, i) : items;
        if (one && !schema_holds(root, one, json_array_get(v, i))) return false;
    }
    return true;
}

static bool schema_object(const json_t *root, const json_t *s, json_t *v)
{
    const json_t *k, *all = json_object_get(s, "properties"), *others = json_object_get(s, "additionalProperties");
    const char *name;
    json_t *one;
    size_t i;
    if ((k = json_object_get(s, "minProperties")) && json_object_size(v) < (size_t)json_integer_value(k)) return false;
    if ((k = json_object_get(s, "maxProperties")) && json_object_size(v) > (size_t)json_integer_value(k)) return false;
    json_array_foreach(json_object_get(s, "required"), i,
                       k) if (!json_object_get(v, json_string_value(k))) return false;
    json_object_foreach(v, name, one)
    {
        const char *pattern;
        json_t *of, *spelled = json_string(name);
        bool known = (k = json_object_get(all, name)) != NULL, good = !k || schema_holds(root, k, one);
        json_object_foreach(json_object_get(s, "patternProperties"), pattern, of)
        {
            if (!schema_matches(pattern, name)) continue;
            known = true;
            good &= schema_holds(root, of, one);
        }
        if (!known && others) good &= schema_holds(root, others, one);
        if ((k = json_object_get(s, "propertyNames"))) good &= schema_holds(root, k, spelled);
        json_decref(spelled);
        if (!good) return false;
    }
    return true;
}

static bool schema_combined(const json_t *root, const json_t *s, const json_t *v)
{
    size_t i, n = 0;
    json_t *k;
    const json_t *list = json_object_get(s, "allOf");
    json_array_foreach(list, i, k) if (!schema_holds(root, k, v)) return false;
    list = json_object_get(s, "anyOf");
    json_array_foreach(list, i, k) n += schema_holds(root, k, v);
    if (list && !n) return false;
    list = json_object_get(s, "oneOf");
    n = 0;
    json_array_foreach(list, i, k) n += schema_holds(root, k, v);
    return !list || n == 1;
}

static bool schema_holds(const json_t *root, const json_t *s, const json_t *v)
{
    const json_t *k;
    json_t *one;
    size_t i;
    bool hit = false;
    if (json_is_boolean(s)) return json_is_true(s);
    if ((k = json_object_get(s, "$ref"))) {
        const char *name = json_string_value(k);
        const json_t *to = !strcmp(name, "#") ? root : json_object_get(json_object_get(root, "$defs"), name + 8);
        if (!to) fail_msg("reference %s", name);
        if (!schema_holds(root, to, v)) return false;
    }
    if ((k = json_object_get(s, "type")) && json_is_string(k) && !schema_type(json_string_value(k), v)) return false;
    if (json_is_array(k)) {
        json_array_foreach(k, i, one) hit |= schema_type(json_string_value(one), v);
        if (!hit) return false;
    }
    hit = false;
    k = json_object_get(s, "enum");
    json_array_foreach(k, i, one) hit |= schema_same(one, v);
    if (k && !hit) return false;
    if ((k = json_object_get(s, "const")) && !schema_same(k, v)) return false;
    return schema_scalar(s, v) && (!json_is_array(v) || schema_array(root, s, v)) &&
           (!json_is_object(v) || schema_object(root, s, (json_t *)v)) && schema_combined(root, s, v);
}

#endif
