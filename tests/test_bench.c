/* Benches: work and limits by hand, rows and ranges, depths that do not fit, refusals, stopping. */
#include <math.h>

#include "run/bench.h"
#include "run_testing.h"

static int make_model(void **state)
{
    (void)state;
    (void)snprintf(model_path, sizeof model_path, "/tmp/fathom-bench-%d.gguf", (int)getpid());
    write_model(model_path, true);
    return 0;
}

static int remove_model(void **state)
{
    (void)state;
    return unlink(model_path);
}

static void near(double a, double b)
{
    if (fabs(a - b) > 1e-9 * fabs(b)) fail_msg("%.17g is not %.17g", a, b);
}

/* ---- work and limits ------------------------------------------------------------------------------------------- */

/* A matrix in integers, one in float32, half of an expert stack's bytes for a token, a head: 10, 20, 40 and 5 MMAC. */
static struct fm_forecast two_formats(void)
{
    return (struct fm_forecast){
        .weights = {{.format = "Q8_0", .bytes = 1000, .decode_bytes = 1000, .decode_macs = 10e6, .prefill_macs = 10e6},
                    {.format = "F32", .bytes = 2000, .decode_bytes = 2000, .decode_macs = 20e6, .prefill_macs = 20e6},
                    {.format = "Q8_0", .bytes = 800, .decode_bytes = 400, .decode_macs = 40e6, .prefill_macs = 40e6},
                    {.format = "Q8_0", .bytes = 500, .decode_bytes = 500, .decode_macs = 5e6, .logits = true}},
        .n_weights = 4,
        .kv_bytes_per_token = 10,
        .pair_macs = {1000, 0},
        .chunk = 2};
}

static void work_of_tokens(void **state)
{
    (void)state;
    const struct fm_forecast f = two_formats();
    struct fm_bench_row row = {.decode = true, .depth = 100, .tokens = 3};
    fm_bench_work(&f, false, &row); /* pairs with 101, 102, 103 keys */
    near(row.bytes, 3900 + 10 * 102);
    near(row.int8_macs, 55e6 + 102e3);
    near(row.f32_macs, 20e6);
    fm_bench_work(&f, true, &row);
    near(row.int8_macs, 0);
    near(row.f32_macs, 75e6 + 102e3);
}

/* Chunks of two tokens: of the stack 800·(1 − ½²) bytes each. */
static void work_of_a_prompt(void **state)
{
    (void)state;
    const struct fm_forecast f = two_formats();
    struct fm_bench_row row = {.depth = 100, .tokens = 4};
    fm_bench_work(&f, false, &row);
    near(row.bytes, (2 * (1000 + 2000 + 600) + 500 + 2 * 102 * 10) / 4.0);
    near(row.int8_macs, 50e6 + 5e6 / 4 + 102.5e3);
    near(row.f32_macs, 20e6);
}

/* Latent attention: over latents for few rows, expanded for many; exact: never expanded. */
static void work_of_latent_attention(void **state)
{
    (void)state;
    struct fm_forecast f = {.pair_macs = {10, 40}, .expand_macs = 100, .chunk = 512};
    struct fm_bench_row row = {.depth = 0, .tokens = 1};
    fm_bench_work(&f, false, &row);
    near(row.int8_macs, 110); /* 100 + 10, not 100 + 40 */
    row.depth = 1000, row.tokens = 2;
    fm_bench_work(&f, false, &row); /* 2·100 + 2003·40 against 1002·100 + 2003·10 */
    near(row.int8_macs, (200 + 2003 * 40) / 2.0);
    row.tokens = 100;
    fm_bench_work(&f, false, &row);
    near(row.int8_macs, (1100 * 100 + (100 * 1000 + 5050) * 10) / 100.0);
    fm_bench_work(&f, true, &row);
    near(row.f32_macs, (100 * 100 + (100 * 1000 + 5050) * 40) / 100.0);
}

static void limits_of_work(void **state)
{
    (void)state;
    const struct fm_bench_limit l = {.read = 1e9, .int8_peak = 4e9, .f32_peak = 1e9};
    struct fm_bench_row row = {.bytes = 1e6, .int8_macs = 2e6, .f32_macs = 0.25e6};
    fm_bench_bound(&l, &row);
    assert_true(row.by_memory);
    near(row.limit, 1000);
    row.f32_macs = 1.5e6;
    fm_bench_bound(&l, &row);
    assert_false(row.by_memory);
    near(row.limit, 500);
}

static void limits_of_this_machine(void **state)
{
    (void)state;
    struct fm_bench_limit l;
    ok(fm_bench_measure_limit(2, 0.01, 1, &l, &err));
    assert_int_equal(l.threads, 2);
    assert_true(l.read > 1e6);
}

/* ---- runs ------------------------------------------------------------------------------------------------------ */

static const int depths[] = {96, 0, 32, 4090, 32}, threads[] = {2, 1};

static struct fm_bench_options little(void)
{
    return (struct fm_bench_options){.engine = {.model = model_path},
                                     .depths = depths,
                                     .n_depths = 5,
                                     .threads = threads,
                                     .n_threads = 2,
                                     .prompt = 16,
                                     .tokens = 4,
                                     .runs = 3,
                                     .budget = 10};
}

static void rows_of_a_model(void **state)
{
    (void)state;
    static const int want[] = {0, 32, 96, 4090};
    const struct fm_bench_options o = little();
    const struct fm_bench_result *r;
    struct fm_bench *b = NULL;
    ok(fm_bench_new(&o, &b, &err));
    ok(fm_bench_run(b, &r, &err));
    assert_int_equal(r->n_rows, 4 * 2 * 2);
    assert_int_equal(r->n_limits, 2);
    assert_int_equal(r->ctx, 112); /* 4090 + 16 is more than the model was made for */
    for (int i = 0; i < r->n_rows; i++) {
        const struct fm_bench_row *row = &r->rows[i];
        assert_int_equal(row->depth, want[i / 4]);
        assert_int_equal(row->threads, 1 + i / 2 % 2);
        assert_int_equal(row->decode, i % 2);
        assert_int_equal(row->tokens, row->decode ? 4 : 16);
        assert_int_equal(row->runs, row->depth == 4090 ? 0 : 3);
        assert_true(!row->left_out == (row->depth != 4090));
        if (row->left_out) continue;
        assert_true(row->slowest > 0 && row->slowest <= row->rate && row->rate <= row->fastest);
        assert_true(row->bytes > 0 && row->f32_macs > 0);
    }
    ok(fm_bench_run(b, &r, &err)); /* again, over what the first run left */
    assert_int_equal(r->n_rows, 4 * 2 * 2);
    fm_bench_free(b);
}

/* No time: a single run each, and the depths are left out. */
static void a_budget_is_kept(void **state)
{
    (void)state;
    struct fm_bench_options o = little();
    const struct fm_bench_result *r;
    struct fm_bench *b = NULL;
    o.budget = 1e-6;
    o.prompt = -1;
    ok(fm_bench_new(&o, &b, &err));
    ok(fm_bench_run(b, &r, &err));
    assert_int_equal(r->n_rows, 4 * 2);
    for (int i = 0; i < r->n_rows; i++) {
        assert_true(r->rows[i].decode);
        assert_int_equal(r->rows[i].runs, r->rows[i].depth == 0);
    }
    fm_bench_free(b);
}

static bool stop_at(void *arg, const char *what, int done, int total)
{
    int *calls = arg;
    (void)what;
    assert_true(done <= total);
    return --*calls > 0;
}

static void stopping(void **state)
{
    (void)state;
    struct fm_bench_options o = little();
    const struct fm_bench_result *r = NULL;
    for (int at = 1; at < 60; at += 7) {
        struct fm_bench *b = NULL;
        int calls = at;
        o.progress = stop_at;
        o.arg = &calls;
        ok(fm_bench_new(&o, &b, &err));
        assert_int_equal(fm_bench_run(b, &r, &err), at < 43 ? FM_ERR_CANCELLED : FM_OK);
        fm_bench_free(b);
        if (at >= 43) break;
    }
    struct fm_bench *b = NULL;
    o.progress = NULL;
    ok(fm_bench_new(&o, &b, &err));
    fm_bench_cancel(b);
    assert_int_equal(fm_bench_run(b, &r, &err), FM_ERR_CANCELLED);
    fm_bench_free(b);
}

static void refused(struct fm_bench_options o, enum fm_status want, const char *why)
{
    struct fm_bench *b = NULL;
    assert_int_equal(fm_bench_new(&o, &b, &err), want);
    assert_null(b);
    if (!strstr(err.message, why)) fail_msg("'%s' does not say '%s'", err.message, why);
}

static void refusals(void **state)
{
    (void)state;
    static const int low[] = {0, -1}, none[] = {0};
    struct fm_bench_options o = little();
    o.depths = low, o.n_depths = 2;
    refused(o, FM_ERR_USAGE, "depth: -1");
    o = little(), o.threads = none, o.n_threads = 1;
    refused(o, FM_ERR_USAGE, "threads: 0");
    o = little(), o.n_threads = 0;
    refused(o, FM_ERR_USAGE, "threads: 0 of them");
    o = little(), o.runs = -1;
    refused(o, FM_ERR_USAGE, "runs");
    o = little(), o.prompt = o.tokens = -1;
    refused(o, FM_ERR_USAGE, "nothing to measure");
    o = little(), o.budget = NAN;
    refused(o, FM_ERR_USAGE, "budget");
    o = little(), o.engine.model = "/no/such.gguf";
    refused(o, FM_ERR_INPUT, "/no/such.gguf");
}

/* Weights that are all zero are no weights. */
static void zeros_are_not_timed(void **state)
{
    (void)state;
    char path[96];
    struct fm_bench_options o = little();
    const struct fm_bench_result *r = NULL;
    struct fm_bench *b = NULL;
    (void)snprintf(path, sizeof path, "%s.zero.gguf", model_path);
    head_scale = 0;
    write_model(path, true);
    head_scale = 1;
    o.engine.model = path;
    ok(fm_bench_new(&o, &b, &err));
    assert_int_equal(fm_bench_run(b, &r, &err), FM_ERR_INPUT);
    assert_non_null(strstr(err.message, "all the same"));
    fm_bench_free(b);
    assert_int_equal(unlink(path), 0);
}

static void memory_may_be_short(void **state)
{
    (void)state;
    const struct fm_bench_options o = little();
    enum fm_status st = FM_ERR_MEMORY;
    for (long n = 1; st && n < 5000; n += n < 60 ? 1 : 23) {
        const struct fm_bench_result *r = NULL;
        struct fm_bench *b = NULL;
        fm_mem_fail_at(n);
        st = fm_bench_new(&o, &b, &err);
        if (!st) st = fm_bench_run(b, &r, &err);
        fm_mem_fail_at(0);
        assert_true(st == FM_ERR_MEMORY || st == FM_OK);
        fm_bench_free(b);
    }
    assert_int_equal(st, FM_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(work_of_tokens),
        cmocka_unit_test(work_of_a_prompt),
        cmocka_unit_test(work_of_latent_attention),
        cmocka_unit_test(limits_of_work),
        cmocka_unit_test(limits_of_this_machine),
        cmocka_unit_test(rows_of_a_model),
        cmocka_unit_test(a_budget_is_kept),
        cmocka_unit_test(stopping),
        cmocka_unit_test(refusals),
        cmocka_unit_test(zeros_are_not_timed),
        cmocka_unit_test(memory_may_be_short),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
