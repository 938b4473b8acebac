/* GBNF, the notation of grammars that users of llama.cpp know:
 *
 *   root   ::= "yes" | "no" | number       # a comment
 *   number ::= "-"? [0-9]+ ("." [0-9]{1,3})?
 *
 * literals with \n \r \t \\ \" \[ \] \xHH \uHHHH \UHHHHHHHH; classes [a-z_] [^"]; . any character; ( ) | * + ? {n} {n,} {n,m}
 * {,m}; <…> a control token by its text, brackets included.  A rule ends where the next one begins. */
#include <string.h>

#include "text/grammar.h"

enum { NAMED_RULES = 4096, PARTS = 1 << 16 };

struct reader {
    struct fm_gbuild *b;
    const char *p, *end, *what;
    struct fm_error *err;
    int line, depth;
    bool bad;
};

static fm_gnode fail(struct reader *r, const char *why)
{
    if (!r->bad) (void)fm_fail(r->err, FM_ERR_INPUT, "%s: line %d: %s", r->what, r->line, why);
    r->bad = true;
    return FM_GNODE_NONE;
}

static void blanks(struct reader *r)
{
    for (; r->p < r->end; r->p++) {
        if (*r->p == '#')
            while (r->p + 1 < r->end && r->p[1] != '\n') r->p++;
        else if (*r->p == '\n')
            r->line++;
        else if (*r->p != ' ' && *r->p != '\t' && *r->p != '\r')
            return;
    }
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static size_t name_length(const struct reader *r)
{
    size_t n = 0;
    while (r->p + n < r->end && is_name(r->p[n])) n++;
    return n;
}

static bool next_is(const struct reader *r, const char *s, size_t n)
{
    return (size_t)(r->end - r->p) >= n && !memcmp(r->p, s, n);
}

/* Whether `name ::=` stands here. */
static bool at_rule(const struct reader *r)
{
    struct reader a = *r;
    const size_t n = name_length(r);
    a.p += n;
    if (n) blanks(&a);
    return n && next_is(&a, "::=", 3);
}

static int rule_named(struct reader *r, size_t n)
{
    int rule = fm_grule_find(r->b, r->p, n);
    if (rule < 0 && r->b->n_rules == NAMED_RULES) r->b->too_large = true;
    if (rule < 0 && !r->b->too_large) rule = fm_grule_new(r->b, r->p, n, r->line);
    r->p += n;
    return rule;
}

/* ---- characters ---- */

static bool hex(struct reader *r, int n, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < n; i++, r->p++) {
        const char c = r->p < r->end ? *r->p : 0;
        const int d = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
        if (d < 0) {
            (void)fail(r, "an escape lacks digits");
            return false;
        }
        *out = *out << 4 | (uint32_t)d;
    }
    return true;
}

/* One character of a literal or class; escaped ones may be such as have a meaning there. */
static bool character(struct reader *r, uint32_t *out)
{
    if (r->p < r->end && *r->p != '\\') {
        int used;
        const int32_t c = fm_utf8_decode(r->p, (size_t)(r->end - r->p), &used);
        if (c < 0 || c == '\n')
            (void)fail(r, c < 0 ? "a character is no UTF-8" : "a line ends inside a literal or class");
        r->p += used;
        *out = (uint32_t)c;
        return !r->bad;
    }
    const char c = r->end - r->p > 1 ? r->p[1] : 0;
    r->p += 2;
    *out = c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : (uint32_t)(unsigned char)c;
    if (c == 'x') return hex(r, 2, out);
    if (c == 'u' || c == 'U') {
        if (!hex(r, c == 'u' ? 4 : 8, out)) return false;
        if (*out <= 0x10FFFF && (*out < 0xD800 || *out > 0xDFFF)) return true;
        (void)fail(r, "an escape is no character");
        return false;
    }
    if (c && strchr("nrt\\\"[]-^'", c)) return true;
    (void)fail(r, "an escape is not known");
    return false;
}

static fm_gnode literal(struct reader *r)
{
    struct fm_buf text = {0};
    uint32_t c;
    r->p++;
    while (r->p < r->end && *r->p != '"' && character(r, &c)) fm_buf_utf8(&text, c);
    if (r->p >= r->end && !r->bad) (void)fail(r, "a literal is not closed");
    r->p++;
    r->b->failed |= text.failed;
    const fm_gnode n = r->bad ? FM_GNODE_NONE : fm_g_text(r->b, text.data ? text.data : "", text.len);
    fm_buf_release(&text);
    return n;
}

static fm_gnode class(struct reader *r)
{
    enum { MOST = 1024 };
    struct fm_grange ranges[MOST];
    int n = 0;
    const bool negated = r->p + 1 < r->end && r->p[1] == '^';
    r->p += negated ? 2 : 1;
    while (!r->bad && r->p < r->end && *r->p != ']') {
        struct fm_grange x;
        if (n == MOST) return fail(r, "a class has too many ranges");
        if (!character(r, &x.lo)) break;
        x.hi = x.lo;
        if (r->end - r->p > 1 && r->p[0] == '-' && r->p[1] != ']') {
            r->p++;
            if (!character(r, &x.hi)) break;
        }
        if (x.hi < x.lo) return fail(r, "a range of a class runs backwards");
        ranges[n++] = x;
    }
    if (r->p >= r->end && !r->bad) return fail(r, "a class is not closed");
    r->p++;
    return r->bad ? FM_GNODE_NONE : fm_g_class(r->b, ranges, n, negated);
}

static fm_gnode mark(struct reader *r)
{
    char text[128];
    const char *close = memchr(r->p, '>', (size_t)(r->end - r->p));
    const size_t n = close ? (size_t)(close + 1 - r->p) : 0;
    if (!n || n >= sizeof text || memchr(r->p, '\n', n) || memchr(r->p, 0, n))
        return fail(r, "a control token <…> is not closed, or too long");
    memcpy(text, r->p, n);
    text[n] = 0;
    r->p += n;
    return fm_g_mark(r->b, text);
}

/* ---- expressions ---- */

static fm_gnode alternatives(struct reader *r);

static fm_gnode group(struct reader *r)
{
    if (++r->depth > FM_GRAMMAR_DEPTH) return fail(r, "groups lie too deep in each other");
    r->p++;
    const fm_gnode n = alternatives(r);
    if (!r->bad && (r->p >= r->end || *r->p != ')')) return fail(r, "a group is not closed");
    r->p++;
    r->depth--;
    return n;
}

static bool number(struct reader *r, uint32_t *out)
{
    const char *from = r->p;
    *out = 0;
    for (; r->p < r->end && *r->p >= '0' && *r->p <= '9'; r->p++)
        if ((*out = *out * 10 + (uint32_t)(*r->p - '0')) > FM_GRAMMAR_REPEAT) {
            (void)fail(r, "a bound of a repetition is too large");
            return false;
        }
    return r->p > from;
}

static fm_gnode bounded(struct reader *r, fm_gnode n)
{
    uint32_t min = 0, max = FM_NO_MAX;
    r->p++;
    blanks(r);
    const bool has_min = number(r, &min);
    blanks(r);
    const bool comma = r->p < r->end && *r->p == ',';
    if (comma) r->p++;
    blanks(r);
    const bool has_max = comma && number(r, &max);
    if (!has_max) max = comma ? FM_NO_MAX : min;
    blanks(r);
    if (r->bad) return FM_GNODE_NONE;
    if ((!has_min && !has_max) || r->p >= r->end || *r->p != '}')
        return fail(r, "a repetition is not {n}, {n,} or {n,m}");
    if (max < min) return fail(r, "a repetition's bounds run backwards");
    r->p++;
    return fm_g_repeat(r->b, n, min, max);
}

static fm_gnode repeated(struct reader *r, fm_gnode n)
{
    for (int i = 0; !r->bad && r->p < r->end; i++) {
        if (i == FM_GRAMMAR_DEPTH) return fail(r, "too many repetitions of one thing");
        const char c = *r->p;
        if (c == '{')
            n = bounded(r, n);
        else if (c == '*' || c == '+' || c == '?')
            n = fm_g_repeat(r->b, n, c == '+', c == '?' ? 1 : FM_NO_MAX), r->p++;
        else
            break;
        blanks(r);
    }
    return n;
}

static fm_gnode item(struct reader *r)
{
    const char c = *r->p;
    const size_t n = name_length(r);
    if (n) return fm_g_rule(r->b, rule_named(r, n));
    if (c == '"') return literal(r);
    if (c == '[') return class(r);
    if (c == '(') return group(r);
    if (c == '<') return mark(r);
    if (c != '.') return fail(r, "something that is no literal, class, group or name");
    r->p++;
    return fm_g_class(r->b, NULL, 0, true);
}

/* A list of nodes that grows in pairs, so that it needs no memory of its own: a seq of seqs is a seq. */
static fm_gnode sequence(struct reader *r)
{
    fm_gnode parts[256];
    int n = 0;
    for (blanks(r); !r->bad && r->p < r->end && *r->p != '|' && *r->p != ')' && !at_rule(r); blanks(r)) {
        if (n == 256) {
            parts[0] = fm_g_seq(r->b, parts, n);
            n = 1;
        }
        const fm_gnode one = item(r);
        blanks(r);
        parts[n++] = repeated(r, one);
    }
    return r->bad ? FM_GNODE_NONE : fm_g_seq(r->b, parts, n);
}

static fm_gnode alternatives(struct reader *r)
{
    fm_gnode parts[256];
    int n = 0;
    for (;;) {
        if (n == 256) {
            parts[0] = fm_g_alt(r->b, parts, n);
            n = 1;
        }
        parts[n++] = sequence(r);
        if (r->bad || r->p >= r->end || *r->p != '|') break;
        r->p++;
    }
    return r->bad ? FM_GNODE_NONE : fm_g_alt(r->b, parts, n);
}

static void rule(struct reader *r)
{
    if (!at_rule(r)) {
        (void)fail(r, "not `name ::= …`");
        return;
    }
    const int line = r->line, it = rule_named(r, name_length(r));
    if (it < 0) return;
    if (r->b->rules[it].defined) {
        (void)fail(r, "the rule is defined a second time");
        return;
    }
    r->b->rules[it].line = line;
    blanks(r);
    r->p += 3;
    const fm_gnode body = alternatives(r);
    if (!r->bad && r->p < r->end && *r->p == ')') (void)fail(r, "a group is closed that was not opened");
    fm_grule_define(r->b, it, body);
}

enum fm_status fm_gbnf_parse(struct fm_gbuild *b, const char *text, size_t n, const char *what, int *root,
                             struct fm_error *err)
{
    struct reader r = {.b = b, .p = text, .end = text + n, .what = what, .err = err, .line = 1};
    const int first = b->n_rules;
    if (n > FM_GRAMMAR_TEXT) return fm_fail(err, FM_ERR_INPUT, "%s: more than %d bytes", what, FM_GRAMMAR_TEXT);
    for (blanks(&r); !r.bad && !b->failed && !b->too_large && r.p < r.end; blanks(&r)) rule(&r);
    if (r.bad) return FM_ERR_INPUT;
    if (b->failed) return fm_fail_memory(err, "a grammar", n);
    if (b->too_large) return fm_fail(err, FM_ERR_INPUT, "%s: it is too large", what);
    if (b->n_rules == first) return fm_fail(err, FM_ERR_INPUT, "%s: line 1: there is no rule", what);
    *root = fm_grule_find(b, "root", 4);
    if (*root < 0) *root = first;
    return FM_OK;
}
