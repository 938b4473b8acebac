/* What chat and run have in common: system message, chat format, thinking. */
#ifndef FM_CLI_CHAT_SETUP_H
#define FM_CLI_CHAT_SETUP_H

#include "base/str.h"
#include "cli/options.h"

struct fm_chat_setup {
    const char *system, *system_file, *format, *effort;
    bool think, no_think;
    struct fm_buf system_text; /* of the file; fm_chat_setup_release */
};
/* --system --system-file --chat-format --think --no-think --effort    into struct fm_chat_setup */
extern const struct fm_opt fm_chat_rows[];

/* Refuse what contradicts itself and read the file: before a model is loaded. */
enum fm_status fm_chat_setup_ready(struct fm_chat_setup *s, struct fm_error *err) FM_MUST_USE;
void fm_chat_setup_release(struct fm_chat_setup *s);
/* The conversation; thinking that its format cannot do becomes a note. */
enum fm_status fm_chat_setup_open(const struct fm_chat_setup *s, struct fm_engine *e, int ctx, struct fm_chat **out,
                                  struct fm_error *err) FM_MUST_USE;

/* Thinking from now on, as far as the format can; what it cannot is a note.  effort may be NULL. */
void fm_chat_think(struct fm_chat *c, bool thinking, const char *effort);
/* "on, effort max", "off", "always", … in a static buffer */
const char *fm_chat_thinking_text(const struct fm_chat *c);

/* A file as the text of a message: without the newline at its end; at most FM_MESSAGE_MAX bytes, none of them NUL. */
enum { FM_MESSAGE_MAX = 4 << 20 };
enum fm_status fm_message_read(const char *path, struct fm_buf *out, struct fm_error *err) FM_MUST_USE;

#endif
