/* See grammar_json.h.  RFC 8259. */
#include "text/grammar_json.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct fm_gjson fm_gjson_new(struct fm_gbuild *b)
{
    return (struct fm_gjson){.b = b, .blank = -1, .character = -1, .value = -1, .object = -1, .array = -1};
}

/* The rule in *at; on its first use make(g) is its body. */
static fm_gnode once(struct fm_gjson *g, int *at, fm_gnode (*make)(struct fm_gjson *g))
{
    if (*at < 0) {
        *at = fm_grule_new(g->b, NULL, 0, 0);
        if (*at >= 0) fm_grule_define(g->b, *at, make(g));
    }
    return fm_g_rule(g->b, *at);
}

static fm_gnode one_of(struct fm_gbuild *b, const char *letters)
{
    struct fm_grange r[64];
    int n = 0;
    for (; *letters; letters++) r[n++] = (struct fm_grange){(unsigned char)*letters, (unsigned char)*letters};
    return fm_g_class(b, r, n, false);
}

static fm_gnode hex_digits(struct fm_gbuild *b, uint32_t n)
{
    const struct fm_grange r[] = {{'0', '9'}, {'a', 'f'}, {'A', 'F'}};
    return fm_g_repeat(b, fm_g_class(b, r, 3, false), n, n);
}

/* ---- white space ---- */

static fm_gnode make_blank(struct fm_gjson *g)
{
    struct fm_gbuild *b = g->b;
    return FM_G_ALT(
        b, fm_g_str(b, ""), fm_g_str(b, " "),
        fm_g_seq(b, (const fm_gnode[]){fm_g_str(b, "\n"), fm_g_repeat(b, one_of(b, " \t"), 0, FM_GJSON_INDENT)}, 2));
}

fm_gnode fm_gjson_blank(struct fm_gjson *g) { return once(g, &g->blank, make_blank); }

/* ---- strings ---- */

/* Surrogates only in pairs: \uD800 alone is no character. */
static fm_gnode make_character(struct fm_gjson *g)
{
    struct fm_gbuild *b = g->b;
    const struct fm_grange shut[] = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}},
                           plain[] = {{'0', '9'}, {'a', 'c'}, {'A', 'C'}, {'e', 'f'}, {'E', 'F'}}, low[] = {{'0', '7'}};
    const fm_gnode d[] = {one_of(b, "dD"), one_of(b, "dD"), one_of(b, "dD")};
    const fm_gnode unit = FM_G_ALT(b, FM_G_SEQ(b, fm_g_class(b, plain, 5, false), hex_digits(b, 3)),
                                   FM_G_SEQ(b, d[0], fm_g_class(b, low, 1, false), hex_digits(b, 2)),
                                   FM_G_SEQ(b, d[1], one_of(b, "89abAB"), hex_digits(b, 2), fm_g_str(b, "\\u"), d[2],
                                            one_of(b, "cdefCDEF"), hex_digits(b, 2)));
    return FM_G_ALT(
        b, fm_g_class(b, shut, 3, true),
        FM_G_SEQ(b, fm_g_str(b, "\\"), FM_G_ALT(b, one_of(b, "\"\\/bfnrt"), FM_G_SEQ(b, fm_g_str(b, "u"), unit))));
}

fm_gnode fm_gjson_character(struct fm_gjson *g) { return once(g, &g->character, make_character); }

static int by_lo(const void *a, const void *b)
{
    const struct fm_grange *x = a, *y = b;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

/* The ranges in order, each character once; negated ones turned round.  Returns how many; out[n + 1]. */
static int normal(const struct fm_grange *r, int n, bool negated, struct fm_grange *out)
{
    int k = 0;
    uint32_t next = 0;
    struct fm_grange *sorted = out + n + 1; /* the caller's second half */
    if (n) memcpy(sorted, r, (size_t)n * sizeof *r);
    qsort(sorted, (size_t)n, sizeof *sorted, by_lo);
    for (int i = 0; i < n; i++) {
        const uint32_t lo = sorted[i].lo > next ? sorted[i].lo : next;
        if (negated && sorted[i].lo > next) out[k++] = (struct fm_grange){next, sorted[i].lo - 1};
        if (!negated && lo <= sorted[i].hi) out[k++] = (struct fm_grange){lo, sorted[i].hi};
        if (sorted[i].hi + 1 > next) next = sorted[i].hi + 1;
    }
    if (negated && next <= 0x10FFFF) out[k++] = (struct fm_grange){next, 0x10FFFF};
    return k;
}

static bool holds(const struct fm_grange *r, int n, uint32_t c)
{
    for (int i = 0; i < n; i++)
        if (r[i].lo <= c && c <= r[i].hi) return true;
    return false;
}

/* The control characters of the set, each in its escaped forms. */
static fm_gnode escapes(struct fm_gbuild *b, const struct fm_grange *set, int n)
{
    static const char code[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    char letters[8] = "";
    fm_gnode kids[3];
    int n_letters = 0, n_kids = 0;
    for (int i = 0; code[i]; i++)
        if (holds(set, n, (unsigned char)code[i])) letters[n_letters++] = letter[i];
    if (n_letters) kids[n_kids++] = one_of(b, letters);
    for (uint32_t high = 0; high < 2; high++) {
        char digits[32] = "";
        int k = 0;
        for (uint32_t i = 0; i < 16; i++) {
            if (!holds(set, n, 16 * high + i)) continue;
            digits[k++] = "0123456789abcdef"[i];
            if (i > 9) digits[k++] = "0123456789ABCDEF"[i];
        }
        if (k) kids[n_kids++] = FM_G_SEQ(b, fm_g_str(b, high ? "u001" : "u000"), one_of(b, digits));
    }
    return n_kids ? FM_G_SEQ(b, fm_g_str(b, "\\"), fm_g_alt(b, kids, n_kids)) : fm_g_never(b);
}

fm_gnode fm_gjson_class(struct fm_gjson *g, const struct fm_grange *r, int n, bool negated)
{
    struct fm_grange *set = fm_malloc((size_t)(2 * n + 8) * sizeof *set);
    if (!set) {
        g->b->failed = true;
        return FM_GNODE_NONE;
    }
    const int k = normal(r, n, negated, set);
    const fm_gnode escaped = escapes(g->b, set, k);
    /* what may stand as it is: the set without controls, quote and backslash */
    struct fm_grange *plain = fm_malloc((size_t)(3 * k + 3) * sizeof *plain);
    int m = 0;
    for (int i = 0; plain && i < k; i++) {
        static const struct fm_grange open[] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0x10FFFF}};
        for (int j = 0; j < 3; j++) {
            const uint32_t lo = set[i].lo > open[j].lo ? set[i].lo : open[j].lo,
                           hi = set[i].hi < open[j].hi ? set[i].hi : open[j].hi;
            if (lo <= hi && !(lo >= 0xD800 && hi <= 0xDFFF)) plain[m++] = (struct fm_grange){lo, hi};
        }
    }
    g->b->failed |= !plain;
    const fm_gnode out = m ? FM_G_ALT(g->b, fm_g_class(g->b, plain, m, false), escaped) : escaped;
    fm_free(plain);
    fm_free(set);
    return out;
}

fm_gnode fm_gjson_string(struct fm_gjson *g, fm_gnode inside)
{
    return FM_G_SEQ(g->b, fm_g_str(g->b, "\""), inside, fm_g_str(g->b, "\""));
}

static fm_gnode any_string(struct fm_gjson *g)
{
    return fm_gjson_string(g, fm_g_repeat(g->b, fm_gjson_character(g), 0, FM_NO_MAX));
}

fm_gnode fm_gjson_literal(struct fm_gjson *g, const struct fm_py *v)
{
    struct fm_buf text = {0};
    fm_py_write(&text, v, 0);
    g->b->failed |= text.failed;
    const fm_gnode n = g->b->failed ? FM_GNODE_NONE : fm_g_text(g->b, text.data, text.len);
    fm_buf_release(&text);
    return n;
}

/* ---- objects and arrays ---- */

fm_gnode fm_gjson_comma(struct fm_gjson *g, fm_gnode what)
{
    return FM_G_SEQ(g->b, fm_g_str(g->b, ","), fm_gjson_blank(g), what);
}

fm_gnode fm_gjson_key(struct fm_gjson *g, fm_gnode key, fm_gnode value)
{
    return FM_G_SEQ(g->b, key, fm_g_str(g->b, ":"), fm_g_maybe(g->b, fm_g_str(g->b, " ")), value);
}

fm_gnode fm_gjson_object_of(struct fm_gjson *g, fm_gnode members)
{
    return FM_G_SEQ(g->b, fm_g_str(g->b, "{"), fm_gjson_blank(g), members, fm_gjson_blank(g), fm_g_str(g->b, "}"));
}

fm_gnode fm_gjson_array_of(struct fm_gjson *g, fm_gnode items)
{
    return FM_G_SEQ(g->b, fm_g_str(g->b, "["), fm_gjson_blank(g), items, fm_gjson_blank(g), fm_g_str(g->b, "]"));
}

static fm_gnode make_object(struct fm_gjson *g)
{
    const fm_gnode first = fm_gjson_key(g, any_string(g), fm_gjson_value(g)),
                   more = fm_gjson_key(g, any_string(g), fm_gjson_value(g));
    return fm_gjson_object_of(
        g, fm_g_maybe(g->b, FM_G_SEQ(g->b, first, fm_g_repeat(g->b, fm_gjson_comma(g, more), 0, FM_NO_MAX))));
}

fm_gnode fm_gjson_object(struct fm_gjson *g) { return once(g, &g->object, make_object); }

static fm_gnode make_array(struct fm_gjson *g)
{
    const fm_gnode more = fm_g_repeat(g->b, fm_gjson_comma(g, fm_gjson_value(g)), 0, FM_NO_MAX);
    return fm_gjson_array_of(g, fm_g_maybe(g->b, FM_G_SEQ(g->b, fm_gjson_value(g), more)));
}

/* ---- numbers ---- */

static fm_gnode digits(struct fm_gbuild *b, uint32_t min, uint32_t max)
{
    return fm_g_repeat(b, fm_g_class(b, &(struct fm_grange){'0', '9'}, 1, false), min, max);
}

/* At most most digits, which 64 bits or a double hold. */
static fm_gnode whole(struct fm_gbuild *b, uint32_t most)
{
    const fm_gnode first = fm_g_class(b, &(struct fm_grange){'1', '9'}, 1, false);
    return FM_G_SEQ(b, fm_g_maybe(b, fm_g_str(b, "-")),
                    FM_G_ALT(b, fm_g_str(b, "0"), FM_G_SEQ(b, first, digits(b, 0, most - 1))));
}

fm_gnode fm_gjson_integer(struct fm_gjson *g) { return whole(g->b, 18); }

fm_gnode fm_gjson_number(struct fm_gjson *g)
{
    struct fm_gbuild *b = g->b;
    const fm_gnode part = FM_G_SEQ(b, fm_g_str(b, "."), digits(b, 1, 16)),
                   power = FM_G_SEQ(b, one_of(b, "eE"), fm_g_maybe(b, one_of(b, "+-")), digits(b, 1, 2));
    return FM_G_SEQ(b, whole(b, 18), fm_g_maybe(b, part), fm_g_maybe(b, power));
}

/* ---- any value ---- */

static fm_gnode make_value(struct fm_gjson *g)
{
    const fm_gnode words[] = {fm_g_str(g->b, "true"), fm_g_str(g->b, "false"), fm_g_str(g->b, "null")};
    return FM_G_ALT(g->b, any_string(g), fm_gjson_number(g), fm_g_alt(g->b, words, 3), fm_gjson_object(g),
                    once(g, &g->array, make_array));
}

fm_gnode fm_gjson_value(struct fm_gjson *g) { return once(g, &g->value, make_value); }
