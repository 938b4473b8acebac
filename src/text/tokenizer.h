/* Text to token ids and back, exactly as the published tokenizers do it.  Spec: models.md §11, cli.md. */
#ifndef FM_TEXT_TOKENIZER_H
#define FM_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"
#include "file/tensors.h"
#include "file/write.h"

struct fm_tokenizer;

struct fm_ids {
    int32_t *data; /* heap; release with fm_ids_release */
    size_t n, cap;
};
void fm_ids_release(struct fm_ids *ids);
enum fm_status fm_ids_push(struct fm_ids *ids, int32_t id, struct fm_error *err) FM_MUST_USE;

/* path: a GGUF file, a folder (tokenizer.json, else tokenizer.model), a tokenizer.json, a SentencePiece .model, or a
 * tiktoken rank file (pre then names the pre-tokenizer: "llama3", "qwen2", "cl100k", "kimi-k2"; else pre may be NULL). */
enum fm_status fm_tokenizer_open(const char *path, const char *pre, struct fm_tokenizer **out,
                                 struct fm_error *err) FM_MUST_USE;
/* From the metadata of an open GGUF file (tokenizer.ggml.*). The file may be closed afterwards. */
enum fm_status fm_tokenizer_from_gguf(const struct fm_file *f, struct fm_tokenizer **out,
                                      struct fm_error *err) FM_MUST_USE;
void fm_tokenizer_close(struct fm_tokenizer *t); /* NULL is fine */

enum {
    FM_ENCODE_SPECIAL = 1, /* recognise all added tokens in the text; without it only those
                            * that are plain text themselves ("ü", runs of spaces)        */
    FM_ENCODE_BOS = 2,     /* BOS in front, if the tokenizer has one                      */
    FM_ENCODE_EOS = 4,     /* EOS behind                                                  */
    FM_ENCODE_INNER = 8,   /* the text stands behind others: no space goes in front where
                            * only the beginning of a text gets one                       */
};
/* Appends to out.  text may hold any bytes.  Thread-safe on a shared tokenizer. */
enum fm_status fm_tokenizer_encode(const struct fm_tokenizer *t, const char *text, size_t n, unsigned flags,
                                   struct fm_ids *out, struct fm_error *err) FM_MUST_USE;
/* Raw bytes of the ids; added tokens appear as their text.  An id out of range is FM_ERR_USAGE. */
enum fm_status fm_tokenizer_decode(const struct fm_tokenizer *t, const int32_t *ids, size_t n, struct fm_buf *out,
                                   struct fm_error *err) FM_MUST_USE;

/* The bytes of one token, *n of them, living as long as t; nothing is stripped, so pieces can be streamed one by one
 * (SentencePiece's decode drops the space in front of a whole text).  NULL with *n = 0 for an id without a token. */
const char *fm_tokenizer_piece(const struct fm_tokenizer *t, int32_t id, size_t *n);

int32_t fm_tokenizer_size(const struct fm_tokenizer *t); /* ids are 0 … size-1 */
int32_t fm_tokenizer_bos(const struct fm_tokenizer *t);  /* -1 when there is none */
int32_t fm_tokenizer_eos(const struct fm_tokenizer *t);
const char *fm_tokenizer_pre(const struct fm_tokenizer *t); /* name of the pre-tokenizer, NULL when it has none */
bool fm_tokenizer_add_bos(const struct fm_tokenizer *t);    /* what the file says     */
bool fm_tokenizer_is_eog(const struct fm_tokenizer *t, int32_t id); /* ends a generation: EOS, EOT, <|im_end|>, … */
bool fm_tokenizer_is_special(const struct fm_tokenizer *t, int32_t id);    /* added token that is a control token */
int32_t fm_tokenizer_find(const struct fm_tokenizer *t, const char *text); /* id of a token by its exact text, or -1 */

/* Learn a byte-level BPE vocabulary.  text: one corpus; n_vocab counts 256 byte tokens, merges and specials.
 * pre: name of the pre-tokenizer ("gpt2", "smollm", "llama3", …).  specials[0] becomes BOS/EOS.
 * Deterministic for any thread count: ties go to the pair that is lexicographically smallest by bytes. */
struct fm_bpe_train {
    const char *text;
    size_t n;
    int n_vocab;
    const char *pre;
    const char *const *specials;
    int n_specials;
    int threads; /* 0 = all */
    void (*progress)(void *arg, int done, int total);
    void *progress_arg;
};
enum fm_status fm_tokenizer_train(const struct fm_bpe_train *p, struct fm_tokenizer **out,
                                  struct fm_error *err) FM_MUST_USE;

/* tokenizer.json that Hugging Face `tokenizers` loads and encodes with identically (byte-level BPE only). */
enum fm_status fm_tokenizer_write_json(const struct fm_tokenizer *t, const char *path,
                                       struct fm_error *err) FM_MUST_USE;
/* The tokenizer_config.json that belongs beside it: BOS, EOS, whether BOS is added, and chat_template (NULL: none). */
enum fm_status fm_tokenizer_write_config(const struct fm_tokenizer *t, const char *path, const char *chat_template,
                                         struct fm_error *err) FM_MUST_USE;
/* tokenizer.ggml.* keys for a GGUF file being written.  The _sized form: for a model of n_ids ids, those without a token
 * filled up with unused ones, as readers of GGUF expect; fewer ids than tokens is FM_ERR_INPUT. */
enum fm_status fm_tokenizer_write_gguf_sized(const struct fm_tokenizer *t, int32_t n_ids, struct fm_writer *w,
                                             struct fm_error *err) FM_MUST_USE;
enum fm_status fm_tokenizer_write_gguf(const struct fm_tokenizer *t, struct fm_writer *w,
                                       struct fm_error *err) FM_MUST_USE;

#endif
