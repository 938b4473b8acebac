/* Metadata and text of a conversion: GGUF keys, config.json, tokenizer, chat template.
 *
 *   GGUF → GGUF       every key as it is, but file_type, quantization_version, split.*
 *   folder → folder   every small file as it is, config.json without quantization_config
 *   across            the family's numbers, the tokenizer, the chat template; the rest has no counterpart */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "run/quantize.h"
#include "run/resources.h"

enum { GGUF_U32 = 4, QUANTIZATION_VERSION = 2, MAX_SMALL_FILE = 256 << 20 };

/* ---- GGUF ---- */

static bool is_mtp_key(const char *key, const char *tail)
{
    return fm_ends_with(key, tail) && key[strlen(key) - strlen(tail) - 1] == '.';
}

int fm_quantize_layers(const struct fm_quantize_job *j)
{
    char key[96];
    struct fm_str arch = {"", 0};
    if (!j->o->without_mtp) return INT_MAX;
    if (j->known) return j->cfg.n_mtp ? j->cfg.L : INT_MAX;
    if (!j->from_gguf || !fm_meta_str(j->file, "general.architecture", &arch) || arch.len > 40) return INT_MAX;
    snprintf(key, sizeof key, "%.*s.block_count", (int)arch.len, arch.data);
    const int64_t all = fm_meta_int(j->file, key, 0);
    snprintf(key, sizeof key, "%.*s.nextn_predict_layers", (int)arch.len, arch.data);
    const int64_t mtp = fm_meta_int(j->file, key, 0);
    return mtp > 0 && mtp < all && all < INT_MAX ? (int)(all - mtp) : INT_MAX;
}

static void copy_keys(struct fm_quantize_job *j)
{
    const int layers = fm_quantize_layers(j);
    for (int i = 0; i < fm_file_n_meta(j->file); i++) {
        const struct fm_meta *m = fm_file_meta_at(j->file, i);
        const bool fewer = layers < INT_MAX;
        if (!strncmp(m->key, "split.", 6) || !strcmp(m->key, "general.file_type") ||
            !strcmp(m->key, "general.quantization_version") || !strncmp(m->key, "quantize.imatrix.", 17) ||
            (fewer && is_mtp_key(m->key, "nextn_predict_layers")))
            continue;
        if (fewer && is_mtp_key(m->key, "block_count"))
            fm_writer_meta_int(j->writer, m->key, m->gguf_type, layers);
        else
            fm_writer_meta_copy(j->writer, m);
    }
}

static enum fm_status write_text_keys(struct fm_quantize_job *j, struct fm_error *err)
{
    struct fm_tokenizer *t = NULL;
    struct fm_error why = {0};
    struct fm_buf text = {0};
    FM_TRY(fm_model_tokenizer(j->file, &t, &why, err));
    if (!t && why.code) {
        if (err) *err = why;
        return why.code;
    }
    if (!t) {
        fm_quantize_note(j, "the folder has no tokenizer, so the GGUF has none: it computes logits but reads no text");
        return FM_OK;
    }
    enum fm_status st = fm_tokenizer_write_gguf_sized(t, j->cfg.V, j->writer, err);
    if (!st) st = fm_model_template(j->file, &text, err);
    if (!st && text.len) fm_writer_meta_str(j->writer, "tokenizer.chat_template", text.data, text.len);
    fm_buf_release(&text);
    fm_tokenizer_close(t);
    return st;
}

static void write_importance_keys(struct fm_quantize_job *j)
{
    const struct fm_imatrix *m = &j->importance;
    const char *path = j->o->imatrix;
    if (!path) return;
    fm_writer_meta_str(j->writer, "quantize.imatrix.file", path, strlen(path));
    if (m->n_datasets)
        fm_writer_meta_str(j->writer, "quantize.imatrix.dataset", m->datasets[0], strlen(m->datasets[0]));
    fm_writer_meta_int(j->writer, "quantize.imatrix.entries_count", GGUF_U32, m->n);
    if (m->chunk_count >= 0 && m->chunk_count <= UINT32_MAX)
        fm_writer_meta_int(j->writer, "quantize.imatrix.chunks_count", GGUF_U32, m->chunk_count);
}

enum fm_status fm_quantize_keys(struct fm_quantize_job *j, struct fm_error *err)
{
    if (j->from_gguf) {
        copy_keys(j);
    } else {
        fm_model_write_keys(&j->cfg, j->o->without_mtp, j->cfg.name, j->writer);
        fm_writer_meta_str(j->writer, "general.type", "model", 5);
    }
    fm_writer_meta_int(j->writer, "general.file_type", GGUF_U32, j->file_type);
    fm_writer_meta_int(j->writer, "general.quantization_version", GGUF_U32, QUANTIZATION_VERSION);
    write_importance_keys(j);
    return j->from_gguf ? FM_OK : write_text_keys(j, err);
}

/* ---- folders ---- */

static enum fm_status path_in(struct fm_buf *path, const char *folder, const char *name, struct fm_error *err)
{
    fm_buf_clear(path);
    fm_buf_printf(path, "%s/%s", folder, name);
    return path->failed ? fm_fail_memory(err, "path", strlen(folder)) : FM_OK;
}

static enum fm_status write_json(const char *folder, const char *name, const json_t *root, struct fm_error *err)
{
    struct fm_buf path = {0};
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    enum fm_status st = text ? path_in(&path, folder, name, err) : fm_fail_memory(err, name, 0);
    if (!st) st = fm_write_file(path.data, text, strlen(text), err);
    fm_free(text);
    fm_buf_release(&path);
    return st;
}

/* Weights in any container, and what is hidden, are not copied; neither is config.json, which changes. */
static bool is_companion(const char *name)
{
    static const char *const others[] = {
        ".safetensors", ".safetensors.index.json", ".gguf", ".bin", ".bin.index.json", ".pt", ".pth", ".onnx", ".h5",
        ".msgpack"};
    if (*name == '.' || !strcmp(name, "config.json") || strstr(name, ".tmp-")) return false;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (fm_ends_with(name, others[i])) return false;
    return true;
}

static enum fm_status copy_file(struct fm_quantize_job *j, const char *name, struct fm_error *err)
{
    struct fm_buf from = {0}, to = {0}, text = {0};
    struct stat s;
    enum fm_status st;
    FM_GOTO(path_in(&from, fm_file_path(j->file), name, err));
    FM_GOTO(path_in(&to, j->folder.tmp, name, err));
    if (stat(from.data, &s) || !S_ISREG(s.st_mode)) goto out;
    FM_GOTO(fm_buf_read_file(&text, from.data, MAX_SMALL_FILE, err));
    FM_GOTO(fm_write_file(to.data, text.data ? text.data : "", text.len, err));
out:
    fm_buf_release(&from);
    fm_buf_release(&to);
    fm_buf_release(&text);
    return st;
}

static enum fm_status copy_companions(struct fm_quantize_job *j, struct fm_error *err)
{
    DIR *d = opendir(fm_file_path(j->file));
    if (!d) return fm_fail(err, FM_ERR_INPUT, "convert model: %s: %s", fm_file_path(j->file), strerror(errno));
    enum fm_status st = FM_OK;
    for (struct dirent *e; !st && (e = readdir(d));)
        if (is_companion(e->d_name)) st = copy_file(j, e->d_name, err);
    closedir(d);
    return st;
}

/* The keys that say in which format the matrices are. */
static enum fm_status edit_config(struct fm_quantize_job *j, struct fm_error *err)
{
    static const char *const names[FM_FMT_COUNT] = {[FM_F32] = "float32", [FM_F16] = "float16", [FM_BF16] = "bfloat16"};
    struct fm_buf path = {0};
    json_t *root = NULL;
    enum fm_status st;
    FM_GOTO(path_in(&path, fm_file_path(j->file), "config.json", err));
    FM_GOTO(fm_json_read(path.data, &root, err));
    const char *dtype = names[fm_mixture_base(j->recipe.mixture)];
    (void)json_object_del(root, "quantization_config");
    (void)json_object_del(root, "compression_config");
    json_object_set_new(root, json_object_get(root, "dtype") ? "dtype" : "torch_dtype", json_string(dtype));
    if (fm_quantize_layers(j) < INT_MAX) json_object_set_new(root, "num_nextn_predict_layers", json_integer(0));
    st = write_json(j->folder.tmp, "config.json", root, err);
out:
    json_decref(root);
    fm_buf_release(&path);
    return st;
}

/* The ends of an answer, for generate() of transformers. */
static enum fm_status write_generation(struct fm_quantize_job *j, const struct fm_tokenizer *t, struct fm_error *err)
{
    json_t *ends = json_array(), *root = json_pack("{s:o}", "eos_token_id", ends);
    if (fm_tokenizer_bos(t) >= 0) json_object_set_new(root, "bos_token_id", json_integer(fm_tokenizer_bos(t)));
    if (fm_tokenizer_eos(t) >= 0) json_array_append_new(ends, json_integer(fm_tokenizer_eos(t)));
    for (int32_t id = 0; id < fm_tokenizer_size(t); id++)
        if (id != fm_tokenizer_eos(t) && fm_tokenizer_is_eog(t, id)) json_array_append_new(ends, json_integer(id));
    enum fm_status st =
        root && json_array_size(ends) ? write_json(j->folder.tmp, "generation_config.json", root, err) : FM_OK;
    json_decref(root);
    return st;
}

static enum fm_status write_tokenizer(struct fm_quantize_job *j, struct fm_error *err)
{
    struct fm_tokenizer *t = NULL;
    struct fm_error why = {0};
    struct fm_buf text = {0}, path = {0};
    enum fm_status st;
    FM_TRY(fm_model_tokenizer(j->file, &t, &why, err));
    if (!t) {
        fm_quantize_note(j, "no tokenizer.json: %s", why.code ? why.message : "the file holds no tokenizer");
        return FM_OK;
    }
    FM_GOTO(fm_model_template(j->file, &text, err));
    FM_GOTO(path_in(&path, j->folder.tmp, "tokenizer.json", err));
    FM_GOTO(fm_tokenizer_write_json(t, path.data, err));
    FM_GOTO(path_in(&path, j->folder.tmp, "tokenizer_config.json", err));
    FM_GOTO(fm_tokenizer_write_config(t, path.data, text.len ? text.data : NULL, err));
    FM_GOTO(write_generation(j, t, err));
out:
    fm_tokenizer_close(t);
    fm_buf_release(&text);
    fm_buf_release(&path);
    return st;
}

enum fm_status fm_quantize_files(struct fm_quantize_job *j, struct fm_error *err)
{
    if (!j->from_gguf) {
        FM_TRY(edit_config(j, err));
        return copy_companions(j, err);
    }
    struct fm_config cfg = j->cfg;
    if (j->o->without_mtp) cfg.n_mtp = 0;
    FM_TRY(fm_model_write_config(&cfg, fm_mixture_base(j->recipe.mixture), j->folder.tmp, err));
    return write_tokenizer(j, err);
}
