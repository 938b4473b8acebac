/* See resources.h. */
#include "run/resources.h"

#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "model/scales.h"
#include "text/chat.h"

const struct fm_tensor *fm_binding_tensor(const struct fm_file *f, const struct fm_binding *b, struct fm_tensor *view)
{
    const char *name = fm_file_container(f) == FM_GGUF ? b->gguf : b->hf;
    return *name ? fm_weight_find(f, name, view) : NULL;
}

/* Size of folder/name; 0 when there is no such file. */
static uint64_t beside(const struct fm_file *f, const char *name)
{
    struct fm_buf path = {0};
    struct stat st;
    fm_buf_printf(&path, "%s/%s", fm_file_path(f), name);
    bool there = !path.failed && !stat(path.data, &st) && S_ISREG(st.st_mode) && st.st_size > 0;
    fm_buf_release(&path);
    return there ? (uint64_t)st.st_size : 0;
}

/* ---- tokenizer ---- */

static uint64_t tokenizer_file_bytes(const struct fm_file *f)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer.model", "tiktoken.model"};
    for (int i = 0; i < 3; i++)
        if (beside(f, names[i])) return beside(f, names[i]);
    return 0;
}

enum fm_status fm_model_tokenizer(const struct fm_file *f, struct fm_tokenizer **tok, struct fm_error *why,
                                  struct fm_error *err)
{
    enum fm_status st = FM_OK;
    if (fm_file_container(f) == FM_GGUF) {
        if (fm_file_meta(f, "tokenizer.ggml.model")) st = fm_tokenizer_from_gguf(f, tok, why);
    } else if (tokenizer_file_bytes(f)) {
        st = fm_tokenizer_open(fm_file_path(f), NULL, tok, why);
    }
    if (st != FM_ERR_MEMORY) return FM_OK;
    if (err) *err = *why;
    return st;
}

/* Measured (resident bytes after opening): GPT-2, Llama 2, DeepSeek and SmolLM2 from GGUF take 75 … 100 per entry with their
 * merges; the same from tokenizer.json or a SentencePiece file 5 … 7 times its size, the JSON tree while reading included. */
static const uint64_t TOKEN_BYTES = 96, FILE_FACTOR = 6;

uint64_t fm_tokenizer_estimate_of(uint64_t n_vocab) { return TOKEN_BYTES * n_vocab; }

uint64_t fm_tokenizer_estimate(const struct fm_file *f)
{
    const struct fm_meta *m = fm_file_meta(f, "tokenizer.ggml.tokens");
    if (fm_file_container(f) == FM_GGUF) return m && m->type == FM_META_ARRAY ? TOKEN_BYTES * m->n : 0;
    return FILE_FACTOR * tokenizer_file_bytes(f);
}

/* ---- chat format ---- */

enum { MAX_TEMPLATE = 1 << 24 }; /* bytes of a template or of the JSON that holds one; lists of added tokens are long */

/* Newer models name several templates; the default one counts. */
static const char *template_in(const json_t *config)
{
    const json_t *t = json_object_get(config, "chat_template");
    for (size_t i = 0; json_is_array(t) && i < json_array_size(t); i++) {
        const json_t *entry = json_array_get(t, i);
        if (!strcmp(fm_json_str(entry, "name", ""), "default")) return fm_json_str(entry, "template", NULL);
    }
    return json_string_value(t);
}

static enum fm_status detect_in(const char *path, bool json, const struct fm_tokenizer *t, const char **name,
                                bool *unknown, struct fm_error *err)
{
    struct fm_buf text = {0};
    json_t *j = NULL;
    enum fm_status st = fm_buf_read_file(&text, path, MAX_TEMPLATE, err);
    if (!st && json) st = fm_json_parse(text.data, text.len, path, &j, err);
    if (!st) {
        const char *s = json ? template_in(j) : text.data;
        if (s) *name = fm_chat_detect(s, strlen(s), t);
        *unknown |= s && *s;
    }
    json_decref(j);
    fm_buf_release(&text);
    return st;
}

enum fm_status fm_model_chat(const struct fm_file *f, const struct fm_tokenizer *t, const char **name, bool *unknown,
                             struct fm_error *err)
{
    static const char *const files[] = {"chat_template.jinja", "tokenizer_config.json"};
    struct fm_str s;
    enum fm_status st = FM_OK;
    *name = NULL;
    *unknown = false;
    if (fm_file_container(f) == FM_GGUF) {
        const bool there = fm_meta_str(f, "tokenizer.chat_template", &s) && s.len;
        if (there) *name = fm_chat_detect(s.data, (size_t)s.len, t);
        *unknown = there && !*name;
        return FM_OK;
    }
    for (int i = 0; i < 2 && !st && !*name; i++) {
        struct fm_buf path = {0};
        fm_buf_printf(&path, "%s/%s", fm_file_path(f), files[i]);
        if (path.failed)
            st = fm_fail_memory(err, "a path", path.len);
        else if (beside(f, files[i]))
            st = detect_in(path.data, i == 1, t, name, unknown, err);
        fm_buf_release(&path);
    }
    if (*name) *unknown = false;
    return st;
}

enum fm_status fm_model_template(const struct fm_file *f, struct fm_buf *text, struct fm_error *err)
{
    struct fm_str s;
    if (fm_file_container(f) == FM_GGUF) {
        if (fm_meta_str(f, "tokenizer.chat_template", &s)) fm_buf_add(text, s.data, (size_t)s.len);
        return text->failed ? fm_fail_memory(err, "chat template", s.len) : FM_OK;
    }
    struct fm_buf path = {0};
    json_t *j = NULL;
    enum fm_status st = FM_OK;
    fm_buf_printf(&path, "%s/%s", fm_file_path(f), "chat_template.jinja");
    if (beside(f, "chat_template.jinja") && !path.failed) {
        st = fm_buf_read_file(text, path.data, MAX_TEMPLATE, err);
    } else if (beside(f, "tokenizer_config.json")) {
        fm_buf_clear(&path);
        fm_buf_printf(&path, "%s/%s", fm_file_path(f), "tokenizer_config.json");
        st = path.failed ? fm_fail_memory(err, "a path", path.len) : fm_json_read(path.data, &j, err);
        const char *t = st ? NULL : template_in(j);
        if (t) fm_buf_str(text, t);
        json_decref(j);
    }
    fm_buf_release(&path);
    return st || !text->failed ? st : fm_fail_memory(err, "chat template", text->len);
}
