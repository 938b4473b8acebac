/* See scales.h. */
#include "model/scales.h"

#include <stdio.h>
#include <string.h>

#include "base/str.h"

enum {
    WHOLE = 1 << 30, /* a block as long as any row or column */
    NAME_MAX_BYTES = 200
};

static enum fm_status bad(const struct fm_tensor *t, const char *why, struct fm_error *err)
{
    return fm_fail(err, FM_ERR_INPUT, "read scales: %s, tensor '%s': %s", t->path, t->name, why);
}

/* ---- which tensor --------------------------------------------------------------------------------------------------- */

static const char PACKED[] = "_packed", WEIGHT[] = ".weight";

/* The tensor NAME + suffix, NAME without `_packed` and, for a suffix that begins with a point, without `.weight`. */
static const struct fm_tensor *beside(const struct fm_file *f, const char *name, const char *suffix)
{
    char other[NAME_MAX_BYTES];
    size_t n = strlen(name);
    if (fm_ends_with(name, PACKED)) n -= sizeof PACKED - 1;
    if (*suffix == '.') {
        if (n < sizeof WEIGHT - 1 || memcmp(name + n - (sizeof WEIGHT - 1), WEIGHT, sizeof WEIGHT - 1)) return NULL;
        n -= sizeof WEIGHT - 1;
    }
    int len = snprintf(other, sizeof other, "%.*s%s", (int)n, name, suffix);
    return len > 0 && len < (int)sizeof other ? fm_file_find(f, other) : NULL;
}

static const char *const suffixes[] = {"_scale_inv", "_scale", ".scale"};
enum { N_SUFFIXES = sizeof suffixes / sizeof *suffixes };

static bool has_scales(enum fm_fmt fmt) { return fmt == FM_F8_E4M3 || fmt == FM_F4_E2M1; }

/* Of FP8 and FP4 by any of the names, of NVFP4 in GGUF by its only one, else NULL. */
static const struct fm_tensor *scales_of(const struct fm_file *f, const char *name, enum fm_fmt fmt)
{
    const struct fm_tensor *t = NULL;
    if (fmt == FM_NVFP4) return beside(f, name, ".scale");
    for (int i = 0; has_scales(fmt) && !t && i < N_SUFFIXES; i++) t = beside(f, name, suffixes[i]);
    return t;
}

const struct fm_tensor *fm_weight_find(const struct fm_file *f, const char *name, struct fm_tensor *view)
{
    const struct fm_tensor *t = fm_file_find(f, name);
    if (fm_file_container(f) == FM_GGUF) return t;
    if (!t) t = beside(f, name, PACKED);
    if (!t || t->n_dims != 2 || (t->fmt != FM_I8 && t->fmt != FM_U8) || !scales_of(f, t->name, FM_F4_E2M1)) return t;
    *view = *t;
    view->fmt = FM_F4_E2M1;
    view->type_name = fm_formats[FM_F4_E2M1].name;
    view->shape[1] *= 2;
    view->n_elements *= 2;
    return view;
}

/* ---- what one of them counts for ------------------------------------------------------------------------------------ */

/* How many of n elements share one of `count` scales; 0: no length that files use gives so many.  Among these lengths the
 * count decides, for two of them give the same only where both are at least n. */
static int edge(int n, uint64_t count)
{
    static const int edges[] = {128, 64, 32, 16};
    if (count == 1) return WHOLE;
    if (count == (uint64_t)n) return 1;
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        if (count == (uint64_t)((n + edges[i] - 1) / edges[i])) return edges[i];
    return 0;
}

/* The scales' shape as [a, b]: a number alone is [1, 1], a vector one per row. */
static bool matrix_shape(const struct fm_tensor *t, uint64_t *a, uint64_t *b)
{
    *a = t->n_dims > 0 ? t->shape[0] : 1;
    *b = t->n_dims > 1 ? t->shape[1] : 1;
    return t->n_dims <= 2;
}

static enum fm_status misshapen(const struct fm_tensor *t, int rows, int cols, const int *edges, struct fm_error *err)
{
    char why[300];
    int n = snprintf(why, sizeof why, "shape [");
    for (int i = 0; i < t->n_dims; i++)
        n += snprintf(why + n, sizeof why - (size_t)n, i ? ",%llu" : "%llu", (unsigned long long)t->shape[i]);
    n += snprintf(why + n, sizeof why - (size_t)n, "] is no scale per block, row or whole of a matrix [%d,%d]", rows,
                  cols);
    if (edges) snprintf(why + n, sizeof why - (size_t)n, " in blocks of %d × %d (the config)", edges[0], edges[1]);
    return bad(t, why, err);
}

/* E8M0 is also kept as plain bytes. */
static enum fm_fmt scale_format(const struct fm_tensor *t)
{
    if (t->fmt == FM_U8) return FM_F8_E8M0;
    return t->fmt < FM_FMT_COUNT && fm_formats[t->fmt].decode && fm_formats[t->fmt].block == 1 ? t->fmt : FM_FMT_COUNT;
}

/* The second level: a number that multiplies, or one that divides. */
static enum fm_status read_whole(const struct fm_file *f, const struct fm_tensor *w, struct fm_scales *out,
                                 struct fm_error *err)
{
    float v;
    const struct fm_tensor *t = beside(f, w->name, "_scale_2"), *divisor = beside(f, w->name, "_global_scale");
    if (divisor) t = divisor;
    if (!t) return FM_OK;
    if (t->n_elements != 1 || scale_format(t) == FM_FMT_COUNT) return bad(t, "is not one number", err);
    FM_TRY(fm_tensor_decode(t, &v, err));
    if (divisor && !(v > 0 && v < __builtin_inff())) return bad(t, "cannot divide", err);
    out->two_levels = true;
    out->whole = divisor ? (float)(1 / (double)v) : v;
    return FM_OK;
}

static enum fm_status missing(const struct fm_tensor *w, struct fm_error *err)
{
    char why[120];
    snprintf(why, sizeof why, "%s weights without scales", fm_formats[w->fmt].name);
    (void)bad(w, why, err);
    fm_hint(err, "looked beside it for .weight_scale_inv, .weight_scale and .scale");
    return FM_ERR_INPUT;
}

/* NVFP4 in GGUF: one number, or one for each stacked matrix. */
static enum fm_status per_matrix(const struct fm_tensor *t, int expert, int n_experts, struct fm_scales *out,
                                 struct fm_error *err)
{
    if (t->n_elements != 1 && t->n_elements != (uint64_t)n_experts) return bad(t, "is no scale per matrix", err);
    const size_t at = t->n_elements > 1 ? (size_t)expert * fm_formats[out->fmt].block_bytes : 0;
    out->at = (const char *)t->data + at;
    out->block_rows = out->block_cols = WHOLE;
    out->ld = 1;
    return FM_OK;
}

enum fm_status fm_scales_find(const struct fm_file *f, const struct fm_tensor *w, int rows, int cols, int expert,
                              int n_experts, const int *edges, struct fm_scales *out, struct fm_error *err)
{
    uint64_t a, b;
    const struct fm_tensor *t = scales_of(f, w->name, w->fmt);
    *out = (struct fm_scales){0};
    if (!t) return has_scales(w->fmt) ? missing(w, err) : FM_OK;
    struct fm_scales s = {.fmt = scale_format(t)};
    if (s.fmt == FM_FMT_COUNT) return bad(t, "scales in this format are not supported", err);
    if (w->fmt == FM_NVFP4) {
        FM_TRY(per_matrix(t, expert, n_experts, &s, err));
    } else {
        const bool flat = matrix_shape(t, &a, &b);
        s = (struct fm_scales){
            .at = t->data, .fmt = s.fmt, .ld = (int)b, .block_rows = edge(rows, a), .block_cols = edge(cols, b)};
        if (!flat || !s.block_rows || !s.block_cols) return misshapen(t, rows, cols, NULL, err);
        if (edges && w->fmt == FM_F8_E4M3 &&
            (a != (uint64_t)((rows + edges[0] - 1) / edges[0]) || b != (uint64_t)((cols + edges[1] - 1) / edges[1])))
            return misshapen(t, rows, cols, edges, err);
        FM_TRY(read_whole(f, w, &s, err));
    }
    *out = s;
    return FM_OK;
}

bool fm_scales_beside(const struct fm_file *f, const struct fm_tensor *w)
{
    const int d = w->n_dims - 2;
    if (d < 0 || !w->n_elements || w->shape[d] >= WHOLE || w->shape[d + 1] >= WHOLE) return false;
    return w->n_elements / (w->shape[d] * w->shape[d + 1]) < WHOLE && scales_of(f, w->name, w->fmt);
}

bool fm_scales_are(const struct fm_file *f, const struct fm_tensor *w, const char *name)
{
    const struct fm_tensor *t = scales_of(f, w->name, w->fmt), *other = fm_file_find(f, name);
    return other && (other == t || (t && other == beside(f, w->name, "_scale_2")) ||
                     (t && other == beside(f, w->name, "_global_scale")));
}
