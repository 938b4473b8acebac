/* The parts of a tokenizer that do not depend on its kind: building, asking, opening. */
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/map.h"
#include "base/mem.h"
#include "text/tokenizer_impl.h"

/* ---- ids ---- */

void fm_ids_release(struct fm_ids *ids)
{
    fm_free(ids->data);
    *ids = (struct fm_ids){0};
}

enum fm_status fm_ids_reserve(struct fm_ids *ids, size_t more, struct fm_error *err)
{
    size_t need, bytes;
    if (!fm_add_size(ids->n, more, &need)) return fm_fail_memory(err, "token ids", more);
    if (need <= ids->cap) return FM_OK;
    if (need < 2 * ids->cap) need = 2 * ids->cap;
    if (need < 64) need = 64;
    void *p = fm_mul_size(need, sizeof *ids->data, &bytes) ? fm_realloc(ids->data, bytes) : NULL;
    if (!p) return fm_fail_memory(err, "token ids", need * sizeof *ids->data);
    ids->data = p;
    ids->cap = need;
    return FM_OK;
}

enum fm_status fm_ids_push(struct fm_ids *ids, int32_t id, struct fm_error *err)
{
    if (ids->n == ids->cap) FM_TRY(fm_ids_reserve(ids, 1, err));
    ids->data[ids->n++] = id;
    return FM_OK;
}

/* ---- building ---- */

enum fm_status fm_tokenizer_new(int64_t n_ids, const char *where, struct fm_tokenizer **out, struct fm_error *err)
{
    struct fm_tokenizer *t = fm_calloc(1, sizeof *t);
    if (!t) return fm_fail_memory(err, "tokenizer", sizeof *t);
    fm_added_init(&t->added);
    t->bos = t->eos = t->unk = -1;
    memset(t->byte_id, 0xff, sizeof t->byte_id);
    enum fm_status st = fm_vocab_init(&t->vocab, n_ids, where, err);
    if (st)
        fm_free(t);
    else
        *out = t;
    return st;
}

void fm_tokenizer_close(struct fm_tokenizer *t)
{
    if (!t) return;
    fm_vocab_release(&t->vocab);
    fm_pairs_release(&t->pairs);
    fm_added_release(&t->added);
    fm_pre_release(&t->pre);
    fm_free(t->scores);
    fm_free(t);
}

/* Some tables hold letters and runs of spaces as added tokens ("ü" in DeepSeek-Coder): they are recognised in every
 * text.  What looks like markup is not: it could steer a model when it comes from a user. */
static bool is_plain_text(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((s[i] && strchr("<>[]{}|", s[i])) || (n - i >= 3 && !memcmp(s + i, "｜", 3))) return false;
    return true;
}

enum fm_status fm_tokenizer_add(struct fm_tokenizer *t, int64_t id, const char *text, size_t n, enum fm_token_type type,
                                unsigned flags, const char *where, struct fm_error *err)
{
    FM_TRY(fm_vocab_set(&t->vocab, id, text, n, type, where, err));
    if (type == FM_TOKEN_USER && is_plain_text(text, n)) flags |= FM_ADDED_TEXT;
    return fm_added_insert(&t->added, text, n, (int32_t)id, flags, err);
}

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* Value of "<0x41>", or -1. */
static int byte_piece(const char *s, size_t n)
{
    if (n != 6 || memcmp(s, "<0x", 3) || s[5] != '>' || hex(s[3]) < 0 || hex(s[4]) < 0) return -1;
    return hex(s[3]) * 16 + hex(s[4]);
}

enum fm_status fm_tokenizer_set_piece(struct fm_tokenizer *t, int64_t id, const char *piece, size_t n,
                                      enum fm_token_type type, const char *where, struct fm_error *err)
{
    int b = type == FM_TOKEN_BYTE || type == FM_TOKEN_NORMAL ? byte_piece(piece, n) : -1;
    if (b >= 0) {
        char c = (char)b;
        return fm_vocab_set(&t->vocab, id, &c, 1, FM_TOKEN_BYTE, where, err);
    }
    if (type == FM_TOKEN_BYTE)
        return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: token %lld is a byte but not of the form <0x41>", where,
                       (long long)id);
    if (type == FM_TOKEN_CONTROL || type == FM_TOKEN_USER)
        return fm_tokenizer_add(t, id, piece, n, type, 0, where, err);
    struct fm_buf b2 = {0};
    for (size_t i = 0; i < n;) {
        bool mark = n - i >= 3 && !memcmp(piece + i, "\xE2\x96\x81", 3); /* ▁ */
        fm_buf_char(&b2, mark ? ' ' : piece[i]);
        i += mark ? 3 : 1;
    }
    enum fm_status st = b2.failed ? fm_fail_memory(err, "vocabulary", n)
                                  : fm_vocab_set(&t->vocab, id, b2.data, b2.len, type, where, err);
    fm_buf_release(&b2);
    return st;
}

enum fm_status fm_tokenizer_index(struct fm_tokenizer *t, struct fm_error *err)
{
    FM_TRY(fm_vocab_index(&t->vocab, err));
    for (int32_t id = 0; id < t->vocab.n; id++) {
        const struct fm_vocab_token *k = &t->vocab.tokens[id];
        if (k->len != 1 || k->type != (t->spm ? FM_TOKEN_BYTE : FM_TOKEN_NORMAL)) continue;
        int32_t *slot = &t->byte_id[(unsigned char)*fm_vocab_bytes(&t->vocab, id)];
        if (*slot < 0) *slot = id;
    }
    return FM_OK;
}

void fm_tokenizer_add_eog(struct fm_tokenizer *t, int32_t id)
{
    if (id < 0 || id >= t->vocab.n || t->n_eog == FM_EOG_MAX || fm_tokenizer_is_eog(t, id)) return;
    t->eog[t->n_eog++] = id;
}

/* The first of the texts, up to a NULL, that is an added token; -1 when none is. */
static int32_t first_of(const struct fm_tokenizer *t, const char *const *texts)
{
    for (; *texts; texts++) {
        int32_t id = fm_added_exact(&t->added, *texts, strlen(*texts));
        if (id >= 0) return id;
    }
    return -1;
}

void fm_tokenizer_finish(struct fm_tokenizer *t)
{
    static const char *const begins[] = {"<｜begin▁of▁sentence｜>", "<|begin_of_text|>", "<s>", "[BOS]", NULL};
    static const char *const ends[] = {
        "<｜end▁of▁sentence｜>", "<|end_of_text|>", "</s>", "[EOS]", "<|endoftext|>", NULL};
    static const char *const turns[] = {"<|im_end|>", "<|eot_id|>", "<|eom_id|>",
                                        "<|end|>",    "<|EOT|>",    "<end_of_turn>"};
    if (t->bos < 0) t->bos = first_of(t, begins);
    if (t->eos < 0) t->eos = first_of(t, ends);
    /* first or last of all: it stands between documents, as in GPT-2, and so begins them too */
    bool between = t->eos >= 0 && t->eos == fm_added_exact(&t->added, "<|endoftext|>", 13);
    if (t->bos < 0 && between && (t->eos == 0 || t->eos == t->vocab.n - 1)) t->bos = t->eos;
    fm_tokenizer_add_eog(t, t->eos);
    for (size_t i = 0; i < sizeof turns / sizeof *turns; i++)
        fm_tokenizer_add_eog(t, fm_added_exact(&t->added, turns[i], strlen(turns[i])));
    for (size_t i = 0; ends[i]; i++) fm_tokenizer_add_eog(t, fm_added_exact(&t->added, ends[i], strlen(ends[i])));
    t->word_bound = t->spm;
    for (int32_t id = 0; id < t->vocab.n && t->word_bound; id++) {
        const char *s = fm_vocab_bytes(&t->vocab, id);
        for (uint32_t i = 1; i < t->vocab.tokens[id].len && t->vocab.tokens[id].type == FM_TOKEN_NORMAL; i++)
            if (s[i] == ' ' && s[i - 1] != ' ') t->word_bound = false;
    }
}

/* ---- pairs that the vocabulary itself implies ---- */

enum fm_status fm_tokenizer_derive_pairs(struct fm_tokenizer *t, const uint32_t *rank, struct fm_error *err)
{
    const struct fm_vocab *v = &t->vocab;
    for (int32_t id = 0; id < v->n; id++) {
        if (v->tokens[id].type != FM_TOKEN_NORMAL) continue;
        const char *s = fm_vocab_bytes(v, id);
        uint32_t len = v->tokens[id].len;
        for (uint32_t i = 1; i < len; i++) {
            int32_t left = fm_vocab_find(v, s, i), right = left < 0 ? -1 : fm_vocab_find(v, s + i, len - i);
            if (right >= 0) FM_TRY(fm_pairs_add(&t->pairs, left, right, rank[id], id, err));
        }
    }
    return FM_OK;
}

struct scored {
    float score;
    int32_t id;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

enum fm_status fm_tokenizer_pairs_from_scores(struct fm_tokenizer *t, struct fm_error *err)
{
    size_t n = (size_t)t->vocab.n;
    struct scored *order = fm_malloc(n * sizeof *order);
    uint32_t *rank = fm_malloc(n * sizeof *rank);
    enum fm_status st = FM_OK;
    if (!order || !rank) {
        st = fm_fail_memory(err, "merges", n * sizeof *order);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        float s = t->scores[i];
        order[i] = (struct scored){s == s ? s : 0, (int32_t)i};
    }
    qsort(order, n, sizeof *order, by_score);
    uint32_t r = 0;
    for (size_t i = 0; i < n; i++) {
        if (i && order[i].score != order[i - 1].score) r++;
        rank[order[i].id] = r;
    }
    FM_GOTO(fm_tokenizer_derive_pairs(t, rank, err));
out:
    fm_free(order);
    fm_free(rank);
    return st;
}

static int by_rank(const void *a, const void *b)
{
    const struct fm_pair *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    return (x->key > y->key) - (x->key < y->key);
}

enum fm_status fm_tokenizer_sorted_pairs(const struct fm_tokenizer *t, struct fm_pair **out, struct fm_error *err)
{
    struct fm_pair *p = fm_malloc(t->pairs.n * sizeof *p);
    if (!p) return fm_fail_memory(err, "merges", t->pairs.n * sizeof *p);
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->pairs.n_slots; i++)
        if (t->pairs.slots[i].key != FM_PAIR_EMPTY) p[n++] = t->pairs.slots[i];
    qsort(p, n, sizeof *p, by_rank);
    *out = p;
    return FM_OK;
}

/* ---- asking ---- */

int32_t fm_tokenizer_size(const struct fm_tokenizer *t) { return t->vocab.n; }
int32_t fm_tokenizer_bos(const struct fm_tokenizer *t) { return t->bos; }
int32_t fm_tokenizer_eos(const struct fm_tokenizer *t) { return t->eos; }
bool fm_tokenizer_add_bos(const struct fm_tokenizer *t) { return t->add_bos; }
const char *fm_tokenizer_pre(const struct fm_tokenizer *t) { return t->pre.name ? t->pre.name->name : NULL; }

bool fm_tokenizer_is_eog(const struct fm_tokenizer *t, int32_t id)
{
    for (int i = 0; i < t->n_eog; i++)
        if (t->eog[i] == id) return true;
    return false;
}

bool fm_tokenizer_is_special(const struct fm_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->vocab.n && t->vocab.tokens[id].type == FM_TOKEN_CONTROL;
}

int32_t fm_tokenizer_find(const struct fm_tokenizer *t, const char *text)
{
    size_t n = strlen(text);
    int32_t id = fm_added_exact(&t->added, text, n);
    return id >= 0 ? id : fm_vocab_find(&t->vocab, text, n);
}

const char *fm_tokenizer_piece(const struct fm_tokenizer *t, int32_t id, size_t *n)
{
    *n = 0;
    if (id < 0 || id >= t->vocab.n) return NULL;
    const enum fm_token_type type = t->vocab.tokens[id].type;
    if (type == FM_TOKEN_GAP || type == FM_TOKEN_UNUSED) return NULL; /* in GGUF a gap has a name: "[PAD131]" */
    *n = t->vocab.tokens[id].len;
    return fm_vocab_bytes(&t->vocab, id);
}

enum fm_status fm_tokenizer_decode(const struct fm_tokenizer *t, const int32_t *ids, size_t n, struct fm_buf *out,
                                   struct fm_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= t->vocab.n)
            return fm_fail(err, FM_ERR_USAGE, "decode tokens: id %d: the vocabulary has 0 to %d", ids[i],
                           t->vocab.n - 1);
    size_t start = out->len;
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const char *s = fm_tokenizer_piece(t, ids[i], &len);
        bool strip = i == 0 && t->strip_first_space && t->vocab.tokens[ids[i]].type == FM_TOKEN_NORMAL;
        if (strip && len && *s == ' ') s++, len--;
        if (len) fm_buf_add(out, s, len);
    }
    if (!out->failed) return FM_OK;
    out->len = start;
    return fm_fail_memory(err, "decoded text", n);
}

/* ---- opening ---- */

/* A rank file: base64, one blank, a number, in lines. */
static bool looks_like_tiktoken(const unsigned char *s, size_t n)
{
    size_t i = 0, k;
    while (i < n && i < 4096 && s[i] > ' ' && s[i] < 127) i++;
    for (k = i + 1; k < n && k < i + 12 && s[k] >= '0' && s[k] <= '9';) k++;
    return i && i < n && s[i] == ' ' && k > i + 1 && (k == n || s[k] == '\n' || s[k] == '\r');
}

/* Moonshot's models (Kimi-K2, Moonlight) come with tiktoken.model and no word on how to split: all split alike. */
static const char MOONSHOT[] = "tiktoken.model";

static enum fm_status load_ranks(const struct fm_map *m, const char *path, const char *dir, const char *pre,
                                 struct fm_tokenizer **out, struct fm_error *err)
{
    json_t *config = NULL;
    const struct fm_pre_name *row = fm_pre_find(pre ? pre : fm_ends_with(path, MOONSHOT) ? "kimi-k2" : "");
    if (!row) {
        fm_fail(err, FM_ERR_USAGE, "read tokenizer: %s: a rank file needs the name of its pre-tokenizer", path);
        fm_hint(err, "name it with --pre: llama3, qwen2, cl100k, kimi-k2, …");
        return FM_ERR_USAGE;
    }
    FM_TRY(fm_tokenizer_json_beside(dir, "tokenizer_config.json", &config, err));
    enum fm_status st = fm_tokenizer_load_tiktoken((const char *)m->data, m->size, row,
                                                   json_object_get(config, "added_tokens_decoder"), path, out, err);
    json_decref(config);
    return st;
}

static enum fm_status load_mapped(const struct fm_map *m, const char *path, const char *dir, const char *pre,
                                  struct fm_tokenizer **out, struct fm_error *err)
{
    const char *s = (const char *)m->data;
    size_t i = 0;
    while (i < m->size && (s[i] == ' ' || s[i] == '\n' || s[i] == '\r' || s[i] == '\t')) i++;
    if (i < m->size && s[i] == '{') return fm_tokenizer_load_json(s, m->size, path, out, err);
    if (looks_like_tiktoken(m->data, m->size)) return load_ranks(m, path, dir, pre, out, err);
    if (m->size && s[0] == '\n') return fm_tokenizer_load_spm(s, m->size, path, out, err);
    return fm_fail(err, FM_ERR_INPUT,
                   "read tokenizer: %s: is no GGUF, tokenizer.json, SentencePiece model or tiktoken rank file", path);
}

static enum fm_status open_gguf(const char *path, struct fm_tokenizer **out, struct fm_error *err)
{
    struct fm_file *f;
    FM_TRY(fm_file_open(path, &f, err));
    enum fm_status st = fm_file_container(f) == FM_GGUF
                            ? fm_tokenizer_from_gguf(f, out, err)
                            : fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: there is no tokenizer", path);
    fm_file_close(f);
    return st;
}

static enum fm_status open_file(const char *path, const char *pre, struct fm_tokenizer **out, struct fm_error *err)
{
    struct fm_map m;
    FM_TRY(fm_map_open(&m, path, err));
    struct fm_tokenizer *t = NULL;
    struct fm_buf dir = {0};
    enum fm_status st;
    if (m.size >= 4 && !memcmp(m.data, "GGUF", 4)) {
        st = open_gguf(path, out, err);
        goto out;
    }
    const char *slash = strrchr(path, '/');
    fm_buf_add(&dir, slash ? path : ".", slash ? (size_t)(slash - path) + (slash == path) : 1);
    if (dir.failed) FM_GOTO(fm_fail_memory(err, "path", strlen(path)));
    FM_GOTO(load_mapped(&m, path, dir.data, pre, &t, err));
    FM_GOTO(fm_tokenizer_read_config(t, dir.data, err));
    *out = t;
    t = NULL;
out:
    fm_tokenizer_close(t);
    fm_buf_release(&dir);
    fm_map_close(&m);
    return st;
}

enum fm_status fm_tokenizer_open(const char *path, const char *pre, struct fm_tokenizer **out, struct fm_error *err)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer.model", MOONSHOT};
    struct stat s;
    if (stat(path, &s) || !S_ISDIR(s.st_mode)) return open_file(path, pre, out, err);
    struct fm_buf file = {0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        fm_buf_clear(&file);
        fm_buf_printf(&file, "%s/%s", path, names[i]);
        if (file.failed) return fm_fail_memory(err, "path", strlen(path));
        if (stat(file.data, &s)) continue;
        enum fm_status st = open_file(file.data, pre, out, err);
        fm_buf_release(&file);
        return st;
    }
    fm_buf_release(&file);
    return open_gguf(path, out, err);
}
