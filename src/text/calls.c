/* Tool blocks of finished answers, one grammar per kind.  DSML is as strict as the official parsers, models.md §12.6. */
#include <string.h>

#include "base/mem.h"
#include "text/parse.h"

void fm_calls_drop(struct fm_parser *p, size_t keep)
{
    while (p->n_calls > keep) {
        struct fm_said_call *c = &p->calls[--p->n_calls];
        fm_free(c->name);
        fm_free(c->arguments);
    }
}

struct cursor {
    const char *p, *end;
};

/* Moves behind the word when it is next. */
static bool lit(struct cursor *c, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(c->end - c->p) < n || memcmp(c->p, word, n) != 0) return false;
    c->p += n;
    return true;
}

/* What stands before the mark; moves behind the mark. */
static bool until(struct cursor *c, const char *mark, struct fm_span *before)
{
    size_t n = strlen(mark);
    const char *hit = c->p < c->end ? memmem(c->p, (size_t)(c->end - c->p), mark, n) : NULL;
    if (!hit) return false;
    *before = (struct fm_span){c->p, (size_t)(hit - c->p)};
    c->p = hit + n;
    return true;
}

static void blanks(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\n' || *c->p == '\r' || *c->p == '\t')) c->p++;
}

static char *copy(struct fm_span s)
{
    char *p = fm_malloc(s.n + 1);
    if (!p) return NULL;
    if (s.n) memcpy(p, s.s, s.n);
    p[s.n] = 0;
    return p;
}

bool fm_calls_add(struct fm_parser *p, struct fm_span name, struct fm_span arguments)
{
    if (p->n_calls == p->cap_calls) {
        size_t cap = p->cap_calls ? 2 * p->cap_calls : 4;
        void *calls = fm_realloc(p->calls, cap * sizeof *p->calls);
        if (!calls) {
            p->failed = true;
            return false;
        }
        p->calls = calls;
        p->cap_calls = cap;
    }
    struct fm_said_call c = {copy(name), copy(arguments), name.n, arguments.n};
    if (c.name && c.arguments) {
        p->calls[p->n_calls++] = c;
        return true;
    }
    fm_free(c.name);
    fm_free(c.arguments);
    p->failed = true;
    return false;
}

/* ---- DSML ---- */

#define D "｜DSML｜"

static bool ends_with(struct fm_span s, const char *tail)
{
    size_t n = strlen(tail);
    return s.n >= n && !memcmp(s.s + s.n - n, tail, n);
}

/* ` name="N">\n`, and one more newline in front of `</D invoke` when there are no parameters. */
static bool dsml_header(struct fm_span h, struct fm_span *name)
{
    struct cursor c = {h.s, h.s + h.n};
    size_t tail = ends_with(h, "\">\n\n") ? 4 : ends_with(h, "\">\n") ? 3 : 0;
    blanks(&c);
    if (!tail || !lit(&c, "name=\"") || (size_t)(c.end - c.p) < tail) return false;
    *name = (struct fm_span){c.p, (size_t)(c.end - c.p) - tail};
    return true;
}

/* ` name="K" string="true|false">V<` of a parameter, whose `/D parameter` was taken off. */
static bool dsml_parameter(struct fm_span s, struct fm_span *key, struct fm_span *value, bool *string)
{
    static const char yes[] = "\" string=\"true\">", no[] = "\" string=\"false\">";
    struct cursor c = {s.s, s.s + s.n}, a, b;
    struct fm_span ka, kb;
    if (!s.n || s.s[s.n - 1] != '<' || !lit(&c, " name=\"")) return false;
    c.end--;
    a = b = c;
    bool is_a = until(&a, yes, &ka), is_b = until(&b, no, &kb);
    if (!is_a && !is_b) return false;
    *string = is_a && (!is_b || ka.n < kb.n);
    *key = *string ? ka : kb;
    c.p = *string ? a.p : b.p;
    *value = (struct fm_span){c.p, (size_t)(c.end - c.p)};
    return true;
}

/* Behind `<D invoke`; ends behind `</D invoke`. */
static bool dsml_invoke(struct fm_parser *p, struct cursor *c)
{
    enum { MAX = 1024 };
    struct cursor inner = *c;
    struct fm_span header, whole, name, part, key, value, *keys = NULL;
    size_t n = 0;
    bool string, has_parameter, ok = false;
    struct fm_buf args = {0};
    if (!until(c, "</" D "invoke", &whole)) return false;
    const struct cursor behind = *c;
    inner.end = whole.s + whole.n; /* looked for no further than this call */
    has_parameter = until(&inner, "<" D "parameter", &header);
    *c = has_parameter ? (struct cursor){inner.p, behind.end} : behind;
    if (!dsml_header(has_parameter ? header : whole, &name)) return false;
    if (!(keys = fm_malloc(MAX * sizeof *keys))) {
        p->failed = true;
        return false;
    }
    fm_buf_char(&args, '{');
    for (bool more = has_parameter; more;) {
        if (n == MAX || !until(c, "/" D "parameter", &part) || !dsml_parameter(part, &key, &value, &string)) goto out;
        for (size_t i = 0; i < n; i++)
            if (keys[i].n == key.n && !memcmp(keys[i].s, key.s, key.n)) goto out;
        if (n) fm_buf_str(&args, ", ");
        keys[n++] = key;
        fm_py_write_string(&args, key);
        fm_buf_str(&args, ": ");
        if (string)
            fm_py_write_string(&args, value);
        else
            fm_buf_add(&args, value.s, value.n);
        if (!lit(c, ">\n")) goto out;
        more = lit(c, "<" D "parameter");
        if (!more && !lit(c, "</" D "invoke")) goto out;
    }
    fm_buf_char(&args, '}');
    p->failed |= args.failed;
    ok = !args.failed && fm_calls_add(p, name, (struct fm_span){args.data, args.len});
out:
    fm_buf_release(&args);
    fm_free(keys);
    return ok;
}

static bool parse_dsml(struct fm_parser *p, struct cursor *c, const char *start, const char *close)
{
    if (!lit(c, start)) return false;
    for (;;) {
        if (!lit(c, ">\n")) return false;
        if (lit(c, close)) return true;
        if (!lit(c, "<" D "invoke") || !dsml_invoke(p, c)) return false;
    }
}

static bool parse_v32(struct fm_parser *p, struct cursor *c)
{
    return parse_dsml(p, c, "\n\n<" D "function_calls", "</" D "function_calls>");
}

static bool parse_v4(struct fm_parser *p, struct cursor *c)
{
    return parse_dsml(p, c, "\n\n<" D "tool_calls", "</" D "tool_calls>");
}

/* ---- JSON between marks ---- */

#define CALLS     "<｜tool▁calls▁begin｜>"
#define CALLS_END "<｜tool▁calls▁end｜>"
#define CALL      "<｜tool▁call▁begin｜>"
#define CALL_END  "<｜tool▁call▁end｜>"
#define SEP       "<｜tool▁sep｜>"

static bool is_object(struct fm_parser *p, struct fm_span s)
{
    struct fm_py_doc doc = {0};
    const struct fm_py *v;
    enum fm_status st = fm_py_parse(&doc, s.s, s.n, "", &v, NULL);
    bool ok = !st && v->kind == FM_PY_OBJECT;
    p->failed |= st == FM_ERR_MEMORY;
    fm_py_release(&doc);
    return ok;
}

static bool parse_fenced(struct fm_parser *p, struct cursor *c)
{
    struct fm_span type, name, args;
    if (!lit(c, CALLS)) return false;
    while (lit(c, CALL)) {
        if (!until(c, SEP, &type) || !until(c, "\n```json\n", &name)) return false;
        struct cursor a = *c;
        if (!until(&a, CALL_END, &args)) return false;
        *c = a;
        if (args.n && args.s[args.n - 1] == '\n') args.n--; /* some write one more newline */
        if (!ends_with(args, "\n```")) return false;
        args.n -= 4;
        if (!is_object(p, args) || !fm_calls_add(p, name, args)) return false;
        lit(c, "\n");
    }
    return lit(c, CALLS_END);
}

static bool parse_bare(struct fm_parser *p, struct cursor *c)
{
    struct fm_span name, args;
    if (!lit(c, CALLS)) return false;
    while (lit(c, CALL))
        if (!until(c, SEP, &name) || !until(c, CALL_END, &args) || !is_object(p, args) || !fm_calls_add(p, name, args))
            return false;
    return lit(c, CALLS_END);
}

/* {"name": …, "arguments" or "parameters": {…}}; arguments may be a string that holds the object. */
static bool add_json(struct fm_parser *p, struct fm_span s)
{
    struct fm_py_doc doc = {0};
    struct fm_buf args = {0};
    const struct fm_py *v = NULL;
    enum fm_status st = fm_py_parse(&doc, s.s, s.n, "", &v, NULL);
    const struct fm_py *name = st ? NULL : fm_py_get(v, "name"), *a = st ? NULL : fm_py_get(v, "arguments");
    if (!st && !a) a = fm_py_get(v, "parameters");
    bool ok = name && name->kind == FM_PY_STRING && a;
    if (ok && a->kind == FM_PY_OBJECT)
        fm_py_write(&args, a, 0);
    else if (ok && a->kind == FM_PY_STRING && is_object(p, a->text))
        fm_buf_add(&args, a->text.s, a->text.n);
    else
        ok = false;
    p->failed |= st == FM_ERR_MEMORY || args.failed;
    ok = ok && !p->failed && fm_calls_add(p, name->text, (struct fm_span){args.data, args.len});
    fm_buf_release(&args);
    fm_py_release(&doc);
    return ok;
}

/* An argument may itself contain the closing mark: then the JSON ends at a later one. */
static bool hermes_call(struct fm_parser *p, struct cursor *c)
{
    struct cursor a = *c;
    struct fm_span part;
    for (int tries = 0; tries < 16 && until(&a, "</tool_call>", &part); tries++) {
        part.n += (size_t)(part.s - c->p);
        part.s = c->p;
        if (!add_json(p, part)) continue;
        *c = a;
        return true;
    }
    return false;
}

static bool parse_hermes(struct fm_parser *p, struct cursor *c)
{
    size_t n = 0;
    blanks(c);
    while (lit(c, "<tool_call>")) {
        if (!hermes_call(p, c)) return false;
        blanks(c);
        n++;
    }
    return n > 0;
}

/* name.call(k="v", …), behind <|python_tag|> */
static bool python_call(struct fm_parser *p, struct cursor *c)
{
    struct fm_span name, key, value;
    struct fm_buf args = {0};
    bool ok = until(c, ".call(", &name) && name.n, first = true;
    fm_buf_char(&args, '{');
    while (ok && !lit(c, ")")) {
        ok = (first || lit(c, ", ")) && until(c, "=\"", &key) && until(c, "\"", &value);
        if (!ok) break;
        if (!first) fm_buf_str(&args, ", ");
        fm_py_write_string(&args, key);
        fm_buf_str(&args, ": ");
        fm_py_write_string(&args, value);
        first = false;
    }
    fm_buf_char(&args, '}');
    p->failed |= args.failed;
    ok = ok && !p->failed && fm_calls_add(p, name, (struct fm_span){args.data, args.len});
    fm_buf_release(&args);
    return ok;
}

/* Up to the end token, or to the end. */
static bool parse_object(struct fm_parser *p, struct cursor *c)
{
    const char *end = c->end;
    for (int i = 0; i < 3 && p->rules->ends[i]; i++) {
        struct cursor a = {c->p, end};
        struct fm_span s;
        if (until(&a, p->rules->ends[i], &s)) end = s.s + s.n;
    }
    struct cursor mine = {c->p, end};
    blanks(&mine);
    bool tag = lit(&mine, "<|python_tag|>");
    if (!tag || (mine.p < end && *mine.p == '{')) {
        c->p = end;
        return add_json(p, (struct fm_span){mine.p, (size_t)(end - mine.p)});
    }
    bool ok = python_call(p, &mine) && mine.p == end;
    c->p = end;
    return ok;
}

bool fm_calls_parse(struct fm_parser *p, const char *s, size_t n, size_t *used)
{
    static bool (*const parse[FM_CALLS_COUNT])(struct fm_parser *, struct cursor *) = {
        [FM_CALLS_FENCED] = parse_fenced, [FM_CALLS_BARE] = parse_bare,     [FM_CALLS_V32] = parse_v32,
        [FM_CALLS_V4] = parse_v4,         [FM_CALLS_HERMES] = parse_hermes, [FM_CALLS_OBJECT] = parse_object};
    struct cursor c = {s, s + n};
    size_t before = p->n_calls;
    if (parse[p->rules->calls] && parse[p->rules->calls](p, &c)) {
        *used = (size_t)(c.p - s);
        return true;
    }
    fm_calls_drop(p, before);
    return false;
}
