/* See words.h.  Each thread counts into its own table; the tables are added up at the end.
 *
 *   text ── chunk 0 ──┬── chunk 1 ──┬── …      cuts lie between an ASCII letter and the blank behind it:
 *                     "word"┆" next"           every published pattern ends a piece there, whatever follows */
#include "text/words.h"

#include <string.h>

#include "base/mem.h"
#include "text/vocab.h"

enum { CHUNK_BYTES = 1 << 20 };

void fm_words_release(struct fm_words *w)
{
    fm_free(w->items);
    fm_free(w->slots);
    *w = (struct fm_words){0};
}

static uint32_t *find_slot(struct fm_words *w, const char *text, size_t n)
{
    uint32_t mask = w->n_slots - 1, i = (uint32_t)fm_hash_bytes(text, n) & mask;
    while (w->slots[i]) {
        const struct fm_word *x = &w->items[w->slots[i] - 1];
        if (x->n == n && !memcmp(x->text, text, n)) break;
        i = (i + 1) & mask;
    }
    return &w->slots[i];
}

static enum fm_status grow(struct fm_words *w, struct fm_error *err)
{
    uint32_t cap = w->cap ? w->cap * 2 : 1 << 12;
    if (cap > 1u << 30) return fm_fail(err, FM_ERR_USAGE, "train tokenizer: corpus: too many distinct words");
    void *items = fm_realloc(w->items, cap * sizeof *w->items);
    if (!items) return fm_fail_memory(err, "words", cap * sizeof *w->items);
    w->items = items;
    w->cap = cap;
    uint32_t *slots = fm_calloc(cap * 2, sizeof *slots);
    if (!slots) return fm_fail_memory(err, "words", cap * 2 * sizeof *slots);
    fm_free(w->slots);
    w->slots = slots;
    w->n_slots = cap * 2;
    for (uint32_t i = 0; i < w->n; i++) *find_slot(w, w->items[i].text, w->items[i].n) = i + 1;
    return FM_OK;
}

static enum fm_status add(struct fm_words *w, const char *text, size_t n, uint64_t count, struct fm_error *err)
{
    if (w->n == w->cap) FM_TRY(grow(w, err));
    uint32_t *slot = find_slot(w, text, n);
    if (!*slot) {
        w->items[w->n++] = (struct fm_word){text, (uint32_t)n, 0};
        *slot = w->n;
    }
    w->items[*slot - 1].count += count;
    return FM_OK;
}

struct job {
    const struct fm_pre *pre;
    const struct fm_added *added;
    const char *text;
    const size_t *cuts;      /* n_chunks + 1 of them                       */
    struct fm_words *tables; /* one per thread                             */
    enum fm_status *status;  /* one per thread: its first failure          */
    struct fm_error *errors; /* one per thread                             */
};

static enum fm_status count_piece(void *arg, const char *piece, size_t n, struct fm_error *err)
{
    return n > FM_MAX_TOKEN_BYTES ? FM_OK : add(arg, piece, n, 1, err);
}

static enum fm_status count_chunk(const struct job *j, struct fm_words *w, const char *text, size_t n,
                                  struct fm_error *err)
{
    size_t at = 0, begin, end;
    int32_t id;
    while (fm_added_next(j->added, text, n, at, 0, &begin, &end, &id)) {
        FM_TRY(fm_pre_split(j->pre, text + at, begin - at, count_piece, w, err));
        at = end;
    }
    return fm_pre_split(j->pre, text + at, n - at, count_piece, w, err);
}

static void run(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    for (int i = begin; i < end && !j->status[thread]; i++)
        j->status[thread] =
            count_chunk(j, &j->tables[thread], j->text + j->cuts[i], j->cuts[i + 1] - j->cuts[i], &j->errors[thread]);
}

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/* First cut at or after `from`; n when there is none. */
static size_t next_cut(const char *text, size_t n, size_t from)
{
    for (size_t i = from ? from : 1; i < n; i++)
        if ((text[i] == ' ' || text[i] == '\n') && is_letter(text[i - 1])) return i;
    return n;
}

static int find_cuts(const char *text, size_t n, size_t *cuts)
{
    int k = 0;
    cuts[0] = 0;
    while (cuts[k] < n) {
        cuts[k + 1] = n - cuts[k] > CHUNK_BYTES ? next_cut(text, n, cuts[k] + CHUNK_BYTES) : n;
        k++;
    }
    return k;
}

enum fm_status fm_words_count(struct fm_words *w, const struct fm_pre *pre, const struct fm_added *added,
                              const char *text, size_t n, struct fm_pool *pool, struct fm_error *err)
{
    size_t n_cuts = n / CHUNK_BYTES + 2, threads = (size_t)fm_pool_size(pool);
    size_t *cuts = fm_malloc(n_cuts * sizeof *cuts);
    struct job j = {pre, added, text, cuts, NULL, NULL, NULL};
    j.tables = fm_calloc(threads, sizeof *j.tables);
    j.status = fm_calloc(threads, sizeof *j.status);
    j.errors = fm_calloc(threads, sizeof *j.errors);
    enum fm_status st = FM_OK;
    if (!cuts || !j.tables || !j.status || !j.errors) {
        st = fm_fail_memory(err, "words", n_cuts * sizeof *cuts);
        goto out;
    }
    fm_parallel_for(pool, find_cuts(text, n, cuts), 1, run, &j);
    for (size_t t = 0; t < threads && !st; t++) {
        st = j.status[t];
        if (st && err) *err = j.errors[t];
    }
    for (size_t t = 0; t < threads && !st; t++)
        for (uint32_t i = 0; i < j.tables[t].n && !st; i++)
            st = add(w, j.tables[t].items[i].text, j.tables[t].items[i].n, j.tables[t].items[i].count, err);
out:
    for (size_t t = 0; j.tables && t < threads; t++) fm_words_release(&j.tables[t]);
    fm_free(j.tables);
    fm_free(j.status);
    fm_free(j.errors);
    fm_free(cuts);
    return st;
}
