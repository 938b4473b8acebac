/* The same tensor rows, other direction: weights in memory → a GGUF file or a Hugging Face folder. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/str.h"
#include "model/model.h"
#include "model/recipe.h"
#include "model/tensor_list.h"

enum fm_status fm_model_write_config(const struct fm_config *cfg, enum fm_fmt fmt, const char *folder,
                                     struct fm_error *err)
{
    struct fm_buf path = {0};
    json_t *j = fm_config_to_json(cfg);
    if (j && fmt != FM_F32) json_object_set_new(j, "torch_dtype", json_string(fmt == FM_BF16 ? "bfloat16" : "float16"));
    char *text = j ? json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    fm_buf_printf(&path, "%s/config.json", folder);
    enum fm_status st = !text || path.failed ? fm_fail_memory(err, "config.json", 0)
                                             : fm_write_file(path.data, text, strlen(text), err);
    fm_free(text);
    json_decref(j);
    fm_buf_release(&path);
    return st;
}

void fm_model_write_keys(const struct fm_config *cfg, bool without_mtp, const char *name, struct fm_writer *w)
{
    struct fm_config copy = *cfg;
    if (without_mtp) copy.n_mtp = 0;
    copy.L += copy.n_mtp; /* block_count includes the MTP blocks */
    fm_config_to_gguf(&copy, w);
    if (name && *name) fm_writer_meta_str(w, "general.name", name, strlen(name));
}

static enum fm_status put(void *writer, const void *data, size_t n, struct fm_error *err)
{
    return fm_writer_part(writer, data, n, err);
}

static enum fm_status write_container(const struct fm_config *cfg, struct fm_weights *w, const char *path, bool gguf,
                                      const struct fm_convert *o, struct fm_error *err)
{
    struct fm_writer *writer = NULL;
    struct fm_recode_list list = {0};
    struct fm_recipe recipe = fm_recipe_of(fm_mixture_find(fm_formats[o->fmt].name));
    enum fm_status st;
    if (!recipe.mixture)
        return fm_fail(err, FM_ERR_USAGE, "write model: %s: %s cannot be written", path, fm_formats[o->fmt].name);
    recipe.odd = FM_F32;
    recipe.pure = true;
    FM_GOTO(fm_writer_open(path, gguf ? FM_GGUF : FM_SAFETENSORS, &writer, err));
    FM_GOTO(fm_list_from_model(cfg, w, gguf, o->without_mtp, &list, err));
    fm_recipe_apply(&recipe, list.v, list.n);
    if (gguf)
        fm_model_write_keys(cfg, o->without_mtp, o->name, writer);
    else
        fm_writer_meta_str(writer, "format", "pt", 2); /* what transformers looks for */
    if (o->add_text) FM_GOTO(o->add_text(o->arg, writer, err));
    for (int i = 0; i < list.n; i++)
        fm_writer_tensor(writer, list.v[i].name, list.v[i].fmt, list.v[i].n_dims, list.v[i].shape);
    FM_GOTO(fm_writer_begin(writer, err));
    FM_GOTO(fm_recode_run(&(struct fm_recode){.put = put, .put_arg = writer}, list.v, list.n, err));
    st = fm_writer_commit(writer, err);
    writer = NULL;
out:
    fm_writer_abort(writer);
    fm_list_release(&list);
    return st;
}

enum fm_status fm_model_write(const struct fm_config *cfg, struct fm_weights *w, const char *path,
                              const struct fm_convert *o, struct fm_error *err)
{
    struct fm_config copy = *cfg;
    if (fm_ends_with(path, ".gguf")) return write_container(cfg, w, path, true, o, err);
    if (!fm_formats[o->fmt].st_dtype || fm_formats[o->fmt].block > 1)
        return fm_fail(err, FM_ERR_USAGE, "write model: %s: a safetensors folder holds F32, F16 or BF16, not %s", path,
                       fm_formats[o->fmt].name);
    if (mkdir(path, 0777) && errno != EEXIST)
        return fm_fail(err, FM_ERR_DISK, "write model: %s: %s", path, strerror(errno));
    struct fm_buf file = {0};
    fm_buf_printf(&file, "%s/model.safetensors", path);
    enum fm_status st =
        file.failed ? fm_fail_memory(err, "path", strlen(path)) : write_container(cfg, w, file.data, false, o, err);
    if (o->without_mtp) copy.n_mtp = 0;
    if (!st) st = fm_model_write_config(&copy, o->fmt, path, err);
    fm_buf_release(&file);
    return st;
}
