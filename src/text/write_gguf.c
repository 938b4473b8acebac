/* tokenizer.ggml.* keys: model, pre, tokens, token_type, merges or scores, special ids. */
#include <string.h>

#include "base/mem.h"
#include "file/gguf_types.h"
#include "text/alphabet.h"
#include "text/tokenizer_impl.h"

/* Strings under construction: texts one behind the other, cut into fm_str at the end. */
struct strings {
    struct fm_buf text;
    struct fm_str *items;
    uint64_t n;
};

void fm_tokenizer_put_piece(struct fm_buf *b, const struct fm_tokenizer *t, int32_t id)
{
    const char *s = fm_vocab_bytes(&t->vocab, id);
    size_t n = t->vocab.tokens[id].len;
    enum fm_token_type type = t->vocab.tokens[id].type;
    if (type == FM_TOKEN_GAP)
        fm_buf_printf(b, "[PAD%d]", id);
    else if (type == FM_TOKEN_BYTE)
        fm_buf_printf(b, "<0x%02X>", (unsigned char)*s);
    else if (type == FM_TOKEN_CONTROL || type == FM_TOKEN_USER)
        fm_buf_add(b, s, n);
    else if (t->spm)
        for (size_t i = 0; i < n; i++) fm_buf_add(b, s[i] == ' ' ? "▁" : s + i, s[i] == ' ' ? 3 : 1);
    else
        fm_alphabet_write(b, s, n);
}

/* The text added since `start` is the next string; pointers are set by finish. */
static void end_string(struct strings *s, size_t start) { s->items[s->n++].len = s->text.len - start; }

static void finish(struct strings *s)
{
    size_t at = 0;
    for (uint64_t i = 0; i < s->n; i++) {
        s->items[i].data = s->text.data + at;
        at += s->items[i].len;
    }
}

static enum fm_status strings_new(struct strings *s, size_t n, struct fm_error *err)
{
    *s = (struct strings){.items = fm_calloc(n, sizeof *s->items)};
    fm_buf_str(&s->text, "");
    return s->items ? FM_OK : fm_fail_memory(err, "tokenizer strings", n * sizeof *s->items);
}

static void strings_release(struct strings *s)
{
    fm_free(s->items);
    fm_buf_release(&s->text);
}

static enum fm_status write_tokens(const struct fm_tokenizer *t, int32_t n_ids, struct fm_writer *w,
                                   struct fm_error *err)
{
    struct strings s;
    enum fm_status st = strings_new(&s, (size_t)n_ids, err);
    int32_t *types = fm_malloc((size_t)n_ids * sizeof *types);
    if (!st && !types) st = fm_fail_memory(err, "token types", (size_t)n_ids * sizeof *types);
    for (int32_t id = 0; id < n_ids && !st; id++) {
        size_t start = s.text.len;
        enum fm_token_type type = id < t->vocab.n ? t->vocab.tokens[id].type : FM_TOKEN_GAP;
        if (id < t->vocab.n)
            fm_tokenizer_put_piece(&s.text, t, id);
        else
            fm_buf_printf(&s.text, "[PAD%d]", id);
        end_string(&s, start);
        types[id] = type == FM_TOKEN_GAP ? FM_TOKEN_UNUSED : (int32_t)type;
    }
    if (!st && s.text.failed) st = fm_fail_memory(err, "tokenizer strings", s.text.len);
    if (!st) {
        finish(&s);
        fm_writer_meta_strs(w, "tokenizer.ggml.tokens", s.items, s.n);
        fm_writer_meta_i32s(w, "tokenizer.ggml.token_type", types, s.n);
    }
    fm_free(types);
    strings_release(&s);
    return st;
}

static enum fm_status write_merges(const struct fm_tokenizer *t, struct fm_writer *w, struct fm_error *err)
{
    struct strings s;
    struct fm_pair *merges = NULL;
    enum fm_status st;
    FM_TRY(strings_new(&s, t->pairs.n, err));
    FM_GOTO(fm_tokenizer_sorted_pairs(t, &merges, err));
    for (uint32_t i = 0; i < t->pairs.n; i++) {
        size_t start = s.text.len;
        fm_tokenizer_put_piece(&s.text, t, (int32_t)(merges[i].key >> 32));
        fm_buf_char(&s.text, ' ');
        fm_tokenizer_put_piece(&s.text, t, (int32_t)(merges[i].key & UINT32_MAX));
        end_string(&s, start);
    }
    if (s.text.failed) {
        st = fm_fail_memory(err, "tokenizer strings", s.text.len);
        goto out;
    }
    finish(&s);
    fm_writer_meta_strs(w, "tokenizer.ggml.merges", s.items, s.n);
out:
    fm_free(merges);
    strings_release(&s);
    return st;
}

static void write_id(const struct fm_tokenizer *t, struct fm_writer *w, const char *key, int32_t id)
{
    if (id >= 0 && id < t->vocab.n) fm_writer_meta_int(w, key, FM_GGUF_U32, id);
}

/* What a SentencePiece model that came as merges would score: the earlier merged, the higher. */
static enum fm_status write_scores(const struct fm_tokenizer *t, int32_t n_ids, struct fm_writer *w,
                                   struct fm_error *err)
{
    static const float NEVER = -1e6f; /* merged last, should its parts ever meet */
    struct fm_pair *merges = NULL;
    float *scores = fm_calloc((size_t)n_ids, sizeof *scores);
    if (!scores) return fm_fail_memory(err, "scores", (size_t)n_ids * sizeof *scores);
    enum fm_status st = t->scores ? FM_OK : fm_tokenizer_sorted_pairs(t, &merges, err);
    for (int32_t id = 0; !st && id < t->vocab.n; id++) {
        const bool normal = t->vocab.tokens[id].type == FM_TOKEN_NORMAL;
        scores[id] = t->scores ? t->scores[id] : normal ? NEVER : 0;
    }
    for (uint32_t i = 0; !st && merges && i < t->pairs.n; i++)
        if (scores[merges[i].id] <= NEVER) scores[merges[i].id] = -(float)i;
    if (!st) fm_writer_meta_f32s(w, "tokenizer.ggml.scores", scores, (uint64_t)n_ids);
    fm_free(merges);
    fm_free(scores);
    return st;
}

enum fm_status fm_tokenizer_write_gguf(const struct fm_tokenizer *t, struct fm_writer *w, struct fm_error *err)
{
    return fm_tokenizer_write_gguf_sized(t, t->vocab.n, w, err);
}

enum fm_status fm_tokenizer_write_gguf_sized(const struct fm_tokenizer *t, int32_t n_ids, struct fm_writer *w,
                                             struct fm_error *err)
{
    const struct fm_pre_name *pre = t->pre.name;
    const char *pre_name = t->spm ? "default" : pre && pre->gguf ? pre->gguf : pre ? pre->name : NULL;
    if (!pre_name)
        return fm_fail(err, FM_ERR_USAGE, "write tokenizer: GGUF: its pre-tokenizer has no name that GGUF knows");
    if (n_ids < t->vocab.n)
        return fm_fail(err, FM_ERR_INPUT, "write tokenizer: GGUF: it has %d tokens, the model only %d rows for them",
                       t->vocab.n, n_ids);
    FM_TRY(write_tokens(t, n_ids, w, err));
    if (t->spm)
        FM_TRY(write_scores(t, n_ids, w, err));
    else
        FM_TRY(write_merges(t, w, err));
    const char *model = t->spm ? "llama" : "gpt2";
    fm_writer_meta_str(w, "tokenizer.ggml.model", model, strlen(model));
    fm_writer_meta_str(w, "tokenizer.ggml.pre", pre_name, strlen(pre_name));
    write_id(t, w, "tokenizer.ggml.bos_token_id", t->bos);
    write_id(t, w, "tokenizer.ggml.eos_token_id", t->eos);
    write_id(t, w, "tokenizer.ggml.unknown_token_id", t->unk);
    fm_writer_meta_bool(w, "tokenizer.ggml.add_bos_token", t->add_bos);
    fm_writer_meta_bool(w, "tokenizer.ggml.add_eos_token", t->add_eos);
    if (t->spm) fm_writer_meta_bool(w, "tokenizer.ggml.add_space_prefix", t->prefix != FM_PREFIX_NONE);
    return FM_OK;
}
