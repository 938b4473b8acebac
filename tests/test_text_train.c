/* Learning a vocabulary: exact, whatever the threads and chunks; writing it and reading it back. */
#include "base/mem.h"
#include "text/words.h"
#include "text_util.h"

/* ---- training ---- */

/* Sennrich's algorithm word for word: count all pairs anew for each merge. */
static void assert_naive_training(const struct fm_tokenizer *t, const struct fm_words *words)
{
    size_t total = 0;
    for (uint32_t i = 0; i < words->n; i++) total += words->items[i].n;
    int32_t *all = fm_malloc(total * sizeof *all);
    size_t *start = fm_malloc(words->n * sizeof *start), *len = fm_malloc(words->n * sizeof *len), at = 0;
    for (uint32_t w = 0; w < words->n; w++) {
        start[w] = at;
        len[w] = words->items[w].n;
        for (uint32_t i = 0; i < words->items[w].n; i++) all[at++] = t->byte_id[(unsigned char)words->items[w].text[i]];
    }
    int64_t(*count)[N_VOCAB] = fm_malloc(sizeof(int64_t[N_VOCAB][N_VOCAB]));
    for (int32_t id = N_SPECIALS + 256; id < t->vocab.n; id++) {
        memset(count, 0, sizeof(int64_t[N_VOCAB][N_VOCAB]));
        for (uint32_t w = 0; w < words->n; w++)
            for (size_t i = 1; i < len[w]; i++)
                count[all[start[w] + i - 1]][all[start[w] + i]] += (int64_t)words->items[w].count;
        int32_t l = -1, r = -1;
        for (int32_t a = 0; a < N_VOCAB; a++)
            for (int32_t b = 0; b < N_VOCAB; b++) {
                if (!count[a][b] || (l >= 0 && count[a][b] < count[l][r])) continue;
                if (l >= 0 && count[a][b] == count[l][r]) { /* ties: smallest by bytes */
                    char x[64], y[64];
                    size_t na, nb;
                    const char *s = fm_tokenizer_piece(t, a, &na), *q = fm_tokenizer_piece(t, l, &nb);
                    snprintf(x, sizeof x, "%.*s", (int)na, s);
                    snprintf(y, sizeof y, "%.*s", (int)nb, q);
                    int c = strcmp(x, y);
                    if (!c) {
                        s = fm_tokenizer_piece(t, b, &na);
                        q = fm_tokenizer_piece(t, r, &nb);
                        snprintf(x, sizeof x, "%.*s", (int)na, s);
                        snprintf(y, sizeof y, "%.*s", (int)nb, q);
                        c = strcmp(x, y);
                    }
                    if (c >= 0) continue;
                }
                l = a;
                r = b;
            }
        const struct fm_pair *p = fm_pairs_find(&t->pairs, l, r);
        assert_non_null(p);
        assert_int_equal(p->id, id);
        for (uint32_t w = 0; w < words->n; w++) {
            size_t k = 0;
            int32_t *s = all + start[w];
            for (size_t i = 0; i < len[w]; i++) {
                bool hit = i + 1 < len[w] && s[i] == l && s[i + 1] == r;
                s[k++] = hit ? id : s[i];
                i += hit;
            }
            len[w] = k;
        }
    }
    fm_free(all);
    fm_free(start);
    fm_free(len);
    fm_free(count);
}

static void test_training_is_exact(void **state)
{
    (void)state;
    struct fm_tokenizer *t = tiny();
    struct fm_words words = {0};
    OK(fm_words_count(&words, &t->pre, &t->added, corpus, sizeof corpus - 1, NULL, &err));
    assert_int_equal(fm_tokenizer_size(t), N_VOCAB);
    assert_naive_training(t, &words);
    fm_words_release(&words);
    fm_tokenizer_close(t);
}

static int by_text(const void *a, const void *b)
{
    const struct fm_word *x = a, *y = b;
    int c = memcmp(x->text, y->text, x->n < y->n ? x->n : y->n);
    return c ? c : (x->n > y->n) - (x->n < y->n);
}

static enum fm_status count_naively(void *arg, const char *s, size_t n, struct fm_error *e)
{
    (void)e;
    struct fm_words *w = arg;
    w->items[w->n++] = (struct fm_word){s, (uint32_t)n, 1};
    return FM_OK;
}

/* A corpus of several chunks, with special tokens in it. */
static struct fm_buf big_corpus(void)
{
    struct fm_buf b = {0};
    struct fm_rng rng;
    fm_rng_init(&rng, 5);
    while (b.len < (size_t)5 << 19) {
        size_t from = fm_rng_below(&rng, sizeof corpus - 60);
        fm_buf_add(&b, corpus + from, 1 + fm_rng_below(&rng, 58));
        if (fm_rng_below(&rng, 2000) == 0) fm_buf_str(&b, "<|endoftext|>");
    }
    return b;
}

/* Chunks and threads change nothing: the counts are those of one walk over the text. */
static void test_words_are_exact(void **state)
{
    (void)state;
    struct fm_buf text = big_corpus();
    for (int i = 0; fm_pre_at(i); i++) {
        if (quick && i > 2) break;
        struct fm_pre pre = {0};
        struct fm_added added;
        struct fm_words words = {0}, naive = {0};
        struct fm_pool *pool;
        fm_added_init(&added);
        OK(fm_pre_add_name(&pre, fm_pre_at(i), &err));
        OK(fm_pool_new(3, &pool, &err));
        OK(fm_words_count(&words, &pre, &added, text.data, text.len, pool, &err));
        naive.items = fm_malloc(text.len * sizeof *naive.items);
        OK(fm_pre_split(&pre, text.data, text.len, count_naively, &naive, &err));
        qsort(naive.items, naive.n, sizeof *naive.items, by_text);
        qsort(words.items, words.n, sizeof *words.items, by_text);
        uint32_t k = 0;
        for (uint32_t w = 0; w < words.n; w++) {
            uint64_t count = 0;
            for (; k < naive.n && !by_text(&naive.items[k], &words.items[w]); k++) count++;
            if (count != words.items[w].count)
                fail_msg("%s: \"%.*s\" counted %llu times, is there %llu times", fm_pre_at(i)->name,
                         (int)words.items[w].n, words.items[w].text, (unsigned long long)words.items[w].count,
                         (unsigned long long)count);
        }
        assert_int_equal(k, naive.n);
        fm_words_release(&words);
        fm_words_release(&naive);
        fm_pre_release(&pre);
        fm_pool_free(pool);
    }
    fm_buf_release(&text);
}

static void test_training_threads(void **state)
{
    (void)state;
    struct fm_buf text = big_corpus();
    struct fm_tokenizer *first = NULL, *t;
    for (int threads = 1; threads <= 3; threads++) {
        struct fm_bpe_train p = tiny_params();
        p.text = text.data;
        p.n = text.len;
        p.n_vocab = 600;
        p.threads = threads;
        OK(fm_tokenizer_train(&p, &t, &err));
        if (!first) {
            first = t;
            continue;
        }
        assert_int_equal(first->vocab.bytes.len, t->vocab.bytes.len);
        assert_memory_equal(first->vocab.bytes.data, t->vocab.bytes.data, t->vocab.bytes.len);
        assert_same_tokenizer(first, t);
        fm_tokenizer_close(t);
    }
    assert_true(fm_tokenizer_find(first, "endoftext") < 0); /* the special token is no text to learn from */
    fm_tokenizer_close(first);
    fm_buf_release(&text);
}

static void test_training_refuses(void **state)
{
    (void)state;
    struct fm_tokenizer *t = NULL;
    struct fm_bpe_train p = tiny_params();
    p.n_vocab = 255;
    assert_int_equal(fm_tokenizer_train(&p, &t, &err), FM_ERR_USAGE);
    p = tiny_params();
    p.pre = "nonsense";
    assert_int_equal(fm_tokenizer_train(&p, &t, &err), FM_ERR_USAGE);
    static const char *const twice[] = {"<a>", "<a>"}, *const blank[] = {"a b"};
    p = tiny_params();
    p.specials = twice;
    p.n_specials = 2;
    assert_int_equal(fm_tokenizer_train(&p, &t, &err), FM_ERR_USAGE);
    p.specials = blank;
    p.n_specials = 1;
    assert_int_equal(fm_tokenizer_train(&p, &t, &err), FM_ERR_USAGE);
    assert_null(t);
    /* nothing to learn: a small vocabulary, no failure */
    p = tiny_params();
    p.text = "ab cd";
    p.n = 5;
    OK(fm_tokenizer_train(&p, &t, &err));
    assert_int_equal(fm_tokenizer_size(t), 256 + N_SPECIALS);
    assert_round_trip(t, corpus, sizeof corpus - 1);
    fm_tokenizer_close(t);
}

/* ---- writing ---- */

static void test_json_round_trip(void **state)
{
    (void)state;
    struct fm_tokenizer *t = tiny(), *back;
    OK(fm_tokenizer_write_json(t, in_folder("tokenizer.json"), &err));
    OK(fm_tokenizer_open(in_folder("tokenizer.json"), NULL, &back, &err));
    assert_same_tokenizer(t, back);
    assert_string_equal(fm_tokenizer_pre(back), "smollm");
    fm_tokenizer_close(back);
    OK(fm_tokenizer_write_config(t, in_folder("tokenizer_config.json"), "{{ \"quoted\" }}\n", &err));
    OK(fm_tokenizer_open(folder, NULL, &back, &err));
    assert_same_tokenizer(t, back);
    assert_false(fm_tokenizer_add_bos(back));
    fm_tokenizer_close(back);
    static const char config[] = "{\"bos_token\":{\"content\":\"<|im_start|>\"},\"eos_token\":\"<|im_end|>\","
                                 "\"add_bos_token\":true}",
                      generation[] = "{\"eos_token_id\":[3, 7000000, -1]}";
    write_bytes(in_folder("tokenizer_config.json"), config, sizeof config - 1);
    write_bytes(in_folder("generation_config.json"), generation, sizeof generation - 1);
    OK(fm_tokenizer_open(folder, NULL, &back, &err));
    assert_int_equal(fm_tokenizer_bos(back), 1);
    assert_int_equal(fm_tokenizer_eos(back), 2);
    assert_true(fm_tokenizer_add_bos(back) && fm_tokenizer_is_eog(back, 3) && fm_tokenizer_is_eog(back, 2));
    fm_tokenizer_close(back);
    fm_tokenizer_close(t);
    unlink(in_folder("generation_config.json"));
    unlink(in_folder("tokenizer_config.json"));
    unlink(in_folder("tokenizer.json"));
}

static void test_gguf_round_trip(void **state)
{
    (void)state;
    struct fm_tokenizer *t = tiny(), *back;
    write_gguf(t, in_folder("tokenizer.gguf"));
    OK(fm_tokenizer_open(in_folder("tokenizer.gguf"), NULL, &back, &err));
    assert_same_tokenizer(t, back);
    assert_string_equal(fm_tokenizer_pre(back), "smollm");
    assert_true(fm_tokenizer_is_special(back, 1));
    fm_tokenizer_close(back);
    fm_tokenizer_close(t);
    unlink(in_folder("tokenizer.gguf"));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training_is_exact), cmocka_unit_test(test_words_are_exact),
        cmocka_unit_test(test_training_threads),  cmocka_unit_test(test_training_refuses),
        cmocka_unit_test(test_json_round_trip),   cmocka_unit_test(test_gguf_round_trip),
    };
    return RUN(tests);
}
