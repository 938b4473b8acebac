/* Tool calls while they come: a call is told once its name has come, its arguments piece by piece.  Only what cannot turn out
 * to be a mark is told.  Where a block is not as its dialect has it, nothing more is told; the end decides (parse.c). */
#include <string.h>

#include "base/mem.h"
#include "text/parse.h"

#define D        "｜DSML｜"
#define CALL     "<｜tool▁call▁begin｜>"
#define CALL_END "<｜tool▁call▁end｜>"
#define SEP      "<｜tool▁sep｜>"

/*  BLOCK ─▶ HEAD ─▶ TEXT | JSON ─▶ TAIL ─▶ HEAD …         DSML: HEAD ─▶ PARAMETER ─▶ VALUE ─▶ PARAMETER … ─▶ HEAD */
enum { BLOCK, HEAD, TEXT, JSON, TAIL, PARAMETER, VALUE, STUCK };
enum found { NO, YES, MORE };

struct cursor {
    const char *p, *end;
};

/* MORE: what is here is the beginning of the word. */
static enum found lit(struct cursor *c, const char *word)
{
    const size_t n = strlen(word), have = (size_t)(c->end - c->p), k = n < have ? n : have;
    if (memcmp(c->p, word, k) != 0) return NO;
    if (have < n) return MORE;
    c->p += n;
    return YES;
}

static enum found until(struct cursor *c, const char *mark, struct fm_span *before)
{
    const char *hit = memmem(c->p, (size_t)(c->end - c->p), mark, strlen(mark));
    if (!hit) return MORE;
    *before = (struct fm_span){c->p, (size_t)(hit - c->p)};
    c->p = hit + strlen(mark);
    return YES;
}

static void blanks(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\n' || *c->p == '\r' || *c->p == '\t')) c->p++;
}

/* Words with blanks in front of each. */
static enum found words(struct cursor *c, const char *const *list)
{
    enum found f = YES;
    for (; *list && f == YES; list++) {
        blanks(c);
        f = lit(c, *list);
    }
    return f;
}

/* ---- telling ---- */

static void tell(struct fm_parser *p, const char *s, size_t n)
{
    if (!n) return;
    struct fm_told_call *t = &p->told[p->n_told - 1];
    fm_buf_add(&t->arguments, s, n);
    p->failed |= t->arguments.failed;
    if (!p->failed) p->on_call(p->arg, p->n_told - 1, NULL, 0, s, n);
}

static void tell_call(struct fm_parser *p, struct fm_span name)
{
    if (p->n_told == p->cap_told) {
        const size_t cap = p->cap_told ? 2 * p->cap_told : 4;
        void *room = fm_realloc(p->told, cap * sizeof *p->told);
        if (!room) {
            p->failed = true;
            return;
        }
        p->told = room;
        p->cap_told = cap;
    }
    struct fm_told_call *t = &p->told[p->n_told++];
    *t = (struct fm_told_call){0};
    fm_buf_add(&t->name, name.s, name.n);
    fm_buf_add(&t->arguments, "", 0);
    p->failed |= t->name.failed || t->arguments.failed;
    if (!p->failed) p->on_call(p->arg, p->n_told - 1, t->name.data, t->name.len, NULL, 0);
}

/* A string's inside, escaped. */
static void tell_escaped(struct fm_parser *p, const char *s, size_t n)
{
    struct fm_buf b = {0};
    fm_py_write_text(&b, s, n);
    p->failed |= b.failed;
    if (!p->failed) tell(p, b.data + 1, b.len - 2);
    fm_buf_release(&b);
}

/* How many bytes stand in front of the mark, or of what may become one; *whole: all of the mark is here. */
static size_t sure_before(const struct cursor *c, const char *mark, bool *whole)
{
    const size_t len = (size_t)(c->end - c->p), n = strlen(mark);
    const char *hit = memmem(c->p, len, mark, n);
    *whole = hit != NULL;
    if (hit) return (size_t)(hit - c->p);
    for (size_t k = n - 1 < len ? n - 1 : len; k > 0; k--)
        if (!memcmp(c->end - k, mark, k)) return len - k;
    return len;
}

/* ---- steps: YES, when there may be more to do ---- */

static enum found block(struct fm_parser *p, struct cursor *c)
{
    static const char *const opens[FM_CALLS_COUNT] = {[FM_CALLS_FENCED] = "<｜tool▁calls▁begin｜>",
                                                      [FM_CALLS_BARE] = "<｜tool▁calls▁begin｜>",
                                                      [FM_CALLS_V32] = "\n\n<" D "function_calls>\n",
                                                      [FM_CALLS_V4] = "\n\n<" D "tool_calls>\n"};
    const char *open = opens[p->rules->calls];
    if (open) return lit(c, open);
    blanks(c);
    if (p->rules->calls != FM_CALLS_OBJECT || c->p == c->end || *c->p == '{') return c->p == c->end ? MORE : YES;
    return lit(c, "<|python_tag|>");
}

/* {"name": "N", "arguments": in front of the arguments, which have to be an object. */
static enum found json_head(struct cursor *c, struct fm_span *name)
{
    static const char *const front[] = {"{", "\"name\"", ":", "\"", NULL}, *const next[] = {",", NULL},
                             *const one[] = {"\"arguments\"", ":", NULL},
                             *const other[] = {"\"parameters\"", ":", NULL};
    enum found f = words(c, front);
    if (f == YES) f = until(c, "\"", name);
    if (f != YES) return f;
    if (memchr(name->s, '\\', name->n)) return NO; /* the end can read it */
    f = words(c, next);
    if (f != YES) return f;
    struct cursor a = *c, b = *c;
    const enum found is_a = words(&a, one), is_b = words(&b, other);
    if (is_a != YES && is_b != YES) return is_a == MORE || is_b == MORE ? MORE : NO;
    *c = is_a == YES ? a : b;
    blanks(c);
    return c->p == c->end ? MORE : *c->p == '{' ? YES : NO;
}

static enum found head(struct fm_parser *p, struct cursor *c)
{
    const enum fm_calls kind = p->rules->calls;
    struct fm_span name = {NULL, 0}, type;
    enum found f = YES;
    if (kind == FM_CALLS_V32 || kind == FM_CALLS_V4) {
        f = lit(c, "<" D "invoke name=\"");
        if (f == YES) f = until(c, "\">\n", &name);
    } else if (kind == FM_CALLS_FENCED || kind == FM_CALLS_BARE) {
        if (c->p < c->end && *c->p == '\n') c->p++;
        f = lit(c, CALL);
        if (f == YES) f = until(c, SEP, kind == FM_CALLS_BARE ? &name : &type);
        if (f == YES && kind == FM_CALLS_FENCED) f = until(c, "\n```json\n", &name);
    } else {
        blanks(c);
        if (kind == FM_CALLS_HERMES) f = lit(c, "<tool_call>");
        if (f == YES) f = json_head(c, &name);
    }
    if (f != YES) return f;
    tell_call(p, name);
    p->step = kind == FM_CALLS_V32 || kind == FM_CALLS_V4        ? PARAMETER
              : kind == FM_CALLS_FENCED || kind == FM_CALLS_BARE ? TEXT
                                                                 : JSON;
    p->depth = 0;
    p->in_string = p->escaped = false;
    if (p->step == PARAMETER && !p->failed) tell(p, "{", 1);
    return YES;
}

/* Arguments up to the mark that ends a call. */
static enum found text(struct fm_parser *p, struct cursor *c)
{
    const bool fenced = p->rules->calls == FM_CALLS_FENCED;
    const char *const marks[2] = {fenced ? "\n```" CALL_END : CALL_END, fenced ? "\n```\n" CALL_END : CALL_END};
    bool whole[2];
    const size_t n[2] = {sure_before(c, marks[0], &whole[0]), sure_before(c, marks[1], &whole[1])};
    const int first = n[1] < n[0];
    tell(p, c->p, n[first]);
    c->p += n[first];
    for (int i = 0; i < 2; i++) {
        if (!whole[i] || n[i] != n[first]) continue;
        c->p += strlen(marks[i]);
        p->step = HEAD;
        return YES;
    }
    return MORE;
}

/* An object's text: until all that was opened is closed. */
static enum found json(struct fm_parser *p, struct cursor *c)
{
    const char *from = c->p;
    for (; c->p < c->end && p->step == JSON; c->p++) {
        const char x = *c->p;
        if (p->in_string) {
            p->in_string = x != '"' || p->escaped;
            p->escaped = x == '\\' && !p->escaped;
        } else if (x == '"') {
            p->in_string = true;
        } else if (x == '{' || x == '[') {
            p->depth++;
        } else if ((x == '}' || x == ']') && --p->depth == 0) {
            p->step = TAIL;
        }
    }
    tell(p, from, (size_t)(c->p - from));
    return p->step == TAIL ? YES : MORE;
}

static enum found tail(struct fm_parser *p, struct cursor *c)
{
    static const char *const close[] = {"}", "</tool_call>", NULL};
    if (p->rules->calls == FM_CALLS_OBJECT) return NO; /* one call, and it is all told */
    const enum found f = words(c, close);
    if (f == YES) p->step = HEAD;
    return f;
}

static enum found parameter(struct fm_parser *p, struct cursor *c)
{
    struct cursor a = *c, b = *c;
    struct fm_span key;
    enum found is_a = lit(&a, "<" D "parameter name=\"");
    if (b.p < b.end && *b.p == '\n') b.p++; /* of a call without parameters */
    const enum found is_b = lit(&b, "</" D "invoke>\n");
    if (is_b == YES) {
        *c = b;
        tell(p, "}", 1);
        p->step = HEAD;
        return YES;
    }
    if (is_a == YES) is_a = until(&a, "\" string=\"", &key);
    if (is_a != YES) return is_a == MORE || is_b == MORE ? MORE : NO;
    struct cursor yes = a, no = a;
    const enum found is_text = lit(&yes, "true\">"), is_json = lit(&no, "false\">");
    if (is_text != YES && is_json != YES) return is_text == MORE || is_json == MORE ? MORE : NO;
    if (p->told[p->n_told - 1].arguments.len > 1) tell(p, ", ", 2);
    tell(p, "\"", 1);
    tell_escaped(p, key.s, key.n);
    p->in_string = is_text == YES;
    tell(p, p->in_string ? "\": \"" : "\": ", p->in_string ? 4 : 3);
    *c = p->in_string ? yes : no;
    p->step = VALUE;
    return YES;
}

/* How many of the bytes are whole characters, or never become one: half of one is escaped as something else. */
static size_t whole_characters(const char *s, size_t n)
{
    for (size_t k = 1; k <= 3 && k <= n; k++) {
        const unsigned char lead = (unsigned char)s[n - k];
        if ((lead & 0xC0) == 0x80) continue;
        return k < (lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1) ? n - k : n;
    }
    return n;
}

static enum found value(struct fm_parser *p, struct cursor *c)
{
    static const char mark[] = "</" D "parameter>\n";
    bool whole;
    const size_t sure = sure_before(c, mark, &whole), n = whole ? sure : whole_characters(c->p, sure);
    if (p->in_string)
        tell_escaped(p, c->p, n);
    else
        tell(p, c->p, n);
    c->p += n;
    if (!whole) return MORE;
    c->p += sizeof mark - 1;
    if (p->in_string) tell(p, "\"", 1);
    p->step = PARAMETER;
    return YES;
}

void fm_calls_tell(struct fm_parser *p)
{
    static enum found (*const steps[])(struct fm_parser *, struct cursor *) = {
        [BLOCK] = block, [HEAD] = head,           [TEXT] = text,  [JSON] = json,
        [TAIL] = tail,   [PARAMETER] = parameter, [VALUE] = value};
    while (p->on_call && p->step != STUCK && !p->failed) {
        struct cursor c = {p->held.data + p->told_at, p->held.data + p->held.len};
        const int step = p->step;
        const enum found f = steps[step](p, &c);
        /* what was told is dealt with, even where more is wanted */
        if (f == YES || step == TEXT || step == JSON || step == VALUE) p->told_at = (size_t)(c.p - p->held.data);
        if (f == YES && step == BLOCK) p->step = HEAD;
        if (f == NO) p->step = STUCK;
        if (f != YES) return;
    }
}

void fm_calls_told_release(struct fm_parser *p)
{
    for (size_t i = 0; i < p->n_told; i++) {
        fm_buf_release(&p->told[i].name);
        fm_buf_release(&p->told[i].arguments);
    }
    fm_free(p->told);
    p->told = NULL;
    p->n_told = 0;
}
