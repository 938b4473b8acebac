/* fm_quantize: what is read, what each tensor becomes, where it goes.  The bytes are made in model/recode.c. */
#include "run/quantize.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "model/rope_config.h"
#include "run/run.h"

static const uint64_t SHARD_BYTES = 5000000000; /* as transformers cuts by default */

void fm_quantize_note(const struct fm_quantize_job *j, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    if (!j->o->on_note) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    j->o->on_note(j->o->arg, text);
}

/* ---- types ---- */

bool fm_quantize_type(int i, const char **name, const char **summary)
{
    const struct fm_mixture *m = fm_mixture_at(i);
    if (!m) return false;
    *name = fm_mixture_name(m);
    *summary = fm_mixture_summary(m);
    return true;
}

static enum fm_status bad_type(const char *option, const char *name, const char *why, struct fm_error *err)
{
    (void)fm_fail(err, FM_ERR_USAGE, "convert model: %s: '%.60s' %s", option, name, why);
    fm_hint(err, "fathom quantize --type help lists the types");
    return FM_ERR_USAGE;
}

/* A plain format that can be written, not a mixture. */
static enum fm_status read_format(const struct fm_quantize_job *j, const char *option, const char *name,
                                  enum fm_fmt *out, struct fm_error *err)
{
    if (!name) return FM_OK;
    const enum fm_fmt f = fm_format_by_name(name);
    if (f == FM_FMT_COUNT)
        return bad_type(option, name, fm_mixture_find(name) ? "is a mixture, a format is needed" : "is no format", err);
    if (!fm_formats[f].encode || f == FM_F64) return bad_type(option, name, "cannot be written", err);
    if (!j->to_gguf && (!fm_formats[f].st_dtype || fm_formats[f].block > 1))
        return bad_type(option, name, "does not go into safetensors: F32, F16 or BF16 do", err);
    *out = f;
    return FM_OK;
}

static enum fm_status read_recipe(struct fm_quantize_job *j, struct fm_error *err)
{
    const struct fm_quantize_options *o = j->o;
    const struct {
        const char *option, *name;
        enum fm_part_of_model part;
    } parts[] = {{"--experts", o->experts, FM_PART_EXPERTS},
                 {"--shared-experts", o->shared_experts, FM_PART_SHARED},
                 {"--attention", o->attention, FM_PART_ATTENTION},
                 {"--embeddings", o->embeddings, FM_PART_EMBEDDINGS},
                 {"--output", o->output, FM_PART_OUTPUT}};
    const struct fm_mixture *m = fm_mixture_find(o->type);
    if (!m) return bad_type("--type", o->type, "is no type", err);
    if (!j->to_gguf && !fm_formats[fm_mixture_base(m)].st_dtype)
        return bad_type("--type", o->type, "does not go into safetensors: F32, F16 or BF16 do", err);
    j->recipe = fm_recipe_of(m);
    j->file_type = fm_mixture_file_type(m);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        FM_TRY(read_format(j, parts[i].option, parts[i].name, &j->recipe.part[parts[i].part], err));
    j->rules = fm_calloc((size_t)o->n_rules + 1, sizeof *j->rules);
    if (!j->rules) return fm_fail_memory(err, "rules", (size_t)o->n_rules * sizeof *j->rules);
    for (int i = 0; i < o->n_rules; i++) {
        j->rules[i].glob = o->rules[i].glob;
        FM_TRY(read_format(j, "--tensor", o->rules[i].type, &j->rules[i].fmt, err));
    }
    j->recipe.rules = j->rules;
    j->recipe.n_rules = o->n_rules;
    return FM_OK;
}

/* ---- the input ---- */

static bool same_file(const struct stat *a, const char *path)
{
    struct stat b;
    return !stat(path, &b) && a->st_dev == b.st_dev && a->st_ino == b.st_ino;
}

/* Also through links, and when it is only a part of the input. */
static enum fm_status check_out(const struct fm_quantize_job *j, struct fm_error *err)
{
    struct stat s;
    const char *out = j->o->out, *last = "";
    if (stat(out, &s)) return FM_OK;
    bool same = same_file(&s, j->o->in);
    for (int i = 0; i < fm_file_n_tensors(j->file) && !same; i++) {
        const char *path = fm_file_tensor(j->file, i)->path;
        same = path != last && same_file(&s, path);
        last = path;
    }
    return same ? fm_fail(err, FM_ERR_USAGE, "convert model: %s: is the input", out) : FM_OK;
}

/* The number under ARCH.key; of an array the first. */
static int arch_int(const struct fm_file *f, const char *key)
{
    char full[128];
    struct fm_str arch = {"", 0};
    if (!fm_meta_str(f, "general.architecture", &arch) || arch.len > 60) return 0;
    snprintf(full, sizeof full, "%.*s.%s", (int)arch.len, arch.data, key);
    const struct fm_meta *m = fm_file_meta(f, full);
    const int64_t v = !m                                                           ? 0
                      : m->type == FM_META_INT                                     ? m->i
                      : m->type == FM_META_ARRAY && m->elem == FM_META_INT && m->n ? fm_meta_array_int(m, 0)
                                                                                   : 0;
    return v > 0 && v < INT_MAX ? (int)v : 0;
}

static void describe(struct fm_quantize_job *j)
{
    struct fm_recipe *r = &j->recipe;
    if (j->known) {
        r->n_layers = j->cfg.L;
        r->n_experts = j->cfg.moe.router.E;
        r->n_gqa = j->cfg.mla.Rkv || !j->cfg.mha.Hkv ? 1 : j->cfg.H / j->cfg.mha.Hkv;
        r->tied = j->cfg.tied;
    } else if (j->from_gguf) {
        const int kv = arch_int(j->file, "attention.head_count_kv");
        r->n_layers = arch_int(j->file, "block_count");
        r->n_experts = arch_int(j->file, "expert_count");
        r->n_gqa = kv ? arch_int(j->file, "attention.head_count") / kv : 1;
        r->tied = !fm_file_find(j->file, "output.weight");
    }
}

static enum fm_status open_across(struct fm_quantize_job *j, struct fm_error *err)
{
    FM_TRY(fm_model_load(j->file, false, &j->model, err));
    j->loaded = true;
    j->cfg = j->model.cfg;
    j->known = true;
    if (j->to_gguf && j->cfg.mla.Rkv && !j->cfg.rope_interleaved)
        return fm_fail(err, FM_ERR_INPUT, "convert model: %s: rope_interleave false has no form in GGUF", j->o->in);
    j->cfg.kv_split = j->to_gguf && j->cfg.mla.Rkv;
    if (!j->to_gguf && j->cfg.rope_divisors && !fm_rope_from_divisors(&j->cfg))
        return fm_fail(err, FM_ERR_INPUT,
                       "convert model: %s, tensor 'rope_freqs.weight': config.json has no such scaling", j->o->in);
    /* the matrices are permuted by what they are, the numbers go out as they were read */
    return fm_list_from_model(&j->cfg, &j->model.w, j->to_gguf, j->o->without_mtp, &j->list, err);
}

static enum fm_status open_within(struct fm_quantize_job *j, struct fm_error *err)
{
    struct fm_error why = {0};
    const enum fm_status st = fm_config_from_file(j->file, &j->cfg, &why);
    if (st == FM_ERR_MEMORY) {
        if (err) *err = why;
        return st;
    }
    j->known = !st;
    if (st) fm_quantize_note(j, "converted by names, for fathom cannot run it (%s)", why.message);
    return fm_list_from_file(j->file, fm_quantize_layers(j), &j->list, err);
}

static enum fm_status open_input(struct fm_quantize_job *j, struct fm_error *err)
{
    FM_TRY(fm_file_open(j->o->in, &j->file, err));
    j->from_gguf = fm_file_container(j->file) == FM_GGUF;
    if (!j->from_gguf && fm_file_container(j->file) != FM_HF_FOLDER) {
        (void)fm_fail(err, FM_ERR_INPUT, "convert model: %s: a safetensors file alone has no config", j->o->in);
        fm_hint(err, "give the folder that holds it together with config.json");
        return FM_ERR_INPUT;
    }
    FM_TRY(check_out(j, err));
    FM_TRY(j->from_gguf == j->to_gguf ? open_within(j, err) : open_across(j, err));
    describe(j);
    if (j->o->imatrix) FM_TRY(fm_imatrix_open(&j->importance, j->o->imatrix, err));
    return FM_OK;
}

/* ---- what becomes of it ---- */

static uint64_t output_bytes(const struct fm_recode_tensor *t) { return t->rows * fm_format_bytes(t->fmt, t->cols); }

static void count(const struct fm_recode_tensor *t, struct fm_quantize_result *r)
{
    int i = 0;
    while (i < r->n_formats && strcmp(r->formats[i].name, fm_formats[t->fmt].name)) i++;
    if (i == FM_QUANTIZE_FORMATS) i--;
    if (i == r->n_formats) r->formats[r->n_formats++].name = fm_formats[t->fmt].name;
    r->formats[i].tensors++;
    r->formats[i].weights += t->rows * t->cols;
    r->formats[i].bytes += output_bytes(t);
    r->n_tensors++;
    r->n_weights += t->rows * t->cols;
    r->weight_bytes += output_bytes(t);
    r->bytes_in += fm_recode_input_bytes(t);
}

static void sort_formats(struct fm_quantize_result *r)
{
    for (int i = 1; i < r->n_formats; i++)
        for (int k = i; k > 0 && r->formats[k].bytes > r->formats[k - 1].bytes; k--) {
            const __typeof__(r->formats[0]) swap = r->formats[k];
            r->formats[k] = r->formats[k - 1];
            r->formats[k - 1] = swap;
        }
}

/* "12 tensors have rows that are no whole blocks: 8 Q4_K → Q5_0, 4 Q6_K → Q8_0" */
static void note_fallbacks(const struct fm_quantize_job *j)
{
    static const struct fm_format *const f = fm_formats;
    int n[FM_FMT_COUNT][FM_FMT_COUNT] = {{0}}, all = 0;
    struct fm_buf text = {0};
    for (int i = 0; i < j->list.n; i++) {
        const enum fm_fmt wish = fm_recipe_wish(&j->recipe, &j->list.v[i]);
        if (wish == j->list.v[i].fmt) continue;
        n[wish][j->list.v[i].fmt]++;
        all++;
    }
    for (int a = 0; a < FM_FMT_COUNT; a++)
        for (int b = 0; b < FM_FMT_COUNT; b++)
            if (n[a][b]) fm_buf_printf(&text, "%s%d %s → %s", text.len ? ", " : "", n[a][b], f[a].name, f[b].name);
    if (all && !text.failed)
        fm_quantize_note(j, "%d tensor%s have rows that are no whole blocks: %s", all, all > 1 ? "s" : "", text.data);
    fm_buf_release(&text);
}

static void note_requantised(const struct fm_quantize_job *j)
{
    for (int i = 0; i < j->list.n; i++) {
        const struct fm_recode_tensor *t = &j->list.v[i];
        if (t->copied || fm_formats[t->from].block == 1 || fm_formats[t->fmt].block == 1) continue;
        fm_quantize_note(j, "the input is quantised already (%s): from its original the result would be better",
                         t->from_name);
        return;
    }
}

static void note_importance(const struct fm_quantize_job *j)
{
    int used = 0, could = 0;
    if (!j->o->imatrix) return;
    for (int i = 0; i < j->list.n; i++) {
        const struct fm_recode_tensor *t = &j->list.v[i];
        if (t->copied || !fm_formats[t->fmt].encode_weighted) continue;
        could++;
        used += fm_imatrix_find(&j->importance, t->gguf) != NULL;
    }
    fm_quantize_note(j, "importance of inputs: for %d of %d tensors", used, could);
}

static void plan(struct fm_quantize_job *j, struct fm_quantize_result *r)
{
    fm_recipe_apply(&j->recipe, j->list.v, j->list.n);
    for (int i = 0; i < j->list.n; i++) {
        const struct fm_recode_tensor *t = &j->list.v[i];
        count(t, r);
        if (!j->o->on_tensor) continue;
        struct fm_quantize_tensor out = {.name = t->name,
                                         .from = t->from_name,
                                         .to = fm_formats[t->fmt].name,
                                         .wish = fm_formats[fm_recipe_wish(&j->recipe, t)].name,
                                         .n_dims = t->n_dims,
                                         .bytes_from = fm_recode_input_bytes(t),
                                         .bytes_to = output_bytes(t)};
        memcpy(out.shape, t->shape, sizeof out.shape);
        j->o->on_tensor(j->o->arg, &out);
    }
    sort_formats(r);
    note_fallbacks(j);
    note_requantised(j);
    note_importance(j);
}

/* ---- the output ---- */

static enum fm_status put_gguf(void *job, const void *data, size_t n, struct fm_error *err)
{
    return fm_writer_part(((struct fm_quantize_job *)job)->writer, data, n, err);
}

static enum fm_status put_shard(void *job, const void *data, size_t n, struct fm_error *err)
{
    return fm_shards_part(((struct fm_quantize_job *)job)->shards, data, n, err);
}

static enum fm_status recode(struct fm_quantize_job *j, struct fm_error *err)
{
    const struct fm_quantize_options *o = j->o;
    const struct fm_recode r = {.file = j->file,
                                .pool = j->pool,
                                .put = j->to_gguf ? put_gguf : put_shard,
                                .put_arg = j,
                                .importance = o->imatrix ? &j->importance : NULL,
                                .progress = o->on_progress,
                                .progress_arg = o->arg,
                                .stop = o->stop};
    return fm_recode_run(&r, j->list.v, j->list.n, err);
}

static enum fm_status write_gguf(struct fm_quantize_job *j, struct fm_quantize_result *r, struct fm_error *err)
{
    FM_TRY(j->o->dry_run ? fm_writer_open_dry(j->o->out, FM_GGUF, &j->writer, err)
                         : fm_writer_open(j->o->out, FM_GGUF, &j->writer, err));
    FM_TRY(fm_quantize_keys(j, err));
    for (int i = 0; i < j->list.n; i++) {
        const struct fm_recode_tensor *t = &j->list.v[i];
        fm_writer_tensor(j->writer, t->name, t->fmt, t->n_dims, t->shape);
    }
    FM_TRY(fm_writer_begin(j->writer, err));
    r->bytes_out = fm_writer_bytes(j->writer);
    if (j->o->dry_run) return FM_OK;
    FM_TRY(recode(j, err));
    struct fm_writer *w = j->writer;
    j->writer = NULL;
    return fm_writer_commit(w, err);
}

static enum fm_status write_folder(struct fm_quantize_job *j, struct fm_quantize_result *r, struct fm_error *err)
{
    const bool dry = j->o->dry_run;
    if (!dry) FM_TRY(fm_replace_folder_open(&j->folder, j->o->out, err));
    FM_TRY(fm_shards_new(dry ? j->o->out : j->folder.tmp, j->o->shard_bytes ? j->o->shard_bytes : SHARD_BYTES,
                         &j->shards, err));
    for (int i = 0; i < j->list.n; i++) {
        const struct fm_recode_tensor *t = &j->list.v[i];
        fm_shards_tensor(j->shards, t->name, t->fmt, t->n_dims, t->shape);
    }
    FM_TRY(fm_shards_begin(j->shards, dry, &r->bytes_out, err));
    if (dry) return FM_OK;
    FM_TRY(fm_quantize_files(j, err));
    FM_TRY(recode(j, err));
    FM_TRY(fm_shards_commit(j->shards, err));
    return fm_replace_folder_commit(&j->folder, err);
}

static void release(struct fm_quantize_job *j)
{
    fm_writer_abort(j->writer);
    fm_shards_free(j->shards);
    fm_replace_folder_abort(&j->folder);
    fm_list_release(&j->list);
    if (j->loaded) fm_model_release(&j->model);
    fm_imatrix_release(&j->importance);
    fm_free(j->rules);
    fm_pool_free(j->pool);
    fm_file_close(j->file);
}

enum fm_status fm_quantize(const struct fm_quantize_options *o, struct fm_quantize_result *out, struct fm_error *err)
{
    struct fm_quantize_job j = {.o = o};
    struct fm_quantize_result r = {0};
    const double start = fm_seconds();
    enum fm_status st;
    if (!o->in || !o->out || !o->type || o->threads < 0 || o->threads > FM_THREADS_MAX)
        return fm_fail(err, FM_ERR_USAGE, "convert model: options: input, output and type are needed");
    j.to_gguf = fm_ends_with(o->out, ".gguf");
    FM_GOTO(read_recipe(&j, err));
    FM_GOTO(open_input(&j, err));
    plan(&j, &r);
    FM_GOTO(fm_pool_new(o->threads, &j.pool, err));
    FM_GOTO(j.to_gguf ? write_gguf(&j, &r, err) : write_folder(&j, &r, err));
    r.seconds = fm_seconds() - start;
    *out = r;
out:
    release(&j);
    return st;
}
