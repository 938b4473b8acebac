/* Importance matrices: files (round trip, the older .dat, hostile ones), merging, what weights come out; and collecting. */
#include <math.h>

#include "base/mem.h"
#include "model/imatrix.h"
/* last */
#include "file_testing.h"

/* ---- a sample ---- */

/* Two dense tensors and one of three experts, the second of which never had input. */
static void make_sample(struct fm_imatrix *m)
{
    static const struct {
        const char *name;
        uint64_t mats, cols;
    } rows[] = {{"blk.0.ffn_up_exps.weight", 3, 4}, {"blk.1.attn_q.weight", 1, 6}, {"blk.0.attn_q.weight", 1, 8}};
    *m = (struct fm_imatrix){.chunk_count = 7, .chunk_size = 256};
    strcpy(m->text_id, "fnv1a:0123");
    ok(fm_imatrix_add_dataset(m, "first.txt", 9, &err));
    ok(fm_imatrix_add_dataset(m, "second.txt", 10, &err));
    for (int i = 0; i < 3; i++) {
        ok(fm_imatrix_add(m, rows[i].name, rows[i].mats * rows[i].cols, rows[i].mats, "x", &err));
        const struct fm_imatrix_entry *e = fm_imatrix_find(m, rows[i].name);
        for (uint64_t k = 0; k < e->n_values; k++) e->sums[k] = (float)(k + 1) * (float)(i + 1);
        for (uint64_t k = 0; k < e->n_counts; k++) e->counts[k] = k == 1 ? 0 : (int64_t)(k + 2) * 10;
        if (rows[i].mats == 3)
            for (int k = 4; k < 8; k++) e->sums[k] = 0;
    }
}

static void assert_same(const struct fm_imatrix *a, const struct fm_imatrix *b)
{
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->n_datasets, b->n_datasets);
    assert_int_equal(a->chunk_count, b->chunk_count);
    assert_int_equal(a->chunk_size, b->chunk_size);
    assert_string_equal(a->text_id, b->text_id);
    for (int i = 0; i < a->n_datasets; i++) assert_string_equal(a->datasets[i], b->datasets[i]);
    for (int i = 0; i < a->n; i++) {
        const struct fm_imatrix_entry *x = &a->entries[i], *y = &b->entries[i];
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->n_values, y->n_values);
        assert_int_equal(x->n_counts, y->n_counts);
        assert_memory_equal(x->sums, y->sums, x->n_values * sizeof *x->sums);
        assert_memory_equal(x->counts, y->counts, x->n_counts * sizeof *x->counts);
    }
}

/* ---- files ---- */

static void test_round_trip(void **state)
{
    (void)state;
    struct fm_imatrix m, back = {0};
    struct fm_file *f;
    make_sample(&m);
    ok(fm_imatrix_write(&m, in_dir("a.gguf"), &err));
    ok(fm_imatrix_open(&back, in_dir("a.gguf"), &err));
    assert_same(&m, &back);
    assert_string_equal(m.entries[0].name, "blk.0.attn_q.weight"); /* by name */
    fm_imatrix_release(&back);
    fm_imatrix_release(&m);
    ok(fm_file_open(in_dir("a.gguf"), &f, &err)); /* as llama.cpp looks at it */
    const struct fm_tensor *t = fm_file_find(f, "blk.0.ffn_up_exps.weight.in_sum2");
    assert_true(t && t->n_dims == 2 && t->shape[0] == 3 && t->shape[1] == 4 && t->fmt == FM_F32);
    t = fm_file_find(f, "blk.0.ffn_up_exps.weight.counts");
    assert_true(t && t->n_dims == 2 && t->shape[0] == 3 && t->shape[1] == 1 && t->fmt == FM_F32);
    struct fm_str s;
    assert_true(fm_meta_str(f, "general.type", &s) && s.len == 7 && !memcmp(s.data, "imatrix", 7));
    assert_int_equal(fm_meta_int(f, "imatrix.chunk_count", -1), 7);
    assert_int_equal(fm_meta_int(f, "imatrix.chunk_size", -1), 256);
    assert_int_equal(fm_file_meta(f, "imatrix.datasets")->n, 2);
    fm_file_close(f);
}

static void test_weights(void **state)
{
    (void)state;
    struct fm_imatrix m;
    float w[12] = {0};
    bool found = true;
    make_sample(&m);
    ok(fm_imatrix_weights(&m, "token_embd.weight", 1, 4, w, &found, &err));
    assert_true(!found && w[0] == 0);
    ok(fm_imatrix_weights(&m, "blk.0.ffn_up_exps.weight", 3, 4, w, &found, &err));
    assert_true(found);
    for (int k = 0; k < 4; k++) {
        assert_true(w[k] == (float)((k + 1) / 20.0));
        assert_true(w[4 + k] == 1);
        assert_true(w[8 + k] == (float)((k + 9) / 40.0));
    }
    static const int wrong[][2] = {{1, 12}, {3, 5}, {4, 3}, {3, 3}};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(fm_imatrix_weights(&m, "blk.0.ffn_up_exps.weight", wrong[i][0], wrong[i][1], w, &found, &err),
                         FM_ERR_INPUT);
        assert_non_null(strstr(err.message, "blk.0.ffn_up_exps.weight"));
        assert_false(found);
    }
    fm_imatrix_release(&m);
}

static void add_i32(struct fm_buf *b, int32_t v) { fm_buf_add(b, &v, sizeof v); }

static void add_dat_entry(struct fm_buf *b, const char *name, int32_t calls, int32_t values, const float *v)
{
    add_i32(b, (int32_t)strlen(name));
    fm_buf_str(b, name);
    add_i32(b, calls);
    add_i32(b, values);
    fm_buf_add(b, v, (size_t)values * sizeof *v);
}

static void make_dat(struct fm_buf *b)
{
    static const float v[] = {2, 4, 0, 8};
    add_i32(b, 2);
    add_dat_entry(b, "blk.0.attn_q.weight", 2, 4, v);
    add_dat_entry(b, "blk.0.ffn_up_exps.weight", 0, 2, v); /* no calls: the values are means already */
    add_i32(b, 2);
    add_i32(b, 5);
    fm_buf_str(b, "a.txt");
}

static void test_dat(void **state)
{
    (void)state;
    struct fm_buf b = {0};
    struct fm_imatrix m;
    float w[4];
    bool found;
    make_dat(&b);
    ok(fm_imatrix_read(&m, b.data, b.len, "a.dat", &err));
    assert_int_equal(m.n, 2);
    assert_int_equal(m.chunk_count, 2);
    assert_string_equal(m.datasets[0], "a.txt");
    ok(fm_imatrix_weights(&m, "blk.0.attn_q.weight", 1, 4, w, &found, &err));
    assert_true(found && w[0] == 1 && w[1] == 2 && w[2] == 0 && w[3] == 4);
    ok(fm_imatrix_weights(&m, "blk.0.attn_q.weight", 2, 2, w, &found, &err)); /* experts, one count for all */
    assert_true(found && w[3] == 4);
    ok(fm_imatrix_weights(&m, "blk.0.ffn_up_exps.weight", 1, 2, w, &found, &err));
    assert_true(found && w[0] == 2 && w[1] == 4);
    fm_imatrix_release(&m);
    fm_buf_release(&b);
}

/* A copy that ends where its heap block ends, so that ASan sees any step beyond. */
static enum fm_status read_copy(const void *data, size_t n)
{
    struct fm_imatrix m = {0};
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    if (n) memcpy(copy, data, n);
    err = (struct fm_error){0};
    enum fm_status st = fm_imatrix_read(&m, copy, n, "x", &err);
    assert_true(st ? st == FM_ERR_INPUT && err.code == st && strstr(err.message, "x") && !m.n : m.n > 0);
    for (int i = 0; i < m.n; i++) {
        struct fm_imatrix_stats s;
        fm_imatrix_measure(&m.entries[i], &s);
        assert_true(s.mean >= 0 && s.entropy >= 0);
    }
    fm_imatrix_release(&m);
    free(copy);
    return st;
}

static void test_truncations(void **state)
{
    (void)state;
    struct fm_buf gguf = {0}, dat = {0};
    struct fm_imatrix m;
    make_sample(&m);
    ok(fm_imatrix_write(&m, in_dir("t.gguf"), &err));
    fm_imatrix_release(&m);
    read_file(&gguf, in_dir("t.gguf"));
    for (size_t n = 0; n < gguf.len; n++) (void)read_copy(gguf.data, n); /* padding at the end may go */
    assert_int_equal(read_copy(gguf.data, gguf.len / 2), FM_ERR_INPUT);
    ok(read_copy(gguf.data, gguf.len));
    make_dat(&dat);
    for (size_t n = 0; n < dat.len; n++) {
        const bool whole = n == dat.len - 13 || n == dat.len - 9; /* without the text, without its name */
        assert_int_equal(read_copy(dat.data, n), whole ? FM_OK : FM_ERR_INPUT);
    }
    ok(read_copy(dat.data, dat.len));
    for (size_t at = 0; at < gguf.len; at++) /* each byte another one */
        for (int bit = 0; bit < 8; bit += 7) {
            gguf.data[at] = (char)(gguf.data[at] ^ 1 << bit);
            (void)read_copy(gguf.data, gguf.len);
            gguf.data[at] = (char)(gguf.data[at] ^ 1 << bit);
        }
    for (size_t at = 0; at < dat.len; at++) {
        dat.data[at] = (char)(dat.data[at] ^ 0x80);
        (void)read_copy(dat.data, dat.len);
        dat.data[at] = (char)(dat.data[at] ^ 0x80);
    }
    fm_buf_release(&gguf);
    fm_buf_release(&dat);
}

struct odd_tensor {
    const char *name;
    enum fm_fmt fmt;
    uint64_t rows, cols;
    float value;
};

static void refuse(const struct odd_tensor *t, int n, const char *type, const char *why)
{
    struct fm_writer *w;
    struct fm_imatrix m;
    float data[16];
    ok(fm_writer_open(in_dir("odd.gguf"), FM_GGUF, &w, &err));
    fm_writer_meta_str(w, "general.type", type, strlen(type));
    for (int i = 0; i < n; i++) fm_writer_tensor(w, t[i].name, t[i].fmt, 2, (uint64_t[]){t[i].rows, t[i].cols});
    ok(fm_writer_begin(w, &err));
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < 16; k++) data[k] = t[i].value;
        ok(fm_writer_data(w, data, fm_format_bytes(t[i].fmt, t[i].rows * t[i].cols), &err));
    }
    ok(fm_writer_commit(w, &err));
    assert_int_equal(fm_imatrix_open(&m, in_dir("odd.gguf"), &err), FM_ERR_INPUT);
    if (!strstr(err.message, why)) fail_msg("'%s' does not say '%s'", err.message, why);
    assert_non_null(strstr(err.message, "odd.gguf"));
}

static void test_hostile(void **state)
{
    (void)state;
    const struct odd_tensor good = {"a.weight.counts", FM_F32, 2, 1, 5};
    refuse((struct odd_tensor[]){{"a.weight.in_sum2", FM_F32, 2, 4, 1}}, 1, "imatrix", "has no counts");
    refuse(&good, 1, "imatrix", "has no sums");
    refuse((struct odd_tensor[]){{"a.weight.in_sum2", FM_F32, 1, 5, 1}, good}, 2, "imatrix", "whole number");
    refuse((struct odd_tensor[]){{"a.weight.in_sum2", FM_F32, 0, 4, 1}, good}, 2, "imatrix", "whole number");
    refuse((struct odd_tensor[]){{"a.weight.in_sum2", FM_F16, 2, 4, 1}, good}, 2, "imatrix", "F32");
    refuse((struct odd_tensor[]){{"a.weight.in_sum2", FM_F32, 2, 4, NAN}, good}, 2, "imatrix", "no sum of squares");
    refuse((struct odd_tensor[]){{"a.weight.in_sum2", FM_F32, 2, 4, -1}, good}, 2, "imatrix", "no sum of squares");
    refuse((struct odd_tensor[]){{"a.weight.in_sum2", FM_F32, 2, 4, INFINITY}, good}, 2, "imatrix", "no sum of");
    refuse((struct odd_tensor[]){{"a.weight.in_sum2", FM_F32, 2, 4, 1}, {"a.weight.counts", FM_F32, 2, 1, -3}}, 2,
           "imatrix", "no count");
    refuse((struct odd_tensor[]){{"a.weight.in_sum2", FM_F32, 2, 4, 1}, {"a.weight.counts", FM_F32, 2, 1, 1e30f}}, 2,
           "imatrix", "no count");
    refuse((struct odd_tensor[]){{".in_sum2", FM_F32, 2, 4, 1}, {".counts", FM_F32, 2, 1, 1}}, 2, "imatrix", "name");
    refuse((struct odd_tensor[]){{"a.weight", FM_F32, 2, 4, 1}}, 1, "imatrix", "there is none in it");
    refuse((struct odd_tensor[]){{"a.weight", FM_F32, 2, 4, 1}}, 1, "model", "of type 'model'");
    struct fm_imatrix m;
    assert_int_equal(fm_imatrix_open(&m, in_dir("nowhere"), &err), FM_ERR_INPUT);
}

static void test_hostile_dat(void **state)
{
    (void)state;
    static const float v[] = {1, -1, NAN, INFINITY};
    struct fm_buf b = {0};
    for (int i = 0; i < 4; i++) {
        fm_buf_clear(&b);
        add_i32(&b, 1);
        add_dat_entry(&b, "w", 1, 1, &v[i]);
        assert_int_equal(read_copy(b.data, b.len), i ? FM_ERR_INPUT : FM_OK);
    }
    static const struct {
        int32_t entries, len, calls, values;
    } odd[] = {{0, 1, 1, 1},  {-1, 1, 1, 1}, {INT32_MAX, 1, 1, 1}, {1, 0, 1, 1},  {1, INT32_MAX, 1, 1},
               {1, -1, 1, 1}, {1, 1, -1, 1}, {1, 1, 1, 0},         {1, 1, 1, -1}, {1, 1, 1, INT32_MAX}};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        fm_buf_clear(&b);
        add_i32(&b, odd[i].entries);
        add_i32(&b, odd[i].len);
        fm_buf_str(&b, "w");
        add_i32(&b, odd[i].calls);
        add_i32(&b, odd[i].values);
        fm_buf_add(&b, v, sizeof *v);
        assert_int_equal(read_copy(b.data, b.len), FM_ERR_INPUT);
    }
    fm_buf_clear(&b);
    add_i32(&b, 2); /* the same name twice */
    add_dat_entry(&b, "w", 1, 1, v);
    add_dat_entry(&b, "w", 1, 1, v);
    assert_int_equal(read_copy(b.data, b.len), FM_ERR_INPUT);
    fm_buf_release(&b);
}

/* ---- merging ---- */

static void test_merge(void **state)
{
    (void)state;
    struct fm_imatrix m = {0}, a, b;
    make_sample(&a);
    make_sample(&b);
    ok(fm_imatrix_add(&b, "output.weight", 2, 1, "x", &err));
    ok(fm_imatrix_merge(&m, &a, "a", &err));
    assert_int_equal(m.chunk_size, 256);
    b.chunk_size = 512;
    ok(fm_imatrix_merge(&m, &b, "b", &err));
    assert_int_equal(m.n, 4);
    assert_int_equal(m.chunk_count, 7 + 14);
    assert_int_equal(m.n_datasets, 4); /* the second name of a is not the first of b */
    assert_string_equal(m.text_id, "");
    const struct fm_imatrix_entry *e = fm_imatrix_find(&m, "blk.0.ffn_up_exps.weight");
    assert_true(e->sums[0] == 2 && e->sums[4] == 0 && e->sums[11] == 24);
    assert_true(e->counts[0] == 40 && e->counts[1] == 0 && e->counts[2] == 80);
    struct fm_imatrix one = {.chunk_size = 512}; /* as from a .dat: one count for all experts */
    ok(fm_imatrix_add(&one, "blk.0.ffn_up_exps.weight", 12, 1, "x", &err));
    fm_imatrix_find(&one, "blk.0.ffn_up_exps.weight")->counts[0] = 5;
    ok(fm_imatrix_merge(&m, &one, "one", &err));
    e = fm_imatrix_find(&m, "blk.0.ffn_up_exps.weight");
    assert_true(e->n_counts == 3 && e->counts[0] == 45 && e->counts[1] == 5);
    ok(fm_imatrix_merge(&one, &a, "a", &err));
    e = fm_imatrix_find(&one, "blk.0.ffn_up_exps.weight");
    assert_true(e->n_counts == 3 && e->counts[0] == 25 && e->counts[1] == 5);
    struct fm_imatrix other = {.chunk_size = 512};
    ok(fm_imatrix_add(&other, "output.weight", 3, 1, "x", &err));
    assert_int_equal(fm_imatrix_merge(&m, &other, "other", &err), FM_ERR_INPUT);
    assert_non_null(strstr(err.message, "other, tensor 'output.weight'"));
    fm_imatrix_release(&other);
    fm_imatrix_release(&one);
    fm_imatrix_release(&m);
    fm_imatrix_release(&a);
    fm_imatrix_release(&b);
}

static void test_measure(void **state)
{
    (void)state;
    struct fm_imatrix m;
    struct fm_imatrix_stats s;
    make_sample(&m);
    fm_imatrix_measure(fm_imatrix_find(&m, "blk.0.ffn_up_exps.weight"), &s);
    assert_true(s.n_mats == 3 && s.n_seen == 2 && s.cols == 4 && s.count_min == 0 && s.count_max == 40);
    /* 1…4 over 20 and 9…12 over 40 */
    assert_true(fabs(s.mean - (0.5 + 1.05) / 8) < 1e-7 && fabs(s.min - 0.05) < 1e-7 && fabs(s.max - 0.3) < 1e-7);
    assert_true(s.active == 1 && s.entropy > 0.9 && s.entropy < 1 && s.dev > 0);
    fm_imatrix_release(&m);
}

/* ---- memory ---- */

static void test_torture(void **state)
{
    (void)state;
    struct fm_imatrix m, back;
    make_sample(&m);
    ok(fm_imatrix_write(&m, in_dir("m.gguf"), &err));
    enum fm_status st = FM_ERR_MEMORY;
    long n = 1;
    for (; st; n++) {
        fm_mem_fail_at(n);
        st = fm_imatrix_open(&back, in_dir("m.gguf"), &err);
        fm_mem_fail_at(0);
        assert_true(!st || st == FM_ERR_MEMORY);
    }
    assert_same(&m, &back);
    fm_imatrix_release(&back);
    assert_true(n > 10);
    for (n = 1, st = FM_ERR_MEMORY; st; n++) {
        fm_mem_fail_at(n);
        st = fm_imatrix_write(&m, in_dir("m2.gguf"), &err);
        fm_mem_fail_at(0);
        assert_true(!st || st == FM_ERR_MEMORY);
    }
    for (n = 1, st = FM_ERR_MEMORY; st; n++) {
        struct fm_imatrix sum = {0};
        fm_mem_fail_at(n);
        st = fm_imatrix_merge(&sum, &m, "m", &err);
        fm_mem_fail_at(0);
        fm_imatrix_release(&sum);
        assert_true(!st || st == FM_ERR_MEMORY);
    }
    fm_imatrix_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_weights), cmocka_unit_test(test_dat),
        cmocka_unit_test(test_truncations), cmocka_unit_test(test_hostile), cmocka_unit_test(test_hostile_dat),
        cmocka_unit_test(test_merge),       cmocka_unit_test(test_measure), cmocka_unit_test(test_torture),
    };
    return cmocka_run_group_tests(tests, make_run_dir, remove_run_dir);
}
