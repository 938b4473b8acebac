/* What everything stands on: threads, arenas, buffers and UTF-8, JSON, random numbers, checked arithmetic, errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/str.h"

/* ---- threads ---- */

enum { ITEMS = 4096, THREADS_MAX = 8 };

struct count {
    int n, grain, threads;
    int at[ITEMS];                  /* how often item i was handed out */
    atomic_int inside[THREADS_MAX]; /* calls of a thread that run now  */
    atomic_int wrong;
};

static void count_items(void *arg, int begin, int end, int thread)
{
    struct count *c = arg;
    bool piece = begin % c->grain == 0 && (end - begin == c->grain || end == c->n);
    if (!piece || thread < 0 || thread >= c->threads || atomic_fetch_add(&c->inside[thread], 1)) {
        atomic_fetch_add(&c->wrong, 1);
        return;
    }
    for (int i = begin; i < end; i++) c->at[i]++;
    atomic_fetch_sub(&c->inside[thread], 1);
}

/* Every item once, in pieces that start at multiples of grain, no two calls with the same thread number at a time. */
static void count_once(struct fm_pool *p, int n, int grain)
{
    static struct count c;
    memset(&c, 0, sizeof c);
    c.n = n;
    c.grain = n <= grain || fm_pool_size(p) == 1 ? n : grain;
    c.threads = fm_pool_size(p);
    fm_parallel_for(p, n, grain, count_items, &c);
    assert_int_equal(atomic_load(&c.wrong), 0);
    for (int i = 0; i < ITEMS; i++) assert_int_equal(c.at[i], i < n);
}

static struct fm_pool *pool_of(int n)
{
    struct fm_pool *p;
    struct fm_error err;
    assert_int_equal(fm_pool_new(n, &p, &err), FM_OK);
    return p;
}

static void pool_hands_every_item_out_once(void **state)
{
    (void)state;
    static const int sizes[] = {1, 2, 3, 7, 64, 1000, ITEMS}, grains[] = {1, 2, 5, 64, ITEMS};
    for (int threads = 0; threads <= 5; threads++) {
        struct fm_pool *p = threads ? pool_of(threads) : NULL;
        assert_int_equal(fm_pool_size(p), threads ? threads : 1);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (size_t g = 0; g < sizeof grains / sizeof *grains; g++) count_once(p, sizes[i], grains[g]);
        fm_pool_free(p);
    }
}

static void never(void *arg, int begin, int end, int thread)
{
    (void)arg, (void)begin, (void)end, (void)thread;
    fail();
}

static void pool_with_nothing_to_do(void **state)
{
    (void)state;
    struct fm_pool *p = pool_of(3);
    fm_parallel_for(p, 0, 1, never, NULL);
    fm_parallel_for(p, -5, 1, never, NULL);
    fm_pool_free(p);
    fm_pool_free(NULL);
    p = pool_of(0);
    assert_int_equal(fm_pool_size(p), fm_cpu_count());
    fm_pool_free(p);
}

static void threads_stay_within_a_quota(void **state)
{
    (void)state;
    assert_int_equal(fm_cpu_within(8, 0), 8);
    assert_int_equal(fm_cpu_within(8, 2), 2);
    assert_int_equal(fm_cpu_within(8, 2.6), 3);
    assert_int_equal(fm_cpu_within(8, 0.3), 1);
    assert_int_equal(fm_cpu_within(2, 64), 2);
    assert_true(fm_cpu_count() >= 1 && fm_cpu_count() <= fm_cpu_allowed());
}

struct near_end {
    atomic_long sum;
    atomic_int negative;
};

static void add_pieces(void *arg, int begin, int end, int thread)
{
    struct near_end *s = arg;
    (void)thread;
    if (begin < 0 || end <= begin) atomic_fetch_add(&s->negative, 1);
    atomic_fetch_add(&s->sum, (long)end - begin);
}

/* The counter of items runs past the end by a piece per thread: that must not wrap round. */
static void pool_counts_to_the_largest_int(void **state)
{
    (void)state;
    struct fm_pool *p = pool_of(4);
    static const int grains[] = {INT32_MAX - 1, INT32_MAX / 2, INT32_MAX / 3, 1 << 28};
    for (size_t i = 0; i < sizeof grains / sizeof *grains; i++) {
        struct near_end s = {0};
        fm_parallel_for(p, INT32_MAX, grains[i], add_pieces, &s);
        assert_int_equal(atomic_load(&s.negative), 0);
        assert_int_equal(atomic_load(&s.sum), INT32_MAX);
    }
    fm_pool_free(p);
}

struct sums {
    const int *x;
    int *y;
    int add;
};

static void sum_items(void *arg, int begin, int end, int thread)
{
    const struct sums *s = arg;
    (void)thread;
    for (int i = begin; i < end; i++) s->y[i] = s->x[i] + s->add;
}

/* Short jobs one after the other: workers that wake late meet the next job, or none; what a job wrote is there when the
 * call returns, although its arguments lie on the stack; now and then everybody has gone to sleep. */
static void pool_stress(void **state)
{
    (void)state;
    static int a[64], b[64];
    for (int threads = 2; threads <= 5; threads++) {
        struct fm_pool *p = pool_of(threads);
        memset(a, 0, sizeof a);
        for (int round = 0; round < 3000; round++) {
            struct sums s = {round % 2 ? b : a, round % 2 ? a : b, round};
            int n = 2 + round % 63;
            for (int i = n; i < 64; i++) s.y[i] = s.x[i] + round;
            fm_parallel_for(p, n, 1 + round % 3, sum_items, &s);
            if (round % 500 == 499) usleep(2000);
        }
        for (int i = 0; i < 64; i++) assert_int_equal(a[i], 3000 / 2 * 2999);
        fm_pool_free(p);
    }
}

static void pools_come_and_go(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        struct fm_pool *p = pool_of(1 + i % 4);
        if (i % 3) count_once(p, 10 + i, 1);
        fm_pool_free(p);
    }
}

static void pool_without_memory(void **state)
{
    (void)state;
    for (long at = 1; at <= 4; at++) {
        struct fm_pool *p = NULL;
        struct fm_error err = {0};
        fm_mem_fail_at(at);
        assert_int_equal(fm_pool_new(4, &p, &err), FM_ERR_MEMORY);
        fm_mem_fail_at(0);
        assert_null(p);
        assert_true(err.message[0] != 0);
    }
}

/* ---- arenas ---- */

/* The plan of a dry arena is exactly what the same calls need. */
static void arena_plans_what_it_gives(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 64, 65, 0, 4096, 100};
    struct fm_arena dry, a;
    struct fm_error err;
    fm_arena_init_dry(&dry, "test");
    for (size_t i = 0; i < 6; i++) assert_non_null(fm_arena_alloc(&dry, sizes[i], i % 2 ? "odd" : "even"));
    assert_int_equal(dry.peak, 64 + 64 + 128 + 0 + 4096 + 128);
    assert_int_equal(dry.n_tags, 2);
    assert_string_equal(dry.tags[0].tag, "even");
    assert_int_equal(dry.tags[0].bytes + dry.tags[1].bytes, dry.peak);
    assert_int_equal(fm_arena_init(&a, "test", dry.peak, &err), FM_OK);
    for (size_t i = 0; i < 6; i++) {
        char *p = fm_arena_alloc(&a, sizes[i], "item");
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        memset(p, 0xAB, sizes[i]);
    }
    assert_false(a.overflow);
    assert_null(fm_arena_alloc(&a, 1, "one more"));
    assert_true(a.overflow);
    fm_arena_release(&a);
    fm_arena_release(&a); /* twice is fine */
}

static void arena_marks_and_huge_sizes(void **state)
{
    (void)state;
    struct fm_arena a;
    struct fm_error err;
    assert_int_equal(fm_arena_init(&a, "test", 256, &err), FM_OK);
    void *first = fm_arena_alloc(&a, 64, "a");
    size_t mark = fm_arena_mark(&a);
    void *second = fm_arena_alloc(&a, 128, "b");
    fm_arena_reset(&a, mark);
    assert_ptr_equal(fm_arena_alloc(&a, 10, "c"), second);
    assert_ptr_not_equal(first, second);
    assert_int_equal(a.peak, 192);
    for (size_t less = 0; less < 130; less++) assert_null(fm_arena_alloc(&a, SIZE_MAX - less, "too much"));
    fm_arena_release(&a);
    assert_int_equal(fm_arena_init(&a, "test", SIZE_MAX / 2, &err), FM_ERR_MEMORY);
    assert_int_equal(err.code, FM_ERR_MEMORY);
}

/* ---- buffers and UTF-8 ---- */

static void buffer_grows_and_fails_for_good(void **state)
{
    (void)state;
    struct fm_buf b = {0};
    fm_buf_add(&b, NULL, 0);
    assert_string_equal(b.data, "");
    for (int i = 0; i < 1000; i++) fm_buf_printf(&b, "%d,", i);
    assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4);
    assert_int_equal(strlen(b.data), b.len);
    fm_buf_clear(&b);
    fm_buf_str(&b, "ab");
    fm_buf_char(&b, 'c');
    assert_string_equal(b.data, "abc");
    fm_buf_add(&b, "x", SIZE_MAX - 2); /* refused before a byte is read */
    assert_true(b.failed);
    fm_buf_str(&b, "more");
    assert_string_equal(b.data, "abc");
    fm_buf_release(&b);
    assert_false(b.failed);
    fm_mem_fail_at(1);
    fm_buf_str(&b, "lost");
    fm_mem_fail_at(0);
    assert_true(b.failed);
    assert_null(b.data);
    fm_buf_release(&b);
}

static void endings(void **state)
{
    (void)state;
    assert_true(fm_ends_with("a.gguf", ".gguf") && fm_ends_with(".gguf", ".gguf") && fm_ends_with("x", ""));
    assert_false(fm_ends_with("gguf", ".gguf") || fm_ends_with("a.ggufs", ".gguf") || fm_ends_with("", "x"));
}

/* There and back for every code point; what is none does not decode. */
static void utf8_round_trip(void **state)
{
    (void)state;
    struct fm_buf b = {0};
    for (uint32_t c = 0; c < 0x110000; c++) {
        int used, len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        bool surrogate = c >= 0xD800 && c < 0xE000;
        fm_buf_clear(&b);
        fm_buf_utf8(&b, c);
        if (b.len != (size_t)len) fail_msg("U+%04X: %zu bytes", c, b.len);
        int32_t back = fm_utf8_decode(b.data, b.len, &used);
        if (back != (surrogate ? -1 : (int32_t)c) || used != (surrogate ? 1 : len)) fail_msg("U+%04X: %d", c, back);
        if (len > 1 && fm_utf8_decode(b.data, b.len - 1, &used) != -1) fail_msg("U+%04X: cut, yet accepted", c);
    }
    fm_buf_release(&b);
}

static void utf8_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\x80",         "\xBF",         "\xC0\x80",         "\xC1\xBF",         "\xE0\x80\x80",     "\xE0\x9F\xBF",
        "\xED\xA0\x80", "\xED\xBF\xBF", "\xF0\x80\x80\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
        "\xFF",         "\xC3\x28",     "\xE2\x28\xA1",     "\xE2\x82\x28",     "\xF0\x28\x8C\xBC", "\xF0\x90\x8C\x28"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int used = 0;
        assert_int_equal(fm_utf8_decode(bad[i], strlen(bad[i]), &used), -1);
        assert_int_equal(used, 1);
        assert_false(fm_utf8_valid(bad[i], strlen(bad[i])));
    }
    assert_true(fm_utf8_valid("", 0));
    assert_true(fm_utf8_valid("a\0é\xF4\x8F\xBF\xBF", 8));
}

/* ---- files ---- */

static void files_are_read_or_named(void **state)
{
    (void)state;
    char path[] = "/tmp/fathom-base-XXXXXX";
    struct fm_buf b = {0};
    struct fm_map m;
    struct fm_error err;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(fm_map_open(&m, path, &err), FM_OK);
    assert_null(m.data); /* empty */
    fm_map_close(&m);
    assert_int_equal(write(fd, "hello", 5), 5);
    close(fd);
    assert_int_equal(fm_buf_read_file(&b, path, 4, &err), FM_ERR_INPUT);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(fm_buf_read_file(&b, path, 5, &err), FM_OK);
    assert_string_equal(b.data, "hello");
    unlink(path);
    assert_int_equal(fm_map_open(&m, path, &err), FM_ERR_INPUT);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(fm_map_open(&m, "/tmp", &err), FM_ERR_INPUT);
    assert_int_equal(fm_map_open(&m, "/dev/null", &err), FM_ERR_INPUT);
    fm_buf_release(&b);
}

/* ---- JSON ---- */

static json_t *parsed(const char *text)
{
    json_t *j = NULL;
    struct fm_error err;
    assert_int_equal(fm_json_parse(text, strlen(text), "test", &j, &err), FM_OK);
    return j;
}

static void json_getters_fall_back(void **state)
{
    (void)state;
    json_t *j =
        parsed("{\"i\": 7, \"big\": 9007199254740993, \"r\": 1e4, \"half\": 1.5, \"huge\": 1e300, \"s\": \"x\", "
               "\"t\": true, \"null\": null}");
    assert_int_equal(fm_json_int(j, "i", -1), 7);
    assert_int_equal(fm_json_int(j, "big", -1), 9007199254740993);
    assert_int_equal(fm_json_int(j, "r", -1), 10000);
    static const char *const no_int[] = {"half", "huge", "s", "t", "null", "absent"};
    for (size_t i = 0; i < 6; i++) assert_int_equal(fm_json_int(j, no_int[i], -1), -1);
    assert_true(fm_json_num(j, "half", 0) == 1.5 && fm_json_num(j, "i", 0) == 7 && fm_json_num(j, "s", 3) == 3);
    assert_true(fm_json_bool(j, "t", false) && fm_json_bool(j, "i", true) && !fm_json_bool(j, "absent", false));
    assert_string_equal(fm_json_str(j, "s", "?"), "x");
    assert_string_equal(fm_json_str(j, "i", "?"), "?");
    json_decref(j);
    assert_int_equal(fm_json_int(NULL, "i", 5), 5);
}

static void json_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "{", "{} x", "{\"a\":1,\"a\":2}", "[1e999]", "\"\xFF\"", "[1,]", "nul"};
    struct fm_error err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *j = NULL;
        assert_int_equal(fm_json_parse(bad[i], strlen(bad[i]), "place.json", &j, &err), FM_ERR_INPUT);
        assert_non_null(strstr(err.message, "place.json"));
        assert_null(j);
    }
    char deep[20001];
    memset(deep, '[', 20000);
    deep[20000] = 0;
    json_t *j = NULL;
    assert_int_equal(fm_json_parse(deep, 20000, "deep", &j, &err), FM_ERR_INPUT);
}

/* ---- numbers ---- */

/* First outputs for seed 1, worked out by another program from the authors' reference code. */
static void random_numbers_are_the_published_ones(void **state)
{
    (void)state;
    struct fm_rng r;
    fm_rng_init(&r, 1);
    static const uint64_t state_1[] = {0x910A2DEC89025CC1u, 0xBEEB8DA1658EEC67u, 0xF893A2EEFB32555Eu,
                                       0x71C18690EE42C90Bu};
    static const uint64_t first[] = {0xB3F2AF6D0FC710C5u, 0x853B559647364CEAu, 0x92F89756082A4514u,
                                     0x642E1C7BC266A3A7u};
    assert_memory_equal(r.s, state_1, sizeof state_1);
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) assert_true(fm_rng_u64(&r) == first[i]);
}

static void random_numbers_stay_in_range(void **state)
{
    (void)state;
    struct fm_rng r;
    int seen[7] = {0};
    double sum = 0, squares = 0;
    fm_rng_init(&r, 42);
    for (int i = 0; i < 70000; i++) {
        double u = fm_rng_uniform(&r), z = fm_rng_normal(&r);
        uint64_t k = fm_rng_below(&r, 7);
        assert_true(u >= 0 && u < 1 && k < 7 && z >= -6 && z <= 6);
        seen[k]++;
        sum += z;
        squares += z * z;
    }
    for (int k = 0; k < 7; k++) assert_in_range(seen[k], 9500, 10500); /* 5 standard deviations are 463 */
    assert_true(sum / 70000 > -0.02 && sum / 70000 < 0.02 && squares / 70000 > 0.97 && squares / 70000 < 1.03);
    assert_true(fm_rng_below(&r, 1) == 0);
    for (int i = 0; i < 100; i++) assert_true(fm_rng_below(&r, UINT64_MAX) < UINT64_MAX);
}

static void checked_arithmetic(void **state)
{
    (void)state;
    size_t out = 5;
    assert_true(fm_mul_size(SIZE_MAX, 1, &out) && out == SIZE_MAX);
    assert_true(fm_mul_size(0, SIZE_MAX, &out) && out == 0);
    assert_false(fm_mul_size(SIZE_MAX / 2 + 1, 2, &out));
    assert_int_equal(out, 0); /* untouched */
    assert_true(fm_add_size(SIZE_MAX - 1, 1, &out) && out == SIZE_MAX);
    assert_false(fm_add_size(SIZE_MAX, 1, &out));
    assert_true(out == SIZE_MAX);
}

/* ---- memory and errors ---- */

static void allocation_fails_on_demand(void **state)
{
    (void)state;
    fm_mem_fail_at(2);
    void *a = fm_malloc(0), *b = fm_malloc(8), *c = fm_strdup("c");
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    fm_free(a);
    fm_free(c);
    char *pages = fm_pages_alloc((size_t)5 << 20);
    assert_non_null(pages);
    assert_int_equal((uintptr_t)pages % 64, 0);
    for (size_t i = 0; i < (size_t)5 << 20; i += 4096) assert_int_equal(pages[i], 0);
    fm_pages_free(pages, (size_t)5 << 20);
    assert_null(fm_pages_alloc(SIZE_MAX / 2));
}

static void errors_are_one_line(void **state)
{
    (void)state;
    struct fm_error err;
    fm_hint(&err, "old");
    assert_int_equal(fm_fail(&err, FM_ERR_INPUT, "open: %s", "a\nb\tc\x7F\x1B[31m"), FM_ERR_INPUT);
    assert_string_equal(err.message, "open: a?b?c??[31m");
    assert_string_equal(err.hint, "");
    assert_int_equal(fm_fail(NULL, FM_ERR_DISK, "nobody listens"), FM_ERR_DISK);
    fm_hint(NULL, "nobody listens");
    char longer[sizeof err.message + 100];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = 0;
    (void)fm_fail(&err, FM_ERR_INPUT, "%s", longer);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool_hands_every_item_out_once),
        cmocka_unit_test(pool_with_nothing_to_do),
        cmocka_unit_test(threads_stay_within_a_quota),
        cmocka_unit_test(pool_counts_to_the_largest_int),
        cmocka_unit_test(pool_stress),
        cmocka_unit_test(pools_come_and_go),
        cmocka_unit_test(pool_without_memory),
        cmocka_unit_test(arena_plans_what_it_gives),
        cmocka_unit_test(arena_marks_and_huge_sizes),
        cmocka_unit_test(buffer_grows_and_fails_for_good),
        cmocka_unit_test(endings),
        cmocka_unit_test(utf8_round_trip),
        cmocka_unit_test(utf8_refuses),
        cmocka_unit_test(files_are_read_or_named),
        cmocka_unit_test(json_getters_fall_back),
        cmocka_unit_test(json_refuses),
        cmocka_unit_test(random_numbers_are_the_published_ones),
        cmocka_unit_test(random_numbers_stay_in_range),
        cmocka_unit_test(checked_arithmetic),
        cmocka_unit_test(allocation_fails_on_demand),
        cmocka_unit_test(errors_are_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
