/* Patterns of JSON schemas (ECMA-262 with the flag u) as grammars.  What has no grammar, or means different things to
 * different readers, is refused with a reason. */
#include <string.h>

#include "text/grammar_json.h"

enum { CLASS_MAX = 512, PARTS = 256 };

struct regex {
    struct fm_gjson *g;
    const char *p, *end, *why;
    int depth;
};

struct piece {
    fm_gnode node;
    struct fm_regex_span span;
};

static const struct piece nothing = {FM_GNODE_NONE, {0, 0}};

static struct piece fail(struct regex *r, const char *why)
{
    if (!r->why) r->why = why;
    return nothing;
}

static uint64_t plus(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }

static uint64_t times(uint64_t a, uint64_t n)
{
    return !a || !n ? 0 : a == UINT64_MAX || a > UINT64_MAX / n ? UINT64_MAX : a * n;
}

static bool at(const struct regex *r, char c) { return r->p < r->end && *r->p == c; }

/* ---- characters and classes ---- */

struct set {
    struct fm_grange r[CLASS_MAX];
    int n;
};

static void add(struct regex *r, struct set *s, uint32_t lo, uint32_t hi)
{
    if (s->n == CLASS_MAX)
        (void)fail(r, "a class has too many ranges");
    else
        s->r[s->n++] = (struct fm_grange){lo, hi};
}

/* White space: what every dialect takes for it, and, of its opposite, what any does. */
static const struct fm_grange space_all[] = {{'\t', '\r'}, {' ', ' '}};
static const struct fm_grange space_any[] = {{'\t', '\r'},     {0x1C, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                                             {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                             {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
static const struct fm_grange digit_all[] = {{'0', '9'}};
static const struct fm_grange word_all[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};

/* ranges[n] or what lies outside of them. */
static void add_named(struct regex *r, struct set *s, const struct fm_grange *ranges, int n, bool outside)
{
    uint32_t next = 0;
    for (int i = 0; i < n; i++) {
        if (!outside)
            add(r, s, ranges[i].lo, ranges[i].hi);
        else if (ranges[i].lo > next)
            add(r, s, next, ranges[i].lo - 1);
        next = ranges[i].hi + 1;
    }
    if (outside) add(r, s, next, 0x10FFFF);
}

/* \d and the like; false: it is none of them.  negated: inside [^…], where white space turns round. */
static bool named(struct regex *r, char c, bool negated, struct set *s)
{
    const char low = (char)(c | 32);
    const bool outside = c != low;
    if (low == 'd') add_named(r, s, digit_all, 1, outside);
    if (low == 'w') add_named(r, s, word_all, 4, outside);
    if (low == 's' && outside == negated) add_named(r, s, space_all, 2, outside);
    if (low == 's' && outside != negated) add_named(r, s, space_any, sizeof space_any / sizeof *space_any, outside);
    return low == 'd' || low == 'w' || low == 's';
}

static bool hex(struct regex *r, int n, uint32_t *out)
{
    for (*out = 0; n; n--, r->p++) {
        const char c = r->p < r->end ? *r->p : 0;
        const int d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (d < 0) return false;
        *out = *out << 4 | (uint32_t)d;
    }
    return true;
}

/* \u{1F600} behind the u */
static bool braced(struct regex *r, uint32_t *out)
{
    const char *close = memchr(r->p, '}', (size_t)(r->end - r->p));
    r->p++;
    const long n = close ? close - r->p : 0;
    if (n < 1 || n > 6 || !hex(r, (int)n, out)) return false;
    r->p++;
    return true;
}

/* Behind the backslash: one character. */
static bool escape(struct regex *r, uint32_t *out)
{
    static const char letters[] = "tnrvf0", codes[] = "\t\n\r\v\f";
    const char c = r->p < r->end ? *r->p++ : 0;
    const char *hit = c ? strchr(letters, c) : NULL;
    uint32_t low;
    *out = hit ? (unsigned char)codes[hit - letters] : (unsigned char)c;
    if (hit && c == '0' && r->p < r->end && *r->p >= '0' && *r->p <= '9') return false;
    if (hit) return true;
    if (c == 'x') return hex(r, 2, out);
    if (c == 'u' && at(r, '{')) return braced(r, out) && *out <= 0x10FFFF && (*out < 0xD800 || *out > 0xDFFF);
    if (c == 'u') {
        if (!hex(r, 4, out)) return false;
        if (*out < 0xD800 || *out > 0xDFFF) return true;
        if (*out > 0xDBFF || r->end - r->p < 6 || r->p[0] != '\\' || r->p[1] != 'u') return false;
        r->p += 2;
        if (!hex(r, 4, &low) || low < 0xDC00 || low > 0xDFFF) return false;
        *out = 0x10000 + ((*out - 0xD800) << 10) + (low - 0xDC00);
        return true;
    }
    if (c == 'c' && r->p < r->end && (*r->p | 32) >= 'a' && (*r->p | 32) <= 'z') {
        *out = (unsigned char)*r->p++ % 32;
        return true;
    }
    return c && strchr("^$\\.*+?()[]{}|/-\"' ,:;=!@#%&<>~`", c);
}

static bool character(struct regex *r, uint32_t *out)
{
    int used;
    if (at(r, '\\')) {
        r->p++;
        if (escape(r, out)) return true;
        (void)fail(r, "an escape is not supported");
        return false;
    }
    const int32_t c = fm_utf8_decode(r->p, (size_t)(r->end - r->p), &used);
    r->p += used;
    *out = (uint32_t)c;
    if (c < 0) (void)fail(r, "it is no UTF-8");
    return c >= 0;
}

static fm_gnode class_node(struct regex *r, const struct set *s, bool negated)
{
    return r->why ? FM_GNODE_NONE : fm_gjson_class(r->g, s->r, s->n, negated);
}

/* Behind the bracket. */
static fm_gnode class(struct regex *r)
{
    struct set s = {.n = 0};
    const bool negated = at(r, '^');
    if (negated) r->p++;
    while (!r->why && r->p < r->end && *r->p != ']') {
        uint32_t lo, hi;
        if (r->end - r->p > 1 && *r->p == '\\' && named(r, r->p[1], negated, &s)) {
            r->p += 2;
            continue;
        }
        if (at(r, '\\') && r->end - r->p > 1 && r->p[1] == 'b') {
            add(r, &s, '\b', '\b');
            r->p += 2;
            continue;
        }
        if (!character(r, &lo)) break;
        hi = lo;
        if (r->end - r->p > 1 && r->p[0] == '-' && r->p[1] != ']') {
            r->p++;
            if (at(r, '\\') && r->end - r->p > 1 && strchr("dDwWsS", r->p[1]))
                (void)fail(r, "a range of a class ends in a class");
            else if (!character(r, &hi))
                break;
        }
        if (hi < lo) (void)fail(r, "a range of a class runs backwards");
        add(r, &s, lo, hi);
    }
    if (r->p >= r->end) (void)fail(r, "a class is not closed");
    r->p++;
    return class_node(r, &s, negated);
}

/* ---- expressions ---- */

static struct piece alternatives(struct regex *r);

static struct piece group(struct regex *r)
{
    r->p++;
    if (at(r, '?')) {
        const char *close = memchr(r->p, '>', (size_t)(r->end - r->p));
        if (r->end - r->p > 1 && r->p[1] == ':')
            r->p += 2;
        else if (r->end - r->p > 2 && r->p[1] == '<' && r->p[2] != '=' && r->p[2] != '!' && close)
            r->p = close + 1;
        else
            return fail(r, "look-around and flags are not supported");
    }
    if (++r->depth > FM_GRAMMAR_DEPTH) return fail(r, "groups lie too deep in each other");
    const struct piece it = alternatives(r);
    if (!at(r, ')')) return fail(r, "a group is not closed");
    r->p++;
    r->depth--;
    return it;
}

static struct piece item(struct regex *r)
{
    static const struct fm_grange line_ends[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
    struct set s = {.n = 0};
    struct piece one = {.span = {1, 1}};
    uint32_t c;
    switch (*r->p) {
    case '(': return group(r);
    case '[':
        r->p++;
        one.node = class(r);
        return one;
    case '.':
        r->p++;
        one.node = fm_gjson_class(r->g, line_ends, 3, true);
        return one;
    case '^':
    case '$': return fail(r, "^ and $ are supported at the ends of whole alternatives only");
    case '*':
    case '+':
    case '?':
    case '{': return fail(r, "a repetition of nothing");
    case '\\':
        if (r->end - r->p > 1 && (r->p[1] == 'b' || r->p[1] == 'B' || r->p[1] == 'p' || r->p[1] == 'P' ||
                                  r->p[1] == 'k' || (r->p[1] >= '1' && r->p[1] <= '9')))
            return fail(r, "word boundaries, properties and back references are not supported");
        if (r->end - r->p > 1 && named(r, r->p[1], false, &s)) {
            r->p += 2;
            one.node = class_node(r, &s, false);
            return one;
        }
        break;
    default: break;
    }
    if (!character(r, &c)) return nothing;
    add(r, &s, c, c);
    one.node = class_node(r, &s, false);
    return one;
}

static bool number(struct regex *r, uint32_t *out)
{
    const char *from = r->p;
    for (*out = 0; r->p < r->end && *r->p >= '0' && *r->p <= '9'; r->p++)
        if ((*out = 10 * *out + (uint32_t)(*r->p - '0')) > FM_GRAMMAR_REPEAT) {
            (void)fail(r, "a bound of a repetition is too large");
            return false;
        }
    return r->p > from;
}

static bool bounds(struct regex *r, uint32_t *min, uint32_t *max)
{
    r->p++;
    if (!number(r, min)) return false;
    *max = *min;
    if (at(r, ',')) {
        r->p++;
        *max = FM_NO_MAX;
        if (!at(r, '}') && !number(r, max)) return false;
    }
    if (!at(r, '}') || *max < *min) return false;
    r->p++;
    return true;
}

static struct piece repeated(struct regex *r, struct piece it)
{
    for (int i = 0; !r->why && r->p < r->end && strchr("*+?{", *r->p) && *r->p; i++) {
        uint32_t min = *r->p == '+', max = *r->p == '?' ? 1 : FM_NO_MAX;
        if (i) return fail(r, "a repetition of a repetition");
        if (*r->p != '{')
            r->p++;
        else if (!bounds(r, &min, &max))
            return fail(r, "a repetition is not {n}, {n,} or {n,m}");
        if (at(r, '?')) r->p++; /* a lazy one takes the same texts */
        it.node = fm_g_repeat(r->g->b, it.node, min, max);
        it.span.min = times(it.span.min, min);
        it.span.max = times(it.span.max, max == FM_NO_MAX ? UINT64_MAX : max);
    }
    return it;
}

static void append(struct regex *r, fm_gnode *parts, int *n, fm_gnode one, bool alt)
{
    if (*n == PARTS) {
        parts[0] = alt ? fm_g_alt(r->g->b, parts, *n) : fm_g_seq(r->g->b, parts, *n);
        *n = 1;
    }
    parts[(*n)++] = one;
}

static struct piece anything(struct regex *r)
{
    return (struct piece){fm_g_repeat(r->g->b, fm_gjson_character(r->g), 0, FM_NO_MAX), {0, UINT64_MAX}};
}

static struct piece sequence(struct regex *r)
{
    fm_gnode parts[PARTS];
    int n = 0;
    const bool outer = r->depth == 0;
    struct fm_regex_span span = {0, 0};
    bool open = outer; /* the end, at which any text may follow */
    if (outer && at(r, '^')) {
        r->p++;
    } else if (outer) {
        parts[n++] = anything(r).node;
        span.max = UINT64_MAX;
    }
    while (!r->why && r->p < r->end && *r->p != '|' && *r->p != ')') {
        if (outer && *r->p == '$' && (r->p + 1 == r->end || r->p[1] == '|')) {
            open = false;
            r->p++;
            break;
        }
        const struct piece one = repeated(r, item(r));
        span.min = plus(span.min, one.span.min);
        span.max = plus(span.max, one.span.max);
        append(r, parts, &n, one.node, false);
    }
    if (open) {
        append(r, parts, &n, anything(r).node, false);
        span.max = UINT64_MAX;
    }
    return (struct piece){r->why ? FM_GNODE_NONE : fm_g_seq(r->g->b, parts, n), span};
}

static struct piece alternatives(struct regex *r)
{
    fm_gnode parts[PARTS];
    int n = 0;
    struct fm_regex_span span = {UINT64_MAX, 0};
    for (;;) {
        const struct piece one = sequence(r);
        if (one.span.min < span.min) span.min = one.span.min;
        if (one.span.max > span.max) span.max = one.span.max;
        append(r, parts, &n, one.node, true);
        if (r->why || !at(r, '|')) break;
        r->p++;
    }
    return (struct piece){r->why ? FM_GNODE_NONE : fm_g_alt(r->g->b, parts, n), span};
}

fm_gnode fm_g_regex(struct fm_gjson *g, struct fm_span pattern, struct fm_regex_span *span, const char **why)
{
    struct regex r = {.g = g, .p = pattern.s, .end = pattern.s + pattern.n};
    const struct piece all = alternatives(&r);
    if (!r.why && r.p < r.end) (void)fail(&r, "a group is closed that was not opened");
    *span = all.span;
    *why = r.why;
    return r.why ? FM_GNODE_NONE : all.node;
}
