/* See parse.h. */
#include "text/parse.h"

#include <string.h>

#include "base/mem.h"

/*            <think>?            </think>                 a tool block begins
 *   START ──────────────▶ THINK ─────────▶ CONTENT ────────────────────────────▶ BLOCK    an end token leads
 *     └──────────────────────────────────────▲                                            everywhere to DONE */
enum { START, START_THINK, THINK, CONTENT, BLOCK, STRAY_BLOCK, DONE };

static const char open_mark[] = "<think>", close_mark[] = "</think>";

/* The first bytes of a tool block; two ways at most. */
static const char *const starts[FM_CALLS_COUNT][2] = {
    [FM_CALLS_FENCED] = {"<｜tool▁calls▁begin｜>"},       [FM_CALLS_BARE] = {"<｜tool▁calls▁begin｜>"},
    [FM_CALLS_V32] = {"\n\n<｜DSML｜function_calls"},     [FM_CALLS_V4] = {"\n\n<｜DSML｜tool_calls"},
    [FM_CALLS_HERMES] = {"\n<tool_call>", "<tool_call>"}, [FM_CALLS_OBJECT] = {"<|python_tag|>"},
};

void fm_parser_init(struct fm_parser *p, const struct fm_parse_rules *rules, bool thinking)
{
    bool waits = rules->opens || rules->calls == FM_CALLS_OBJECT;
    *p = (struct fm_parser){.rules = rules, .state = CONTENT};
    if (thinking) p->state = rules->opens ? START_THINK : THINK;
    if (!thinking && waits) p->state = START;
}

bool fm_parser_reasons(const struct fm_parser *p) { return p->state == THINK || p->state == START_THINK; }

void fm_parser_release(struct fm_parser *p)
{
    fm_calls_drop(p, 0);
    fm_calls_told_release(p);
    fm_free(p->calls);
    fm_buf_release(&p->held);
    fm_buf_release(&p->reasoning);
    fm_buf_release(&p->content);
    p->calls = NULL;
}

/* ---- handing out ---- */

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Bytes that may turn out to be the blank end of a part. */
static bool may_drop(const struct fm_parser *p, bool reasoning, char c)
{
    return (p->rules->lines && reasoning && c == '\n') || (p->rules->trim && !reasoning && is_blank(c));
}

/* Hand out held[0, n) and forget it; blanks that the rules drop are left away at the front. */
static void emit(struct fm_parser *p, bool reasoning, size_t n)
{
    struct fm_buf *to = reasoning ? &p->reasoning : &p->content;
    const char *s = p->held.data;
    size_t k = 0;
    while (!to->len && k < n && (may_drop(p, reasoning, s[k]) || (p->rules->lines && s[k] == '\n'))) k++;
    if (n > k) {
        fm_buf_add(to, s + k, n - k);
        p->failed |= to->failed;
        if (p->out && !to->failed) p->out(p->arg, reasoning, s + k, n - k);
    }
    p->held.len -= n;
    if (n) memmove(p->held.data, p->held.data + n, p->held.len);
}

/* The same, and the part ends here. */
static void emit_last(struct fm_parser *p, bool reasoning, size_t n)
{
    size_t keep = n;
    while (keep && may_drop(p, reasoning, p->held.data[keep - 1])) keep--;
    size_t dropped = n - keep;
    emit(p, reasoning, keep);
    p->held.len -= dropped;
    if (dropped) memmove(p->held.data, p->held.data + dropped, p->held.len);
}

/* ---- marks ---- */

struct hit {
    size_t at, n; /* n 0: none */
};

/* The earliest of the mark (may be NULL), or keep looking: *sure bytes cannot be the beginning of one. */
static void look(const struct fm_parser *p, const char *mark, struct hit *best, size_t *sure)
{
    const char *s = p->held.data;
    size_t len = p->held.len, n = mark ? strlen(mark) : 0;
    if (!n || !len) return;
    const char *hit = memmem(s, len, mark, n);
    if (hit && (!best->n || (size_t)(hit - s) < best->at)) *best = (struct hit){(size_t)(hit - s), n};
    for (size_t k = n - 1 < len ? n - 1 : len; k > 0; k--)
        if (!memcmp(s + len - k, mark, k)) {
            if (len - k < *sure) *sure = len - k;
            return;
        }
}

static void look_ends(const struct fm_parser *p, struct hit *best, size_t *sure)
{
    for (int i = 0; i < 3; i++) look(p, p->rules->ends[i], best, sure);
}

static void look_starts(const struct fm_parser *p, struct hit *best, size_t *sure)
{
    for (int i = 0; i < 2; i++) look(p, starts[p->rules->calls][i], best, sure);
}

static void finish(struct fm_parser *p, size_t n)
{
    p->held.len -= n;
    if (n) memmove(p->held.data, p->held.data + n, p->held.len);
    p->state = DONE;
}

/* ---- states: true, when there may be more to do ---- */

/* Blanks and the opening mark in front, or a call that is the whole answer. */
static bool step_start(struct fm_parser *p)
{
    size_t k = 0, n = sizeof open_mark - 1;
    const char *s = p->held.data;
    while (k < p->held.len && is_blank(s[k])) k++;
    if (k == p->held.len) return false;
    size_t left = p->held.len - k;
    if (p->rules->calls == FM_CALLS_OBJECT && s[k] == '{') {
        p->state = BLOCK;
        return true;
    }
    if (p->rules->opens && !memcmp(s + k, open_mark, left < n ? left : n)) {
        if (left < n) return false;
        finish(p, k + n);
        p->state = THINK;
        return true;
    }
    p->state = p->state == START_THINK ? THINK : CONTENT;
    return true;
}

static bool step_think(struct fm_parser *p)
{
    bool dsml = p->rules->calls == FM_CALLS_V32 || p->rules->calls == FM_CALLS_V4;
    size_t sure = p->held.len;
    struct hit close = {0}, end = {0}, start = {0};
    look(p, close_mark, &close, &sure);
    look_ends(p, &end, &sure);
    if (dsml) look_starts(p, &start, &sure);
    if (close.n && (!end.n || close.at < end.at) && (!start.n || close.at < start.at)) {
        emit_last(p, true, close.at);
        finish(p, close.n);
        p->state = CONTENT;
        return true;
    }
    if (end.n && (!start.n || end.at < start.at)) {
        emit_last(p, true, end.at);
        finish(p, end.n);
        return true;
    }
    if (start.n) {
        emit_last(p, true, start.at);
        p->state = STRAY_BLOCK;
        return true;
    }
    while (sure && may_drop(p, true, p->held.data[sure - 1])) sure--;
    emit(p, true, sure);
    return false;
}

static bool step_content(struct fm_parser *p)
{
    size_t sure = p->held.len;
    struct hit end = {0}, start = {0};
    look_ends(p, &end, &sure);
    look_starts(p, &start, &sure);
    if (start.n && (!end.n || start.at < end.at)) {
        emit_last(p, false, start.at);
        p->state = BLOCK;
        return true;
    }
    if (end.n) {
        emit_last(p, false, end.at);
        finish(p, end.n);
        return true;
    }
    while (sure && may_drop(p, false, p->held.data[sure - 1])) sure--;
    emit(p, false, sure);
    return false;
}

static void step(struct fm_parser *p)
{
    bool again = true;
    while (again && p->held.len) {
        again = false;
        if (p->state == START || p->state == START_THINK)
            again = step_start(p);
        else if (p->state == THINK)
            again = step_think(p);
        else if (p->state == CONTENT)
            again = step_content(p);
        else if (p->state == DONE) {
            for (size_t i = 0; i < p->held.len; i++)
                if (!is_blank(p->held.data[i])) p->warning = "text behind the end of the answer was dropped";
            p->held.len = 0;
        }
    }
}

void fm_parser_push(struct fm_parser *p, const char *s, size_t n)
{
    if (n) fm_buf_add(&p->held, s, n);
    p->failed |= p->held.failed;
    if (!p->failed) step(p);
    if (!p->failed && p->state == BLOCK) fm_calls_tell(p);
}

/* ---- the end ---- */

/* Whether a JSON answer was meant as a call, in a format where an answer may be just JSON. */
static bool looks_like_call(const struct fm_parser *p)
{
    const char *s = p->held.data, *end = s + p->held.len;
    if (p->rules->calls != FM_CALLS_OBJECT || *s == '<') return true;
    for (s++; s < end && is_blank(*s); s++) {
    }
    return end - s >= 6 && !memcmp(s, "\"name\"", 6);
}

/* Calls of a block that ended well, as they were told; those that were not are told now.  false: they are others. */
static bool settle(struct fm_parser *p)
{
    if (p->n_told > p->n_calls) return false;
    for (size_t i = 0; i < p->n_told; i++)
        if (p->told[i].name.len != p->calls[i].n_name ||
            memcmp(p->told[i].name.data, p->calls[i].name, p->calls[i].n_name))
            return false;
    for (size_t i = p->n_told; p->on_call && i < p->n_calls; i++) {
        p->on_call(p->arg, i, p->calls[i].name, p->calls[i].n_name, NULL, 0);
        p->on_call(p->arg, i, NULL, 0, p->calls[i].arguments, p->calls[i].n_arguments);
    }
    return true;
}

/* What was told is what stays. */
static void keep_told(struct fm_parser *p)
{
    const size_t more = p->n_calls > p->n_told ? p->n_calls - p->n_told : 0;
    struct fm_said_call *rest = more ? fm_calloc(more, sizeof *rest) : NULL;
    p->failed |= more && !rest;
    for (size_t i = 0; rest && i < more; i++) rest[i] = p->calls[p->n_told + i];
    if (rest) p->n_calls = p->n_told;
    fm_calls_drop(p, 0);
    for (size_t i = 0; i < p->n_told && !p->failed; i++)
        (void)fm_calls_add(p, (struct fm_span){p->told[i].name.data, p->told[i].name.len},
                           (struct fm_span){p->told[i].arguments.data, p->told[i].arguments.len});
    for (size_t i = 0; rest && i < more; i++) {
        if (!p->failed)
            (void)fm_calls_add(p, (struct fm_span){rest[i].name, rest[i].n_name},
                               (struct fm_span){rest[i].arguments, rest[i].n_arguments});
        fm_free(rest[i].name);
        fm_free(rest[i].arguments);
    }
    fm_free(rest);
}

/* The whole block is here: its calls, or else it is content up to the end token. */
static void end_block(struct fm_parser *p)
{
    size_t used = 0, n = p->held.len;
    if (p->state == BLOCK) fm_calls_tell(p);
    bool good = p->state == BLOCK && fm_calls_parse(p, p->held.data, n, &used);
    if (good && p->n_told)
        good = settle(p);
    else if (good && p->on_call)
        (void)settle(p);
    if (p->n_told) {
        if (!good) {
            fm_calls_drop(p, 0);
            p->warning = "a tool block ended before it was complete";
        }
        keep_told(p);
        if (!good) {
            finish(p, n);
            return;
        }
    }
    for (int i = 0; good && used < n && i < 3; i++) {
        const char *e = p->rules->ends[i];
        if (e && n - used >= strlen(e) && !memcmp(p->held.data + used, e, strlen(e))) {
            finish(p, used + strlen(e));
            return;
        }
    }
    if (good && used == n) {
        finish(p, n);
        return;
    }
    fm_calls_drop(p, 0);
    if (p->failed) return;
    if (looks_like_call(p)) p->warning = "a malformed tool block was left in the content";
    struct hit end = {0};
    size_t sure = n;
    look_ends(p, &end, &sure);
    emit_last(p, false, end.n ? end.at : n);
    finish(p, end.n);
}

void fm_parser_end(struct fm_parser *p)
{
    if (p->failed) return;
    if (p->state == START || p->state == START_THINK) p->state = p->state == START ? CONTENT : THINK;
    step(p);
    if (p->state == THINK || p->state == CONTENT) emit_last(p, p->state == THINK, p->held.len);
    if (p->state == BLOCK || p->state == STRAY_BLOCK) end_block(p);
    step(p);
}

/* ---- the message ---- */

void fm_parser_write(const struct fm_parser *p, struct fm_buf *out)
{
    fm_buf_str(out, "{\"role\": \"assistant\", \"content\": ");
    fm_py_write_text(out, p->content.data, p->content.len);
    fm_buf_str(out, ", \"reasoning_content\": ");
    fm_py_write_text(out, p->reasoning.data, p->reasoning.len);
    fm_buf_str(out, ", \"tool_calls\": [");
    for (size_t i = 0; i < p->n_calls; i++) {
        fm_buf_str(out, i ? ", " : "");
        fm_buf_str(out, "{\"type\": \"function\", \"function\": {\"name\": ");
        fm_py_write_text(out, p->calls[i].name, p->calls[i].n_name);
        fm_buf_str(out, ", \"arguments\": ");
        fm_py_write_text(out, p->calls[i].arguments, p->calls[i].n_arguments);
        fm_buf_str(out, "}}");
    }
    fm_buf_str(out, "]}");
}
