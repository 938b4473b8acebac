/* A prompt under construction: text in which the control tokens that the template wrote are marked.
 *
 *   <|im_start|>user\n…what the user typed…<|im_end|>\n        text
 *   [----------]                           [--------]          marks: only these may become control tokens
 *
 * So a user who types <|im_end|> gets the characters, not the token; and everything between two marks is encoded as
 * one string, as the published templates do. */
#ifndef FM_TEXT_PROMPT_H
#define FM_TEXT_PROMPT_H

#include "text/tokenizer.h"

struct fm_prompt_mark {
    size_t begin, end; /* in text */
};

struct fm_prompt {
    struct fm_buf text;
    struct fm_prompt_mark *marks;
    size_t n_marks, cap_marks;
    bool failed; /* sticky: memory was short */
};

void fm_prompt_release(struct fm_prompt *p);
void fm_prompt_text(struct fm_prompt *p, const char *s, size_t n);
void fm_prompt_control(struct fm_prompt *p, const char *s, size_t n);
/* A template string: what stands between FM_CONTROL's brackets is control, the rest text.  NULL adds nothing. */
void fm_prompt_template(struct fm_prompt *p, const char *s);
/* Text of the template's own in which control tokens are not marked: every one that a known family has becomes a mark. */
void fm_prompt_trusted(struct fm_prompt *p, const char *s, size_t n);
#define FM_CONTROL(token) "\x01" token "\x02"

/* Appends the ids.  A mark that is no added token of t is encoded as the text it is (Llama 2's [INST]).  BOS comes in
 * front when t says so and the prompt does not begin with it. */
enum fm_status fm_prompt_encode(const struct fm_prompt *p, const struct fm_tokenizer *t, struct fm_ids *out,
                                struct fm_error *err) FM_MUST_USE;

#endif
