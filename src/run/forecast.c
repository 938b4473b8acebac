/* What a model needs, from its file or its config alone. */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/str.h"
#include "model/recipe.h"
#include "run/inventory.h"
#include "run/resources.h"
#include "run/run.h"

/* Strings in one block behind the struct. */
struct whole {
    struct fm_forecast f;
    char path[1024], name[64];
};

static const char *const kind_names[FM_KIND_COUNT] = {
    [FM_KIND_ATTENTION] = "attention",
    [FM_KIND_FFN] = "feed-forward",
    [FM_KIND_EXPERTS] = "experts",
    [FM_KIND_SHARED] = "shared experts",
    [FM_KIND_SMALL] = "norms and routers",
    [FM_KIND_EMBED] = "embeddings",
    [FM_KIND_HEAD] = "head",
    [FM_KIND_MTP] = "MTP layers",
};

/* ---- weights --------------------------------------------------------------------------------------------------- */

static void add_rows(struct fm_forecast *f, const struct fm_inventory *inv)
{
    struct fm_weight_row sum[FM_KIND_COUNT][FM_FMT_COUNT] = {0};
    for (int i = 0; i < inv->n; i++) {
        const struct fm_stored *s = &inv->stored[i];
        if (!s->there || s->fmt >= FM_FMT_COUNT) continue;
        struct fm_weight_row *r = &sum[s->kind][s->fmt];
        r->bytes += s->bytes;
        r->decode_bytes += s->decode_bytes;
        r->decode_macs += s->decode_macs;
        r->prefill_macs += s->prefill_macs;
        r->logits = s->kind == FM_KIND_HEAD || (s->kind == FM_KIND_EMBED && inv->cfg->tied);
    }
    for (int k = 0; k < FM_KIND_COUNT; k++)
        for (int t = 0; t < FM_FMT_COUNT && f->n_weights < FM_FORECAST_ROWS - 1; t++) {
            if (!sum[k][t].bytes) continue;
            sum[k][t].part = kind_names[k];
            sum[k][t].format = fm_formats[t].name;
            f->n_weights++;
            f->weights[f->n_weights - 1] = sum[k][t];
        }
    if (inv->absorbed_bytes > 0)
        f->weights[f->n_weights++] = (struct fm_weight_row){.part = "absorbed keys (derived)",
                                                            .format = "F32",
                                                            .decode_bytes = inv->absorbed_bytes,
                                                            .decode_macs = inv->absorbed_bytes / sizeof(float)};
}

/* ---- attention ------------------------------------------------------------------------------------------------- */

/* Loops shared by all threads in one step: a layer's products (those of one input together), its quantising of inputs, and
 * attention. */
static int count_loops(const struct fm_config *cfg)
{
    int n = 2;
    for (int l = 0; l < cfg->L; l++) {
        n += cfg->mla.Rkv ? 2 * (cfg->mla.Rq ? 6 : 5) : 2 * 2;
        n += fm_layer_is_moe(cfg, l) ? 1 + 2 * 3 + (cfg->moe.Fs ? 2 * 2 : 0) : 2 * 2;
        n += 1;
    }
    return n;
}

static void add_attention(struct fm_forecast *f, const struct fm_inventory *inv)
{
    const struct fm_config *cfg = inv->cfg;
    const struct fm_mla_shape *a = &cfg->mla;
    const double L = cfg->L;
    f->loops = count_loops(cfg);
    if (!a->Rkv) {
        f->pair_macs[0] = L * 2.0 * cfg->mha.H * cfg->mha.Dh;
        return;
    }
    f->pair_macs[0] = L * a->H * (double)(a->Dn + a->Dr + a->Dv);
    f->pair_macs[1] = L * a->H * (2.0 * a->Rkv + a->Dr);
    f->expand_macs = L * a->H * (double)a->Rkv * (a->Dn + a->Dv);
    for (int i = 0; i < inv->n; i++)
        if (inv->stored[i].there && inv->rows[i].flags & (FM_BIND_SPLIT_WHOLE | FM_BIND_SPLIT_PART))
            f->expand_format = fm_formats[inv->stored[i].fmt].name;
}

/* ---- from file or config --------------------------------------------------------------------------------------- */

static void add_item(void *arg, const char *item, uint64_t bytes, bool file_backed)
{
    struct fm_forecast *f = arg;
    assert(f->n_memory < FM_FORECAST_ITEMS);
    f->memory[f->n_memory++] = (struct fm_memory_row){item, bytes, file_backed};
    *(file_backed ? &f->weight_bytes : &f->other_bytes) += bytes;
}

/* As the tables spell it, which outlives the caller's word. */
static const char *type_name(const char *type)
{
    const struct fm_mixture *m = fm_mixture_find(type);
    return m ? fm_mixture_name(m) : fm_formats[fm_format_by_name(type)].name;
}

static enum fm_status fill(struct fm_forecast *f, const struct fm_engine_options *o, const struct fm_config *cfg,
                           const struct fm_file *file, const char *type, struct fm_error *err)
{
    struct fm_inventory inv;
    struct fm_plan_items items;
    struct fm_counts counts;
    FM_TRY(fm_inventory_new(&inv, cfg, file, type, err));
    enum fm_status st = fm_plan_items(o, file, &inv, &items, err);
    if (!st) {
        fm_model_count(cfg, 1, &counts);
        add_rows(f, &inv);
        add_attention(f, &inv);
        fm_plan_tell(&items, add_item, f);
        const struct fm_kv_shape kv = fm_kv_shape(cfg, items.kv_type);
        f->family = cfg->family->name;
        f->type = file ? NULL : type_name(type);
        f->ctx = items.ctx;
        f->chunk = items.chunk;
        f->deterministic = items.deterministic;
        f->ctx_train = cfg->ctx_train;
        f->threads = o->threads ? o->threads : fm_cpu_count();
        f->n_layers = cfg->L;
        f->params_total = counts.params_total;
        f->params_active = counts.params_active;
        f->kv_bytes_per_token = (uint64_t)cfg->L * fm_kv_row_bytes(&kv);
        if (!counts.params_total) st = fm_fail_memory(err, "counting parameters", 0);
    }
    fm_inventory_release(&inv);
    return st;
}

static bool is_file(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISREG(s.st_mode);
}

/* path/name is a file. */
static bool holds(const char *path, const char *name)
{
    struct fm_buf b = {0};
    fm_buf_printf(&b, "%s/%s", path, name);
    const bool there = !b.failed && is_file(b.data);
    fm_buf_release(&b);
    return there;
}

/* The config.json to plan from: path itself, or of a folder whose weights are not here.  Adds it to b; false: there are
 * weights to be opened. */
static bool config_alone(const char *path, struct fm_buf *b)
{
    struct fm_file *f = NULL;
    if (is_file(path)) {
        if (!fm_ends_with(path, ".json")) return false;
        fm_buf_str(b, path);
        return true;
    }
    if (!holds(path, "config.json") || holds(path, "model.safetensors")) return false;
    if (!fm_file_open(path, &f, NULL)) {
        fm_file_close(f);
        return false;
    }
    fm_buf_printf(b, "%s/config.json", path);
    return true;
}

/* The format of a published checkpoint. */
static const char *published_format(const json_t *j)
{
    const json_t *q = json_object_get(j, "quantization_config");
    const char *dtype = fm_json_str(j, "torch_dtype", fm_json_str(j, "dtype", "bfloat16"));
    if (q && !strcmp(fm_json_str(q, "quant_method", ""), "fp8")) return "F8_E4M3";
    if (!strcmp(dtype, "float32")) return "F32";
    return !strcmp(dtype, "float16") ? "F16" : "BF16";
}

static enum fm_status from_config(struct fm_forecast *f, const struct fm_engine_options *o, const char *path,
                                  const char *type, struct fm_error *err)
{
    json_t *j = NULL;
    struct fm_config cfg;
    FM_TRY(fm_json_read(path, &j, err));
    enum fm_status st = fm_config_from_json(j, path, &cfg, err);
    if (!st) st = fill(f, o, &cfg, NULL, type ? type : published_format(j), err);
    json_decref(j);
    return st;
}

static enum fm_status from_file(struct whole *w, const struct fm_engine_options *o, const char *type,
                                struct fm_error *err)
{
    struct fm_file *file;
    struct fm_config cfg;
    FM_TRY(fm_file_open(o->model, &file, err));
    enum fm_status st = fm_config_from_file(file, &cfg, err);
    if (!st) st = fill(&w->f, o, &cfg, type ? NULL : file, type, err);
    if (!st && *cfg.name) snprintf(w->name, sizeof w->name, "%s", cfg.name);
    fm_file_close(file);
    return st;
}

static enum fm_status check_type(const char *type, struct fm_error *err)
{
    if (!type || fm_inventory_knows(type)) return FM_OK;
    (void)fm_fail(err, FM_ERR_USAGE, "plan a model: %.40s: is no type of weights", type);
    fm_hint(err, "for instance Q4_K_M, Q6_K, Q8_0, F16");
    return FM_ERR_USAGE;
}

static void name_after_path(struct whole *w)
{
    const char *end = w->path + strlen(w->path), *start;
    while (end > w->path && end[-1] == '/') end--;
    for (start = end; start > w->path && start[-1] != '/';) start--;
    snprintf(w->name, sizeof w->name, "%.*s", (int)(end - start < 63 ? end - start : 63), start);
}

enum fm_status fm_forecast_new(const struct fm_engine_options *o, const char *type, struct fm_forecast **out,
                               struct fm_error *err)
{
    struct fm_buf config = {0};
    FM_TRY(fm_options_check(o, err));
    FM_TRY(check_type(type, err));
    struct whole *w = fm_calloc(1, sizeof *w);
    if (!w) return fm_fail_memory(err, "a forecast", sizeof *w);
    snprintf(w->path, sizeof w->path, "%s", o->model);
    name_after_path(w);
    enum fm_status st;
    if (config_alone(o->model, &config))
        st = config.failed ? fm_fail_memory(err, "a path", config.len) : from_config(&w->f, o, config.data, type, err);
    else
        st = from_file(w, o, type, err);
    fm_buf_release(&config);
    if (st) {
        fm_free(w);
        return st;
    }
    w->f.path = w->path;
    w->f.name = w->name;
    *out = &w->f;
    return FM_OK;
}

void fm_forecast_free(struct fm_forecast *f) { fm_free(f); }
