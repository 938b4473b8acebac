/* A session plus its messages.  Each answer renders the whole conversation anew and keeps of the cache what still fits:
 *
 *   cached   |system|user 1|answer 1|user 2|answer 2 …
 *   wanted   |system|user 1|answer 1|user 2'|           rewind to the first difference, feed the rest
 *
 * Without a chat format the messages are pieces of one growing text, of which the end is kept when the context is full. */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "run/conversation.h"
#include "run/run.h"
#include "text/chat_impl.h"

/* ---- messages ---- */

enum fm_status fm_chat_push(struct fm_chat *c, const char *role, const char *text, size_t n, struct fm_error *err)
{
    if (c->n == c->cap) {
        int cap = c->cap ? 2 * c->cap : 8;
        void *p = fm_realloc(c->messages, (size_t)cap * sizeof *c->messages);
        if (!p) return fm_fail_memory(err, "messages", (size_t)cap * sizeof *c->messages);
        c->messages = p;
        c->cap = cap;
    }
    char *copy = fm_malloc(n + 1);
    if (!copy) return fm_fail_memory(err, "a message", n + 1);
    if (n) memcpy(copy, text, n);
    copy[n] = 0;
    c->messages[c->n++] = (struct fm_chat_message){.role = role, .text = copy, .n = n};
    return FM_OK;
}

static void message_free(struct fm_chat_message m) { fm_free((char *)m.text); }

void fm_chat_pop(struct fm_chat *c) { message_free(c->messages[--c->n]); }

bool fm_chat_message(const struct fm_chat *c, int i, const char **role, const char **text)
{
    if (i < 0 || i >= c->n) return false;
    *role = c->messages[i].role;
    *text = c->messages[i].text;
    return true;
}

/* "plain" and no name at all: continue text. */
static enum fm_status find_format(const char *name, const struct fm_chat_format **out, struct fm_error *err)
{
    *out = NULL;
    if (!name || !strcmp(name, "plain")) return FM_OK;
    if ((*out = fm_chat_find(name))) return FM_OK;
    struct fm_buf names = {0};
    for (int i = 0; fm_chat_at(i); i++) fm_buf_printf(&names, "%s%s", i ? ", " : "", fm_chat_name(fm_chat_at(i)));
    fm_fail(err, FM_ERR_USAGE, "choose a chat format: %.80s: not known", name);
    if (!names.failed) fm_hint(err, "known are %s", names.data);
    fm_buf_release(&names);
    return FM_ERR_USAGE;
}

enum fm_status fm_chat_new(struct fm_engine *e, int ctx, const char *system, const char *format, struct fm_chat **out,
                           struct fm_error *err)
{
    const struct fm_chat_format *found;
    FM_TRY(find_format(format ? format : e->chat, &found, err));
    struct fm_chat *c = fm_calloc(1, sizeof *c);
    if (!c) return fm_fail_memory(err, "a conversation", sizeof *c);
    enum fm_status st;
    c->format = found;
    c->thinking = fm_chat_can_think(c) == FM_THINKS_ALWAYS;
    FM_GOTO(fm_session_new(e, ctx, &c->s, err));
    if (system) FM_GOTO(fm_chat_push(c, "system", system, strlen(system), err));
    c->n_system = c->n;
    *out = c;
    return FM_OK;
out:
    fm_chat_free(c);
    return st;
}

void fm_chat_free(struct fm_chat *c)
{
    if (!c) return;
    while (c->n) fm_chat_pop(c);
    fm_free(c->messages);
    fm_session_free(c->s);
    fm_free(c);
}

void fm_chat_clear(struct fm_chat *c)
{
    while (c->n > c->n_system) fm_chat_pop(c);
    fm_session_rewind(c->s, 0);
}

struct fm_session *fm_chat_session(struct fm_chat *c) { return c->s; }

void fm_chat_cancel(struct fm_chat *c) { fm_session_cancel(c->s); }

int fm_chat_length(const struct fm_chat *c) { return fm_session_length(c->s); }

int fm_chat_ctx(const struct fm_chat *c) { return fm_session_ctx(c->s); }

const char *fm_chat_format_name(const struct fm_chat *c) { return c->format ? fm_chat_name(c->format) : NULL; }

/* ---- thinking ---- */

enum fm_thinking fm_chat_can_think(const struct fm_chat *c)
{
    if (c->format && fm_chat_must_think(c->format)) return FM_THINKS_ALWAYS;
    return c->format && fm_chat_may_think(c->format) ? FM_THINKS_ON_DEMAND : FM_THINKS_NEVER;
}

bool fm_chat_thinking(const struct fm_chat *c, const char **effort)
{
    if (effort) *effort = c->effort;
    return c->thinking;
}

/* The name itself, static; NULL: not one of them. */
static const char *effort_name(const char *effort)
{
    static const char *const names[] = {"low", "high", "max"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(effort, names[i])) return names[i];
    return NULL;
}

enum fm_status fm_chat_set_thinking(struct fm_chat *c, bool thinking, const char *effort, struct fm_error *err)
{
    const char *name = c->format ? fm_chat_name(c->format) : "plain text";
    const enum fm_thinking can = fm_chat_can_think(c);
    if (effort && !(effort = effort_name(effort)))
        return fm_fail(err, FM_ERR_USAGE, "set thinking: effort: it is none of low, high, max");
    if (effort && !thinking) return fm_fail(err, FM_ERR_USAGE, "set thinking: effort %s: without thinking", effort);
    if (thinking && can == FM_THINKS_NEVER)
        return fm_fail(err, FM_ERR_USAGE, "set thinking: %s: answers in this format have no reasoning", name);
    if (!thinking && can == FM_THINKS_ALWAYS)
        return fm_fail(err, FM_ERR_USAGE, "set thinking: %s: answers in this format always begin with reasoning", name);
    if (effort && !fm_chat_effort(c->format, effort))
        return fm_fail(err, FM_ERR_USAGE, "set thinking: %s: this format does not tell the model of effort %s", name,
                       effort);
    c->thinking = thinking;
    c->effort = effort;
    return FM_OK;
}

/* ---- answering ---- */

/* Hands the text on and keeps it; reasoning apart from the answer, where somebody listens to it. */
struct tee {
    const struct fm_generation *g;
    struct fm_buf text;
    struct fm_parser parser;
    bool splits, refused;
};

static void on_part(void *arg, bool reasoning, const char *text, size_t n)
{
    struct tee *t = arg;
    bool (*fn)(void *, const char *, size_t) = reasoning ? t->g->on_reasoning : t->g->on_text;
    if (fn && !t->refused) t->refused = !fn(t->g->arg, text, n);
}

static bool on_text(void *arg, const char *text, size_t n)
{
    struct tee *t = arg;
    fm_buf_add(&t->text, text, n);
    if (!t->splits) return t->g->on_text ? t->g->on_text(t->g->arg, text, n) : true;
    fm_parser_push(&t->parser, text, n);
    return !t->refused;
}

static void tee_init(struct tee *t, const struct fm_chat *c, const struct fm_generation *g)
{
    static const struct fm_parse_rules rules = {.opens = true, .lines = true};
    bool opened = false;
    *t = (struct tee){.g = g};
    t->splits = g->on_reasoning && c->format && fm_chat_reasons(c->format, c->thinking, &opened);
    fm_parser_init(&t->parser, &rules, opened);
    t->parser.out = on_part;
    t->parser.arg = t;
}

struct fm_span fm_chat_content(const struct fm_chat *c, struct fm_span text)
{
    static const char open[] = "<think>", close[] = "</think>";
    struct fm_span why, first = text;
    bool opened = false;
    if (!text.n || !c->format || !fm_chat_reasons(c->format, c->thinking, &opened)) return text;
    while (first.n && strchr(" \t\r\n", *first.s)) first = (struct fm_span){first.s + 1, first.n - 1};
    if (!opened && (first.n < sizeof open - 1 || memcmp(first.s, open, sizeof open - 1) != 0)) return text;
    if (!fm_span_cut(text, close, false, &why, &text)) return (struct fm_span){0}; /* it never came to an answer */
    return c->format->parse.lines ? fm_span_strip(text, '\n', false) : text;
}

static enum fm_status overflow(const struct fm_session *s, size_t n, struct fm_error *err)
{
    (void)fm_fail(err, FM_ERR_USAGE, "chat: the conversation has %zu tokens: the context holds %d", n, s->ctx);
    fm_hint(err, "use a larger context (--ctx); in a chat, /clear starts over");
    return FM_ERR_USAGE;
}

/* Make the session hold exactly ids[n]; at least the last one is computed, for its logits. */
static enum fm_status feed_rest(struct fm_session *s, const struct fm_ids *ids, struct fm_generation_stats *stats,
                                struct fm_error *err)
{
    if (!ids->n) return fm_fail(err, FM_ERR_USAGE, "chat: nothing to continue: the text is empty");
    if (ids->n >= (size_t)s->ctx) return overflow(s, ids->n, err);
    int n = (int)ids->n, same = 0;
    while (same < n - 1 && same < s->length && s->ids[same] == ids->data[same]) same++;
    double start = fm_seconds();
    fm_session_rewind(s, same);
    FM_TRY(fm_session_feed_on(s, ids->data + same, n - same, NULL, err));
    stats->prompt_tokens = n;
    stats->cached_tokens = same;
    stats->prompt_seconds = fm_seconds() - start;
    return FM_OK;
}

/* Where a constraint begins in an answer of this format. */
static enum fm_constraint_start start_of(const struct fm_chat *c)
{
    bool opened = false;
    if (!c->format || !fm_chat_reasons(c->format, c->thinking, &opened)) return FM_START_ANSWER;
    return opened ? FM_START_IN_THOUGHT : c->thinking ? FM_START_MAY_THINK : FM_START_ANSWER;
}

/* Generate behind what the session holds and append the answer. */
static enum fm_status generate(struct fm_chat *c, const struct fm_generation *g, struct fm_generation_stats *stats,
                               struct fm_error *err)
{
    struct tee tee;
    struct fm_generation mine = *g;
    struct fm_generation_stats made;
    tee_init(&tee, c, g);
    mine.on_text = on_text;
    mine.arg = &tee;
    mine.constraint_start = start_of(c);
    enum fm_status st = fm_session_generate_on(c->s, &mine, &made, err);
    if (!st) fm_parser_end(&tee.parser);
    if (!st && (tee.text.failed || tee.parser.failed)) st = fm_fail_memory(err, "the answer", tee.text.len);
    struct fm_span content = fm_chat_content(c, (struct fm_span){tee.text.data, tee.text.len});
    if (!st) st = fm_chat_push(c, "assistant", content.s, content.n, err);
    fm_parser_release(&tee.parser);
    fm_buf_release(&tee.text);
    if (st) return st;
    stats->answer_tokens = made.answer_tokens;
    stats->answer_seconds = made.answer_seconds;
    stats->steps = made.steps;
    stats->drafted = made.drafted;
    stats->accepted = made.accepted;
    stats->finish = made.finish;
    return FM_OK;
}

/* A growing text outgrows any context: its beginning is dropped by whole quarters of the context, so that the last quarter is
 * free for the answer and the cache holds good for several turns. */
static void keep_end(struct fm_ids *ids, int ctx)
{
    const size_t quarter = (size_t)ctx / 4, room = 3 * quarter;
    if (!quarter || ids->n <= room) return;
    const size_t first = (ids->n - room + quarter - 1) / quarter * quarter;
    ids->n -= first;
    memmove(ids->data, ids->data + first, ids->n * sizeof *ids->data);
}

/* The ids of the prompt that asks for the next answer. */
enum fm_status fm_chat_ids(const struct fm_chat *c, struct fm_ids *ids, struct fm_error *err)
{
    const struct fm_chat_options options = {.generate = true, .thinking = c->thinking, .effort = c->effort};
    const struct fm_tokenizer *t = c->s->e->tok;
    struct fm_buf text = {0};
    if (c->format) return fm_chat_encode(c->format, t, c->messages, (size_t)c->n, &options, ids, err);
    for (int i = 0; i < c->n; i++) fm_buf_add(&text, c->messages[i].text, c->messages[i].n);
    enum fm_status st = text.failed ? fm_fail_memory(err, "the prompt", text.len)
                                    : fm_tokenizer_encode(t, text.data ? text.data : "", text.len,
                                                          fm_tokenizer_add_bos(t) ? FM_ENCODE_BOS : 0, ids, err);
    if (!st) keep_end(ids, c->s->ctx);
    fm_buf_release(&text);
    return st;
}

static enum fm_status answer(struct fm_chat *c, const struct fm_generation *g, struct fm_generation_stats *stats,
                             struct fm_error *err)
{
    struct fm_ids ids = {0};
    struct fm_generation_stats mine = {0};
    atomic_store(&c->s->cancel, false);
    enum fm_status st = fm_engine_has_text(c->s->e, err);
    if (!st) st = fm_chat_ids(c, &ids, err);
    if (!st) st = feed_rest(c->s, &ids, &mine, err);
    fm_ids_release(&ids);
    if (!st) st = generate(c, g, &mine, err);
    if (!st && stats) *stats = mine;
    return st;
}

enum fm_status fm_chat_send(struct fm_chat *c, const char *text, const struct fm_generation *g,
                            struct fm_generation_stats *stats, struct fm_error *err)
{
    FM_TRY(fm_chat_push(c, "user", text, strlen(text), err));
    enum fm_status st = answer(c, g, stats, err);
    if (st) fm_chat_pop(c); /* as if it had not been said */
    return st;
}

enum fm_status fm_chat_regenerate(struct fm_chat *c, const struct fm_generation *g, struct fm_generation_stats *stats,
                                  struct fm_error *err)
{
    if (c->n && !strcmp(c->messages[c->n - 1].role, "user")) return answer(c, g, stats, err); /* of a file */
    if (!c->n || strcmp(c->messages[c->n - 1].role, "assistant"))
        return fm_fail(err, FM_ERR_USAGE, "generate again: the conversation: it has no answer yet");
    struct fm_chat_message last = c->messages[--c->n];
    enum fm_status st = answer(c, g, stats, err);
    if (st)
        c->messages[c->n++] = last; /* push may have grown the list, never shrunk it */
    else
        message_free(last);
    return st;
}

/* ---- taking back ---- */

void fm_chat_settle(struct fm_chat *c)
{
    struct fm_ids ids = {0};
    struct fm_session *s = c->s;
    int same = 0;
    if (c->n > c->n_system && !fm_chat_ids(c, &ids, NULL))
        while (same < s->length && (size_t)same < ids.n && s->ids[same] == ids.data[same]) same++;
    fm_ids_release(&ids);
    fm_session_rewind(s, same);
}

bool fm_chat_undo(struct fm_chat *c)
{
    int user = c->n - 1;
    while (user >= 0 && strcmp(c->messages[user].role, "user") != 0) user--;
    if (user < 0) return false;
    while (c->n > user) fm_chat_pop(c);
    fm_chat_settle(c);
    return true;
}
