/* Inside a conversation: for the files that implement it. */
#ifndef FM_RUN_CONVERSATION_H
#define FM_RUN_CONVERSATION_H

#include "run/run.h"
#include "text/chat.h"

struct fm_chat {
    struct fm_session *s;
    const struct fm_chat_format *format; /* NULL: continues text              */
    struct fm_chat_message *messages;    /* texts are ours, with a NUL behind; roles are static */
    int n, cap, n_system;                /* the first n_system survive fm_chat_clear: 0 or 1    */
    bool thinking;                       /* asked for, or what the format does anyway           */
    const char *effort;                  /* NULL, or static */
};

/* Append a copy of text[n].  role: static. */
enum fm_status fm_chat_push(struct fm_chat *c, const char *role, const char *text, size_t n,
                            struct fm_error *err) FM_MUST_USE;
void fm_chat_pop(struct fm_chat *c);

/* The ids of the prompt that asks for the next answer; of a text without format its end, as far as the context holds it. */
enum fm_status fm_chat_ids(const struct fm_chat *c, struct fm_ids *ids, struct fm_error *err) FM_MUST_USE;

/* Of a whole answer what stays in the conversation: its content, without the reasoning in front, which the families'
 * templates drop from earlier answers.  A part of text, empty when it never came to an answer. */
struct fm_span fm_chat_content(const struct fm_chat *c, struct fm_span text);

/* Messages were taken away: the cache keeps what the rest still begins with. */
void fm_chat_settle(struct fm_chat *c);

#endif
