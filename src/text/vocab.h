/* The token table: bytes of every id, what kind of token it is, and bytes → id.
 *
 *   tokens[id] ──offset,len──▶ bytes ─────────────────────────┐   one block, no NULs between
 *   slots[hash(bytes)] ──▶ id (open addressing, -1 = empty)   │
 *
 * Ordinary tokens hold the bytes they stand for (not the printable alphabet of the file). */
#ifndef FM_TEXT_VOCAB_H
#define FM_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"

/* The numbers are those of tokenizer.ggml.token_type; 0 is an id without a token. */
enum fm_token_type {
    FM_TOKEN_GAP = 0,
    FM_TOKEN_NORMAL = 1,
    FM_TOKEN_UNKNOWN = 2,
    FM_TOKEN_CONTROL = 3, /* added token that steers: BOS, <|im_end|>      */
    FM_TOKEN_USER = 4,    /* added token that is text: <think>             */
    FM_TOKEN_UNUSED = 5,
    FM_TOKEN_BYTE = 6 /* SentencePiece's <0x41>: its one byte is stored */
};

enum {
    FM_MAX_VOCAB = 1 << 22,       /* ids above are a broken file, not a vocabulary  */
    FM_MAX_TOKEN_BYTES = 1 << 10, /* longest token of the published tables: some 200  */
};

struct fm_vocab_token {
    uint32_t offset, len;
    enum fm_token_type type;
};

struct fm_vocab {
    int32_t n;
    struct fm_vocab_token *tokens;
    struct fm_buf bytes;
    int32_t *slots;
    uint32_t n_slots; /* a power of two */
};

/* n gaps, 0 <= n <= FM_MAX_VOCAB (else FM_ERR_INPUT naming where). */
enum fm_status fm_vocab_init(struct fm_vocab *v, int64_t n, const char *where, struct fm_error *err) FM_MUST_USE;
void fm_vocab_release(struct fm_vocab *v);

/* Fill id.  A bad id, an id that is taken, or an endless token is FM_ERR_INPUT. */
enum fm_status fm_vocab_set(struct fm_vocab *v, int64_t id, const char *bytes, size_t len, enum fm_token_type type,
                            const char *where, struct fm_error *err) FM_MUST_USE;

/* Build bytes → id over NORMAL tokens; where two have the same bytes the lower id wins. */
enum fm_status fm_vocab_index(struct fm_vocab *v, struct fm_error *err) FM_MUST_USE;
/* Enter one token that was set after fm_vocab_index, whatever its type; a known text keeps its id. */
void fm_vocab_index_one(struct fm_vocab *v, int32_t id);
/* Id of the NORMAL token with exactly these bytes, or -1. */
int32_t fm_vocab_find(const struct fm_vocab *v, const char *bytes, size_t len);

static inline const char *fm_vocab_bytes(const struct fm_vocab *v, int32_t id)
{
    return v->bytes.data + v->tokens[id].offset;
}

/* 64-bit FNV-1a with a final mix: good low bits for tables whose size is a power of two. */
static inline uint64_t fm_hash_bytes(const char *s, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
    return h ^ h >> 29;
}

#endif
