/* The sampler against probabilities worked out by hand, and the text stream at every possible cut. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/expd.h"
#include "base/str.h"
#include "run/sampler.h"
#include "run/stream.h"

enum { V = 8, DRAWS = 20000 };

static struct fm_candidate work[V];
static uint8_t seen[V];

static struct fm_sampler sampler(struct fm_sampling how)
{
    struct fm_error err;
    struct fm_sampler s;
    assert_int_equal(fm_sampler_init(&s, &how, V, work, seen, &err), FM_OK);
    return s;
}

static struct fm_sampling everything(float temp, uint64_t seed)
{
    return (struct fm_sampling){.temp = temp, .top_p = 1, .repeat = 1, .repeat_last = 64, .seed = seed};
}

/* ln of 1/2, 1/4, 1/8, … : probabilities that filters cut at known places */
static const float halves[V] = {-0.6931472f, -1.3862944f, -2.0794415f, -2.7725887f,
                                -3.4657359f, -4.158883f,  -4.8520303f, -4.8520303f};

static void exp_is_exp(void **state)
{
    (void)state;
    for (double x = -700; x < 700; x += 0.37) assert_true(fabs(fm_exp_det(x) / exp(x) - 1) < 1e-15);
    assert_true(fm_exp_det(-1000) == 0 && fm_exp_det(0) == 1 && isinf(fm_exp_det(1000)) &&
                isnan(fm_exp_det((double)NAN)));
}

static void greedy_takes_the_best(void **state)
{
    (void)state;
    struct fm_sampler s = sampler(everything(0, 1));
    const float ties[V] = {0, 3, 1, 3, 2, 3, 0, 0}, odd[V] = {NAN, 1, NAN, 2, -HUGE_VALF, NAN, 0, 1};
    const float none[V] = {NAN, NAN, -HUGE_VALF, NAN, NAN, NAN, NAN, NAN},
                infinite[V] = {0, 1, HUGE_VALF, 0, HUGE_VALF, NAN, 0, 0};
    assert_int_equal(fm_sampler_pick(&s, ties, NULL, 0), 1);
    assert_int_equal(fm_sampler_pick(&s, odd, NULL, 0), 3);
    assert_int_equal(fm_sampler_pick(&s, none, NULL, 0), 0);
    assert_int_equal(fm_sampler_pick(&s, infinite, NULL, 0), 2);
    s = sampler(
        (struct fm_sampling){.temp = 1, .top_k = 3, .top_p = 0.5f, .min_p = 0.1f, .repeat = 1.1f, .repeat_last = 8});
    for (int i = 0; i < 100; i++) {
        assert_int_equal(fm_sampler_pick(&s, odd, NULL, 0), 3);
        assert_int_equal(fm_sampler_pick(&s, none, NULL, 0), 0);
        assert_int_equal(fm_sampler_pick(&s, infinite, NULL, 0), 2);
    }
}

static void count(struct fm_sampling how, const float *logits, const int32_t *history, int n, int *counts)
{
    struct fm_sampler s = sampler(how);
    memset(counts, 0, V * sizeof *counts);
    for (int i = 0; i < DRAWS; i++) counts[fm_sampler_pick(&s, logits, history, n)]++;
}

/* Pearson's statistic of counts against weights; degrees of freedom: weights above 0, less one. */
static double chi_square(const int *counts, const double *weight)
{
    double total = 0, sum = 0;
    for (int i = 0; i < V; i++) total += weight[i];
    for (int i = 0; i < V; i++) {
        double want = DRAWS * weight[i] / total;
        if (want <= 0)
            assert_int_equal(counts[i], 0);
        else
            sum += (counts[i] - want) * (counts[i] - want) / want;
    }
    return sum;
}

/* The 1e-4 quantile of chi-square with 7 degrees of freedom is 29.9; fewer are stricter, so this never fails too late. */
static const double LIMIT = 29.9;

static void draws_follow_the_distribution(void **state)
{
    (void)state;
    int counts[V];
    double w[V];
    for (int t = 0; t < 3; t++) {
        const double temp = (const double[]){1, 0.5, 2}[t];
        for (int i = 0; i < V; i++) w[i] = exp((double)halves[i] / temp);
        count(everything((float)temp, 7), halves, NULL, 0, counts);
        assert_true(chi_square(counts, w) < LIMIT);
    }
}

static void filters_cut_where_they_should(void **state)
{
    (void)state;
    int counts[V];
    struct fm_sampling how = everything(1, 3);
    how.top_k = 3;
    count(how, halves, NULL, 0, counts);
    assert_true(chi_square(counts, (const double[V]){4, 2, 1}) < LIMIT);

    how = everything(1, 4);
    how.top_p = 0.7f; /* 1/2 is not enough, 1/2 + 1/4 is */
    count(how, halves, NULL, 0, counts);
    assert_true(chi_square(counts, (const double[V]){2, 1}) < LIMIT);

    how.top_k = 3; /* top-p of what top-k left: 4/7 + 2/7 = 0.86 >= 0.7 */
    count(how, halves, NULL, 0, counts);
    assert_true(chi_square(counts, (const double[V]){2, 1}) < LIMIT);
    how.top_p = 0.55f; /* and 4/7 = 0.571 >= 0.55, though 1/2 of all would not be */
    count(how, halves, NULL, 0, counts);
    assert_int_equal(counts[0], DRAWS);

    how = everything(1, 5);
    how.min_p = 0.2f; /* 1/4 and 1/8 of the best's 1/2 are 0.5 and 0.25; 1/16 is 0.125 */
    count(how, halves, NULL, 0, counts);
    assert_true(chi_square(counts, (const double[V]){4, 2, 1}) < LIMIT);

    how.temp = 1000; /* filters look at temperature 1: the same three, now nearly even */
    count(how, halves, NULL, 0, counts);
    assert_true(chi_square(counts, (const double[V]){1.001, 1, 0.999}) < LIMIT);
}

static void filters_take_the_best_wherever_they_are(void **state)
{
    (void)state;
    int counts[V];
    const float mixed[V] = {-2.0794415f, -4.8520303f, -0.6931472f, -3.4657359f,
                            -2.7725887f, -1.3862944f, -4.158883f,  -4.8520303f};
    struct fm_sampling how = everything(1, 6);
    how.top_k = 2;
    how.top_p = 0.9f;
    count(how, mixed, NULL, 0, counts);
    assert_true(chi_square(counts, (const double[V]){0, 0, 2, 0, 0, 1}) < LIMIT);
    how.top_k = 0;
    count(how, mixed, NULL, 0, counts); /* 1/2 + 1/4 + 1/8 + 1/16 = 0.94 */
    assert_true(chi_square(counts, (const double[V]){2, 0, 8, 0, 1, 4}) < LIMIT);
}

static void repetition_is_penalised_once(void **state)
{
    (void)state;
    const float logits[V] = {4, 3.5f, -1, -1.2f, -9, -9, -9, -9};
    const int32_t history[] = {1, 0, 0, 0, 2, 99, -1};
    struct fm_sampling how = everything(0, 1);
    how.repeat = 1.25f;
    struct fm_sampler s = sampler(how);
    assert_int_equal(fm_sampler_pick(&s, logits, history, 7), 0); /* 3.2 and 2.8: both are divided, once */
    assert_int_equal(fm_sampler_pick(&s, logits, history + 1, 6), 1);
    how.repeat_last = 3; /* sees 2, 99, -1 only */
    s = sampler(how);
    assert_int_equal(fm_sampler_pick(&s, logits, history, 7), 0);
    const float low[V] = {-1, -1.2f, -9, -9, -9, -9, -9, -9}; /* negative ones are multiplied: -1.25 */
    assert_int_equal(fm_sampler_pick(&s, low, (const int32_t[]){0}, 1), 1);
    for (int i = 0; i < V; i++) assert_int_equal(seen[i], 0);
}

static void the_seed_decides(void **state)
{
    (void)state;
    struct fm_sampler a = sampler(everything(1, 11)), b = sampler(everything(1, 11)), c = sampler(everything(1, 12));
    int differ = 0;
    for (int i = 0; i < 200; i++) {
        int32_t x = fm_sampler_pick(&a, halves, NULL, 0);
        assert_int_equal(x, fm_sampler_pick(&b, halves, NULL, 0));
        differ += x != fm_sampler_pick(&c, halves, NULL, 0);
    }
    assert_true(differ > 50);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    struct fm_error err;
    struct fm_sampler s;
    for (int i = 0; i < 8; i++) {
        struct fm_sampling how = fm_sampling_default();
        assert_int_equal(fm_sampler_init(&s, &how, V, work, seen, &err), FM_OK);
        if (i == 0) how.temp = -1;
        if (i == 1) how.temp = NAN;
        if (i == 2) how.top_k = -1;
        if (i == 3) how.top_p = 0;
        if (i == 4) how.top_p = 1.5f;
        if (i == 5) how.min_p = -0.1f;
        if (i == 6) how.repeat = 0;
        if (i == 7) how.min_p = NAN;
        assert_int_equal(fm_sampler_init(&s, &how, V, work, seen, &err), FM_ERR_USAGE);
    }
}

/* ---- stream ---- */

static int pieces_bad;

static bool collect(void *arg, const char *text, size_t n)
{
    pieces_bad += !fm_utf8_valid(text, n) || !n;
    fm_buf_add(arg, text, n);
    return true;
}

/* text cut at a and b must come out as want; stops: NULL-terminated. */
static void stream_of(const char *text, size_t n, size_t a, size_t b, const char *const *stops, const char *want,
                      bool stopped)
{
    struct fm_buf out = {0};
    struct fm_stream s = {.stop = stops, .out = collect, .arg = &out};
    while (stops && stops[s.n_stop]) s.n_stop++;
    pieces_bad = 0;
    assert_true(fm_stream_push(&s, text, a));
    assert_true(fm_stream_push(&s, text + a, b - a));
    assert_true(fm_stream_push(&s, text + b, n - b));
    assert_true(fm_stream_end(&s));
    fm_buf_str(&out, "");
    assert_string_equal(out.data, want);
    assert_int_equal(pieces_bad, 0);
    assert_int_equal(s.stopped, stopped);
    fm_stream_release(&s);
    fm_buf_release(&out);
}

static void at_every_split(const char *text, const char *const *stops, const char *want, bool stopped)
{
    size_t n = strlen(text);
    for (size_t a = 0; a <= n; a++)
        for (size_t b = a; b <= n; b++) stream_of(text, n, a, b, stops, want, stopped);
}

static void stops_at_every_split(void **state)
{
    (void)state;
    static const char *const end[] = {"</s>", "END", NULL}, *const nested[] = {"abcd", "bc", NULL},
                             *const empty[] = {"", NULL};
    static const char *const repeats[] = {"aab", NULL}, *const letter[] = {"\xC3\xA9", NULL};
    at_every_split("hello </s> there", end, "hello ", true);
    at_every_split("no end: </ s> EN D", end, "no end: </ s> EN D", false);
    at_every_split("ENEND</s>", end, "EN", true);
    at_every_split("held back </s", end, "held back </s", false);
    at_every_split("xabcx", nested, "xa", true);
    at_every_split("aaaab", repeats, "aa", true);
    at_every_split("caf\xC3\xA9 au lait", letter, "caf", true);
    at_every_split("text", empty, "text", false);
    at_every_split("</s>", end, "", true);
}

static void code_points_stay_whole(void **state)
{
    (void)state;
    at_every_split("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z", NULL, "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z", false);
    at_every_split("\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x94\xAC", NULL, "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x94\xAC",
                   false);
}

static void broken_bytes_become_replacements(void **state)
{
    (void)state;
    at_every_split("a\xFF"
                   "b",
                   NULL,
                   "a\xEF\xBF\xBD"
                   "b",
                   false);
    at_every_split("\xC3(", NULL, "\xEF\xBF\xBD(", false);
    at_every_split("x\xE2\x82", NULL, "x\xEF\xBF\xBD\xEF\xBF\xBD", false); /* never finished */
}

static bool refuse(void *arg, const char *text, size_t n)
{
    (void)text, (void)n;
    return ++*(int *)arg < 2;
}

static void a_refusal_is_final(void **state)
{
    (void)state;
    int calls = 0;
    struct fm_stream s = {.out = refuse, .arg = &calls};
    for (int i = 0; i < 5; i++) assert_true(fm_stream_push(&s, "x", 1));
    assert_true(fm_stream_end(&s));
    assert_true(s.refused);
    assert_int_equal(calls, 2);
    fm_stream_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_exp),
        cmocka_unit_test(greedy_takes_the_best),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(filters_cut_where_they_should),
        cmocka_unit_test(filters_take_the_best_wherever_they_are),
        cmocka_unit_test(repetition_is_penalised_once),
        cmocka_unit_test(the_seed_decides),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(stops_at_every_split),
        cmocka_unit_test(code_points_stay_whole),
        cmocka_unit_test(broken_bytes_become_replacements),
        cmocka_unit_test(a_refusal_is_final),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
