/* Learning a byte-level BPE vocabulary: merge the most frequent adjacent pair, again and again.
 *
 *   words[w] = symbols s0 s1 s2 …  × count      pairs[p] = (left, right), count, the words it was seen in
 *
 * A merge only touches the words of its pair, and there only the pairs beside each occurrence, so the counts stay
 * exact at small cost.  The heap may hold outdated counts: an entry is checked when it comes to the top.
 * Ties go to the pair that is smallest by bytes, left before right, so nothing depends on threads or hashing.
 * Source: Sennrich et al. 2016, algorithm 1; the incremental counts as in Hugging Face's trainer. */
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "text/alphabet.h"
#include "text/tokenizer_impl.h"
#include "text/words.h"

struct pair {
    int32_t left, right;
    int64_t count;
    uint32_t *words, n_words, cap_words;
    bool gained; /* listed in train.gained */
};

struct entry {
    int64_t count;
    uint32_t pair;
};

struct word {
    size_t start; /* of its symbols */
    uint32_t n;
    int64_t count;
};

struct train {
    struct fm_tokenizer *t;
    const struct fm_bpe_train *params;
    int32_t *symbols;
    struct word *words;
    struct pair *pairs;
    uint32_t n_pairs, cap_pairs;
    uint32_t *slots, n_slots; /* index into pairs + 1; 0 = free   */
    struct entry *heap;
    size_t n_heap, cap_heap;
    uint32_t *gained, n_gained, cap_gained;
};

/* ---- growing arrays ---- */

/* Make room for one more item of `size` bytes; false when memory is short. */
static bool room(void **items, size_t n, uint32_t *cap, size_t size)
{
    if (n < *cap) return true;
    uint32_t more = *cap ? *cap * 2 : 4;
    void *p = more > *cap ? fm_realloc(*items, more * size) : NULL;
    if (!p) return false;
    *items = p;
    *cap = more;
    return true;
}

static enum fm_status short_of_memory(struct fm_error *err) { return fm_fail_memory(err, "training the tokenizer", 0); }

/* ---- heap of pairs: most frequent first ---- */

static int compare_tokens(const struct fm_vocab *v, int32_t a, int32_t b)
{
    uint32_t na = v->tokens[a].len, nb = v->tokens[b].len;
    int c = a == b ? 0 : memcmp(fm_vocab_bytes(v, a), fm_vocab_bytes(v, b), na < nb ? na : nb);
    return c ? c : (na > nb) - (na < nb);
}

static bool before(const struct train *tr, const struct entry *a, const struct entry *b)
{
    if (a->count != b->count) return a->count > b->count;
    const struct pair *p = &tr->pairs[a->pair], *q = &tr->pairs[b->pair];
    int c = compare_tokens(&tr->t->vocab, p->left, q->left);
    return (c ? c : compare_tokens(&tr->t->vocab, p->right, q->right)) < 0;
}

static enum fm_status push(struct train *tr, uint32_t pair, struct fm_error *err)
{
    if (tr->n_heap == tr->cap_heap) {
        size_t cap = tr->cap_heap ? tr->cap_heap * 2 : 1024;
        void *p = fm_realloc(tr->heap, cap * sizeof *tr->heap);
        if (!p) return short_of_memory(err);
        tr->heap = p;
        tr->cap_heap = cap;
    }
    struct entry e = {tr->pairs[pair].count, pair};
    size_t i = tr->n_heap++;
    for (; i && before(tr, &e, &tr->heap[(i - 1) / 2]); i = (i - 1) / 2) tr->heap[i] = tr->heap[(i - 1) / 2];
    tr->heap[i] = e;
    return FM_OK;
}

static struct entry pop(struct train *tr)
{
    struct entry top = tr->heap[0], last = tr->heap[--tr->n_heap];
    size_t i = 0;
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= tr->n_heap) break;
        if (c + 1 < tr->n_heap && before(tr, &tr->heap[c + 1], &tr->heap[c])) c++;
        if (!before(tr, &tr->heap[c], &last)) break;
        tr->heap[i] = tr->heap[c];
        i = c;
    }
    tr->heap[i] = last;
    return top;
}

/* ---- pairs ---- */

static uint32_t *find_slot(struct train *tr, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint32_t mask = tr->n_slots - 1, i = (uint32_t)((key * 0x9E3779B97F4A7C15u) >> 32) & mask;
    while (tr->slots[i]) {
        const struct pair *p = &tr->pairs[tr->slots[i] - 1];
        if (p->left == left && p->right == right) break;
        i = (i + 1) & mask;
    }
    return &tr->slots[i];
}

static enum fm_status grow_slots(struct train *tr, struct fm_error *err)
{
    uint32_t n = tr->n_slots ? tr->n_slots * 2 : 1 << 12;
    uint32_t *slots = n ? fm_calloc(n, sizeof *slots) : NULL;
    if (!slots) return short_of_memory(err);
    fm_free(tr->slots);
    tr->slots = slots;
    tr->n_slots = n;
    for (uint32_t i = 0; i < tr->n_pairs; i++) *find_slot(tr, tr->pairs[i].left, tr->pairs[i].right) = i + 1;
    return FM_OK;
}

/* Add delta to the count of a pair seen in word w (a new occurrence when delta > 0). */
static enum fm_status count(struct train *tr, int32_t left, int32_t right, int64_t delta, uint32_t w,
                            struct fm_error *err)
{
    if (tr->n_slots < 2 * (tr->n_pairs + 1)) FM_TRY(grow_slots(tr, err));
    uint32_t *slot = find_slot(tr, left, right);
    if (!*slot) {
        if (!room((void **)&tr->pairs, tr->n_pairs, &tr->cap_pairs, sizeof *tr->pairs)) return short_of_memory(err);
        tr->pairs[tr->n_pairs++] = (struct pair){.left = left, .right = right};
        *slot = tr->n_pairs;
    }
    uint32_t i = *slot - 1;
    struct pair *p = &tr->pairs[i];
    p->count += delta;
    if (delta < 0) return FM_OK;
    if (!p->n_words || p->words[p->n_words - 1] != w) {
        if (!room((void **)&p->words, p->n_words, &p->cap_words, sizeof *p->words)) return short_of_memory(err);
        p->words[p->n_words++] = w;
    }
    if (p->gained) return FM_OK;
    if (!room((void **)&tr->gained, tr->n_gained, &tr->cap_gained, sizeof *tr->gained)) return short_of_memory(err);
    tr->gained[tr->n_gained++] = i;
    p->gained = true;
    return FM_OK;
}

static enum fm_status push_gained(struct train *tr, struct fm_error *err)
{
    for (uint32_t i = 0; i < tr->n_gained; i++) {
        tr->pairs[tr->gained[i]].gained = false;
        FM_TRY(push(tr, tr->gained[i], err));
    }
    tr->n_gained = 0;
    return FM_OK;
}

/* ---- merging ---- */

/* Join every (left, right) of word w to id, and move the counts of the pairs beside it. */
static enum fm_status merge_word(struct train *tr, uint32_t w, int32_t left, int32_t right, int32_t id,
                                 struct fm_error *err)
{
    struct word *word = &tr->words[w];
    int32_t *s = tr->symbols + word->start;
    uint32_t k = 0;
    for (uint32_t i = 0; i < word->n; i++) {
        if (i + 1 == word->n || s[i] != left || s[i + 1] != right) {
            s[k++] = s[i];
            continue;
        }
        if (k) {
            FM_TRY(count(tr, s[k - 1], left, -word->count, w, err));
            FM_TRY(count(tr, s[k - 1], id, word->count, w, err));
        }
        if (i + 2 < word->n) {
            FM_TRY(count(tr, right, s[i + 2], -word->count, w, err));
            FM_TRY(count(tr, id, s[i + 2], word->count, w, err));
        }
        s[k++] = id;
        i++;
    }
    word->n = k;
    return FM_OK;
}

/* The token that left and right form; a new id, unless another pair has formed the same bytes before. */
static enum fm_status merged_token(struct train *tr, int32_t left, int32_t right, int32_t *n_ids, int32_t *id,
                                   struct fm_error *err)
{
    struct fm_vocab *v = &tr->t->vocab;
    char bytes[FM_MAX_TOKEN_BYTES]; /* a token is part of a piece, and those are no longer */
    uint32_t a = v->tokens[left].len, b = v->tokens[right].len;
    memcpy(bytes, fm_vocab_bytes(v, left), a);
    memcpy(bytes + a, fm_vocab_bytes(v, right), b);
    *id = fm_vocab_find(v, bytes, a + b);
    if (*id >= 0) return FM_OK;
    *id = (*n_ids)++;
    FM_TRY(fm_vocab_set(v, *id, bytes, a + b, FM_TOKEN_NORMAL, "training", err));
    fm_vocab_index_one(v, *id);
    return FM_OK;
}

static enum fm_status merge_pair(struct train *tr, uint32_t pair, int32_t id, struct fm_error *err)
{
    struct pair p = tr->pairs[pair];
    tr->pairs[pair].words = NULL; /* ours now: counting may move the table */
    tr->pairs[pair].n_words = tr->pairs[pair].cap_words = 0;
    enum fm_status st = FM_OK;
    for (uint32_t i = 0; i < p.n_words && !st; i++) st = merge_word(tr, p.words[i], p.left, p.right, id, err);
    fm_free(p.words);
    tr->pairs[pair].count = 0;
    return st;
}

static enum fm_status merge_all(struct train *tr, int32_t *n_ids, struct fm_error *err)
{
    const struct fm_bpe_train *params = tr->params;
    uint32_t rank = 0;
    FM_TRY(push_gained(tr, err));
    while (*n_ids < params->n_vocab && tr->n_heap) {
        struct entry e = pop(tr);
        struct pair p = tr->pairs[e.pair];
        if (e.count != p.count) {
            if (p.count > 0) FM_TRY(push(tr, e.pair, err));
            continue;
        }
        if (p.count < 2) break; /* nothing is repeated any more */
        int32_t id;
        FM_TRY(merged_token(tr, p.left, p.right, n_ids, &id, err));
        FM_TRY(fm_pairs_add(&tr->t->pairs, p.left, p.right, rank++, id, err));
        FM_TRY(merge_pair(tr, e.pair, id, err));
        FM_TRY(push_gained(tr, err));
        if (params->progress && *n_ids % 256 == 0) params->progress(params->progress_arg, *n_ids, params->n_vocab);
    }
    if (params->progress) params->progress(params->progress_arg, params->n_vocab, params->n_vocab);
    return FM_OK;
}

/* ---- set-up ---- */

static enum fm_status check(const struct fm_bpe_train *p, const struct fm_pre_name **pre, struct fm_error *err)
{
    *pre = p->pre ? fm_pre_find(p->pre) : NULL;
    if (!*pre)
        return fm_fail(err, FM_ERR_USAGE, "train tokenizer: pre-tokenizer %s: is not known", p->pre ? p->pre : "");
    if (p->n_specials < 0 || p->n_vocab < 256 + p->n_specials || p->n_vocab > FM_MAX_VOCAB)
        return fm_fail(err, FM_ERR_USAGE, "train tokenizer: vocabulary of %d: must be %d to %d", p->n_vocab,
                       256 + p->n_specials, FM_MAX_VOCAB);
    for (int i = 0; i < p->n_specials; i++) {
        size_t n = strlen(p->specials[i]);
        if (!n || n > FM_MAX_TOKEN_BYTES || strpbrk(p->specials[i], " \t\r\n") || !fm_utf8_valid(p->specials[i], n))
            return fm_fail(err, FM_ERR_USAGE, "train tokenizer: special token \"%.60s\": must be text without blanks",
                           p->specials[i]);
        for (int k = 0; k < i; k++)
            if (!strcmp(p->specials[k], p->specials[i]))
                return fm_fail(err, FM_ERR_USAGE, "train tokenizer: special token %.60s: is given twice",
                               p->specials[i]);
    }
    return FM_OK;
}

/* Specials, then the bytes in the order of the printable alphabet, then room for the merges. */
static enum fm_status new_tokenizer(const struct fm_bpe_train *p, const struct fm_pre_name *pre,
                                    struct fm_tokenizer **out, struct fm_error *err)
{
    struct fm_tokenizer *t;
    FM_TRY(fm_tokenizer_new(p->n_vocab, "training", &t, err));
    enum fm_status st;
    FM_GOTO(fm_pre_add_name(&t->pre, pre, err));
    for (int i = 0; i < p->n_specials; i++)
        FM_GOTO(fm_tokenizer_add(t, i, p->specials[i], strlen(p->specials[i]), FM_TOKEN_CONTROL, 0, "training", err));
    for (int i = 0; i < 256; i++) {
        char b = (char)fm_alphabet_nth(i);
        FM_GOTO(fm_vocab_set(&t->vocab, p->n_specials + i, &b, 1, FM_TOKEN_NORMAL, "training", err));
    }
    FM_GOTO(fm_tokenizer_index(t, err));
    t->ignore_merges = pre->ignore_merges;
    t->nfc = pre->nfc;
    if (p->n_specials) t->bos = t->eos = 0;
    *out = t;
    return FM_OK;
out:
    fm_tokenizer_close(t);
    return st;
}

/* Words as symbols, and the counts of all their pairs. */
static enum fm_status start(struct train *tr, const struct fm_words *words, struct fm_error *err)
{
    size_t n = 0;
    for (uint32_t i = 0; i < words->n; i++) n += words->items[i].n;
    tr->symbols = fm_malloc(n * sizeof *tr->symbols);
    tr->words = fm_malloc(words->n * sizeof *tr->words);
    if (!tr->symbols || !tr->words) return short_of_memory(err);
    n = 0;
    for (uint32_t w = 0; w < words->n; w++) {
        const struct fm_word *x = &words->items[w];
        tr->words[w] = (struct word){n, x->n, (int64_t)x->count};
        for (uint32_t i = 0; i < x->n; i++, n++) {
            tr->symbols[n] = tr->t->byte_id[(unsigned char)x->text[i]];
            if (i) FM_TRY(count(tr, tr->symbols[n - 1], tr->symbols[n], tr->words[w].count, w, err));
        }
    }
    return FM_OK;
}

static void release(struct train *tr)
{
    for (uint32_t i = 0; i < tr->n_pairs; i++) fm_free(tr->pairs[i].words);
    fm_free(tr->pairs);
    fm_free(tr->slots);
    fm_free(tr->heap);
    fm_free(tr->gained);
    fm_free(tr->words);
    fm_free(tr->symbols);
}

enum fm_status fm_tokenizer_train(const struct fm_bpe_train *p, struct fm_tokenizer **out, struct fm_error *err)
{
    const struct fm_pre_name *pre;
    FM_TRY(check(p, &pre, err));
    struct train tr = {.params = p};
    struct fm_pool *pool = NULL;
    struct fm_words words = {0};
    int32_t n_ids = p->n_specials + 256;
    enum fm_status st;
    FM_GOTO(new_tokenizer(p, pre, &tr.t, err));
    FM_GOTO(fm_pool_new(p->threads, &pool, err));
    FM_GOTO(fm_words_count(&words, &tr.t->pre, &tr.t->added, p->text, p->n, pool, err));
    FM_GOTO(start(&tr, &words, err));
    FM_GOTO(merge_all(&tr, &n_ids, err));
    tr.t->vocab.n = n_ids; /* smaller than asked for when the corpus is poor in repetition */
    fm_tokenizer_finish(tr.t);
    *out = tr.t;
    tr.t = NULL;
out:
    release(&tr);
    fm_words_release(&words);
    fm_pool_free(pool);
    fm_tokenizer_close(tr.t);
    return st;
}
