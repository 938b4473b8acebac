/* Collecting importance matrices: observing ops against sums written out; whole models against the same sums over op/ref;
 * the same bits for any number of threads, and for a run that was stopped and resumed. */
#include <math.h>

#include "model/imatrix.h"
#include "op/observe.h"
/* last */
#include "run_testing.h"

static char text_path[64], out_path[64], other_path[64], deepseek_path[64];
enum { CTX = 24, CHUNKS = 5 };

/* ---- single ops ---- */

enum { T = 37, K = 1100, ROWS = 3, H = 4, E = 5 };

struct small {
    struct fm_mat w[8];
    struct fm_observed list[8];
    double sums[8][H * K];
    int64_t counts[8][H];
    float x[T * K], y[T * 64], weights[H * ROWS * K];
};

static void run_small(struct small *s, int threads)
{
    struct fm_pool *pool;
    struct fm_observer o;
    struct fm_ctx c = {.op = &o.ops, .observer = &o};
    static const int32_t start[E + 1] = {0, 10, 10, 11, 30, T};
    struct fm_rng rng;
    fm_rng_init(&rng, 9);
    memset(s, 0, sizeof *s);
    for (int i = 0; i < T * K; i++) s->x[i] = (float)fm_rng_normal(&rng);
    for (int i = 0; i < 8; i++) {
        s->w[i] = fm_mat_of(FM_F32, ROWS, i == 2 ? K / H : K, s->weights);
        if (i == 2) s->w[i].rows = H * ROWS;
        s->list[i] = (struct fm_observed){&s->w[i], i == 2 ? H : 1, s->sums[i], s->counts[i]};
    }
    ok(fm_pool_new(threads, &pool, &err));
    c.pool = pool;
    fm_observer_init(&o, &fm_ops_ref, s->list, 8);
    struct fm_mat unknown = s->w[0];
    c.op->matmul(&c, s->y, ROWS, s->x, K, &s->w[0], T);
    c.op->matmul(&c, s->y, ROWS, s->x, K, &unknown, T);
    c.op->matmul_n(
        &c, 2, (float *[]) { s->y, s->y + T *ROWS }, s->x, K, (const struct fm_mat *[]){&s->w[0], &s->w[1]}, T - 1);
    c.op->matmul_heads(&c, s->y, ROWS * H, ROWS, s->x, K, K / H, &s->w[2], ROWS, 0, ROWS, H, T);
    c.op->matmul_grouped(&c, 1, &(float *){s->y}, s->x, (const struct fm_mat *const[]){&s->w[3]}, start, E);
    c.status = FM_ERR_FAILED; /* a step that failed is no longer observed */
    c.op->matmul(&c, s->y, ROWS, s->x, K, &s->w[0], T);
    fm_pool_free(pool);
}

/* Σ x² of rows begin … end−1, columns k0 + k, k < n. */
static void expect_sums(const struct small *s, const double *sums, double times, int begin, int end, int k0, int n)
{
    for (int k = 0; k < n; k++) {
        double sum = 0;
        for (int t = begin; t < end; t++) sum += (double)s->x[t * K + k0 + k] * (double)s->x[t * K + k0 + k];
        assert_true(fabs(sums[k] - sum * times) <= 1e-12 * sum * times);
    }
}

static void test_ops(void **state)
{
    (void)state;
    static struct small s, again;
    static const int32_t start[E + 1] = {0, 10, 10, 11, 30, T};
    run_small(&s, 1);
    expect_sums(&s, s.sums[1], 1, 0, T - 1, 0, K);
    assert_int_equal(s.counts[0][0], 2 * T - 1);
    assert_int_equal(s.counts[1][0], T - 1);
    for (int h = 0; h < H; h++) {
        expect_sums(&s, s.sums[2] + h * (K / H), 1, 0, T, h * (K / H), K / H);
        assert_int_equal(s.counts[2][h], T);
    }
    for (int e = 0; e < E; e++) {
        expect_sums(&s, s.sums[3 + e], 1, start[e], start[e + 1], 0, K);
        assert_int_equal(s.counts[3 + e][0], start[e + 1] - start[e]);
    }
    for (int threads = 2; threads <= 4; threads++) {
        run_small(&again, threads);
        assert_memory_equal(again.sums, s.sums, sizeof s.sums);
        assert_memory_equal(again.counts, s.counts, sizeof s.counts);
        assert_memory_equal(again.y, s.y, sizeof s.y); /* the products themselves */
    }
}

/* ---- whole models ---- */

static struct fm_calibration_options options(const char *model)
{
    return (struct fm_calibration_options){
        .engine = {.model = model, .threads = 2, .ctx = CTX, .exact = true}, .text = text_path, .out = out_path};
}

static void run_options(const struct fm_calibration_options *o, struct fm_buf *file)
{
    struct fm_calibration *c;
    ok(fm_calibration_new(o, &c, &err));
    ok(fm_calibration_run(c, NULL, NULL, &err));
    assert_int_equal(fm_calibration_done(c), fm_calibration_total(c));
    fm_calibration_free(c);
    fm_buf_clear(file);
    ok(fm_buf_read_file(file, o->out, 1 << 24, &err));
}

static void assert_same_bytes(const struct fm_buf *a, const struct fm_buf *b)
{
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->data, b->data, a->len);
}

/* The obvious recorder, over op/ref: each product with a weight matrix leaves Σ x² in a list of its own. */
static struct record {
    const struct fm_mat *w;
    double sums[512];
    int64_t count;
} records[1024];
static int n_records;

static void note(const struct fm_mat *w, const float *x, size_t ld, int rows)
{
    int i = 0;
    if (rows <= 0) return;
    while (i < n_records && records[i].w != w) i++;
    assert_true(i < 1024 && w->cols <= 512);
    if (i == n_records) records[n_records++].w = w;
    for (int t = 0; t < rows; t++)
        for (int k = 0; k < w->cols; k++) records[i].sums[k] += pow((double)x[(size_t)t * ld + (size_t)k], 2);
    records[i].count += rows;
}

static void note_matmul(struct fm_ctx *c, float *y, size_t ldy, const float *x, size_t ldx, const struct fm_mat *w,
                        int n)
{
    note(w, x, ldx, n);
    fm_ops_ref.matmul(c, y, ldy, x, ldx, w, n);
}

static void note_matmul_n(struct fm_ctx *c, int n, float *const *y, const float *x, size_t ldx,
                          const struct fm_mat *const *w, int rows)
{
    for (int i = 0; i < n; i++) note(w[i], x, ldx, rows);
    fm_ops_ref.matmul_n(c, n, y, x, ldx, w, rows);
}

static void note_grouped(struct fm_ctx *c, int n, float *const *y, const float *x, const struct fm_mat *const *w,
                         const int32_t *start, int groups)
{
    for (int i = 0; i < n; i++)
        for (int e = 0; e < groups; e++) {
            const struct fm_mat *of = &w[i][e];
            note(of, x + (size_t)start[e] * (size_t)of->cols, (size_t)of->cols, start[e + 1] - start[e]);
        }
    fm_ops_ref.matmul_grouped(c, n, y, x, w, start, groups);
}

/* Runs the chunks by op/ref; latent attention expands its latents, since the model is loaded as for training. */
static void record_model(const struct fm_model *m, const int32_t *ids)
{
    struct fm_ops ops = fm_ops_ref;
    struct fm_arena arena;
    int32_t pos[CTX];
    ops.matmul = note_matmul;
    ops.matmul_n = note_matmul_n;
    ops.matmul_grouped = note_grouped;
    ok(fm_arena_init(&arena, "step", 16 << 20, &err));
    memset(records, 0, sizeof records);
    n_records = 0;
    for (int i = 0; i < CTX; i++) pos[i] = i;
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
        struct fm_ctx c = {.op = &ops, .arena = &arena, .exact = true};
        const struct fm_seq seq = {.n = CTX, .segment_n = CTX};
        const struct fm_batch b = {.T = CTX, .n_seqs = 1, .seqs = &seq, .ids = ids + chunk * CTX, .pos = pos};
        fm_arena_reset(&arena, 0);
        float *hidden = fm_ctx_reals(&c, (size_t)CTX * (size_t)m->cfg.D, "hidden");
        float *logits = fm_ctx_reals(&c, (size_t)CTX * (size_t)m->cfg.V, "logits");
        fm_model_forward(&c, &m->cfg, &m->w, m->rope_freq, &b, hidden, NULL);
        fm_model_logits(&c, &m->w, logits, hidden, CTX);
        ok(c.status);
    }
    fm_arena_release(&arena);
}

static void compare(const struct fm_binding *b, const struct fm_imatrix *im, int *seen)
{
    for (int i = 0; i < n_records; i++) {
        if (records[i].w != b->mat) continue;
        const struct fm_imatrix_entry *e = fm_imatrix_find(im, b->gguf);
        const size_t expert = b->expert > 0 ? (size_t)b->expert : 0, K0 = expert * (size_t)b->cols;
        assert_non_null(e);
        assert_int_equal(e->counts[expert], records[i].count);
        double diff = 0, size = 0; /* float32 forward against double sums of another float32 forward */
        for (int k = 0; k < b->cols; k++) {
            diff += pow((double)e->sums[K0 + (size_t)k] - records[i].sums[k], 2);
            size += pow(records[i].sums[k], 2);
        }
        assert_true(sqrt(diff) <= 1e-5 * sqrt(size));
        ++*seen;
    }
}

static void check_model(const char *path)
{
    struct fm_file *f;
    struct fm_model m;
    struct fm_imatrix im;
    struct fm_binding *rows;
    struct fm_tokenizer *t;
    struct fm_ids ids = {0};
    struct fm_buf text = {0}, file = {0};
    int n, seen = 0;
    struct fm_calibration_options o = options(path);
    o.chunks = CHUNKS;
    o.output = true;
    run_options(&o, &file);
    ok(fm_imatrix_open(&im, out_path, &err));
    assert_int_equal(im.chunk_count, CHUNKS);
    assert_int_equal(im.chunk_size, CTX);
    assert_string_equal(im.datasets[0], text_path);

    ok(fm_file_open(path, &f, &err));
    ok(fm_model_load(f, false, &m, &err));
    ok(fm_tokenizer_from_gguf(f, &t, &err));
    ok(fm_buf_read_file(&text, text_path, 1 << 20, &err));
    ok(fm_tokenizer_encode(t, text.data, text.len, 0, &ids, &err));
    record_model(&m, ids.data);
    ok(fm_bindings_new(&m.cfg, &m.w, &rows, &n, &err));
    for (int i = 0; i < n; i++) compare(&rows[i], &im, &seen);
    assert_int_equal(seen, n_records); /* nothing that was multiplied is missing */
    fm_free(rows);
    fm_ids_release(&ids);
    fm_buf_release(&text);
    fm_buf_release(&file);
    fm_tokenizer_close(t);
    fm_model_release(&m);
    fm_file_close(f);
    fm_imatrix_release(&im);
}

static void test_dense_model(void **state)
{
    (void)state;
    check_model(plain_path);
}

static void test_experts_model(void **state)
{
    (void)state;
    check_model(deepseek_path);
}

/* A folder's tensors have other names; the file's are always those of GGUF. */
static void test_folder(void **state)
{
    (void)state;
    struct fm_buf file = {0};
    struct fm_imatrix a, b;
    struct fm_calibration_options o = options(plain_path);
    run_options(&o, &file);
    ok(fm_imatrix_open(&a, out_path, &err));
    o.engine.model = folder_path;
    run_options(&o, &file);
    ok(fm_imatrix_open(&b, out_path, &err));
    assert_int_equal(a.n, b.n);
    for (int i = 0; i < a.n; i++) {
        assert_string_equal(a.entries[i].name, b.entries[i].name);
        for (uint64_t k = 0; k < a.entries[i].n_values; k++) /* heads' rows lie in another order: other roundings */
            assert_true(fabsf(a.entries[i].sums[k] - b.entries[i].sums[k]) <= 1e-4f * a.entries[i].sums[k]);
    }
    fm_imatrix_release(&a);
    fm_imatrix_release(&b);
    fm_buf_release(&file);
}

static void test_same_bits(void **state)
{
    (void)state;
    struct fm_buf one = {0}, two = {0};
    const char *const models[] = {plain_path, deepseek_path};
    for (int exact = 0; exact < 2; exact++)
        for (int i = 0; i < 2; i++) {
            struct fm_calibration_options o = options(models[i]);
            o.engine.exact = exact;
            o.engine.threads = 1;
            run_options(&o, &one);
            o.engine.threads = 3;
            run_options(&o, &two);
            assert_same_bytes(&one, &two);
        }
    fm_buf_release(&one);
    fm_buf_release(&two);
}

/* ---- stopping and going on ---- */

struct stopper {
    struct fm_calibration *c;
    int at;
};

static void stop_at(void *arg, int done, int total)
{
    struct stopper *s = arg;
    assert_true(done > 0 && done <= total);
    if (done == s->at) fm_calibration_cancel(s->c);
}

static void test_resume(void **state)
{
    (void)state;
    struct fm_buf whole = {0}, parts = {0};
    struct fm_calibration_options o = options(deepseek_path);
    run_options(&o, &whole);
    for (int at = 1; at <= 3; at += 2) {
        struct stopper s = {.at = at};
        o.resume = false;
        o.save_every = 2;
        ok(fm_calibration_new(&o, &s.c, &err));
        assert_int_equal(fm_calibration_run(s.c, stop_at, &s, &err), FM_ERR_CANCELLED);
        assert_int_equal(fm_calibration_done(s.c), at);
        fm_calibration_free(s.c);
        struct fm_imatrix im;
        ok(fm_imatrix_open(&im, out_path, &err)); /* it kept what it had */
        assert_int_equal(im.chunk_count, at);
        fm_imatrix_release(&im);
        o.resume = true;
        run_options(&o, &parts);
        assert_same_bytes(&whole, &parts);
    }
    run_options(&o, &parts); /* nothing is left to do */
    assert_same_bytes(&whole, &parts);
    fm_buf_release(&whole);
    fm_buf_release(&parts);
}

static void refuse(const struct fm_calibration_options *o, enum fm_status want, const char *why)
{
    struct fm_calibration *c;
    assert_int_equal(fm_calibration_new(o, &c, &err), want);
    if (!strstr(err.message, why)) fail_msg("'%s' does not say '%s'", err.message, why);
}

static void test_refusals(void **state)
{
    (void)state;
    struct fm_buf file = {0};
    struct fm_calibration_options o = options(plain_path), other;
    run_options(&o, &file);
    other = o;
    other.resume = true;
    other.engine.ctx = CTX + 1;
    refuse(&other, FM_ERR_INPUT, "another text or other options");
    other = o;
    other.resume = true;
    other.first = 1;
    refuse(&other, FM_ERR_INPUT, "another text or other options");
    other = o;
    other.resume = true;
    other.engine.model = deepseek_path;
    refuse(&other, FM_ERR_INPUT, "another model");
    other.out = other_path; /* is not there */
    refuse(&other, FM_ERR_INPUT, other_path);
    other = o;
    other.first = 1 << 20;
    refuse(&other, FM_ERR_INPUT, "are needed");
    other = o;
    other.text = "nowhere.txt";
    refuse(&other, FM_ERR_INPUT, "nowhere.txt");
    other.text = NULL;
    refuse(&other, FM_ERR_USAGE, "the text");
    other = o;
    other.chunks = -1;
    refuse(&other, FM_ERR_USAGE, "negative");
    other = o;
    other.engine.ctx = 1 << 20;
    refuse(&other, FM_ERR_USAGE, "at most");
    fm_buf_release(&file);
}

static void test_merge_of_parts(void **state)
{
    (void)state;
    struct fm_buf file = {0};
    struct fm_calibration_options o = options(deepseek_path);
    struct fm_imatrix whole, sum;
    o.chunks = 4;
    run_options(&o, &file);
    ok(fm_imatrix_open(&whole, out_path, &err));
    char second[80];
    snprintf(second, sizeof second, "%s.2", out_path);
    o.chunks = 2;
    run_options(&o, &file);
    o.first = 2;
    o.out = second;
    run_options(&o, &file);
    ok(fm_importance_merge((const char *[]){out_path, second}, 2, other_path, &err));
    ok(fm_imatrix_open(&sum, other_path, &err));
    assert_int_equal(sum.chunk_count, 4);
    assert_int_equal(sum.n_datasets, 1);
    for (int i = 0; i < whole.n; i++) {
        const struct fm_imatrix_entry *a = &whole.entries[i], *b = &sum.entries[i];
        assert_memory_equal(a->counts, b->counts, a->n_counts * sizeof *a->counts);
        for (uint64_t k = 0; k < a->n_values; k++) /* four roundings on either side */
            assert_true(fabsf(a->sums[k] - b->sums[k]) <= 0x1p-21f * a->sums[k]);
    }
    fm_imatrix_release(&whole);
    fm_imatrix_release(&sum);
    fm_buf_release(&file);
    unlink(second);
    unlink(other_path);
}

static void test_torture(void **state)
{
    (void)state;
    struct fm_calibration_options o = options(deepseek_path);
    struct fm_calibration *c;
    o.chunks = 1;
    o.output = true;
    o.engine.threads = 1;
    long failed = 0, last = 0;
    for (long n = 1; n < last + 100; n += 1 + n / 40) { /* well behind the last one */
        fm_mem_fail_at(n);
        enum fm_status st = fm_calibration_new(&o, &c, &err);
        fm_mem_fail_at(0);
        if (!st) fm_calibration_free(c); /* PCRE2 does without its JIT */
        if (!st) continue;
        assert_int_equal(st, FM_ERR_MEMORY);
        failed++;
        last = n;
    }
    assert_true(failed > 40);
}

/* ---- the run ---- */

static int make_files(void **state)
{
    (void)state;
    static const char deepseek[] =
        "{\"model_type\":\"deepseek_v3\",\"vocab_size\":280,\"hidden_size\":32,\"num_hidden_layers\":3,"
        "\"intermediate_size\":48,\"moe_intermediate_size\":16,\"num_attention_heads\":4,\"num_key_value_heads\":4,"
        "\"n_routed_experts\":6,\"num_experts_per_tok\":2,\"n_shared_experts\":1,\"n_group\":1,\"topk_group\":1,"
        "\"first_k_dense_replace\":1,\"q_lora_rank\":24,\"kv_lora_rank\":16,\"qk_nope_head_dim\":16,"
        "\"qk_rope_head_dim\":8,\"v_head_dim\":16,\"routed_scaling_factor\":1.5,\"norm_topk_prob\":true,"
        "\"scoring_func\":\"sigmoid\",\"topk_method\":\"noaux_tc\",\"max_position_embeddings\":256,"
        "\"rms_norm_eps\":1e-6,\"rope_theta\":10000,\"tie_word_embeddings\":false}";
    struct fm_rng rng;
    struct fm_buf text = {0};
    const int pid = (int)getpid();
    snprintf(plain_path, sizeof plain_path, "/tmp/fathom-calibrate-%d.gguf", pid);
    snprintf(deepseek_path, sizeof deepseek_path, "/tmp/fathom-calibrate-%d-v3.gguf", pid);
    snprintf(text_path, sizeof text_path, "/tmp/fathom-calibrate-%d.txt", pid);
    snprintf(out_path, sizeof out_path, "/tmp/fathom-calibrate-%d-out.gguf", pid);
    snprintf(other_path, sizeof other_path, "/tmp/fathom-calibrate-%d-other.gguf", pid);
    snprintf(folder_path, sizeof folder_path, "/tmp/fathom-calibrate-%d", pid);
    write_model(plain_path, false);
    write_model(folder_path, false);
    write_text_files(folder_path);
    write_model_of(deepseek, deepseek_path, false);
    fm_rng_init(&rng, 3);
    for (int i = 0; i < CHUNKS * CTX + 20; i++) fm_buf_char(&text, (char)(' ' + fm_rng_below(&rng, 90)));
    ok(fm_write_file(text_path, text.data, text.len, &err));
    fm_buf_release(&text);
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    const char *const paths[] = {plain_path, deepseek_path, text_path, out_path};
    for (int i = 0; i < 4; i++) unlink(paths[i]);
    return remove_model_folder(folder_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ops),      cmocka_unit_test(test_dense_model), cmocka_unit_test(test_experts_model),
        cmocka_unit_test(test_folder),   cmocka_unit_test(test_same_bits),   cmocka_unit_test(test_resume),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_torture),     cmocka_unit_test(test_merge_of_parts),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
