/* Pre-tokenizers: regular expressions that cut a text into the pieces in which merges happen.
 *
 *   text ─step 1─▶ piece, piece ─step 2─▶ piece, piece, piece ─▶ … ─▶ caller, in order
 *
 * Each step sees one piece of the step before as if it were a whole text: look-ahead ends at its border.
 * The patterns are those of the published tokenizers (models.md §11.1); PCRE2 runs them, with the few
 * constructs that mean something else there rewritten (regex.c). */
#ifndef FM_TEXT_PRE_H
#define FM_TEXT_PRE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "text/regex.h"

/* What becomes of a match, after Hugging Face's names. */
enum fm_split {
    FM_SPLIT_ISOLATED,   /* match and gap are pieces                                */
    FM_SPLIT_REMOVED,    /* the match is dropped                                    */
    FM_SPLIT_PREVIOUS,   /* the match ends the piece in front                       */
    FM_SPLIT_NEXT,       /* the match begins the piece behind                       */
    FM_SPLIT_CONTIGUOUS, /* matches without a gap between them are one piece        */
    FM_SPLIT_COUNT
};

/* One row per name that files and users write. */
struct fm_pre_name {
    const char *name;
    const char *gguf;        /* tokenizer.ggml.pre written for it; NULL: the name itself        */
    bool ignore_merges;      /* a piece that is a token is taken whole                          */
    bool nfc;                /* its models' texts are in Unicode's form C                        */
    const char *patterns[8]; /* in order, NULL behind the last                                  */
};
/* By name or alias; NULL when unknown. */
const struct fm_pre_name *fm_pre_find(const char *name);
/* The i-th row, NULL behind the last. */
const struct fm_pre_name *fm_pre_at(int i);

enum { FM_PRE_STEPS = 16 };

struct fm_pre_step {
    char *pattern; /* as published */
    struct fm_regex *regex;
    enum fm_split split;
    bool invert; /* gaps count as matches and matches as gaps */
};

struct fm_pre {
    struct fm_pre_step steps[FM_PRE_STEPS];
    int n;
    bool prefix_space;              /* a space is put before a text that does not begin with one */
    const struct fm_pre_name *name; /* the row with the same steps, or NULL                      */
};

void fm_pre_release(struct fm_pre *p);
/* Append a step.  A pattern that does not compile is FM_ERR_INPUT naming where. */
enum fm_status fm_pre_add(struct fm_pre *p, const char *pattern, enum fm_split split, bool invert, const char *where,
                          struct fm_error *err) FM_MUST_USE;
/* All steps of a row. */
enum fm_status fm_pre_add_name(struct fm_pre *p, const struct fm_pre_name *name, struct fm_error *err) FM_MUST_USE;
/* Set p->name when the steps equal those of a row. */
void fm_pre_recognise(struct fm_pre *p);

typedef enum fm_status (*fm_piece_fn)(void *arg, const char *piece, size_t n, struct fm_error *err);
/* fn sees every piece in order; its failure ends the walk.  text may hold any bytes: a run of bytes that is no UTF-8 is
 * a piece of its own, which the patterns never see, and splits the text around it.  Thread-safe. */
enum fm_status fm_pre_split(const struct fm_pre *p, const char *text, size_t n, fm_piece_fn fn, void *arg,
                            struct fm_error *err) FM_MUST_USE;

#endif
