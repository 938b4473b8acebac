/* tokenizer.ggml.* of a GGUF file: model "gpt2" (byte-level BPE with merges) and "llama" (SentencePiece with scores). */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "text/alphabet.h"
#include "text/tokenizer_impl.h"

struct load {
    const struct fm_file *f;
    const char *where;
    const struct fm_meta *tokens, *types, *scores, *merges;
    struct fm_tokenizer *t;
};

static enum fm_status wrong(const struct load *l, const char *key, const char *why, struct fm_error *err)
{
    return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: tokenizer.ggml.%s %s", l->where, key, why);
}

/* The array under tokenizer.ggml.KEY, or NULL when it is missing; another type or length is an error. */
static enum fm_status read_array(const struct load *l, const char *key, enum fm_meta_type elem, uint64_t n,
                                 const struct fm_meta **out, struct fm_error *err)
{
    char name[64];
    snprintf(name, sizeof name, "tokenizer.ggml.%s", key);
    const struct fm_meta *m = fm_file_meta(l->f, name);
    *out = m;
    if (!m) return FM_OK;
    if (m->type != FM_META_ARRAY || (m->n && m->elem != elem))
        return wrong(l, key, elem == FM_META_STRING ? "is no list of strings" : "is no list of numbers", err);
    if (n != UINT64_MAX && m->n != n) return wrong(l, key, "has another length than tokens", err);
    return FM_OK;
}

/* ---- byte-level BPE ---- */

static enum fm_status add_bpe_token(const struct load *l, int64_t id, struct fm_str s, enum fm_token_type type,
                                    struct fm_error *err)
{
    char bytes[FM_MAX_TOKEN_BYTES];
    size_t n = (size_t)s.len;
    if (s.len > FM_MAX_TOKEN_BYTES) return wrong(l, "tokens", "has an endless token", err);
    if (type != FM_TOKEN_NORMAL && type != FM_TOKEN_BYTE && type != FM_TOKEN_UNUSED)
        return fm_tokenizer_add(l->t, id, s.data, n, type == FM_TOKEN_USER ? type : FM_TOKEN_CONTROL, 0, l->where, err);
    fm_alphabet_read(s.data, n, bytes, &n);
    return fm_vocab_set(&l->t->vocab, id, bytes, n, type == FM_TOKEN_UNUSED ? type : FM_TOKEN_NORMAL, l->where, err);
}

static int32_t find_token(const struct load *l, const char *text, size_t n_text, char *bytes, size_t *n)
{
    fm_alphabet_read(text, n_text, bytes, n);
    int32_t id = fm_vocab_find(&l->t->vocab, bytes, *n);
    return id >= 0 ? id : fm_added_exact(&l->t->added, text, n_text);
}

static enum fm_status add_merges(const struct load *l, struct fm_error *err)
{
    char bytes[2 * FM_MAX_TOKEN_BYTES];
    for (uint64_t i = 0; i < l->merges->n; i++) {
        struct fm_str s = fm_meta_array_str(l->merges, i);
        const char *blank = s.len > 1 ? memchr(s.data + 1, ' ', s.len - 1) : NULL;
        if (!blank || s.len > 2 * FM_MAX_TOKEN_BYTES || i >= FM_RANK_NONE)
            return wrong(l, "merges", "has an entry that is no pair of tokens", err);
        size_t n_a, n_b, n_left = (size_t)(blank - s.data);
        int32_t a = find_token(l, s.data, n_left, bytes, &n_a);
        int32_t b = find_token(l, blank + 1, s.len - n_left - 1, bytes + n_a, &n_b);
        int32_t id = fm_vocab_find(&l->t->vocab, bytes, n_a + n_b);
        if (a < 0 || b < 0 || id < 0)
            return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: merge %llu names an unknown token", l->where,
                           (unsigned long long)i);
        FM_TRY(fm_pairs_add(&l->t->pairs, a, b, (uint32_t)i, id, err));
    }
    return FM_OK;
}

static enum fm_status load_bpe(const struct load *l, struct fm_error *err)
{
    struct fm_str name = {"default", 7};
    char pre[64];
    if (!l->merges) return wrong(l, "merges", "is missing", err);
    FM_TRY(fm_tokenizer_index(l->t, err));
    FM_TRY(add_merges(l, err));
    if (!fm_meta_str(l->f, "tokenizer.ggml.pre", &name))
        fm_log(FM_LOG_WARN, "%s: no tokenizer.ggml.pre: text may be split otherwise than the model was trained on",
               l->where);
    snprintf(pre, sizeof pre, "%.*s", (int)(name.len < 63 ? name.len : 63), name.data);
    const struct fm_pre_name *row = fm_pre_find(pre);
    if (!row) return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: pre-tokenizer %s is not known", l->where, pre);
    FM_TRY(fm_pre_add_name(&l->t->pre, row, err));
    l->t->ignore_merges = row->ignore_merges;
    l->t->nfc = row->nfc;
    l->t->add_bos = !strcmp(row->name, "llama3");
    return FM_OK;
}

/* ---- SentencePiece ---- */

static enum fm_status load_spm(const struct load *l, struct fm_error *err)
{
    struct fm_tokenizer *t = l->t;
    if (!l->scores) return wrong(l, "scores", "is missing", err);
    t->scores = fm_calloc((size_t)t->vocab.n, sizeof *t->scores);
    if (!t->scores) return fm_fail_memory(err, "scores", (size_t)t->vocab.n * sizeof *t->scores);
    for (uint64_t i = 0; i < l->scores->n; i++) t->scores[i] = (float)fm_meta_array_float(l->scores, i);
    FM_TRY(fm_tokenizer_index(t, err));
    FM_TRY(fm_tokenizer_pairs_from_scores(t, err));
    bool prefix = fm_meta_bool(l->f, "tokenizer.ggml.add_space_prefix", true);
    t->prefix = prefix ? FM_PREFIX_ALWAYS : FM_PREFIX_NONE;
    t->strip_first_space = prefix;
    t->collapse_spaces = fm_meta_bool(l->f, "tokenizer.ggml.remove_extra_whitespaces", false);
    t->bos = t->vocab.n > 2 ? 1 : -1;
    t->eos = t->vocab.n > 2 ? 2 : -1;
    t->unk = t->vocab.n > 0 ? 0 : -1;
    t->add_bos = true;
    return FM_OK;
}

/* ---- all ---- */

static void read_id(const struct load *l, const char *key, int32_t *id)
{
    char name[64];
    snprintf(name, sizeof name, "tokenizer.ggml.%s_token_id", key);
    int64_t v = fm_meta_int(l->f, name, -1);
    if (v >= 0 && v < l->t->vocab.n) *id = (int32_t)v;
}

static void read_ids(const struct load *l)
{
    struct fm_tokenizer *t = l->t;
    int32_t turn = -1, message = -1;
    read_id(l, "bos", &t->bos);
    read_id(l, "eos", &t->eos);
    read_id(l, "unknown", &t->unk);
    read_id(l, "eot", &turn);
    read_id(l, "eom", &message);
    t->add_bos = fm_meta_bool(l->f, "tokenizer.ggml.add_bos_token", t->add_bos);
    t->add_eos = fm_meta_bool(l->f, "tokenizer.ggml.add_eos_token", t->add_eos);
    fm_tokenizer_finish(t);
    fm_tokenizer_add_eog(t, turn);
    fm_tokenizer_add_eog(t, message);
}

static enum fm_status add_tokens(const struct load *l, struct fm_error *err)
{
    for (uint64_t i = 0; i < l->tokens->n; i++) {
        struct fm_str s = fm_meta_array_str(l->tokens, i);
        int64_t type = l->types ? fm_meta_array_int(l->types, i) : FM_TOKEN_NORMAL;
        if (type < FM_TOKEN_NORMAL || type > FM_TOKEN_BYTE) return wrong(l, "token_type", "has an unknown value", err);
        FM_TRY(l->t->spm ? fm_tokenizer_set_piece(l->t, (int64_t)i, s.data, (size_t)s.len, (enum fm_token_type)type,
                                                  l->where, err)
                         : add_bpe_token(l, (int64_t)i, s, (enum fm_token_type)type, err));
    }
    return FM_OK;
}

static enum fm_status load(struct load *l, struct fm_error *err)
{
    struct fm_str model;
    if (!fm_meta_str(l->f, "tokenizer.ggml.model", &model))
        return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: the file holds no tokenizer", l->where);
    bool bpe = model.len == 4 && !memcmp(model.data, "gpt2", 4),
         spm = model.len == 5 && !memcmp(model.data, "llama", 5);
    if (!bpe && !spm)
        return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: model %.*s: only gpt2 and llama are supported", l->where,
                       (int)(model.len < 40 ? model.len : 40), model.data);
    FM_TRY(read_array(l, "tokens", FM_META_STRING, UINT64_MAX, &l->tokens, err));
    if (!l->tokens) return wrong(l, "tokens", "is missing", err);
    FM_TRY(read_array(l, "token_type", FM_META_INT, l->tokens->n, &l->types, err));
    FM_TRY(read_array(l, "scores", FM_META_FLOAT, l->tokens->n, &l->scores, err));
    FM_TRY(read_array(l, "merges", FM_META_STRING, UINT64_MAX, &l->merges, err));
    if (l->tokens->n > FM_MAX_VOCAB) return wrong(l, "tokens", "is too long", err);
    FM_TRY(fm_tokenizer_new((int64_t)l->tokens->n, l->where, &l->t, err));
    l->t->spm = spm;
    FM_TRY(add_tokens(l, err));
    FM_TRY(spm ? load_spm(l, err) : load_bpe(l, err));
    read_ids(l);
    return FM_OK;
}

enum fm_status fm_tokenizer_from_gguf(const struct fm_file *f, struct fm_tokenizer **out, struct fm_error *err)
{
    struct load l = {.f = f, .where = fm_file_path(f)};
    enum fm_status st = load(&l, err);
    if (st)
        fm_tokenizer_close(l.t);
    else
        *out = l.t;
    return st;
}
