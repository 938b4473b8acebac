/* fathom: run DeepSeek-class models.  The public inference API.
 *
 *   engine  = a loaded model: weights, tokenizer, chat format, threads.  Read-only after opening.
 *   session = one mutable timeline of tokens over an engine, with its KV cache.
 *
 * Every function that can fail returns an enum fm_status and fills the optional last argument; see fathom_status.h.
 * Handles are freed by their close/free function, which accepts NULL.  One thread at a time per session; the compute
 * threads belong to the engine, so that sessions of one engine take turns. */
#ifndef FATHOM_H
#define FATHOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom_status.h"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/* ---- engine ---------------------------------------------------------------------------------------------------- */

struct fm_engine;

/* Speculation: tokens guessed ahead and verified in one step.  No draft ever changes a text or its probabilities, only how
 * fast it comes; a guard measures whether drafting pays and pauses it while it does not. */
enum fm_draft {
    FM_DRAFT_OFF,
    FM_DRAFT_AUTO,   /* whichever source of the following pays most       */
    FM_DRAFT_LOOKUP, /* what followed the last tokens earlier in the text */
    FM_DRAFT_MTP,    /* the model's multi-token-prediction block          */
};
const char *fm_draft_name(enum fm_draft d); /* "off", "auto", "lookup", "mtp"; NULL behind the last */

struct fm_engine_options {
    const char *model;   /* GGUF file, or folder in Hugging Face layout                                    */
    int threads;         /* 0: one per core this process may use                                           */
    bool exact;          /* dequantised weights, float32, absorbed MLA, fixed order: the referee           */
    bool deterministic;  /* fast kernels, same bits whatever the session's history (implied by exact)      */
    const char *kv_type; /* what caches keep: "f32", "bf16", "q8_0"; NULL: q8_0, or f32 where exact        */
    const char *pin;     /* keep threads on their processors: "on", "off"; NULL, "auto": on their memory node  */
    const char *pack;    /* copy weights into the layout read fastest: "on", "off"; NULL, "auto": if they fit */
    int ctx;             /* longest context a session may ask for; 0: the model's own, at most 4096        */
    int chunk;           /* prompt tokens per step; 0: 512.  Changes no bits, only memory and speed        */
    enum fm_draft draft; /* memory for drafts is planned here; MTP of a model without it: FM_ERR_USAGE     */
    int draft_max;       /* most tokens of a draft, up to 16; 0: 4                                         */
};

enum fm_status fm_engine_open(const struct fm_engine_options *o, struct fm_engine **out,
                              struct fm_error *err) FM_MUST_USE;
void fm_engine_close(struct fm_engine *e);

/* What a model is; strings live as long as the engine. */
struct fm_model_info {
    const char *path, *family; /* "deepseek_v3"                                              */
    const char *name, *format; /* general.name or folder name; main weight format, "Q4_1"    */
    const char *chat_format;   /* "chatml", …; NULL: the model continues text                */
    bool chat_unknown;         /* it has a chat template, of none of the formats that there are            */
    int n_layers, dim, vocab, ctx_train, n_heads, n_experts, n_experts_active, n_mtp;
    int64_t params_total, params_active; /* active: used for one token, without the embedding table           */
    uint64_t file_bytes, weight_bytes, active_weight_bytes; /* active: read per decoded token                  */
    uint64_t kv_bytes_per_token;    /* of the engine's KV type; inspected: of the usual one                */
    double flops_per_token;         /* forward, 2 per weight used, at empty context                         */
    double flops_per_token_per_ctx; /* more per cached token (attention)                                    */
};
const struct fm_model_info *fm_engine_info(const struct fm_engine *e);
/* The same without loading: maps the file, checks every shape, closes it.  Free with fm_model_info_free. */
enum fm_status fm_model_inspect(const char *path, struct fm_model_info **out, struct fm_error *err) FM_MUST_USE;
void fm_model_info_free(struct fm_model_info *i);

/* The memory plan: calls fn once per item before anything is allocated. file_backed: mapped, the kernel may drop it. */
typedef void (*fm_memory_fn)(void *arg, const char *item, uint64_t bytes, bool file_backed);
/* For a model with the engine options o and one session of ctx tokens. */
enum fm_status fm_memory_plan(const struct fm_engine_options *o, fm_memory_fn fn, void *arg,
                              struct fm_error *err) FM_MUST_USE;

int fm_engine_threads(const struct fm_engine *e);
const char *fm_engine_tier(const struct fm_engine *e); /* "avx2" */
const char *fm_cpu_tier(void);                         /* without an engine */
int fm_default_threads(void);

/* ---- text ------------------------------------------------------------------------------------------------------ */

struct fm_tokenizer;

/* See the command line's `tokenize`: GGUF, folder, tokenizer.json, SentencePiece .model, tiktoken ranks with pre. */
enum fm_status fm_text_open(const char *path, const char *pre, struct fm_tokenizer **out,
                            struct fm_error *err) FM_MUST_USE;
void fm_text_close(struct fm_tokenizer *t);
const struct fm_tokenizer *fm_engine_tokenizer(const struct fm_engine *e); /* NULL: the model carries none */

enum { FM_TEXT_SPECIAL = 1, FM_TEXT_BOS = 2, FM_TEXT_EOS = 4 };
/* *ids: n_ids ids on the heap, free with fm_text_free. */
enum fm_status fm_text_encode(const struct fm_tokenizer *t, const char *text, size_t n, unsigned flags, int32_t **ids,
                              size_t *n_ids, struct fm_error *err) FM_MUST_USE;
/* *text: n_text raw bytes plus a NUL, free with fm_text_free. */
enum fm_status fm_text_decode(const struct fm_tokenizer *t, const int32_t *ids, size_t n_ids, char **text,
                              size_t *n_text, struct fm_error *err) FM_MUST_USE;
int32_t fm_text_vocab(const struct fm_tokenizer *t);
bool fm_text_is_end(const struct fm_tokenizer *t, int32_t id); /* ends an answer */
bool fm_text_adds_bos(const struct fm_tokenizer *t);           /* the file wants BOS in front of every text */
void fm_text_free(void *p);

/* Learn a byte-level BPE vocabulary from files and folders and write tokenizer.json to out_path. */
struct fm_text_train_options {
    const char *const *paths;
    int n_paths;
    int vocab;       /* entries, the 256 bytes and the special token included */
    const char *pre; /* pre-tokenizer, NULL: "smollm" */
    int threads;
    void (*progress)(void *arg, int done, int total);
    void *progress_arg;
};
struct fm_text_train_result {
    uint64_t corpus_bytes, files;
    int vocab;
    double seconds;
};
enum fm_status fm_text_train(const struct fm_text_train_options *o, const char *out_path,
                             struct fm_text_train_result *r, struct fm_error *err) FM_MUST_USE;

/* ---- sessions -------------------------------------------------------------------------------------------------- */

struct fm_session;

enum fm_status fm_session_new(struct fm_engine *e, int ctx /* 0: the engine's */, struct fm_session **out,
                              struct fm_error *err) FM_MUST_USE;
void fm_session_free(struct fm_session *s);
int fm_session_length(const struct fm_session *s); /* tokens in the cache */
int fm_session_ctx(const struct fm_session *s);
/* Forget everything after the first n tokens; n <= length. */
void fm_session_rewind(struct fm_session *s, int n);
/* Append ids as one segment and compute.  logits NULL, or [n, vocab] for every position.  A cancelled or failed call
 * leaves the session as it was.  More tokens than ctx: FM_ERR_USAGE. */
enum fm_status fm_session_feed(struct fm_session *s, const int32_t *ids, int n, float *logits,
                               struct fm_error *err) FM_MUST_USE;
/* [vocab] of the last token fed; valid until the next feed or rewind; NULL when empty. */
const float *fm_session_logits(const struct fm_session *s);
/* From a signal handler or another thread: the running feed or generate stops within a tile. Cleared by the next call. */
void fm_session_cancel(struct fm_session *s);

struct fm_bias {
    int32_t id;
    float add; /* to the logit; -100 and less: never */
};
struct fm_sampling {
    float temp;   /* 0: greedy, exact (ties: lower id)            */
    int top_k;    /* 0: off                                       */
    float top_p;  /* 1: off                                       */
    float min_p;  /* 0: off                                       */
    float repeat; /* penalty on the last repeat_last tokens, 1: off */
    int repeat_last;
    float frequency, presence;  /* taken off the logit per earlier token of the answer alike, and once; 0: off */
    const struct fm_bias *bias; /* [n_bias] of which each id stands once; must live as long as the sampling */
    int n_bias;
    uint64_t seed;
};
struct fm_sampling fm_sampling_default(void); /* 0.7, 40, 0.95, 0, 1, 64, seed 0 */

/* What an answer may say, checked on every token.  Its grammar is read-only: any number of generations may follow it at once.
 * Reasoning is free; the answer behind it is bound. */
struct fm_constraint;
enum fm_constraint_kind {
    FM_CONSTRAINT_JSON,   /* any JSON object                                   */
    FM_CONSTRAINT_SCHEMA, /* a value that satisfies a JSON schema              */
    FM_CONSTRAINT_GBNF,   /* a text of a grammar; llama.cpp's notation         */
    FM_CONSTRAINT_NONE,   /* any text, but for tools                           */
};
enum fm_tool_choice {
    FM_TOOLS_NONE,    /* no calls                                                                          */
    FM_TOOLS_AUTO,    /* the answer, or a call: strict tools' calls follow their schemas                   */
    FM_TOOLS_REQUIRED /* a call, in the format's own words; arguments follow the schemas that have a grammar */
};
struct fm_constraint_options {
    enum fm_constraint_kind kind;
    const char *text; /* [n] the schema or the grammar */
    size_t n;
    const char *what; /* names it in messages; NULL: "the schema", "the grammar" */
    enum fm_tool_choice tool_choice;
    const char *format;   /* of tools: the chat format …                                               */
    const char *messages; /* … [n_messages] as for fm_chat_format_encode: of these the "tools", and … */
    size_t n_messages;
    const char *tool; /* … NULL, or the only one that may be called                              */
};
/* *out NULL: nothing is bound (tools of which none is strict).  FM_ERR_USAGE: tools that are not there, or a format without
 * calls.  FM_ERR_INPUT "WHAT: WHERE: WHY" for a schema or grammar that is malformed, too large or not supported.  The engine must
 * outlive it. */
enum fm_status fm_constraint_new(struct fm_engine *e, const struct fm_constraint_options *o, struct fm_constraint **out,
                                 struct fm_error *err) FM_MUST_USE;
void fm_constraint_free(struct fm_constraint *c); /* NULL is fine */
enum fm_constraint_start {
    FM_START_ANSWER,    /* all that is generated is the answer                          */
    FM_START_MAY_THINK, /* … but for a think block that the model may open as its first */
    FM_START_IN_THOUGHT /* the prompt ended inside a think block                        */
};

struct fm_generation {
    struct fm_sampling sampling;
    const struct fm_constraint *constraint;    /* NULL: none; must live during the call                   */
    enum fm_constraint_start constraint_start; /* in conversations set by their format                    */
    int max_tokens;                            /* -1: until the context is full */
    const char *const *stop;                   /* texts that end the answer, not part of it */
    int n_stop;
    enum fm_draft draft; /* within what the engine was opened for, else FM_ERR_USAGE */
    int draft_max;       /* most tokens of a draft; 0: the engine's                  */
    /* UTF-8 text as it comes, whole code points; return false to stop. */
    bool (*on_text)(void *arg, const char *text, size_t n);
    /* In conversations with a model that thinks first: the reasoning, and only the answer to on_text.  NULL: all of it
     * to on_text. */
    bool (*on_reasoning)(void *arg, const char *text, size_t n);
    void *arg;
};
enum fm_finish { FM_FINISH_STOP, FM_FINISH_LENGTH, FM_FINISH_CANCELLED };
struct fm_generation_stats {
    int prompt_tokens, cached_tokens, answer_tokens;
    double prompt_seconds, answer_seconds;
    int steps, drafted, accepted; /* of the model for the answer; tokens guessed, and found to be right */
    enum fm_finish finish;
};
/* Continue the session from its last logits.  The generated tokens stay in the session. */
enum fm_status fm_session_generate(struct fm_session *s, const struct fm_generation *g,
                                   struct fm_generation_stats *stats, struct fm_error *err) FM_MUST_USE;

/* ---- conversations --------------------------------------------------------------------------------------------- */

struct fm_chat; /* a session plus its messages in the model's chat format; without one, a growing text */

enum fm_status fm_chat_new(struct fm_engine *e, int ctx, const char *system /* NULL: the format's default */,
                           const char *format /* NULL: the model's */, struct fm_chat **out,
                           struct fm_error *err) FM_MUST_USE;
void fm_chat_free(struct fm_chat *c);
/* Add the user's text and generate the answer; an answer that was cancelled is kept as far as it came.
 * Everything cached that still fits the conversation is reused.  A conversation longer than the context is FM_ERR_USAGE;
 * a text without chat format loses its beginning instead. */
enum fm_status fm_chat_send(struct fm_chat *c, const char *text, const struct fm_generation *g,
                            struct fm_generation_stats *stats, struct fm_error *err) FM_MUST_USE;
/* Drop the last answer and generate it again; a question that a loaded conversation ends with gets its first one.
 * FM_ERR_USAGE when there is neither. */
enum fm_status fm_chat_regenerate(struct fm_chat *c, const struct fm_generation *g, struct fm_generation_stats *stats,
                                  struct fm_error *err) FM_MUST_USE;
/* Whether answers in a conversation's format begin with reasoning. */
enum fm_thinking { FM_THINKS_NEVER, FM_THINKS_ON_DEMAND, FM_THINKS_ALWAYS };
enum fm_thinking fm_chat_can_think(const struct fm_chat *c);
/* For the answers from now on; at first none where it is on demand.  effort NULL, "low", "high" or "max".  FM_ERR_USAGE when
 * the format cannot do that, or tells the model nothing about this effort; then nothing has changed. */
enum fm_status fm_chat_set_thinking(struct fm_chat *c, bool thinking, const char *effort,
                                    struct fm_error *err) FM_MUST_USE;
/* *effort (may be NULL): NULL or what was set, static. */
bool fm_chat_thinking(const struct fm_chat *c, const char **effort);

/* The i-th message, from 0: false behind the last.  role is static, text ends with a NUL and stays until the conversation
 * changes.  Of answers only the content is kept, no reasoning. */
bool fm_chat_message(const struct fm_chat *c, int i, const char **role, const char **text);
/* Drop the last message of the user and what came behind it.  false: there is none. */
bool fm_chat_undo(struct fm_chat *c);
/* The messages and the thinking as JSON, as chat-encode takes them; a file that is there is replaced, or left whole. */
enum fm_status fm_chat_save(const struct fm_chat *c, const char *path, struct fm_error *err) FM_MUST_USE;
/* The conversation becomes the file's, its system message and its thinking included.  What a chat has no place for (tools,
 * other roles, more than the context holds) is FM_ERR_INPUT; on failure nothing has changed. */
enum fm_status fm_chat_load(struct fm_chat *c, const char *path, struct fm_error *err) FM_MUST_USE;
void fm_chat_clear(struct fm_chat *c);
void fm_chat_cancel(struct fm_chat *c); /* as fm_session_cancel */
int fm_chat_length(const struct fm_chat *c);
int fm_chat_ctx(const struct fm_chat *c);
const char *fm_chat_format_name(const struct fm_chat *c); /* NULL: continues text */

/* ---- chat formats ---------------------------------------------------------------------------------------------- */

/* The i-th name, NULL behind the last: "deepseek-v4", "qwen3", … */
const char *fm_chat_format_at(int i);

/* Whether a model of the format can reason before it answers, always or when asked; false for a format that is not known. */
bool fm_chat_format_thinks(const char *format);

/* The prompt of messages[n], JSON as the command line's `chat-encode` takes it.  thinking: as if the messages asked for
 * it.  *text: n_text bytes plus a NUL, free with fm_text_free.  An unknown format is FM_ERR_USAGE, messages that are
 * malformed or that the format cannot express FM_ERR_INPUT. */
enum fm_status fm_chat_format_encode(const char *format, const char *messages, size_t n, bool thinking, char **text,
                                     size_t *n_text, struct fm_error *err) FM_MUST_USE;
/* The same as ids; only what the format wrote becomes control tokens.  *ids: free with fm_text_free. */
enum fm_status fm_chat_format_encode_ids(const char *format, const struct fm_tokenizer *t, const char *messages,
                                         size_t n, bool thinking, int32_t **ids, size_t *n_ids,
                                         struct fm_error *err) FM_MUST_USE;

/* Takes apart what a model produces after a prompt, while it comes.  The result is the same wherever the text is cut. */
struct fm_chat_parser;
/* thinking: the prompt ended inside an opened think block.  out NULL, or called with each piece that is sure; tool calls
 * come at the end. */
enum fm_status fm_chat_parser_new(const char *format, bool thinking,
                                  void (*out)(void *arg, bool reasoning, const char *text, size_t n), void *arg,
                                  struct fm_chat_parser **parser, struct fm_error *err) FM_MUST_USE;
/* Calls as they come, to out's arg: call i's name once, then its arguments, JSON as it was said, in pieces.  What was told stays
 * a call, as far as it came.  Before the first push. */
void fm_chat_parser_tell_calls(struct fm_chat_parser *c, void (*call)(void *arg, size_t i, const char *name,
                                                                      size_t n_name, const char *arguments, size_t n));
void fm_chat_parser_push(struct fm_chat_parser *c, const char *text, size_t n);
/* What comes next is still reasoning, or the mark that ends it. */
bool fm_chat_parser_reasons(const struct fm_chat_parser *c);
/* Once, when all has come.  *message: the JSON object of `chat-decode`, n bytes plus a NUL, free with fm_text_free.
 * *warning (may be NULL): NULL, or what was wrong with the text; static. */
enum fm_status fm_chat_parser_end(struct fm_chat_parser *c, char **message, size_t *n, const char **warning,
                                  struct fm_error *err) FM_MUST_USE;
void fm_chat_parser_free(struct fm_chat_parser *c);

/* ---- importance matrices --------------------------------------------------------------------------------------- */

/* Runs a calibration text through a model and keeps, for each weight matrix, the mean of the squared inputs per column:
 * what quantising weighs its errors with.  The text is cut into chunks, each a sequence of its own; the last, shorter one is
 * left out.  If the model wants BOS, it replaces the first token of each chunk.  (So does llama.cpp, whose format OUT has.)
 * The same bits for any number of threads, and whether or not a run was resumed. */
struct fm_calibration;
struct fm_calibration_options {
    struct fm_engine_options engine; /* ctx: tokens of a chunk, 0: 512; chunk: ignored               */
    const char *text, *out;          /* files                                                       */
    int first, chunks;               /* chunks to leave out, 0 or more; to run at most, 0: all      */
    int save_every;                  /* chunks; 0: 10                                               */
    bool resume;                     /* OUT is of the same text and options: go on behind it        */
    bool special;                    /* names of control tokens in the text are those tokens        */
    bool output;                     /* the output matrix, too (of a tied model the embedding)      */
};
enum fm_status fm_calibration_new(const struct fm_calibration_options *o, struct fm_calibration **out,
                                  struct fm_error *err) FM_MUST_USE;
void fm_calibration_free(struct fm_calibration *c);
int fm_calibration_total(const struct fm_calibration *c); /* chunks, … */
int fm_calibration_done(const struct fm_calibration *c);  /* … and how many of them are in the sums */
/* progress (may be NULL) is called after each chunk.  OUT is replaced every save_every chunks and at the end, also at the end
 * that fm_calibration_cancel or a failure makes. */
enum fm_status fm_calibration_run(struct fm_calibration *c, void (*progress)(void *arg, int done, int total), void *arg,
                                  struct fm_error *err) FM_MUST_USE;
void fm_calibration_cancel(struct fm_calibration *c); /* as fm_session_cancel */

/* What such a file says: GGUF, or llama.cpp's older .dat. */
struct fm_importance;
struct fm_importance_info {
    const char *name;              /* of the weights                                                     */
    uint64_t matrices, seen, cols; /* experts (else 1), those that had input, columns of each            */
    int64_t rows_min, rows_max;    /* inputs per matrix                                                  */
    double min, max, mean, dev;    /* of the mean squares of all columns that had input                  */
    double active, entropy;        /* share of them above 1e-5; 1: all the same, 0: one has everything   */
};
enum fm_status fm_importance_open(const char *path, struct fm_importance **out, struct fm_error *err) FM_MUST_USE;
void fm_importance_close(struct fm_importance *m);
int fm_importance_count(const struct fm_importance *m); /* tensors, by name */
void fm_importance_at(const struct fm_importance *m, int i, struct fm_importance_info *out);
int64_t fm_importance_chunks(const struct fm_importance *m, int *tokens); /* and of how many tokens each is */
const char *fm_importance_text(const struct fm_importance *m, int i);     /* names of texts; NULL behind the last */
/* The sum of n >= 1 files, as a new one. */
enum fm_status fm_importance_merge(const char *const *paths, int n, const char *out, struct fm_error *err) FM_MUST_USE;
/* ---- judging: perplexity and divergence ------------------------------------------------------------------------ */

/* How well a model foretells a text, by the rule of llama.cpp's perplexity tool: windows of ctx tokens that do not overlap,
 * the first token of each replaced by BOS where the model begins texts with one; positions ctx/2 … ctx−2 of each are asked
 * for the token behind them.  Compared with another model, or with a file of its log-probabilities, also how far the two
 * predictions lie apart. */
struct fm_judge;

struct fm_judge_progress {
    int done, total; /* windows */
    int64_t tokens;  /* computed in this run     */
    double ppl, ppl_error;
    double kld; /* mean so far, NaN without comparison */
};
struct fm_judge_options {
    const int32_t *ids; /* the text, BOS in front where the model wants it; NULL: the reference's tokens */
    size_t n_ids;
    int ctx;                /* 3 …; 0: the reference's, else 512 or what the model was trained with if that is less */
    int chunks;             /* windows at most; 0: all                                                              */
    const char *reference;  /* NULL, or a file that save or llama.cpp wrote …                                       */
    struct fm_engine *base; /* … or the model itself: one of the two at most                                        */
    const char *save;       /* NULL, or where log-probabilities go, 2 bytes per entry of the vocabulary and position */
    const char *state;      /* NULL, or a file from which a run that was cut short goes on: the result has the same
                             * bits.  With save and without state: SAVE.state, removed at the end.                   */
    bool (*progress)(void *arg, const struct fm_judge_progress *p); /* NULL, or after each step; false: stop        */
    void *arg;
};
struct fm_estimate {
    double value, error; /* error: standard error */
};
enum { FM_JUDGE_QUANTILES = 12 }; /* 0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9, 100 % */
struct fm_judge_result {
    int ctx, chunks;
    uint64_t scored;                                 /* positions                                          */
    struct fm_estimate nll, ppl;                     /* mean −ln p, e^mean                                 */
    double bits_per_byte;                            /* of the scored tokens' text; NaN without tokenizer  */
    bool compared;                                   /* the rest only then; base: what is compared with    */
    struct fm_estimate ppl_base, ln_ratio, ratio;    /* ln(PPL/PPL_base), PPL/PPL_base                     */
    double correlation;                              /* of the two ln p; NaN when one does not vary        */
    struct fm_estimate kld;                          /* mean Σ p_base·ln(p_base/p)                         */
    double kld_quantiles[FM_JUDGE_QUANTILES];        /* [5]: median                                        */
    struct fm_estimate same_top, p_diff, p_diff_rms; /* fractions; p_diff = p − p_base of the right token  */
    double p_diff_quantiles[FM_JUDGE_QUANTILES];
    int64_t tokens; /* computed in this run … */
    double seconds; /* … in this time         */
};

/* The windows a file of log-probabilities holds.  FM_ERR_INPUT when it is none. */
enum fm_status fm_judge_reference(const char *path, int *ctx, int *chunks, struct fm_error *err) FM_MUST_USE;
bool fm_judge_is_reference(const char *path); /* begins like one */
/* Bytes that save will take. */
uint64_t fm_judge_save_bytes(const struct fm_judge *j);

/* Checks everything, reserves memory and disk, and reads the state of a run cut short.  Strings and engines must live as
 * long as the judge; ids are copied. */
enum fm_status fm_judge_new(struct fm_engine *e, const struct fm_judge_options *o, struct fm_judge **out,
                            struct fm_error *err) FM_MUST_USE;
/* FM_ERR_CANCELLED after fm_judge_cancel or progress: what was done is in the state file, if there is one. */
enum fm_status fm_judge_run(struct fm_judge *j, struct fm_judge_result *r, struct fm_error *err) FM_MUST_USE;
void fm_judge_cancel(struct fm_judge *j);    /* from a signal handler or another thread */
int fm_judge_done(const struct fm_judge *j); /* windows that need not be computed again */
int fm_judge_total(const struct fm_judge *j);
void fm_judge_free(struct fm_judge *j);

/* ---- judging: sets of questions -------------------------------------------------------------------------------- */

/* Multiple choice: which choice is likeliest behind the question, as plain text, by log-likelihood and by log-likelihood per
 * byte of the choice.  Other items: whether the greedy answer is right.  Shapes of items: src/run/evalset.h. */
struct fm_eval;

struct fm_eval_progress {
    int done, total; /* items */
    int right;       /* by likelihood or by answer */
};
struct fm_eval_options {
    const char *set;
    int shots;               /* examples in front of each question …                                  */
    const char *shots_from;  /* … from another set; NULL: others of this one                          */
    int limit;               /* items; 0: all                                                         */
    uint64_t seed;           /* of their order and of the examples; 0: as they stand                  */
    bool raw;                /* answers continue plain text, even where the model has a chat format   */
    const char *match;       /* NULL or "auto": by item; "exact", "text", "starts", "contains", "number" */
    const char *pattern;     /* NULL, or only its last match in an answer is compared                 */
    int max_tokens;          /* of an answer; 0: 256                                                  */
    const char *const *stop; /* texts that end an answer; none: an empty line, where it is plain text */
    int n_stop;
    int ctx;         /* tokens; 0: the engine's */
    const char *out; /* NULL, or a file that gets a JSON line per item; what it holds already is not done again */
    bool (*progress)(void *arg, const struct fm_eval_progress *p); /* NULL, or after each item; false: stop */
    void *arg;
};
struct fm_eval_result {
    int items, choice_items, answer_items, cut; /* cut: answers that reached max_tokens           */
    struct fm_estimate acc, acc_norm;           /* of choice_items; NaN without                   */
    struct fm_estimate chance;                  /* what guessing would reach                      */
    struct fm_estimate right;                   /* of answer_items; NaN without                   */
    double seconds;
};
/* Reads the sets and what out holds.  Strings and engine must live as long as the evaluation.  For the same result after a
 * restart as without, the engine must be deterministic. */
enum fm_status fm_eval_new(struct fm_engine *e, const struct fm_eval_options *o, struct fm_eval **out,
                           struct fm_error *err) FM_MUST_USE;
/* FM_ERR_CANCELLED after fm_eval_cancel or progress. */
enum fm_status fm_eval_run(struct fm_eval *v, struct fm_eval_result *r, struct fm_error *err) FM_MUST_USE;
void fm_eval_cancel(struct fm_eval *v);
int fm_eval_done(const struct fm_eval *v);
int fm_eval_total(const struct fm_eval *v);
void fm_eval_free(struct fm_eval *v);

/* ---- files ----------------------------------------------------------------------------------------------------- */

struct fm_tensors;
struct fm_tensor_info {
    const char *name, *format, *path;
    int n_dims;
    uint64_t shape[8], n_elements, n_bytes, offset; /* row-major, slowest first */
};
/* Any GGUF or safetensors file or model folder, known architecture or not. */
enum fm_status fm_tensors_open(const char *path, struct fm_tensors **out, struct fm_error *err) FM_MUST_USE;
void fm_tensors_close(struct fm_tensors *t);
int fm_tensors_count(const struct fm_tensors *t);
void fm_tensors_info(const struct fm_tensors *t, int i, struct fm_tensor_info *out);
int fm_tensors_find(const struct fm_tensors *t, const char *name); /* -1 when absent */
/* n_elements floats. */
enum fm_status fm_tensors_read(const struct fm_tensors *t, int i, float *dst, struct fm_error *err) FM_MUST_USE;

/* ---- machine --------------------------------------------------------------------------------------------------- */

enum { FM_MACHINE_FORMATS = 40 };
/* What products with weights in a format reach, all threads. */
struct fm_machine_format {
    char name[12];       /* "Q4_K"                                                                     */
    double decode;       /* bytes of weights per second, one row at a time, from memory …              */
    double decode_cache; /* … and when all weights fit the last cache (smaller models)                 */
    double prefill;      /* multiply-adds per second, many rows at once                                */
};
/* A machine: what the system says, what `fathom doctor` measured.  Rates are per second, [0] of one thread, [1] of all;
 * what is unknown is 0. */
struct fm_machine {
    char cpu[96], tier[16], huge_pages[16], governor[24];
    int cores_online, cores_physical, cores_allowed, threads, numa_nodes;
    int turbo; /* 1 on, 0 off, -1 unknown */
    bool virtual_machine;
    double cpu_quota, load; /* processors that a control group allows, 0: all; programs that wanted to run */
    uint64_t l1_bytes, l2_bytes, l3_bytes, memory_total, memory_available, memory_limit, memory_free, swap_total,
        swap_used;

    double read[2], read_huge[2]; /* bytes from memory, 4 KiB and 2 MiB pages                                  */
    double f32_peak[2], f32_gemm[2];
    double int8_peak[2], int8_gemm[2]; /* all in multiply-adds; gemm: what our products reach, int8 with Q8_0  */
    char f32_instruction[24], int8_instruction[24];
    struct fm_machine_format formats[FM_MACHINE_FORMATS];
    int n_formats;
    double attn_read;                 /* bytes of cached keys and values, few heads a key                         */
    double attn_decode, attn_prefill; /* multiply-adds: many heads a key, one row or whole prompts                */
    double loop_seconds;              /* to share a loop among all threads                         */
    double disk, disk_direct;         /* bytes of a file not in memory: through the page cache, past it */
    char disk_path[256];
    double noise; /* median run / best run − 1, over all figures: 0.05 is quiet */
    double seconds;
    int64_t when; /* Unix time */
};

struct fm_doctor_options {
    int threads;                /* 0: one per core                                                               */
    double seconds;             /* to spend, about; 0: 60, or 8 when quick                                       */
    bool quick;                 /* only the usual formats                                                        */
    const char *const *formats; /* NULL, or the only ones to measure; NULL-terminated                            */
    size_t memory_bytes;        /* to read; 0: enough that no cache holds it.  Less measures caches: for tests   */
    const char *file;           /* whose reading is timed; NULL: a temporary file in folder                      */
    const char *folder;         /* NULL: no temporary file, no figure of the disk                                */
    /* May be NULL.  Called before each figure; false stops: FM_ERR_CANCELLED. */
    bool (*progress)(void *arg, const char *what, int done, int total);
    void *arg;
};
/* The facts alone: at once. */
void fm_machine_facts(struct fm_machine *out);
/* Facts and figures.  *out is untouched on failure. */
enum fm_status fm_doctor_run(const struct fm_doctor_options *o, struct fm_machine *out,
                             struct fm_error *err) FM_MUST_USE;
/* The i-th thing that the user should know (n bytes of text, cut if need be); false behind the last. */
bool fm_machine_warning(const struct fm_machine *m, int i, char *text, size_t n);
/* One JSON object, n bytes plus a NUL, free with fm_text_free. */
enum fm_status fm_machine_json(const struct fm_machine *m, char **text, size_t *n, struct fm_error *err) FM_MUST_USE;
/* path: made with its folder, replaced as a whole; it keeps one entry per machine (processor, tier, cores, threads), so that
 * a home shared by several machines serves all of them.  A file that is no such file is replaced. */
enum fm_status fm_machine_save(const struct fm_machine *m, const char *path, struct fm_error *err) FM_MUST_USE;
/* The entry that fits `here` (facts are enough).  FM_ERR_INPUT when there is none, or the file is missing or malformed. */
enum fm_status fm_machine_load(const char *path, const struct fm_machine *here, struct fm_machine *out,
                               struct fm_error *err) FM_MUST_USE;
/* ---- quantise and convert -------------------------------------------------------------------------------------- */

/* A rule: the last whose glob (* ? [a-z]) matches a tensor's name in the output, or its GGUF name, counts. */
struct fm_quantize_rule {
    const char *glob, *type;
};
/* What becomes of a tensor. */
struct fm_quantize_tensor {
    const char *name, *from, *to;
    const char *wish; /* what the type asks for; other than `to` where rows are no whole blocks of it */
    int n_dims;
    uint64_t shape[8], bytes_from, bytes_to;
};
struct fm_quantize_options {
    const char *in;   /* GGUF (of a split one, the first part) or folder in Hugging Face layout                      */
    const char *out;  /* ends in .gguf: GGUF; else a folder.  Replaced only when all is written                      */
    const char *type; /* a format throughout, or a mixture: fm_quantize_type                                         */
    const char *experts, *shared_experts, *attention, *embeddings, *output; /* formats of these parts; NULL: as type  */
    const struct fm_quantize_rule *rules;
    int n_rules;
    const char *imatrix;  /* file of fm_calibrate or llama.cpp; NULL: all weights matter alike                        */
    bool without_mtp;     /* leave multi-token-prediction blocks out                                                  */
    bool dry_run;         /* only on_tensor, on_note and the result's sizes                                           */
    uint64_t shard_bytes; /* of a folder's weight files; 0: 5 GB                                                     */
    int threads;          /* 0: one per core; the bytes are the same for any number                                  */
    void (*on_tensor)(void *arg, const struct fm_quantize_tensor *t); /* of all, before anything is written; or NULL */
    void (*on_progress)(void *arg, uint64_t done, uint64_t total);    /* bytes of the input; or NULL */
    void (*on_note)(void *arg, const char *text);                     /* what the user may want to know; or NULL */
    void *arg;
    const volatile int *stop; /* non-zero: FM_ERR_CANCELLED, nothing is left behind; may be NULL */
};
enum { FM_QUANTIZE_FORMATS = 40 };
struct fm_quantize_result {
    uint64_t bytes_in, bytes_out; /* of the tensors read; of the file or files written                               */
    uint64_t n_weights, weight_bytes;
    int n_tensors, n_formats;
    struct {
        const char *name;
        int tensors;
        uint64_t weights, bytes;
    } formats[FM_QUANTIZE_FORMATS]; /* of the output, most bytes first */
    double seconds;
};
/* From and to GGUF and Hugging Face folders, in all four directions.  Between the two the model's family must be known;
 * within one, any model's tensors are converted by name and all else is kept. */
enum fm_status fm_quantize(const struct fm_quantize_options *o, struct fm_quantize_result *r,
                           struct fm_error *err) FM_MUST_USE;
/* The i-th type and what it is; false behind the last. */
bool fm_quantize_type(int i, const char **name, const char **summary);

/* ---- forecasts: what a model needs and how fast it will be, before it is loaded or even here ------------------- */

struct fm_weight_row {
    const char *part, *format; /* "experts", "Q4_K"                                                            */
    uint64_t bytes;
    double decode_bytes, decode_macs; /* read and computed for one generated token, on average                 */
    double prefill_macs;              /* for each token of a prompt                                            */
    bool logits;                      /* computed for the last token of a prompt only                          */
};
struct fm_memory_row {
    const char *item;
    uint64_t bytes;
    bool file_backed;
};
enum { FM_FORECAST_ROWS = 160, FM_FORECAST_ITEMS = 12 };
struct fm_forecast {
    const char *path, *name, *family;
    const char *type; /* the format that weights would have; NULL: they are here                               */
    int ctx, ctx_train, threads, n_layers;
    int64_t params_total, params_active;
    struct fm_weight_row weights[FM_FORECAST_ROWS];
    struct fm_memory_row memory[FM_FORECAST_ITEMS];
    int n_weights, n_memory;
    uint64_t weight_bytes, other_bytes; /* mapped, allocated                                           */
    uint64_t kv_bytes_per_token;
    double pair_macs[2];       /* attention of all layers, for a query and a key: [0] expanded or dense,
                                                   [1] over latents (0: none)                                  */
    double expand_macs;        /* latent attention: to expand a key                           */
    const char *expand_format; /* NULL: never expanded                                        */
    int chunk, loops;          /* tokens of a prompt at a time; loops shared by threads, per step */
    bool deterministic;
};
/* o->model: as fm_engine_open, or a config.json, or a folder with one and no weights.  type NULL: the format of the weights
 * that are here, or that the config names.  Free with fm_forecast_free. */
enum fm_status fm_forecast_new(const struct fm_engine_options *o, const char *type, struct fm_forecast **out,
                               struct fm_error *err) FM_MUST_USE;
void fm_forecast_free(struct fm_forecast *f);

struct fm_speed_row {
    const char *what; /* "Q4_K", "attention", "threads", "disk"                                                */
    const char *unit; /* of amount: "B", "MAC", "loops"                                                        */
    double amount, rate, seconds;
    bool guessed; /* the rate is another format's                                                              */
};
struct fm_speed {
    struct fm_speed_row rows[FM_MACHINE_FORMATS + 8];
    int n_rows;
    double seconds; /* sum                                                                                     */
};
/* One token behind `depth` others; a prompt of n tokens.  m: with figures (n_formats > 0). */
void fm_forecast_decode(const struct fm_forecast *f, const struct fm_machine *m, int depth, struct fm_speed *out);
void fm_forecast_prefill(const struct fm_forecast *f, const struct fm_machine *m, int n, struct fm_speed *out);

/* ---- benchmarks ------------------------------------------------------------------------------------------------ */

/* Tokens per second of a model, beside what this machine allows: prompts and single tokens behind several depths, by several
 * numbers of threads.  A depth is filled once and gone back to.  Tokens are random; a model whose logits are all the same is
 * refused, for zeros are faster than weights. */
struct fm_bench;

enum { FM_BENCH_LIST = 16, FM_BENCH_ROWS = 2 * FM_BENCH_LIST * FM_BENCH_LIST };
struct fm_bench_options {
    struct fm_engine_options engine; /* threads: the most; ctx 0: what the depths need, at most the model's         */
    const int *depths, *threads;     /* NULL: 0, 4096, 16384; NULL: 1 and engine.threads                            */
    int n_depths, n_threads;
    int prompt, tokens,
        runs;      /* of a prompt, 0: 512; decoded for a run, 0: 64, -1 of either: none; 0: 5                */
    double budget; /* seconds: fewer runs, and no depths that would take longer; 0: 600                      */
    /* May be NULL.  Called before each run and while a depth fills; false stops: FM_ERR_CANCELLED. */
    bool (*progress)(void *arg, const char *what, int done, int total);
    void *arg;
};
/* What memory and arithmetic give to that many threads, per second. */
struct fm_bench_limit {
    int threads;
    double read; /* bytes: as many as a token reads, again and again, pages of the better size          */
    double int8_peak,
        f32_peak; /* multiply-adds                                                                       */
    char int8_instruction[24], f32_instruction[24];
};
struct fm_bench_row {
    bool decode; /* else a prompt */
    int threads, depth, tokens, runs;
    const char *left_out; /* NULL, or why there are no runs                                                      */
    double rate, slowest,
        fastest; /* tokens per second: median of the runs, and their range                              */
    double bytes, int8_macs,
        f32_macs; /* what a token reads, caches included, and computes, on average                   */
    double
        limit; /* tokens per second that this takes: the slower of reading and computing, if both overlap perfectly      */
    bool
        by_memory; /* it is reading                                                                                      */
};
struct fm_bench_result {
    struct fm_machine machine; /* facts alone */
    const struct fm_model_info *model;
    struct fm_bench_limit limits[FM_BENCH_LIST];
    struct fm_bench_row rows[FM_BENCH_ROWS];
    int n_limits, n_rows, ctx;
    double open_seconds, seconds;
    uint64_t resident_bytes; /* most that this process had in memory, mapped files included; 0: unknown */
};
/* Opens the model.  Lists are copied; strings must live as long as the bench. */
enum fm_status fm_bench_new(const struct fm_bench_options *o, struct fm_bench **out, struct fm_error *err) FM_MUST_USE;
/* *out: the bench's own, until it is freed.  FM_ERR_INPUT when the model computes nothing worth timing. */
enum fm_status fm_bench_run(struct fm_bench *b, const struct fm_bench_result **out, struct fm_error *err) FM_MUST_USE;
void fm_bench_cancel(struct fm_bench *b); /* as fm_session_cancel */
void fm_bench_free(struct fm_bench *b);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
