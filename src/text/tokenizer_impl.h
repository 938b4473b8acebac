/* Inside of struct fm_tokenizer, for the files of this folder that load, write and train one. */
#ifndef FM_TEXT_TOKENIZER_IMPL_H
#define FM_TEXT_TOKENIZER_IMPL_H

#include "base/json.h"
#include "text/added.h"
#include "text/bpe.h"
#include "text/pre.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

enum fm_prefix {
    FM_PREFIX_NONE,
    FM_PREFIX_FIRST,  /* a space in front of the text, unless it begins with one (Metaspace "first")   */
    FM_PREFIX_ALWAYS, /* a space in front of the text and behind every added token                     */
    FM_PREFIX_ABSENT, /* as ALWAYS, but not where a space is already (Metaspace "always")              */
};

enum { FM_EOG_MAX = 16 };

struct fm_tokenizer {
    struct fm_vocab vocab;
    struct fm_pairs pairs;
    struct fm_added added;
    struct fm_pre pre;    /* byte-level BPE only                                  */
    bool spm;             /* SentencePiece: characters with byte tokens behind    */
    bool nfc;             /* text is brought to Unicode's form C first     */
    bool ignore_merges;   /* a piece that is a token is taken whole               */
    int32_t byte_id[256]; /* -1: no token for this byte                           */
    int32_t unk;          /* -1: none                                             */
    /* SentencePiece only */
    enum fm_prefix prefix;
    bool collapse_spaces;   /* remove_extra_whitespaces                             */
    bool split_spaces;      /* every space begins a piece                           */
    bool word_bound;        /* no token has a space behind a non-space              */
    bool strip_first_space; /* decoding a text drops one space in front             */
    float *scores;          /* vocab.n of them, or NULL                             */
    /* what the file says */
    int32_t bos, eos, eog[FM_EOG_MAX];
    int n_eog;
    bool add_bos, add_eos;
};

/* A tokenizer with n_ids gaps; the loaders fill it and call fm_tokenizer_finish. */
enum fm_status fm_tokenizer_new(int64_t n_ids, const char *where, struct fm_tokenizer **out,
                                struct fm_error *err) FM_MUST_USE;
/* An added token: type CONTROL or USER. */
enum fm_status fm_tokenizer_add(struct fm_tokenizer *t, int64_t id, const char *text, size_t n, enum fm_token_type type,
                                unsigned flags, const char *where, struct fm_error *err) FM_MUST_USE;
/* After the last token, before merges are added: indexes, byte tokens. */
enum fm_status fm_tokenizer_index(struct fm_tokenizer *t, struct fm_error *err) FM_MUST_USE;
/* After the last merge: word bounds, end-of-generation tokens, BOS and EOS where the file names none. */
void fm_tokenizer_finish(struct fm_tokenizer *t);
void fm_tokenizer_add_eog(struct fm_tokenizer *t, int32_t id); /* out of range or known: ignored */

/* Every pair of NORMAL tokens that forms a NORMAL token, ranked by rank[whole]. */
enum fm_status fm_tokenizer_derive_pairs(struct fm_tokenizer *t, const uint32_t *rank,
                                         struct fm_error *err) FM_MUST_USE;
/* The same with ranks from t->scores: a higher score merges first, equal scores are equal. */
enum fm_status fm_tokenizer_pairs_from_scores(struct fm_tokenizer *t, struct fm_error *err) FM_MUST_USE;
/* All pairs in the order of their ranks; *out is heap, t->pairs.n of them. */
enum fm_status fm_tokenizer_sorted_pairs(const struct fm_tokenizer *t, struct fm_pair **out,
                                         struct fm_error *err) FM_MUST_USE;

/* Store a SentencePiece piece: '▁' becomes a space, <0x41> a byte. */
enum fm_status fm_tokenizer_set_piece(struct fm_tokenizer *t, int64_t id, const char *piece, size_t n,
                                      enum fm_token_type type, const char *where, struct fm_error *err) FM_MUST_USE;

/* Append the token's text as files have it: in the printable alphabet, with ▁ for spaces, bytes as <0x41>; added tokens
 * as they are; an id without token as [PAD7]. */
void fm_tokenizer_put_piece(struct fm_buf *b, const struct fm_tokenizer *t, int32_t id);

/* Loaders; where names the source in messages. */
enum fm_status fm_tokenizer_load_json(const char *text, size_t n, const char *where, struct fm_tokenizer **out,
                                      struct fm_error *err) FM_MUST_USE;
enum fm_status fm_tokenizer_load_spm(const char *data, size_t n, const char *where, struct fm_tokenizer **out,
                                     struct fm_error *err) FM_MUST_USE;
/* added: {"ID": {"content", "special"}, …}, as in tokenizer_config.json's added_tokens_decoder; NULL or empty: the tokens
 * that are known to go with pre. */
enum fm_status fm_tokenizer_load_tiktoken(const char *data, size_t n, const struct fm_pre_name *pre,
                                          const json_t *added, const char *where, struct fm_tokenizer **out,
                                          struct fm_error *err) FM_MUST_USE;
/* dir/NAME parsed; *out stays NULL when dir has no such file. */
enum fm_status fm_tokenizer_json_beside(const char *dir, const char *name, json_t **out,
                                        struct fm_error *err) FM_MUST_USE;
/* BOS, EOS, add_bos from dir/tokenizer_config.json, more ends from dir/generation_config.json, if they are there. */
enum fm_status fm_tokenizer_read_config(struct fm_tokenizer *t, const char *dir, struct fm_error *err) FM_MUST_USE;

#endif
