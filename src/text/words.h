/* The distinct pieces of a corpus and how often each occurs: what a BPE trainer needs of the text. */
#ifndef FM_TEXT_WORDS_H
#define FM_TEXT_WORDS_H

#include <stdint.h>

#include "base/pool.h"
#include "text/added.h"
#include "text/pre.h"

struct fm_word {
    const char *text; /* in the corpus, not copied */
    uint32_t n;
    uint64_t count;
};

struct fm_words {
    struct fm_word *items;
    uint32_t n, cap;
    uint32_t *slots; /* index into items + 1; 0 = free */
    uint32_t n_slots;
};

void fm_words_release(struct fm_words *w);

/* Count the pieces of text between the added tokens (which must not hold white space).  Pieces longer than
 * FM_MAX_TOKEN_BYTES are data rather than language: left out.  The counts are the same for any number of threads;
 * the order of items is not defined. */
enum fm_status fm_words_count(struct fm_words *w, const struct fm_pre *pre, const struct fm_added *added,
                              const char *text, size_t n, struct fm_pool *pool, struct fm_error *err) FM_MUST_USE;

#endif
