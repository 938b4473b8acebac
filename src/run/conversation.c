/* A session plus its messages.  Each answer renders the whole conversation anew and keeps of the cache what still fits:
 *
 *   cached   |system|user 1|answer 1|user 2|answer 2 …
 *   wanted   |system|user 1|answer 1|user 2'|           rewind to the first difference, feed the rest
 *
 * Without a chat format the messages are pieces of one growing text, of which the end is kept when the context is full. */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "run/run.h"
#include "text/chat.h"
#include "text/parse.h"

struct fm_chat {
    struct fm_session *s;
    const struct fm_chat_format *format; /* NULL: continues text             */
    struct fm_chat_message *messages;    /* texts are ours, with a NUL behind */
    int n, cap, n_system;                /* the first n_system survive fm_chat_clear: 0 or 1 */
};

/* ---- messages ---- */

static enum fm_status push(struct fm_chat *c, const char *role, const char *text, size_t n, struct fm_error *err)
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

static void pop(struct fm_chat *c) { message_free(c->messages[--c->n]); }

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
    FM_GOTO(fm_session_new(e, ctx, &c->s, err));
    if (system) FM_GOTO(push(c, "system", system, strlen(system), err));
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
    while (c->n) pop(c);
    fm_free(c->messages);
    fm_session_free(c->s);
    fm_free(c);
}

void fm_chat_clear(struct fm_chat *c)
{
    while (c->n > c->n_system) pop(c);
    fm_session_rewind(c->s, 0);
}

struct fm_session *fm_chat_session(struct fm_chat *c) { return c->s; }

void fm_chat_cancel(struct fm_chat *c) { fm_session_cancel(c->s); }

int fm_chat_length(const struct fm_chat *c) { return fm_session_length(c->s); }

int fm_chat_ctx(const struct fm_chat *c) { return fm_session_ctx(c->s); }

const char *fm_chat_format_name(const struct fm_chat *c) { return c->format ? fm_chat_name(c->format) : NULL; }

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
    t->splits = g->on_reasoning && c->format && fm_chat_reasons(c->format, &opened);
    fm_parser_init(&t->parser, &rules, opened);
    t->parser.out = on_part;
    t->parser.arg = t;
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
    enum fm_status st = fm_session_generate_on(c->s, &mine, &made, err);
    if (!st) fm_parser_end(&tee.parser);
    if (!st && (tee.text.failed || tee.parser.failed)) st = fm_fail_memory(err, "the answer", tee.text.len);
    if (!st) st = push(c, "assistant", tee.text.data, tee.text.len, err);
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
static enum fm_status render(const struct fm_chat *c, struct fm_ids *ids, struct fm_error *err)
{
    static const struct fm_chat_options options = {.generate = true};
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
    if (!st) st = render(c, &ids, err);
    if (!st) st = feed_rest(c->s, &ids, &mine, err);
    fm_ids_release(&ids);
    if (!st) st = generate(c, g, &mine, err);
    if (!st && stats) *stats = mine;
    return st;
}

enum fm_status fm_chat_send(struct fm_chat *c, const char *text, const struct fm_generation *g,
                            struct fm_generation_stats *stats, struct fm_error *err)
{
    FM_TRY(push(c, "user", text, strlen(text), err));
    enum fm_status st = answer(c, g, stats, err);
    if (st) pop(c); /* as if it had not been said */
    return st;
}

enum fm_status fm_chat_regenerate(struct fm_chat *c, const struct fm_generation *g, struct fm_generation_stats *stats,
                                  struct fm_error *err)
{
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
