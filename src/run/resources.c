/* See resources.h. */
#include "run/resources.h"

#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"

const struct fm_tensor *fm_binding_tensor(const struct fm_file *f, const struct fm_binding *b)
{
    const char *name = fm_file_container(f) == FM_GGUF ? b->gguf : b->hf;
    return *name ? fm_file_find(f, name) : NULL;
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

enum fm_status fm_model_tokenizer(const struct fm_file *f, struct fm_tokenizer **tok, struct fm_error *why,
                                  struct fm_error *err)
{
    enum fm_status st = FM_OK;
    if (fm_file_container(f) == FM_GGUF) {
        if (fm_file_meta(f, "tokenizer.ggml.model")) st = fm_tokenizer_from_gguf(f, tok, why);
    } else if (beside(f, "tokenizer.json") || beside(f, "tokenizer.model")) {
        st = fm_tokenizer_open(fm_file_path(f), NULL, tok, why);
    }
    if (st != FM_ERR_MEMORY) return FM_OK;
    if (err) *err = *why;
    return st;
}

/* Measured on the tokenizers of SmolLM2, Llama 3 and DeepSeek-V3: about so many bytes stay on the heap per vocabulary entry
 * and per merge, and a tokenizer.json is held as a tree while it is read. */
static const uint64_t TOKEN_BYTES = 64, MERGE_BYTES = 40, JSON_FACTOR = 6;

static uint64_t array_length(const struct fm_file *f, const char *key)
{
    const struct fm_meta *m = fm_file_meta(f, key);
    return m && m->type == FM_META_ARRAY ? m->n : 0;
}

uint64_t fm_tokenizer_estimate(const struct fm_file *f)
{
    if (fm_file_container(f) != FM_GGUF)
        return JSON_FACTOR * beside(f, "tokenizer.json") + beside(f, "tokenizer.model");
    return TOKEN_BYTES * array_length(f, "tokenizer.ggml.tokens") +
           MERGE_BYTES * array_length(f, "tokenizer.ggml.merges");
}

/* ---- chat format ---- */

enum fm_status fm_model_chat(const struct fm_file *f, const struct fm_config *cfg, const char **name,
                             struct fm_error *err)
{
    (void)f, (void)cfg, (void)err;
    *name = NULL;
    return FM_OK;
}
