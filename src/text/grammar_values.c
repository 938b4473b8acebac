/* The values of one type that a view of schemas allows.  See grammar_schema.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/grammar_schema.h"

/* ---- numbers ---- */

static bool narrow(struct fm_schema *c, const struct fm_py *schema, const char *key, bool open, bool upper,
                   struct fm_number_bounds *out)
{
    const struct fm_py *v = fm_py_get(schema, key);
    struct fm_decimal d, *bound = upper ? &out->max : &out->min;
    const struct fm_decimal **to = upper ? &out->b.max : &out->b.min;
    bool *is_open = upper ? &out->b.below : &out->b.above;
    if (!v) return true;
    if (v->kind != FM_PY_NUMBER) return fm_schema_refuse(c, v, NULL, "not a number");
    if (!fm_decimal_read(&d, v->text)) return fm_schema_refuse(c, v, NULL, "a number of too many digits");
    const int order = *to ? fm_decimal_compare(&d, bound) * (upper ? -1 : 1) : 1;
    if (order < 0 || (order == 0 && !open)) return true;
    *bound = d;
    *to = bound;
    *is_open = open;
    return true;
}

bool fm_schema_bounds(struct fm_schema *c, const struct fm_view *v, struct fm_number_bounds *out)
{
    *out = (struct fm_number_bounds){.b = {.min = NULL}};
    for (int i = 0; i < v->n; i++) {
        const struct fm_py *s = v->part[i].schema;
        if (!narrow(c, s, "minimum", false, false, out) || !narrow(c, s, "exclusiveMinimum", true, false, out) ||
            !narrow(c, s, "maximum", false, true, out) || !narrow(c, s, "exclusiveMaximum", true, true, out))
            return false;
    }
    return true;
}

/* What all multipleOf of the view ask for together; 0: there is none.  *of: the last of them. */
static long long find_step(struct fm_schema *c, const struct fm_view *v, const struct fm_py **of)
{
    enum { STEP = 1000000 };
    long long all = 0;
    for (int i = 0; i < v->n; i++) {
        const struct fm_py *s = fm_py_get(v->part[i].schema, "multipleOf");
        struct fm_decimal d;
        long long step = 0, a, b;
        if (!s) continue;
        const bool read = s->kind == FM_PY_NUMBER && fm_decimal_read(&d, s->text) && !d.negative && !d.n_part;
        for (int k = 0; read && k < d.n_whole && step <= STEP; k++) step = 10 * step + d.whole[k] - '0';
        if (step < 1 || step > STEP) {
            (void)fm_schema_refuse(c, s, NULL, "only whole steps from 1 to a million are supported");
            return 0;
        }
        for (a = all ? all : step, b = step; b;) { /* Euclid */
            const long long rest = a % b;
            a = b;
            b = rest;
        }
        all = all ? all / a * step : step;
        *of = s;
        if (all <= STEP) continue;
        (void)fm_schema_refuse(c, s, NULL, "only whole steps from 1 to a million are supported");
        return 0;
    }
    return all;
}

/* The outermost whole number within a bound; false: it has too many digits. */
static bool whole_bound(const struct fm_decimal *d, bool upper, bool open, long long *out)
{
    enum { DIGITS = 15 };
    long long x = 0;
    if (d->n_whole > DIGITS) return false;
    for (int i = 0; i < d->n_whole; i++) x = 10 * x + d->whole[i] - '0';
    if (d->negative) x = -x;
    if (d->n_part && d->negative == upper) x += upper ? -1 : 1; /* away from 0 */
    if (!d->n_part && open) x += upper ? -1 : 1;
    *out = x;
    return true;
}

static long long floor_div(long long x, long long step) { return x / step - (x % step < 0); }

static fm_gnode multiples(struct fm_schema *c, const struct fm_bounds *bounds, long long step, const struct fm_py *of)
{
    enum { LISTED = 4096 };
    long long lo = 0, hi = 0;
    struct fm_glist kids = {0};
    const bool known = (!bounds->min || whole_bound(bounds->min, false, bounds->above, &lo)) &&
                       (!bounds->max || whole_bound(bounds->max, true, bounds->below, &hi));
    const bool listed = bounds->min && bounds->max, near = lo > -step && lo <= step;
    const long long first = -floor_div(-lo, step), last = floor_div(hi, step);
    if (!known || (listed ? last - first >= LISTED : step > FM_STEP_MAX || bounds->max || !near)) {
        (void)fm_schema_refuse(c, of, NULL,
                               "beside these bounds it has no small grammar: minimum 0, or both and fewer "
                               "than 4096 multiples, or none; without both at most 100");
        return FM_GNODE_NONE;
    }
    if (!listed)
        return fm_g_multiples(c->b, (unsigned)step,
                              !bounds->min ? FM_SIGN_ANY
                              : lo > 0     ? FM_SIGN_POSITIVE
                                           : FM_SIGN_NOT_NEGATIVE);
    for (long long i = first; i <= last; i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "%lld", i * step);
        fm_glist_add(c->b, &kids, fm_g_str(c->b, text));
    }
    return fm_glist_alt(c->b, &kids);
}

fm_gnode fm_schema_number(struct fm_schema *c, const struct fm_view *v, bool whole)
{
    struct fm_number_bounds bounds;
    const struct fm_py *of = NULL;
    const long long step = find_step(c, v, &of);
    whole |= step != 0;
    if (c->bad || !fm_schema_bounds(c, v, &bounds)) return FM_GNODE_NONE;
    if (step > 1) return multiples(c, &bounds.b, step, of);
    if (!bounds.b.min && !bounds.b.max) return whole ? fm_gjson_integer(c->g) : fm_gjson_number(c->g);
    return fm_g_number(c->b, &bounds.b, whole);
}

/* ---- strings ---- */

#define DATE                                                                                                                  \
    "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|" \
    "2[0-8]))|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
#define TIME  "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
#define LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define HOST  LABEL "(?:\\." LABEL "){0,3}"
#define BYTE  "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"

/* Formats that are enforced, RFC 3339, 4122, 5321, 1123, 2673, 4291, 3986 and ISO 8601 in the forms that everybody takes; the
 * others are notes to the reader, as the standard has it. */
static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date", "^" DATE "$"},
    {"time", "^" TIME "$"},
    {"date-time", "^" DATE "T" TIME "$"},
    {"duration",
     "^P(?:[0-9]{1,4}W|(?:[0-9]{1,4}D|[0-9]{1,4}M(?:[0-9]{1,4}D)?|[0-9]{1,4}Y(?:[0-9]{1,4}M(?:[0-9]{1,4}D)?)?)"
     "(?:T[0-9]{1,4}H(?:[0-9]{1,4}M(?:[0-9]{1,4}S)?)?)?|T(?:[0-9]{1,4}H(?:[0-9]{1,4}M(?:[0-9]{1,4}S)?)?|"
     "[0-9]{1,4}M(?:[0-9]{1,4}S)?|[0-9]{1,4}S))$"},
    {"uuid", "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"},
    {"email", "^[A-Za-z0-9_+-]{1,20}(?:\\.[A-Za-z0-9_+-]{1,20}){0,2}@" LABEL "(?:\\." LABEL "){1,2}$"},
    {"hostname", "^" HOST "$"},
    {"ipv4", "^" BYTE "(?:\\." BYTE "){3}$"},
    {"ipv6", "^(?:[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4}){7}|::(?:[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4}){0,5})?|"
             "[0-9a-fA-F]{1,4}::(?:[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4}){0,4})?)$"},
    {"uri", "^[a-z][a-z0-9+.-]{0,15}://" HOST "(?::[0-9]{1,4})?(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*"
            "(?:\\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?$"},
};

static struct fm_span format_pattern(const struct fm_py *format)
{
    for (size_t i = 0; format && i < sizeof formats / sizeof *formats; i++)
        if (fm_py_is(format, formats[i].name)) return (struct fm_span){formats[i].pattern, strlen(formats[i].pattern)};
    return (struct fm_span){NULL, 0};
}

/* The one pattern that the view asks for, *of: where it stands; two different ones have no grammar here. */
static bool find_pattern(struct fm_schema *c, const struct fm_view *v, struct fm_span *out, const struct fm_py **of)
{
    out->s = NULL;
    for (int i = 0; i < v->n; i++) {
        const struct fm_py *pattern = fm_py_get(v->part[i].schema, "pattern"),
                           *format = fm_py_get(v->part[i].schema, "format");
        if (pattern && pattern->kind != FM_PY_STRING) return fm_schema_refuse(c, pattern, NULL, "not a string");
        const struct fm_span both[] = {pattern ? pattern->text : (struct fm_span){NULL, 0}, format_pattern(format)};
        for (int k = 0; k < 2; k++) {
            if (!both[k].s) continue;
            if (out->s && (out->n != both[k].n || memcmp(out->s, both[k].s, out->n) != 0))
                return fm_schema_refuse(c, k ? format : pattern, NULL, "two patterns or formats for one string");
            *out = both[k];
            *of = k ? format : pattern;
        }
    }
    return true;
}

fm_gnode fm_schema_string(struct fm_schema *c, const struct fm_view *v)
{
    struct fm_span pattern;
    const struct fm_py *of = NULL;
    struct fm_regex_span span;
    const char *why = NULL;
    uint32_t least, most;
    if (!fm_schema_counts(c, v, "minLength", "maxLength", &least, &most) || !find_pattern(c, v, &pattern, &of))
        return FM_GNODE_NONE;
    if (least > most) return fm_g_never(c->b);
    if (!pattern.s) return fm_gjson_string(c->g, fm_g_repeat(c->b, fm_gjson_character(c->g), least, most));
    const fm_gnode inside = fm_g_regex(c->g, pattern, &span, &why);
    if (why) (void)fm_schema_refuse(c, of, NULL, why);
    if (!why && (span.min < least || (most != FM_NO_MAX && span.max > most)))
        (void)fm_schema_refuse(c, of, NULL, "its texts may be shorter or longer than minLength and maxLength allow");
    return c->bad ? FM_GNODE_NONE : fm_gjson_string(c->g, inside);
}

/* ---- arrays ---- */

static const struct fm_py *list_in(struct fm_schema *c, const struct fm_py *schema, const char *key)
{
    const struct fm_py *v = fm_py_get(schema, key);
    if (v && v->kind != FM_PY_ARRAY) (void)fm_schema_refuse(c, v, NULL, "not a list");
    return v && v->kind == FM_PY_ARRAY ? v : NULL;
}

/* prefixItems and items, or, as in draft 7, a list of items and additionalItems. */
static void shape_of(struct fm_schema *c, const struct fm_py *schema, const struct fm_py **front,
                     const struct fm_py **rest)
{
    const struct fm_py *items = fm_py_get(schema, "items");
    *front = list_in(c, schema, "prefixItems");
    *rest = items;
    if (!items || items->kind != FM_PY_ARRAY) return;
    if (*front) (void)fm_schema_refuse(c, items, NULL, "a list beside prefixItems");
    *front = items;
    *rest = fm_py_get(schema, "additionalItems");
}

/* What item i has to satisfy; i −1: those behind all prefixes. */
static struct fm_view item_view(struct fm_schema *c, const struct fm_view *v, long i)
{
    struct fm_view out = {.n = 0};
    for (int k = 0; k < v->n; k++) {
        const struct fm_py *front, *rest;
        shape_of(c, v->part[k].schema, &front, &rest);
        const struct fm_py *p = front ? front->first : NULL;
        for (long at = 0; i >= 0 && p && at < i; at++) p = p->next;
        if (i >= 0 && p)
            fm_view_add(c, &out, p, 0);
        else if (rest)
            fm_view_add(c, &out, rest, 0);
    }
    return out;
}

/* A rule of its own, so that long lists do not nest. */
static fm_gnode as_rule(struct fm_gbuild *b, fm_gnode body)
{
    const int rule = body == FM_GNODE_NONE ? -1 : fm_grule_new(b, NULL, 0, 0);
    if (rule >= 0) fm_grule_define(b, rule, body);
    return fm_g_rule(b, rule);
}

static bool is_unique(const struct fm_view *v)
{
    for (int i = 0; i < v->n; i++) {
        const struct fm_py *unique = fm_py_get(v->part[i].schema, "uniqueItems");
        if (unique && unique->kind == FM_PY_TRUE) return true;
    }
    return false;
}

/* Each of at most 8 listed values at most once, in any order: a rule for each set of those that stand already. */
static fm_gnode distinct_items(struct fm_schema *c, const struct fm_view *v, struct fm_view *item, uint32_t least,
                               uint32_t most)
{
    enum { LISTED = 8 };
    const struct fm_py *values[LISTED];
    struct fm_gbuild *b = c->b;
    int rules[1 << LISTED], words[LISTED];
    fm_schema_flatten(c, item);
    const int n = item->never || c->bad ? 0 : fm_schema_distinct(c, item, values, LISTED);
    if (n < 0)
        (void)fm_schema_refuse(c, v->part[0].schema, "uniqueItems",
                               "it is supported for at most one item, or 8 listed ones");
    if (c->bad) return FM_GNODE_NONE;
    for (int i = 0; i < n; i++) {
        if ((words[i] = fm_grule_new(b, NULL, 0, 0)) < 0) return FM_GNODE_NONE;
        fm_grule_define(b, words[i], fm_gjson_literal(c->g, values[i]));
    }
    for (int set = (1 << n) - 1; set >= 0; set--) {
        const uint32_t stand = (uint32_t)__builtin_popcount((unsigned)set);
        fm_gnode kids[LISTED + 1];
        int k = 0;
        for (int i = 0; i < n && stand < most; i++) {
            if (set >> i & 1) continue;
            const fm_gnode one = fm_g_rule(b, words[i]);
            kids[k++] = FM_G_SEQ(b, set ? fm_gjson_comma(c->g, one) : one, fm_g_rule(b, rules[set | 1 << i]));
        }
        if (stand >= least) kids[k++] = fm_g_str(b, "");
        if ((rules[set] = fm_grule_new(b, NULL, 0, 0)) < 0) return FM_GNODE_NONE;
        fm_grule_define(b, rules[set], fm_g_alt(b, kids, k));
    }
    return fm_gjson_array_of(c->g, fm_g_rule(b, rules[0]));
}

/* n … m items with a comma in front of each but the first of all. */
static fm_gnode some_items(struct fm_schema *c, const struct fm_view *item, bool first, uint32_t n, uint32_t m)
{
    if (!m) return fm_g_str(c->b, "");
    const fm_gnode next = fm_gjson_comma(c->g, fm_schema_node(c, item));
    if (!first) return fm_g_repeat(c->b, next, n, m);
    return FM_G_SEQ(c->b, fm_schema_node(c, item), fm_g_repeat(c->b, next, n ? n - 1 : 0, m == FM_NO_MAX ? m : m - 1));
}

/* Items of which one is as `contains` has it: any of the first few, or, of a list without end, any. */
static fm_gnode items_with(struct fm_schema *c, const struct fm_view *item, const struct fm_view *hit, uint32_t least,
                           uint32_t most)
{
    enum { PLACES = 8 };
    struct fm_gbuild *b = c->b;
    struct fm_glist kids = {0};
    const bool endless = most == FM_NO_MAX;
    for (uint32_t i = 0; i < (endless         ? 2
                              : most < PLACES ? most
                                              : PLACES);
         i++) { /* so many in front; endless: 1 is any */
        const uint32_t min = least > i + 1 ? least - i - 1 : 0, max = endless ? most : most - i - 1;
        const fm_gnode one = fm_schema_node(c, hit);
        fm_glist_add(b, &kids,
                     i ? FM_G_SEQ(b, some_items(c, item, true, i, endless ? FM_NO_MAX : i), fm_gjson_comma(c->g, one),
                                  some_items(c, item, false, min, max))
                       : FM_G_SEQ(b, one, some_items(c, item, false, min, max)));
    }
    return fm_gjson_array_of(c->g, fm_glist_alt(b, &kids));
}

/* Adds what `contains` says to the view of an item that it is about; false: nobody says it. */
static bool find_contains(struct fm_schema *c, const struct fm_view *v, struct fm_view *hit, bool prefixed)
{
    bool says = false;
    for (int i = 0; i < v->n; i++) {
        const struct fm_py *s = v->part[i].schema, *k = fm_py_get(s, "contains"), *n = fm_py_get(s, "minContains");
        if (!k) continue;
        says = true;
        if (n && !(n->kind == FM_PY_NUMBER && fm_span_is(n->text, "1")))
            (void)fm_schema_refuse(c, n, NULL, "only 1 is supported");
        if (prefixed || is_unique(v) || c->probing)
            (void)fm_schema_refuse(c, k, NULL, "it is not supported beside prefixItems, uniqueItems or within oneOf");
        fm_view_add(c, hit, k, 0);
    }
    return says;
}

fm_gnode fm_schema_array(struct fm_schema *c, const struct fm_view *v)
{
    enum { PREFIX_MAX = 1024 };
    struct fm_gbuild *b = c->b;
    uint32_t least, most, n = 0;
    bool says_rest = false;
    if (!fm_schema_counts(c, v, "minItems", "maxItems", &least, &most)) return FM_GNODE_NONE;
    for (int k = 0; k < v->n; k++) {
        const struct fm_py *front, *rest;
        shape_of(c, v->part[k].schema, &front, &rest);
        if (front && front->n > PREFIX_MAX) (void)fm_schema_refuse(c, front, NULL, "too many items");
        if (front && front->n > n) n = (uint32_t)front->n;
        says_rest |= rest != NULL;
    }
    struct fm_view behind = item_view(c, v, -1), hit = behind;
    /* where there are prefixes and nothing is said of what follows, nothing does */
    if (behind.never || (n && !says_rest && least <= n)) most = most < n ? most : n;
    if (is_unique(v) && most > 1 && n)
        (void)fm_schema_refuse(c, v->part[0].schema, "uniqueItems", "it is not supported beside prefixItems");
    const bool contains = find_contains(c, v, &hit, n > 0);
    if (c->bad) return FM_GNODE_NONE;
    if (least > most) return fm_g_never(b);
    if (contains) return most ? items_with(c, &behind, &hit, least, most) : fm_g_never(b);
    if (is_unique(v) && most > 1) return distinct_items(c, v, &behind, least, most);
    if (n > most) n = most;
    if (!most) return fm_gjson_array_of(c->g, fm_g_str(b, ""));
    const uint32_t least_behind = least > n ? least - n : 0, most_behind = most == FM_NO_MAX ? most : most - n;
    if (!n) {
        const fm_gnode first = fm_schema_node(c, &behind), next = fm_gjson_comma(c->g, fm_schema_node(c, &behind));
        const fm_gnode all = FM_G_SEQ(b, first,
                                      fm_g_repeat(b, next, least_behind ? least_behind - 1 : 0,
                                                  most_behind == FM_NO_MAX ? most_behind : most_behind - 1));
        return fm_gjson_array_of(c->g, least ? all : fm_g_maybe(b, all));
    }
    fm_gnode rest = most_behind
                        ? fm_g_repeat(b, fm_gjson_comma(c->g, fm_schema_node(c, &behind)), least_behind, most_behind)
                        : fm_g_str(b, "");
    for (uint32_t i = n; i-- > 0 && !c->bad;) {
        const struct fm_view one = item_view(c, v, (long)i);
        const fm_gnode item = c->bad ? FM_GNODE_NONE : fm_schema_node(c, &one),
                       all = FM_G_SEQ(b, i ? fm_gjson_comma(c->g, item) : item, rest);
        rest = as_rule(b, i < least ? all : fm_g_maybe(b, all));
    }
    return fm_gjson_array_of(c->g, rest);
}

/* ---- objects ---- */

struct property {
    struct fm_span name;
    struct fm_view view;
    bool required;
};

struct object {
    struct fm_schema *c;
    fm_gnode key; /* of members that are not named; FM_GNODE_NONE: any other name */
    const struct fm_view *v;
    struct property *p;
    int n, cap;
};

/* The one of this name; new if need be, NULL when memory is short. */
static struct property *property(struct object *o, struct fm_span name)
{
    for (int i = 0; i < o->n; i++)
        if (o->p[i].name.n == name.n && !memcmp(o->p[i].name.s, name.s, name.n)) return &o->p[i];
    o->c->work += (uint64_t)o->n;
    if (o->n == o->cap) {
        const int cap = o->cap ? 2 * o->cap : 16;
        void *room = fm_realloc(o->p, (size_t)cap * sizeof *o->p);
        if (!room) {
            o->c->b->failed = o->c->bad = true;
            return NULL;
        }
        o->p = room;
        o->cap = cap;
    }
    o->p[o->n] = (struct property){.name = name};
    return &o->p[o->n++];
}

static const struct fm_py *object_in(struct fm_schema *c, const struct fm_py *schema, const char *key)
{
    const struct fm_py *v = fm_py_get(schema, key);
    if (v && v->kind != FM_PY_OBJECT) (void)fm_schema_refuse(c, v, NULL, "not an object");
    return v && v->kind == FM_PY_OBJECT ? v : NULL;
}

static void collect(struct object *o)
{
    for (int k = 0; k < o->v->n && !o->c->bad; k++) {
        const struct fm_py *all = object_in(o->c, o->v->part[k].schema, "properties");
        for (const struct fm_py *p = all ? all->first : NULL; p; p = p->next) {
            if (!property(o, p->key)) return;
        }
    }
    for (int k = 0; k < o->v->n && !o->c->bad; k++) {
        const struct fm_py *all = list_in(o->c, o->v->part[k].schema, "required");
        for (const struct fm_py *p = all ? all->first : NULL; p; p = p->next) {
            if (p->kind != FM_PY_STRING) (void)fm_schema_refuse(o->c, p, NULL, "not a name");
            struct property *one = p->kind == FM_PY_STRING ? property(o, p->text) : NULL;
            if (!one) return;
            one->required = true;
        }
    }
}

/* What a schema says of members that its properties do not name: NULL nothing. */
static const struct fm_py *others(const struct fm_view_part *part)
{
    static const struct fm_py no = {.kind = FM_PY_FALSE};
    const struct fm_py *v = fm_py_get(part->schema, "additionalProperties"),
                       *all = fm_py_get(part->schema, "properties");
    return v ? v : part->done & FM_VIEW_CLOSED && all && all->n ? &no : NULL;
}

static void fill_views(struct object *o)
{
    for (int i = 0; i < o->n; i++)
        for (int k = 0; k < o->v->n && !o->c->bad; k++) {
            const struct fm_py *all = fm_py_get(o->v->part[k].schema, "properties"), *p = all ? all->first : NULL;
            while (p && !(p->key.n == o->p[i].name.n && !memcmp(p->key.s, o->p[i].name.s, p->key.n))) p = p->next;
            o->c->work += all ? all->n : 1;
            if (!p) p = others(&o->v->part[k]);
            if (p) fm_view_add(o->c, &o->p[i].view, p, 0);
            if (o->c->work > 4 * FM_GRAMMAR_OPS) o->c->b->too_large = o->c->bad = true;
        }
}

/* Optional members become required until there are `least`, or are left out until at most `most` may be there. */
static void fit_counts(struct object *o, uint32_t least, uint32_t most)
{
    uint32_t required = 0, kept = 0;
    for (int i = 0; i < o->n; i++) required += o->p[i].required;
    for (int i = 0; i < o->n && required < least; i++) {
        if (o->p[i].required || o->p[i].view.never) continue;
        o->p[i].required = true;
        required++;
    }
    const uint32_t room = most > required ? most - required : 0;
    for (int i = 0; i < o->n; i++)
        if (!o->p[i].required && (o->p[i].view.never || kept++ >= room)) o->p[i].view.never = true;
}

/* Keys that are none of the names, each in one spelling only: a trie of the names, a rule per node. */

static const char short_code[] = "\"\\\b\f\n\r\t", short_letter[] = "\"\\bfnrt";

static fm_gnode key_character(struct fm_schema *c, const uint32_t *but, int n)
{
    struct fm_grange *r = fm_malloc((size_t)(n + 3) * sizeof *r), letters[8];
    int m = 3, k = 0;
    if (!r) {
        c->b->failed = true;
        return FM_GNODE_NONE;
    }
    r[0] = (struct fm_grange){0, 0x1F};
    r[1] = (struct fm_grange){'"', '"'};
    r[2] = (struct fm_grange){'\\', '\\'};
    for (int i = 0; i < n; i++) r[m++] = (struct fm_grange){but[i], but[i]};
    for (int i = 0; short_code[i]; i++) {
        bool in = false;
        for (int j = 0; j < n; j++) in |= but[j] == (unsigned char)short_code[i];
        if (!in) letters[k++] = (struct fm_grange){(unsigned char)short_letter[i], (unsigned char)short_letter[i]};
    }
    const fm_gnode plain = fm_g_class(c->b, r, m, true);
    fm_free(r);
    return k ? FM_G_ALT(c->b, plain, FM_G_SEQ(c->b, fm_g_str(c->b, "\\"), fm_g_class(c->b, letters, k, false))) : plain;
}

/* Behind the first `at` bytes of names[n], which they share; sorted. */
static fm_gnode key_node(struct fm_schema *c, const struct fm_span *names, int n, size_t at, int depth)
{
    enum { DEEPEST = 128 };
    struct fm_glist kids = {0};
    uint32_t *but = fm_malloc((size_t)(n + 1) * sizeof *but);
    int m = 0;
    bool ends = true;
    if (!but || depth > DEEPEST) {
        c->b->failed |= !but;
        if (but) (void)fm_schema_refuse(c, c->root, NULL, "a name is too long beside additionalProperties");
        fm_free(but);
        c->bad = true;
        return FM_GNODE_NONE;
    }
    for (int i = 0; i < n && !c->bad;) {
        int used = 0, j = i;
        if (names[i].n == at) {
            ends = false;
            i++;
            continue;
        }
        const uint32_t code = (uint32_t)fm_utf8_decode(names[i].s + at, names[i].n - at, &used);
        const size_t u = (size_t)used;
        while (j < n && names[j].n >= at + u && !memcmp(names[j].s + at, names[i].s + at, u)) j++;
        const struct fm_py one = {.kind = FM_PY_STRING, .text = {names[i].s + at, u}};
        struct fm_buf spelled = {0};
        fm_py_write(&spelled, &one, 0);
        c->b->failed |= spelled.failed;
        const fm_gnode rest = key_node(c, names + i, j - i, at + u, depth + 1);
        if (!spelled.failed)
            fm_glist_add(c->b, &kids, FM_G_SEQ(c->b, fm_g_text(c->b, spelled.data + 1, spelled.len - 2), rest));
        fm_buf_release(&spelled);
        but[m++] = code;
        i = j;
    }
    fm_glist_add(c->b, &kids,
                 FM_G_SEQ(c->b, key_character(c, but, m), fm_g_repeat(c->b, key_character(c, NULL, 0), 0, FM_NO_MAX)));
    if (ends) fm_glist_add(c->b, &kids, fm_g_str(c->b, ""));
    fm_free(but);
    return as_rule(c->b, fm_glist_alt(c->b, &kids));
}

static int by_name(const void *a, const void *b)
{
    const struct fm_span *x = a, *y = b;
    const int c = memcmp(x->s, y->s, x->n < y->n ? x->n : y->n);
    return c ? c : (x->n > y->n) - (x->n < y->n);
}

static fm_gnode other_key(struct object *o)
{
    struct fm_span *names = fm_malloc((size_t)(o->n + 1) * sizeof *names);
    if (!names) {
        o->c->b->failed = true;
        return FM_GNODE_NONE;
    }
    for (int i = 0; i < o->n; i++) names[i] = o->p[i].name;
    qsort(names, (size_t)o->n, sizeof *names, by_name);
    const fm_gnode inside = key_node(o->c, names, o->n, 0, 0);
    fm_free(names);
    return fm_gjson_string(o->c->g, inside);
}

/* Members behind the declared ones; first: none stands in front.  key: the rule of their names. */
static fm_gnode other_members(struct object *o, int key, const struct fm_view *view, uint32_t least, uint32_t most,
                              bool first)
{
    struct fm_gbuild *b = o->c->b;
    if (!most) return fm_g_str(b, "");
    const fm_gnode one = fm_gjson_key(o->c->g, fm_g_rule(b, key), fm_schema_node(o->c, view)),
                   next = fm_gjson_comma(o->c->g, fm_gjson_key(o->c->g, fm_g_rule(b, key), fm_schema_node(o->c, view)));
    if (!first) return fm_g_repeat(b, next, least, most);
    const fm_gnode all =
        FM_G_SEQ(b, one, fm_g_repeat(b, next, least ? least - 1 : 0, most == FM_NO_MAX ? most : most - 1));
    return least ? all : fm_g_maybe(b, all);
}

static fm_gnode member_node(struct object *o, const struct property *p)
{
    struct fm_buf key = {0};
    fm_py_write_string(&key, p->name);
    o->c->b->failed |= key.failed;
    const fm_gnode name = key.failed ? FM_GNODE_NONE : fm_g_text(o->c->b, key.data, key.len);
    fm_buf_release(&key);
    return fm_gjson_key(o->c->g, name, fm_schema_node(o->c, &p->view));
}

/* From the back: rest = what may follow when something stands in front, first = when nothing does.  bare: without commas. */
static fm_gnode members(struct object *o, fm_gnode (*member)(struct object *o, const struct property *p), bool bare,
                        fm_gnode rest, fm_gnode first)
{
    struct fm_gbuild *b = o->c->b;
    for (int i = o->n - 1; i >= 0 && !o->c->bad; i--) {
        const struct property *p = &o->p[i];
        if (p->view.never && !p->required) continue;
        const fm_gnode begun = FM_G_SEQ(b, member(o, p), rest),
                       more = bare ? member(o, p) : fm_gjson_comma(o->c->g, member(o, p));
        first = as_rule(b, p->required ? begun : FM_G_ALT(b, begun, first));
        rest = as_rule(b, FM_G_SEQ(b, p->required ? more : fm_g_maybe(b, more), rest));
    }
    return o->c->bad ? FM_GNODE_NONE : first;
}

static fm_gnode parameter_node(struct object *o, const struct property *p)
{
    return fm_dsml_parameter(o->c, p->name, &p->view);
}

static fm_gnode put_together(struct object *o, const struct fm_view *extra, uint32_t least, uint32_t most, bool dsml)
{
    struct fm_schema *c = o->c;
    if (dsml) {
        const fm_gnode none = fm_g_str(c->b, ""),
                       any = most && !o->n ? fm_g_repeat(c->b, fm_dsml_any(c), least, most) : none;
        return members(o, parameter_node, true, none, any);
    }
    const int key = most ? fm_grule_new(c->b, NULL, 0, 0) : -1;
    if (key >= 0) fm_grule_define(c->b, key, o->key == FM_GNODE_NONE ? other_key(o) : o->key);
    const fm_gnode rest = other_members(o, key, extra, least, most, false),
                   first = other_members(o, key, extra, least, most, true);
    return fm_gjson_object_of(c->g, members(o, member_node, false, rest, first));
}

/* The one pattern whose members a schema describes; NULL: none. */
static const struct fm_py *pattern_of(const struct fm_py *schema)
{
    const struct fm_py *all = fm_py_get(schema, "patternProperties");
    return all && all->kind == FM_PY_OBJECT && all->n ? all->first : NULL;
}

/* Names as propertyNames or one pattern of patternProperties have them: only such are made. */
static void find_key(struct object *o, bool dsml)
{
    static const struct fm_py type = {.kind = FM_PY_STRING, .key = {"type", 4}, .text = {"string", 6}},
                              string = {.kind = FM_PY_OBJECT, .first = &type, .n = 1};
    struct fm_schema *c = o->c;
    const struct fm_py *pattern = NULL;
    struct fm_view names = {.n = 0};
    bool says = false;
    for (int k = 0; k < o->v->n && !c->bad; k++) {
        const struct fm_py *s = o->v->part[k].schema, *all = object_in(c, s, "patternProperties"),
                           *of = fm_py_get(s, "propertyNames"), *one = pattern_of(s);
        if (!of && !one) continue;
        if ((all && all->n > 1) || (one && (pattern || says)) || (of && pattern))
            (void)fm_schema_refuse(c, one ? one : of, NULL, "two patterns for names");
        if (o->n || dsml)
            (void)fm_schema_refuse(c, one ? one : of, NULL, "it is not supported beside named properties");
        if (one && c->probing) (void)fm_schema_refuse(c, one, NULL, "it is not supported within oneOf");
        if (of) fm_view_add(c, &names, of, 0);
        if (one) pattern = one;
        says |= of != NULL;
    }
    if (c->bad || (!says && !pattern)) return;
    if (says) {
        fm_view_add(c, &names, &string, 0);
        o->key = c->bad ? FM_GNODE_NONE : fm_schema_node(c, &names);
        return;
    }
    struct fm_regex_span span;
    const char *why = NULL;
    const fm_gnode inside = fm_g_regex(c->g, pattern->key, &span, &why);
    if (why) (void)fm_schema_refuse(c, pattern, NULL, why);
    o->key = c->bad ? FM_GNODE_NONE : fm_gjson_string(c->g, inside);
}

static fm_gnode object(struct fm_schema *c, const struct fm_view *v, bool dsml)
{
    struct object o = {.c = c, .v = v, .key = FM_GNODE_NONE};
    struct fm_view extra = {.n = 0};
    uint32_t least, most;
    bool says = false;
    fm_gnode all = FM_GNODE_NONE;
    collect(&o);
    if (!c->bad) find_key(&o, dsml);
    for (int k = 0; k < v->n; k++) {
        const struct fm_py *of_pattern = pattern_of(v->part[k].schema),
                           *x = of_pattern ? of_pattern : others(&v->part[k]);
        if (!x) continue;
        says = true;
        fm_view_add(c, &extra, x, 0);
    }
    if (!c->bad) fill_views(&o);
    if (!c->bad && fm_schema_counts(c, v, "minProperties", "maxProperties", &least, &most)) {
        uint32_t known = 0, required = 0;
        fit_counts(&o, least, most);
        for (int i = 0; i < o.n; i++) known += o.p[i].required || !o.p[i].view.never;
        for (int i = 0; i < o.n; i++) required += o.p[i].required;
        /* where properties are named and nothing is said of others, there are none */
        const bool open = !extra.never && (says || !o.n);
        const uint32_t least_more = least > known ? least - known : 0, most_more = !open               ? 0
                                                                                   : most == FM_NO_MAX ? most
                                                                                   : most > known      ? most - known
                                                                                                       : 0;
        if (least_more > 1 && open)
            (void)fm_schema_refuse(c, v->part[0].schema, "minProperties", "free names cannot be kept apart");
        if (c->bad)
            ;
        else if (required > most || least_more > most_more)
            all = fm_g_never(c->b);
        else
            all = put_together(&o, &extra, least_more, most_more, dsml);
    }
    fm_free(o.p);
    return all;
}

fm_gnode fm_schema_object(struct fm_schema *c, const struct fm_view *v) { return object(c, v, false); }

fm_gnode fm_schema_parameters(struct fm_schema *c, const struct fm_view *v) { return object(c, v, true); }
