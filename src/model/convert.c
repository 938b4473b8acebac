/* The same tensor rows, other direction: weights in f32 → a GGUF file or a Hugging Face folder. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/str.h"
#include "model/model.h"
#include "model/rope_config.h"

struct job {
    const struct fm_config *cfg;
    const struct fm_convert *o;
    struct fm_writer *writer;
    bool gguf;
    char *buffer; /* one tensor, encoded; for experts all of them */
    size_t buffer_bytes;
    float *row;
};

/* Vectors and the router stay f32: they are small and their rounding is felt everywhere. */
static enum fm_fmt format_of(const struct job *j, const struct fm_binding *b)
{
    if (b->flags & (FM_BIND_VECTOR | FM_BIND_F32)) return FM_F32;
    return b->cols % (int)fm_formats[j->o->fmt].block ? FM_F32 : j->o->fmt;
}

/* Names of MTP blocks follow those of the last layer. */
static bool skipped(const struct job *j, const struct fm_binding *b)
{
    return b->flags & FM_BIND_SPLIT_PART || (j->o->without_mtp && b->layer >= j->cfg->L);
}

static void declare(struct job *j, const struct fm_binding *b)
{
    const uint64_t r = (uint64_t)b->rows, c = (uint64_t)b->cols, e = (uint64_t)b->n_experts;
    const enum fm_fmt fmt = format_of(j, b);
    const char *name = j->gguf ? b->gguf : b->hf;
    if (b->flags & FM_BIND_VECTOR)
        fm_writer_tensor(j->writer, name, fmt, 1, (uint64_t[]){c});
    else if (j->gguf && b->expert >= 0) {
        if (b->expert == 0) fm_writer_tensor(j->writer, name, fmt, 3, (uint64_t[]){e, r, c}); /* stacked */
    } else
        fm_writer_tensor(j->writer, name, fmt, 2, (uint64_t[]){r, c});
}

/* GGUF llama files pair neighbours in RoPE: row 2i+p of a head is row p·d/2+i of Hugging Face's (models.md §1.3). */
static int source_row(const struct job *j, const struct fm_binding *b, int row)
{
    if (!j->gguf || !(b->flags & FM_BIND_PERMUTE) || !j->cfg->family->permuted_gguf || j->cfg->rope_interleaved)
        return row;
    const int d = b->rows / b->heads, h = row / d, i = row % d;
    return h * d + (i % 2) * (d / 2) + i / 2;
}

static enum fm_status encode(struct job *j, const struct fm_binding *b, enum fm_fmt fmt, char *dst,
                             struct fm_error *err)
{
    const struct fm_format *to = &fm_formats[fmt], *from = &fm_formats[b->mat->fmt];
    const size_t c = (size_t)b->cols, row_bytes = (size_t)fm_format_bytes(fmt, c);
    for (int r = 0; r < b->rows; r++) {
        fm_mat_decode(j->row, b->mat, source_row(j, b, r), 0, b->cols, from->decode);
        for (size_t k = 0; k < c; k++)
            if (!__builtin_isfinite(j->row[k]))
                return fm_fail(err, FM_ERR_FAILED, "write model: tensor '%s', row %d: holds a value that is not finite",
                               b->hf, r);
        to->encode(dst + (size_t)r * row_bytes, j->row, c);
    }
    return FM_OK;
}

static enum fm_status write_tensors(struct job *j, const struct fm_binding *list, int n, struct fm_error *err)
{
    for (int i = 0; i < n; i++) {
        const struct fm_binding *b = &list[i];
        if (skipped(j, b)) continue;
        const enum fm_fmt fmt = format_of(j, b);
        const size_t bytes = (size_t)fm_format_bytes(fmt, (uint64_t)b->rows * (uint64_t)b->cols);
        const bool stacked = j->gguf && b->expert >= 0;
        const size_t at = stacked ? bytes * (size_t)b->expert : 0;
        FM_TRY(encode(j, b, fmt, j->buffer + at, err));
        if (!stacked || b->expert == b->n_experts - 1) FM_TRY(fm_writer_data(j->writer, j->buffer, at + bytes, err));
    }
    return FM_OK;
}

/* RoPE scaling that GGUF has no keys for: each frequency's divisor, in a tensor. */
static const char ROPE_TENSOR[] = "rope_freqs.weight";

static bool has_rope_tensor(const struct job *j) { return j->gguf && fm_rope_needs_divisors(j->cfg); }

static enum fm_status write_rope_tensor(struct job *j, struct fm_error *err)
{
    const size_t n = (size_t)j->cfg->rope_dim / 2;
    if (!has_rope_tensor(j)) return FM_OK;
    float *d = fm_calloc(n, sizeof *d);
    if (!d || !fm_rope_divisors(j->cfg, d)) {
        fm_free(d);
        return fm_fail_memory(err, "RoPE divisors", n * sizeof *d);
    }
    enum fm_status st = fm_writer_data(j->writer, d, n * sizeof *d, err);
    fm_free(d);
    return st;
}

static enum fm_status plan_buffers(struct job *j, const struct fm_binding *list, int n, struct fm_error *err)
{
    size_t cols = 0;
    for (int i = 0; i < n; i++) {
        size_t bytes = (size_t)list[i].rows * (size_t)list[i].cols * sizeof(float);
        if (j->gguf && list[i].expert >= 0) bytes *= (size_t)list[i].n_experts;
        if (bytes > j->buffer_bytes) j->buffer_bytes = bytes;
        if ((size_t)list[i].cols > cols) cols = (size_t)list[i].cols;
    }
    j->buffer = fm_pages_alloc(j->buffer_bytes);
    j->row = fm_malloc(cols * sizeof(float));
    return j->buffer && j->row ? FM_OK : fm_fail_memory(err, "conversion buffer", j->buffer_bytes);
}

static enum fm_status write_config(const struct job *j, const char *folder, struct fm_error *err)
{
    struct fm_buf path = {0};
    struct fm_config copy = *j->cfg;
    if (j->o->without_mtp) copy.n_mtp = 0;
    json_t *cfg = fm_config_to_json(&copy);
    if (cfg && j->o->fmt != FM_F32)
        json_object_set_new(cfg, "torch_dtype", json_string(j->o->fmt == FM_BF16 ? "bfloat16" : "float16"));
    char *text = cfg ? json_dumps(cfg, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    fm_buf_printf(&path, "%s/config.json", folder);
    enum fm_status st = !text || path.failed ? fm_fail_memory(err, "config.json", 0)
                                             : fm_write_file(path.data, text, strlen(text), err);
    fm_free(text);
    json_decref(cfg);
    fm_buf_release(&path);
    return st;
}

static enum fm_status write_container(struct job *j, struct fm_weights *w, const char *path, struct fm_error *err)
{
    struct fm_binding *list = NULL;
    int n = 0;
    enum fm_status st;
    FM_GOTO(fm_writer_open(path, j->gguf ? FM_GGUF : FM_SAFETENSORS, &j->writer, err));
    FM_GOTO(fm_bindings_new(j->cfg, w, &list, &n, err));
    FM_GOTO(plan_buffers(j, list, n, err));
    if (j->gguf) {
        struct fm_config cfg = *j->cfg;
        if (j->o->without_mtp) cfg.n_mtp = 0;
        cfg.L += cfg.n_mtp; /* block_count includes the MTP blocks */
        fm_config_to_gguf(&cfg, j->writer);
        if (j->o->name) fm_writer_meta_str(j->writer, "general.name", j->o->name, strlen(j->o->name));
    } else {
        fm_writer_meta_str(j->writer, "format", "pt", 2); /* what transformers looks for */
    }
    if (j->o->add_text) FM_GOTO(j->o->add_text(j->o->arg, j->writer, err));
    if (has_rope_tensor(j))
        fm_writer_tensor(j->writer, ROPE_TENSOR, FM_F32, 1, (uint64_t[]){(uint64_t)j->cfg->rope_dim / 2});
    for (int i = 0; i < n; i++)
        if (!skipped(j, &list[i])) declare(j, &list[i]);
    FM_GOTO(fm_writer_begin(j->writer, err));
    FM_GOTO(write_rope_tensor(j, err));
    FM_GOTO(write_tensors(j, list, n, err));
    st = fm_writer_commit(j->writer, err);
    j->writer = NULL;
out:
    fm_writer_abort(j->writer);
    fm_pages_free(j->buffer, j->buffer_bytes);
    fm_free(j->row);
    fm_free(list);
    return st;
}

enum fm_status fm_model_write(const struct fm_config *cfg, struct fm_weights *w, const char *path,
                              const struct fm_convert *o, struct fm_error *err)
{
    struct job j = {.cfg = cfg, .o = o, .gguf = fm_ends_with(path, ".gguf")};
    if (j.gguf) return write_container(&j, w, path, err);
    if (!fm_formats[o->fmt].st_dtype || fm_formats[o->fmt].block > 1)
        return fm_fail(err, FM_ERR_USAGE, "write model: %s: a safetensors folder holds F32, F16 or BF16, not %s", path,
                       fm_formats[o->fmt].name);
    if (mkdir(path, 0777) && errno != EEXIST)
        return fm_fail(err, FM_ERR_DISK, "write model: %s: %s", path, strerror(errno));
    struct fm_buf file = {0};
    fm_buf_printf(&file, "%s/model.safetensors", path);
    enum fm_status st =
        file.failed ? fm_fail_memory(err, "path", strlen(path)) : write_container(&j, w, file.data, err);
    if (!st) st = write_config(&j, path, err);
    fm_buf_release(&file);
    return st;
}
