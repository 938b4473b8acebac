/* Importance files for the public API: looking into them, adding them up. */
#include "base/mem.h"
#include "model/imatrix.h"
#include "run/run.h"

struct fm_importance {
    struct fm_imatrix m;
};

enum fm_status fm_importance_open(const char *path, struct fm_importance **out, struct fm_error *err)
{
    struct fm_importance *r = fm_calloc(1, sizeof *r);
    if (!r) return fm_fail_memory(err, "an importance matrix", sizeof *r);
    enum fm_status st = fm_imatrix_open(&r->m, path, err);
    if (st)
        fm_free(r);
    else
        *out = r;
    return st;
}

void fm_importance_close(struct fm_importance *m)
{
    if (!m) return;
    fm_imatrix_release(&m->m);
    fm_free(m);
}

int fm_importance_count(const struct fm_importance *m) { return m->m.n; }

void fm_importance_at(const struct fm_importance *m, int i, struct fm_importance_info *out)
{
    struct fm_imatrix_stats s;
    fm_imatrix_measure(&m->m.entries[i], &s);
    *out = (struct fm_importance_info){.name = m->m.entries[i].name,
                                       .matrices = s.n_mats,
                                       .seen = s.n_seen,
                                       .cols = s.cols,
                                       .rows_min = s.count_min,
                                       .rows_max = s.count_max,
                                       .min = s.min,
                                       .max = s.max,
                                       .mean = s.mean,
                                       .dev = s.dev,
                                       .active = s.active,
                                       .entropy = s.entropy};
}

int64_t fm_importance_chunks(const struct fm_importance *m, int *tokens)
{
    *tokens = m->m.chunk_size;
    return m->m.chunk_count;
}

const char *fm_importance_text(const struct fm_importance *m, int i)
{
    return i >= 0 && i < m->m.n_datasets ? m->m.datasets[i] : NULL;
}

enum fm_status fm_importance_merge(const char *const *paths, int n, const char *out, struct fm_error *err)
{
    struct fm_imatrix sum = {0};
    enum fm_status st = n > 0 ? FM_OK : fm_fail(err, FM_ERR_USAGE, "merge importance matrices: %s: of no file", out);
    for (int i = 0; i < n && !st; i++) {
        struct fm_imatrix m;
        st = fm_imatrix_open(&m, paths[i], err);
        if (!st) {
            st = fm_imatrix_merge(&sum, &m, paths[i], err);
            fm_imatrix_release(&m);
        }
    }
    if (!st) st = fm_imatrix_write(&sum, out, err);
    fm_imatrix_release(&sum);
    return st;
}
