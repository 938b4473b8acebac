/* Whole models in every format that can be written: a small random one goes to a GGUF file in that format, is read back
 * and run, and so is its twin whose weights are the decoded values in F32.  In exact arithmetic both give the same bits,
 * at once and token by token; formats without an integer path do so by default, too, the others stay close, and keep their bits when
 * their weights are packed.  Weights with scales beside them: test_scaled.c. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "kernel/kernel.h"
#include "run/packing.h"
#include "twins.h"

static char path[2][64]; /* quantised, its twin */

/* Vocabularies whose rows are no whole number of groups, of 8 or of 16: the last ones lie packed as they are in the file; once
 * as embeddings and head, once as the head alone.  Widths are multiples of 256, but for the output of attention in V3: such rows stay F32 in formats of 256. */
static const char llama[] =
    "{\"model_type\":\"llama\",\"vocab_size\":71,\"hidden_size\":256,\"num_hidden_layers\":1,\"intermediate_size\":512,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,"
    "\"rope_theta\":10000,\"tie_word_embeddings\":true}";
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

/* Rounding x to int8 errs by a step of max|x|/127 over 32 elements, which is about 2.3 standard deviations: 0.5 % per product,
 * of which five follow each other: 1.2 %, were nothing amplified.  To 14 bits by 127/8191 of that, the weights' rounding by as much
 * again at most (2^-13 of a block's largest, most of them exact), attention as in int8: 0.5 %.  Many rows at once give the bits of
 * one by one. */
static void check_fast(const struct fm_model *m, const char *what, double bound)
{
    size_t n = (size_t)(T * m->cfg.V);
    float *exact = run(m, true, T), *fast = run(m, false, T), *one = run(m, false, 1);
    double far = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        far += pow((double)fast[i] - (double)exact[i], 2);
        size += pow((double)exact[i], 2);
    }
    if (memcmp(fast, one, n * sizeof *fast)) fail_msg("%s: token by token gives other bits", what);
    if (!(far > 0 && sqrt(far / size) < bound)) fail_msg("%s: fast is %g away from exact", what, sqrt(far / size));
    fm_free(exact);
    fm_free(fast);
    fm_free(one);
}

static void check_packed(struct fm_model *m, const struct fm_file *f, const char *what)
{
    static const int chunks[] = {T, 1, 4};
    size_t n = (size_t)(T * m->cfg.V);
    float *before[3];
    for (int i = 0; i < 3; i++) before[i] = run(m, false, chunks[i]);
    ok(fm_model_pack(m, f, &err));
    assert_true(m->w.layers[0].mlp.gate.packed && !m->w.layers[0].mlp.gate.packed->ready);
    assert_non_null(m->w.head.packed);
    assert_int_equal(m->w.embed.packed != NULL, m->cfg.tied);
    for (int i = 0; i < 3; i++) {
        float *after = run(m, false, chunks[i]);
        if (memcmp(before[i], after, n * sizeof *after))
            fail_msg("%s: packed weights give other bits, %d tokens a step", what, chunks[i]);
        fm_free(after);
        fm_free(before[i]);
    }
    assert_true(m->w.layers[0].mlp.gate.packed->ready);
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
    const struct fm_kernels *k = fm_kernels_get(NULL);
    if (!k->gemm_q8[fmt] && !k->gemm_q14[fmt])
        check_same(&m[0], &m[1], false, name);
    else if (config == llama) /* V3's routing may tip over, and its attention has two forms */
        check_fast(&m[0], name, k->gemm_q8[fmt] ? 0.03 : 0.0125);
    if (fm_cpu_pack_rows(fmt, m[0].cfg.D)) check_packed(&m[0], f[0], name);
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

int main(void)
{
    for (int i = 0; i < 2; i++)
        (void)snprintf(path[i], sizeof path[i], "/tmp/fathom-formats-%d-%d.gguf", (int)getpid(), i);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_llama), cmocka_unit_test(test_deepseek)};
    return cmocka_run_group_tests_name("formats", tests, NULL, NULL);
}
