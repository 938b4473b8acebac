/* See pre.h. */
#include "text/pre.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"

void fm_pre_release(struct fm_pre *p)
{
    for (int i = 0; i < p->n; i++) {
        fm_free(p->steps[i].pattern);
        fm_regex_free(p->steps[i].regex);
    }
    *p = (struct fm_pre){0};
}

enum fm_status fm_pre_add(struct fm_pre *p, const char *pattern, enum fm_split split, bool invert, const char *where,
                          struct fm_error *err)
{
    if (p->n == FM_PRE_STEPS)
        return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: more than %d pre-tokenizer steps", where, FM_PRE_STEPS);
    struct fm_regex *regex;
    FM_TRY(fm_regex_new(pattern, where, &regex, err));
    char *copy = fm_strdup(pattern);
    if (!copy) {
        fm_regex_free(regex);
        return fm_fail_memory(err, "pre-tokenizer", strlen(pattern));
    }
    p->steps[p->n++] = (struct fm_pre_step){copy, regex, split, invert};
    return FM_OK;
}

enum fm_status fm_pre_add_name(struct fm_pre *p, const struct fm_pre_name *name, struct fm_error *err)
{
    for (int i = 0; name->patterns[i]; i++)
        FM_TRY(fm_pre_add(p, name->patterns[i], FM_SPLIT_ISOLATED, false, name->name, err));
    p->name = name;
    return FM_OK;
}

static bool same_steps(const struct fm_pre *p, const struct fm_pre_name *name)
{
    for (int i = 0; i < p->n; i++) {
        const struct fm_pre_step *s = &p->steps[i];
        if (!name->patterns[i] || s->split != FM_SPLIT_ISOLATED || strcmp(name->patterns[i], s->pattern)) return false;
    }
    return !name->patterns[p->n];
}

void fm_pre_recognise(struct fm_pre *p)
{
    p->name = NULL;
    for (int i = 0; fm_pre_at(i) && !p->name; i++)
        if (same_steps(p, fm_pre_at(i))) p->name = fm_pre_at(i);
}

/* ---- walking ---- */

struct walk {
    const struct fm_pre *pre;
    struct fm_regex_run *run;
    fm_piece_fn fn;
    void *arg;
    struct fm_error *err;
};

static enum fm_status split_step(const struct walk *w, int step, const char *text, size_t n);

/* One piece that may still grow: [begin, end) of text. */
struct open_piece {
    size_t begin, end;
    bool any, match;
};

static enum fm_status flush(const struct walk *w, int step, const char *text, struct open_piece *o)
{
    if (!o->any) return FM_OK;
    o->any = false;
    return split_step(w, step + 1, text + o->begin, o->end - o->begin);
}

/* Hand on the stretch [begin, end), a match or a gap, by the rules of enum fm_split. */
static enum fm_status take(const struct walk *w, int step, const char *text, struct open_piece *o, size_t begin,
                           size_t end, bool match)
{
    const struct fm_pre_step *s = &w->pre->steps[step];
    if (begin == end) return FM_OK;
    match ^= s->invert;
    bool join = false;
    if (s->split == FM_SPLIT_PREVIOUS) join = match && !o->match;
    if (s->split == FM_SPLIT_NEXT) join = !match && o->match;
    if (s->split == FM_SPLIT_CONTIGUOUS) join = match == o->match;
    if (!o->any || !join) {
        FM_TRY(flush(w, step, text, o));
        o->begin = begin;
    }
    o->any = !(s->split == FM_SPLIT_REMOVED && match);
    o->end = end;
    o->match = match;
    return FM_OK;
}

static enum fm_status split_step(const struct walk *w, int step, const char *text, size_t n)
{
    if (step == w->pre->n) return w->fn(w->arg, text, n, w->err);
    struct open_piece o = {0};
    size_t at = 0;
    while (at < n) {
        bool found;
        size_t begin = n, end = n;
        FM_TRY(fm_regex_next(w->pre->steps[step].regex, w->run, text, n, at, &found, &begin, &end, w->err));
        if (!found) begin = n;
        FM_TRY(take(w, step, text, &o, at, begin, false));
        if (!found) break;
        FM_TRY(take(w, step, text, &o, begin, end, true));
        at = end;
    }
    return flush(w, step, text, &o);
}

/* Length of the stretch at s that is valid UTF-8 throughout, or invalid throughout. */
static size_t utf8_run(const char *s, size_t n, bool *valid)
{
    int used;
    *valid = fm_utf8_decode(s, n, &used) >= 0;
    size_t i = (size_t)used;
    while (i < n) {
        uint64_t eight;
        if (*valid && n - i >= 8 && (memcpy(&eight, s + i, 8), !(eight & 0x8080808080808080u))) {
            i += 8; /* ASCII, the common case */
            continue;
        }
        if ((fm_utf8_decode(s + i, n - i, &used) >= 0) != *valid) break;
        i += (size_t)used;
    }
    return i;
}

enum fm_status fm_pre_split(const struct fm_pre *p, const char *text, size_t n, fm_piece_fn fn, void *arg,
                            struct fm_error *err)
{
    struct walk w = {p, NULL, fn, arg, err};
    if (p->n && n) FM_TRY(fm_regex_run_new(&w.run, err));
    enum fm_status st = FM_OK;
    for (size_t i = 0; i < n && !st;) {
        bool valid;
        size_t len = utf8_run(text + i, n - i, &valid);
        st = valid ? split_step(&w, 0, text + i, len) : fn(arg, text + i, len, err);
        i += len;
    }
    fm_regex_run_free(w.run);
    return st;
}
