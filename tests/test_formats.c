/* Whole models in every format that can be written: a small random one goes to a GGUF file in that format, is read back
 * and run, and so is its twin whose weights are the decoded values in F32.  In exact arithmetic both give the same bits,
 * at once and token by token; formats without an int8 path do so by default, too.  The same for a folder with FP8 weights
 * and scales beside them. */
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

#include "base/env.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernel/kernel.h"
#include "model/model.h"

enum { T = 11 };

static struct fm_error err;
static char path[2][64]; /* quantised, its twin */
static char folder[64], twin[80], fp8_path[96], config_path[96];

static void ok(enum fm_status st)
{
    if (st) fail_msg("%s", err.message);
}

static void *need(size_t bytes)
{
    void *p = fm_calloc(1, bytes);
    assert_non_null(p);
    return p;
}

/* Widths are multiples of 256, but for the output of attention in V3: such rows stay F32 in formats of 256. */
static const char llama[] =
    "{\"model_type\":\"llama\",\"vocab_size\":70,\"hidden_size\":256,\"num_hidden_layers\":1,\"intermediate_size\":512,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,"
    "\"rope_theta\":10000,\"tie_word_embeddings\":false}";
static const char deepseek[] =
    "{\"model_type\":\"deepseek_v3\",\"vocab_size\":70,\"hidden_size\":256,\"num_hidden_layers\":2,"
    "\"intermediate_size\":256,\"num_attention_heads\":2,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-6,"
    "\"rope_theta\":10000,\"tie_word_embeddings\":false,\"q_lora_rank\":256,\"kv_lora_rank\":256,"
    "\"qk_nope_head_dim\":16,\"qk_rope_head_dim\":8,\"v_head_dim\":32,\"n_routed_experts\":4,\"num_experts_per_tok\":2,"
    "\"moe_intermediate_size\":256,\"n_shared_experts\":1,\"first_k_dense_replace\":1,\"n_group\":1,\"topk_group\":1,"
    "\"norm_topk_prob\":true,\"routed_scaling_factor\":1.5,\"scoring_func\":\"sigmoid\",\"topk_method\":\"noaux_tc\"}";

static void write_random(const char *config, enum fm_fmt fmt)
{
    struct fm_config cfg;
    struct fm_weights w;
    struct fm_binding *rows;
    struct fm_rng rng;
    json_t *j = NULL;
    int n;
    fm_rng_init(&rng, 7);
    ok(fm_json_parse(config, strlen(config), "config", &j, &err));
    ok(fm_config_from_json(j, "config", &cfg, &err));
    ok(fm_weights_init(&w, &cfg, &err));
    ok(fm_bindings_new(&cfg, &w, &rows, &n, &err));
    for (int i = 0; i < n; i++) {
        size_t count = (size_t)rows[i].rows * (size_t)rows[i].cols;
        float *x = need(count * sizeof *x);
        for (size_t k = 0; k < count; k++) x[k] = rows[i].flags & FM_BIND_NORM ? 1 : 0.1f * (float)fm_rng_normal(&rng);
        *rows[i].mat = fm_mat_of(FM_F32, rows[i].rows, rows[i].cols, x);
    }
    ok(fm_model_write(&cfg, &w, path[0], &(struct fm_convert){.fmt = fmt}, &err));
    for (int i = 0; i < n; i++) fm_free(rows[i].mat->data);
    fm_free(rows);
    fm_weights_release(&w, &cfg);
    json_decref(j);
}

static void forward(const struct fm_model *m, struct fm_ctx *c, const struct fm_batch *b, float *logits)
{
    float *hidden = need((size_t)(b->T * m->cfg.D) * sizeof *hidden);
    fm_model_forward(c, &m->cfg, &m->w, m->rope_freq, b, hidden, NULL);
    fm_model_logits(c, &m->w, logits, hidden, b->T);
    fm_free(hidden);
}

/* logits[T,V], `chunk` tokens a step. */
static float *run(const struct fm_model *m, bool exact, int chunk)
{
    struct fm_pool *pool;
    struct fm_arena dry, arena;
    void *backend;
    float *logits = need((size_t)(T * m->cfg.V) * sizeof *logits), *block;
    struct fm_kv kv = {.blocks = &block, .row = fm_kv_row(&m->cfg)};
    block = need((size_t)m->cfg.L * FM_KV_BLOCK * kv.row * sizeof *block);
    ok(fm_pool_new(2, &pool, &err));
    ok(fm_cpu_backend_new(pool, &backend, &err));
    for (int at = 0; at < T; at += chunk) {
        int32_t ids[T], pos[T];
        int n = T - at < chunk ? T - at : chunk;
        for (int i = 0; i < n; i++) ids[i] = (at + i) * 13 % m->cfg.V, pos[i] = at + i;
        struct fm_seq seq = {.n = n, .pos0 = at, .segment_n = T, .kv = &kv};
        struct fm_batch b = {.T = n, .n_seqs = 1, .seqs = &seq, .ids = ids, .pos = pos};
        struct fm_ctx c = {.op = &fm_ops_dry, .arena = &dry, .pool = pool, .backend = backend, .exact = exact};
        fm_arena_init_dry(&dry, "test");
        forward(m, &c, &b, logits + at * m->cfg.V);
        ok(fm_arena_init(&arena, "test", dry.peak, &err));
        c.op = &fm_ops_cpu;
        c.arena = &arena;
        forward(m, &c, &b, logits + at * m->cfg.V);
        if (c.status) fail_msg("%s", c.error.message);
        fm_arena_release(&arena);
    }
    fm_cpu_backend_free(backend);
    fm_pool_free(pool);
    fm_free(block);
    return logits;
}

static void check_same(const struct fm_model *a, const struct fm_model *b, bool exact, const char *what)
{
    size_t n = (size_t)(T * a->cfg.V);
    for (int chunk = 1; chunk <= T; chunk += T - 1) {
        float *x = run(a, exact, chunk), *y = run(b, exact, chunk);
        float size = 0;
        for (size_t i = 0; i < n; i++) size += y[i] * y[i];
        if (!(size > 0)) fail_msg("%s: no logits", what); /* NaN, too */
        if (memcmp(x, y, n * sizeof *x))
            fail_msg("%s, %s, chunks of %d: other bits", what, exact ? "exact" : "fast", chunk);
        fm_free(x);
        fm_free(y);
    }
}

static void check_format(const char *config, enum fm_fmt fmt)
{
    struct fm_file *f[2];
    struct fm_model m[2];
    const char *name = fm_formats[fmt].name;
    write_random(config, fmt);
    ok(fm_file_open(path[0], &f[0], &err));
    ok(fm_model_load(f[0], true, &m[0], &err));
    assert_int_equal(m[0].w.layers[0].mlp.gate.fmt, fmt);
    ok(fm_model_write(&m[0].cfg, &m[0].w, path[1], &(struct fm_convert){.fmt = FM_F32}, &err));
    ok(fm_file_open(path[1], &f[1], &err));
    ok(fm_model_load(f[1], true, &m[1], &err));
    assert_int_equal(m[1].w.layers[0].mlp.gate.fmt, FM_F32);
    check_same(&m[0], &m[1], true, name);
    if (!fm_kernels_get(NULL)->gemm_q8[fmt]) check_same(&m[0], &m[1], false, name);
    for (int i = 0; i < 2; i++) {
        fm_model_release(&m[i]);
        fm_file_close(f[i]);
        (void)unlink(path[i]);
    }
}

static void check_all(const char *config)
{
    for (int f = 0; f < FM_FMT_COUNT; f++)
        if (fm_formats[f].encode && f != FM_F64) check_format(config, (enum fm_fmt)f);
}

static void test_llama(void **state)
{
    (void)state;
    check_all(llama);
}

static void test_deepseek(void **state)
{
    (void)state;
    check_all(deepseek);
}

/* ---- FP8 with a scale per block of 128 × 128 ---- */

enum spoil { FINE, NO_SCALES, BAD_SHAPE };

static const char fp8[] =
    "{\"model_type\":\"llama\",\"vocab_size\":70,\"hidden_size\":160,\"num_hidden_layers\":1,\"intermediate_size\":200,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,"
    "\"rope_theta\":10000,\"tie_word_embeddings\":false}";

static bool in_fp8(const struct fm_binding *b) { return !(b->flags & FM_BIND_VECTOR) && strstr(b->hf, "_proj"); }

static void declare(struct fm_writer *w, const struct fm_binding *b, enum spoil spoil)
{
    uint64_t shape[] = {(uint64_t)b->rows, (uint64_t)b->cols},
             scales[] = {(shape[0] + 127) / 128, (shape[1] + 127) / 128};
    char name[160];
    if (b->flags & FM_BIND_VECTOR) {
        fm_writer_tensor(w, b->hf, FM_F32, 1, shape + 1);
        return;
    }
    fm_writer_tensor(w, b->hf, in_fp8(b) ? FM_F8_E4M3 : FM_F32, 2, shape);
    if (!in_fp8(b) || spoil == NO_SCALES) return;
    if (spoil == BAD_SHAPE) scales[1]++;
    (void)snprintf(name, sizeof name, "%s_scale_inv", b->hf);
    fm_writer_tensor(w, name, FM_F32, 2, scales);
}

/* In the order of declare: random codes, then random scales; F32 for the rest. */
static void write_data(struct fm_writer *w, const struct fm_binding *b, enum spoil spoil, struct fm_rng *rng)
{
    size_t n = (size_t)b->rows * (size_t)b->cols, columns = (size_t)(b->cols + 127) / 128 + (spoil == BAD_SHAPE);
    size_t n_scales = (size_t)(b->rows + 127) / 128 * columns;
    float *x = need(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = b->flags & FM_BIND_NORM ? 1 : 0.1f * (float)fm_rng_normal(rng);
    if (in_fp8(b)) {
        uint8_t *codes = need(n);
        for (size_t i = 0; i < n; i++) codes[i] = fm_f32_to_e4m3(x[i]);
        ok(fm_writer_data(w, codes, n, &err));
        fm_free(codes);
        for (size_t i = 0; i < n_scales; i++) x[i] = 0.5f + (float)fm_rng_uniform(rng);
        if (spoil != NO_SCALES) ok(fm_writer_data(w, x, n_scales * sizeof *x, &err));
    } else {
        ok(fm_writer_data(w, x, n * sizeof *x, &err));
    }
    fm_free(x);
}

/* A folder as it would be published. */
static void write_fp8(enum spoil spoil, struct fm_config *cfg)
{
    struct fm_weights w;
    struct fm_binding *rows;
    struct fm_writer *writer;
    struct fm_rng rng;
    json_t *j = NULL;
    int n;
    fm_rng_init(&rng, 8);
    ok(fm_json_parse(fp8, sizeof fp8 - 1, "config", &j, &err));
    ok(fm_config_from_json(j, "config", cfg, &err));
    ok(fm_weights_init(&w, cfg, &err));
    ok(fm_bindings_new(cfg, &w, &rows, &n, &err));
    (void)mkdir(folder, 0777);
    ok(fm_writer_open(fp8_path, FM_SAFETENSORS, &writer, &err));
    for (int i = 0; i < n; i++) declare(writer, &rows[i], spoil);
    ok(fm_writer_begin(writer, &err));
    for (int i = 0; i < n; i++) write_data(writer, &rows[i], spoil, &rng);
    ok(fm_writer_commit(writer, &err));
    FILE *out = fopen(config_path, "w");
    assert_non_null(out);
    (void)fputs(fp8, out);
    (void)fclose(out);
    fm_free(rows);
    fm_weights_release(&w, cfg);
    json_decref(j);
}

static void remove_folder(const char *name)
{
    static const char *const files[] = {"model.safetensors", "config.json"};
    char file[128];
    for (int i = 0; i < 2; i++) {
        (void)snprintf(file, sizeof file, "%s/%s", name, files[i]);
        (void)unlink(file);
    }
    (void)rmdir(name);
}

static void test_fp8(void **state)
{
    (void)state;
    struct fm_config cfg;
    struct fm_file *f[2];
    struct fm_model m[2];
    write_fp8(FINE, &cfg);
    ok(fm_file_open(folder, &f[0], &err));
    ok(fm_model_load(f[0], true, &m[0], &err));
    assert_true(m[0].w.layers[0].mlp.gate.fmt == FM_F8_E4M3 && m[0].w.layers[0].mlp.gate.scale.block == 128);
    /* a folder, too: in a GGUF the rows of q and k are permuted, hence sums in another order */
    ok(fm_model_write(&m[0].cfg, &m[0].w, twin, &(struct fm_convert){.fmt = FM_F32}, &err));
    ok(fm_file_open(twin, &f[1], &err));
    ok(fm_model_load(f[1], true, &m[1], &err));
    check_same(&m[0], &m[1], true, "FP8");
    check_same(&m[0], &m[1], false, "FP8");
    for (int i = 0; i < 2; i++) {
        fm_model_release(&m[i]);
        fm_file_close(f[i]);
    }
    for (enum spoil s = NO_SCALES; s <= BAD_SHAPE; s++) {
        write_fp8(s, &cfg);
        ok(fm_file_open(folder, &f[0], &err));
        assert_int_equal(fm_model_load(f[0], true, &m[0], &err), FM_ERR_INPUT);
        assert_non_null(
            strstr(err.message, s == NO_SCALES ? "_scale_inv': is missing" : "_scale_inv': is no scale per"));
        fm_file_close(f[0]);
    }
    remove_folder(folder);
    remove_folder(twin);
}

/* Codes and scales of the shared vectors, where they are (golden/formats/README.md there). */
static void check_vectors(const char *name)
{
    const char *shared = fm_env("FATHOM_SHARED");
    char file[1024];
    struct fm_file *f;
    (void)snprintf(file, sizeof file, "%s/golden/formats/%s.safetensors", shared ? shared : "../shared", name);
    if (access(file, R_OK)) {
        printf("SKIP test_formats: %s is not there\n", file);
        return;
    }
    ok(fm_file_open(file, &f, &err));
    const struct fm_tensor *raw = fm_file_find(f, "raw"), *scale = fm_file_find(f, "scale"),
                           *t = fm_file_find(f, "f32");
    const struct fm_tensor *block = fm_file_find(f, "block");
    assert_true(raw && scale && t && block && t->n_dims == 2 && scale->n_dims == 2);
    int rows = (int)t->shape[0], cols = (int)t->shape[1];
    float *at = need(scale->n_elements * sizeof *at), *want = need(t->n_elements * sizeof *want);
    float *row = need((size_t)cols * sizeof *row);
    if (scale->fmt == FM_F32)
        ok(fm_tensor_decode(scale, at, &err));
    else
        fm_formats[FM_F8_E8M0].decode(at, scale->data, scale->n_elements);
    ok(fm_tensor_decode(t, want, &err));
    int64_t edge;
    memcpy(&edge, block->data, sizeof edge);
    struct fm_mat m = fm_mat_of(FM_F8_E4M3, rows, cols, (void *)(size_t)raw->data);
    m.scale = (struct fm_scales){.at = at, .block = (int)edge, .ld = (int)scale->shape[1]};
    for (int r = 0; r < rows; r++) {
        fm_mat_decode(row, &m, r, 0, cols, fm_formats[FM_F8_E4M3].decode);
        for (int k = 0; k < cols; k++)
            if (row[k] != want[(size_t)r * (size_t)cols + (size_t)k]) fail_msg("%s: row %d, column %d", name, r, k);
    }
    fm_free(at);
    fm_free(want);
    fm_free(row);
    fm_file_close(f);
}

static void test_fp8_vectors(void **state)
{
    (void)state;
    check_vectors("fp8_e4m3_b128_f32");
    check_vectors("fp8_e4m3_b128_e8m0");
    check_vectors("fp8_e4m3_b32_e8m0");
}

/* ---- NVFP4 with a scale per matrix ---- */

/* A Llama in path[0] whose ffn_down is NVFP4, with one scale; n_scales 2: one too many. */
static void write_nvfp4(float scale, uint64_t n_scales, struct fm_config *cfg)
{
    struct fm_weights w;
    struct fm_binding *rows;
    struct fm_writer *writer;
    struct fm_rng rng;
    json_t *j = NULL;
    int n;
    const float scales[] = {scale, scale};
    fm_rng_init(&rng, 9);
    ok(fm_json_parse(llama, sizeof llama - 1, "config", &j, &err));
    ok(fm_config_from_json(j, "config", cfg, &err));
    ok(fm_weights_init(&w, cfg, &err));
    ok(fm_bindings_new(cfg, &w, &rows, &n, &err));
    ok(fm_writer_open(path[0], FM_GGUF, &writer, &err));
    fm_config_to_gguf(cfg, writer);
    fm_writer_tensor(writer, "blk.0.ffn_down.scale", FM_F32, 1, &n_scales);
    for (int i = 0; i < n; i++) {
        bool vector = rows[i].flags & FM_BIND_VECTOR, down = rows[i].mat == &w.layers[0].mlp.down;
        const uint64_t shape[] = {(uint64_t)rows[i].rows, (uint64_t)rows[i].cols};
        fm_writer_tensor(writer, rows[i].gguf, down ? FM_NVFP4 : FM_F32, 2 - vector, shape + vector);
    }
    ok(fm_writer_begin(writer, &err));
    ok(fm_writer_data(writer, scales, n_scales * sizeof *scales, &err));
    for (int i = 0; i < n; i++) {
        uint64_t count = (uint64_t)rows[i].rows * (uint64_t)rows[i].cols;
        bool down = rows[i].mat == &w.layers[0].mlp.down;
        uint64_t bytes = fm_format_bytes(down ? FM_NVFP4 : FM_F32, count);
        float *x = need(count * sizeof *x);
        for (uint64_t k = 0; k < count; k++) x[k] = 0.1f * (float)fm_rng_normal(&rng);
        for (uint64_t k = 0; down && k < bytes; k++)
            ((uint8_t *)x)[k] = (uint8_t)(k % 36 < 4 ? 0x10 + fm_rng_below(&rng, 16) : fm_rng_below(&rng, 256));
        ok(fm_writer_data(writer, x, bytes, &err));
        fm_free(x);
    }
    ok(fm_writer_commit(writer, &err));
    fm_free(rows);
    fm_weights_release(&w, cfg);
    json_decref(j);
}

static void test_nvfp4(void **state)
{
    (void)state;
    struct fm_config cfg;
    struct fm_file *f[2];
    struct fm_model m[2];
    float plain[512], row[512];
    write_nvfp4(0.37f, 1, &cfg);
    ok(fm_file_open(path[0], &f[0], &err));
    ok(fm_model_load(f[0], true, &m[0], &err));
    const struct fm_mat *down = &m[0].w.layers[0].mlp.down;
    fm_formats[FM_NVFP4].decode(plain, down->data, 512);
    fm_mat_decode(row, down, 0, 0, 512, fm_formats[FM_NVFP4].decode);
    for (int k = 0; k < 512; k++) assert_true(row[k] == 0.37f * plain[k]);
    ok(fm_model_write(&m[0].cfg, &m[0].w, path[1], &(struct fm_convert){.fmt = FM_F32}, &err));
    ok(fm_file_open(path[1], &f[1], &err));
    ok(fm_model_load(f[1], true, &m[1], &err));
    check_same(&m[0], &m[1], true, "NVFP4");
    check_same(&m[0], &m[1], false, "NVFP4");
    for (int i = 0; i < 2; i++) {
        fm_model_release(&m[i]);
        fm_file_close(f[i]);
    }
    write_nvfp4(0.37f, 2, &cfg);
    ok(fm_file_open(path[0], &f[0], &err));
    assert_int_equal(fm_model_load(f[0], true, &m[0], &err), FM_ERR_INPUT);
    assert_non_null(strstr(err.message, "ffn_down.scale': is no scale per matrix"));
    fm_file_close(f[0]);
    for (int i = 0; i < 2; i++) (void)unlink(path[i]);
}

int main(void)
{
    (void)snprintf(folder, sizeof folder, "/tmp/fathom-formats-%d", (int)getpid());
    (void)snprintf(twin, sizeof twin, "%s-twin", folder);
    (void)snprintf(fp8_path, sizeof fp8_path, "%s/model.safetensors", folder);
    (void)snprintf(config_path, sizeof config_path, "%s/config.json", folder);
    for (int i = 0; i < 2; i++)
        (void)snprintf(path[i], sizeof path[i], "/tmp/fathom-formats-%d-%d.gguf", (int)getpid(), i);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_llama), cmocka_unit_test(test_deepseek),
                                       cmocka_unit_test(test_fp8), cmocka_unit_test(test_nvfp4),
                                       cmocka_unit_test(test_fp8_vectors)};
    return cmocka_run_group_tests_name("formats", tests, NULL, NULL);
}
