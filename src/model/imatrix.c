/* See imatrix.h.  Here: the matrices in memory; imatrix_file.c reads and writes them. */
#include "model/imatrix.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

void fm_imatrix_release(struct fm_imatrix *m)
{
    for (int i = 0; i < m->n; i++) {
        fm_free(m->entries[i].name);
        fm_free(m->entries[i].sums);
        fm_free(m->entries[i].counts);
    }
    for (int i = 0; i < m->n_datasets; i++) fm_free(m->datasets[i]);
    fm_free(m->entries);
    fm_free(m->datasets);
    *m = (struct fm_imatrix){0};
}

/* The first entry whose name is not below name. */
static int place(const struct fm_imatrix *m, const char *name)
{
    int lo = 0, hi = m->n;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (strcmp(m->entries[mid].name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

const struct fm_imatrix_entry *fm_imatrix_find(const struct fm_imatrix *m, const char *name)
{
    int i = place(m, name);
    return i < m->n && !strcmp(m->entries[i].name, name) ? &m->entries[i] : NULL;
}

/* Room for one more of n items of size bytes in the array *p, which doubles. */
static bool grow(void **p, int n, size_t size)
{
    if (n & (n - 1)) return true;
    void *more = fm_realloc(*p, (n ? (size_t)n * 2 : 1) * size);
    if (more) *p = more;
    return more;
}

enum fm_status fm_imatrix_add(struct fm_imatrix *m, const char *name, uint64_t n_values, uint64_t n_counts,
                              const char *where, struct fm_error *err)
{
    struct fm_imatrix_entry e = {.n_values = n_values, .n_counts = n_counts};
    const int at = place(m, name);
    if (at < m->n && !strcmp(m->entries[at].name, name))
        return fm_fail(err, FM_ERR_INPUT, "importance matrix: %s, tensor '%.80s': is there twice", where, name);
    if (m->n >= FM_IMATRIX_ENTRIES)
        return fm_fail(err, FM_ERR_INPUT, "importance matrix: %s: more than %d tensors", where, FM_IMATRIX_ENTRIES);
    void *list = m->entries;
    const bool room = grow(&list, m->n, sizeof e);
    m->entries = list;
    e.name = room ? fm_strdup(name) : NULL;
    e.sums = e.name ? fm_calloc(n_values, sizeof *e.sums) : NULL;
    e.counts = e.sums ? fm_calloc(n_counts, sizeof *e.counts) : NULL;
    if (!e.counts) {
        fm_free(e.name);
        fm_free(e.sums);
        return fm_fail_memory(err, "an importance matrix", n_values * sizeof *e.sums);
    }
    memmove(m->entries + at + 1, m->entries + at, (size_t)(m->n - at) * sizeof e);
    m->entries[at] = e;
    m->n++;
    return FM_OK;
}

enum fm_status fm_imatrix_add_dataset(struct fm_imatrix *m, const char *name, size_t n, struct fm_error *err)
{
    const char *last = m->n_datasets ? m->datasets[m->n_datasets - 1] : NULL;
    if (last && strlen(last) == n && !memcmp(last, name, n)) return FM_OK;
    void *list = m->datasets;
    const bool room = grow(&list, m->n_datasets, sizeof *m->datasets);
    m->datasets = list;
    char *copy = room ? fm_malloc(n + 1) : NULL;
    if (!copy) return fm_fail_memory(err, "the name of a text", n);
    memcpy(copy, name, n);
    copy[n] = 0;
    m->datasets[m->n_datasets++] = copy;
    return FM_OK;
}

enum fm_status fm_imatrix_weights(const struct fm_imatrix *m, const char *name, int n_mats, int cols, float *weights,
                                  bool *found, struct fm_error *err)
{
    const struct fm_imatrix_entry *e = fm_imatrix_find(m, name);
    const uint64_t mats = (uint64_t)n_mats, k = (uint64_t)cols;
    *found = false;
    if (!e) return FM_OK;
    if (e->n_values != mats * k || (e->n_counts != mats && e->n_counts != 1))
        return fm_fail(err, FM_ERR_INPUT,
                       "importance matrix: tensor '%s': it has %llu values in %llu matrices, the model %llu in %d",
                       name, (unsigned long long)e->n_values, (unsigned long long)e->n_counts,
                       (unsigned long long)(mats * k), n_mats);
    for (uint64_t i = 0; i < e->n_values; i++) {
        const int64_t count = e->counts[e->n_counts == 1 ? 0 : i / k];
        weights[i] = count > 0 ? (float)((double)e->sums[i] / (double)count) : 1;
    }
    *found = true;
    return FM_OK;
}

/* ---- merging ---- */

/* One count for all becomes one for each. */
static enum fm_status spread_count(struct fm_imatrix_entry *e, uint64_t n, struct fm_error *err)
{
    int64_t *counts = fm_calloc(n, sizeof *counts);
    if (!counts) return fm_fail_memory(err, "an importance matrix", n * sizeof *counts);
    for (uint64_t i = 0; i < n; i++) counts[i] = e->counts[0];
    fm_free(e->counts);
    e->counts = counts;
    e->n_counts = n;
    return FM_OK;
}

static enum fm_status merge_entry(struct fm_imatrix *m, const struct fm_imatrix_entry *b, const char *where,
                                  struct fm_error *err)
{
    if (!fm_imatrix_find(m, b->name)) FM_TRY(fm_imatrix_add(m, b->name, b->n_values, b->n_counts, where, err));
    struct fm_imatrix_entry *a = &m->entries[place(m, b->name)];
    if (a->n_values != b->n_values || (a->n_counts != b->n_counts && a->n_counts != 1 && b->n_counts != 1))
        return fm_fail(err, FM_ERR_INPUT,
                       "merge importance matrices: %s, tensor '%s': %llu values, before it were %llu", where, b->name,
                       (unsigned long long)b->n_values, (unsigned long long)a->n_values);
    if (a->n_counts < b->n_counts) FM_TRY(spread_count(a, b->n_counts, err));
    for (uint64_t i = 0; i < a->n_values; i++) {
        a->sums[i] += b->sums[i];
        if (!isfinite(a->sums[i]))
            return fm_fail(err, FM_ERR_INPUT, "merge importance matrices: %s, tensor '%s': the sum is too large", where,
                           b->name);
    }
    for (uint64_t i = 0; i < a->n_counts; i++) a->counts[i] += b->counts[b->n_counts == 1 ? 0 : i];
    return FM_OK;
}

enum fm_status fm_imatrix_merge(struct fm_imatrix *m, const struct fm_imatrix *b, const char *where,
                                struct fm_error *err)
{
    for (int i = 0; i < b->n; i++) FM_TRY(merge_entry(m, &b->entries[i], where, err));
    for (int i = 0; i < b->n_datasets; i++)
        FM_TRY(fm_imatrix_add_dataset(m, b->datasets[i], strlen(b->datasets[i]), err));
    if (!m->chunk_size) m->chunk_size = b->chunk_size;
    /* chunks of another size: as many of ours as have the same number of tokens, rounded down */
    m->chunk_count += b->chunk_count * b->chunk_size / m->chunk_size;
    if (m->chunk_count > UINT32_MAX) m->chunk_count = UINT32_MAX; /* as the file holds it */
    *m->text_id = 0;
    return FM_OK;
}

/* ---- looking ---- */

static double mean_at(const struct fm_imatrix_entry *e, uint64_t i, int64_t *count)
{
    *count = e->counts[i / (e->n_values / e->n_counts)];
    return *count > 0 ? (double)e->sums[i] / (double)*count : 0;
}

void fm_imatrix_measure(const struct fm_imatrix_entry *e, struct fm_imatrix_stats *out)
{
    struct fm_imatrix_stats s = {.n_mats = e->n_counts, .cols = e->n_values / e->n_counts, .count_min = INT64_MAX};
    double sum = 0, squares = 0, n = 0, active = 0;
    int64_t count;
    for (uint64_t i = 0; i < e->n_counts; i++) {
        s.n_seen += e->counts[i] > 0;
        if (e->counts[i] < s.count_min) s.count_min = e->counts[i];
        if (e->counts[i] > s.count_max) s.count_max = e->counts[i];
    }
    s.min = s.n_seen ? INFINITY : 0;
    for (uint64_t i = 0; i < e->n_values; i++) {
        const double v = mean_at(e, i, &count);
        if (!count) continue;
        n++;
        sum += v;
        squares += v * v;
        active += v > 1e-5;
        if (v < s.min) s.min = v;
        if (v > s.max) s.max = v;
    }
    for (uint64_t i = 0; i < e->n_values && sum > 0; i++) {
        const double p = mean_at(e, i, &count) / sum;
        if (p > 0) s.entropy -= p * log2(p);
    }
    s.mean = n > 0 ? sum / n : 0;
    s.dev = n > 0 && squares / n > s.mean * s.mean ? sqrt(squares / n - s.mean * s.mean) : 0;
    s.active = n > 0 ? active / n : 0;
    s.entropy = n > 1 ? s.entropy / log2(n) : 0;
    *out = s;
}
