/* fathom tensor: what lies in a weight file, known architecture or not. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "cli/input.h"
#include "cli/setup.h"
#include "cli/term.h"

struct job {
    struct fm_setup setup;
    const char *format;
};

static const struct fm_opt tensor_rows[] = {
    {'m', "model", FM_OPT_TEXT, offsetof(struct job, setup.engine.model), 0, 0, "FILE",
     "GGUF or safetensors file, or folder (default: the shipped model)"},
    {0, "format", FM_OPT_TEXT, offsetof(struct job, format), 0, 0, "F",
     "f32: all values, raw, little-endian, row-major"},
    {0},
};

enum { N_FIRST = 8 };

/* ---- the list -------------------------------------------------------------------------------------------------- */

static void add_json(struct fm_buf *b, const struct fm_tensor_info *t)
{
    fm_buf_str(b, "{\"name\":");
    fm_json_text(b, t->name, strlen(t->name));
    fm_buf_printf(b, ",\"format\":\"%s\",\"shape\":", t->format);
    fm_json_shape(b, t->n_dims, t->shape);
    fm_buf_printf(b, ",\"bytes\":%" PRIu64 ",\"offset\":%" PRIu64, t->n_bytes, t->offset);
    if (t->path) {
        fm_buf_str(b, ",\"path\":");
        fm_json_text(b, t->path, strlen(t->path));
    }
    fm_buf_char(b, '}');
}

static void add_line(struct fm_buf *b, const struct fm_tensor_info *t, int width)
{
    struct fm_buf shape = {0};
    fm_json_shape(&shape, t->n_dims, t->shape);
    fm_buf_printf(b, "%-*s  %-8s  %-20s  %12" PRIu64 "  %12" PRIu64 "\n", width, t->name, t->format,
                  shape.failed ? "?" : shape.data, t->n_bytes, t->offset);
    fm_buf_release(&shape);
}

static enum fm_status list_tensors(const struct fm_tensors *ts, bool json, struct fm_error *err)
{
    struct fm_buf b = {0};
    struct fm_tensor_info t;
    int n = fm_tensors_count(ts), width = 4;
    for (int i = 0; i < n; i++) {
        fm_tensors_info(ts, i, &t);
        if ((int)strlen(t.name) > width) width = (int)strlen(t.name);
    }
    if (json)
        fm_buf_char(&b, '[');
    else
        fm_buf_printf(&b, "%-*s  %-8s  %-20s  %12s  %12s\n", width, "name", "format", "shape", "bytes", "offset");
    for (int i = 0; i < n; i++) {
        fm_tensors_info(ts, i, &t);
        if (json && i) fm_buf_str(&b, ",\n");
        json ? add_json(&b, &t) : add_line(&b, &t, width);
    }
    if (json) fm_buf_str(&b, "]\n");
    enum fm_status st = b.failed ? fm_fail_memory(err, "the list of tensors", b.len) : FM_OK;
    if (!st) fm_out(b.data, b.len);
    fm_buf_release(&b);
    return st;
}

/* ---- one tensor ------------------------------------------------------------------------------------------------ */

struct statistics {
    double min, max, mean, rms;
    uint64_t zeros, not_finite;
};

/* Over the finite values. */
static struct statistics measure(const float *x, uint64_t n)
{
    struct statistics s = {.min = HUGE_VAL, .max = -HUGE_VAL};
    double sum = 0, squares = 0;
    for (uint64_t i = 0; i < n; i++) {
        double v = (double)x[i];
        if (!isfinite(v)) {
            s.not_finite++;
            continue;
        }
        if (v < s.min) s.min = v;
        if (v > s.max) s.max = v;
        s.zeros += v == 0;
        sum += v;
        squares += v * v;
    }
    uint64_t finite = n - s.not_finite;
    if (!finite) return (struct statistics){.not_finite = s.not_finite};
    s.mean = sum / (double)finite;
    s.rms = sqrt(squares / (double)finite);
    return s;
}

static void print_text(const struct fm_tensor_info *t, const float *x)
{
    struct statistics s = measure(x, t->n_elements);
    struct fm_buf shape = {0};
    fm_json_shape(&shape, t->n_dims, t->shape);
    printf("name    %s\nformat  %s\nshape   %s\nbytes   %" PRIu64 "\noffset  %" PRIu64 "\n", t->name, t->format,
           shape.failed ? "?" : shape.data, t->n_bytes, t->offset);
    printf("min     %.9g\nmax     %.9g\nmean    %.9g\nrms     %.9g\nzeros   %" PRIu64 "\n", s.min, s.max, s.mean, s.rms,
           s.zeros);
    if (s.not_finite) printf("NaN or infinite  %" PRIu64 "\n", s.not_finite);
    printf("first  ");
    for (uint64_t i = 0; i < t->n_elements && i < N_FIRST; i++) printf(" %.9g", (double)x[i]);
    putchar('\n');
    fm_buf_release(&shape);
}

static enum fm_status print_json(const struct fm_tensor_info *t, const float *x, struct fm_error *err)
{
    struct statistics s = measure(x, t->n_elements);
    struct fm_buf b = {0};
    add_json(&b, t);
    if (!b.failed) b.len--; /* go on inside the object */
    fm_buf_printf(&b,
                  ",\"min\":%.9g,\"max\":%.9g,\"mean\":%.9g,\"rms\":%.9g,\"zeros\":%" PRIu64 ",\"not_finite\":%" PRIu64,
                  s.min, s.max, s.mean, s.rms, s.zeros, s.not_finite);
    fm_buf_str(&b, ",\"first\":[");
    for (uint64_t i = 0; i < t->n_elements && i < N_FIRST; i++)
        isfinite(x[i]) ? fm_buf_printf(&b, "%s%.9g", i ? "," : "", (double)x[i]) : fm_buf_str(&b, i ? ",null" : "null");
    fm_buf_str(&b, "]}\n");
    enum fm_status st = b.failed ? fm_fail_memory(err, "the tensor's description", b.len) : FM_OK;
    if (!st) fm_out(b.data, b.len);
    fm_buf_release(&b);
    return st;
}

static enum fm_status print_tensor(const struct job *j, const struct fm_tensors *ts, const char *name,
                                   struct fm_error *err)
{
    struct fm_tensor_info t;
    int i = fm_tensors_find(ts, name);
    if (i < 0) {
        fm_fail(err, FM_ERR_INPUT, "find tensor: %s: no tensor named '%.200s'", j->setup.engine.model, name);
        fm_hint(err, "without a name the tensors are listed");
        return FM_ERR_INPUT;
    }
    fm_tensors_info(ts, i, &t);
    size_t bytes;
    float *x = fm_mul_size((size_t)t.n_elements, sizeof *x, &bytes) ? fm_pages_alloc(bytes) : NULL;
    if (!x) return fm_fail_memory(err, name, t.n_elements * sizeof *x);
    enum fm_status st = fm_tensors_read(ts, i, x, err);
    if (!st && j->format)
        fm_out(x, bytes); /* the machine is little-endian: FATHOM runs on no other */
    else if (!st && j->setup.json)
        st = print_json(&t, x, err);
    else if (!st)
        print_text(&t, x);
    fm_pages_free(x, bytes);
    return st;
}

enum fm_status fm_cmd_tensor(struct fm_cli *cli, struct fm_error *err)
{
    struct job j = {0};
    const struct fm_opt_set sets[] = {{tensor_rows, &j}, {fm_json_row, &j.setup}, {fm_log_rows, &j.setup}, {0}};
    struct fm_words words;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&j.setup, err));
    FM_TRY(fm_words_expect(cli, &words, j.format ? 1 : 0, 1, "NAME", err));
    if (j.format && strcmp(j.format, "f32") != 0)
        return fm_fail(err, FM_ERR_USAGE, "read options: --format: '%.40s' is not f32", j.format);
    FM_TRY(fm_setup_model(&j.setup, err));
    struct fm_tensors *ts = NULL;
    FM_TRY(fm_tensors_open(j.setup.engine.model, &ts, err));
    enum fm_status st = words.n ? print_tensor(&j, ts, words.v[0], err) : list_tensors(ts, j.setup.json, err);
    fm_tensors_close(ts);
    return st;
}
