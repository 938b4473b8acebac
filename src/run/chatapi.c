/* The public functions of chat formats: text/chat.h, text/parse.h and base/pyjson.h with plain C types. */
#include <string.h>

#include "base/mem.h"
#include "run/run.h"
#include "text/chat_impl.h"

const char *fm_chat_format_at(int i)
{
    const struct fm_chat_format *f = i < 0 ? NULL : fm_chat_at(i);
    return f ? fm_chat_name(f) : NULL;
}

static enum fm_status find(const char *name, const struct fm_chat_format **out, struct fm_error *err)
{
    if ((*out = fm_chat_find(name))) return FM_OK;
    (void)fm_fail(err, FM_ERR_USAGE, "chat format '%.40s': not known: see the list", name);
    fm_hint(err, "--format help lists them");
    return FM_ERR_USAGE;
}

bool fm_chat_format_thinks(const char *format)
{
    const struct fm_chat_format *f = fm_chat_find(format);
    bool opened;
    return f && fm_chat_reasons(f, true, &opened);
}

/* ---- encoding ---- */

/* A conversation that came from outside: what is wrong with it is bad input. */
static enum fm_status build(const char *format, const char *messages, size_t n, bool thinking, struct fm_prompt *p,
                            struct fm_error *err)
{
    const struct fm_chat_format *f;
    struct fm_py_doc doc = {0};
    struct fm_talk talk;
    const struct fm_py *v;
    FM_TRY(find(format, &f, err));
    enum fm_status st = fm_py_parse(&doc, messages, n, "read messages", &v, err);
    if (!st) st = fm_talk_read(f, v, &doc, &talk, err);
    if (!st) {
        talk.thinking |= thinking;
        st = fm_talk_encode(f, &talk, p, err);
    }
    fm_py_release(&doc);
    if (st != FM_ERR_USAGE) return st;
    if (err) err->code = FM_ERR_INPUT;
    return FM_ERR_INPUT;
}

enum fm_status fm_chat_format_encode(const char *format, const char *messages, size_t n, bool thinking, char **text,
                                     size_t *n_text, struct fm_error *err)
{
    struct fm_prompt p = {0};
    enum fm_status st = build(format, messages, n, thinking, &p, err);
    if (!st) fm_buf_add(&p.text, "", 0); /* a NUL even when nothing came */
    if (!st && p.text.failed) st = fm_fail_memory(err, "the prompt", p.text.len);
    if (!st) {
        *text = p.text.data;
        *n_text = p.text.len;
        p.text = (struct fm_buf){0};
    }
    fm_prompt_release(&p);
    return st;
}

enum fm_status fm_chat_format_encode_ids(const char *format, const struct fm_tokenizer *t, const char *messages,
                                         size_t n, bool thinking, int32_t **ids, size_t *n_ids, struct fm_error *err)
{
    struct fm_prompt p = {0};
    struct fm_ids out = {0};
    enum fm_status st = build(format, messages, n, thinking, &p, err);
    if (!st) st = fm_prompt_encode(&p, t, &out, err);
    fm_prompt_release(&p);
    if (st) {
        fm_ids_release(&out);
        return st;
    }
    *ids = out.data;
    *n_ids = out.n;
    return FM_OK;
}

/* ---- decoding ---- */

struct fm_chat_parser {
    struct fm_parser p;
};

enum fm_status fm_chat_parser_new(const char *format, bool thinking,
                                  void (*out)(void *arg, bool reasoning, const char *text, size_t n), void *arg,
                                  struct fm_chat_parser **parser, struct fm_error *err)
{
    const struct fm_chat_format *f;
    FM_TRY(find(format, &f, err));
    struct fm_chat_parser *c = fm_calloc(1, sizeof *c);
    if (!c) return fm_fail_memory(err, "an answer", sizeof *c);
    fm_parser_init(&c->p, &f->parse, thinking || f->rules & FM_CHAT_THINKS);
    c->p.out = out;
    c->p.arg = arg;
    *parser = c;
    return FM_OK;
}

void fm_chat_parser_tell_calls(struct fm_chat_parser *c, void (*call)(void *arg, size_t i, const char *name,
                                                                      size_t n_name, const char *arguments, size_t n))
{
    c->p.on_call = call;
}

void fm_chat_parser_push(struct fm_chat_parser *c, const char *text, size_t n) { fm_parser_push(&c->p, text, n); }

bool fm_chat_parser_reasons(const struct fm_chat_parser *c) { return fm_parser_reasons(&c->p); }

enum fm_status fm_chat_parser_end(struct fm_chat_parser *c, char **message, size_t *n, const char **warning,
                                  struct fm_error *err)
{
    struct fm_buf b = {0};
    fm_parser_end(&c->p);
    fm_parser_write(&c->p, &b);
    if (c->p.failed || b.failed) {
        fm_buf_release(&b);
        return fm_fail_memory(err, "an answer", c->p.content.len);
    }
    *message = b.data;
    *n = b.len;
    if (warning) *warning = c->p.warning;
    return FM_OK;
}

void fm_chat_parser_free(struct fm_chat_parser *c)
{
    if (!c) return;
    fm_parser_release(&c->p);
    fm_free(c);
}
