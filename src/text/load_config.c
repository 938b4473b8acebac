/* What stands beside a tokenizer.json: tokenizer_config.json and generation_config.json. */
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "text/tokenizer_impl.h"

enum fm_status fm_tokenizer_json_beside(const char *dir, const char *name, json_t **out, struct fm_error *err)
{
    struct stat s;
    struct fm_buf path = {0};
    fm_buf_printf(&path, "%s/%s", dir, name);
    if (path.failed) return fm_fail_memory(err, "path", strlen(dir));
    enum fm_status st = stat(path.data, &s) ? FM_OK : fm_json_read(path.data, out, err);
    fm_buf_release(&path);
    return st;
}

/* "bos_token": "<s>", {"content": "<s>", …} or null; a missing key or unknown text leaves *id alone. */
static void read_token(const struct fm_tokenizer *t, const json_t *config, const char *key, int32_t *id)
{
    const json_t *v = json_object_get(config, key);
    const char *text = json_is_object(v) ? fm_json_str(v, "content", NULL) : json_string_value(v);
    if (json_is_null(v)) *id = -1;
    int32_t found = text ? fm_tokenizer_find(t, text) : -1;
    if (found >= 0) *id = found;
}

enum fm_status fm_tokenizer_read_config(struct fm_tokenizer *t, const char *dir, struct fm_error *err)
{
    json_t *config = NULL, *generation = NULL;
    enum fm_status st;
    FM_GOTO(fm_tokenizer_json_beside(dir, "tokenizer_config.json", &config, err));
    FM_GOTO(fm_tokenizer_json_beside(dir, "generation_config.json", &generation, err));
    read_token(t, config, "bos_token", &t->bos);
    read_token(t, config, "eos_token", &t->eos);
    t->add_bos = fm_json_bool(config, "add_bos_token", t->add_bos);
    t->add_eos = fm_json_bool(config, "add_eos_token", t->add_eos);
    fm_tokenizer_add_eog(t, t->eos);
    const json_t *ends = json_object_get(generation, "eos_token_id");
    if (json_is_integer(ends)) fm_tokenizer_add_eog(t, (int32_t)fm_json_int(generation, "eos_token_id", -1));
    size_t i;
    json_t *e;
    json_array_foreach(ends, i, e) if (json_is_integer(e) && json_integer_value(e) < FM_MAX_VOCAB)
        fm_tokenizer_add_eog(t, (int32_t)json_integer_value(e));
out:
    json_decref(config);
    json_decref(generation);
    return st;
}
