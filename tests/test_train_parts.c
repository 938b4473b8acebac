/* Corpora, token files, windows, schedules, checkpoints: the parts of a training run, each alone. */
#include "train_samples.h"

#include <math.h>
#include <zstd.h>

#include "base/mem.h"
#include "base/sum.h"
#include "model/model.h"
#include "train/checkpoint.h"
#include "train/corpus.h"
#include "train/data.h"
#include "train/presets.h"
#include "train/schedule.h"
#include "train/train_log.h"

/* ---- sums ---- */

static void test_sum(void **state)
{
    (void)state;
    unsigned char data[200];
    for (int i = 0; i < 200; i++) data[i] = (unsigned char)(i * 7);
    const uint64_t whole = fm_sum_of(5, data, sizeof data);
    for (size_t cut = 0; cut <= sizeof data; cut++) { /* pieces do not matter */
        struct fm_sum s;
        fm_sum_init(&s, 5);
        fm_sum_add(&s, data, cut / 2);
        fm_sum_add(&s, data + cut / 2, cut - cut / 2);
        fm_sum_add(&s, data + cut, sizeof data - cut);
        assert_true(fm_sum_end(&s) == whole);
    }
    assert_true(fm_sum_of(6, data, sizeof data) != whole);
    assert_true(fm_sum_of(5, data, sizeof data - 1) != whole);
    for (size_t bit = 0; bit < 8 * sizeof data; bit++) {
        data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        assert_true(fm_sum_of(5, data, sizeof data) != whole);
        data[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
}

/* ---- corpus ---- */

/* Documents of the given paths, or the error. */
static enum fm_status load(struct fm_corpus *c, const char *const *paths, int n, struct fm_error *err)
{
    enum fm_status st = fm_corpus_find(c, paths, n, err);
    return st ? st : fm_corpus_load(c, paths, n, err);
}

static void expect_error(const char *path, const char *part)
{
    struct fm_corpus c;
    struct fm_error err;
    enum fm_status st = load(&c, &path, 1, &err);
    fm_corpus_release(&c);
    assert_error(st, FM_ERR_INPUT, &err, part);
    assert_non_null(strstr(err.message, path));
}

static void test_corpus_errors(void **state)
{
    (void)state;
    char path[512];
    expect_error(in_dir("missing"), "No such file");
    put_text(strcpy(path, in_dir("empty.txt")), "");
    expect_error(path, "the file is empty");
    put_text(strcpy(path, in_dir("blank.txt")), " \n\t\n");
    expect_error(path, "only blanks");
    put_file(strcpy(path, in_dir("binary")), "ab\0cd", 5);
    expect_error(path, "binary");
    put_text(strcpy(path, in_dir("latin-like")), "\xff\xfe\xfd\xfc\xfb");
    expect_error(path, "binary");
    mkdir(strcpy(path, in_dir("nothing")), 0777);
    expect_error(path, "no text in this folder");
    put_file(in_dir("nothing/a"), "\0", 1);
    put_text(in_dir("nothing/.hidden"), "text");
    expect_error(path, "no text in this folder (1 binary, 1 hidden");
    put_text(strcpy(path, in_dir("bad.zst")), "this is not zstd");
    expect_error(path, "zstd");
    put_text(strcpy(path, in_dir("bad.tar")), "short");
    expect_error(path, "holds no text");
    struct fm_corpus c;
    struct fm_error err;
    assert_int_equal(fm_corpus_find(&c, NULL, 0, &err), FM_ERR_USAGE);
    fm_corpus_release(&c);
}

static void assert_doc(const struct fm_corpus *c, int i, const char *want)
{
    assert_true(i < c->n_docs);
    assert_int_equal(c->docs[i].len, strlen(want));
    assert_memory_equal(c->text + c->docs[i].start, want, strlen(want));
}

static void test_corpus_folder(void **state)
{
    (void)state;
    struct fm_corpus c;
    struct fm_error err;
    char root[512];
    mkdir(strcpy(root, in_dir("tree")), 0777);
    mkdir(in_dir("tree/b"), 0777);
    mkdir(in_dir("tree/.git"), 0777);
    put_text(in_dir("tree/.git/config"), "hidden");
    put_text(in_dir("tree/c.txt"), "third");
    put_text(in_dir("tree/a.txt"), "first");
    put_text(in_dir("tree/b/x.txt"),
             "one\n<|endoftext|>\ntwo\n<|endoftext|>\n\n<|endoftext|>\nnot <|endoftext|> here\n");
    put_file(in_dir("tree/b/z.bin"), "\0\1\2", 3);
    assert_int_equal(symlink("..", in_dir("tree/b/up")), 0);
    assert_int_equal(symlink("nowhere", in_dir("tree/b/broken")), 0);
    const char *paths[] = {root};
    assert_ok(load(&c, paths, 1, &err), &err);
    assert_int_equal(c.n_docs, 5);
    assert_doc(&c, 0, "first");
    assert_doc(&c, 1, "one\n");
    assert_doc(&c, 2, "two\n");
    assert_doc(&c, 3, "not <|endoftext|> here\n");
    assert_doc(&c, 4, "third");
    assert_int_equal(c.text_files, 3);
    assert_int_equal(c.hidden, 1);
    assert_int_equal(c.binary, 1);
    assert_int_equal(c.loops, 1);
    assert_int_equal(c.other, 1);
    fm_corpus_release(&c);
}

static void put_zst(const char *path, const void *data, size_t n, int frames)
{
    char *out = malloc(ZSTD_compressBound(n) * (size_t)frames);
    size_t len = 0;
    for (int i = 0; i < frames; i++) {
        const size_t a = n * (size_t)i / (size_t)frames, b = n * (size_t)(i + 1) / (size_t)frames;
        len += ZSTD_compress(out + len, ZSTD_compressBound(b - a), (const char *)data + a, b - a, 3);
    }
    put_file(path, out, len);
    free(out);
}

/* One tar member; returns the bytes used. */
static size_t tar_member(char *p, const char *name, char type, const char *text)
{
    const size_t n = strlen(text), padded = (n + 511) / 512 * 512;
    unsigned sum = 0;
    memset(p, 0, 512 + padded);
    snprintf(p, 100, "%s", name);
    snprintf(p + 124, 12, "%011o", (unsigned)n);
    memset(p + 148, ' ', 8);
    p[156] = type;
    memcpy(p + 257, "ustar\00000", 8);
    for (int i = 0; i < 512; i++) sum += (unsigned char)p[i];
    snprintf(p + 148, 8, "%06o", sum);
    memcpy(p + 512, text, n);
    return 512 + padded;
}

static void test_corpus_packed(void **state)
{
    (void)state;
    static char tar[16384];
    struct fm_corpus c;
    struct fm_error err;
    char zst[512], two[512], archive[512];
    put_zst(strcpy(zst, in_dir("one.txt.zst")), "hello frames", 12, 1);
    put_zst(strcpy(two, in_dir("two.txt.zst")), "hello two frames", 16, 2);
    size_t n = tar_member(tar, "dir/", '5', "");
    n += tar_member(tar + n, "dir/a.txt", '0', "member a");
    n += tar_member(tar + n, "dir/.hidden", '0', "no");
    n += tar_member(tar + n, "paxheader", 'x', "30 mtime=1.5\n");
    n += tar_member(tar + n, "dir/b.txt", 0, "member b");
    const size_t whole = n + 1024;
    put_zst(strcpy(archive, in_dir("c.tar.zst")), tar, whole, 1);
    const char *paths[] = {zst, two, archive};
    assert_ok(load(&c, paths, 3, &err), &err);
    assert_int_equal(c.n_docs, 4);
    assert_doc(&c, 0, "hello frames");
    assert_doc(&c, 1, "hello two frames");
    assert_doc(&c, 2, "member a");
    assert_doc(&c, 3, "member b");
    assert_int_equal(c.hidden, 1);
    fm_corpus_release(&c);

    for (size_t cut = 0; cut < whole; cut += 37) { /* any damage is an answer, never a crash */
        put_file(in_dir("cut.tar"), tar, cut);
        const char *p = in_dir("cut.tar");
        (void)!load(&c, &p, 1, &err);
        fm_corpus_release(&c);
    }
    tar[512 + 130] ^= 1; /* a size that its checksum contradicts */
    put_file(in_dir("bad2.tar"), tar, whole);
    expect_error(in_dir("bad2.tar"), "bad header at byte 512");
    struct fm_buf b = {0};
    get_file(archive, &b);
    for (size_t cut = 1; cut < b.len; cut += 11) {
        put_file(in_dir("cut.tar.zst"), b.data, cut);
        const char *p = in_dir("cut.tar.zst");
        assert_int_equal(load(&c, &p, 1, &err), FM_ERR_INPUT);
        fm_corpus_release(&c);
    }
    fm_buf_release(&b);
}

static void test_corpus_memory(void **state)
{
    (void)state;
    struct fm_corpus c;
    struct fm_error err;
    const char *p = in_dir("tree");
    for (long n = 1;; n++) {
        fm_mem_fail_at(n);
        enum fm_status st = load(&c, &p, 1, &err);
        fm_mem_fail_at(0);
        fm_corpus_release(&c);
        if (!st) break;
        assert_int_equal(st, FM_ERR_MEMORY);
        assert_true(n < 1000);
    }
}

/* ---- tokens ---- */

static struct fm_tokenizer *learn(const char *text, int vocab)
{
    static const char *const specials[] = {FM_CORPUS_SEPARATOR};
    const struct fm_bpe_train p = {.text = text,
                                   .n = strlen(text),
                                   .n_vocab = vocab,
                                   .pre = "smollm",
                                   .specials = specials,
                                   .n_specials = 1,
                                   .threads = 1};
    struct fm_tokenizer *t = NULL;
    struct fm_error err;
    assert_ok(fm_tokenizer_train(&p, &t, &err), &err);
    return t;
}

/* Encoding in pieces, on any number of threads, gives the ids of whole documents. */
static void test_tokens_pieces(void **state)
{
    (void)state;
    struct fm_corpus c;
    struct fm_error err;
    char *text = make_text(700000, 3), path[512];
    for (int i = 0; i < 3000; i++) text[(size_t)i * 201 % 700000] = "\n \t.'7"[i % 6]; /* borders of every kind */
    put_text(strcpy(path, in_dir("long.txt")), text);
    const char *paths[] = {path};
    assert_ok(load(&c, paths, 1, &err), &err);
    struct fm_tokenizer *tk = learn(text, 400);
    struct fm_pool *pool = NULL;
    assert_ok(fm_pool_new(2, &pool, &err), &err);
    struct fm_tokens_encode e = {
        .tokenizer = tk, .eot = fm_tokenizer_find(tk, FM_CORPUS_SEPARATOR), .tokenizer_sum = 1, .corpus_sum = 2};
    struct fm_tokens a, b;
    assert_ok(fm_tokens_write(&e, &c, NULL, in_dir("whole.bin"), &err), &err);
    e.cut = true;
    assert_ok(fm_tokens_write(&e, &c, pool, in_dir("cut.bin"), &err), &err);
    assert_ok(fm_tokens_open(&a, in_dir("whole.bin"), &err), &err);
    assert_ok(fm_tokens_open(&b, in_dir("cut.bin"), &err), &err);
    assert_true(a.n > 1000 && a.n == b.n && a.sum == b.sum);
    assert_int_equal(fm_tokens_at(&a, 0), e.eot);
    assert_int_equal(fm_tokens_at(&a, a.n - 1), e.eot);
    assert_int_equal(a.width, 2);
    fm_tokens_close(&a);
    fm_tokens_close(&b);
    const volatile int stop = 1;
    e.stop = &stop;
    assert_int_equal(fm_tokens_write(&e, &c, pool, in_dir("stopped.bin"), &err), FM_ERR_CANCELLED);
    assert_int_not_equal(access(in_dir("stopped.bin"), F_OK), 0);
    fm_pool_free(pool);
    fm_tokenizer_close(tk);
    fm_corpus_release(&c);
    free(text);
}

static void test_tokens_damage(void **state)
{
    (void)state;
    struct fm_tokens t;
    struct fm_error err;
    struct fm_corpus c;
    char path[512];
    put_text(strcpy(path, in_dir("short.txt")), "a small text for a small file of tokens");
    const char *paths[] = {path};
    assert_ok(load(&c, paths, 1, &err), &err);
    struct fm_tokenizer *tk = learn("a small text", 260);
    const struct fm_tokens_encode e = {.tokenizer = tk, .eot = 256};
    assert_ok(fm_tokens_write(&e, &c, NULL, in_dir("t.bin"), &err), &err);
    fm_tokenizer_close(tk);
    fm_corpus_release(&c);
    struct fm_buf b = {0};
    get_file(in_dir("t.bin"), &b);
    for (size_t cut = 0; cut < b.len; cut++) {
        put_file(in_dir("u.bin"), b.data, cut);
        assert_int_equal(fm_tokens_open(&t, in_dir("u.bin"), &err), FM_ERR_INPUT);
    }
    for (size_t i = 0; i < b.len; i++) {
        b.data[i] ^= 0x10;
        put_file(in_dir("u.bin"), b.data, b.len);
        assert_int_equal(fm_tokens_open(&t, in_dir("u.bin"), &err), FM_ERR_INPUT);
        b.data[i] ^= 0x10;
    }
    fm_buf_release(&b);
}

/* ---- windows ---- */

static void test_windows(void **state)
{
    (void)state;
    struct fm_error err;
    struct fm_tokens t = {.n = 1003, .width = 2};
    struct fm_data d, again;
    assert_ok(fm_data_init(&d, &t, 10, 2, 0.1, 42, &err), &err);
    assert_int_equal(d.n_val, 10);
    assert_true(fm_data_val(&d, d.n_val - 1) + 10 + 2 == t.n);
    assert_true(d.val_start == d.n_train);
    uint64_t given[400];
    for (int epoch = 0; epoch < 3; epoch++) {
        bool seen[1003] = {false};
        const int64_t n = fm_data_epoch_windows(&d);
        assert_true(n >= 88 && n <= 90);
        for (int64_t i = 0; i < n; i++) {
            const uint64_t at = fm_data_next(&d);
            assert_int_equal(d.cursor.epoch, epoch);
            assert_true(at + 12 <= d.n_train);
            assert_false(seen[at]);
            assert_true(at % 10 == d.shift);
            seen[at] = true;
        }
        (void)fm_data_next(&d); /* the first of the next epoch */
        d.cursor.index--;
    }
    d.cursor = (struct fm_cursor){0, 0};
    for (int i = 0; i < 400; i++) given[i] = fm_data_next(&d);
    assert_ok(fm_data_init(&again, &t, 10, 2, 0.1, 42, &err), &err);
    for (int from = 0; from < 400; from += 57) { /* resuming at any cursor */
        again.cursor = (struct fm_cursor){0, 0};
        for (int i = 0; i < from; i++) (void)fm_data_next(&again);
        const struct fm_cursor cursor = again.cursor;
        fm_data_release(&again);
        assert_ok(fm_data_init(&again, &t, 10, 2, 0.1, 42, &err), &err);
        again.cursor = cursor;
        for (int i = from; i < 400; i++) assert_true(fm_data_next(&again) == given[i]);
    }
    fm_data_release(&again);
    fm_data_release(&d);
}

static void test_windows_short(void **state)
{
    (void)state;
    struct fm_error err;
    struct fm_data d;
    for (uint64_t n = 0; n < 100; n++)
        for (int extra = 1; extra <= 2; extra++) {
            const struct fm_tokens t = {.n = n, .width = 2};
            enum fm_status st = fm_data_init(&d, &t, 16, extra, 0.5, 1, &err);
            assert_int_equal(st, n < 16u + (unsigned)extra ? FM_ERR_INPUT : FM_OK);
            if (st) continue;
            for (int i = 0; i < 20; i++) assert_true(fm_data_next(&d) + 16 + (unsigned)extra <= d.n_train);
            assert_true(!d.n_val || fm_data_val(&d, d.n_val - 1) + 16 + (unsigned)extra <= n);
            fm_data_release(&d);
        }
}

/* ---- schedule ---- */

static bool near(double a, double b) { return fabs(a - b) <= 1e-12; }

static void test_schedule(void **state)
{
    (void)state;
    const struct fm_schedule_plan wsd = {FM_SCHEDULE_WSD, 1000, 0.1, 0.2, 0.05};
    assert_true(near(fm_schedule_at(&wsd, 0), 0.01));
    assert_true(near(fm_schedule_at(&wsd, 49), 0.5));
    assert_true(near(fm_schedule_at(&wsd, 99), 1));
    assert_true(near(fm_schedule_at(&wsd, 799), 1));
    assert_true(near(fm_schedule_at(&wsd, 849), 0.05 + 0.95 * 0.5)); /* a quarter of the way: 1 − sqrt(1/4) */
    assert_true(near(fm_schedule_at(&wsd, 999), 0.05));
    assert_true(near(fm_schedule_at(&wsd, 5000), 0.05));
    assert_true(near(fm_schedule_hold(&wsd, 700), 1));
    assert_true(near(fm_schedule_hold(&wsd, 999), 0));
    const struct fm_schedule_plan cosine = {FM_SCHEDULE_COSINE, 1000, 0.1, 0, 0};
    for (int64_t i = 100; i < 1000; i++) {
        const double x = ((double)i - 99) / 900;
        assert_true(near(fm_schedule_at(&cosine, i), (1 + cos(3.141592653589793 * x)) / 2));
    }
    const struct fm_schedule_plan one = {FM_SCHEDULE_WSD, 1, 0.02, 0.3, 0.1};
    assert_true(near(fm_schedule_at(&one, 0), 1));
}

/* ---- checkpoints ---- */

static void fill(float *x, size_t n, uint64_t seed)
{
    struct fm_rng rng;
    fm_rng_init(&rng, seed);
    for (size_t i = 0; i < n; i++) x[i] = (float)fm_rng_normal(&rng);
}

static void save_sample(const char *path, float *a, size_t na, float *b, size_t nb)
{
    struct fm_error err;
    json_t *head = json_pack("{s:s, s:i}", "format", "test", "step", 17);
    const struct fm_checkpoint_array arrays[] = {{a, na * sizeof *a}, {b, nb * sizeof *b}};
    assert_ok(fm_checkpoint_save(path, head, arrays, 2, &err), &err);
    json_decref(head);
}

static enum fm_status load_sample(const char *path, float *a, size_t na, float *b, size_t nb, struct fm_error *err)
{
    struct fm_checkpoint k;
    const struct fm_checkpoint_array arrays[] = {{a, na * sizeof *a}, {b, nb * sizeof *b}};
    enum fm_status st = fm_checkpoint_open(&k, path, err);
    if (!st) {
        st = fm_checkpoint_read(&k, arrays, 2, err);
        if (!st) assert_int_equal(fm_json_int(k.head, "step", 0), 17);
        fm_checkpoint_close(&k);
    }
    return st;
}

static void test_checkpoint_sizes(void **state)
{
    (void)state;
    static const size_t sizes[][2] = {{0, 0}, {1, 0}, {5, 7}, {262144, 0}, {262143, 2}, {262145, 262143}, {700000, 3}};
    struct fm_error err;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const size_t na = sizes[i][0], nb = sizes[i][1];
        float *x = malloc((na + nb + 1) * 8), *y = x + na + nb;
        assert_non_null(x);
        fill(x, na + nb, i);
        save_sample(in_dir("k.fmc"), x, na, x + na, nb);
        assert_ok(load_sample(in_dir("k.fmc"), y, na, y + na, nb, &err), &err);
        assert_memory_equal(x, y, (na + nb) * 4);
        assert_error(load_sample(in_dir("k.fmc"), y, na, y + na, nb + 1, &err), FM_ERR_INPUT, &err, "fewer values");
        free(x);
    }
}

static void test_checkpoint_damage(void **state)
{
    (void)state;
    enum { N = 700 };
    float x[N], y[N];
    struct fm_error err;
    struct fm_buf b = {0};
    fill(x, N, 1);
    save_sample(in_dir("k.fmc"), x, 300, x + 300, N - 300);
    get_file(in_dir("k.fmc"), &b);
    for (size_t cut = 0; cut < b.len; cut++) { /* at every byte */
        put_file(in_dir("l.fmc"), b.data, cut);
        enum fm_status st = load_sample(in_dir("l.fmc"), y, 300, y + 300, N - 300, &err);
        assert_error(st, FM_ERR_INPUT, &err, " at byte ");
    }
    for (size_t i = 0; i < b.len; i++) { /* one bit of every byte */
        b.data[i] ^= (char)(1 << i % 8);
        put_file(in_dir("l.fmc"), b.data, b.len);
        assert_int_equal(load_sample(in_dir("l.fmc"), y, 300, y + 300, N - 300, &err), FM_ERR_INPUT);
        b.data[i] ^= (char)(1 << i % 8);
    }
    fm_buf_char(&b, 0);
    put_file(in_dir("l.fmc"), b.data, b.len);
    assert_error(load_sample(in_dir("l.fmc"), y, 300, y + 300, N - 300, &err), FM_ERR_INPUT, &err, "behind the end");
    put_text(in_dir("l.fmc"), "{\"a model\": \"of another program, long enough for a header\"}");
    assert_error(load_sample(in_dir("l.fmc"), y, 300, y + 300, N - 300, &err), FM_ERR_INPUT, &err, "not a checkpoint");
    assert_error(load_sample(in_dir("none.fmc"), y, 1, y, 1, &err), FM_ERR_INPUT, &err, "No such file");
    assert_error(load_sample(work_dir, y, 1, y, 1, &err), FM_ERR_INPUT, &err, "not a regular file");
    fm_buf_release(&b);
}

static void test_checkpoint_memory(void **state)
{
    (void)state;
    float x[8], y[8];
    struct fm_error err;
    fill(x, 8, 1);
    for (long n = 1; n < 100; n++) {
        json_t *head = json_pack("{s:i}", "step", 17);
        fm_mem_fail_at(n);
        enum fm_status st =
            fm_checkpoint_save(in_dir("m.fmc"), head, &(struct fm_checkpoint_array){x, sizeof x}, 1, &err);
        if (!st) st = load_sample(in_dir("m.fmc"), y, 8, y, 0, &err);
        fm_mem_fail_at(0);
        json_decref(head);
        if (!st) return;
        assert_int_equal(st, FM_ERR_MEMORY);
    }
    fail();
}

/* ---- log, presets ---- */

static void test_log(void **state)
{
    (void)state;
    struct fm_train_log_file f;
    struct fm_error err;
    const struct fm_config cfg = {.L = 1};
    char path[512];
    strcpy(path, in_dir("log.jsonl"));
    assert_ok(fm_train_log_open(&f, path, -1, &err), &err);
    for (int i = 1; i <= 5; i++) {
        const struct fm_train_log line = {.step = i, .loss = 1.0 / i, .val_loss = NAN, .event = i == 3 ? "eval" : NULL};
        assert_ok(fm_train_log_write(&f, &line, &cfg, NULL, &err), &err);
    }
    fm_train_log_close(&f);
    assert_true(fm_train_log_has_eval(path, 3));
    assert_false(fm_train_log_has_eval(path, 4));
    struct fm_buf b = {0};
    get_file(path, &b);
    put_file(path, b.data, b.len - 10); /* a kill in the middle of a line */
    fm_buf_release(&b);
    assert_ok(fm_train_log_open(&f, path, 3, &err), &err);
    const struct fm_train_log line = {.step = 4, .loss = 0.5, .event = "resume"};
    assert_ok(fm_train_log_write(&f, &line, &cfg, NULL, &err), &err);
    fm_train_log_close(&f);
    get_file(path, &b);
    int n = 0;
    for (char *p = b.data, *end; p < b.data + b.len; p = end + 1) {
        json_t *j = NULL;
        end = strchr(p, '\n');
        assert_non_null(end);
        assert_ok(fm_json_parse(p, (size_t)(end - p), "line", &j, &err), &err);
        assert_int_equal(fm_json_int(j, "step", 0), ++n);
        assert_int_equal(json_object_size(j), 17);
        json_decref(j);
    }
    assert_int_equal(n, 4);
    fm_buf_release(&b);
}

static void test_presets(void **state)
{
    (void)state;
    struct fm_error err;
    for (int i = 0; i < fm_preset_count(); i++) {
        const struct fm_preset_info info = fm_preset(i);
        const struct fm_preset_row *p = fm_preset_find(info.name);
        struct fm_config cfg, again;
        struct fm_counts n;
        assert_non_null(p);
        json_t *j = fm_preset_config(p, p->V);
        assert_non_null(j);
        assert_ok(fm_config_from_json(j, info.name, &cfg, &err), &err);
        json_decref(j);
        assert_true(cfg.D % 32 == 0 && cfg.F % 32 == 0 && cfg.moe.F % 32 == 0 && cfg.V % 32 == 0 &&
                    cfg.mla.Rkv % 32 == 0);
        fm_model_count(&cfg, p->seq, &n);
        printf("%-12s %5.2f M parameters, %5.2f M active, %6.2f MFLOP per token\n", info.name,
               (double)n.params_total / 1e6, (double)n.params_active / 1e6, n.train_flops_per_token / 1e6);
        json_t *k = fm_config_to_json(&cfg); /* as a checkpoint stores it */
        assert_non_null(k);
        assert_ok(fm_config_from_json(k, info.name, &again, &err), &err);
        json_decref(k);
        assert_true(again.eps == cfg.eps && again.init_std == cfg.init_std && again.mla.scale == cfg.mla.scale);
    }
    assert_null(fm_preset_find("no such preset"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum),
        cmocka_unit_test(test_corpus_errors),
        cmocka_unit_test(test_corpus_folder),
        cmocka_unit_test(test_corpus_packed),
        cmocka_unit_test(test_corpus_memory),
        cmocka_unit_test(test_tokens_pieces),
        cmocka_unit_test(test_tokens_damage),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_windows_short),
        cmocka_unit_test(test_schedule),
        cmocka_unit_test(test_checkpoint_sizes),
        cmocka_unit_test(test_checkpoint_damage),
        cmocka_unit_test(test_checkpoint_memory),
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_presets),
    };
    return cmocka_run_group_tests_name("train parts", tests, make_work_dir, remove_work_dir);
}
