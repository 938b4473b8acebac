/* A tiny random Llama with a trained tokenizer and a ChatML template, written as GGUF, for the tests of run/.
 * Its head knows printable ASCII and the end of a turn only, so that answers are plain text and end now and then.
 * Include last. */
#ifndef FM_TESTS_RUN_TESTING_H
#define FM_TESTS_RUN_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "run/run.h"

static struct fm_error err;
#define MAYBE __attribute__((unused))             /* not every program looks at all of these */
static char model_path[64], MAYBE plain_path[64]; /* with and without a chat template */
static char MAYBE folder_path[64];                /* the first one in Hugging Face layout */
static double head_scale = 1;                     /* of models written from now on … */
static double branch_scale = 1; /* … of what blocks add to the residual: little makes a token depend on the last one */
static uint64_t weights_seed = 5; /* … and the seed of their weights */

static inline void ok(enum fm_status st)
{
    if (st) fail_msg("%s", err.message);
}

static const char TEMPLATE[] =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";

static inline struct fm_tokenizer *tiny_tokenizer(void)
{
    static const char *const specials[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    static const char text[] = "the cat sat on the mat and the dog sat on the log while the other cats ate the oats";
    struct fm_bpe_train p = {.text = text,
                             .n = sizeof text - 1,
                             .n_vocab = 280,
                             .pre = "gpt2",
                             .specials = specials,
                             .n_specials = 3,
                             .threads = 1};
    struct fm_tokenizer *t;
    ok(fm_tokenizer_train(&p, &t, &err));
    return t;
}

static inline enum fm_status add_text(void *arg, struct fm_writer *w, struct fm_error *e)
{
    struct fm_tokenizer *t = tiny_tokenizer();
    enum fm_status st = fm_tokenizer_write_gguf(t, w, e);
    if (*(bool *)arg) fm_writer_meta_str(w, "tokenizer.chat_template", TEMPLATE, sizeof TEMPLATE - 1);
    fm_tokenizer_close(t);
    return st;
}

/* Only tokens of printable ASCII, and <|im_end|> faintly. */
static inline bool head_knows(const struct fm_tokenizer *t, int id)
{
    struct fm_buf b = {0};
    if (id >= fm_tokenizer_size(t)) return false;
    ok(fm_tokenizer_decode(t, (const int32_t[]){id}, 1, &b, &err));
    bool known = b.len > 0 && !fm_tokenizer_is_special(t, id);
    for (size_t i = 0; i < b.len; i++) known = known && b.data[i] >= ' ' && b.data[i] <= '~';
    fm_buf_release(&b);
    return known;
}

static inline void fill(struct fm_config *cfg, struct fm_weights *w, struct fm_binding *rows, int n)
{
    struct fm_tokenizer *t = tiny_tokenizer();
    struct fm_rng rng;
    fm_rng_init(&rng, weights_seed);
    for (int i = 0; i < n; i++) {
        size_t count = (size_t)rows[i].rows * (size_t)rows[i].cols;
        float *x = fm_malloc(count * sizeof *x);
        assert_non_null(x);
        double scale = rows[i].mat == &w->head ? head_scale : rows[i].mat == &w->embed ? 1 : 0.3;
        if (strstr(rows[i].gguf, "attn_output.") || strstr(rows[i].gguf, "ffn_down")) scale *= branch_scale;
        for (size_t k = 0; k < count; k++)
            x[k] = rows[i].flags & FM_BIND_NORM ? 1 : (float)(scale * fm_rng_normal(&rng));
        for (int r = 0; cfg->n_mtp && rows[i].mat == &w->mtp[0].eh_proj && r < cfg->D; r++) /* the next embedding */
            for (int k = 0; k < 2 * cfg->D; k++) x[r * 2 * cfg->D + k] = k == r;
        for (int r = 0; rows[i].mat == &w->head && r < cfg->V; r++)
            if (!head_knows(t, r)) memset(x + (size_t)r * (size_t)cfg->D, 0, (size_t)cfg->D * sizeof *x);
        *rows[i].mat = fm_mat_of(FM_F32, rows[i].rows, rows[i].cols, x);
    }
    fm_tokenizer_close(t);
}

/* What a folder needs beside config.json and weights. */
static inline void write_text_files(const char *folder)
{
    char path[128];
    struct fm_tokenizer *t = tiny_tokenizer();
    (void)snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    ok(fm_tokenizer_write_json(t, path, &err));
    (void)snprintf(path, sizeof path, "%s/tokenizer_config.json", folder);
    ok(fm_tokenizer_write_config(t, path, TEMPLATE, &err));
    fm_tokenizer_close(t);
}

/* What write_model and write_text_files left in a folder, and the folder.  0: all gone. */
static inline int remove_model_folder(const char *folder)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"};
    char path[128];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        (void)unlink(path);
    }
    return rmdir(folder);
}

/* config: a config.json; path ends in .gguf, or names a folder */
static inline void write_model_of(const char *config, const char *path, bool chat)
{
    struct fm_config cfg;
    struct fm_weights w;
    struct fm_binding *rows;
    json_t *j = NULL;
    int n;
    ok(fm_json_parse(config, strlen(config), "config", &j, &err));
    ok(fm_config_from_json(j, "config", &cfg, &err));
    ok(fm_weights_init(&w, &cfg, &err));
    ok(fm_bindings_new(&cfg, &w, &rows, &n, &err));
    fill(&cfg, &w, rows, n);
    struct fm_convert o = {.fmt = FM_F32, .add_text = add_text, .arg = &chat, .name = "tiny"};
    ok(fm_model_write(&cfg, &w, path, &o, &err));
    for (int i = 0; i < n; i++) fm_free(rows[i].mat->data);
    fm_free(rows);
    fm_weights_release(&w, &cfg);
    json_decref(j);
}

static inline void write_model(const char *path, bool chat)
{
    static const char config[] =
        "{\"model_type\":\"llama\",\"vocab_size\":280,\"hidden_size\":32,\"num_hidden_layers\":2,\"intermediate_size\":"
        "48,"
        "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-5,"
        "\"rope_theta\":10000,\"tie_word_embeddings\":false}";
    write_model_of(config, path, chat);
}

static inline struct fm_engine *engine(struct fm_engine_options o)
{
    struct fm_engine *e = NULL;
    if (!o.model) o.model = model_path;
    if (!o.threads) o.threads = 2;
    ok(fm_engine_open(&o, &e, &err));
    return e;
}

static inline struct fm_session *session(struct fm_engine *e, int ctx)
{
    struct fm_session *s = NULL;
    ok(fm_session_new(e, ctx, &s, &err));
    return s;
}

static inline bool collect(void *arg, const char *text, size_t n)
{
    fm_buf_add(arg, text, n);
    return true;
}

/* n ids that repeat in no short pattern */
static inline void some_ids(int32_t *ids, int n, uint64_t seed)
{
    struct fm_rng rng;
    fm_rng_init(&rng, seed);
    for (int i = 0; i < n; i++) ids[i] = (int32_t)fm_rng_below(&rng, 256);
}

#endif
