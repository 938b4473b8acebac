/* Inside of an evaluation: what runs (evaluate.c), prompts (evalprompt.c), results on file (evalout.c). */
#ifndef FM_RUN_EVALUATE_H
#define FM_RUN_EVALUATE_H

#include "run/evalset.h"
#include "run/run.h"
#include "text/regex.h"

/* What became of an item. */
struct fm_eval_row {
    bool done, right; /* right: the likeliest choice, or the answer */
    bool right_norm;  /* the likeliest choice per byte              */
    bool cut;         /* the answer reached max_tokens              */
};

struct fm_eval {
    struct fm_engine *e;
    struct fm_eval_options o;
    enum fm_match match;
    struct fm_regex *regex;
    struct fm_regex_run *regex_run;
    struct fm_eval_set set, examples;  /* examples: of shots_from                */
    const struct fm_chat_format *chat; /* NULL: answers continue text            */
    int *order;                        /* [total] items in the order of work      */
    int *shots;                        /* [n_shots] examples, one more than asked */
    int n_shots, total, done;
    struct fm_eval_row *rows; /* [set.n] by item                            */
    struct fm_session *s;
    float *logits; /* [PIECE, V]                                 */
    float *before; /* [V] logits behind the last prefix fed      */
    int held;      /* tokens of that prefix, 0: none             */
    int fd;        /* of out, -1 without                          */
    struct fm_ids ids, prefix;
    struct fm_buf text, answer, found, line;
};

enum { FM_EVAL_TOKENS = 256 };

/* v->ids: the plain prompt of an item up to where its answer begins; v->text its text, a blank at the end left out. */
enum fm_status fm_eval_plain(struct fm_eval *v, int item, struct fm_error *err) FM_MUST_USE;
/* v->ids: the prompt in the model's chat format. */
enum fm_status fm_eval_chat(struct fm_eval *v, int item, struct fm_error *err) FM_MUST_USE;

/* Opens out, takes what it holds into rows.  FM_ERR_INPUT when it is another evaluation's. */
enum fm_status fm_eval_out_open(struct fm_eval *v, struct fm_error *err) FM_MUST_USE;
/* v->line and a newline. */
enum fm_status fm_eval_out_add(struct fm_eval *v, struct fm_error *err) FM_MUST_USE;

#endif
