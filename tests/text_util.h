/* What the tests of text/ share: a temporary folder, and a tiny vocabulary trained on the spot. */
#ifndef TEXT_UTIL_H
#define TEXT_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/rng.h"
#include "text/alphabet.h"
#include "text/tokenizer_impl.h"

static bool quick;          /* --quick: smaller sizes, for sanitizers */
static struct fm_error err; /* of the last call in OK */
static char folder[] = "/tmp/fathom-text-XXXXXX";

static inline const char *in_folder(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static inline void write_bytes(const char *path, const void *s, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(s, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

#define OK(expr)                                                          \
    do {                                                                  \
        if (expr) fail_msg("%s:%d: %s", __FILE__, __LINE__, err.message); \
    } while (0)

/* ---- a tiny vocabulary ---- */

static const char corpus[] =
    "The lighthouse keeper counted eleven ships before the fog rolled in. It's what we've always done.\n"
    "The keeper counted the ships, the ships counted the keeper; 12 ships, 345 keepers, 2026 lighthouses!\n"
    "\tif (ships > 0) {\r\n\t\treturn keeper->count;\r\n\t}\r\n\r\n"
    "Der Wärter zählte elf Schiffe, bevor der Nebel kam. Schöne Schiffe, schöne Wärter.\n"
    "灯台守は霧が来る前に十一隻の船を数えた。船、船、船。\n"
    "🙂🙂 ships 🙂 keeper 🙂🙂🙂 ½ ² ships   and    spaces \n\n\n";

static const char *const specials[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>"};
enum { N_SPECIALS = 4, N_VOCAB = 256 + N_SPECIALS + 60 };

static inline struct fm_bpe_train tiny_params(void)
{
    return (struct fm_bpe_train){.text = corpus,
                                 .n = sizeof corpus - 1,
                                 .n_vocab = N_VOCAB,
                                 .pre = "smollm",
                                 .specials = specials,
                                 .n_specials = N_SPECIALS,
                                 .threads = 1};
}

static inline struct fm_tokenizer *tiny(void)
{
    struct fm_bpe_train p = tiny_params();
    struct fm_tokenizer *t = NULL;
    OK(fm_tokenizer_train(&p, &t, &err));
    return t;
}

static inline struct fm_ids encode(const struct fm_tokenizer *t, const char *s, size_t n, unsigned flags)
{
    struct fm_ids ids = {0};
    OK(fm_tokenizer_encode(t, s, n, flags, &ids, &err));
    return ids;
}

static inline void assert_same_ids(const struct fm_ids *a, const struct fm_ids *b)
{
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) assert_int_equal(a->data[i], b->data[i]);
}

/* Both encode these texts alike. */
static inline void assert_same_tokenizer(const struct fm_tokenizer *a, const struct fm_tokenizer *b)
{
    static const char *const texts[] = {corpus, "", " ", "ships<|im_end|>\n<think>x", "½12 \xff\xc0 Wärter\r\n"};
    assert_int_equal(fm_tokenizer_size(a), fm_tokenizer_size(b));
    assert_int_equal(fm_tokenizer_bos(a), fm_tokenizer_bos(b));
    assert_int_equal(fm_tokenizer_eos(a), fm_tokenizer_eos(b));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct fm_ids x = encode(a, texts[i], strlen(texts[i]), FM_ENCODE_SPECIAL);
        struct fm_ids y = encode(b, texts[i], strlen(texts[i]), FM_ENCODE_SPECIAL);
        assert_same_ids(&x, &y);
        fm_ids_release(&x);
        fm_ids_release(&y);
    }
}

static inline void assert_round_trip(const struct fm_tokenizer *t, const char *s, size_t n)
{
    struct fm_ids ids = encode(t, s, n, 0);
    struct fm_buf back = {0};
    OK(fm_tokenizer_decode(t, ids.data, ids.n, &back, &err));
    assert_int_equal(back.len, n);
    if (n) assert_memory_equal(back.data, s, n);
    fm_ids_release(&ids);
    fm_buf_release(&back);
}

/* A GGUF file with nothing but the tokenizer. */
static inline void write_gguf(const struct fm_tokenizer *t, const char *path)
{
    struct fm_writer *w;
    OK(fm_writer_open(path, FM_GGUF, &w, &err));
    fm_writer_meta_str(w, "general.architecture", "none", 4);
    OK(fm_tokenizer_write_gguf(t, w, &err));
    OK(fm_writer_begin(w, &err));
    OK(fm_writer_commit(w, &err));
}

/* ---- a temporary folder ---- */

static inline int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

/* Parse the arguments, run the tests in a folder of their own. */
#define RUN(tests) \
    (quick = argc > 1 && !strcmp(argv[1], "--quick"), cmocka_run_group_tests(tests, make_folder, remove_folder))

#endif
