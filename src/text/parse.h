/* What a model said, taken apart while it comes: reasoning, content, tool calls.
 *
 *   …why…</think>The answer.\n\n<｜DSML｜tool_calls>…</｜DSML｜tool_calls><｜end▁of▁sentence｜>
 *   [---]        [---------]    [--------------------------------------]
 *   reasoning     content        calls, handed out at the end
 *
 * The result does not depend on how the text was cut into pieces: what may be the beginning of a mark is held back, and
 * from the first mark of a tool block on everything waits for the end, but for those who want calls as they come. */
#ifndef FM_TEXT_PARSE_H
#define FM_TEXT_PARSE_H

#include "base/pyjson.h"

enum fm_calls {
    FM_CALLS_NONE,
    FM_CALLS_FENCED, /* DeepSeek V3, R1: type, name, fenced JSON */
    FM_CALLS_BARE,   /* V3.1: name and JSON                      */
    FM_CALLS_V32,    /* DSML, function_calls                     */
    FM_CALLS_V4,     /* DSML, tool_calls                         */
    FM_CALLS_HERMES, /* Qwen: <tool_call> and JSON               */
    FM_CALLS_OBJECT, /* Llama 3: the answer is the call          */
    FM_CALLS_COUNT
};

struct fm_parse_rules {
    const char *ends[3]; /* texts of the end tokens */
    enum fm_calls calls;
    bool opens; /* the model may write <think> itself, as its first word     */
    bool lines; /* newlines around reasoning and in front of content are not part of them (Qwen 3) */
    bool trim;  /* white space around the content neither (Llama 2)          */
};

struct fm_said_call {
    char *name, *arguments; /* arguments: the text of a JSON object */
    size_t n_name, n_arguments;
};

/* A call that was told while it came. */
struct fm_told_call {
    struct fm_buf name, arguments;
};

struct fm_parser {
    const struct fm_parse_rules *rules;
    int state;
    struct fm_buf held;               /* came, but is not out yet                 */
    struct fm_buf reasoning, content; /* all of them so far                       */
    struct fm_said_call *calls;
    size_t n_calls, cap_calls;
    bool failed;                                                     /* memory was short                         */
    const char *warning;                                             /* NULL, or what was wrong with the text    */
    void (*out)(void *arg, bool reasoning, const char *s, size_t n); /* NULL, or called with what has become sure */
    void *arg;
    /* NULL, or called for call i of the block: with its name once, then with its arguments in pieces.  A call that was told
     * stays one, as far as it came, even if its block turns out to be malformed. */
    void (*on_call)(void *arg, size_t i, const char *name, size_t n_name, const char *arguments, size_t n);
    struct fm_told_call *told;
    size_t n_told, cap_told, told_at; /* told_at: bytes of held that are dealt with */
    int step, depth;                  /* of calls_stream.c                          */
    bool in_string, escaped;
};

/* thinking: the prompt ended inside an opened think block. */
void fm_parser_init(struct fm_parser *p, const struct fm_parse_rules *rules, bool thinking);
void fm_parser_push(struct fm_parser *p, const char *s, size_t n);
/* Inside the reasoning, or in front of it. */
bool fm_parser_reasons(const struct fm_parser *p);
/* Nothing more comes; afterwards reasoning, content and calls are complete. */
void fm_parser_end(struct fm_parser *p);
void fm_parser_release(struct fm_parser *p);

/* {"role": "assistant", …} with all four keys, on one line. */
void fm_parser_write(const struct fm_parser *p, struct fm_buf *out);

/* calls.c: the calls of a block that begins at s; true and *used when it is well formed.  On false nothing is kept. */
bool fm_calls_parse(struct fm_parser *p, const char *s, size_t n, size_t *used);
void fm_calls_drop(struct fm_parser *p, size_t keep);
bool fm_calls_add(struct fm_parser *p, struct fm_span name, struct fm_span arguments);

/* calls_stream.c: of the block in held, tell what has become sure since the last time. */
void fm_calls_tell(struct fm_parser *p);
void fm_calls_told_release(struct fm_parser *p);

#endif
