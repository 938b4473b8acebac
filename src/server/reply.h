/* An answer on its way: what the scheduler says becomes what a dialect says.  It has one choice, or several, each a request
 * of its own to the scheduler; the dialects' functions see one of them at a time.
 *
 *   on_text ─► chat parser ─► reasoning | content ─► dialect.piece ─► http
 *   on_end  ─► tool calls, usage                  ─► dialect.calls, dialect.end
 *
 * A streamed answer writes as it comes; a whole one is collected and written at its end.  The dialect's functions run on
 * the scheduler's thread and only append to buffers. */
#ifndef FM_SERVER_REPLY_H
#define FM_SERVER_REPLY_H

#include "server/ask.h"

struct fm_reply;

struct fm_dialect {
    const char *type, *ping; /* of a stream: content type, what is sent in silent times                        */
    void (*begin)(struct fm_reply *p);                                             /* streamed: first events  */
    void (*piece)(struct fm_reply *p, bool reasoning, const char *text, size_t n); /* streamed                */
    /* Streamed: call i's name, then, with name NULL, its arguments in pieces; NULL: end writes the calls. */
    void (*call)(struct fm_reply *p, int i, const char *name, size_t n_name, const char *args, size_t n);
    void (*end)(struct fm_reply *p);   /* streamed: the rest, tool calls included                              */
    void (*whole)(struct fm_reply *p); /* the answer in one piece, into out; p: the first choice that goes out */
    void (*fault)(struct fm_web_request *r, const struct fm_fault *f);
    void (*fault_in_stream)(struct fm_reply *p, const struct fm_fault *f);
    bool chat;  /* the text is an assistant's turn: take it apart */
    bool embed; /* there is no text: result.embedding is the answer */
};

/* A token's probabilities, kept where the client asked for them. */
struct fm_said_token {
    struct fm_token_event ev;
    size_t text_offset; /* characters in front of it */
};

/* One choice. */
struct fm_reply {
    struct fm_answer *answer;
    struct fm_server *s;
    struct fm_web_request *r;
    const struct fm_dialect *dialect;
    struct fm_chat_parser *parser; /* NULL: plain text */
    struct fm_ask ask;             /* a view of the answer's: ids are those of this choice's prompt, ends is NULL */
    int index, prompt;             /* as the client sees it; which of the prompts */
    bool last;                     /* once this one has ended, all have            */
    double logprob;                /* sum over the answer's tokens                 */
    int n_made, n_reasoning;       /* tokens of the answer so far; of its reasoning, without the mark behind it */
    char id[48];
    long long created;
    enum fm_constraint_start start;     /* where a constraint begins */
    int state;                          /* the dialect's own … */
    bool opened;                        /* … of Messages: a block is open; */
    int n_events, n_items;              /* … of Responses: events and output items so far, */
    size_t item_at;                     /* where the open item's text begins, */
    struct fm_buf items;                /* and the finished ones; */
    struct fm_buf call_name, call_args; /* the open call, */
    int call;                           /* and which it is */
    struct fm_buf out;                  /* events being built; reused */
    struct fm_buf reasoning, content;   /* all of them */
    struct fm_said_token *tokens;
    int n_tokens, cap_tokens, n_sent; /* n_sent: those whose probabilities have been streamed */
    size_t chars, prompt_chars;       /* of the content, and of the tokens of the echoed prompt so far */
    bool failed;                      /* memory was short */
    struct fm_request_result result;
    struct fm_py_doc message;  /* the parser's message … */
    const struct fm_py *calls; /* … its tool_calls, NULL: none */
};

/* All the choices of a request. */
struct fm_answer {
    struct fm_ask ask;
    int n, left;  /* choices; those that have not ended */
    bool faulted; /* a fault went out: nothing follows  */
    int n_shown;  /* ask.n for each prompt, the best first where more were made */
    struct fm_reply **shown;
    struct fm_request **requests;
    struct fm_reply all[];
};
/* Over all choices; tokens of a prompt count once. */
struct fm_answer_tokens {
    int prompt, cached, answer, reasoning;
    double joules; /* 0 where nobody counts them */
};
struct fm_answer_tokens fm_answer_tokens(const struct fm_answer *a);

/* Takes over what ask holds.  Answers r in the end, whatever happens. */
void fm_reply_start(struct fm_server *s, struct fm_web_request *r, const struct fm_dialect *d, struct fm_ask *ask,
                    const char *id_prefix);
/* Send out and clear it. */
void fm_reply_flush(struct fm_reply *p);
/* "stop", "length", "tool_calls" */
const char *fm_reply_finish(const struct fm_reply *p);
/* "name" or "arguments" of one of p->calls; empty when absent. */
struct fm_span fm_reply_call_part(const struct fm_py *call, const char *key);
/* Ollama's: a line. */
void fm_ollama_fault_in_stream(struct fm_reply *p, const struct fm_fault *f);
/* A tool call's id: call_00_… from the answer's id and its place. */
void fm_reply_call_id(const struct fm_reply *p, int i, char *dst, size_t n);

#endif
