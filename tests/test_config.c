/* Hyper-parameters that cannot be: every one is refused by name before a size is computed from it.  And those that can
 * survive a GGUF file. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "model/model.h"

static const char LLAMA[] = "{\"model_type\": \"llama\", \"vocab_size\": 100, \"hidden_size\": 64, "
                            "\"num_hidden_layers\": 2, \"intermediate_size\": 96, \"num_attention_heads\": 4, "
                            "\"num_key_value_heads\": 2}";
static const char DEEPSEEK[] =
    "{\"model_type\": \"deepseek_v3\", \"vocab_size\": 100, \"hidden_size\": 64, \"num_hidden_layers\": 2, "
    "\"intermediate_size\": 96, \"num_attention_heads\": 4, \"q_lora_rank\": null, \"kv_lora_rank\": 32, "
    "\"qk_nope_head_dim\": 16, \"qk_rope_head_dim\": 8, \"v_head_dim\": 16, \"n_routed_experts\": 8, "
    "\"num_experts_per_tok\": 2, \"moe_intermediate_size\": 32, \"n_group\": 4, \"topk_group\": 2}";

/* base with the keys of change put in. */
static enum fm_status read_config(const char *base, const char *change, struct fm_config *cfg, struct fm_error *err)
{
    json_t *j = NULL, *c = NULL;
    assert_int_equal(fm_json_parse(base, strlen(base), "base", &j, err), FM_OK);
    assert_int_equal(fm_json_parse(change, strlen(change), "change", &c, err), FM_OK);
    assert_int_equal(json_object_update(j, c), 0);
    enum fm_status st = fm_config_from_json(j, "config.json", cfg, err);
    json_decref(j);
    json_decref(c);
    return st;
}

static void refused(const char *base, const char *change, const char *key)
{
    struct fm_error err = {0};
    struct fm_config cfg = {.V = -7};
    if (read_config(base, change, &cfg, &err) != FM_ERR_INPUT) fail_msg("%s: accepted", change);
    if (!strstr(err.message, key)) fail_msg("%s: '%s' does not name %s", change, err.message, key);
    assert_int_equal(cfg.V, -7); /* untouched */
}

static void accepted(const char *base, const char *change)
{
    struct fm_error err = {0};
    struct fm_config cfg;
    if (read_config(base, change, &cfg, &err)) fail_msg("%s: %s", change, err.message);
}

static void numbers_out_of_range(void **state)
{
    (void)state;
    static const struct {
        const char *key, *values[6];
    } rows[] = {
        {"vocab_size", {"0", "-1", "1e30", "4194305", "null", "\"x\""}},
        {"hidden_size", {"0", "-64", "1e9", "64.5", "null", "true"}},
        {"num_hidden_layers", {"0", "256", "2147483648", "-2147483647", "null", "[]"}},
        {"intermediate_size", {"0", "1e6", "0.5", "null", "{}"}},
        {"num_attention_heads", {"0", "4097", "1e18", "null"}},
        {"rms_norm_eps", {"-1e-6", "2"}},
        {"rope_theta", {"0", "-1", "1e300"}},
    };
    accepted(LLAMA, "{}");
    accepted(DEEPSEEK, "{}");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int v = 0; v < 6 && rows[i].values[v]; v++) {
            char change[96];
            snprintf(change, sizeof change, "{\"%s\": %s}", rows[i].key, rows[i].values[v]);
            refused(LLAMA, change, rows[i].key);
            refused(DEEPSEEK, change, rows[i].key);
        }
}

/* Each number alone is possible, together they are not: these once reached an assertion or a loop without end. */
static void heads_too_wide(void **state)
{
    (void)state;
    refused(LLAMA, "{\"hidden_size\": 262144, \"num_attention_heads\": 1, \"num_key_value_heads\": 1}", "head_dim");
    refused(LLAMA, "{\"hidden_size\": 2}", "head_dim"); /* 2 / 4 heads: width 0 */
    refused(LLAMA, "{\"hidden_size\": 12}", "rope");    /* width 3: odd */
    refused(LLAMA, "{\"num_attention_heads\": 4096, \"head_dim\": 1024}", "num_attention_heads");
    refused(LLAMA, "{\"num_key_value_heads\": 3}", "num_key_value_heads");
    refused(LLAMA, "{\"num_key_value_heads\": 8}", "num_key_value_heads");
    accepted(LLAMA, "{\"num_attention_heads\": 128, \"head_dim\": 128}");
    refused(DEEPSEEK, "{\"kv_lora_rank\": 100000}", "kv_lora_rank");
    refused(DEEPSEEK, "{\"kv_lora_rank\": 16384, \"num_attention_heads\": 4096}", "num_attention_heads");
    refused(DEEPSEEK, "{\"v_head_dim\": 4096, \"num_attention_heads\": 4096}", "num_attention_heads");
    refused(DEEPSEEK, "{\"qk_nope_head_dim\": 4096, \"num_attention_heads\": 512}", "num_attention_heads");
    refused(DEEPSEEK, "{\"qk_rope_head_dim\": 7}", "rope");
    accepted(DEEPSEEK, "{\"kv_lora_rank\": 512, \"num_attention_heads\": 128, \"qk_nope_head_dim\": 128, "
                       "\"qk_rope_head_dim\": 64, \"v_head_dim\": 128}");
}

static void experts_that_do_not_add_up(void **state)
{
    (void)state;
    refused(DEEPSEEK, "{\"n_routed_experts\": 128, \"n_group\": 128, \"topk_group\": 2}", "n_group");
    accepted(DEEPSEEK, "{\"n_routed_experts\": 128, \"n_group\": 64, \"topk_group\": 2}");
    refused(DEEPSEEK, "{\"n_group\": 3}", "n_group");
    refused(DEEPSEEK, "{\"topk_group\": 5}", "topk_group");
    refused(DEEPSEEK, "{\"topk_group\": 0}", "topk_group");
    refused(DEEPSEEK, "{\"num_experts_per_tok\": 0}", "num_experts_per_tok");
    refused(DEEPSEEK, "{\"num_experts_per_tok\": 9}", "num_experts_per_tok");
    refused(DEEPSEEK, "{\"num_experts_per_tok\": 5}", "num_experts_per_tok"); /* two groups of two */
    refused(DEEPSEEK, "{\"n_routed_experts\": 4097}", "n_routed_experts");
    refused(DEEPSEEK, "{\"n_shared_experts\": 64, \"moe_intermediate_size\": 262144}", "n_shared_experts");
    refused(DEEPSEEK, "{\"scoring_func\": \"softmax\"}", "scoring_func");
}

static void rope_that_is_unknown(void **state)
{
    (void)state;
    refused(LLAMA, "{\"rope_scaling\": {\"rope_type\": \"spiral\", \"factor\": 2}}", "rope_type");
    refused(LLAMA, "{\"rope_scaling\": {\"rope_type\": \"linear\"}}", "factor");
    refused(LLAMA, "{\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 0}}", "factor");
    refused(LLAMA, "{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8}}", "low_freq_factor");
    refused(LLAMA, "{\"model_type\": \"gpt2\"}", "gpt2");
    accepted(LLAMA, "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 40}}");
}

static void make_weights(const struct fm_config *cfg, struct fm_weights *w, struct fm_binding **rows, int *n)
{
    struct fm_error err;
    assert_int_equal(fm_weights_init(w, cfg, &err), FM_OK);
    assert_int_equal(fm_bindings_new(cfg, w, rows, n, &err), FM_OK);
    for (int i = 0; i < *n; i++) {
        const struct fm_binding *b = &(*rows)[i];
        const size_t row_bytes = (size_t)b->cols * sizeof(float);
        *b->mat = fm_mat_of(FM_F32, b->rows, b->cols, fm_calloc((size_t)b->rows, row_bytes));
        assert_non_null(b->mat->data);
    }
}

static void free_weights(const struct fm_config *cfg, struct fm_weights *w, struct fm_binding *rows, int n)
{
    for (int i = 0; i < n; i++) fm_free(rows[i].mat->data);
    fm_free(rows);
    fm_weights_release(w, cfg);
}

/* The frequencies, head scale and router format of a GGUF written from base with change, read back. */
static void survives_gguf(const char *base, const char *change)
{
    char path[64];
    struct fm_error err = {0};
    struct fm_config cfg, back;
    struct fm_weights w;
    struct fm_binding *rows;
    struct fm_file *f;
    double was[64], is[64];
    int n;
    (void)snprintf(path, sizeof path, "/tmp/fathom-config-%d.gguf", (int)getpid());
    if (read_config(base, change, &cfg, &err)) fail_msg("%s", err.message);
    make_weights(&cfg, &w, &rows, &n);
    if (fm_model_write(&cfg, &w, path, &(struct fm_convert){.fmt = FM_F16}, &err)) fail_msg("%s", err.message);
    if (fm_file_open(path, &f, &err)) fail_msg("%s", err.message);
    if (fm_config_from_file(f, &back, &err)) fail_msg("%s: %s", change, err.message);
    assert_true(cfg.rope_dim == back.rope_dim && cfg.rope_dim <= 128);
    fm_rope_frequencies(&cfg, was);
    fm_rope_frequencies(&back, is);
    for (int i = 0; i < cfg.rope_dim / 2; i++)
        if (fabs(is[i] / was[i] - 1) > 1e-6) fail_msg("%s: frequency %d: %g, was %g", change, i, is[i], was[i]);
    assert_true(fabs((double)(back.mha.scale - cfg.mha.scale)) < 1e-6);
    assert_true(fabs((double)(back.mla.scale - cfg.mla.scale)) < 1e-6);
    const struct fm_tensor *router = fm_file_find(f, "blk.1.ffn_gate_inp.weight"),
                           *o = fm_file_find(f, "blk.1.attn_output.weight");
    assert_true(o && o->fmt == FM_F16 && (!router || router->fmt == FM_F32));
    fm_file_close(f);
    free_weights(&cfg, &w, rows, n);
    unlink(path);
}

/* The file as it is plus one tensor of ones. */
static void copy_with(const struct fm_file *f, const char *path, const char *name, uint64_t n)
{
    static const float ones[256] = {1};
    struct fm_writer *w;
    struct fm_error err;
    assert_int_equal(fm_writer_open(path, FM_GGUF, &w, &err), FM_OK);
    for (int i = 0; i < fm_file_n_meta(f); i++) fm_writer_meta_copy(w, fm_file_meta_at(f, i));
    for (int i = 0; i < fm_file_n_tensors(f); i++) {
        const struct fm_tensor *t = fm_file_tensor(f, i);
        fm_writer_tensor(w, t->name, t->fmt, t->n_dims, t->shape);
    }
    fm_writer_tensor(w, name, FM_F32, 1, &n);
    assert_int_equal(fm_writer_begin(w, &err), FM_OK);
    for (int i = 0; i < fm_file_n_tensors(f); i++)
        assert_int_equal(fm_writer_data(w, fm_file_tensor(f, i)->data, fm_file_tensor(f, i)->n_bytes, &err), FM_OK);
    assert_int_equal(fm_writer_data(w, ones, n * sizeof *ones, &err), FM_OK);
    assert_int_equal(fm_writer_commit(w, &err), FM_OK);
}

/* A Llama whose queries have a bias, a weight with a scale: read without them they would be other models. */
static void tensors_that_would_be_passed_over(void **state)
{
    (void)state;
    static const char *const more[] = {"blk.0.attn_q.bias", "blk.1.ffn_down.scale", "output_norm.bias",
                                       "unrelated.weight"};
    char path[64], copy[64];
    struct fm_error err = {0};
    struct fm_config cfg;
    struct fm_weights w;
    struct fm_binding *rows;
    struct fm_file *f, *g;
    struct fm_model m;
    int n;
    (void)snprintf(path, sizeof path, "/tmp/fathom-config-%d.gguf", (int)getpid());
    (void)snprintf(copy, sizeof copy, "/tmp/fathom-config-%d-more.gguf", (int)getpid());
    assert_int_equal(read_config(LLAMA, "{}", &cfg, &err), FM_OK);
    make_weights(&cfg, &w, &rows, &n);
    assert_int_equal(fm_model_write(&cfg, &w, path, &(struct fm_convert){.fmt = FM_F16}, &err), FM_OK);
    free_weights(&cfg, &w, rows, n);
    assert_int_equal(fm_file_open(path, &f, &err), FM_OK);
    for (int i = 0; i < 4; i++) {
        copy_with(f, copy, more[i], 64);
        assert_int_equal(fm_file_open(copy, &g, &err), FM_OK);
        enum fm_status st = fm_model_load(g, true, &m, &err);
        assert_int_equal(st, i < 3 ? FM_ERR_INPUT : FM_OK);
        if (st)
            assert_non_null(strstr(err.message, more[i]));
        else
            fm_model_release(&m);
        fm_file_close(g);
    }
    fm_file_close(f);
    unlink(path);
    unlink(copy);
}

static void rope_survives_gguf(void **state)
{
    (void)state;
    survives_gguf(LLAMA, "{}");
    survives_gguf(LLAMA, "{\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 4}}");
    survives_gguf(LLAMA, "{\"rope_theta\": 500000, \"head_dim\": 64, \"rope_scaling\": {\"rope_type\": \"llama3\", "
                         "\"factor\": 8, \"low_freq_factor\": 1, \"high_freq_factor\": 4, "
                         "\"original_max_position_embeddings\": 8192}}");
    survives_gguf(LLAMA,
                  "{\"head_dim\": 64, \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4, \"beta_fast\": 16, "
                  "\"beta_slow\": 2, \"original_max_position_embeddings\": 1024}}");
    /* as many rows as experts: still no router */
    survives_gguf(DEEPSEEK,
                  "{\"hidden_size\": 8, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 40, \"mscale\": 1, "
                  "\"mscale_all_dim\": 1, \"original_max_position_embeddings\": 4096}}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_out_of_range),       cmocka_unit_test(heads_too_wide),
        cmocka_unit_test(experts_that_do_not_add_up), cmocka_unit_test(rope_that_is_unknown),
        cmocka_unit_test(rope_survives_gguf),         cmocka_unit_test(tensors_that_would_be_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
