/* Folders, texts and small runs for the tests of src/train. */
#ifndef FM_TESTS_TRAIN_SAMPLES_H
#define FM_TESTS_TRAIN_SAMPLES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/str.h"
#include "fathom_train.h"
#include "file/write.h"

static char work_dir[64];

static int make_work_dir(void **state)
{
    (void)state;
    snprintf(work_dir, sizeof work_dir, "/tmp/fathom-train-XXXXXX");
    return mkdtemp(work_dir) ? 0 : -1;
}

static int remove_work_dir(void **state)
{
    char command[96];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", work_dir);
    return system(command) ? -1 : 0;
}

/* work_dir/name in one of eight rotating buffers. */
static const char *in_dir(const char *fmt, ...)
{
    static char paths[8][512];
    static int next;
    char *p = paths[next++ % 8];
    int n = snprintf(p, sizeof paths[0], "%s/", work_dir);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p + n, sizeof paths[0] - (size_t)n, fmt, ap);
    va_end(ap);
    return p;
}

static void put_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void put_text(const char *path, const char *text) { put_file(path, text, strlen(text)); }

static void get_file(const char *path, struct fm_buf *b)
{
    struct fm_error err;
    if (fm_buf_read_file(b, path, (size_t)1 << 30, &err)) fail_msg("%s", err.message);
}

static inline void assert_ok(enum fm_status st, const struct fm_error *err)
{
    if (st) fail_msg("status %d: %s", (int)st, err->message);
}

/* Status and a part of the message. */
static inline void assert_error(enum fm_status st, enum fm_status want, const struct fm_error *err, const char *part)
{
    if (st != want || !strstr(err->message, part))
        fail_msg("status %d '%s', wanted %d '…%s…'", (int)st, st ? err->message : "", (int)want, part);
}

/* Words of a small language with rules, so that there is something to learn; n bytes. */
static inline char *make_text(size_t n, uint64_t seed)
{
    static const char *const parts[] = {"ka", "lo", "mi", "ten", "ru", "sha", "vo", "pel", "gri", "nu", "dor", "fa"};
    struct fm_rng rng;
    fm_rng_init(&rng, seed);
    char *s = malloc(n + 64);
    assert_non_null(s);
    size_t len = 0;
    for (unsigned words = 0; len < n; words++) {
        unsigned p = (unsigned)fm_rng_below(&rng, 12);
        for (unsigned k = 1 + p % 3; k--; p = (p * 5 + 1) % 12) len += (size_t)sprintf(s + len, "%s", parts[p]);
        s[len++] = words % 11 == 10 ? '\n' : ' ';
    }
    s[n] = 0;
    return s;
}

static const char llama_json[] =
    "{\"model_type\":\"llama\",\"vocab_size\":300,\"hidden_size\":32,\"intermediate_size\":64,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":8,\"rms_norm_eps\":1e-6,\"initializer_range\":0.05,"
    "\"tie_word_embeddings\":true,\"rope_theta\":10000.0,\"max_position_embeddings\":64}";
static const char deepseek_json[] =
    "{\"model_type\":\"deepseek_v3\",\"vocab_size\":300,\"hidden_size\":32,\"intermediate_size\":64,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":2,\"num_key_value_heads\":2,\"q_lora_rank\":null,\"kv_lora_rank\":16,\"qk_nope_head_dim\":8,"
    "\"qk_rope_head_dim\":8,\"v_head_dim\":8,\"n_routed_experts\":4,\"num_experts_per_tok\":2,\"moe_intermediate_size\":32,"
    "\"n_shared_experts\":1,\"first_k_dense_replace\":1,\"n_group\":1,\"topk_group\":1,\"norm_topk_prob\":true,"
    "\"routed_scaling_factor\":1.5,\"scoring_func\":\"sigmoid\",\"topk_method\":\"noaux_tc\",\"num_nextn_predict_layers\":1,"
    "\"rms_norm_eps\":1e-6,\"initializer_range\":0.05,\"tie_word_embeddings\":false,\"rope_theta\":10000.0,"
    "\"max_position_embeddings\":64}";

/* A run that takes a fraction of a second: config.json and text.txt are written to work_dir. */
static inline struct fm_train_options small_run(const char *config, const char *out)
{
    static const char *paths[1];
    static char config_path[128], text_path[128], out_path[512];
    struct fm_train_options o;
    snprintf(config_path, sizeof config_path, "%s/config.json", work_dir);
    snprintf(text_path, sizeof text_path, "%s/text.txt", work_dir);
    snprintf(out_path, sizeof out_path, "%s", out);
    put_text(config_path, config);
    if (access(text_path, F_OK)) {
        char *text = make_text(6000, 7);
        put_text(text_path, text);
        free(text);
    }
    paths[0] = text_path;
    fm_train_options_default(&o);
    o.paths = paths;
    o.n_paths = 1;
    o.config = config_path;
    o.out = out_path;
    o.vocab = 290;
    o.steps = 12;
    o.seq = 16;
    o.batch = 4;
    o.lr = 3e-3f;
    o.val_fraction = 0.1f;
    o.log_every = 1;
    o.save_every = 3;
    o.eval_every = 4;
    o.threads = 2;
    return o;
}

#endif
