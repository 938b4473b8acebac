/* The corpus as token ids, in a file that is mapped: encoded once, read by every later run.
 *
 *   0  "FMTOKENS" │ 8 version u32, width u32 │ 16 vocab u32, 0 │ 24 tokenizer sum │ 32 corpus sum │ … zeros to 64
 *  64  ids, width 2 or 4 bytes, little-endian: separator, document, separator, document, …, separator
 *  end trailer: count u64, sum of everything before it u64 */
#ifndef FM_TRAIN_TOKENS_H
#define FM_TRAIN_TOKENS_H

#include <stdint.h>

#include "base/map.h"
#include "base/pool.h"
#include "text/tokenizer.h"
#include "train/corpus.h"

struct fm_tokens {
    struct fm_map map;
    const unsigned char *ids;
    int width; /* bytes per id */
    int vocab;
    uint64_t n;
    uint64_t tokenizer_sum, corpus_sum, sum;
};

static inline int32_t fm_tokens_at(const struct fm_tokens *t, uint64_t i)
{
    const unsigned char *p = t->ids + i * (uint64_t)t->width;
    if (t->width == 2) return p[0] | p[1] << 8;
    return (int32_t)(p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
}

/* Map and verify: a missing, cut or changed file, or one with an id outside its vocabulary, is FM_ERR_INPUT. */
enum fm_status fm_tokens_open(struct fm_tokens *t, const char *path, struct fm_error *err) FM_MUST_USE;
void fm_tokens_close(struct fm_tokens *t);

/* Encode the documents of c (loaded) with tk, in parallel, separated by the id eot, to path.
 * cut: documents may be encoded in pieces that end at a single newline before a letter.  There every pre-tokenizer of
 * ours starts a new word, so ids are the same; a tokenizer of unknown make needs whole documents. */
struct fm_tokens_encode {
    const struct fm_tokenizer *tokenizer;
    int32_t eot;
    uint64_t tokenizer_sum, corpus_sum;
    bool cut;
    const volatile int *stop; /* NULL, or set: FM_ERR_CANCELLED */
};
enum fm_status fm_tokens_write(const struct fm_tokens_encode *e, const struct fm_corpus *c, struct fm_pool *pool,
                               const char *path, struct fm_error *err) FM_MUST_USE;

#endif
