/* See tokens.h. */
#include "train/tokens.h"

#include <string.h>

#include "base/mem.h"
#include "base/sum.h"
#include "file/replace.h"

enum { VERSION = 1, HEADER = 64, TRAILER = 16, SUM_SEED = 2, PIECE_BYTES = 1 << 17, PIECES = 32 };
static const char MAGIC[8] = {'F', 'M', 'T', 'O', 'K', 'E', 'N', 'S'};

/* ---- little-endian fields ---- */

static void put(unsigned char *p, uint64_t v, int n)
{
    for (int i = 0; i < n; i++) p[i] = (unsigned char)(v >> 8 * i);
}

static uint64_t get(const unsigned char *p, int n)
{
    uint64_t v = 0;
    for (int i = 0; i < n; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}

/* ---- reading ---- */

static enum fm_status check(const struct fm_tokens *t, const char *path, struct fm_error *err)
{
    const struct fm_map *m = &t->map;
    const char *why = NULL;
    size_t at = 0;
    if (m->size < HEADER + TRAILER || memcmp(m->data, MAGIC, sizeof MAGIC))
        why = "not a token file";
    else if (get(m->data + 8, 4) != VERSION || (t->width != 2 && t->width != 4))
        why = "unknown version", at = 8;
    else if (t->n > (m->size - HEADER - TRAILER) / (unsigned)t->width ||
             t->n * (unsigned)t->width != m->size - HEADER - TRAILER)
        why = "the count does not fit the file", at = m->size - TRAILER;
    else if (fm_sum_of(SUM_SEED, m->data, m->size - 8) != t->sum)
        why = "wrong checksum", at = m->size - 8;
    for (uint64_t i = 0; !why && i < t->n; i++)
        if (fm_tokens_at(t, i) < 0 || fm_tokens_at(t, i) >= t->vocab)
            why = "id out of range", at = HEADER + i * (unsigned)t->width;
    return why ? fm_fail(err, FM_ERR_INPUT, "read tokens: %s: %s at byte %zu", path, why, at) : FM_OK;
}

enum fm_status fm_tokens_open(struct fm_tokens *t, const char *path, struct fm_error *err)
{
    struct fm_tokens r = {0};
    FM_TRY(fm_map_open(&r.map, path, err));
    if (r.map.size >= HEADER + TRAILER) {
        const unsigned char *p = r.map.data, *end = p + r.map.size;
        r.ids = p + HEADER;
        r.width = (int)(get(p + 12, 4) & 7);
        r.vocab = (int)(get(p + 16, 4) & INT32_MAX);
        r.tokenizer_sum = get(p + 24, 8);
        r.corpus_sum = get(p + 32, 8);
        r.n = get(end - 16, 8);
        r.sum = get(end - 8, 8);
    }
    enum fm_status st = check(&r, path, err);
    if (st)
        fm_map_close(&r.map);
    else
        *t = r;
    return st;
}

void fm_tokens_close(struct fm_tokens *t)
{
    fm_map_close(&t->map);
    *t = (struct fm_tokens){0};
}

/* ---- encoding ---- */

struct piece {
    const char *text;
    size_t len;
    bool first; /* of its document: the separator goes in front */
    struct fm_ids ids;
    enum fm_status st;
    struct fm_error err;
};
struct encoder {
    const struct fm_tokens_encode *e;
    struct fm_replace file;
    struct fm_sum sum;
    uint64_t n;
    int width;
    struct piece pieces[PIECES];
    unsigned char *out; /* OUT_IDS ids as stored */
};
enum { OUT_IDS = 1 << 14 };

static enum fm_status write_bytes(struct encoder *w, const void *p, size_t n, struct fm_error *err)
{
    fm_sum_add(&w->sum, p, n);
    return fm_replace_write(&w->file, p, n, err);
}

static enum fm_status write_ids(struct encoder *w, const int32_t *ids, size_t n, struct fm_error *err)
{
    w->n += n;
    while (n) {
        const size_t k = n < OUT_IDS ? n : OUT_IDS;
        for (size_t i = 0; i < k; i++) put(w->out + i * (size_t)w->width, (uint32_t)ids[i], w->width);
        FM_TRY(write_bytes(w, w->out, k * (size_t)w->width, err));
        ids += k;
        n -= k;
    }
    return FM_OK;
}

static bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/* Length of the next piece of p[n]: up to a newline between a visible byte and a letter, near PIECE_BYTES. */
static size_t cut_at(const char *p, size_t n, bool may_cut)
{
    if (!may_cut) return n;
    for (size_t i = PIECE_BYTES; i + 1 < n; i++)
        if (p[i] == '\n' && letter(p[i + 1]) && (unsigned char)p[i - 1] > ' ' && (unsigned char)p[i - 1] < 0x7F)
            return i + 1;
    return n;
}

static void encode_pieces(void *arg, int begin, int end, int thread)
{
    struct encoder *w = arg;
    (void)thread;
    for (int i = begin; i < end; i++) {
        struct piece *p = &w->pieces[i];
        p->st = fm_tokenizer_encode(w->e->tokenizer, p->text, p->len, 0, &p->ids, &p->err);
    }
}

/* Encode n pieces in parallel and write them in order. */
static enum fm_status flush(struct encoder *w, int n, struct fm_pool *pool, struct fm_error *err)
{
    if (w->e->stop && *w->e->stop) return fm_fail(err, FM_ERR_CANCELLED, "encode corpus: stopped");
    fm_parallel_for(pool, n, 1, encode_pieces, w);
    enum fm_status st = FM_OK;
    for (int i = 0; i < n; i++) {
        struct piece *p = &w->pieces[i];
        if (!st && (st = p->st) && err) *err = p->err;
        if (!st && p->first) st = write_ids(w, &w->e->eot, 1, err);
        if (!st) st = write_ids(w, p->ids.data, p->ids.n, err);
        fm_ids_release(&p->ids);
    }
    return st;
}

static enum fm_status encode_docs(struct encoder *w, const struct fm_corpus *c, struct fm_pool *pool,
                                  struct fm_error *err)
{
    int n = 0;
    for (int d = 0; d < c->n_docs; d++) {
        const char *p = c->text + c->docs[d].start, *end = p + c->docs[d].len;
        for (bool first = true; p < end; first = false) {
            const size_t len = cut_at(p, (size_t)(end - p), w->e->cut);
            w->pieces[n++] = (struct piece){.text = p, .len = len, .first = first};
            p += len;
            if (n < PIECES) continue;
            FM_TRY(flush(w, n, pool, err));
            n = 0;
        }
    }
    FM_TRY(flush(w, n, pool, err));
    return write_ids(w, &w->e->eot, 1, err);
}

static enum fm_status write_file(struct encoder *w, const struct fm_corpus *c, struct fm_pool *pool,
                                 struct fm_error *err)
{
    unsigned char header[HEADER] = {0}, trailer[TRAILER];
    const int vocab = fm_tokenizer_size(w->e->tokenizer);
    w->width = vocab <= 0x10000 ? 2 : 4;
    memcpy(header, MAGIC, sizeof MAGIC);
    put(header + 8, VERSION, 4);
    put(header + 12, (unsigned)w->width, 4);
    put(header + 16, (unsigned)vocab, 4);
    put(header + 24, w->e->tokenizer_sum, 8);
    put(header + 32, w->e->corpus_sum, 8);
    FM_TRY(write_bytes(w, header, HEADER, err));
    FM_TRY(encode_docs(w, c, pool, err));
    put(trailer, w->n, 8);
    FM_TRY(write_bytes(w, trailer, 8, err));
    put(trailer + 8, fm_sum_end(&w->sum), 8);
    return fm_replace_write(&w->file, trailer + 8, 8, err);
}

enum fm_status fm_tokens_write(const struct fm_tokens_encode *e, const struct fm_corpus *c, struct fm_pool *pool,
                               const char *path, struct fm_error *err)
{
    struct encoder *w = fm_calloc(1, sizeof *w);
    unsigned char *out = fm_malloc(OUT_IDS * 4);
    enum fm_status st = w && out ? FM_OK : fm_fail_memory(err, "token encoder", sizeof *w + OUT_IDS * 4);
    if (st) goto out;
    w->e = e;
    w->out = out;
    fm_sum_init(&w->sum, SUM_SEED);
    FM_GOTO(fm_replace_open(&w->file, "write tokens", path, err));
    st = write_file(w, c, pool, err);
    if (st)
        fm_replace_abort(&w->file);
    else
        st = fm_replace_commit(&w->file, err);
out:
    fm_free(out);
    fm_free(w);
    return st;
}
