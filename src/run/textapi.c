/* The public text functions: the tokenizer of text/ with plain C arrays. */
#include "base/mem.h"
#include "run/run.h"

enum fm_status fm_text_open(const char *path, const char *pre, struct fm_tokenizer **out, struct fm_error *err)
{
    return fm_tokenizer_open(path, pre, out, err);
}

void fm_text_close(struct fm_tokenizer *t) { fm_tokenizer_close(t); }

const struct fm_tokenizer *fm_engine_tokenizer(const struct fm_engine *e) { return e->tok; }

enum fm_status fm_text_encode(const struct fm_tokenizer *t, const char *text, size_t n, unsigned flags, int32_t **ids,
                              size_t *n_ids, struct fm_error *err)
{
    static const unsigned pairs[][2] = {
        {FM_TEXT_SPECIAL, FM_ENCODE_SPECIAL}, {FM_TEXT_BOS, FM_ENCODE_BOS}, {FM_TEXT_EOS, FM_ENCODE_EOS}};
    struct fm_ids out = {0};
    unsigned inner = 0;
    for (int i = 0; i < 3; i++) inner |= flags & pairs[i][0] ? pairs[i][1] : 0;
    enum fm_status st = fm_tokenizer_encode(t, text, n, inner, &out, err);
    if (st) {
        fm_ids_release(&out);
        return st;
    }
    *ids = out.data;
    *n_ids = out.n;
    return FM_OK;
}

enum fm_status fm_text_decode(const struct fm_tokenizer *t, const int32_t *ids, size_t n_ids, char **text,
                              size_t *n_text, struct fm_error *err)
{
    struct fm_buf b = {0};
    enum fm_status st = fm_tokenizer_decode(t, ids, n_ids, &b, err);
    fm_buf_add(&b, "", 0); /* a NUL even when nothing came */
    if (!st && b.failed) st = fm_fail_memory(err, "decoded text", n_ids);
    if (st) {
        fm_buf_release(&b);
        return st;
    }
    *text = b.data;
    *n_text = b.len;
    return FM_OK;
}

int32_t fm_text_vocab(const struct fm_tokenizer *t) { return fm_tokenizer_size(t); }

bool fm_text_is_end(const struct fm_tokenizer *t, int32_t id) { return fm_tokenizer_is_eog(t, id); }

bool fm_text_adds_bos(const struct fm_tokenizer *t) { return fm_tokenizer_add_bos(t); }

void fm_text_free(void *p) { fm_free(p); }
