/* fm_quantize: every direction, every type, against the encoders called plainly here; rules, refusals, failures.
 * Models of FATHOM_SHARED/golden (default ../shared/golden) where they are there. */
#include <dirent.h>
#include <math.h>
#include <sys/stat.h>

#include "base/env.h"
#include "file/gguf_types.h"
#include "model/imatrix.h"
#include "model/recipe.h"
#include "run_testing.h"

static char dir[] = "/tmp/fathom-quantize-XXXXXX";

static const char *in(const char *name)
{
    static char path[6][200];
    static int next;
    char *p = path[next++ % 6];
    (void)snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static const char LLAMA[] =
    "{\"model_type\":\"llama\",\"vocab_size\":280,\"hidden_size\":256,\"num_hidden_layers\":1,\"intermediate_size\":256,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-5,"
    "\"rope_theta\":10000,\"tie_word_embeddings\":false}";
static const char DEEPSEEK[] =
    "{\"model_type\":\"deepseek_v3\",\"vocab_size\":280,\"hidden_size\":64,\"num_hidden_layers\":2,\"intermediate_size\":"
    "96,\"moe_intermediate_size\":32,\"num_attention_heads\":4,\"num_key_value_heads\":4,\"q_lora_rank\":32,"
    "\"kv_lora_rank\":32,\"qk_nope_head_dim\":32,\"qk_rope_head_dim\":16,\"v_head_dim\":16,\"n_routed_experts\":8,"
    "\"num_experts_per_tok\":2,\"n_shared_experts\":1,\"first_k_dense_replace\":1,\"n_group\":2,\"topk_group\":1,"
    "\"norm_topk_prob\":true,\"routed_scaling_factor\":2.5,\"scoring_func\":\"sigmoid\",\"topk_method\":\"noaux_tc\","
    "\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-6,\"rope_theta\":10000,\"num_nextn_predict_layers\":1}";

static struct fm_quantize_options options(const char *from, const char *to, const char *type)
{
    return (struct fm_quantize_options){.in = from, .out = to, .type = type, .threads = 2};
}

static struct fm_quantize_result convert(const char *from, const char *to, const char *type)
{
    struct fm_quantize_result r;
    struct fm_quantize_options o = options(from, to, type);
    ok(fm_quantize(&o, &r, &err));
    return r;
}

static struct fm_file *open_file(const char *path)
{
    struct fm_file *f;
    ok(fm_file_open(path, &f, &err));
    return f;
}

static float *decoded(const struct fm_tensor *t)
{
    float *x = fm_malloc((size_t)t->n_elements * sizeof *x);
    assert_non_null(x);
    ok(fm_tensor_decode(t, x, &err));
    return x;
}

static bool same_tensor(const struct fm_tensor *a, const struct fm_tensor *b)
{
    return a && b && a->fmt == b->fmt && a->n_dims == b->n_dims &&
           !memcmp(a->shape, b->shape, sizeof(uint64_t) * (size_t)a->n_dims) && a->n_bytes == b->n_bytes &&
           !memcmp(a->data, b->data, (size_t)a->n_bytes);
}

static void same_tensors(const char *one, const char *two)
{
    struct fm_file *a = open_file(one), *b = open_file(two);
    assert_int_equal(fm_file_n_tensors(a), fm_file_n_tensors(b));
    for (int i = 0; i < fm_file_n_tensors(a); i++) {
        const struct fm_tensor *t = fm_file_tensor(a, i);
        if (!same_tensor(t, fm_file_find(b, t->name))) fail_msg("%s: differs between %s and %s", t->name, one, two);
    }
    fm_file_close(a);
    fm_file_close(b);
}

static bool same_bytes(const char *one, const char *two)
{
    struct fm_buf a = {0}, b = {0};
    ok(fm_buf_read_file(&a, one, 1 << 28, &err));
    ok(fm_buf_read_file(&b, two, 1 << 28, &err));
    const bool same = a.len == b.len && !memcmp(a.data, b.data, a.len);
    fm_buf_release(&a);
    fm_buf_release(&b);
    return same;
}

static int files_in(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* ---- which format ---------------------------------------------------------------------------------------------- */

static void roles(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum fm_role role;
    } cases[] = {
        {"token_embd.weight", FM_ROLE_EMBED},           {"output.weight", FM_ROLE_OUTPUT},
        {"output_norm.weight", FM_ROLE_FIXED},          {"blk.3.attn_q.weight", FM_ROLE_ATTN},
        {"blk.3.attn_q_a_norm.weight", FM_ROLE_FIXED},  {"blk.30.attn_v.weight", FM_ROLE_ATTN_V},
        {"blk.30.attn_v.bias", FM_ROLE_FIXED},          {"blk.3.attn_kv_a_mqa.weight", FM_ROLE_ATTN},
        {"blk.3.attn_k_b.weight", FM_ROLE_ATTN_LATENT}, {"blk.3.attn_output.weight", FM_ROLE_ATTN_OUT},
        {"blk.3.ffn_gate_inp.weight", FM_ROLE_FIXED},   {"blk.3.exp_probs_b.bias", FM_ROLE_FIXED},
        {"blk.3.ffn_down.weight", FM_ROLE_FFN_DOWN},    {"blk.3.ffn_down_exps.weight", FM_ROLE_EXPERT_DOWN},
        {"blk.3.ffn_gate_exps.weight", FM_ROLE_EXPERT}, {"blk.3.ffn_up_shexp.weight", FM_ROLE_SHARED},
        {"blk.61.nextn.eh_proj.weight", FM_ROLE_OTHER}, {"blk.61.nextn.shared_head_norm.weight", FM_ROLE_FIXED},
        {"enc.blk.0.attn_o.weight", FM_ROLE_ATTN},      {"something.weight", FM_ROLE_OTHER}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (fm_role_of(cases[i].name) != cases[i].role)
            fail_msg("%s has role %d", cases[i].name, (int)fm_role_of(cases[i].name));
}

static enum fm_fmt pick(const struct fm_recipe *r, const char *name, uint64_t cols)
{
    struct fm_recode_tensor t = {.name = name,
                                 .gguf = name,
                                 .from = FM_F32,
                                 .n_dims = 2,
                                 .shape = {16, cols},
                                 .rows = 16,
                                 .cols = cols,
                                 .n_slices = 1,
                                 .own = {.fmt = FM_F32}};
    t.fixed = fm_role_of(name) == FM_ROLE_FIXED;
    fm_recipe_apply(r, &t, 1);
    return t.fmt;
}

/* The rule of llama.cpp's Q4_K_M for Llama, written down once more. */
static void mixtures(void **state)
{
    (void)state;
    struct fm_recipe r = fm_recipe_of(fm_mixture_find("q4_k_m"));
    char name[64];
    r.n_layers = 22;
    for (int i = 0; i < r.n_layers; i++) {
        const bool more = i < r.n_layers / 8 || i >= 7 * r.n_layers / 8 || (i - r.n_layers / 8) % 3 == 2;
        for (int k = 0; k < 2; k++) {
            (void)snprintf(name, sizeof name, "blk.%d.%s.weight", i, k ? "attn_v" : "ffn_down");
            assert_int_equal(pick(&r, name, 512), more ? FM_Q6_K : FM_Q4_K);
        }
        (void)snprintf(name, sizeof name, "blk.%d.attn_k.weight", i);
        assert_int_equal(pick(&r, name, 512), FM_Q4_K);
    }
    assert_int_equal(pick(&r, "output.weight", 512), FM_Q6_K);
    assert_int_equal(pick(&r, "token_embd.weight", 512), FM_Q4_K);
    r.tied = true;
    assert_int_equal(pick(&r, "token_embd.weight", 512), FM_Q6_K);
    assert_int_equal(pick(&r, "blk.0.attn_k_b.weight", 512), FM_Q8_0);
    assert_int_equal(pick(&r, "blk.0.attn_norm.weight", 512), FM_F32);
    for (int i = 0; fm_mixture_at(i); i++) { /* each has a name of its own, and only formats that can be written */
        const char *n = fm_mixture_name(fm_mixture_at(i));
        assert_ptr_equal(fm_mixture_find(n), fm_mixture_at(i));
        assert_true(fm_formats[fm_mixture_base(fm_mixture_at(i))].encode != NULL);
    }
}

static void rules_and_fallbacks(void **state)
{
    (void)state;
    static const struct {
        enum fm_fmt from, block32, odd;
    } rows[] = {{FM_Q2_K, FM_Q4_0, FM_F16},   {FM_Q3_K, FM_Q4_0, FM_F16}, {FM_Q4_K, FM_Q5_0, FM_F16},
                {FM_Q5_K, FM_Q5_1, FM_F16},   {FM_Q6_K, FM_Q8_0, FM_F16}, {FM_IQ4_XS, FM_IQ4_NL, FM_F16},
                {FM_MXFP4, FM_MXFP4, FM_F16}, {FM_Q8_0, FM_Q8_0, FM_F16}, {FM_BF16, FM_BF16, FM_BF16}};
    struct fm_recipe r = fm_recipe_of(fm_mixture_find("Q4_K"));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(fm_recipe_fallback(&r, rows[i].from, 256), rows[i].from);
        assert_int_equal(fm_recipe_fallback(&r, rows[i].from, 96), rows[i].block32);
        assert_int_equal(fm_recipe_fallback(&r, rows[i].from, 33), rows[i].odd);
    }
    const struct fm_recipe_rule rules[] = {{"*exps*", FM_Q5_0},
                                           {"blk.0.*", FM_Q8_0},
                                           {"*down_exps*", FM_MXFP4},
                                           {"*gate_inp*", FM_F16},
                                           {"*k_b*", FM_Q4_0}};
    r.part[FM_PART_EXPERTS] = FM_Q2_K;
    assert_int_equal(pick(&r, "blk.0.ffn_up_exps.weight", 256), FM_Q2_K);
    r.rules = rules;
    r.n_rules = 5;
    assert_int_equal(pick(&r, "blk.0.ffn_up_exps.weight", 256), FM_Q8_0);
    assert_int_equal(pick(&r, "blk.1.ffn_up_exps.weight", 256), FM_Q5_0);
    assert_int_equal(pick(&r, "blk.0.ffn_down_exps.weight", 256), FM_MXFP4);
    assert_int_equal(pick(&r, "blk.1.ffn_gate_inp.weight", 256), FM_F16);
    assert_int_equal(pick(&r, "blk.1.attn_k_b.weight", 256), FM_Q4_0);
    assert_int_equal(pick(&r, "blk.1.ffn_down.weight", 256), FM_Q4_K);
}

/* ---- every type ------------------------------------------------------------------------------------------------ */

/* Relative error of a tensor; its bytes are what the encoder gives row by row. */
static double check_tensor(const struct fm_tensor *t, const struct fm_tensor *was)
{
    const struct fm_format *f = &fm_formats[t->fmt];
    const size_t cols = (size_t)t->shape[t->n_dims - 1], rows = (size_t)t->n_elements / cols;
    const size_t bytes = (size_t)fm_format_bytes(t->fmt, cols);
    float *x = decoded(was), *y = decoded(t);
    char *want = fm_malloc(bytes);
    double e = 0, s = 0;
    assert_non_null(want);
    for (size_t r = 0; r < rows; r++) {
        f->encode(want, x + r * cols, cols);
        if (memcmp(want, (const char *)t->data + r * bytes, bytes)) fail_msg("%s, row %zu: other bytes", t->name, r);
    }
    for (size_t i = 0; i < rows * cols; i++) {
        const double d = (double)x[i] - (double)y[i];
        e += d * d;
        s += (double)x[i] * (double)x[i];
    }
    fm_free(x);
    fm_free(y);
    fm_free(want);
    return sqrt(e / s);
}

static void logits_of(const char *path, float *logits, int n)
{
    int32_t ids[8];
    some_ids(ids, n, 3);
    struct fm_engine *e = engine((struct fm_engine_options){.model = path, .exact = true});
    struct fm_session *s = session(e, 64);
    ok(fm_session_feed(s, ids, n, logits, &err));
    fm_session_free(s);
    fm_engine_close(e);
}

enum { N_IDS = 6, V = 280 };

static double relative(const float *x, const float *y, size_t n)
{
    double e = 0, s = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)x[i] - (double)y[i];
        e += d * d;
        s += (double)y[i] * (double)y[i];
    }
    return sqrt(e / s);
}

/* The file as F32 computes the same bits: what was written is what is read.  Against the original the logits are off by the
 * error of the tensors times a gain that the model has for small errors, which BF16 shows (all of its tensors are off by
 * about 2^-9.2); a factor of three lies between one sample of errors and another. */
static void each_type(void **state)
{
    (void)state;
    static float exact[N_IDS * V], now[N_IDS * V], twin[N_IDS * V];
    char source[200], out[200];
    double gain = 0;
    (void)snprintf(source, sizeof source, "%s", in("llama.gguf"));
    (void)snprintf(out, sizeof out, "%s", in("typed.gguf"));
    logits_of(source, exact, N_IDS);
    convert(source, out, "BF16");
    logits_of(out, now, N_IDS);
    gain = relative(now, exact, N_IDS * V) / exp2(-9.2);
    assert_true(gain > 0 && gain < 20);
    for (int i = 0; fm_mixture_at(i); i++) {
        const char *type = fm_mixture_name(fm_mixture_at(i));
        const struct fm_quantize_result r = convert(source, out, type);
        struct fm_file *a = open_file(source), *b = open_file(out);
        double worst = 0;
        uint64_t bytes = 0;
        for (int k = 0; k < fm_file_n_tensors(a); k++) {
            const struct fm_tensor *was = fm_file_tensor(a, k), *t = fm_file_find(b, was->name);
            assert_non_null(t);
            assert_true(t->n_dims > 1 || t->fmt == FM_F32);
            const double e = check_tensor(t, was);
            if (e > worst) worst = e;
            bytes += t->n_bytes;
        }
        assert_int_equal(fm_meta_int(b, "general.file_type", -1), fm_mixture_file_type(fm_mixture_at(i)));
        assert_int_equal(fm_meta_int(b, "general.quantization_version", -1), 2);
        assert_true(r.bytes_out == fm_file_bytes(b) && r.weight_bytes == bytes);
        assert_int_equal(r.n_tensors, fm_file_n_tensors(a));
        fm_file_close(a);
        fm_file_close(b);
        logits_of(out, now, N_IDS);
        convert(out, in("twin.gguf"), "F32");
        logits_of(in("twin.gguf"), twin, N_IDS);
        assert_memory_equal(now, twin, sizeof now);
        const double e = relative(now, exact, N_IDS * V);
        if (e > 3 * gain * worst) fail_msg("%s: logits off by %.2g, tensors by %.2g", type, e, worst);
        if (worst > 0.4) fail_msg("%s: tensors off by %.2g", type, worst);
    }
}

static void any_threads(void **state)
{
    (void)state;
    struct fm_quantize_result r;
    struct fm_quantize_options o = options(in("deepseek.gguf"), in("one.gguf"), "Q4_K_M");
    o.threads = 1;
    ok(fm_quantize(&o, &r, &err));
    o.out = in("many.gguf");
    o.threads = 7;
    ok(fm_quantize(&o, &r, &err));
    assert_true(same_bytes(in("one.gguf"), in("many.gguf")));
}

/* ---- directions ------------------------------------------------------------------------------------------------ */

/* GGUF → folder → GGUF → folder: with F32 nothing may change, whatever is permuted, stacked, split or joined on the way. */
static void there_and_back(void **state)
{
    (void)state;
    static const char *const models[] = {"llama.gguf", "deepseek.gguf"};
    static float first[N_IDS * V], last[N_IDS * V];
    for (int i = 0; i < 2; i++) {
        convert(in(models[i]), in("folder"), "F32");
        convert(in("folder"), in("second.gguf"), "F32");
        convert(in("second.gguf"), in("folder2"), "F32");
        convert(in("folder2"), in("third.gguf"), "F32");
        same_tensors(in("folder"), in("folder2"));
        same_tensors(in("second.gguf"), in("third.gguf"));
        struct fm_file *f = open_file(in("second.gguf"));
        if (i == 0)
            same_tensors(in(models[0]), in("second.gguf"));
        else { /* kv_b is two tensors now */
            const struct fm_tensor *k = fm_file_find(f, "blk.1.attn_k_b.weight");
            assert_true(k && k->n_dims == 3 && k->shape[0] == 4 && k->shape[1] == 32 && k->shape[2] == 32);
            assert_int_equal(fm_meta_int(f, "deepseek2.attention.head_count_kv", 0), 1);
            assert_int_equal(fm_meta_int(f, "deepseek2.attention.key_length", 0), 32 + 16);
            assert_int_equal(fm_meta_int(f, "deepseek2.attention.key_length_mla", 0), 32 + 16);
            assert_int_equal(fm_meta_int(f, "deepseek2.attention.value_length_mla", 0), 16);
            assert_int_equal(fm_meta_int(f, "deepseek2.block_count", 0), 3);
            assert_int_equal(fm_meta_int(f, "deepseek2.nextn_predict_layers", 0), 1);
        }
        struct fm_str s;
        assert_true(fm_meta_str(f, "tokenizer.chat_template", &s) && s.len == sizeof TEMPLATE - 1);
        fm_file_close(f);
        logits_of(in(models[i]), first, N_IDS);
        logits_of(in("third.gguf"), last, N_IDS);
        if (relative(last, first, N_IDS * V) > 1e-6) fail_msg("%s: other logits", models[i]);
    }
}

/* The same text gives the same ids after every step. */
static void tokenizer_survives(void **state)
{
    (void)state;
    static const char text[] = "the cat sat<|im_end|> on 12 oats";
    struct fm_tokenizer *t[3];
    int32_t *ids[3];
    size_t n[3];
    convert(in("llama.gguf"), in("folder"), "BF16");
    convert(in("folder"), in("back.gguf"), "Q8_0");
    const char *paths[] = {in("llama.gguf"), in("folder"), in("back.gguf")};
    for (int i = 0; i < 3; i++) {
        ok(fm_text_open(paths[i], NULL, &t[i], &err));
        ok(fm_text_encode(t[i], text, sizeof text - 1, FM_TEXT_SPECIAL, &ids[i], &n[i], &err));
        assert_int_equal(n[i], n[0]);
        assert_memory_equal(ids[i], ids[0], n[0] * sizeof *ids[0]);
        for (int32_t id = 0; id < fm_text_vocab(t[0]); id++)
            assert_int_equal(fm_text_is_end(t[i], id), fm_text_is_end(t[0], id));
    }
    for (int i = 0; i < 3; i++) {
        fm_text_free(ids[i]);
        fm_text_close(t[i]);
    }
}

static void shards(void **state)
{
    (void)state;
    struct fm_quantize_result r;
    struct fm_quantize_options o = options(in("deepseek.gguf"), in("shards"), "F32");
    o.shard_bytes = 100000;
    ok(fm_quantize(&o, &r, &err));
    struct stat s;
    assert_int_equal(stat(in("shards/model.safetensors.index.json"), &s), 0);
    struct fm_file *f = open_file(in("shards"));
    assert_true(fm_file_bytes(f) == r.bytes_out);
    fm_file_close(f);
    const int many = files_in(in("shards"));
    assert_true(many > 6);
    convert(in("deepseek.gguf"), in("whole"), "F32");
    same_tensors(in("shards"), in("whole"));
    convert(in("deepseek.gguf"), in("shards"), "F32"); /* fewer files now: the old ones go */
    assert_int_equal(files_in(in("shards")), files_in(in("whole")));
    same_tensors(in("shards"), in("whole"));
}

/* Parts of GGUF, each tensor in the next one. */
static void write_parts(const char *from, int n)
{
    struct fm_file *f = open_file(from);
    for (int p = 0; p < n; p++) {
        struct fm_writer *w;
        char name[64];
        (void)snprintf(name, sizeof name, "part-%05d-of-%05d.gguf", p + 1, n);
        ok(fm_writer_open(in(name), FM_GGUF, &w, &err));
        for (int i = 0; p == 0 && i < fm_file_n_meta(f); i++) fm_writer_meta_copy(w, fm_file_meta_at(f, i));
        fm_writer_meta_int(w, "split.no", FM_GGUF_U16, p);
        fm_writer_meta_int(w, "split.count", FM_GGUF_U16, n);
        fm_writer_meta_int(w, "split.tensors.count", FM_GGUF_I32, fm_file_n_tensors(f));
        for (int i = p; i < fm_file_n_tensors(f); i += n) {
            const struct fm_tensor *t = fm_file_tensor(f, i);
            fm_writer_tensor(w, t->name, t->fmt, t->n_dims, t->shape);
        }
        ok(fm_writer_begin(w, &err));
        for (int i = p; i < fm_file_n_tensors(f); i += n)
            ok(fm_writer_data(w, fm_file_tensor(f, i)->data, fm_file_tensor(f, i)->n_bytes, &err));
        ok(fm_writer_commit(w, &err));
    }
    fm_file_close(f);
}

static void split_input(void **state)
{
    (void)state;
    write_parts(in("llama.gguf"), 3);
    convert(in("part-00001-of-00003.gguf"), in("joined.gguf"), "Q5_K");
    convert(in("llama.gguf"), in("plain.gguf"), "Q5_K");
    same_tensors(in("plain.gguf"), in("joined.gguf"));
    struct fm_file *f = open_file(in("joined.gguf"));
    assert_null(fm_file_meta(f, "split.count"));
    fm_file_close(f);
    struct fm_quantize_options o = options(in("part-00001-of-00003.gguf"), in("part-00002-of-00003.gguf"), "Q8_0");
    assert_int_equal(fm_quantize(&o, &(struct fm_quantize_result){0}, &err), FM_ERR_USAGE);
    assert_non_null(strstr(err.message, "is the input"));
}

/* ---- a model that nobody knows ---------------------------------------------------------------------------------- */

static void write_unknown(const char *path, float special)
{
    static float x[3 * 4 * 64];
    uint16_t half[64];
    static const int32_t ids[2] = {7, -1};
    struct fm_writer *w;
    for (int i = 0; i < 3 * 4 * 64; i++) x[i] = sinf((float)i);
    x[5 * 64 + 3] = special;
    x[9 * 64 + 3] = special;
    ok(fm_writer_open(path, FM_GGUF, &w, &err));
    fm_writer_meta_str(w, "general.architecture", "nonesuch", 8);
    fm_writer_meta_int(w, "general.file_type", FM_GGUF_U32, 0);
    fm_writer_meta_int(w, "nonesuch.block_count", FM_GGUF_U32, 3);
    fm_writer_meta_int(w, "nonesuch.nextn_predict_layers", FM_GGUF_U32, 1);
    fm_writer_meta_f32s(w, "nonesuch.odd", x, 5);
    fm_writer_meta_int(w, "u8", FM_GGUF_U8, 255);
    fm_writer_meta_int(w, "i64", FM_GGUF_I64, -5);
    fm_writer_meta_str(w, "with nul", "a\0b", 3);
    fm_writer_tensor(w, "blk.0.weird_exps.weight", FM_F32, 3, (uint64_t[]){3, 4, 64});
    fm_writer_tensor(w, "blk.1.some_norm.weight", FM_F16, 1, (uint64_t[]){64});
    fm_writer_tensor(w, "table", FM_I32, 2, (uint64_t[]){1, 2});
    fm_writer_tensor(w, "empty.weight", FM_F32, 2, (uint64_t[]){0, 64});
    fm_writer_tensor(w, "blk.2.proj.weight", FM_BF16, 2, (uint64_t[]){2, 64});
    ok(fm_writer_begin(w, &err));
    ok(fm_writer_data(w, x, sizeof x, &err));
    for (int i = 0; i < 64; i++) half[i] = fm_f32_to_f16((float)i);
    ok(fm_writer_data(w, half, sizeof half, &err));
    ok(fm_writer_data(w, ids, sizeof ids, &err));
    ok(fm_writer_data(w, NULL, 0, &err));
    for (int i = 0; i < 64; i++) half[i] = fm_f32_to_bf16((float)i);
    ok(fm_writer_part(w, half, 100, &err));
    ok(fm_writer_part(w, (const char *)half + 100, 28, &err));
    ok(fm_writer_part(w, half, 128, &err));
    ok(fm_writer_commit(w, &err));
}

static bool same_meta(const struct fm_meta *a, const struct fm_meta *b)
{
    if (!b || a->type != b->type || a->gguf_type != b->gguf_type) return false;
    if (a->type == FM_META_STRING) return a->s.len == b->s.len && !memcmp(a->s.data, b->s.data, (size_t)a->s.len);
    if (a->type != FM_META_ARRAY) return a->i == b->i && (a->type != FM_META_FLOAT || a->f == b->f);
    bool same = a->n == b->n;
    for (uint64_t i = 0; same && i < a->n; i++) {
        if (a->elem == FM_META_STRING) {
            struct fm_str s = fm_meta_array_str(a, i), t = fm_meta_array_str(b, i);
            same = s.len == t.len && !memcmp(s.data, t.data, (size_t)s.len);
        } else
            same = fm_meta_array_float(a, i) == fm_meta_array_float(b, i);
    }
    return same;
}

static void keys_survive(const char *from, const char *to)
{
    struct fm_file *a = open_file(from), *b = open_file(to);
    for (int i = 0; i < fm_file_n_meta(a); i++) {
        const struct fm_meta *m = fm_file_meta_at(a, i);
        if (!strcmp(m->key, "general.file_type") || !strcmp(m->key, "general.quantization_version")) continue;
        if (!same_meta(m, fm_file_meta(b, m->key))) fail_msg("key %s is another", m->key);
    }
    fm_file_close(a);
    fm_file_close(b);
}

static void unknown_architecture(void **state)
{
    (void)state;
    write_unknown(in("odd.gguf"), 1);
    convert(in("odd.gguf"), in("odd8.gguf"), "Q8_0");
    keys_survive(in("odd.gguf"), in("odd8.gguf"));
    keys_survive(in("llama.gguf"), (convert(in("llama.gguf"), in("keys.gguf"), "Q4_0"), in("keys.gguf")));
    struct fm_file *a = open_file(in("odd.gguf")), *b = open_file(in("odd8.gguf"));
    assert_true(fm_file_find(b, "blk.0.weird_exps.weight")->fmt == FM_Q8_0);
    assert_true(fm_file_find(b, "blk.2.proj.weight")->fmt == FM_Q8_0);
    assert_true(fm_file_find(b, "empty.weight")->n_elements == 0);
    assert_true(same_tensor(fm_file_find(a, "table"), fm_file_find(b, "table")));
    assert_true(same_tensor(fm_file_find(a, "blk.1.some_norm.weight"), fm_file_find(b, "blk.1.some_norm.weight")));
    check_tensor(fm_file_find(b, "blk.0.weird_exps.weight"), fm_file_find(a, "blk.0.weird_exps.weight"));
    fm_file_close(a);
    fm_file_close(b);
    struct fm_quantize_options o = options(in("odd.gguf"), in("odd-folder"), "F32");
    assert_int_equal(fm_quantize(&o, &(struct fm_quantize_result){0}, &err), FM_ERR_INPUT);
    assert_non_null(strstr(err.message, "nonesuch"));
    o = options(in("odd.gguf"), in("short.gguf"), "F16");
    o.without_mtp = true;
    ok(fm_quantize(&o, &(struct fm_quantize_result){0}, &err));
    b = open_file(in("short.gguf"));
    assert_null(fm_file_find(b, "blk.2.proj.weight"));
    assert_int_equal(fm_meta_int(b, "nonesuch.block_count", 0), 2);
    assert_null(fm_file_meta(b, "nonesuch.nextn_predict_layers"));
    fm_file_close(b);
}

static void bad_values(void **state)
{
    (void)state;
    static const struct {
        float value;
        const char *type, *why;
    } cases[] = {{NAN, "Q8_0", "row 5: holds a value that is not finite"},
                 {INFINITY, "F32", "row 5: holds a value that is not finite"},
                 {65520, "F16", "row 5: holds a value that F16 cannot"},
                 {65519, "F16", NULL},
                 {1e30f, "BF16", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_unknown(in("odd.gguf"), cases[i].value);
        for (int threads = 1; threads <= 4; threads += 3) {
            struct fm_quantize_options o = options(in("odd.gguf"), in("bad.gguf"), cases[i].type);
            o.threads = threads;
            const enum fm_status st = fm_quantize(&o, &(struct fm_quantize_result){0}, &err);
            struct stat s;
            if (!cases[i].why) {
                ok(st);
                unlink(in("bad.gguf"));
                continue;
            }
            assert_int_equal(st, FM_ERR_INPUT);
            if (!strstr(err.message, cases[i].why) || !strstr(err.message, "blk.0.weird_exps.weight"))
                fail_msg("'%s' does not say '%s'", err.message, cases[i].why);
            assert_int_not_equal(stat(in("bad.gguf"), &s), 0);
        }
    }
}

/* ---- MTP, FP8, importance --------------------------------------------------------------------------------------- */

static void without_mtp(void **state)
{
    (void)state;
    static const char *const outs[] = {"short.gguf", "short"};
    convert(in("deepseek.gguf"), in("mtp-folder"), "F32");
    for (int i = 0; i < 4; i++) {
        struct fm_quantize_options o = options(i < 2 ? in("deepseek.gguf") : in("mtp-folder"), in(outs[i % 2]), "F32");
        o.without_mtp = true;
        ok(fm_quantize(&o, &(struct fm_quantize_result){0}, &err));
        struct fm_file *f = open_file(in(outs[i % 2]));
        struct fm_config cfg;
        ok(fm_config_from_file(f, &cfg, &err));
        assert_int_equal(cfg.n_mtp, 0);
        assert_int_equal(cfg.L, 2);
        assert_null(fm_file_find(f, i % 2 ? "model.layers.2.eh_proj.weight" : "blk.2.nextn.eh_proj.weight"));
        fm_file_close(f);
    }
}

static const char *shared_case(const char *name)
{
    static char path[400];
    const char *shared = fm_env("FATHOM_SHARED");
    struct stat s;
    (void)snprintf(path, sizeof path, "%s/golden/%s", shared ? shared : "../shared", name);
    return stat(path, &s) ? NULL : path;
}

/* A folder in FP8 is read as the engine reads it, block scales included, into GGUF and into a folder. */
static void fp8_folder(void **state)
{
    (void)state;
    const char *path = shared_case("v3-fp8");
    if (!path) {
        printf("SKIP fp8_folder: no shared models\n");
        skip();
    }
    convert(path, in("fp8.gguf"), "F32");
    convert(path, in("fp8"), "F32");
    convert(in("fp8"), in("fp8-2.gguf"), "F32");
    same_tensors(in("fp8.gguf"), in("fp8-2.gguf"));
    struct fm_file *f = open_file(path), *g = open_file(in("fp8"));
    struct fm_model m;
    ok(fm_model_load(f, false, &m, &err));
    const struct fm_mat *w = &m.w.layers[0].mla.wkv_a;
    assert_int_equal(w->fmt, FM_F8_E4M3);
    float *row = fm_malloc((size_t)w->cols * sizeof *row),
          *all = decoded(fm_file_find(g, "model.layers.0.self_attn.kv_a_proj_with_mqa.weight"));
    for (int r = 0; r < w->rows; r++) {
        fm_mat_decode(row, w, r, 0, w->cols, fm_formats[w->fmt].decode);
        assert_memory_equal(row, all + (size_t)r * (size_t)w->cols, (size_t)w->cols * sizeof *row);
    }
    json_t *j;
    ok(fm_json_read(in("fp8/config.json"), &j, &err));
    assert_null(json_object_get(j, "quantization_config"));
    json_decref(j);
    for (int i = 0; i < fm_file_n_tensors(g); i++) assert_false(fm_ends_with(fm_file_tensor(g, i)->name, "_scale_inv"));
    fm_free(row);
    fm_free(all);
    fm_model_release(&m);
    fm_file_close(f);
    fm_file_close(g);
}

static void with_importance(void **state)
{
    (void)state;
    enum { COLS = 256, FMT = FM_Q3_K };
    static const char name[] = "blk.0.attn_q.weight";
    struct fm_imatrix m = {0};
    float weights[COLS];
    bool found;
    ok(fm_imatrix_add(&m, name, COLS, 1, "test", &err));
    for (int i = 0; i < COLS; i++) m.entries[0].sums[i] = (float)(i % 7) + 0.5f;
    m.entries[0].counts[0] = 3;
    ok(fm_imatrix_write(&m, in("importance.gguf"), &err));
    ok(fm_imatrix_weights(&m, name, 1, COLS, weights, &found, &err));
    struct fm_quantize_options o = options(in("llama.gguf"), in("weighted.gguf"), "Q3_K");
    o.imatrix = in("importance.gguf");
    ok(fm_quantize(&o, &(struct fm_quantize_result){0}, &err));
    struct fm_file *a = open_file(in("llama.gguf")), *b = open_file(in("weighted.gguf"));
    const struct fm_tensor *t = fm_file_find(b, name);
    float *x = decoded(fm_file_find(a, name));
    char want[110];
    for (size_t r = 0; r < 256; r++) {
        fm_formats[FMT].encode_weighted(want, x + r * COLS, weights, COLS);
        assert_memory_equal(want, (const char *)t->data + r * sizeof want, sizeof want);
    }
    check_tensor(fm_file_find(b, "blk.0.attn_k.weight"), fm_file_find(a, "blk.0.attn_k.weight")); /* unknown there */
    assert_int_equal(fm_meta_int(b, "quantize.imatrix.entries_count", 0), 1);
    fm_free(x);
    fm_file_close(a);
    fm_file_close(b);
    fm_imatrix_release(&m);
    ok(fm_imatrix_add(&m, name, 10, 1, "test", &err));
    m.entries[0].counts[0] = 1;
    ok(fm_imatrix_write(&m, in("importance.gguf"), &err));
    o.out = in("refused.gguf");
    assert_int_equal(fm_quantize(&o, &(struct fm_quantize_result){0}, &err), FM_ERR_INPUT);
    fm_imatrix_release(&m);
}

/* ---- failures --------------------------------------------------------------------------------------------------- */

static volatile int stop;
static int calls;

static void stop_at_third(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    assert_true(done <= total);
    if (++calls == 3) stop = 1;
}

static void cancelled(void **state)
{
    (void)state;
    static const char *const outs[] = {"stopped.gguf", "stopped"};
    for (int i = 0; i < 2; i++) {
        struct stat s;
        struct fm_quantize_options o = options(in("deepseek.gguf"), in(outs[i]), "F32");
        const int before = files_in(dir);
        calls = stop = 0;
        o.on_progress = stop_at_third;
        o.stop = &stop;
        assert_int_equal(fm_quantize(&o, &(struct fm_quantize_result){0}, &err), FM_ERR_CANCELLED);
        assert_int_equal(calls, 3);
        assert_int_not_equal(stat(in(outs[i]), &s), 0);
        assert_int_equal(files_in(dir), before);
    }
}

/* Allocation n fails, for every n: the output is whole or not there, nothing else is left. */
static void no_memory(void **state)
{
    (void)state;
    static const char *const from[] = {"odd.gguf", "small", "deepseek.gguf"}, *const to[] = {"t.gguf", "t", "u"};
    write_unknown(in("odd.gguf"), 1);
    write_model_of("{\"model_type\":\"llama\",\"vocab_size\":280,\"hidden_size\":8,\"num_hidden_layers\":1,"
                   "\"intermediate_size\":8,\"num_attention_heads\":2,\"max_position_embeddings\":64}",
                   in("small"), false);
    for (int i = 0; i < 3; i++) {
        const int before = files_in(dir);
        enum fm_status st = FM_ERR_MEMORY;
        for (long n = 1; st; n += i == 2 ? 97 : 1) {
            struct fm_quantize_options o = options(in(from[i]), in(to[i]), "BF16");
            o.threads = 1;
            fm_mem_fail_at(n);
            st = fm_quantize(&o, &(struct fm_quantize_result){0}, &err);
            fm_mem_fail_at(0);
            if (st && st != FM_ERR_MEMORY) fail_msg("allocation %ld: %s", n, err.message);
            assert_int_equal(files_in(dir), before + !st);
        }
    }
}

static int make_models(void **state)
{
    (void)state;
    if (!mkdtemp(dir)) return -1;
    write_model_of(LLAMA, in("llama.gguf"), true);
    write_model_of(DEEPSEEK, in("deepseek.gguf"), true);
    return 0;
}

static int remove_all(void **state)
{
    (void)state;
    char command[64];
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roles),
        cmocka_unit_test(mixtures),
        cmocka_unit_test(rules_and_fallbacks),
        cmocka_unit_test(each_type),
        cmocka_unit_test(any_threads),
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(tokenizer_survives),
        cmocka_unit_test(shards),
        cmocka_unit_test(split_input),
        cmocka_unit_test(unknown_architecture),
        cmocka_unit_test(bad_values),
        cmocka_unit_test(without_mtp),
        cmocka_unit_test(fp8_folder),
        cmocka_unit_test(with_importance),
        cmocka_unit_test(cancelled),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests_name("quantize", tests, make_models, remove_all);
}
