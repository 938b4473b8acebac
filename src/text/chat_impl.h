/* Inside the chat formats: one conversation with everything that any format knows, and the table's row. */
#ifndef FM_TEXT_CHAT_IMPL_H
#define FM_TEXT_CHAT_IMPL_H

#include "base/pyjson.h"
#include "text/chat.h"
#include "text/parse.h"

enum fm_role { FM_SYSTEM, FM_DEVELOPER, FM_USER, FM_ASSISTANT, FM_TOOL, FM_REMINDER, FM_ROLE_COUNT };

struct fm_call {
    struct fm_span id, type, name;
    const struct fm_py *arguments; /* an object                                           */
    struct fm_span written;        /* its text, where it has to be kept; .s NULL: as Python writes it */
};

/* A piece of a user's turn: text, or the result of the call with this id. */
struct fm_piece {
    struct fm_span text, id;
    bool result;
};

struct fm_turn {
    enum fm_role role;
    struct fm_span text, reasoning, call_id, task;
    bool has_text, has_reasoning; /* there at all, and not null */
    bool wo_eos, prefix;          /* no end token; the beginning of an answer */
    struct fm_call *calls;
    size_t n_calls;
    const struct fm_py *tools, *format; /* NULL, or what the message carries: a list; response_format */
    struct fm_piece *pieces;            /* content_blocks */
    size_t n_pieces;
};

struct fm_talk {
    struct fm_turn *turns;
    size_t n;
    const struct fm_py *tools, *builtin; /* NULL or a list that is not empty; Llama 3.1's own tools, by name */
    bool generate, thinking, drop_thinking, tools_in_user;
    struct fm_span effort, date; /* .s NULL: not given */
};

enum {
    FM_PLAIN_ROLES = 1 << FM_SYSTEM | 1 << FM_USER | 1 << FM_ASSISTANT,
    FM_TOOL_ROLES = FM_PLAIN_ROLES | 1 << FM_TOOL,
    FM_ALL_ROLES = (1 << FM_ROLE_COUNT) - 1
};

enum fm_chat_rules {
    FM_CHAT_TRIM = 1 << 0,         /* white space around every text is dropped                  */
    FM_CHAT_SYSTEM_FIRST = 1 << 1, /* system texts go to the front, joined by a blank line      */
    FM_CHAT_SYSTEM_FOLD = 1 << 2,  /* the system text is part of the user's text that follows   */
    FM_CHAT_NO_ROLES = 1 << 3,     /* texts one behind the other                                */
    FM_CHAT_THINKS = 1 << 4,       /* where nothing is said about thinking, it does             */
    FM_CHAT_TOOLS = 1 << 5,        /* says in the prompt which tools there are                  */
    FM_CHAT_TOOLS_UNSAID = 1 << 6, /* knows calls and results, but has no place to list tools   */
    FM_CHAT_EFFORT_HIGH = 1 << 7,  /* DeepSeek-V4 of July 31: "high" has a paragraph of its own */
    FM_CHAT_MAY_THINK = 1 << 8,    /* thinks or not, as the prompt says                         */
    FM_CHAT_EFFORT = 1 << 9,       /* knows the efforts high and max                            */
};

struct fm_chat_format {
    const char *name;
    const char *all[3], *none[3]; /* a template of this format contains all of these and none of those */
    const char *token;            /* control token that the tokenizer must have                        */
    const char *bos;
    const char *system; /* text of the system message when there is none */
    struct {
        const char *before, *after;
    } turn[FM_ROLE_COUNT];
    const char *generate;
    unsigned rules, roles;
    enum fm_status (*encode)(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                             struct fm_error *err);
    struct fm_parse_rules parse;
};

/* The messages object of `fathom chat-encode`, or a bare list of messages.  Texts and values live in doc, the arrays
 * too.  FM_ERR_INPUT names the message and the key. */
enum fm_status fm_talk_read(const struct fm_chat_format *f, const struct fm_py *v, struct fm_py_doc *doc,
                            struct fm_talk *out, struct fm_error *err) FM_MUST_USE;
/* The prompt; FM_ERR_USAGE for what the format cannot express. */
enum fm_status fm_talk_encode(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                              struct fm_error *err) FM_MUST_USE;

/* ---- encoders ---- */

enum fm_status fm_encode_plain(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                               struct fm_error *err);
enum fm_status fm_encode_qwen25(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                                struct fm_error *err);
enum fm_status fm_encode_qwen3(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                               struct fm_error *err);
enum fm_status fm_encode_llama31(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                                 struct fm_error *err);
enum fm_status fm_encode_v3(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                            struct fm_error *err);
enum fm_status fm_encode_r1(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                            struct fm_error *err);
enum fm_status fm_encode_v31(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                             struct fm_error *err);
enum fm_status fm_encode_v32(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                             struct fm_error *err);
enum fm_status fm_encode_v4(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                            struct fm_error *err);

/* ---- what they share ---- */

struct fm_span fm_span_of(const char *s);
struct fm_span fm_span_trim(struct fm_span t);                     /* Python's str.strip() */
struct fm_span fm_span_strip(struct fm_span t, char c, bool both); /* of this byte; in front, or at both ends */
/* Cut at the first or last mark; false: it is not there, and *behind is t. */
bool fm_span_cut(struct fm_span t, const char *mark, bool last, struct fm_span *before, struct fm_span *behind);

void fm_put(struct fm_prompt *p, struct fm_span t);  /* what a user or a model wrote */
void fm_put_str(struct fm_prompt *p, const char *s); /* what the format wrote, without control tokens */
void fm_put_json(struct fm_prompt *p, const struct fm_py *v, int indent);
void fm_put_arguments(struct fm_prompt *p, const struct fm_call *c);
/* System texts joined by a blank line; false: there are none. */
bool fm_put_systems(struct fm_prompt *p, const struct fm_talk *t);

/* ---- DeepSeek's marks ---- */

#define FM_DS_BOS       FM_CONTROL("<｜begin▁of▁sentence｜>")
#define FM_DS_EOS       FM_CONTROL("<｜end▁of▁sentence｜>")
#define FM_DS_USER      FM_CONTROL("<｜User｜>")
#define FM_DS_ASSISTANT FM_CONTROL("<｜Assistant｜>")
#define FM_THINK        FM_CONTROL("<think>")
#define FM_THINK_END    FM_CONTROL("</think>")
#define FM_DSML         FM_CONTROL("｜DSML｜")

/* ---- paragraphs.c: what the models were trained to see ---- */

enum fm_paragraph_id {
    FM_PARAGRAPH_V31_TOOLS,
    FM_PARAGRAPH_V32_TOOLS,
    FM_PARAGRAPH_V4_TOOLS,
    FM_PARAGRAPH_FORMAT,
    FM_PARAGRAPH_EFFORT,
    FM_PARAGRAPH_EFFORT_MORE,
    FM_PARAGRAPH_LLAMA_TOOLS,
    FM_PARAGRAPH_QWEN_TOOLS,
    FM_PARAGRAPH_COUNT
};

#define FM_GAP "\x03" /* where the schemas go */
struct fm_paragraph {
    const char *text, *source;
    size_t n;           /* bytes without the gap              */
    const char *sha256; /* of the same, the first digits or all */
};
extern const struct fm_paragraph fm_paragraphs[FM_PARAGRAPH_COUNT];

/* Up to the gap, and from it on; control tokens in it are marked. */
void fm_put_paragraph(struct fm_prompt *p, enum fm_paragraph_id id);
void fm_put_paragraph_end(struct fm_prompt *p, enum fm_paragraph_id id);

#endif
