/* See recode.h.  A tensor is cut into chunks that fill a write buffer, a chunk into units of whole rows (of whole heads,
 * where a row needs the others of its head); a unit is what one thread decodes and encodes at a time. */
#include "model/recode.h"

#include <pthread.h>
#include <string.h>

#include "base/behind.h"
#include "base/mem.h"
#include "model/scales.h"

enum { UNIT = 1 << 15, CHUNK = 1 << 22 }; /* elements: 128 kB of floats a thread, at most 16 MB a buffer */

enum fault { FAULT_NONE, FAULT_NOT_FINITE, FAULT_RANGE };

/* The tensor in work. */
struct work {
    const struct fm_recode *r;
    const struct fm_recode_tensor *t;
    struct fm_mat *made; /* n_mats of them, with scales, where t has none of its own */
    const struct fm_mat *mats;
    int n_mats;
    float *weights; /* [n_slices, cols], or NULL */
    size_t row_bytes;
    uint64_t unit_rows, chunk_rows;
    float *scratch; /* per thread: rows of a unit, then what a head needs */
    size_t scratch_len;
    /* the chunk in work */
    uint64_t row0, row1;
    char *dst;
    /* the fault of the lowest row */
    pthread_mutex_t lock;
    enum fault fault;
    uint64_t fault_row;
};

/* ---- rows ---- */

static const struct fm_mat *mat_of(const struct work *w, uint64_t row, int *local)
{
    const uint64_t per = w->t->rows / (uint64_t)w->n_mats;
    *local = (int)(row % per);
    return &w->mats[row / per];
}

static uint64_t source_row(const struct fm_recode_tensor *t, uint64_t row)
{
    const uint64_t d = (uint64_t)t->head;
    if (t->order == FM_ROWS_V_B) {
        const uint64_t v = (uint64_t)t->Dv, h = row / v;
        return h * (uint64_t)(t->Dn + t->Dv) + (uint64_t)t->Dn + row % v;
    }
    if (t->order != FM_ROWS_PAIRS && t->order != FM_ROWS_HALVES) return row;
    const uint64_t i = row % d, base = row - i;
    return base + (t->order == FM_ROWS_PAIRS ? i % 2 * (d / 2) + i / 2 : i % (d / 2) * 2 + i / (d / 2));
}

/* Of a transposed source the rows are not those of the output. */
static bool is_gathered(const struct fm_recode_tensor *t)
{
    return t->order == FM_ROWS_K_B || t->order == FM_ROWS_V_B || t->order == FM_ROWS_KV_B;
}

static void decode_row(float *dst, const struct fm_mat *m, uint64_t row)
{
    fm_mat_decode(dst, m, (int)row, 0, m->cols, fm_formats[m->fmt].decode);
}

/* dst[n, m] = source rows [row0 + i, …] of m columns each, transposed: dst[c, i] = row i, column c. */
static void decode_transposed(float *dst, const struct fm_mat *m, uint64_t row0, int n, float *row)
{
    for (int i = 0; i < n; i++) {
        decode_row(row, m, row0 + (uint64_t)i);
        for (int c = 0; c < m->cols; c++) dst[(size_t)c * (size_t)n + (size_t)i] = row[c];
    }
}

/* dst[n, cols] = rows [row, row + n) of the output; tmp: behind them. */
static void fill(const struct work *w, uint64_t row, uint64_t n, float *dst, float *tmp)
{
    const struct fm_recode_tensor *t = w->t;
    const size_t cols = (size_t)t->cols;
    const uint64_t Dn = (uint64_t)t->Dn, Db = Dn + (uint64_t)t->Dv, R = (uint64_t)t->R;
    if (t->order == FM_ROWS_K_B) { /* whole heads */
        for (uint64_t at = 0; at < n; at += R)
            decode_transposed(dst + at * cols, &w->mats[0], (row + at) / R * Db, t->Dn, tmp);
    } else if (t->order == FM_ROWS_KV_B) {
        for (uint64_t at = 0; at < n; at += Db) {
            const uint64_t h = (row + at) / Db;
            decode_transposed(dst + at * cols, &w->mats[0], h * R, t->R, tmp);
            for (int v = 0; v < t->Dv; v++)
                decode_row(dst + (at + Dn + (uint64_t)v) * cols, &w->mats[1], h * (uint64_t)t->Dv + (uint64_t)v);
        }
    } else if (t->order == FM_ROWS_V_B) {
        for (uint64_t i = 0; i < n; i++) decode_row(dst + i * cols, &w->mats[0], source_row(t, row + i));
    } else {
        for (uint64_t i = 0; i < n; i++) {
            int local;
            const struct fm_mat *m = mat_of(w, source_row(t, row + i), &local);
            decode_row(dst + i * cols, m, (uint64_t)local);
        }
    }
}

static void copy_rows(const struct work *w, uint64_t row, uint64_t n, char *dst)
{
    for (uint64_t i = 0; i < n; i++) {
        int local;
        const struct fm_mat *m = mat_of(w, source_row(w->t, row + i), &local);
        memcpy(dst + i * w->row_bytes, (const char *)m->data + (size_t)local * m->row_bytes, w->row_bytes);
    }
}

/* ---- checks ---- */

static bool all_finite(const float *x, size_t n)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        bad |= (u & 0x7f800000u) == 0x7f800000u;
    }
    return !bad;
}

/* f16 rounds from 65520 on to infinity. */
static bool fits_f16(const float *x, size_t n)
{
    bool bad = false;
    for (size_t i = 0; i < n; i++) bad |= x[i] >= 65520.0f || x[i] <= -65520.0f;
    return !bad;
}

static void note_fault(struct work *w, enum fault fault, uint64_t row)
{
    pthread_mutex_lock(&w->lock);
    if (!w->fault || row < w->fault_row) w->fault = fault, w->fault_row = row;
    pthread_mutex_unlock(&w->lock);
}

static void check(struct work *w, const float *x, uint64_t row, uint64_t n)
{
    const size_t cols = (size_t)w->t->cols;
    for (uint64_t i = 0; i < n; i++) {
        const float *at = x + i * cols;
        if (!all_finite(at, cols)) note_fault(w, FAULT_NOT_FINITE, row + i);
        if (w->t->fmt == FM_F16 && !fits_f16(at, cols)) note_fault(w, FAULT_RANGE, row + i);
    }
}

/* ---- a unit ---- */

static void encode(const struct work *w, const float *x, uint64_t row, uint64_t n, char *dst)
{
    const size_t cols = (size_t)w->t->cols;
    const uint64_t per = w->t->rows / (uint64_t)w->t->n_slices;
    for (uint64_t i = 0; i < n; i++) {
        const float *weights = w->weights ? w->weights + (row + i) / per * cols : NULL;
        fm_cpu_encode(w->t->fmt, dst + i * w->row_bytes, x + i * cols, weights, cols);
    }
}

/* Formats of blocks are checked by whoever wrote them; a float tensor may hold anything. */
static bool needs_check(const struct fm_recode_tensor *t)
{
    return fm_formats[t->from].decode && (!t->copied || fm_formats[t->from].block == 1);
}

static void unit(struct work *w, uint64_t row, uint64_t n, int thread)
{
    float *x = w->scratch + (size_t)thread * w->scratch_len;
    char *dst = w->dst + (row - w->row0) * w->row_bytes;
    if (!w->t->copied || needs_check(w->t)) fill(w, row, n, x, x + w->unit_rows * w->t->cols);
    if (needs_check(w->t)) check(w, x, row, n);
    if (w->t->copied)
        copy_rows(w, row, n, dst);
    else
        encode(w, x, row, n, dst);
}

static bool stopped(const struct fm_recode *r) { return r->stop && *r->stop; }

static void units(void *arg, int begin, int end, int thread)
{
    struct work *w = arg;
    for (int u = begin; u < end && !stopped(w->r); u++) {
        const uint64_t row = w->row0 + (uint64_t)u * w->unit_rows,
                       n = w->row1 - row < w->unit_rows ? w->row1 - row : w->unit_rows;
        unit(w, row, n, thread);
    }
}

/* ---- a tensor ---- */

/* Rows that belong together. */
static uint64_t group_rows(const struct fm_recode_tensor *t)
{
    if (t->order == FM_ROWS_K_B) return (uint64_t)t->R;
    return t->order == FM_ROWS_KV_B ? (uint64_t)(t->Dn + t->Dv) : 1;
}

static void cut(struct work *w)
{
    const struct fm_recode_tensor *t = w->t;
    const uint64_t group = group_rows(t), cols = t->cols ? t->cols : 1;
    const uint64_t groups = UNIT / cols / group, chunk = CHUNK / cols;
    w->row_bytes = (size_t)fm_format_bytes(t->fmt, t->cols);
    w->unit_rows = (groups ? groups : 1) * group;
    w->chunk_rows = chunk / w->unit_rows * w->unit_rows;
    if (!w->chunk_rows) w->chunk_rows = w->unit_rows;
    if (w->unit_rows > t->rows) w->unit_rows = t->rows;
    if (w->chunk_rows > t->rows) w->chunk_rows = t->rows;
    /* a source row of a head: R columns where the output has Dn, or the other way round */
    w->scratch_len = (size_t)(w->unit_rows * cols) + (is_gathered(t) ? (size_t)(t->R > t->Dn ? t->R : t->Dn) : 0);
}

/* Matrices of `own` with their scales: one of all rows, or one per slice. */
static enum fm_status make_mats(struct work *w, struct fm_error *err)
{
    const struct fm_recode_tensor *t = w->t;
    if (t->mats) {
        w->mats = t->mats;
        w->n_mats = t->order == FM_ROWS_KV_B ? 1 : t->n_mats;
        return FM_OK;
    }
    const bool scaled = t->source.name && !t->fixed;
    w->n_mats = scaled ? t->n_slices : 1;
    w->made = fm_malloc((size_t)w->n_mats * sizeof *w->made);
    if (!w->made) return fm_fail_memory(err, "slices", (size_t)w->n_mats * sizeof *w->made);
    w->mats = w->made;
    const int rows = t->own.rows / w->n_mats;
    for (int i = 0; i < w->n_mats; i++) {
        w->made[i] = t->own;
        w->made[i].rows = rows;
        w->made[i].data = (char *)t->own.data + (size_t)i * (size_t)rows * t->own.row_bytes;
        if (scaled)
            FM_TRY(
                fm_scales_find(w->r->file, &t->source, rows, t->own.cols, i, w->n_mats, NULL, &w->made[i].scale, err));
    }
    return FM_OK;
}

static enum fm_status find_weights(struct work *w, struct fm_error *err)
{
    const struct fm_recode_tensor *t = w->t;
    bool found = false;
    if (!w->r->importance || t->copied || !fm_formats[t->fmt].encode_weighted || !*t->gguf) return FM_OK;
    const size_t n = (size_t)t->n_slices * (size_t)t->cols;
    if (!(w->weights = fm_malloc(n * sizeof *w->weights)))
        return fm_fail_memory(err, "importance", n * sizeof *w->weights);
    FM_TRY(fm_imatrix_weights(w->r->importance, t->gguf, t->n_slices, (int)t->cols, w->weights, &found, err));
    if (found) return FM_OK;
    fm_free(w->weights);
    w->weights = NULL;
    return FM_OK;
}

/* Pages of rows [row0, row1); in another order than the source's they are all needed until the end. */
static void advise(const struct work *w, uint64_t row0, uint64_t row1, enum fm_file_use use)
{
    const struct fm_recode_tensor *t = w->t;
    if (!w->r->file || row0 >= row1) return;
    if (is_gathered(t)) {
        if (use == FM_FILE_SOON ? row0 : row1 < t->rows) return;
        for (int i = 0; i < (t->order == FM_ROWS_KV_B ? 2 : 1); i++)
            fm_file_advise(w->r->file, w->mats[i].data, w->mats[i].row_bytes * (size_t)w->mats[i].rows, use);
        return;
    }
    for (uint64_t row = row0; row < row1;) { /* from matrix to matrix */
        int local;
        const struct fm_mat *m = mat_of(w, row, &local);
        const uint64_t left = (uint64_t)(m->rows - local), n = row1 - row < left ? row1 - row : left;
        fm_file_advise(w->r->file, (const char *)m->data + (size_t)local * m->row_bytes, (size_t)n * m->row_bytes, use);
        row += n;
    }
}

static enum fm_status report(const struct work *w, struct fm_error *err)
{
    const char *why = w->fault == FAULT_RANGE ? "holds a value that F16 cannot" : "holds a value that is not finite";
    enum fm_status st = fm_fail(err, FM_ERR_INPUT, "convert model: tensor '%s', row %llu: %s", w->t->name,
                                (unsigned long long)w->fault_row, why);
    if (w->fault == FAULT_RANGE) fm_hint(err, "BF16 and F32 hold values from 65520 on");
    return st;
}

/* done: bytes of the input before this tensor. */
static enum fm_status chunks(struct work *w, struct fm_behind *b, uint64_t done, uint64_t total, struct fm_error *err)
{
    const struct fm_recode_tensor *t = w->t;
    const uint64_t bytes = fm_recode_input_bytes(t);
    w->row0 = 0;
    advise(w, 0, w->chunk_rows, FM_FILE_SOON);
    do {
        void *buffer;
        w->row1 = t->rows - w->row0 < w->chunk_rows ? t->rows : w->row0 + w->chunk_rows;
        const uint64_t after = t->rows - w->row1 < w->chunk_rows ? t->rows : w->row1 + w->chunk_rows;
        FM_TRY(fm_behind_take(b, &buffer, err));
        advise(w, w->row1, after, FM_FILE_SOON);
        w->dst = buffer;
        if (w->row1 > w->row0) {
            const uint64_t n = (w->row1 - w->row0 + w->unit_rows - 1) / w->unit_rows;
            fm_parallel_for(w->r->pool, (int)n, 1, units, w);
        }
        if (stopped(w->r)) return fm_fail(err, FM_ERR_CANCELLED, "convert model: %s: stopped", t->name);
        if (w->fault) return report(w, err);
        fm_behind_give(b, (size_t)(w->row1 - w->row0) * w->row_bytes);
        advise(w, w->row0, w->row1, FM_FILE_DONE);
        w->row0 = w->row1;
        if (w->r->progress) {
            const double part = t->rows ? (double)w->row0 / (double)t->rows : 1;
            w->r->progress(w->r->progress_arg, done + (uint64_t)((double)bytes * part), total);
        }
    } while (w->row0 < t->rows);
    return FM_OK;
}

static enum fm_status tensor(const struct fm_recode *r, const struct fm_recode_tensor *t, struct fm_behind *b,
                             uint64_t done, uint64_t total, struct fm_error *err)
{
    struct work w = {.r = r, .t = t};
    enum fm_status st;
    pthread_mutex_init(&w.lock, NULL);
    cut(&w);
    FM_GOTO(make_mats(&w, err));
    FM_GOTO(find_weights(&w, err));
    const size_t room = (size_t)fm_pool_size(r->pool) * w.scratch_len * sizeof *w.scratch;
    if (!(w.scratch = fm_malloc(room))) FM_GOTO(fm_fail_memory(err, "rows", room));
    FM_GOTO(chunks(&w, b, done, total, err));
out:
    fm_free(w.scratch);
    fm_free(w.weights);
    fm_free(w.made);
    pthread_mutex_destroy(&w.lock);
    return st;
}

/* ---- all ---- */

uint64_t fm_recode_input_bytes(const struct fm_recode_tensor *t)
{
    if (!t->mats) return (uint64_t)t->own.row_bytes * (uint64_t)t->own.rows;
    uint64_t sum = 0;
    for (int i = 0; i < t->n_mats; i++) sum += (uint64_t)t->mats[i].row_bytes * (uint64_t)t->mats[i].rows;
    return sum;
}

/* The largest chunk of the list. */
static size_t buffer_bytes(const struct fm_recode_tensor *list, int n)
{
    size_t most = 1;
    for (int i = 0; i < n; i++) {
        struct work w = {.t = &list[i]};
        cut(&w);
        if (w.chunk_rows * w.row_bytes > most) most = (size_t)w.chunk_rows * w.row_bytes;
    }
    return most;
}

enum fm_status fm_recode_run(const struct fm_recode *r, const struct fm_recode_tensor *list, int n,
                             struct fm_error *err)
{
    struct fm_behind *b;
    uint64_t done = 0, total = 0;
    FM_TRY(fm_behind_new(buffer_bytes(list, n), r->put, r->put_arg, &b, err));
    enum fm_status st = FM_OK;
    for (int i = 0; i < n; i++) total += fm_recode_input_bytes(&list[i]);
    for (int i = 0; i < n && !st; i++) {
        st = tensor(r, &list[i], b, done, total, err);
        done += fm_recode_input_bytes(&list[i]);
    }
    if (!st) st = fm_behind_finish(b, err);
    fm_behind_free(b);
    return st;
}
