/* Weights whose scales lie beside them, in every layout that checkpoints use: a folder as it would be published is loaded;
 * every value is what the formula gives, through the model and through the list of tensors, and the model computes the bits
 * of its twin with these values in F32.  What is missing, misshapen or says something else is refused by name. */
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/env.h"
#include "base/str.h"
#include "run/run.h"
#include "twins.h"

static char folder[64], twin[80], weights_path[96], config_path[96], gguf_path[2][64];

struct layout {
    const char *what;
    enum fm_fmt codes; /* as the file calls them: I8, U8 hold two E2M1 codes a byte */
    const char *weight, *scale, *whole;
    enum fm_fmt scales;
    int rows, cols, n_dims; /* a scale counts for rows × cols elements, 0: all of them; dimensions of the scales */
    const char *quantization_config;
};

static const struct layout layouts[] = {
    {"V3", FM_F8_E4M3, ".weight", ".weight_scale_inv", NULL, FM_F32, 128, 128, 2,
     "{\"quant_method\":\"fp8\",\"fmt\":\"e4m3\",\"weight_block_size\":[128,128],\"activation_scheme\":\"dynamic\"}"},
    {"V4", FM_F8_E4M3, ".weight", ".scale", NULL, FM_F8_E8M0, 128, 128, 2, NULL},
    {"V4.1", FM_F8_E4M3, ".weight", ".scale", NULL, FM_F8_E8M0, 32, 32, 2,
     "{\"quant_method\":\"fp8\",\"weight_block_size\":[32,32],\"scale_fmt\":\"ue8m0\"}"},
    {"blocks of 64", FM_F8_E4M3, ".weight", ".weight_scale_inv", NULL, FM_F16, 64, 64, 2, NULL},
    {"oblong blocks", FM_F8_E4M3, ".weight", ".weight_scale_inv", NULL, FM_F32, 64, 128, 2, NULL},
    {"rows of 32", FM_F8_E4M3, ".weight", ".scale", NULL, FM_F8_E8M0, 1, 32, 2, NULL},
    {"bytes as E8M0", FM_F8_E4M3, ".weight", ".scale", NULL, FM_U8, 1, 32, 2, NULL},
    {"per tensor", FM_F8_E4M3, ".weight", ".weight_scale", NULL, FM_F32, 0, 0, 0,
     "{\"quant_method\":\"modelopt\",\"quant_algo\":\"FP8\"}"},
    {"per tensor, [1]", FM_F8_E4M3, ".weight", ".weight_scale", NULL, FM_BF16, 0, 0, 1,
     "{\"quant_method\":\"compressed-tensors\",\"format\":\"float-quantized\"}"},
    {"per channel", FM_F8_E4M3, ".weight", ".weight_scale", NULL, FM_F32, 1, 0, 2, "{\"quant_method\":\"fbgemm_fp8\"}"},
    {"per channel, [rows]", FM_F8_E4M3, ".weight", ".weight_scale", NULL, FM_BF16, 1, 0, 1, NULL},
    {"FP4 of V4", FM_I8, ".weight", ".scale", NULL, FM_F8_E8M0, 1, 32, 2, NULL},
    {"FP4 in F4", FM_F4_E2M1, ".weight", ".scale", NULL, FM_F8_E8M0, 1, 32, 2, NULL},
    {"NVFP4 of modelopt", FM_U8, ".weight", ".weight_scale", ".weight_scale_2", FM_F8_E4M3, 1, 16, 2,
     "{\"quant_method\":\"modelopt\",\"quant_algo\":\"NVFP4\"}"},
    {"NVFP4 of compressed-tensors", FM_U8, ".weight_packed", ".weight_scale", ".weight_global_scale", FM_F8_E4M3, 1, 16,
     2, "{\"quant_method\":\"compressed-tensors\",\"format\":\"nvfp4-pack-quantized\"}"},
};
enum { N_LAYOUTS = sizeof layouts / sizeof *layouts };
enum { TOO_MANY = 6 }; /* columns of scales: no length of blocks gives so many */
enum spoil { FINE, NO_SCALES, BAD_SHAPE, BAD_FORMAT, NAN_SCALE };
static const float whole = 2.7f;

/* No width is a multiple of 128, one is none of 32. */
static const char config[] =
    "{\"model_type\":\"llama\",\"vocab_size\":70,\"hidden_size\":160,\"num_hidden_layers\":1,\"intermediate_size\":200,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,"
    "\"rope_theta\":10000,\"tie_word_embeddings\":false";

static bool is_scaled(const struct fm_binding *b) { return !(b->flags & FM_BIND_VECTOR) && strstr(b->hf, "_proj"); }
static bool packed(const struct layout *l) { return l->codes == FM_I8 || l->codes == FM_U8; }
static bool is_fp8(const struct layout *l) { return l->codes == FM_F8_E4M3; }
static int count(int n, int edge) { return edge ? (n + edge - 1) / edge : 1; }

/* One scaled matrix as the file has it, and its values by the formula. */
struct scaled {
    int rows, cols, down, across;
    uint8_t *codes, *scales;
    float *value;
};

static float scale_value(const struct layout *l, const uint8_t *scales, int i)
{
    const enum fm_fmt f = l->scales == FM_U8 ? FM_F8_E8M0 : l->scales;
    float v;
    fm_formats[f].decode(&v, scales + (size_t)i * fm_formats[f].block_bytes, 1);
    return v;
}

static void random_scale(const struct layout *l, uint8_t *at, struct fm_rng *rng)
{
    const float x = (is_fp8(l) ? 0.5f : 0.01f) * (1 + (float)fm_rng_uniform(rng));
    switch (l->scales) {
    case FM_F8_E4M3: *at = fm_f32_to_e4m3(3 * x); break;
    case FM_U8:
    case FM_F8_E8M0: *at = (uint8_t)((is_fp8(l) ? 125 : 119) + fm_rng_below(rng, 3)); break;
    default: fm_formats[l->scales].encode(at, &x, 1);
    }
}

static struct scaled make(const struct layout *l, const struct fm_binding *b, enum spoil spoil, struct fm_rng *rng)
{
    static const float e2m1[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    struct scaled s = {b->rows, b->cols, count(b->rows, l->rows), count(b->cols, l->cols), NULL, NULL, NULL};
    const size_t n = (size_t)s.rows * (size_t)s.cols, size = fm_formats[l->scales].block_bytes;
    s.codes = need(n);
    s.scales = need((size_t)s.down * (size_t)(s.across + TOO_MANY) * size);
    s.value = need(n * sizeof *s.value);
    for (int i = 0; i < s.down * (s.across + TOO_MANY); i++) random_scale(l, s.scales + (size_t)i * size, rng);
    if (spoil == NAN_SCALE) s.scales[0] = 255;
    for (int r = 0; r < s.rows; r++)
        for (int k = 0; k < s.cols; k++) {
            const size_t i = (size_t)r * (size_t)s.cols + (size_t)k;
            float v = 0.1f * (float)fm_rng_normal(rng);
            if (is_fp8(l)) {
                s.codes[i] = fm_f32_to_e4m3(v);
                v = fm_e4m3_to_f32(s.codes[i]);
            } else {
                const unsigned c = (unsigned)fm_rng_below(rng, 16);
                s.codes[i / 2] = (uint8_t)(s.codes[i / 2] | c << (k % 2 ? 4 : 0));
                v = c & 8 ? -e2m1[c & 7] : e2m1[c & 7];
            }
            v *= scale_value(l, s.scales, (l->rows ? r / l->rows : 0) * s.across + (l->cols ? k / l->cols : 0));
            if (l->whole) v *= strstr(l->whole, "global") ? (float)(1 / (double)whole) : whole;
            s.value[i] = v;
        }
    return s;
}

static void drop(struct scaled *s)
{
    fm_free(s->codes);
    fm_free(s->scales);
    fm_free(s->value);
}

static void name_of(char *out, size_t n, const struct fm_binding *b, const char *suffix)
{
    (void)snprintf(out, n, "%.*s%s", (int)(strlen(b->hf) - strlen(".weight")), b->hf, suffix);
}

static void declare(struct fm_writer *w, const struct fm_binding *b, const struct layout *l, enum spoil spoil)
{
    const bool vector = b->flags & FM_BIND_VECTOR;
    const uint64_t plain[] = {(uint64_t)b->rows, (uint64_t)b->cols}, one = 1;
    const uint64_t codes[] = {plain[0], plain[1] / (packed(l) ? 2 : 1)};
    const uint64_t scales[] = {(uint64_t)count(b->rows, l->rows),
                               (uint64_t)count(b->cols, l->cols) + (spoil == BAD_SHAPE ? TOO_MANY : 0)};
    char name[160];
    if (!is_scaled(b)) {
        fm_writer_tensor(w, b->hf, FM_F32, 2 - vector, plain + vector);
        return;
    }
    name_of(name, sizeof name, b, l->weight);
    fm_writer_tensor(w, name, l->codes, 2, codes);
    if (spoil == NO_SCALES) return;
    name_of(name, sizeof name, b, l->scale);
    fm_writer_tensor(w, name, spoil == BAD_FORMAT ? FM_I8 : l->scales, spoil == BAD_SHAPE ? 2 : l->n_dims, scales);
    if (!l->whole) return;
    name_of(name, sizeof name, b, l->whole);
    fm_writer_tensor(w, name, FM_F32, 1, &one);
}

static void write_plain(struct fm_writer *w, const struct fm_binding *b, struct fm_rng *rng)
{
    const size_t n = (size_t)b->rows * (size_t)b->cols;
    float *x = need(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = b->flags & FM_BIND_NORM ? 1 : 0.1f * (float)fm_rng_normal(rng);
    ok(fm_writer_data(w, x, n * sizeof *x, &err));
    fm_free(x);
}

static void write_data(struct fm_writer *w, const struct fm_binding *b, const struct layout *l, enum spoil spoil,
                       struct fm_rng *rng)
{
    if (!is_scaled(b)) {
        write_plain(w, b, rng);
        return;
    }
    struct scaled s = make(l, b, spoil, rng);
    const size_t n = (size_t)s.rows * (size_t)s.cols;
    const size_t n_scales = (size_t)s.down * (size_t)(s.across + (spoil == BAD_SHAPE ? TOO_MANY : 0));
    ok(fm_writer_data(w, s.codes, is_fp8(l) ? n : n / 2, &err));
    if (spoil != NO_SCALES)
        ok(fm_writer_data(w, s.scales, n_scales * (spoil == BAD_FORMAT ? 1 : fm_formats[l->scales].block_bytes), &err));
    if (spoil != NO_SCALES && l->whole) ok(fm_writer_data(w, &whole, sizeof whole, &err));
    drop(&s);
}

static void put_config(const char *quantization_config)
{
    FILE *out = fopen(config_path, "w");
    assert_non_null(out);
    (void)fprintf(out, "%s,\"quantization_config\":%s}", config, quantization_config ? quantization_config : "null");
    (void)fclose(out);
}

/* rows: of the model, to be freed, with *w. */
static void write_folder(const struct layout *l, enum spoil spoil, struct fm_config *cfg, struct fm_weights *w,
                         struct fm_binding **rows, int *n)
{
    struct fm_writer *writer;
    struct fm_rng rng;
    struct fm_buf text = {0};
    json_t *j = NULL;
    fm_rng_init(&rng, 8);
    fm_buf_printf(&text, "%s}", config);
    ok(fm_json_parse(text.data, text.len, "config", &j, &err));
    ok(fm_config_from_json(j, "config", cfg, &err));
    ok(fm_weights_init(w, cfg, &err));
    ok(fm_bindings_new(cfg, w, rows, n, &err));
    (void)mkdir(folder, 0777);
    ok(fm_writer_open(weights_path, FM_SAFETENSORS, &writer, &err));
    for (int i = 0; i < *n; i++) declare(writer, &(*rows)[i], l, spoil);
    ok(fm_writer_begin(writer, &err));
    for (int i = 0; i < *n; i++) write_data(writer, &(*rows)[i], l, spoil, &rng);
    ok(fm_writer_commit(writer, &err));
    put_config(l->quantization_config);
    json_decref(j);
    fm_buf_release(&text);
}

static void write_only(const struct layout *l, enum spoil spoil)
{
    struct fm_config cfg;
    struct fm_weights w;
    struct fm_binding *rows;
    int n;
    write_folder(l, spoil, &cfg, &w, &rows, &n);
    fm_free(rows);
    fm_weights_release(&w, &cfg);
}

static void remove_folder(const char *name)
{
    static const char *const files[] = {"model.safetensors", "config.json"};
    char file[128];
    for (int i = 0; i < 2; i++) {
        (void)snprintf(file, sizeof file, "%s/%s", name, files[i]);
        (void)unlink(file);
    }
    (void)rmdir(name);
}

static void equal(const struct layout *l, const char *name, const char *way, const float *got, const float *want,
                  size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(got[i] == want[i]) && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s, %s by %s: element %zu is %.9g, not %.9g", l->what, name, way, i, (double)got[i],
                     (double)want[i]);
}

/* What `fathom tensor` shows: the values, their shape, no matter how they are packed. */
static void check_listed(const struct layout *l, const struct fm_tensors *ts, const struct fm_binding *b,
                         const float *want)
{
    char name[160];
    struct fm_tensor_info info;
    const size_t n = (size_t)b->rows * (size_t)b->cols;
    name_of(name, sizeof name, b, l->weight);
    const int i = fm_tensors_find(ts, name);
    assert_true(i >= 0);
    fm_tensors_info(ts, i, &info);
    if (info.n_dims != 2 || info.shape[0] != (uint64_t)b->rows || info.shape[1] != (uint64_t)b->cols)
        fail_msg("%s: %s has another shape", l->what, name);
    assert_true(info.n_elements == n);
    assert_string_equal(info.format, is_fp8(l) ? "F8_E4M3" : l->codes == FM_F4_E2M1 ? "F4" : "F4_E2M1");
    float *got = need(n * sizeof *got);
    ok(fm_tensors_read(ts, i, got, &err));
    equal(l, name, "fathom tensor", got, want, n);
    fm_free(got);
}

static void check_bound(const struct layout *l, const struct fm_model *m, const struct fm_binding *b, const float *want)
{
    const struct fm_mat *w = NULL;
    const struct fm_layer *a = &m->w.layers[0];
    if (strstr(b->hf, "down_proj")) w = &a->mlp.down;
    if (strstr(b->hf, "k_proj")) w = &a->mha.wk;
    if (!w) return;
    float row[256];
    for (int r = 0; r < b->rows; r++) {
        fm_mat_decode(row, w, r, 0, b->cols, fm_formats[w->fmt].decode);
        equal(l, b->hf, "the model", row, want + (size_t)r * (size_t)b->cols, (size_t)b->cols);
    }
}

static void check_values(const struct layout *l, enum spoil spoil, const struct fm_model *m,
                         const struct fm_binding *rows, int n)
{
    struct fm_tensors *ts;
    struct fm_rng rng;
    fm_rng_init(&rng, 8);
    ok(fm_tensors_open(folder, &ts, &err));
    for (int i = 0; i < n; i++) {
        if (!is_scaled(&rows[i])) { /* the same numbers as when it was written */
            for (int k = 0; k < rows[i].rows * rows[i].cols && !(rows[i].flags & FM_BIND_NORM); k++)
                (void)fm_rng_normal(&rng);
            continue;
        }
        struct scaled s = make(l, &rows[i], spoil, &rng);
        check_listed(l, ts, &rows[i], s.value);
        check_bound(l, m, &rows[i], s.value);
        drop(&s);
    }
    fm_tensors_close(ts);
}

static void check_layout(const struct layout *l)
{
    struct fm_config cfg;
    struct fm_weights w;
    struct fm_binding *rows;
    struct fm_file *f[2];
    struct fm_model m[2];
    int n;
    write_folder(l, FINE, &cfg, &w, &rows, &n);
    ok(fm_file_open(folder, &f[0], &err));
    ok(fm_model_load(f[0], true, &m[0], &err));
    check_values(l, FINE, &m[0], rows, n);
    /* a folder, too: in a GGUF the rows of q and k are permuted, hence sums in another order */
    ok(fm_model_write(&m[0].cfg, &m[0].w, twin, &(struct fm_convert){.fmt = FM_F32}, &err));
    ok(fm_file_open(twin, &f[1], &err));
    ok(fm_model_load(f[1], true, &m[1], &err));
    check_same(&m[0], &m[1], true, l->what);
    check_same(&m[0], &m[1], false, l->what);
    for (int i = 0; i < 2; i++) {
        fm_model_release(&m[i]);
        fm_file_close(f[i]);
    }
    fm_free(rows);
    fm_weights_release(&w, &cfg);
    remove_folder(folder);
    remove_folder(twin);
}

static void test_layouts(void **state)
{
    (void)state;
    for (int i = 0; i < N_LAYOUTS; i++) check_layout(&layouts[i]);
}

/* ---- what is refused ------------------------------------------------------------------------------------------------ */

static void refused(const char *what, const char *message, const char *hint)
{
    struct fm_file *f;
    struct fm_model m;
    ok(fm_file_open(folder, &f, &err));
    assert_int_equal(fm_model_load(f, true, &m, &err), FM_ERR_INPUT);
    if (!strstr(err.message, message)) fail_msg("%s: '%s' does not say '%s'", what, err.message, message);
    if (hint && !strstr(err.hint, hint)) fail_msg("%s: '%s' does not hint at '%s'", what, err.hint, hint);
    fm_file_close(f);
}

static void test_refused(void **state)
{
    (void)state;
    for (int i = 0; i < N_LAYOUTS; i++) {
        const struct layout *l = &layouts[i];
        write_only(l, NO_SCALES);
        if (!packed(l))
            refused(l->what, "_proj.weight': F", ".weight_scale_inv, .weight_scale and .scale");
        else
            refused(l->what,
                    l->whole && strstr(l->weight, "packed") ? "_packed': format U8 is not supported"
                                                            : ".weight': format",
                    NULL);
        write_only(l, BAD_SHAPE);
        char message[80];
        (void)snprintf(message, sizeof message, "%s': shape [", l->scale);
        refused(l->what, message, NULL);
        write_only(l, BAD_FORMAT);
        (void)snprintf(message, sizeof message, "%s': scales in this format", l->scale);
        refused(l->what, message, NULL);
    }
    write_only(&layouts[0], FINE); /* the config speaks of other blocks than the scales have */
    put_config("{\"quant_method\":\"fp8\",\"weight_block_size\":[64,64]}");
    refused("other blocks", "in blocks of 64 × 64 (the config)", NULL);
    put_config("{\"quant_method\":\"fp8\",\"weight_block_size\":[64]}");
    refused("half a block", "weight_block_size': is not two lengths", NULL);
    remove_folder(folder);
}

static void test_methods(void **state)
{
    static const char *const other[] = {"gptq", "awq", "bitsandbytes", "hqq", "torchao", "mxfp4"};
    (void)state;
    write_only(&layouts[0], FINE);
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        char text[80], message[120];
        (void)snprintf(text, sizeof text, "{\"quant_method\":\"%s\",\"bits\":4}", other[i]);
        put_config(text);
        (void)snprintf(message, sizeof message,
                       "config.json, key 'quantization_config.quant_method': weights quantised by '%s' are not",
                       other[i]);
        refused(other[i], message, "GGUF");
    }
    put_config("{\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\"}");
    refused("integers", "'quantization_config.format': weights quantised by 'pack-quantized'", "GGUF");
    put_config("{\"quant_method\":\"fp8\",\"fmt\":\"e5m2\"}");
    refused("E5M2", "'quantization_config.fmt': weights quantised by 'e5m2'", NULL);
    remove_folder(folder);
}

/* An E8M0 scale of 255 is NaN: so are the elements that it counts for, and no others. */
static void test_nan_scale(void **state)
{
    (void)state;
    struct fm_config cfg;
    struct fm_weights w;
    struct fm_binding *rows;
    struct fm_file *f;
    struct fm_model m;
    int n;
    for (int i = 0; i < N_LAYOUTS; i++) {
        if (layouts[i].scales != FM_F8_E8M0) continue;
        write_folder(&layouts[i], NAN_SCALE, &cfg, &w, &rows, &n);
        ok(fm_file_open(folder, &f, &err));
        ok(fm_model_load(f, true, &m, &err));
        float row[256];
        fm_mat_decode(row, &m.w.layers[0].mlp.down, 0, 0, 200, fm_formats[m.w.layers[0].mlp.down.fmt].decode);
        assert_true(isnan(row[0]) && !isnan(row[199]));
        check_values(&layouts[i], NAN_SCALE, &m, rows, n);
        fm_model_release(&m);
        fm_file_close(f);
        fm_free(rows);
        fm_weights_release(&w, &cfg);
    }
    remove_folder(folder);
}

/* ---- the shared vectors (golden/formats/README.md there) ------------------------------------------------------------ */

static void check_vectors(const char *name, enum fm_fmt fmt)
{
    const char *shared = fm_env("FATHOM_SHARED");
    char file[1024];
    struct fm_file *f;
    (void)snprintf(file, sizeof file, "%s/golden/formats/%s.safetensors", shared ? shared : "../shared", name);
    if (access(file, R_OK)) {
        printf("SKIP test_scaled: %s is not there\n", file);
        return;
    }
    ok(fm_file_open(file, &f, &err));
    const struct fm_tensor *raw = fm_file_find(f, "raw"), *scale = fm_file_find(f, "scale"),
                           *t = fm_file_find(f, "f32"), *block = fm_file_find(f, "block");
    assert_true(raw && scale && t && t->n_dims == 2 && scale->n_dims == 2);
    const int rows = (int)t->shape[0], cols = (int)t->shape[1];
    int64_t edges[2] = {1, 32};
    if (block) memcpy(edges, block->data, sizeof edges);
    float *want = need(t->n_elements * sizeof *want), *row = need((size_t)cols * sizeof *row);
    ok(fm_tensor_decode(t, want, &err));
    struct fm_mat m = fm_mat_of(fmt, rows, cols, (void *)(size_t)raw->data);
    m.scale = (struct fm_scales){.at = scale->data,
                                 .fmt = scale->fmt == FM_F32 ? FM_F32 : FM_F8_E8M0,
                                 .block_rows = (int)edges[0],
                                 .block_cols = (int)edges[1],
                                 .ld = (int)scale->shape[1]};
    for (int r = 0; r < rows; r++) {
        fm_mat_decode(row, &m, r, 0, cols, fm_formats[fmt].decode);
        for (int k = 0; k < cols; k++)
            if (row[k] != want[(size_t)r * (size_t)cols + (size_t)k]) fail_msg("%s: row %d, column %d", name, r, k);
    }
    fm_free(want);
    fm_free(row);
    fm_file_close(f);
}

static void test_vectors(void **state)
{
    (void)state;
    check_vectors("fp8_e4m3_b128_f32", FM_F8_E4M3);
    check_vectors("fp8_e4m3_b128_e8m0", FM_F8_E4M3);
    check_vectors("fp8_e4m3_b32_e8m0", FM_F8_E4M3);
    check_vectors("fp8_e4m3_row32_e8m0", FM_F8_E4M3);
    check_vectors("fp4_e2m1_hf_e8m0", FM_F4_E2M1);
}

/* ---- NVFP4 with a scale per matrix ---- */

static const char llama[] =
    "{\"model_type\":\"llama\",\"vocab_size\":70,\"hidden_size\":256,\"num_hidden_layers\":1,\"intermediate_size\":512,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,"
    "\"rope_theta\":10000,\"tie_word_embeddings\":false}";

/* A Llama in gguf_path[0] whose ffn_down is NVFP4, with one scale; n_scales 2: one too many. */
static void write_nvfp4(float scale, uint64_t n_scales, struct fm_config *cfg)
{
    struct fm_weights w;
    struct fm_binding *rows;
    struct fm_writer *writer;
    struct fm_rng rng;
    json_t *j = NULL;
    int n;
    const float scales[] = {scale, scale};
    fm_rng_init(&rng, 9);
    ok(fm_json_parse(llama, sizeof llama - 1, "config", &j, &err));
    ok(fm_config_from_json(j, "config", cfg, &err));
    ok(fm_weights_init(&w, cfg, &err));
    ok(fm_bindings_new(cfg, &w, &rows, &n, &err));
    ok(fm_writer_open(gguf_path[0], FM_GGUF, &writer, &err));
    fm_config_to_gguf(cfg, writer);
    fm_writer_tensor(writer, "blk.0.ffn_down.scale", FM_F32, 1, &n_scales);
    for (int i = 0; i < n; i++) {
        bool vector = rows[i].flags & FM_BIND_VECTOR, down = rows[i].mat == &w.layers[0].mlp.down;
        const uint64_t shape[] = {(uint64_t)rows[i].rows, (uint64_t)rows[i].cols};
        fm_writer_tensor(writer, rows[i].gguf, down ? FM_NVFP4 : FM_F32, 2 - vector, shape + vector);
    }
    ok(fm_writer_begin(writer, &err));
    ok(fm_writer_data(writer, scales, n_scales * sizeof *scales, &err));
    for (int i = 0; i < n; i++) {
        uint64_t count = (uint64_t)rows[i].rows * (uint64_t)rows[i].cols;
        bool down = rows[i].mat == &w.layers[0].mlp.down;
        uint64_t bytes = fm_format_bytes(down ? FM_NVFP4 : FM_F32, count);
        float *x = need(count * sizeof *x);
        for (uint64_t k = 0; k < count; k++) x[k] = 0.1f * (float)fm_rng_normal(&rng);
        for (uint64_t k = 0; down && k < bytes; k++)
            ((uint8_t *)x)[k] = (uint8_t)(k % 36 < 4 ? 0x10 + fm_rng_below(&rng, 16) : fm_rng_below(&rng, 256));
        ok(fm_writer_data(writer, x, bytes, &err));
        fm_free(x);
    }
    ok(fm_writer_commit(writer, &err));
    fm_free(rows);
    fm_weights_release(&w, cfg);
    json_decref(j);
}

static void test_nvfp4(void **state)
{
    (void)state;
    struct fm_config cfg;
    struct fm_file *f[2];
    struct fm_model m[2];
    float plain[512], row[512];
    write_nvfp4(0.37f, 1, &cfg);
    ok(fm_file_open(gguf_path[0], &f[0], &err));
    ok(fm_model_load(f[0], true, &m[0], &err));
    const struct fm_mat *down = &m[0].w.layers[0].mlp.down;
    fm_formats[FM_NVFP4].decode(plain, down->data, 512);
    fm_mat_decode(row, down, 0, 0, 512, fm_formats[FM_NVFP4].decode);
    for (int k = 0; k < 512; k++) assert_true(row[k] == 0.37f * plain[k]);
    ok(fm_model_write(&m[0].cfg, &m[0].w, gguf_path[1], &(struct fm_convert){.fmt = FM_F32}, &err));
    ok(fm_file_open(gguf_path[1], &f[1], &err));
    ok(fm_model_load(f[1], true, &m[1], &err));
    check_same(&m[0], &m[1], true, "NVFP4");
    check_same(&m[0], &m[1], false, "NVFP4");
    for (int i = 0; i < 2; i++) {
        fm_model_release(&m[i]);
        fm_file_close(f[i]);
    }
    write_nvfp4(0.37f, 2, &cfg);
    ok(fm_file_open(gguf_path[0], &f[0], &err));
    assert_int_equal(fm_model_load(f[0], true, &m[0], &err), FM_ERR_INPUT);
    assert_non_null(strstr(err.message, "ffn_down.scale': is no scale per matrix"));
    fm_file_close(f[0]);
    for (int i = 0; i < 2; i++) (void)unlink(gguf_path[i]);
}

int main(void)
{
    const int id = (int)getpid();
    (void)snprintf(folder, sizeof folder, "/tmp/fathom-scaled-%d", id);
    (void)snprintf(twin, sizeof twin, "%s-twin", folder);
    (void)snprintf(weights_path, sizeof weights_path, "%s/model.safetensors", folder);
    (void)snprintf(config_path, sizeof config_path, "%s/config.json", folder);
    for (int i = 0; i < 2; i++)
        (void)snprintf(gguf_path[i], sizeof gguf_path[i], "/tmp/fathom-scaled-%d-%d.gguf", id, i);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layouts), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_methods), cmocka_unit_test(test_nan_scale),
                                       cmocka_unit_test(test_nvfp4),   cmocka_unit_test(test_vectors)};
    return cmocka_run_group_tests_name("scaled", tests, NULL, NULL);
}
