/* Caches of every type, on every family's golden model: the same bits for any threads, chunk and history; near to f32; the
 * memory that was planned; refusals. */
#include <math.h>

#include "op/kv_tile.h"
#include "run_testing.h"

enum { N = 150, CTX = 160 };

static const char *const types[] = {"f32", "bf16", "q8_0"};
static const char *const folders[] = {
    "tests/golden/llama-tied-scaled", "tests/golden/qwen2-tied", "tests/golden/qwen3",
    "tests/golden/v2-groups-yarn",    "tests/golden/v2-lite",    "tests/golden/v3-one-group"};
enum { N_FOLDERS = sizeof folders / sizeof *folders };

/* logits[N, V] of some tokens, fed in two segments after a rewind; who calls frees them. */
static float *logits_of(const char *folder, const char *type, int threads, int chunk, bool single, int *V)
{
    struct fm_engine *e = engine((struct fm_engine_options){
        .model = folder, .ctx = CTX, .threads = threads, .chunk = chunk, .deterministic = true, .kv_type = type});
    struct fm_session *s = session(e, 0);
    int32_t ids[N];
    *V = fm_engine_info(e)->vocab;
    float *out = malloc((size_t)N * (size_t)*V * sizeof *out);
    assert_non_null(out);
    some_ids(ids, N, 7);
    for (int i = 0; i < N; i++) ids[i] %= *V;
    ok(fm_session_feed(s, ids + 9, 100, NULL, &err)); /* something else lies in the cache first */
    fm_session_rewind(s, 0);
    for (int i = 0; i < N; i += single ? 1 : 75)
        ok(fm_session_feed(s, ids + i, single ? 1 : 75, out + (size_t)i * (size_t)*V, &err));
    fm_session_free(s);
    fm_engine_close(e);
    return out;
}

static void bits_do_not_depend_on_the_way(void **state)
{
    (void)state;
    for (int f = 0; f < N_FOLDERS; f++)
        for (int t = 0; t < 3; t++) {
            int V;
            float *first = logits_of(folders[f], types[t], 1, 0, false, &V);
            for (int way = 0; way < 3; way++) {
                float *again = logits_of(folders[f], types[t], 2 - way / 2, way == 1 ? 7 : 0, way != 1, &V);
                assert_memory_equal(again, first, (size_t)N * (size_t)V * sizeof *first);
                free(again);
            }
            free(first);
        }
}

static int rising(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of N positions' distances, each beside the length of the logits wanted, the median: where a router stands between two
 * experts a position may get the other, and be anywhere. */
static double usual_distance(const float *got, const float *want, int V)
{
    double d[N];
    for (int i = 0; i < N; i++, got += V, want += V) {
        double off = 0, all = 0;
        for (int k = 0; k < V; k++) {
            off += ((double)got[k] - (double)want[k]) * ((double)got[k] - (double)want[k]);
            all += (double)want[k] * (double)want[k];
        }
        d[i] = sqrt(off / all);
    }
    qsort(d, N, sizeof *d, rising);
    return d[N / 2];
}

/* A cached value is off by 2^-9 of itself, or half of a 127th of the largest in its group, as queries of such a cache are;
 * logits by some of that. */
static void types_agree_as_far_as_they_round(void **state)
{
    static const double most[] = {0, 0.01, 0.05}, least[] = {0, 1e-7, 1e-6};
    (void)state;
    for (int f = 0; f < N_FOLDERS; f++) {
        int V;
        float *want = logits_of(folders[f], "f32", 2, 0, false, &V);
        for (int t = 1; t < 3; t++) {
            float *got = logits_of(folders[f], types[t], 2, 0, false, &V);
            const double d = usual_distance(got, want, V);
            if (!(d <= most[t] && d >= least[t])) fail_msg("%s %s: %g of the logits", folders[f], types[t], d);
            free(got);
        }
        free(want);
    }
}

static void add_kv(void *arg, const char *item, uint64_t bytes, bool file_backed)
{
    (void)file_backed;
    if (!strcmp(item, "KV cache")) *(uint64_t *)arg = bytes;
}

static void the_cache_takes_what_was_planned(void **state)
{
    (void)state;
    for (int f = 0; f < N_FOLDERS; f++)
        for (int t = 0; t < 3; t++) {
            struct fm_engine_options o = {.model = folders[f], .ctx = CTX, .kv_type = types[t]};
            uint64_t planned = 0;
            ok(fm_memory_plan(&o, add_kv, &planned, &err));
            struct fm_engine *e = engine(o);
            struct fm_session *s = session(e, 0);
            assert_int_equal(fm_kvpool_reserved(&e->kv), planned);
            assert_int_equal(planned,
                             fm_engine_info(e)->kv_bytes_per_token * (uint64_t)(fm_kv_blocks(CTX) * FM_KV_BLOCK));
            fm_session_free(s);
            fm_engine_close(e);
        }
}

/* What is taken out of a cache and put back is all of a row, and nothing of its neighbours. */
static void a_row_is_kept_whole(void **state)
{
    (void)state;
    for (int t = 0; t < FM_KV_TYPE_COUNT; t++) {
        struct fm_kv_shape shape = {(enum fm_kv_type)t, 3, 2, 90};
        const size_t bytes = 2 * fm_kv_layer_bytes(&shape), row = fm_kv_row_bytes(&shape);
        unsigned char *block = malloc(bytes), *before = malloc(bytes), *kept = malloc(row), *other = malloc(row);
        assert_true(block && before && kept && other);
        void *blocks[] = {block};
        const struct fm_kv kv = {blocks, shape};
        for (size_t i = 0; i < bytes; i++) before[i] = block[i] = (unsigned char)(i * 7 + i / 251);
        memset(other, 0xEE, row);
        for (int pos = 0; pos < FM_KV_BLOCK; pos += 21) {
            fm_kv_keep(&kv, 1, pos, kept, false);
            fm_kv_keep(&kv, 1, pos, other, true);
            size_t changed = 0;
            for (size_t i = 0; i < bytes; i++) changed += block[i] != before[i] || before[i] == 0xEE;
            assert_true(changed >= row && changed <= row + bytes / 50 && memcmp(block, before, bytes / 2) == 0);
            fm_kv_keep(&kv, 1, pos, kept, true);
            assert_memory_equal(block, before, bytes);
        }
        free(block);
        free(before);
        free(kept);
        free(other);
    }
}

static void wrong_types_are_refused(void **state)
{
    (void)state;
    struct fm_engine *e = NULL;
    struct fm_engine_options o = {.model = folders[0], .kv_type = "q4_0"};
    assert_int_equal(fm_engine_open(&o, &e, &err), FM_ERR_USAGE);
    assert_string_equal(err.message, "open model: KV type 'q4_0': none of f32, bf16, q8_0");
    o.kv_type = "bf16";
    o.exact = true;
    assert_int_equal(fm_engine_open(&o, &e, &err), FM_ERR_USAGE);
    assert_string_equal(err.message, "open model: KV type bf16: exact arithmetic keeps f32");
    o.kv_type = "f32";
    ok(fm_engine_open(&o, &e, &err));
    fm_engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_do_not_depend_on_the_way),    cmocka_unit_test(types_agree_as_far_as_they_round),
        cmocka_unit_test(the_cache_takes_what_was_planned), cmocka_unit_test(a_row_is_kept_whole),
        cmocka_unit_test(wrong_types_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
