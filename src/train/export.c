/* A checkpoint as a model that other programs load. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "train/trainer.h"

static bool is_gguf(const char *path) { return fm_ends_with(path, ".gguf"); }

void fm_export_name(char *name, size_t cap, const char *preset)
{
    snprintf(name, cap, preset[0] ? "fathom-%s" : "fathom", preset);
}

static enum fm_status add_text(void *arg, struct fm_writer *w, struct fm_error *err)
{
    return fm_tokenizer_write_gguf(arg, w, err);
}

/* tokenizer.json is copied byte for byte: rewriting could only lose something. */
static enum fm_status copy_tokenizer(const struct fm_tokenizer *tk, const char *from, const char *folder,
                                     struct fm_error *err)
{
    struct fm_buf text = {0}, path = {0};
    enum fm_status st = fm_buf_read_file(&text, from, (size_t)1 << 30, err);
    fm_buf_printf(&path, "%s/tokenizer.json", folder);
    if (!st && path.failed) st = fm_fail_memory(err, "path", path.len);
    if (!st) st = fm_write_file(path.data, text.data ? text.data : "", text.len, err);
    fm_buf_clear(&path);
    fm_buf_printf(&path, "%s/tokenizer_config.json", folder);
    if (!st && path.failed) st = fm_fail_memory(err, "path", path.len);
    if (!st) st = fm_tokenizer_write_config(tk, path.data, NULL, err);
    fm_buf_release(&text);
    fm_buf_release(&path);
    return st;
}

enum fm_status fm_export_weights(const struct fm_config *cfg, struct fm_weights *w, const char *tokenizer,
                                 const char *to, const char *format, const char *name, bool without_mtp,
                                 struct fm_error *err)
{
    const enum fm_fmt fmt = fm_format_by_name(format ? format : "F32");
    if (fmt == FM_FMT_COUNT || !fm_formats[fmt].encode)
        return fm_fail(err, FM_ERR_USAGE, "export: format: '%s' cannot be written", format);
    struct fm_tokenizer *tk = NULL;
    FM_TRY(fm_tokenizer_open(tokenizer, NULL, &tk, err));
    const struct fm_convert o = {
        .fmt = fmt, .add_text = is_gguf(to) ? add_text : NULL, .arg = tk, .name = name, .without_mtp = without_mtp};
    enum fm_status st = fm_model_write(cfg, w, to, &o, err);
    if (!st && !is_gguf(to)) st = copy_tokenizer(tk, tokenizer, to, err);
    fm_tokenizer_close(tk);
    return st;
}

/* The parameters of an open checkpoint. */
static enum fm_status load_params(struct fm_checkpoint *k, struct fm_params *p, struct fm_error *err)
{
    struct fm_config cfg;
    FM_TRY(fm_config_from_json(json_object_get(k->head, "config"), k->path, &cfg, err));
    FM_TRY(fm_params_init(p, &cfg, err));
    if (fm_json_int(k->head, "n_values", -1) != (int64_t)p->n_all)
        return fm_fail(err, FM_ERR_INPUT, "read checkpoint: %s: its sizes do not fit its config", k->path);
    FM_TRY(fm_params_alloc(p, false, err));
    return fm_checkpoint_read(k, &(struct fm_checkpoint_array){p->p, fm_params_bytes(p)}, 1, err);
}

enum fm_status fm_train_export(const char *from, const char *to, const char *format, bool without_mtp,
                               struct fm_error *err)
{
    struct fm_checkpoint k = {.fd = -1};
    struct fm_params params = {0};
    struct fm_buf checkpoint = {0}, tokenizer = {0};
    char name[96];
    fm_buf_printf(&checkpoint, "%s/checkpoint.fmc", from);
    fm_buf_printf(&tokenizer, "%s/tokenizer.json", from);
    enum fm_status st = checkpoint.failed || tokenizer.failed ? fm_fail_memory(err, "path", strlen(from)) : FM_OK;
    if (st) goto out;
    FM_GOTO(fm_checkpoint_open(&k, checkpoint.data, err));
    FM_GOTO(load_params(&k, &params, err));
    fm_export_name(name, sizeof name, fm_json_str(k.head, "preset", ""));
    FM_GOTO(fm_export_weights(&params.cfg, &params.w, tokenizer.data, to, format, name, without_mtp, err));
out:
    fm_checkpoint_close(&k);
    fm_params_release(&params);
    fm_buf_release(&checkpoint);
    fm_buf_release(&tokenizer);
    return st;
}
