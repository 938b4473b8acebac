/* Chat formats: from messages to the exact bytes, and ids, that a family was trained on.  One row per format. */
#ifndef FM_TEXT_CHAT_H
#define FM_TEXT_CHAT_H

#include "text/prompt.h"
#include "text/tokenizer.h"

struct fm_chat_message {
    const char *role; /* "system", "user", "assistant" */
    const char *text;
    size_t n;
};

struct fm_chat_options {
    bool generate;      /* end with what asks for the assistant's answer            */
    bool thinking;      /* where a family can do both; those that always think, do  */
    const char *date;   /* of formats that state one; NULL: the template's own date */
    const char *effort; /* NULL, or one that fm_chat_effort knows                   */
};

struct fm_chat_format;

/* By name; NULL when unknown. */
const struct fm_chat_format *fm_chat_find(const char *name);
/* The i-th format, NULL behind the last: for lists. */
const struct fm_chat_format *fm_chat_at(int i);
const char *fm_chat_name(const struct fm_chat_format *f); /* static */

/* The format of a published Jinja template of n bytes, told by the marks it contains and, unless t is NULL, by the
 * control tokens that t has.  The template is never executed.  NULL: no known format. */
const char *fm_chat_detect(const char *chat_template, size_t n, const struct fm_tokenizer *t);

/* Whether the family thinks first where it is asked to, or always. */
bool fm_chat_may_think(const struct fm_chat_format *f);
bool fm_chat_must_think(const struct fm_chat_format *f);
/* Whether the format tells the model about this effort ("high", "max") in thinking. */
bool fm_chat_effort(const struct fm_chat_format *f, const char *effort);
/* Whether an answer may begin with a think block; *opened: the prompt ends inside it. */
bool fm_chat_reasons(const struct fm_chat_format *f, bool thinking, bool *opened);

/* The prompt of the messages.  An unknown role, or an order that the format cannot express, is FM_ERR_USAGE. */
enum fm_status fm_chat_prompt(const struct fm_chat_format *f, const struct fm_chat_message *m, size_t n,
                              const struct fm_chat_options *o, struct fm_prompt *out, struct fm_error *err) FM_MUST_USE;
/* The same as bytes, appended to out. */
enum fm_status fm_chat_render(const struct fm_chat_format *f, const struct fm_chat_message *m, size_t n,
                              const struct fm_chat_options *o, struct fm_buf *out, struct fm_error *err) FM_MUST_USE;
/* The same as ids of t, appended to out.  Only what the format wrote becomes control tokens: text of a message that
 * looks like one is encoded as text. */
enum fm_status fm_chat_encode(const struct fm_chat_format *f, const struct fm_tokenizer *t,
                              const struct fm_chat_message *m, size_t n, const struct fm_chat_options *o,
                              struct fm_ids *out, struct fm_error *err) FM_MUST_USE;

#endif
