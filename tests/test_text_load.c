/* Tokenizer files of every kind: good, damaged, hostile; and memory that runs out at every allocation. */
#include "base/mem.h"
#include "text/chat.h"
#include "text/nfc.h"
#include "text_util.h"

/* ---- hostile tokenizer.json ---- */

#define PRE_BYTES "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
#define MODEL(vocab, merges) \
    "{" PRE_BYTES ",\"model\":{\"type\":\"BPE\",\"vocab\":{" vocab "},\"merges\":[" merges "]}}"
static const char small_json[] =
    "{\"added_tokens\":[{\"id\":5,\"content\":\"<x>\",\"special\":true}]," PRE_BYTES ",\"normalizer\":null,"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<x>\"}},"
    "{\"Sequence\":{\"id\":\"A\"}}]},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"\xC4\xA0\":3},"
    "\"merges\":[\"a b\"]}}";

static enum fm_status load_json(const char *s, size_t n, struct fm_error *e)
{
    struct fm_tokenizer *t = NULL;
    enum fm_status st = fm_tokenizer_load_json(s, n, "test", &t, e);
    if (st) assert_null(t);
    fm_tokenizer_close(t);
    return st;
}

static void test_json_hostile(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{}",
        "{\"model\":5}",
        "{\"model\":{\"type\":\"Unigram\",\"vocab\":[],\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":[],\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{}}}",
        MODEL("\"a\":\"x\"", ""),
        MODEL("\"a\":-1", ""),
        MODEL("\"a\":1000000000", ""),
        MODEL("\"a\":9223372036854775807", ""),
        MODEL("\"a\":0,\"b\":0", ""),
        MODEL("\"a\":0,\"a\":1", ""),
        MODEL("\"a\":0", "\"a z\""),
        MODEL("\"a\":0,\"b\":1", "\"a b\""),
        MODEL("\"a\":0", "\"a\""),
        MODEL("\"a\":0", "\"a a a\""),
        MODEL("\"a\":0", "5"),
        MODEL("\"a\":0", "[\"a\"]"),
        MODEL("\"a\":0", "[\"a\",5]"),
        "{\"added_tokens\":[{\"id\":1000000000,\"content\":\"x\"}]," PRE_BYTES
        ",\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}",
        "{\"added_tokens\":[{\"content\":\"x\"}]," PRE_BYTES ",\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}",
        "{\"added_tokens\":[{\"id\":1,\"content\":\"x\"},{\"id\":1,\"content\":\"y\"}]," PRE_BYTES
        ",\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}",
        "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"}"
        ","
        "\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\"}]},\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}",
        "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"}"
        ","
        "\"behavior\":\"Nonsense\"},{\"type\":\"ByteLevel\"}]},\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}",
        "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"UnicodeScripts\"},"
        "{\"type\":\"ByteLevel\"}]},\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}",
        "{\"normalizer\":{\"type\":\"Lowercase\"}," PRE_BYTES ",\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}",
        "[[[[[[[[",
        "",
    };
    assert_int_equal(load_json(small_json, sizeof small_json - 1, &err), FM_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err.message[0] = 0;
        if (load_json(bad[i], strlen(bad[i]), &err) != FM_ERR_INPUT) fail_msg("accepted: %s", bad[i]);
        assert_non_null(strstr(err.message, "test"));
    }
    for (size_t n = 0; n < sizeof small_json - 1; n++) assert_int_equal(load_json(small_json, n, &err), FM_ERR_INPUT);
}

/* One byte changed, anywhere: any answer but a crash. */
static void test_json_corrupted(void **state)
{
    (void)state;
    struct fm_rng rng;
    fm_rng_init(&rng, 17);
    char text[sizeof small_json];
    for (int i = 0; i < (quick ? 1000 : 20000); i++) {
        memcpy(text, small_json, sizeof text);
        for (int k = 0; k < 1 + i % 3; k++)
            text[fm_rng_below(&rng, sizeof text - 1)] = "0123456789{}[]\",:ab-\\"[fm_rng_below(&rng, 21)];
        (void)!load_json(text, sizeof text - 1, &err);
    }
}

static void test_json_gaps_and_missing_bytes(void **state)
{
    (void)state;
    struct fm_tokenizer *t;
    struct fm_ids ids = {0};
    struct fm_buf out = {0};
    OK(fm_tokenizer_load_json(small_json, sizeof small_json - 1, "test", &t, &err));
    assert_int_equal(fm_tokenizer_size(t), 6); /* id 4 is a gap */
    assert_true(fm_tokenizer_add_bos(t) && fm_tokenizer_bos(t) == 5);
    int32_t all[] = {2, 4, 3, 5};
    OK(fm_tokenizer_decode(t, all, 4, &out, &err));
    assert_string_equal(out.data, "ab <x>");
    OK(fm_tokenizer_encode(t, "ab a", 4, 0, &ids, &err));
    assert_int_equal(ids.n, 3);
    assert_int_equal(fm_tokenizer_encode(t, "az", 2, 0, &ids, &err), FM_ERR_INPUT); /* nothing for 'z' */
    assert_int_equal(ids.n, 3);
    fm_ids_release(&ids);
    fm_buf_release(&out);
    fm_tokenizer_close(t);
}

/* ---- SentencePiece ---- */

static void put_varint(struct fm_buf *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) fm_buf_char(b, (char)(v | 0x80));
    fm_buf_char(b, (char)v);
}

static void put_bytes_field(struct fm_buf *b, int number, const char *s, size_t n)
{
    put_varint(b, (uint64_t)number << 3 | 2);
    put_varint(b, n);
    fm_buf_add(b, s, n);
}

static void put_model_piece(struct fm_buf *b, const char *s, float score, int type)
{
    struct fm_buf p = {0};
    put_bytes_field(&p, 1, s, strlen(s));
    put_varint(&p, 2 << 3 | 5);
    fm_buf_add(&p, &score, 4);
    if (type != 1) {
        put_varint(&p, 3 << 3);
        put_varint(&p, (uint64_t)type);
    }
    put_bytes_field(b, 1, p.data, p.len);
    fm_buf_release(&p);
}

/* <unk> <s> </s>, 256 bytes, then from id 259 on: ▁ a b ab ▁a ▁ab ▁▁ ba */
static struct fm_buf spm_model(int model_type)
{
    static const char *const pieces[] = {"▁", "a", "b", "ab", "▁a", "▁ab", "▁▁", "ba"};
    static const float scores[] = {-1000, -1000, -1000, -1, -2, -3, -4, -5};
    struct fm_buf b = {0}, spec = {0};
    put_model_piece(&b, "<unk>", 0, 2);
    put_model_piece(&b, "<s>", 0, 3);
    put_model_piece(&b, "</s>", 0, 3);
    for (int i = 0; i < 256; i++) {
        char s[8];
        snprintf(s, sizeof s, "<0x%02X>", i);
        put_model_piece(&b, s, 0, 6);
    }
    for (int i = 0; i < 8; i++) put_model_piece(&b, pieces[i], scores[i], 1);
    put_varint(&spec, 3 << 3);
    put_varint(&spec, (uint64_t)model_type);
    put_bytes_field(&b, 2, spec.data, spec.len);
    fm_buf_clear(&spec);
    put_varint(&spec, 4 << 3); /* remove_extra_whitespaces */
    put_varint(&spec, 0);
    put_bytes_field(&b, 3, spec.data, spec.len);
    fm_buf_release(&spec);
    return b;
}

static void assert_ids(const struct fm_tokenizer *t, const char *s, unsigned flags, int n, const int32_t *want)
{
    struct fm_ids ids = encode(t, s, strlen(s), flags);
    struct fm_ids w = {(int32_t *)(size_t)want, (size_t)n, 0};
    assert_same_ids(&ids, &w);
    fm_ids_release(&ids);
}

static void check_spm(const struct fm_tokenizer *t)
{
    assert_ids(t, "ab", 0, 1, (int32_t[]){264});
    assert_ids(t, "abba", 0, 2, (int32_t[]){264, 266}); /* ▁ab ba: ab merges before ba */
    assert_ids(t, " ab", 0, 2, (int32_t[]){259, 264});
    assert_ids(t, "▁ab", 0, 2, (int32_t[]){259, 264});
    assert_ids(t, "c", 0, 2, (int32_t[]){259, 3 + 'c'});
    assert_ids(t, "a\xff", 0, 2, (int32_t[]){263, 3 + 255});
    assert_ids(t, "a</s>a", FM_ENCODE_SPECIAL | FM_ENCODE_BOS, 4, (int32_t[]){1, 263, 2, 263});
    assert_ids(t, "", FM_ENCODE_BOS, 1, (int32_t[]){1});
    assert_round_trip(t, "ab ba\xff é 漢", 14);
}

static void test_spm(void **state)
{
    (void)state;
    struct fm_buf b = spm_model(2);
    struct fm_tokenizer *t, *back;
    write_bytes(in_folder("tokenizer.model"), b.data, b.len);
    OK(fm_tokenizer_open(folder, NULL, &t, &err));
    check_spm(t);
    assert_true(fm_tokenizer_add_bos(t) && fm_tokenizer_eos(t) == 2);
    write_gguf(t, in_folder("spm.gguf"));
    OK(fm_tokenizer_open(in_folder("spm.gguf"), NULL, &back, &err));
    check_spm(back);
    fm_tokenizer_close(back);
    OK(fm_tokenizer_write_json(t, in_folder("x.json"), &err));
    OK(fm_tokenizer_open(in_folder("x.json"), NULL, &back, &err));
    check_spm(back);
    assert_true(fm_tokenizer_add_bos(back) && fm_tokenizer_bos(back) == 1);
    write_gguf(back, in_folder("spm.gguf")); /* the scores are made of the merges now */
    fm_tokenizer_close(back);
    OK(fm_tokenizer_open(in_folder("spm.gguf"), NULL, &back, &err));
    check_spm(back);
    fm_tokenizer_close(back);
    fm_tokenizer_close(t);
    fm_buf_release(&b);
    unlink(in_folder("tokenizer.model"));
    unlink(in_folder("x.json"));
    unlink(in_folder("spm.gguf"));
}

static enum fm_status load_spm(const char *s, size_t n, struct fm_error *e)
{
    struct fm_tokenizer *t = NULL;
    enum fm_status st = fm_tokenizer_load_spm(s, n, "test", &t, e);
    if (st) assert_null(t);
    fm_tokenizer_close(t);
    return st;
}

static void test_spm_hostile(void **state)
{
    (void)state;
    struct fm_buf b = spm_model(2), uni = spm_model(1);
    struct fm_rng rng;
    fm_rng_init(&rng, 23);
    assert_int_equal(load_spm(uni.data, uni.len, &err), FM_ERR_INPUT); /* unigram */
    for (size_t n = 0; n < b.len; n += quick ? 7 : 1) (void)!load_spm(b.data, n, &err);
    for (int i = 0; i < (quick ? 500 : 5000); i++) {
        size_t at = fm_rng_below(&rng, b.len);
        char old = b.data[at];
        b.data[at] = (char)fm_rng_below(&rng, 256);
        (void)!load_spm(b.data, b.len, &err);
        b.data[at] = old;
    }
    for (int i = 0; i < 1000; i++) {
        char junk[64];
        for (size_t k = 0; k < sizeof junk; k++) junk[k] = (char)fm_rng_below(&rng, 256);
        assert_int_equal(load_spm(junk, sizeof junk, &err), FM_ERR_INPUT);
    }
    fm_buf_release(&b);
    fm_buf_release(&uni);
}

/* SentencePiece as tokenizer.json: merges instead of scores. */
static void test_spm_json(void **state)
{
    (void)state;
    struct fm_buf b = {0};
    struct fm_tokenizer *t;
    fm_buf_str(
        &b, "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"▁\"},"
            "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"▁\"}]},\"pre_tokenizer\":null,"
            "\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true},{\"id\":1,\"content\":\"<s>\","
            "\"special\":true},{\"id\":2,\"content\":\"</s>\",\"special\":true}],\"decoder\":{\"type\":\"Sequence\","
            "\"decoders\":[{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},\"model\":{\"type\":\"BPE\","
            "\"unk_token\":\"<unk>\",\"byte_fallback\":true,\"merges\":[[\"a\",\"b\"],[\"▁\",\"a\"],[\"▁\",\"ab\"],"
            "[\"▁\",\"▁\"],\"b a\"],\"vocab\":{\"<unk>\":0");
    for (int i = 0; i < 256; i++) fm_buf_printf(&b, ",\"<0x%02X>\":%d", i, i + 3);
    fm_buf_str(&b, ",\"▁\":259,\"a\":260,\"b\":261,\"ab\":262,\"▁a\":263,\"▁ab\":264,\"▁▁\":265,\"ba\":266}}}");
    OK(fm_tokenizer_load_json(b.data, b.len, "test", &t, &err));
    check_spm(t);
    fm_tokenizer_close(t);
    fm_buf_release(&b);
}

/* ---- rank files ---- */

static void test_rank_file(void **state)
{
    (void)state;
    static const char good[] = "YQ== 0\nYg== 1\r\nIA== 2\nYWI= 3\n\nYmE= 4\n";
    struct fm_tokenizer *t;
    write_bytes(in_folder("ranks"), good, sizeof good - 1);
    OK(fm_tokenizer_open(in_folder("ranks"), "qwen2", &t, &err));
    assert_int_equal(fm_tokenizer_size(t), 8);
    assert_int_equal(fm_tokenizer_find(t, "<|im_end|>"), 7);
    assert_ids(t, "abab<|endoftext|>", FM_ENCODE_SPECIAL, 3, (int32_t[]){3, 3, 5});
    fm_tokenizer_close(t);
    t = NULL;
    assert_int_equal(fm_tokenizer_open(in_folder("ranks"), NULL, &t, &err), FM_ERR_USAGE);
    assert_true(err.hint[0]);
    static const char *const bad[] = {"YQ== 0\nYg==\n",
                                      "YQ== 0\n! 1\n",
                                      "YQ== 0\nYg== x\n",
                                      "YQ== 0\nYg== 0\n",
                                      "YQ== 0\nYg== 999999999\n",
                                      "YQ== 0\nYg== 9999999999\n",
                                      "YQ== 0\nY 1\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_bytes(in_folder("ranks"), bad[i], strlen(bad[i]));
        if (fm_tokenizer_open(in_folder("ranks"), "qwen2", &t, &err) != FM_ERR_INPUT) fail_msg("accepted: %s", bad[i]);
    }
    write_bytes(in_folder("ranks"), "\x01\x02garbage", 9);
    assert_int_equal(fm_tokenizer_open(in_folder("ranks"), NULL, &t, &err), FM_ERR_INPUT);
    write_bytes(in_folder("ranks"), "", 0);
    assert_int_equal(fm_tokenizer_open(in_folder("ranks"), NULL, &t, &err), FM_ERR_INPUT);
    unlink(in_folder("ranks"));
    assert_int_equal(fm_tokenizer_open(in_folder("ranks"), NULL, &t, &err), FM_ERR_INPUT);
    assert_int_equal(fm_tokenizer_open(folder, NULL, &t, &err), FM_ERR_INPUT);
    assert_null(t);
}

/* A folder as Moonshot publishes it: ranks without a word on how to split, added tokens in tokenizer_config.json. */
static void test_moonshot(void **state)
{
    (void)state;
    static const char ranks[] = "YQ== 0\nYg== 1\nIA== 2\nYWI= 3\n",
                      config[] = "{\"bos_token\":\"[BOS]\",\"eos_token\":\"[EOS]\",\"added_tokens_decoder\":{"
                                 "\"4\":{\"content\":\"[BOS]\",\"special\":true},\"9\":{\"content\":\"[EOS]\","
                                 "\"special\":true},\"7\":{\"content\":\"<|im_middle|>\",\"special\":true}}}";
    static const char *const bad[] = {"{\"added_tokens_decoder\":{\"3\":{\"content\":\"x\"}}}",
                                      "{\"added_tokens_decoder\":{\"x\":{\"content\":\"x\"}}}",
                                      "{\"added_tokens_decoder\":{\"99999999999\":{\"content\":\"x\"}}}",
                                      "{\"added_tokens_decoder\":{\"5\":{}}}"};
    struct fm_tokenizer *t;
    write_bytes(in_folder("tiktoken.model"), ranks, sizeof ranks - 1);
    write_bytes(in_folder("tokenizer_config.json"), config, sizeof config - 1);
    OK(fm_tokenizer_open(folder, NULL, &t, &err));
    assert_int_equal(fm_tokenizer_size(t), 10);
    assert_int_equal(fm_tokenizer_find(t, "<|im_middle|>"), 7);
    assert_true(t->bos == 4 && t->eos == 9 && !t->add_bos);
    assert_string_equal(t->pre.name->name, "kimi-k2");
    assert_ids(t, "ab<|im_middle|>a", FM_ENCODE_SPECIAL, 3, (int32_t[]){3, 7, 0});
    fm_tokenizer_close(t);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_bytes(in_folder("tokenizer_config.json"), bad[i], strlen(bad[i]));
        assert_int_equal(fm_tokenizer_open(folder, NULL, &t, &err), FM_ERR_INPUT);
        assert_non_null(strstr(err.message, "added token"));
    }
    unlink(in_folder("tokenizer_config.json"));
    unlink(in_folder("tiktoken.model"));
}

/* ---- hostile GGUF ---- */

static enum fm_status load_gguf(const char *path, struct fm_error *e)
{
    struct fm_tokenizer *t = NULL;
    enum fm_status st = fm_tokenizer_open(path, NULL, &t, e);
    fm_tokenizer_close(t);
    return st;
}

static void test_gguf_hostile(void **state)
{
    (void)state;
    static const struct fm_str tokens[] = {{"a", 1}, {"b", 1}, {"ab", 2}}, merges[] = {{"a b", 3}},
                               odd[] = {{"a c", 3}}, broken[] = {{"ab", 2}};
    static const int32_t types[] = {1, 1, 1}, bad_types[] = {1, 99, 1};
    static const float scores[] = {0, 0, 0};
    for (int i = 0; i < 11; i++) {
        struct fm_writer *w;
        const char *model = i == 1 ? "bert" : i == 9 ? "llama" : "gpt2", *pre = i == 2 ? "nonsense" : "gpt-2";
        OK(fm_writer_open(in_folder("x.gguf"), FM_GGUF, &w, &err));
        if (i != 3) fm_writer_meta_str(w, "tokenizer.ggml.model", model, strlen(model));
        fm_writer_meta_str(w, "tokenizer.ggml.pre", pre, strlen(pre));
        if (i == 4)
            fm_writer_meta_i32s(w, "tokenizer.ggml.tokens", types, 3);
        else
            fm_writer_meta_strs(w, "tokenizer.ggml.tokens", tokens, 3);
        if (i == 5)
            fm_writer_meta_f32s(w, "tokenizer.ggml.token_type", scores, 3);
        else
            fm_writer_meta_i32s(w, "tokenizer.ggml.token_type", i == 6 ? bad_types : types, i == 7 ? 2 : 3);
        if (i != 8) fm_writer_meta_strs(w, "tokenizer.ggml.merges", i == 10 ? odd : i == 0 ? broken : merges, 1);
        OK(fm_writer_begin(w, &err));
        OK(fm_writer_commit(w, &err));
        if (load_gguf(in_folder("x.gguf"), &err) != FM_ERR_INPUT) fail_msg("case %d was accepted", i);
    }
    unlink(in_folder("x.gguf"));
}

/* ---- torture: allocation n fails, for every n ---- */

typedef enum fm_status (*torture_fn)(struct fm_tokenizer *t, struct fm_error *e);

/* JIT memory may be refused without harm, so that a failed allocation does not always fail the call: the loop ends
 * after a stretch without failures. */
static void torture(struct fm_tokenizer *t, torture_fn fn)
{
    int good = 0;
    for (long n = 1; good < 40; n++) {
        fm_mem_fail_at(n);
        enum fm_status st = fn(t, &err);
        fm_mem_fail_at(0);
        if (st != FM_OK && st != FM_ERR_MEMORY) fail_msg("allocation %ld: %s", n, err.message);
        good = st ? 0 : good + 1;
    }
}

static enum fm_status torture_train(struct fm_tokenizer *t, struct fm_error *e)
{
    (void)t;
    struct fm_bpe_train p = tiny_params();
    struct fm_tokenizer *out = NULL;
    p.n_vocab = 256 + N_SPECIALS + 6;
    p.n = 300;
    enum fm_status st = fm_tokenizer_train(&p, &out, e);
    if (st) assert_null(out);
    fm_tokenizer_close(out);
    return st;
}

static enum fm_status torture_json(struct fm_tokenizer *t, struct fm_error *e)
{
    (void)t;
    return load_json(small_json, sizeof small_json - 1, e);
}

static enum fm_status torture_open(struct fm_tokenizer *t, struct fm_error *e)
{
    struct fm_tokenizer *out = NULL;
    FM_TRY(fm_tokenizer_write_json(t, in_folder("tokenizer.json"), e));
    enum fm_status st = fm_tokenizer_open(folder, NULL, &out, e);
    fm_tokenizer_close(out);
    return st;
}

static enum fm_status torture_encode(struct fm_tokenizer *t, struct fm_error *e)
{
    struct fm_ids ids = {0};
    struct fm_buf out = {0};
    char spaces[100];
    memset(spaces, ' ', sizeof spaces);
    enum fm_status st = fm_tokenizer_encode(t, corpus, 400, FM_ENCODE_SPECIAL, &ids, e);
    if (!st) st = fm_tokenizer_encode(t, spaces, sizeof spaces, 0, &ids, e);
    if (!st) st = fm_tokenizer_decode(t, ids.data, ids.n, &out, e);
    fm_ids_release(&ids);
    fm_buf_release(&out);
    return st;
}

static enum fm_status torture_chat(struct fm_tokenizer *t, struct fm_error *e)
{
    struct fm_chat_options o = {.generate = true};
    struct fm_chat_message m[20];
    struct fm_ids ids = {0};
    for (int i = 0; i < 20; i++) m[i] = (struct fm_chat_message){i % 2 ? "assistant" : "user", "ships", 5};
    enum fm_status st = fm_chat_encode(fm_chat_find("chatml"), t, m, 20, &o, &ids, e);
    fm_ids_release(&ids);
    return st;
}

static enum fm_status torture_spm(struct fm_tokenizer *t, struct fm_error *e)
{
    (void)t;
    static const char bytes[] = "\x0a\x06\x0a\x01\x61\x15\x00\x00\x0a\x03\x0a\x01\x62\x12\x02\x18\x02"; /* damaged */
    return load_spm(bytes, sizeof bytes - 1, e) == FM_ERR_MEMORY ? FM_ERR_MEMORY : FM_OK;
}

static enum fm_status torture_gguf(struct fm_tokenizer *t, struct fm_error *e)
{
    (void)t;
    return load_gguf(in_folder("torture.gguf"), e);
}

static enum fm_status torture_nfc(struct fm_tokenizer *t, struct fm_error *e)
{
    (void)t;
    struct fm_buf b = {0}, in = {0};
    fm_buf_str(&in, "xa");
    for (int i = 0; i < 50; i++) fm_buf_str(&in, i % 2 ? "\xCC\x81" : "\xCC\xA3");
    enum fm_status st = in.failed ? fm_fail_memory(e, "text", 0) : fm_nfc(in.data, in.len, &b, e);
    fm_buf_release(&b);
    fm_buf_release(&in);
    return st;
}

static void test_torture(void **state)
{
    (void)state;
    static const torture_fn all[] = {torture_train, torture_json, torture_open, torture_encode,
                                     torture_chat,  torture_spm,  torture_nfc};
    struct fm_bpe_train p = tiny_params();
    struct fm_tokenizer *t = NULL;
    p.n_vocab = 256 + N_SPECIALS + 10;
    OK(fm_tokenizer_train(&p, &t, &err));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) torture(t, all[i]);
    write_gguf(t, in_folder("torture.gguf"));
    torture(t, torture_gguf);
    unlink(in_folder("torture.gguf"));
    unlink(in_folder("tokenizer.json"));
    fm_tokenizer_close(t);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_hostile),
        cmocka_unit_test(test_json_corrupted),
        cmocka_unit_test(test_json_gaps_and_missing_bytes),
        cmocka_unit_test(test_spm),
        cmocka_unit_test(test_spm_hostile),
        cmocka_unit_test(test_spm_json),
        cmocka_unit_test(test_rank_file),
        cmocka_unit_test(test_moonshot),
        cmocka_unit_test(test_gguf_hostile),
        cmocka_unit_test(test_torture),
    };
    return RUN(tests);
}
