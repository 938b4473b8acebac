/* What a model is, and what tensors a file holds, for `show`, `tensor` and plans: nothing here loads weights. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "model/scales.h"
#include "run/resources.h"
#include "run/run.h"

/* ---- model info ---- */

/* Bytes of all weights, and of those that one decoded token reads: of K of E experts, without the MTP blocks; the
 * embedding is one row unless it is also the head. */
static void count_bytes(const struct fm_file *f, const struct fm_config *cfg, struct fm_weights *w,
                        const struct fm_binding *rows, int n, struct fm_model_info *i)
{
    double total = 0, active = 0;
    for (int r = 0; r < n; r++) {
        const struct fm_binding *b = &rows[r];
        struct fm_tensor view;
        const struct fm_tensor *t = fm_binding_tensor(f, b, &view);
        if (!t) continue;
        bool stacked = b->expert >= 0 && fm_file_container(f) == FM_GGUF, looked_up = b->mat == &w->embed && !cfg->tied;
        double bytes = stacked ? (double)t->n_bytes / b->n_experts : (double)t->n_bytes;
        total += bytes;
        if (b->layer < cfg->L && !looked_up)
            active += b->expert >= 0 ? bytes * cfg->moe.router.K / cfg->moe.router.E : bytes;
    }
    i->weight_bytes = (uint64_t)total;
    i->active_weight_bytes = (uint64_t)active;
}

/* The format of most bytes. */
static const char *main_format(const struct fm_file *f)
{
    uint64_t bytes[FM_FMT_COUNT + 1] = {0};
    int best = FM_FMT_COUNT;
    for (int i = 0; i < fm_file_n_tensors(f); i++) {
        struct fm_tensor view;
        const struct fm_tensor *t = fm_weight_find(f, fm_file_tensor(f, i)->name, &view);
        bytes[t->fmt] += t->n_bytes;
    }
    for (int i = 0; i < FM_FMT_COUNT; i++)
        if (bytes[i] > bytes[best]) best = i;
    return best == FM_FMT_COUNT ? "unknown" : fm_formats[best].name;
}

static void fill_numbers(const struct fm_file *f, const struct fm_config *cfg, struct fm_model_info *i)
{
    struct fm_counts counts;
    const struct fm_kv_shape kv = fm_kv_shape(cfg, FM_KV_DEFAULT);
    fm_model_count(cfg, 1, &counts);
    i->family = cfg->family->name;
    i->format = main_format(f);
    i->n_layers = cfg->L;
    i->dim = cfg->D;
    i->vocab = cfg->V;
    i->ctx_train = cfg->ctx_train;
    i->n_heads = cfg->H;
    i->n_experts = cfg->moe.router.E;
    i->n_experts_active = cfg->moe.router.K;
    i->n_mtp = cfg->n_mtp;
    i->params_total = counts.params_total;
    i->params_active = counts.params_active;
    i->file_bytes = fm_file_bytes(f);
    i->kv_bytes_per_token = (uint64_t)cfg->L * fm_kv_row_bytes(&kv);
    i->flops_per_token = counts.flops_per_token;
    i->flops_per_token_per_ctx = counts.flops_per_token_per_ctx;
}

enum fm_status fm_info_new(const struct fm_file *f, const struct fm_config *cfg, const char *chat_format,
                           bool chat_unknown, struct fm_model_info **out, struct fm_error *err)
{
    const char *path = fm_file_path(f), *slash = strrchr(path, '/'),
               *name = *cfg->name ? cfg->name
                       : slash    ? slash + 1
                                  : path;
    size_t n_path = strlen(path) + 1, n_name = strlen(name) + 1;
    struct fm_weights w;
    struct fm_binding *rows;
    int n;
    struct fm_model_info *i = fm_calloc(1, sizeof *i + n_path + n_name);
    if (!i) return fm_fail_memory(err, "model info", sizeof *i + n_path + n_name);
    enum fm_status st = fm_weights_init(&w, cfg, err);
    if (!st) {
        st = fm_bindings_new(cfg, &w, &rows, &n, err);
        if (!st) count_bytes(f, cfg, &w, rows, n, i);
        if (!st) fm_free(rows);
        fm_weights_release(&w, cfg);
    }
    fill_numbers(f, cfg, i);
    if (!st && !i->params_total) st = fm_fail_memory(err, "counting parameters", 0); /* the only way to count none */
    if (st) {
        fm_free(i);
        return st;
    }
    i->chat_format = chat_format;
    i->chat_unknown = chat_unknown;
    i->path = memcpy(i + 1, path, n_path);
    i->name = memcpy((char *)(i + 1) + n_path, name, n_name);
    *out = i;
    return FM_OK;
}

enum fm_status fm_model_inspect(const char *path, struct fm_model_info **out, struct fm_error *err)
{
    struct fm_file *f;
    struct fm_config cfg;
    const char *chat = NULL;
    bool unknown = false;
    uint64_t derived; /* asked for its checks of every shape */
    FM_TRY(fm_file_open(path, &f, err));
    enum fm_status st = fm_config_from_file(f, &cfg, err);
    if (!st) st = fm_model_derived_bytes(f, &derived, err);
    if (!st) st = fm_model_chat(f, NULL, &chat, &unknown, err);
    if (!st) st = fm_info_new(f, &cfg, chat, unknown, out, err);
    fm_file_close(f);
    return st;
}

void fm_model_info_free(struct fm_model_info *i) { fm_free(i); }

/* ---- tensors ---- */

struct fm_tensors {
    struct fm_file *file;
};

enum fm_status fm_tensors_open(const char *path, struct fm_tensors **out, struct fm_error *err)
{
    struct fm_tensors *t = fm_calloc(1, sizeof *t);
    if (!t) return fm_fail_memory(err, "tensor list", sizeof *t);
    enum fm_status st = fm_file_open(path, &t->file, err);
    if (st)
        fm_free(t);
    else
        *out = t;
    return st;
}

void fm_tensors_close(struct fm_tensors *t)
{
    if (!t) return;
    fm_file_close(t->file);
    fm_free(t);
}

int fm_tensors_count(const struct fm_tensors *t) { return fm_file_n_tensors(t->file); }

void fm_tensors_info(const struct fm_tensors *t, int i, struct fm_tensor_info *out)
{
    struct fm_tensor view;
    const struct fm_tensor *x = fm_weight_find(t->file, fm_file_tensor(t->file, i)->name, &view);
    *out = (struct fm_tensor_info){.name = x->name,
                                   .format = x->type_name,
                                   .path = x->path,
                                   .n_dims = x->n_dims,
                                   .n_elements = x->n_elements,
                                   .n_bytes = x->n_bytes,
                                   .offset = x->offset};
    for (int d = 0; d < x->n_dims; d++) out->shape[d] = x->shape[d];
}

int fm_tensors_find(const struct fm_tensors *t, const char *name)
{
    const struct fm_tensor *x = fm_file_find(t->file, name);
    for (int i = 0; x && i < fm_file_n_tensors(t->file); i++)
        if (fm_file_tensor(t->file, i) == x) return i;
    return -1;
}

/* The last two dimensions are a matrix, whose scales lie beside it; those before count matrices. */
static enum fm_status read_scaled(const struct fm_file *f, const struct fm_tensor *x, float *dst, struct fm_error *err)
{
    const int rows = (int)x->shape[x->n_dims - 2], cols = (int)x->shape[x->n_dims - 1];
    const uint64_t n = x->n_elements / ((uint64_t)rows * (uint64_t)cols);
    const char *data = x->data;
    for (uint64_t e = 0; e < n; e++) {
        struct fm_mat m = fm_mat_of(x->fmt, rows, cols, (void *)(size_t)data);
        FM_TRY(fm_scales_find(f, x, rows, cols, (int)e, (int)n, NULL, &m.scale, err));
        for (int r = 0; r < rows; r++, dst += cols) fm_mat_decode(dst, &m, r, 0, cols, fm_formats[x->fmt].decode);
        data += m.row_bytes * (size_t)rows;
    }
    return FM_OK;
}

enum fm_status fm_tensors_read(const struct fm_tensors *t, int i, float *dst, struct fm_error *err)
{
    struct fm_tensor view;
    const struct fm_tensor *x = fm_weight_find(t->file, fm_file_tensor(t->file, i)->name, &view);
    return fm_scales_beside(t->file, x) ? read_scaled(t->file, x, dst, err) : fm_tensor_decode(x, dst, err);
}
