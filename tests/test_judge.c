/* Perplexity, divergence and their files, on tiny models made here, against plain sums in double. */
#include <math.h>
#include <sys/stat.h>

#include "run/logprob.h"
#include "run/reference.h"
#include "run/windows.h"
#include "run_testing.h"

enum { V = 280, N = 200 };
static char uniform_path[64], other_path[64], file_path[64], state_path[80], own_state[80], partial_path[80];
static int32_t ids[N];
static bool quick;

static double near(double a, double b) { return fabs(a - b) / (1 + fabs(b)); }

/* ---- rows ------------------------------------------------------------------------------------------------------ */

static void random_row(float *z, int n, uint64_t seed, double scale)
{
    struct fm_rng rng;
    fm_rng_init(&rng, seed);
    for (int i = 0; i < n; i++) z[i] = (float)(scale * fm_rng_normal(&rng));
}

static void rows_equal_plain_sums(void **state)
{
    (void)state;
    static float z[V], y[V];
    for (int n = 1; n <= 40; n++) {
        random_row(z, n, (uint64_t)n, 10);
        random_row(y, n, (uint64_t)n + 1000, 3);
        double p = 0, q = 0, kld = 0;
        for (int i = 0; i < n; i++) p += exp((double)z[i]), q += exp((double)y[i]);
        for (int i = 0; i < n; i++) kld += exp((double)z[i]) / p * ((double)z[i] - log(p) - (double)y[i] + log(q));
        const struct fm_row_pair r = fm_row_compare(z, y, n);
        assert_true(near(fm_row_lse(z, n), log(p)) < 1e-13); /* 40 roundings of 1e-16 and 7e-15 of the series */
        assert_true(near(r.lse_p, log(p)) < 1e-13 && near(r.lse_q, log(q)) < 1e-13);
        assert_true(near(r.kld, kld) < 1e-12); /* |z − y| up to 50 */
        assert_true(fm_row_lse(z, n) == r.lse_p && fm_row_lse(y, n) == r.lse_q);
        assert_true(fm_row_compare(z, z, n).kld == 0);
    }
    const float a[2] = {logf(3), 0}, b[2] = {5, 5}; /* 3/4, 1/4 against halves */
    assert_true(near(fm_row_compare(a, b, 2).kld, 0.75 * log(1.5) + 0.25 * log(0.5)) < 1e-7);
    for (double x = 1e-300; x < 1e300; x *= 1.7e3) assert_true(near(fm_log_det(x), log(x)) < 1e-15);
    assert_int_equal(fm_row_top((const float[]){1, 3, 3, 2}, 4), 1);
}

static void rows_without_numbers_are_seen(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    float z[17], y[17];
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 17; i++) {
            random_row(z, 17, 1, 1);
            random_row(y, 17, 2, 1);
            z[i] = bad[k];
            assert_true(isnan(fm_row_lse(z, 17)));
            assert_true(isnan(fm_row_compare(z, y, 17).kld) && isnan(fm_row_compare(y, z, 17).kld));
        }
    z[3] = 1e4f, z[5] = -1e30f; /* large is no failure */
    for (int i = 0; i < 17; i++) z[i] = isfinite(z[i]) ? z[i] : 0;
    assert_true(near(fm_row_lse(z, 17), 1e4) < 1e-15);
}

static void sixteen_bits_keep_what_they_can(void **state)
{
    (void)state;
    static float z[V + 1];
    static uint16_t words[V + 8];
    static const int lengths[] = {1, 2, 7, V, V + 1};
    static const double scales[] = {0, 1e-3, 1, 30};
    for (int l = 0; l < 5; l++)
        for (int k = 0; k < 4; k++) {
            const int n = lengths[l];
            random_row(z, n, 7, scales[k]);
            const double lse = fm_row_lse(z, n), top = (double)z[fm_row_top(z, n)];
            fm_row_encode(words, z, n, lse);
            assert_true(fm_row_is_coded(words));
            assert_int_equal(fm_coded_words(n) % 2, 0);
            for (int i = 0; i < n;
                 i++) { /* half a step of at most 16/65535, and float roundings of numbers below 128 */
                const double kept = (double)z[i] > top - 16 ? (double)z[i] : top - 16;
                assert_true(fabs(fm_coded_logprob(words, i) - (kept - lse)) < 0.5 * 16 / 65535 + 128 * 1.2e-7);
            }
            assert_true(fabs(fm_coded_logprob(words, fm_coded_top(words, n)) - (top - lse)) < 1e-4);
        }
    struct {
        float scale, low;
    } bad[] = {{NAN, -1}, {1e-4f, NAN}, {1e-4f, INFINITY}, {-1e-4f, -1}, {1e-4f, -1}, {0, 1}, {INFINITY, -1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memcpy(words, &bad[i], 8);
        assert_false(fm_row_is_coded(words));
    }
}

/* ---- runs ------------------------------------------------------------------------------------------------------ */

static enum fm_status try_judge(struct fm_engine *e, struct fm_judge_options o, struct fm_judge_result *r)
{
    struct fm_judge *j = NULL;
    if (!o.ids && !o.reference) o.ids = ids, o.n_ids = N;
    memset(r, 0, sizeof *r); /* results are compared byte by byte */
    enum fm_status st = fm_judge_new(e, &o, &j, &err);
    if (!st) st = fm_judge_run(j, r, &err);
    fm_judge_free(j);
    r->seconds = 0;
    return st;
}

static struct fm_judge_result judge(struct fm_engine *e, struct fm_judge_options o)
{
    struct fm_judge_result r;
    ok(try_judge(e, o, &r));
    return r;
}

static bool same_result(struct fm_judge_result a, struct fm_judge_result b)
{
    a.tokens = b.tokens; /* what a run had to compute may differ */
    return !memcmp(&a, &b, sizeof a);
}

struct plain {
    double nll, kld, p_diff;
    int n, same;
};

static double plain_logprob(const float *z, int i)
{
    double sum = 0;
    for (int k = 0; k < V; k++) sum += exp((double)z[k]);
    return (double)z[i] - log(sum);
}

/* One window at a time through a session, base and q fed alike. */
static struct plain plainly(struct fm_engine *base, struct fm_engine *q, int ctx, int chunks)
{
    struct plain p = {0};
    float *z = malloc((size_t)ctx * V * sizeof *z), *y = malloc((size_t)ctx * V * sizeof *y);
    struct fm_session *s = session(base, 0), *t = session(q, 0);
    for (int c = 0; c < chunks; c++) {
        const int32_t *w = ids + c * ctx;
        fm_session_rewind(s, 0);
        fm_session_rewind(t, 0);
        ok(fm_session_feed(s, w, ctx, z, &err));
        ok(fm_session_feed(t, w, ctx, y, &err));
        for (int i = ctx / 2; i < ctx - 1; i++, p.n++) {
            const float *zi = z + i * V, *yi = y + i * V;
            const double b = plain_logprob(zi, w[i + 1]), m = plain_logprob(yi, w[i + 1]);
            p.nll -= m;
            p.p_diff += exp(m) - exp(b);
            p.same += fm_row_top(zi, V) == fm_row_top(yi, V);
            for (int k = 0; k < V; k++) {
                const double lp = plain_logprob(zi, k);
                p.kld += exp(lp) * (lp - plain_logprob(yi, k));
            }
        }
    }
    fm_session_free(s);
    fm_session_free(t);
    free(z);
    free(y);
    return p;
}

static void results_equal_plain_sums(void **state)
{
    (void)state;
    static const int lengths[] = {3, 4, 16, 67, 200};
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = N});
    struct fm_engine *o = engine((struct fm_engine_options){.ctx = N, .model = other_path});
    for (int i = quick ? 2 : 0; i < (quick ? 3 : 5); i++) {
        const int ctx = lengths[i];
        const struct plain p = plainly(o, e, ctx, N / ctx);
        const struct fm_judge_result r = judge(e, (struct fm_judge_options){.ctx = ctx, .base = o}),
                                     alone = judge(e, (struct fm_judge_options){.ctx = ctx});
        assert_int_equal(r.scored, p.n);
        assert_int_equal(r.chunks, N / ctx);
        assert_true(near(r.nll.value, p.nll / p.n) < 1e-12 && near(r.ppl.value, exp(p.nll / p.n)) < 1e-11);
        assert_true(near(r.kld.value, p.kld / p.n) < 1e-12 && near(r.p_diff.value, p.p_diff / p.n) < 1e-12);
        assert_true(near(r.same_top.value, (double)p.same / p.n) < 1e-15);
        assert_true(r.kld.value > 0.01 && r.same_top.value < 1); /* the models do differ */
        assert_true(near(r.ratio.value, r.ppl.value / r.ppl_base.value) < 1e-12);
        assert_true(alone.nll.value == r.nll.value && alone.nll.error == r.nll.error && !alone.compared);
        assert_true(judge(o, (struct fm_judge_options){.ctx = ctx}).nll.value == log(r.ppl_base.value) ||
                    near(judge(o, (struct fm_judge_options){.ctx = ctx}).ppl.value, r.ppl_base.value) < 1e-15);
        assert_true(r.kld_quantiles[0] >= 0 && r.kld_quantiles[11] >= r.kld_quantiles[5]);
    }
    fm_engine_close(e);
    fm_engine_close(o);
}

static void known_models_give_known_numbers(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 32});
    struct fm_engine *u = engine((struct fm_engine_options){.ctx = 32, .model = uniform_path});
    struct fm_judge_result r = judge(u, (struct fm_judge_options){.ctx = 32});
    assert_true(near(r.ppl.value, V) < 1e-13); /* 90 additions of 5.6 */
    assert_true(r.nll.error < 1e-7);           /* the root of Σx²/n − mean², which is rounded at 1e-14 */
    r = judge(e, (struct fm_judge_options){.ctx = 32, .base = e});
    assert_true(r.kld.value == 0 && r.kld.error == 0 && r.kld_quantiles[0] == 0 && r.kld_quantiles[11] == 0);
    assert_true(r.same_top.value == 1 && r.p_diff_rms.value == 0 && r.ratio.value == 1);
    assert_true(near(r.correlation, 1) < 1e-9 && r.ln_ratio.error < 1e-7);
    r = judge(u, (struct fm_judge_options){.ctx = 32, .base = e}); /* Σ p·ln p + ln V <= ln V */
    assert_true(r.kld.value > 0 && r.kld_quantiles[11] <= log(V));
    /* bytes: every id is a token of the tokenizer, whose pieces the text consists of */
    double bytes = 0;
    for (int c = 0; c < N / 32; c++)
        for (int i = 17; i < 32; i++) {
            size_t n;
            (void)fm_tokenizer_piece(e->tok, ids[c * 32 + i], &n);
            bytes += (double)n;
        }
    r = judge(u, (struct fm_judge_options){.ctx = 32});
    assert_true(near(r.bits_per_byte, (double)r.scored * log2(V) / bytes) < 1e-13);
    fm_engine_close(e);
    fm_engine_close(u);
}

static void threads_and_steps_change_no_bit(void **state)
{
    (void)state;
    struct fm_engine *one = engine((struct fm_engine_options){.ctx = N, .threads = 1});
    struct fm_engine *two = engine((struct fm_engine_options){.ctx = N, .threads = 2});
    struct fm_engine *o = engine((struct fm_engine_options){.ctx = N, .model = other_path});
    for (int ctx = 5; ctx < N; ctx *= 3) {
        const struct fm_judge_result a = judge(one, (struct fm_judge_options){.ctx = ctx, .base = o});
        assert_true(same_result(a, judge(two, (struct fm_judge_options){.ctx = ctx, .base = o})));
    }
    /* the rows that a window computes are those of a session, bit for bit */
    struct fm_windows w;
    atomic_bool cancel = false;
    static float all[16 * V];
    struct fm_session *s = session(one, 0);
    ok(fm_windows_init(&w, two, 16, &cancel, &err));
    assert_true(w.lanes > 3 && w.block >= 21);
    ok(fm_windows_forward(&w, ids, 3, 9, &err));
    ok(fm_windows_logits(&w, 0, 21, &err));
    for (int c = 0; c < 3; c++) {
        int32_t fed[16];
        memcpy(fed, ids + 16 * c, sizeof fed);
        fed[0] = 9;
        fm_session_rewind(s, 0);
        ok(fm_session_feed(s, fed, 16, all, &err));
        assert_memory_equal(w.logits + c * 7 * V, all + 8 * V, 7 * V * sizeof *all);
    }
    fm_windows_release(&w);
    fm_session_free(s);
    fm_engine_close(one);
    fm_engine_close(two);
    fm_engine_close(o);
}

/* ---- files ----------------------------------------------------------------------------------------------------- */

static void file_agrees_with_model(void **state)
{
    (void)state;
    int ctx, chunks;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 20});
    struct fm_engine *o = engine((struct fm_engine_options){.ctx = 20, .model = other_path});
    const struct fm_judge_result made = judge(o, (struct fm_judge_options){.ctx = 20, .save = file_path});
    struct stat st;
    assert_int_equal(stat(file_path, &st), 0);
    assert_int_equal((uint64_t)st.st_size, fm_reference_bytes(20, V, 10));
    assert_true(access(own_state, F_OK) && access(partial_path, F_OK));
    assert_true(fm_judge_is_reference(file_path) && !fm_judge_is_reference(model_path));
    ok(fm_judge_reference(file_path, &ctx, &chunks, &err));
    assert_true(ctx == 20 && chunks == 10);
    const struct fm_judge_result model = judge(e, (struct fm_judge_options){.ctx = 20, .base = o}),
                                 file = judge(e, (struct fm_judge_options){.reference = file_path}),
                                 text = judge(
                                     e, (struct fm_judge_options){.reference = file_path, .ids = ids, .n_ids = N}),
                                 self = judge(o, (struct fm_judge_options){.reference = file_path});
    assert_true(file.nll.value == model.nll.value && same_result(file, text));
    /* each ln p, none below −16, is off by half a step of 16/65535 at most, 1.3e-4 with roundings */
    assert_true(fabs(log(file.ppl_base.value) - made.nll.value) < 1.3e-4);
    assert_true(fabs(file.kld.value - model.kld.value) < 1.3e-4 * (1 + 20)); /* mean |ln p − ln q| < 20 */
    assert_true(fabs(self.kld.value) < 1.3e-4 && self.same_top.value > 0.99);
    assert_int_equal(judge(e, (struct fm_judge_options){.reference = file_path, .chunks = 3}).chunks, 3);
    fm_engine_close(e);
    fm_engine_close(o);
}

static unsigned char *read_all(const char *path, size_t *n)
{
    struct fm_buf b = {0};
    ok(fm_buf_read_file(&b, path, 1 << 24, &err));
    *n = b.len;
    return (unsigned char *)b.data;
}

static void write_all(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(data, 1, n, f) == n && !fclose(f));
}

static void hostile_files_are_refused(void **state)
{
    (void)state;
    size_t n;
    struct fm_judge_result r;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 8});
    const struct fm_judge_options o = {.reference = file_path};
    (void)judge(e, (struct fm_judge_options){.ctx = 8, .chunks = 2, .save = file_path});
    unsigned char *good = read_all(file_path, &n);
    for (size_t k = 0; k < n; k += quick && k > 100 ? 97 : 1) {
        write_all(file_path, good, k);
        assert_int_equal(try_judge(e, o, &r), FM_ERR_INPUT);
        assert_non_null(strstr(err.message, file_path));
    }
    const size_t front = 20 + 2 * 8 * 4;
    for (size_t k = 0; k < front + 8; k++) /* every byte of shape, tokens and the first row's head */
        for (int bit = 0; bit < 8; bit++) {
            good[k] ^= (unsigned char)(1 << bit);
            write_all(file_path, good, n);
            const enum fm_status st = try_judge(e, o, &r);
            assert_true(st == FM_OK || st == FM_ERR_INPUT);
            if (k < 20) assert_int_equal(st, FM_ERR_INPUT);
            good[k] ^= (unsigned char)(1 << bit);
        }
    static const uint32_t sizes[] = {0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff, 1 << 24};
    for (int k = 0; k < 7 * 7 * 7; k++) {
        const uint32_t head[] = {sizes[k % 7], sizes[k / 7 % 7], sizes[k / 49]};
        memcpy(good + 8, head, sizeof head);
        write_all(file_path, good, n);
        assert_int_equal(try_judge(e, o, &r), FM_ERR_INPUT);
    }
    fm_free(good);
    fm_engine_close(e);
}

struct stopper {
    int at; /* windows after which to stop */
};

static bool stop_at(void *arg, const struct fm_judge_progress *p)
{
    const struct stopper *s = arg;
    return p->done < s->at || p->done == p->total;
}

/* Stopped behind every step and taken up again: the same bits, in the result and in the file. */
static void going_on_is_not_noticed(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 48, .threads = 1});
    struct fm_engine *more = engine((struct fm_engine_options){.ctx = 48, .threads = 2});
    struct fm_engine *b = engine((struct fm_engine_options){.ctx = 48, .model = other_path});
    size_t n, m;
    struct stopper stop = {1};
    struct fm_judge_result r;
    static int32_t text[3000];
    some_ids(text, 3000, 77);
    struct fm_judge_options o = {.ids = text, .n_ids = 3000, .ctx = 48, .base = b, .save = file_path};
    const struct fm_judge_result whole = judge(e, o);
    unsigned char *want = read_all(file_path, &n);
    assert_int_equal(unlink(file_path), 0);
    o.progress = stop_at;
    o.arg = &stop;
    int pieces = 1;
    for (; try_judge(pieces % 2 ? e : more, o, &r) == FM_ERR_CANCELLED; pieces++) {
        struct fm_judge *j;
        ok(fm_judge_new(e, &o, &j, &err));
        stop.at = fm_judge_done(j) + 1;
        assert_int_equal(fm_judge_total(j), 62);
        fm_judge_free(j);
        assert_true(!access(own_state, F_OK) && access(file_path, F_OK));
        if (pieces == 2) { /* rows of a step that was cut short */
            FILE *f = fopen(partial_path, "ab");
            assert_true(f && fputs("half a row", f) >= 0 && !fclose(f));
        }
    }
    assert_true(pieces > 5);
    assert_true(same_result(r, whole));
    unsigned char *have = read_all(file_path, &m);
    assert_int_equal(m, n);
    assert_memory_equal(have, want, n);
    assert_true(access(own_state, F_OK) && access(partial_path, F_OK));
    fm_free(want);
    fm_free(have);
    fm_engine_close(e);
    fm_engine_close(more);
    fm_engine_close(b);
}

static void foreign_states_are_refused(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 20}), *x;
    struct fm_engine *b = engine((struct fm_engine_options){.ctx = 20, .model = other_path});
    struct stopper stop = {1};
    struct fm_judge_result r;
    struct fm_judge_options o = {.ctx = 20, .state = state_path, .base = b}, other;
    const struct fm_judge_result done = judge(e, o);
    assert_true(same_result(done, judge(e, o))); /* nothing is computed again … */
    assert_int_equal(judge(e, o).tokens, 0);
    size_t n;
    unsigned char *good = read_all(state_path, &n);
    (void)(other = o, other.base = NULL);
    assert_int_equal(try_judge(e, other, &r), FM_ERR_INPUT);
    (void)(other = o, other.ctx = 10);
    assert_int_equal(try_judge(e, other, &r), FM_ERR_INPUT);
    (void)(other = o, other.chunks = 2);
    assert_int_equal(try_judge(e, other, &r), FM_ERR_INPUT);
    static int32_t changed[N];
    memcpy(changed, ids, sizeof changed);
    changed[N - 1] ^= 1;
    (void)(other = o, other.ids = changed, other.n_ids = N);
    assert_int_equal(try_judge(e, other, &r), FM_ERR_INPUT);
    assert_non_null(strstr(err.message, "another text"));
    assert_int_equal(try_judge(b, o, &r), FM_ERR_INPUT);
    assert_non_null(strstr(err.message, "another model"));
    x = engine((struct fm_engine_options){.ctx = 20, .exact = true});
    assert_int_equal(try_judge(x, o, &r), FM_ERR_INPUT);
    assert_non_null(strstr(err.message, "other arithmetic"));
    for (size_t k = 0; k < n; k += quick ? 31 : 1) { /* cut, and one bit changed */
        write_all(state_path, good, k);
        assert_int_equal(try_judge(e, o, &r), FM_ERR_INPUT);
        good[k] ^= 16;
        write_all(state_path, good, n);
        assert_int_equal(try_judge(e, o, &r), FM_ERR_INPUT);
        good[k] ^= 16;
    }
    (void)unlink(state_path);
    stop.at = 0; /* cancelled before the first step: no state */
    o.progress = stop_at, o.arg = &stop;
    assert_int_equal(try_judge(e, o, &r), FM_ERR_CANCELLED);
    assert_true(access(state_path, F_OK));
    fm_free(good);
    fm_engine_close(e);
    fm_engine_close(b);
    fm_engine_close(x);
}

static void wrong_requests_are_refused(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 20});
    struct fm_judge_result r;
    int32_t bad[40] = {0};
    assert_int_equal(try_judge(e, (struct fm_judge_options){.ctx = 2}, &r), FM_ERR_USAGE);
    assert_int_equal(try_judge(e, (struct fm_judge_options){.ctx = -5}, &r), FM_ERR_USAGE);
    assert_int_equal(try_judge(e, (struct fm_judge_options){.chunks = -1}, &r), FM_ERR_USAGE);
    assert_int_equal(try_judge(e, (struct fm_judge_options){.ctx = N + 1}, &r), FM_ERR_INPUT);
    assert_true(*err.hint);
    assert_int_equal(try_judge(e, (struct fm_judge_options){.base = e, .reference = model_path}, &r), FM_ERR_USAGE);
    assert_int_equal(try_judge(e, (struct fm_judge_options){.reference = model_path}, &r), FM_ERR_INPUT);
    assert_int_equal(try_judge(e, (struct fm_judge_options){.reference = "no/such/file"}, &r), FM_ERR_INPUT);
    assert_int_equal(try_judge(e, (struct fm_judge_options){.ctx = 20, .save = "no/such/folder/x"}, &r), FM_ERR_DISK);
    assert_int_equal(try_judge(e, (struct fm_judge_options){.ctx = 20, .save = "/tmp"}, &r), FM_ERR_USAGE);
    bad[7] = V;
    assert_int_equal(try_judge(e, (struct fm_judge_options){.ids = bad, .n_ids = 40, .ctx = 20}, &r), FM_ERR_INPUT);
    bad[7] = -1;
    assert_int_equal(try_judge(e, (struct fm_judge_options){.ids = bad, .n_ids = 40, .ctx = 20}, &r), FM_ERR_INPUT);
    fm_engine_close(e);
}

static void memory_may_be_short(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 20, .threads = 1});
    struct fm_engine *b = engine((struct fm_engine_options){.ctx = 20, .threads = 1, .model = other_path});
    const struct fm_judge_options o = {.ctx = 20, .base = b, .save = file_path};
    struct fm_judge_result r;
    enum fm_status st = FM_ERR_MEMORY;
    long n = 1;
    for (; n < 500 && st; n++) {
        fm_mem_fail_at(n);
        st = try_judge(e, o, &r);
        fm_mem_fail_at(0);
        assert_true(st == FM_OK || st == FM_ERR_MEMORY);
        if (access(own_state, F_OK) == 0) assert_int_equal(unlink(own_state), 0);
    }
    assert_true(n > 8 && st == FM_OK);
    fm_engine_close(e);
    fm_engine_close(b);
}

/* ---- */

static int make_models(void **state)
{
    (void)state;
    const struct {
        char *at;
        const char *name;
    } names[] = {{model_path, "judge"}, {uniform_path, "judge-uniform"}, {other_path, "judge-other"}};
    static const double scales[] = {1, 0, 0.3};
    for (int i = 0; i < 3; i++) {
        (void)snprintf(names[i].at, 64, "/tmp/fathom-%s-%d.gguf", names[i].name, (int)getpid());
        head_scale = scales[i];
        weights_seed = (uint64_t)(5 + i);
        write_model(names[i].at, false);
    }
    (void)snprintf(file_path, sizeof file_path, "/tmp/fathom-judge-%d.logits", (int)getpid());
    (void)snprintf(own_state, sizeof own_state, "%s.state", file_path);
    (void)snprintf(partial_path, sizeof partial_path, "%s.partial", file_path);
    (void)snprintf(state_path, sizeof state_path, "/tmp/fathom-judge-%d.state", (int)getpid());
    some_ids(ids, N, 3);
    return 0;
}

static int remove_models(void **state)
{
    (void)state;
    const char *const all[] = {model_path, uniform_path, other_path, file_path, own_state, partial_path, state_path};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) (void)unlink(all[i]);
    return 0;
}

int main(int argc, char **argv)
{
    quick = argc > 1 && !strcmp(argv[1], "--quick");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_equal_plain_sums),           cmocka_unit_test(rows_without_numbers_are_seen),
        cmocka_unit_test(sixteen_bits_keep_what_they_can), cmocka_unit_test(results_equal_plain_sums),
        cmocka_unit_test(known_models_give_known_numbers), cmocka_unit_test(threads_and_steps_change_no_bit),
        cmocka_unit_test(file_agrees_with_model),          cmocka_unit_test(hostile_files_are_refused),
        cmocka_unit_test(going_on_is_not_noticed),         cmocka_unit_test(foreign_states_are_refused),
        cmocka_unit_test(wrong_requests_are_refused),      cmocka_unit_test(memory_may_be_short),
    };
    return cmocka_run_group_tests(tests, make_models, remove_models);
}
