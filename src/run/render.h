/* From messages to the token ids of the prompt: the only place where run/ meets the chat formats of text/. */
#ifndef FM_RUN_RENDER_H
#define FM_RUN_RENDER_H

#include "text/tokenizer.h"

struct fm_render_message {
    const char *role; /* "system", "user", "assistant" */
    char *text;
};

/* FM_ERR_USAGE unless format is a known name. */
enum fm_status fm_render_check(const char *format, struct fm_error *err) FM_MUST_USE;
/* The table's own spelling of a known name: lives for ever. */
const char *fm_render_name(const char *format);
/* Appends the prompt that asks for the next answer.  format NULL: the texts one after the other, BOS where the file says so. */
enum fm_status fm_render_ids(const char *format, const struct fm_tokenizer *t, const struct fm_render_message *m, int n,
                             struct fm_ids *out, struct fm_error *err) FM_MUST_USE;

#endif
