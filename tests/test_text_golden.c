/* Tokenizers against the ids that others computed: llama.cpp's vocabulary tests, kitoken's ids, transformers.js' tests,
 * the DeepSeek vectors, SmolLM2's oracle.  Data: $FATHOM_SHARED/data/1-tokenizers (default ../shared); what is absent
 * is skipped by name.  --quick: fewer tables, for sanitizers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/env.h"
#include "base/json.h"
#include "text/nfc.h"
#include "text/tokenizer.h"

static bool quick;

static const char *shared(const char *name)
{
    static char path[2][1024];
    static int turn;
    const char *root = fm_env("FATHOM_SHARED");
    turn = !turn;
    snprintf(path[turn], sizeof path[0], "%s/data/1-tokenizers/%s", root ? root : "../shared", name);
    return path[turn];
}

static bool have(const char *name)
{
    if (!access(shared(name), R_OK)) return true;
    printf("SKIP %s: not in the shared data\n", name);
    return false;
}

static struct fm_buf slurp(const char *path)
{
    struct fm_buf b = {0};
    struct fm_error err;
    if (fm_buf_read_file(&b, path, (size_t)1 << 30, &err)) fail_msg("%s", err.message);
    return b;
}

static struct fm_tokenizer *open_path(const char *path, const char *pre)
{
    struct fm_tokenizer *t = NULL;
    struct fm_error err;
    if (fm_tokenizer_open(path, pre, &t, &err)) fail_msg("%s", err.message);
    return t;
}

/* name.gz, unpacked by gzip into a temporary file that is gone when this returns. */
static struct fm_tokenizer *open_gz(const char *name)
{
    char path[] = "/tmp/fathom-text-XXXXXX", command[2300];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    snprintf(command, sizeof command, "gzip -dc '%s' > %s", shared(name), path);
    assert_int_equal(system(command), 0);
    struct fm_tokenizer *t = open_path(path, NULL);
    unlink(path);
    return t;
}

static void encode(const struct fm_tokenizer *t, const char *s, size_t n, unsigned flags, struct fm_ids *ids)
{
    struct fm_error err;
    ids->n = 0;
    if (fm_tokenizer_encode(t, s, n, flags, ids, &err)) fail_msg("%s", err.message);
}

static void print_ids(const char *what, const int32_t *ids, size_t n)
{
    printf("  %s:", what);
    for (size_t i = 0; i < n && i < 60; i++) printf(" %d", ids[i]);
    printf("\n");
}

/* Ids of the text; 1 and a report when they differ. */
static int differs(const struct fm_tokenizer *t, const char *s, size_t n, unsigned flags, const struct fm_ids *want)
{
    struct fm_ids got = {0};
    encode(t, s, n, flags, &got);
    int bad = got.n != want->n || (got.n && memcmp(got.data, want->data, got.n * sizeof *got.data) != 0);
    if (bad) {
        printf("text: \"%.*s\"\n", (int)(n < 200 ? n : 200), s);
        print_ids("want", want->data, want->n);
        print_ids("got ", got.data, got.n);
    }
    fm_ids_release(&got);
    return bad;
}

/* encode → decode gives the bytes back. */
static void round_trip(const struct fm_tokenizer *t, const char *s, size_t n, unsigned flags)
{
    struct fm_ids ids = {0};
    struct fm_buf back = {0};
    struct fm_error err;
    encode(t, s, n, flags, &ids);
    if (fm_tokenizer_decode(t, ids.data, ids.n, &back, &err)) fail_msg("%s", err.message);
    if (back.len != n || (n && memcmp(back.data, s, n) != 0)) {
        printf("text: \"%.*s\"\nback: \"%.*s\"\n", (int)n, s, (int)back.len, back.len ? back.data : "");
        fail_msg("decoding changes the text");
    }
    fm_ids_release(&ids);
    fm_buf_release(&back);
}

/* Every code point there is, in one text, comes back; Qwen's in Unicode's form C.  ▁ is the blank of SentencePiece. */
static void check_code_points(const struct fm_tokenizer *t)
{
    const char *pre = fm_tokenizer_pre(t);
    struct fm_buf all = {0}, want = {0};
    struct fm_error err;
    for (uint32_t c = 0; c <= 0x10FFFF && !quick; c++)
        if ((c < 0xD800 || c >= 0xE000) && (pre || c != 0x2581)) fm_buf_utf8(&all, c);
    if (pre && !strcmp(pre, "qwen2") && !quick) {
        if (fm_nfc(all.data, all.len, &want, &err)) fail_msg("%s", err.message);
        assert_true(want.len != all.len);
        round_trip(t, want.data, want.len, 0);
        struct fm_ids a = {0}, b = {0};
        encode(t, all.data, all.len, 0, &a);
        encode(t, want.data, want.len, 0, &b);
        assert_true(a.n == b.n && !memcmp(a.data, b.data, a.n * sizeof *a.data));
        fm_ids_release(&a);
        fm_ids_release(&b);
    } else if (all.len) {
        round_trip(t, all.data, all.len, 0);
    }
    fm_buf_release(&all);
    fm_buf_release(&want);
}

/* Ids in decimal, with anything between, up to the end of the line; moves *s behind it. */
static void read_ids(const char **s, struct fm_ids *ids)
{
    ids->n = 0;
    while (**s && **s != '\n') {
        char *end;
        long v = strtol(*s, &end, 10);
        if (end == *s)
            ++*s;
        else {
            assert_int_equal(fm_ids_push(ids, (int32_t)v, NULL), FM_OK);
            *s = end;
        }
    }
    if (**s) ++*s;
}

/* ---- llama.cpp: NAME.inp has texts between marks, NAME.out a line of ids for each ---- */

static void check_inp_out(const struct fm_tokenizer *t, const char *name)
{
    static const char mark[] = "\n__ggml_vocab_test__\n";
    char file[128];
    snprintf(file, sizeof file, "llama.cpp-vocab/ggml-vocab-%s.gguf.inp", name);
    struct fm_buf inp = slurp(shared(file));
    snprintf(file, sizeof file, "llama.cpp-vocab/ggml-vocab-%s.gguf.out", name);
    struct fm_buf out = slurp(shared(file));
    struct fm_ids want = {0};
    int n = 0, bad = 0;
    const char *ids = out.data;
    for (const char *s = inp.data, *end; s; n++) {
        end = strstr(s, mark);
        size_t len = end ? (size_t)(end - s) : strlen(s);
        if (!end && !*ids) break; /* what follows the last mark is no text */
        read_ids(&ids, &want);
        bad += differs(t, s, len, 0, &want);
        s = end ? end + sizeof mark - 1 : NULL;
    }
    printf("%s: %d of %d texts differ from llama.cpp\n", name, bad, n);
    assert_int_equal(bad, 0);
    assert_true(n >= 46);
    fm_ids_release(&want);
    fm_buf_release(&inp);
    fm_buf_release(&out);
}

static void test_llama_cpp_gguf(void **state)
{
    (void)state;
    static const char *const names[] = {"deepseek-coder", "deepseek-llm", "gpt-2", "llama-spm"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char file[128];
        snprintf(file, sizeof file, "llama.cpp-vocab/ggml-vocab-%s.gguf", names[i]);
        if (!have(file) || (quick && i == 1)) continue;
        struct fm_tokenizer *t = open_path(shared(file), NULL);
        check_inp_out(t, names[i]);
        check_code_points(t);
        fm_tokenizer_close(t);
    }
}

static void test_llama_cpp_others_load(void **state)
{
    (void)state;
    static const char *const names[] = {"phi-3", "falcon", "starcoder"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char file[128];
        snprintf(file, sizeof file, "llama.cpp-vocab/ggml-vocab-%s.gguf", names[i]);
        if (!have(file) || quick) continue;
        struct fm_tokenizer *t = open_path(shared(file), NULL);
        assert_true(fm_tokenizer_size(t) > 32000);
        if (!i) check_code_points(t); /* the others have no token for some bytes */
        fm_tokenizer_close(t);
    }
}

static void test_rank_files(void **state)
{
    (void)state;
    if (have("llama3/tokenizer.model")) {
        struct fm_tokenizer *t = open_path(shared("llama3/tokenizer.model"), "llama3");
        check_inp_out(t, "llama-bpe");
        check_code_points(t);
        assert_int_equal(fm_tokenizer_size(t), 128256);
        assert_int_equal(fm_tokenizer_find(t, "<|eot_id|>"), 128009);
        assert_int_equal(fm_tokenizer_bos(t), 128000);
        assert_int_equal(fm_tokenizer_eos(t), 128001);
        assert_true(fm_tokenizer_is_eog(t, 128009) && fm_tokenizer_is_eog(t, 128001));
        fm_tokenizer_close(t);
    }
    if (quick || !have("qwen/qwen.tiktoken")) return;
    struct fm_tokenizer *t = open_path(shared("qwen/qwen.tiktoken"), "qwen2");
    check_inp_out(t, "qwen2");
    check_inp_out(t, "deepseek-r1-qwen");
    check_code_points(t);
    assert_int_equal(fm_tokenizer_find(t, "<|im_end|>"), 151645);
    assert_int_equal(fm_tokenizer_bos(t), -1);
    fm_tokenizer_close(t);
}

/* ---- kitoken: a line of text, a line of ids ---- */

/* A line of small_input.txt; \n \s \x stand for newline, space, nothing. */
static void unescape(const char *s, size_t n, struct fm_buf *out)
{
    fm_buf_clear(out);
    for (size_t i = 0; i < n; i++) {
        char next = i + 1 < n ? s[i + 1] : 0;
        if (s[i] != '\\' || !next || !strchr("nsx", next)) {
            fm_buf_char(out, s[i]);
            continue;
        }
        if (next != 'x') fm_buf_char(out, next == 'n' ? '\n' : ' ');
        i++;
    }
}

static void check_kitoken(const struct fm_tokenizer *t, const char *ids_file, unsigned flags)
{
    struct fm_buf in = slurp(shared("kitoken/small_input.txt")), ids = slurp(shared(ids_file)), text = {0};
    struct fm_ids want = {0};
    const char *s = in.data, *line = ids.data;
    int n = 0, bad = 0;
    for (; *s && *line; n++) {
        const char *end = strchr(s, '\n');
        size_t len = end ? (size_t)(end - s) : strlen(s);
        unescape(s, len, &text);
        read_ids(&line, &want);
        bad += differs(t, text.data, text.len, flags, &want);
        s += len + (end != NULL);
    }
    printf("%s: %d of %d lines differ\n", ids_file, bad, n);
    assert_int_equal(bad, 0);
    assert_true(n >= 20);
    fm_ids_release(&want);
    fm_buf_release(&in);
    fm_buf_release(&ids);
    fm_buf_release(&text);
}

static void test_kitoken(void **state)
{
    (void)state;
    static const struct {
        const char *table, *pre, *ids;
        unsigned flags;
        bool quick;
    } rows[] = {
        {"kitoken/models/tokenizers/gpt2.json", NULL, "kitoken/tokenizers/small_tokens_gpt2.txt", FM_ENCODE_SPECIAL,
         true},
        {"kitoken/models/tokenizers/llama2.json", NULL, "kitoken/tokenizers/small_tokens_llama2.txt", FM_ENCODE_SPECIAL,
         true},
        {"kitoken/models/tokenizers/mistral03.json", NULL, "kitoken/tokenizers/small_tokens_mistral03.txt",
         FM_ENCODE_SPECIAL, false},
        {"kitoken/models/sentencepiece/llama2.model", NULL, "kitoken/sentencepiece/small_tokens_llama2.txt", 0, true},
        {"kitoken/models/sentencepiece/mistral03.model", NULL, "kitoken/sentencepiece/small_tokens_mistral03.txt", 0,
         false},
        {"kitoken/models/tiktoken/cl100k_base.tiktoken", "cl100k", "kitoken/tiktoken/small_tokens_cl100k_base.txt",
         FM_ENCODE_SPECIAL, false},
        {"kitoken/models/tiktoken/kimi_k2.tiktoken", "kimi-k2", "kitoken/tiktoken/small_tokens_kimi_k2.txt",
         FM_ENCODE_SPECIAL, true},
        {"llama3/tokenizer.model", "llama3", "kitoken/tokenizers/small_tokens_llama32.txt", FM_ENCODE_SPECIAL, false},
        {"llama3/tokenizer.model", "llama3", "kitoken/tokenizers/small_tokens_llama33.txt", FM_ENCODE_SPECIAL, false},
    };
    if (!have("kitoken/small_input.txt")) return;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!have(rows[i].table) || (quick && !rows[i].quick)) continue;
        struct fm_tokenizer *t = open_path(shared(rows[i].table), rows[i].pre);
        check_kitoken(t, rows[i].ids, rows[i].flags);
        if (strcmp(rows[i].table, "llama3/tokenizer.model")) check_code_points(t);
        fm_tokenizer_close(t);
    }
}

/* What SentencePiece changes on the way there and back is known: the leading space. */
static void test_kitoken_decoded(void **state)
{
    (void)state;
    static const char *const names[] = {"llama2", "mistral03"};
    for (size_t i = 0; i < 2 && have("kitoken/small_input.txt"); i++) {
        char file[128];
        if (quick && i) return;
        snprintf(file, sizeof file, "kitoken/models/tokenizers/%s.json", names[i]);
        struct fm_tokenizer *t = open_path(shared(file), NULL);
        snprintf(file, sizeof file, "kitoken/tokenizers/small_output_%s.txt", names[i]);
        struct fm_buf in = slurp(shared("kitoken/small_input.txt")), out = slurp(shared(file)), a = {0}, b = {0},
                      c = {0};
        const char *s = in.data, *w = out.data;
        while (*s && *w) {
            size_t n = strcspn(s, "\n"), m = strcspn(w, "\n");
            struct fm_ids ids = {0};
            unescape(s, n, &a);
            unescape(w, m, &b);
            encode(t, a.data, a.len, FM_ENCODE_SPECIAL, &ids);
            fm_buf_clear(&c);
            assert_int_equal(fm_tokenizer_decode(t, ids.data, ids.n, &c, NULL), FM_OK);
            assert_string_equal(c.data, b.data);
            fm_ids_release(&ids);
            s += n + (s[n] != 0);
            w += m + (w[m] != 0);
        }
        fm_tokenizer_close(t);
        fm_buf_release(&in);
        fm_buf_release(&out);
        fm_buf_release(&a);
        fm_buf_release(&b);
        fm_buf_release(&c);
    }
}

/* ---- transformers.js ---- */

static void want_from_json(const json_t *list, struct fm_ids *want)
{
    size_t i;
    json_t *e;
    want->n = 0;
    json_array_foreach(list, i, e) assert_int_equal(fm_ids_push(want, (int32_t)json_integer_value(e), NULL), FM_OK);
}

static void check_transformers(const char *model, const char *table, const char *pre, unsigned flags)
{
    if (!have(table)) return;
    struct fm_tokenizer *t = open_path(shared(table), pre);
    struct fm_buf lines = slurp(shared("transformers.js/goldens-a.jsonl"));
    struct fm_ids want = {0};
    int n = 0, bad = 0;
    for (const char *s = lines.data; *s;) {
        size_t len = strcspn(s, "\n");
        json_error_t why;
        json_t *j = json_loadb(s, len, JSON_ALLOW_NUL, &why); /* NULL: a lone surrogate, which UTF-8 cannot hold */
        s += len + (s[len] != 0);
        const json_t *text = json_object_get(j, "text");
        if (!strcmp(fm_json_str(j, "model", ""), model)) {
            want_from_json(json_object_get(j, "ids"), &want);
            bad += differs(t, json_string_value(text), json_string_length(text), flags, &want);
            n++;
        }
        json_decref(j);
    }
    printf("%s: %d of %d texts differ from transformers.js\n", model, bad, n);
    assert_int_equal(bad, 0);
    assert_true(n > 0);
    fm_ids_release(&want);
    fm_buf_release(&lines);
    fm_tokenizer_close(t);
}

static void test_transformers_js(void **state)
{
    (void)state;
    unsigned special = FM_ENCODE_SPECIAL;
    if (!have("transformers.js/goldens-a.jsonl")) return;
    check_transformers("Xenova/llama-tokenizer", "kitoken/models/tokenizers/llama2.json", NULL,
                       special | FM_ENCODE_BOS);
    check_transformers("Xenova/gpt2", "kitoken/models/tokenizers/gpt2.json", NULL, special);
    if (quick) return;
    check_transformers("Xenova/llama3-tokenizer", "llama3/tokenizer.model", "llama3", special);
    check_transformers("Xenova/llama3-tokenizer-new", "llama3/tokenizer.model", "llama3", special | FM_ENCODE_BOS);
    check_transformers("Xenova/deepseek-coder-1.3b-instruct", "llama.cpp-vocab/ggml-vocab-deepseek-coder.gguf", NULL,
                       special | FM_ENCODE_BOS);
    check_transformers("Xenova/gpt-4", "kitoken/models/tiktoken/cl100k_base.tiktoken", "cl100k", special);
    check_transformers("Xenova/Qwen1.5-0.5B-Chat", "qwen/qwen.tiktoken", "qwen2", special);
}

/* ---- DeepSeek ---- */

static void check_line(const struct fm_tokenizer *t, const char *text, const char *ids)
{
    struct fm_ids want = {0};
    read_ids(&ids, &want);
    assert_int_equal(differs(t, text, strlen(text), FM_ENCODE_SPECIAL, &want), 0);
    fm_ids_release(&want);
}

/* models.md §11.3 */
static void check_spec_vectors(const struct fm_tokenizer *t)
{
    static const struct {
        const char *text, *ids;
    } rows[] = {
        {"你好", "30594"},
        {"Hello, world!", "19923 14 2058 3"},
        {" hello", "44388"},
        {"The year 2026 is 12345678.", "671 1141 223 939 24 344 223 6895 18009 2597 16"},
        {"def f(x):\n    return x+1\n", "3465 285 4042 3395 361 1354 1527 13 19 201"},
        {"  two spaces\n\n\nthree", "223 1234 13564 6328 30230"},
        {"こんにちは世界", "4549 7245 2298 12457 2841 3427"},
        {"naïve café résumé", "2720 91223 57664 21538 90902"},
        {"🙂🙂", "80300 227 80300 227"},
        {"a\tb\r\n", "67 37496 204 201"},
        {"don't I'll we've", "20385 1664 342 5922 579 5270"},
        {"1+1=2", "19 13 19 31 20"},
        {"مرحبا", "10393 2212 53067"},
        {"𝔘𝔫𝔦", "3128 245 249 3128 245 107 3128 245 102"},
        {"   ", "361"},
        {"x\u00a0y", "90 2162 91"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check_line(t, rows[i].text, rows[i].ids);
}

static void check_small_goldens(const struct fm_tokenizer *t, const char *name)
{
    json_t *root;
    size_t i;
    json_t *e;
    struct fm_ids want = {0};
    int n = 0;
    assert_int_equal(fm_json_read(shared("deepseek-v4/goldens-small.json"), &root, NULL), FM_OK);
    json_array_foreach(root, i, e)
    {
        if (strcmp(fm_json_str(e, "tokenizer", ""), name)) continue;
        const char *text = fm_json_str(e, "text", "");
        want_from_json(json_object_get(e, "ids"), &want);
        assert_int_equal(differs(t, text, strlen(text), FM_ENCODE_SPECIAL, &want), 0);
        n++;
    }
    assert_true(n > 0);
    fm_ids_release(&want);
    json_decref(root);
}

/* The big list of naughty strings, whole, line by line, and with bytes that are no UTF-8. */
static void check_naughty(const struct fm_tokenizer *t)
{
    if (!have("blns/blns.txt")) return;
    struct fm_buf b = slurp(shared("blns/blns.txt"));
    round_trip(t, b.data, b.len, 0);
    round_trip(t, b.data, b.len, FM_ENCODE_SPECIAL);
    for (size_t i = 0; i < b.len;) {
        size_t n = strcspn(b.data + i, "\n");
        round_trip(t, b.data + i, n, 0);
        i += n + 1;
    }
    for (size_t i = 7; i < b.len; i += 31) b.data[i] = (char)(0x80 + i % 0x80);
    round_trip(t, b.data, b.len, 0);
    fm_buf_release(&b);
}

static void test_deepseek_r1(void **state)
{
    (void)state;
    if (!have("deepseek-r1-v3.1/tokenizer-encode-side.json.gz")) return;
    struct fm_tokenizer *t = open_gz("deepseek-r1-v3.1/tokenizer-encode-side.json.gz");
    assert_string_equal(fm_tokenizer_pre(t), "deepseek-v3");
    assert_int_equal(fm_tokenizer_bos(t), 0);
    assert_int_equal(fm_tokenizer_eos(t), 1);
    assert_int_equal(fm_tokenizer_find(t, "<think>"), 128798);
    assert_true(fm_tokenizer_is_special(t, 0) && !fm_tokenizer_is_special(t, 128798));
    check_spec_vectors(t);
    check_line(t, "<｜User｜>你好<｜Assistant｜><think>推理</think>答案<｜end▁of▁sentence｜>",
               "128803 30594 128804 128798 36101 128799 7624 1");
    check_small_goldens(t, "deepseek-r1");
    check_kitoken(t, "kitoken/tokenizers/small_tokens_r1.txt", FM_ENCODE_SPECIAL);
    check_code_points(t);
    check_naughty(t);
    fm_tokenizer_close(t);
}

static void test_deepseek_v4(void **state)
{
    (void)state;
    if (quick || !have("deepseek-v4/tokenizer-encode-side.json.gz")) return;
    struct fm_tokenizer *t = open_gz("deepseek-v4/tokenizer-encode-side.json.gz");
    check_spec_vectors(t);
    check_small_goldens(t, "deepseek-v4");
    check_code_points(t);
    assert_int_equal(fm_tokenizer_find(t, "｜DSML｜"), 128825);
    /* the wider token wins over its beginning, the earlier over the longer */
    check_line(t, "<｜DSML｜", "30 128825");
    fm_tokenizer_close(t);
}

static void test_naughty_gpt2(void **state)
{
    (void)state;
    if (!have("kitoken/models/tokenizers/gpt2.json")) return;
    struct fm_tokenizer *t = open_path(shared("kitoken/models/tokenizers/gpt2.json"), NULL);
    assert_string_equal(fm_tokenizer_pre(t), "gpt2");
    assert_int_equal(fm_tokenizer_bos(t), 50256);
    check_naughty(t);
    fm_tokenizer_close(t);
}

/* ---- SmolLM2: tests/oracle/smollm2/tokens.jsonl, the GGUF named by FATHOM_SMOLLM2 ---- */

static void test_smollm2(void **state)
{
    (void)state;
    const char *gguf = fm_env("FATHOM_SMOLLM2");
    if (!gguf || access(gguf, R_OK) || access("tests/oracle/smollm2/tokens.jsonl", R_OK)) {
        printf("SKIP smollm2: FATHOM_SMOLLM2 names no GGUF file, or the oracle is absent\n");
        return;
    }
    struct fm_tokenizer *t = open_path(gguf, NULL);
    struct fm_buf lines = slurp("tests/oracle/smollm2/tokens.jsonl");
    struct fm_ids want = {0};
    int n = 0, bad = 0;
    for (const char *s = lines.data; *s;) {
        size_t len = strcspn(s, "\n");
        json_t *j;
        assert_int_equal(fm_json_parse(s, len, "tokens.jsonl", &j, NULL), FM_OK);
        s += len + (s[len] != 0);
        const json_t *text = json_object_get(j, "text");
        want_from_json(json_object_get(j, "ids"), &want);
        bad += differs(t, json_string_value(text), json_string_length(text), FM_ENCODE_SPECIAL, &want);
        n++;
        json_decref(j);
    }
    printf("SmolLM2: %d of %d texts differ from llama.cpp\n", bad, n);
    assert_int_equal(bad, 0);
    fm_ids_release(&want);
    fm_buf_release(&lines);
    fm_tokenizer_close(t);
}

int main(int argc, char **argv)
{
    quick = argc > 1 && !strcmp(argv[1], "--quick");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama_cpp_gguf),  cmocka_unit_test(test_llama_cpp_others_load),
        cmocka_unit_test(test_rank_files),      cmocka_unit_test(test_kitoken),
        cmocka_unit_test(test_kitoken_decoded), cmocka_unit_test(test_transformers_js),
        cmocka_unit_test(test_deepseek_r1),     cmocka_unit_test(test_deepseek_v4),
        cmocka_unit_test(test_naughty_gpt2),    cmocka_unit_test(test_smollm2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
