/* JSON schemas as grammars.
 *
 *   view = schemas that one value has to satisfy together: a schema, what its $ref and allOf name, the chosen branch of each
 *          anyOf and oneOf.  Each view becomes a rule once, which is how recursive schemas end.
 *
 * Keywords are then merged over the view: types intersected, bounds narrowed, a property's schemas put into a view of its
 * own.  What cannot be merged is refused with its JSON pointer.  oneOf is an anyOf whose branches, taken two at a time, leave
 * no text: that is seen from the same rules. */
#include "text/grammar_schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { VIEWS_MAX = 8192, WORK_MAX = 20 << 20 };

/* ---- keywords ---- */

enum use { REFUSED, OF_VALUE }; /* OF_VALUE: an assertion about values of these types */
static const struct keyword {
    const char *name;
    enum use use;
    uint8_t types;
} keywords[] = {
    {"properties", OF_VALUE, FM_JT_OBJECT},
    {"required", OF_VALUE, FM_JT_OBJECT},
    {"additionalProperties", OF_VALUE, FM_JT_OBJECT},
    {"patternProperties", OF_VALUE, FM_JT_OBJECT},
    {"propertyNames", OF_VALUE, FM_JT_OBJECT},
    {"minProperties", OF_VALUE, FM_JT_OBJECT},
    {"maxProperties", OF_VALUE, FM_JT_OBJECT},
    {"items", OF_VALUE, FM_JT_ARRAY},
    {"prefixItems", OF_VALUE, FM_JT_ARRAY},
    {"additionalItems", OF_VALUE, FM_JT_ARRAY},
    {"minItems", OF_VALUE, FM_JT_ARRAY},
    {"maxItems", OF_VALUE, FM_JT_ARRAY},
    {"uniqueItems", OF_VALUE, FM_JT_ARRAY},
    {"contains", OF_VALUE, FM_JT_ARRAY},
    {"minLength", OF_VALUE, FM_JT_STRING},
    {"maxLength", OF_VALUE, FM_JT_STRING},
    {"pattern", OF_VALUE, FM_JT_STRING},
    {"format", OF_VALUE, FM_JT_STRING},
    {"minimum", OF_VALUE, FM_JT_NUMBER},
    {"maximum", OF_VALUE, FM_JT_NUMBER},
    {"exclusiveMinimum", OF_VALUE, FM_JT_NUMBER},
    {"exclusiveMaximum", OF_VALUE, FM_JT_NUMBER},
    {"multipleOf", OF_VALUE, FM_JT_NUMBER},
    {"not", REFUSED, 0},
    {"if", REFUSED, 0},
    {"dependencies", REFUSED, 0},
    {"dependentRequired", REFUSED, 0},
    {"dependentSchemas", REFUSED, 0},
    {"unevaluatedItems", REFUSED, 0},
    {"unevaluatedProperties", REFUSED, 0},
    {"maxContains", REFUSED, 0},
    {"$dynamicRef", REFUSED, 0},
    {"$recursiveRef", REFUSED, 0},
};

static const struct keyword *keyword(struct fm_span name)
{
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (fm_span_is(name, keywords[i].name)) return &keywords[i];
    return NULL;
}

/* ---- complaints: where a schema stands ---- */

/* Writes the pointer of v below `at` behind path; false: it is not there. */
static bool find(const struct fm_py *at, const struct fm_py *v, struct fm_buf *path)
{
    size_t index = 0;
    if (at == v) return true;
    for (const struct fm_py *p = at->kind >= FM_PY_ARRAY ? at->first : NULL; p; p = p->next, index++) {
        const size_t mark = path->len;
        if (at->kind == FM_PY_ARRAY) fm_buf_printf(path, "/%zu", index);
        if (at->kind == FM_PY_OBJECT) fm_buf_char(path, '/');
        for (size_t i = 0; at->kind == FM_PY_OBJECT && i < p->key.n; i++) {
            const char c = p->key.s[i];
            if (c == '~' || c == '/')
                fm_buf_str(path, c == '~' ? "~0" : "~1");
            else
                fm_buf_char(path, c);
        }
        if (find(p, v, path)) return true;
        path->len = mark;
    }
    return false;
}

bool fm_schema_refuse(struct fm_schema *c, const struct fm_py *where, const char *key, const char *why)
{
    struct fm_buf path = {0};
    if (c->bad) return false;
    c->bad = true;
    if (c->probing) return false;
    (void)find(c->root, where, &path);
    if (key) fm_buf_printf(&path, "/%s", key);
    fm_buf_valid(&path, "", 0);
    (void)fm_fail(c->err, FM_ERR_INPUT, "%s: %.300s: %s", c->what, path.len ? path.data : "/", why);
    fm_buf_release(&path);
    return false;
}

/* ---- views ---- */

/* Adds a schema; true says nothing, false leaves no value.  One whose branch is chosen already would hold because it holds:
 * that makes nothing true. */
void fm_view_add(struct fm_schema *c, struct fm_view *v, const struct fm_py *schema, uint8_t done)
{
    if (schema->kind == FM_PY_TRUE) return;
    if (schema->kind == FM_PY_FALSE) {
        v->never = true;
        return;
    }
    if (schema->kind != FM_PY_OBJECT) {
        (void)fm_schema_refuse(c, schema, NULL, "a schema is neither an object nor a boolean");
        return;
    }
    for (int i = 0; i < v->n; i++)
        if (v->part[i].schema == schema) {
            v->never |= v->part[i].done & (FM_VIEW_ANY | FM_VIEW_ONE) && !c->probing;
            v->part[i].done |= done;
            return;
        }
    if (v->n == FM_VIEW_MAX)
        (void)fm_schema_refuse(c, schema, NULL, "too many schemas hold at once");
    else
        v->part[v->n++] = (struct fm_view_part){schema, done};
}

static const struct fm_py *member(const struct fm_py *v, const char *s, size_t n)
{
    if (v->kind != FM_PY_OBJECT) return NULL;
    for (const struct fm_py *p = v->first; p; p = p->next)
        if (p->key.n == n && !memcmp(p->key.s, s, n)) return p;
    return NULL;
}

static const struct fm_py *element(const struct fm_py *v, const char *s, size_t n)
{
    size_t at = 0;
    if (v->kind != FM_PY_ARRAY || !n || n > 6) return NULL;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9') return NULL;
        at = 10 * at + (size_t)(s[i] - '0');
    }
    const struct fm_py *p = v->first;
    while (p && at--) p = p->next;
    return p;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* One step of a pointer, unescaped: %2F, then ~1 and ~0. */
static size_t unescape(const char *s, size_t n, char *out)
{
    size_t k = 0, m = 0;
    for (size_t i = 0; i < n; i++) {
        const bool coded = s[i] == '%' && i + 2 < n && hex_digit(s[i + 1]) >= 0 && hex_digit(s[i + 2]) >= 0;
        out[k++] = coded ? (char)(hex_digit(s[i + 1]) * 16 + hex_digit(s[i + 2])) : s[i];
        if (coded) i += 2;
    }
    for (size_t i = 0; i < k; i++) {
        const bool tilde = out[i] == '~' && i + 1 < k && (out[i + 1] == '0' || out[i + 1] == '1');
        out[m++] = !tilde ? out[i] : out[i + 1] == '0' ? '~' : '/';
        if (tilde) i++;
    }
    return m;
}

static const struct fm_py *resolve(struct fm_schema *c, const struct fm_py *ref)
{
    const struct fm_py *at = c->root;
    char step[1024];
    if (ref->kind == FM_PY_STRING && ref->text.n && *ref->text.s == '#') {
        const char *s = ref->text.s, *end = s + ref->text.n;
        for (s++; at && s < end;) {
            if (*s++ != '/') return NULL;
            const char *slash = memchr(s, '/', (size_t)(end - s));
            const size_t n = (size_t)((slash ? slash : end) - s);
            if (n > sizeof step - 2) return NULL;
            const size_t k = unescape(s, n, step);
            at = at->kind == FM_PY_ARRAY ? element(at, step, k) : member(at, step, k);
            s += n;
        }
        return at;
    }
    return NULL;
}

/* Every keyword of a schema is one that has a meaning here, or none for anybody. */
static void check(struct fm_schema *c, const struct fm_py *schema)
{
    for (const struct fm_py *p = schema->first; p && !c->bad; p = p->next) {
        const struct keyword *k = keyword(p->key);
        if (k && k->use == REFUSED) (void)fm_schema_refuse(c, p, NULL, "this keyword is not supported");
        if (schema != c->root && fm_span_is(p->key, "$id") && p->kind == FM_PY_STRING && p->text.n && *p->text.s != '#')
            (void)fm_schema_refuse(c, p, NULL, "only the outermost schema may have an $id");
    }
}

void fm_schema_flatten(struct fm_schema *c, struct fm_view *v)
{
    for (int i = 0; i < v->n && !c->bad; i++) {
        const struct fm_py *schema = v->part[i].schema, *ref = fm_py_get(schema, "$ref"),
                           *all = fm_py_get(schema, "allOf");
        if (v->part[i].done & FM_VIEW_FLAT) continue;
        v->part[i].done |= FM_VIEW_FLAT;
        c->work += schema->n;
        check(c, schema);
        if (ref) {
            const struct fm_py *to = resolve(c, ref);
            if (!to)
                (void)fm_schema_refuse(c, ref, NULL, "a reference that leads nowhere: only #/… within the schema does");
            else
                fm_view_add(c, v, to, 0);
        }
        if (all && all->kind != FM_PY_ARRAY) (void)fm_schema_refuse(c, all, NULL, "not a list of schemas");
        for (const struct fm_py *p = all && all->kind == FM_PY_ARRAY ? all->first : NULL; p; p = p->next)
            fm_view_add(c, v, p, 0);
    }
}

static int by_schema(const void *a, const void *b)
{
    const struct fm_view_part *x = a, *y = b;
    return (x->schema > y->schema) - (x->schema < y->schema);
}

static uint64_t hash(const struct fm_view_part *p, int n)
{
    uint64_t h = 1469598103934665603u;
    for (int i = 0; i < n; i++) h = (h ^ (uintptr_t)p[i].schema ^ p[i].done) * 1099511628211u;
    return h;
}

/* The view's rule, which is compiled later; −1: failed. */
int fm_schema_rule(struct fm_schema *c, const struct fm_view *given)
{
    struct fm_view v = *given;
    fm_schema_flatten(c, &v);
    if (c->bad) return -1;
    struct fm_view_part key[FM_VIEW_MAX];
    memcpy(key, v.part, sizeof key);
    qsort(key, (size_t)v.n, sizeof *key, by_schema);
    const uint64_t h = hash(key, v.n) ^ v.never;
    for (int i = 0; i < c->n_views; i++) {
        const struct fm_schema_view *o = &c->views[i];
        if (o->hash == h && o->n == v.n && o->never == v.never && !memcmp(o->key, key, (size_t)v.n * sizeof *key))
            return o->rule;
    }
    c->work += (uint64_t)c->n_views;
    if (c->n_views == VIEWS_MAX || c->work > WORK_MAX) c->b->too_large = true;
    struct fm_view_part *parts = c->b->too_large ? NULL : fm_malloc((size_t)(2 * v.n + 1) * sizeof *parts);
    const int rule = parts ? fm_grule_new(c->b, NULL, 0, 0) : -1;
    if (rule < 0) {
        c->b->failed |= !c->b->too_large;
        c->bad = true;
        fm_free(parts);
        return -1;
    }
    if (v.n) memcpy(parts, v.part, (size_t)v.n * sizeof *parts);
    if (v.n) memcpy(parts + v.n, key, (size_t)v.n * sizeof *parts);
    c->views[c->n_views++] = (struct fm_schema_view){
        .parts = parts, .key = parts + v.n, .n = v.n, .never = v.never, .hash = h, .rule = rule};
    return rule;
}

fm_gnode fm_schema_node(struct fm_schema *c, const struct fm_view *v) { return fm_g_rule(c->b, fm_schema_rule(c, v)); }

/* ---- numbers in schemas ---- */

/* A count; *out stays where the keyword is missing. */
bool fm_schema_count(struct fm_schema *c, const struct fm_py *schema, const char *key, uint32_t *out)
{
    const struct fm_py *v = fm_py_get(schema, key);
    struct fm_decimal d;
    if (!v) return true;
    if (v->kind != FM_PY_NUMBER || !fm_decimal_read(&d, v->text) || d.negative || d.n_part)
        return fm_schema_refuse(c, v, NULL, "not a count");
    *out = 0;
    for (int i = 0; i < d.n_whole; i++) *out = d.n_whole > 9 ? 1000000000 : 10 * *out + (uint32_t)(d.whole[i] - '0');
    return true;
}

/* The narrowest of the view's bounds; most: FM_NO_MAX when there is none. */
bool fm_schema_counts(struct fm_schema *c, const struct fm_view *v, const char *min, const char *max, uint32_t *least,
                      uint32_t *most)
{
    *least = 0;
    *most = FM_NO_MAX;
    for (int i = 0; i < v->n; i++) {
        uint32_t lo = 0, hi = FM_NO_MAX;
        if (!fm_schema_count(c, v->part[i].schema, min, &lo) || !fm_schema_count(c, v->part[i].schema, max, &hi))
            return false;
        if (lo > *least) *least = lo;
        if (hi < *most) *most = hi;
    }
    return true;
}

/* ---- types ---- */

static const struct {
    const char *name;
    uint8_t types;
} type_names[] = {{"null", FM_JT_NULL},     {"boolean", FM_JT_BOOLEAN}, {"integer", FM_JT_INTEGER},
                  {"number", FM_JT_NUMBER}, {"string", FM_JT_STRING},   {"array", FM_JT_ARRAY},
                  {"object", FM_JT_OBJECT}};

static uint8_t type_named(struct fm_schema *c, const struct fm_py *v)
{
    for (size_t i = 0; v->kind == FM_PY_STRING && i < sizeof type_names / sizeof *type_names; i++)
        if (fm_span_is(v->text, type_names[i].name)) return type_names[i].types;
    (void)fm_schema_refuse(c, v, NULL, "not the name of a type");
    return 0;
}

/* What "type" allows; 0: there is none. */
static uint8_t types_of(struct fm_schema *c, const struct fm_py *schema)
{
    const struct fm_py *t = fm_py_get(schema, "type"), *nullable = fm_py_get(schema, "nullable");
    uint8_t types = 0;
    if (!t) return 0;
    if (t->kind != FM_PY_ARRAY) types = type_named(c, t);
    for (const struct fm_py *p = t->kind == FM_PY_ARRAY ? t->first : NULL; p; p = p->next) types |= type_named(c, p);
    if (t->kind == FM_PY_ARRAY && !t->n) (void)fm_schema_refuse(c, t, NULL, "no type at all");
    if (nullable && nullable->kind == FM_PY_TRUE) types |= FM_JT_NULL;
    return types;
}

/* Where no schema says a type, keywords that are about one type only speak for it. */
static uint8_t meant_types(const struct fm_view *v)
{
    uint8_t types = 0;
    for (int i = 0; i < v->n; i++)
        for (const struct fm_py *p = v->part[i].schema->first; p; p = p->next) {
            const struct keyword *k = keyword(p->key);
            if (k) types |= k->types;
        }
    return types ? types : FM_JT_ANY;
}

uint8_t fm_schema_types(struct fm_schema *c, const struct fm_view *v)
{
    uint8_t types = FM_JT_ANY;
    bool said = false;
    for (int i = 0; i < v->n; i++) {
        const uint8_t t = types_of(c, v->part[i].schema);
        said |= t != 0;
        if (t) types &= t;
    }
    return said ? types : meant_types(v);
}

/* ---- enum and const ---- */

static uint8_t type_of(const struct fm_py *v)
{
    static const uint8_t types[] = {
        [FM_PY_NULL] = FM_JT_NULL,     [FM_PY_FALSE] = FM_JT_BOOLEAN, [FM_PY_TRUE] = FM_JT_BOOLEAN,
        [FM_PY_STRING] = FM_JT_STRING, [FM_PY_ARRAY] = FM_JT_ARRAY,   [FM_PY_OBJECT] = FM_JT_OBJECT};
    struct fm_decimal d;
    if (v->kind != FM_PY_NUMBER) return types[v->kind];
    return fm_decimal_read(&d, v->text) && !d.n_part ? FM_JT_INTEGER : FM_JT_FRACTION;
}

/* Values are equal as JSON Schema has it: 1 is 1.0, and members have no order. */
static bool same(struct fm_schema *c, const struct fm_py *a, const struct fm_py *b)
{
    struct fm_decimal x, y;
    c->work++;
    if (a->kind != b->kind || c->work > WORK_MAX) return false;
    if (a->kind == FM_PY_NUMBER && fm_decimal_read(&x, a->text) && fm_decimal_read(&y, b->text))
        return fm_decimal_compare(&x, &y) == 0;
    if (a->kind == FM_PY_NUMBER || a->kind == FM_PY_STRING)
        return a->text.n == b->text.n && !memcmp(a->text.s, b->text.s, a->text.n);
    if (a->kind < FM_PY_ARRAY) return true;
    if (a->n != b->n) return false;
    const struct fm_py *q = b->first;
    for (const struct fm_py *p = a->first; p; p = p->next, q = q->next) {
        const struct fm_py *other = a->kind == FM_PY_ARRAY ? q : member(b, p->key.s, p->key.n);
        c->work += a->n;
        if (!other || !same(c, p, other)) return false;
    }
    return true;
}

static bool among(struct fm_schema *c, const struct fm_py *schema, const struct fm_py *value)
{
    const struct fm_py *list = fm_py_get(schema, "enum"), *one = fm_py_get(schema, "const");
    bool hit = !list;
    for (const struct fm_py *p = list ? list->first : NULL; p && !hit; p = p->next) hit = same(c, p, value);
    return hit && (!one || same(c, one, value));
}

/* Whether a listed value satisfies what else the schema says of its type. */
static bool agrees(struct fm_schema *c, const struct fm_py *schema, const struct fm_py *value)
{
    const uint8_t type = type_of(value), types = types_of(c, schema);
    const struct fm_view alone = {.n = 1, .part = {{schema, 0}}};
    struct fm_number_bounds bounds;
    struct fm_decimal d;
    uint32_t least, most;
    if (types && !(types & type)) return false;
    for (const struct fm_py *p = schema->first; p; p = p->next) {
        const struct keyword *k = keyword(p->key);
        if (!k || !(k->types & type)) continue;
        const bool counted = fm_span_is(p->key, "minLength") || fm_span_is(p->key, "maxLength");
        if (!counted && (type & ~FM_JT_NUMBER || fm_span_is(p->key, "multipleOf")))
            return fm_schema_refuse(c, p, NULL, "this keyword is not supported beside enum or const");
    }
    if (type == FM_JT_STRING) {
        if (!fm_schema_counts(c, &alone, "minLength", "maxLength", &least, &most)) return false;
        uint32_t n = 0;
        for (size_t i = 0; i < value->text.n; i++) n += (value->text.s[i] & 0xC0) != 0x80;
        return n >= least && n <= most;
    }
    if (!(type & FM_JT_NUMBER)) return true;
    if (!fm_schema_bounds(c, &alone, &bounds)) return false;
    if (!fm_decimal_read(&d, value->text)) return !bounds.b.min && !bounds.b.max;
    const int lo = bounds.b.min ? fm_decimal_compare(&d, bounds.b.min) : 1,
              hi = bounds.b.max ? fm_decimal_compare(&d, bounds.b.max) : -1;
    return (lo > 0 || (!lo && !bounds.b.above)) && (hi < 0 || (!hi && !bounds.b.below));
}

/* Whether every schema of the view takes a value that one of them lists. */
static bool is_taken(struct fm_schema *c, const struct fm_view *v, const struct fm_py *value)
{
    bool good = true;
    for (int i = 0; good && i < v->n; i++)
        good = among(c, v->part[i].schema, value) && agrees(c, v->part[i].schema, value);
    return good;
}

int fm_schema_distinct(struct fm_schema *c, const struct fm_view *v, const struct fm_py **out, int max)
{
    const struct fm_py *list = NULL, *one = NULL;
    int n = 0;
    for (int i = 0; i < v->n; i++) {
        const struct fm_py *s = v->part[i].schema, *values = fm_py_get(s, "enum");
        if (fm_py_get(s, "anyOf") || fm_py_get(s, "oneOf")) return -1;
        if (!list && values && values->kind == FM_PY_ARRAY) list = values;
        if (!one) one = fm_py_get(s, "const");
    }
    if (!list && !one) return -1;
    for (const struct fm_py *p = one ? one : list->first; p; p = one ? NULL : p->next) {
        bool known = !is_taken(c, v, p);
        for (int i = 0; i < n; i++) known |= same(c, out[i], p);
        if (known) continue;
        if (n == max) return -1;
        out[n++] = p;
    }
    return c->bad ? -1 : n;
}

/* Those that every schema of the view takes. */
fm_gnode fm_schema_listed(struct fm_schema *c, const struct fm_view *v, const struct fm_py *schema,
                          fm_gnode (*spell)(struct fm_schema *c, const struct fm_py *value))
{
    const struct fm_py *list = fm_py_get(schema, "enum"), *one = fm_py_get(schema, "const");
    if (list && (list->kind != FM_PY_ARRAY)) (void)fm_schema_refuse(c, list, NULL, "not a list of values");
    if (c->bad) return FM_GNODE_NONE;
    struct fm_glist kids = {0};
    for (const struct fm_py *p = one ? one : list->first; p; p = one ? NULL : p->next) {
        if (is_taken(c, v, p)) fm_glist_add(c->b, &kids, spell(c, p));
    }
    return fm_glist_alt(c->b, &kids);
}

/* ---- branches ---- */

static const struct branching {
    const char *name;
    uint8_t done;
} branchings[] = {{"anyOf", FM_VIEW_ANY}, {"oneOf", FM_VIEW_ONE}};

/* The view of branch p, and, when it is there, of branch q at once. */
static struct fm_view branch(struct fm_schema *c, const struct fm_view *v, int i, uint8_t done, const struct fm_py *p,
                             uint8_t p_done, const struct fm_py *q, uint8_t q_done)
{
    struct fm_view one = *v;
    one.part[i].done |= done;
    fm_view_add(c, &one, p, p_done);
    if (q) fm_view_add(c, &one, q, q_done);
    return one;
}

/* No value may satisfy two branches: neither one that p's own grammar makes and q takes, nor the other way round.  Whether
 * these rules take any text is seen at the end. */
static void probe(struct fm_schema *c, const struct fm_view *v, int i, const struct fm_py *list, const struct fm_py *p,
                  const struct fm_py *q)
{
    for (int way = 0; way < 2; way++) {
        if (c->n_probes == c->cap_probes) {
            const int cap = c->cap_probes ? 2 * c->cap_probes : 64;
            void *room = cap > VIEWS_MAX ? NULL : fm_realloc(c->probes, (size_t)cap * sizeof *c->probes);
            if (!room) {
                c->b->failed |= cap <= VIEWS_MAX;
                c->b->too_large |= cap > VIEWS_MAX;
                c->bad = true;
                return;
            }
            c->probes = room;
            c->cap_probes = cap;
        }
        const uint8_t closed[] = {way ? 0 : FM_VIEW_CLOSED, way ? FM_VIEW_CLOSED : 0};
        c->probing = true;
        const struct fm_view both = branch(c, v, i, FM_VIEW_ONE, p, closed[0], q, closed[1]);
        c->probes[c->n_probes++] = (struct fm_schema_probe){both, list, c->bad};
        c->probing = c->bad = false;
    }
}

static fm_gnode branches(struct fm_schema *c, const struct fm_view *v, int i, const struct branching *how)
{
    const struct fm_py *list = fm_py_get(v->part[i].schema, how->name);
    struct fm_glist kids = {0};
    if (list->kind != FM_PY_ARRAY || !list->n) {
        (void)fm_schema_refuse(c, list, NULL, "not a list of schemas");
        return FM_GNODE_NONE;
    }
    for (const struct fm_py *p = list->first; p && !c->bad; p = p->next) {
        const struct fm_view one = branch(c, v, i, how->done, p, 0, NULL, 0);
        fm_glist_add(c->b, &kids, c->bad ? FM_GNODE_NONE : fm_schema_node(c, &one));
        for (const struct fm_py *q = p->next; q && !c->bad && how->done == FM_VIEW_ONE && !c->probing; q = q->next)
            probe(c, v, i, list, p, q);
    }
    return fm_glist_alt(c->b, &kids);
}

/* ---- one view ---- */

static fm_gnode scalars(struct fm_schema *c, const struct fm_view *v, uint8_t types)
{
    struct fm_gbuild *b = c->b;
    fm_gnode kids[4] = {fm_g_never(b), fm_g_never(b), fm_g_never(b), fm_g_never(b)};
    if (types & FM_JT_NULL) kids[0] = fm_g_str(b, "null");
    if (types & FM_JT_BOOLEAN) kids[1] = FM_G_ALT(b, fm_g_str(b, "true"), fm_g_str(b, "false"));
    if (types & FM_JT_NUMBER) kids[2] = fm_schema_number(c, v, !(types & FM_JT_FRACTION));
    if (types & FM_JT_STRING) kids[3] = fm_schema_string(c, v);
    return fm_g_alt(b, kids, 4);
}

fm_gnode fm_schema_value(struct fm_schema *c, const struct fm_view *v, uint8_t types)
{
    return FM_G_ALT(c->b, scalars(c, v, types), types & FM_JT_ARRAY ? fm_schema_array(c, v) : fm_g_never(c->b),
                    types & FM_JT_OBJECT ? fm_schema_object(c, v) : fm_g_never(c->b));
}

static fm_gnode as_json(struct fm_schema *c, const struct fm_py *v) { return fm_gjson_literal(c->g, v); }

static fm_gnode compile(struct fm_schema *c, const struct fm_view *v)
{
    if (v->never) return fm_g_never(c->b);
    for (int i = 0; i < v->n; i++)
        for (size_t k = 0; k < sizeof branchings / sizeof *branchings; k++)
            if (!(v->part[i].done & branchings[k].done) && fm_py_get(v->part[i].schema, branchings[k].name))
                return branches(c, v, i, &branchings[k]);
    for (int i = 0; i < v->n; i++)
        if (fm_py_get(v->part[i].schema, "enum") || fm_py_get(v->part[i].schema, "const"))
            return fm_schema_listed(c, v, v->part[i].schema, as_json);
    bool says = false;
    for (int i = 0; i < v->n && !says; i++)
        for (const struct fm_py *p = v->part[i].schema->first; p; p = p->next)
            says |= keyword(p->key) || fm_span_is(p->key, "type");
    if (!says) return fm_gjson_value(c->g);
    const uint8_t types = fm_schema_types(c, v);
    if (c->bad) return FM_GNODE_NONE;
    return fm_schema_value(c, v, types);
}

/* All views that wait, in the order in which they came up. */
static void compile_waiting(struct fm_schema *c)
{
    for (; c->n_done < c->n_views && !c->b->failed && !c->b->too_large && (!c->bad || c->probing); c->n_done++) {
        const struct fm_schema_view *s = &c->views[c->n_done];
        struct fm_view v = {.n = s->n, .never = s->never};
        const int rule = s->rule;
        if (s->n) memcpy(v.part, s->parts, (size_t)s->n * sizeof *v.part);
        fm_gnode body = compile(c, &v);
        if (c->work > WORK_MAX) c->b->too_large = true;
        if (c->bad && c->probing && !c->b->failed && !c->b->too_large) { /* not known: then it may hold */
            c->bad = false;
            body = fm_g_str(c->b, "");
        }
        if (body != FM_GNODE_NONE) fm_grule_define(c->b, rule, body);
    }
}

static void check_probes(struct fm_schema *c)
{
    int *rules = fm_malloc((size_t)(c->n_probes + 1) * sizeof *rules);
    bool *ends = NULL;
    c->b->failed |= !rules;
    c->probing = true;
    for (int i = 0; rules && i < c->n_probes && !c->b->failed && !c->b->too_large; i++) {
        rules[i] = c->probes[i].unknown ? -1 : fm_schema_rule(c, &c->probes[i].view);
        c->bad = false;
    }
    compile_waiting(c);
    c->probing = c->bad = false;
    if (!c->b->failed && !c->b->too_large && !(ends = fm_grules_end(c->b))) c->b->failed = true;
    for (int i = 0; ends && i < c->n_probes; i++)
        if (rules[i] < 0 || ends[rules[i]])
            (void)fm_schema_refuse(c, c->probes[i].list, NULL,
                                   "two of the alternatives may hold at once: say anyOf, or tell them apart");
    fm_free(ends);
    fm_free(rules);
}

/* The view of one DSML call: alternatives cannot be chosen by it. */
static int parameters(struct fm_schema *c, struct fm_view *v)
{
    static const char *const shut[] = {"anyOf", "oneOf", "enum", "const"};
    fm_schema_flatten(c, v);
    for (int i = 0; i < v->n && !c->bad; i++)
        for (int k = 0; k < 4; k++)
            if (fm_py_get(v->part[i].schema, shut[k]))
                (void)fm_schema_refuse(c, v->part[i].schema, shut[k],
                                       "it is not supported for a tool's parameters as a whole");
    const int rule = c->bad ? -1 : fm_grule_new(c->b, NULL, 0, 0);
    if (rule >= 0) fm_grule_define(c->b, rule, v->never ? fm_g_never(c->b) : fm_schema_parameters(c, v));
    return rule;
}

enum form { VALUE, OBJECT, DSML };

static enum fm_status parse(struct fm_gjson *g, const struct fm_py *schema, enum form form, const char *what, int *root,
                            struct fm_error *err)
{
    static const struct fm_py type = {.kind = FM_PY_STRING, .key = {"type", 4}, .text = {"object", 6}},
                              object = {.kind = FM_PY_OBJECT, .first = &type, .n = 1};
    struct fm_schema c = {.g = g, .b = g->b, .root = schema, .what = what, .err = err};
    struct fm_view v = {.n = 0};
    c.views = fm_malloc(VIEWS_MAX * sizeof *c.views);
    c.b->failed |= !c.views;
    int rule = -1;
    if (c.views) {
        fm_view_add(&c, &v, schema, 0);
        if (form != VALUE) fm_view_add(&c, &v, &object, 0);
        if (!c.bad) rule = form == DSML ? parameters(&c, &v) : fm_schema_rule(&c, &v);
        compile_waiting(&c);
        if (c.n_probes && !c.bad && !c.b->failed && !c.b->too_large) check_probes(&c);
    }
    for (int i = 0; i < c.n_views; i++) fm_free(c.views[i].parts);
    fm_free(c.views);
    fm_free(c.probes);
    if (c.b->failed) return fm_fail_memory(err, "a schema", sizeof c);
    if (c.b->too_large) return fm_fail(err, FM_ERR_INPUT, "%s: it is too large", what);
    if (c.bad) return FM_ERR_INPUT;
    *root = rule;
    return FM_OK;
}

enum fm_status fm_schema_parse(struct fm_gjson *g, const struct fm_py *schema, const char *what, int *root,
                               struct fm_error *err)
{
    return parse(g, schema, VALUE, what, root, err);
}

enum fm_status fm_schema_arguments(struct fm_gjson *g, const struct fm_py *schema, bool dsml, const char *what,
                                   int *root, struct fm_error *err)
{
    return parse(g, schema, dsml ? DSML : OBJECT, what, root, err);
}
