/* Forecasts: parameters of published models from their configs alone, bytes by type, speeds worked out by hand, and what a
 * full context makes resident. */
#include <dirent.h>
#include <math.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "run_testing.h"

static char config_path[64]; /* a config.json in a folder of its own: no weights */
static char config_folder[40];

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(config_folder, sizeof config_folder, "/tmp/fathom-plan-XXXXXX");
    if (!mkdtemp(config_folder)) return -1;
    (void)snprintf(config_path, sizeof config_path, "%s/config.json", config_folder);
    (void)snprintf(model_path, sizeof model_path, "%s/wide.gguf", config_folder);
    return 0;
}

static int remove_folder(void **state)
{
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf %s", config_folder);
    return system(command);
}

static void put_config(const char *text)
{
    FILE *f = fopen(config_path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static struct fm_forecast *forecast(const char *path, const char *type, int ctx)
{
    struct fm_forecast *f = NULL;
    ok(fm_forecast_new(&(struct fm_engine_options){.model = path, .ctx = ctx, .threads = 2}, type, &f, &err));
    return f;
}

/* ---- published models ------------------------------------------------------------------------------------------ */

#define DEEPSEEK(type, more)                                                                              \
    "{\"model_type\":\"" type "\",\"kv_lora_rank\":512,\"qk_nope_head_dim\":128,\"qk_rope_head_dim\":64," \
    "\"v_head_dim\":128,\"max_position_embeddings\":163840,\"rope_theta\":10000," more "}"
#define DENSE(type, V, D, L, F, H, Hkv, more)                                                             \
    "{\"model_type\":\"" type "\",\"vocab_size\":" #V ",\"hidden_size\":" #D ",\"num_hidden_layers\":" #L \
    ",\"intermediate_size\":" #F ",\"num_attention_heads\":" #H ",\"num_key_value_heads\":" #Hkv more "}"

static const struct published {
    const char *name, *config;
    int64_t total;
    double active_from, active_to; /* billions */
} published[] = {
    {"V2-Lite",
     DEEPSEEK("deepseek_v2", "\"vocab_size\":102400,\"hidden_size\":2048,\"num_hidden_layers\":27,"
                             "\"intermediate_size\":10944,\"num_attention_heads\":16,\"q_lora_rank\":null,"
                             "\"n_routed_experts\":64,\"num_experts_per_tok\":6,\"moe_intermediate_size\":1408,"
                             "\"n_shared_experts\":2,\"first_k_dense_replace\":1,\"topk_method\":\"greedy\""),
     15706484224, 2.4, 2.8},
    {"V2",
     DEEPSEEK("deepseek_v2", "\"vocab_size\":102400,\"hidden_size\":5120,\"num_hidden_layers\":60,"
                             "\"intermediate_size\":12288,\"num_attention_heads\":128,\"q_lora_rank\":1536,"
                             "\"n_routed_experts\":160,\"num_experts_per_tok\":6,\"moe_intermediate_size\":1536,"
                             "\"n_shared_experts\":2,\"first_k_dense_replace\":1,\"n_group\":8,\"topk_group\":3,"
                             "\"topk_method\":\"group_limited_greedy\""),
     235741434880, 20.5, 21.5},
    {"V3",
     DEEPSEEK("deepseek_v3", "\"vocab_size\":129280,\"hidden_size\":7168,\"num_hidden_layers\":61,"
                             "\"intermediate_size\":18432,\"num_attention_heads\":128,\"q_lora_rank\":1536,"
                             "\"n_routed_experts\":256,\"num_experts_per_tok\":8,\"moe_intermediate_size\":2048,"
                             "\"n_shared_experts\":1,\"first_k_dense_replace\":3,\"n_group\":8,\"topk_group\":4"),
     671026419200, 36.5, 37.7},
    {"Llama 2 7B", DENSE("llama", 32000, 4096, 32, 11008, 32, 32, ""), 6738415616, 6.5, 6.8},
    {"Llama 3 8B", DENSE("llama", 128256, 4096, 32, 14336, 32, 8, ""), 8030261248, 7.4, 7.6},
    {"Llama 3 70B", DENSE("llama", 128256, 8192, 80, 28672, 64, 8, ""), 70553706496, 69, 70},
    {"Qwen2.5 0.5B", DENSE("qwen2", 151936, 896, 24, 4864, 14, 2, ",\"tie_word_embeddings\":true"), 494032768, 0.49,
     0.5},
    {"Qwen2.5 7B", DENSE("qwen2", 152064, 3584, 28, 18944, 28, 4, ""), 7615616512, 7, 7.1},
    {"Qwen3 0.6B", DENSE("qwen3", 151936, 1024, 28, 3072, 16, 8, ",\"head_dim\":128,\"tie_word_embeddings\":true"),
     596049920, 0.59, 0.6},
    {"Qwen3 8B", DENSE("qwen3", 151936, 4096, 36, 12288, 32, 8, ",\"head_dim\":128"), 8190735360, 7.5, 7.7},
};
enum { N_PUBLISHED = sizeof published / sizeof *published };

static uint64_t sum_bytes(const struct fm_forecast *f)
{
    uint64_t n = 0;
    for (int i = 0; i < f->n_weights; i++) n += f->weights[i].bytes;
    return n;
}

static void parameters_of_published_models(void **state)
{
    (void)state;
    for (int i = 0; i < N_PUBLISHED; i++) {
        const struct published *p = &published[i];
        put_config(p->config);
        struct fm_forecast *f = forecast(config_path, "F32", 0);
        const double active = (double)f->params_active * 1e-9;
        if (f->params_total != p->total || active < p->active_from || active > p->active_to)
            fail_msg("%s: %lld parameters, %.3f billion active", p->name, (long long)f->params_total, active);
        if (sum_bytes(f) != 4 * (uint64_t)p->total)
            fail_msg("%s: %llu bytes", p->name, (unsigned long long)sum_bytes(f));
        assert_string_equal(f->type, "F32");
        assert_true(f->weight_bytes == sum_bytes(f));
        fm_forecast_free(f);
    }
}

/* The block for the token after the next one adds its own weights; embedding and head are the model's. */
static void mtp_block_of_v3(void **state)
{
    char text[1024];
    (void)state;
    const size_t n = strlen(published[2].config);
    (void)snprintf(text, sizeof text, "%.*s,\"num_nextn_predict_layers\":1}", (int)n - 1, published[2].config);
    put_config(text);
    struct fm_forecast *f = forecast(config_path, "F8_E4M3", 0);
    const double own = (double)(f->params_total - published[2].total) * 1e-9;
    if (fabs(own - 11.61) > 0.005) fail_msg("%.3f billion parameters", own);
    bool seen = false;
    for (int i = 0; i < f->n_weights; i++)
        if (!strcmp(f->weights[i].part, "MTP layers")) {
            seen = true;
            assert_true(f->weights[i].decode_bytes == 0 && f->weights[i].prefill_macs == 0);
        }
    assert_true(seen);
    fm_forecast_free(f);
}

/* V2-Lite in 4 bits, as the generator of benchmark files has it: 10,388.7 MB, of which a token reads 1,636.6. */
static void bytes_of_a_mixture(void **state)
{
    (void)state;
    put_config(published[0].config);
    struct fm_forecast *f = forecast(config_folder, "q4_k_m", 4096);
    double read = 0;
    for (int i = 0; i < f->n_weights; i++) read += f->weights[i].decode_bytes;
    if (fabs((double)sum_bytes(f) * 1e-6 - 10388.7) > 0.1) fail_msg("%.1f MB", (double)sum_bytes(f) * 1e-6);
    if (fabs(read * 1e-6 - 1636.6) > 0.1) fail_msg("%.1f MB a token", read * 1e-6);
    assert_string_equal(f->type, "Q4_K_M");
    assert_int_equal(f->kv_bytes_per_token, 27 * (576 + 9 * 4)); /* int8, a factor for 64 */
    fm_forecast_free(f);
    f = forecast(config_folder, NULL, 4096); /* as published */
    assert_string_equal(f->type, "BF16");
    fm_forecast_free(f);
}

/* Every config of the golden models, with and without its weights. */
static void golden_configs(void **state)
{
    (void)state;
    DIR *d = opendir("tests/golden");
    int n = 0;
    if (!d) skip();
    for (const struct dirent *e; (e = readdir(d));) {
        char folder[320], config[340];
        struct stat s;
        (void)snprintf(folder, sizeof folder, "tests/golden/%s", e->d_name);
        (void)snprintf(config, sizeof config, "%s/config.json", folder);
        if (*e->d_name == '.' || stat(config, &s)) continue;
        struct fm_forecast *whole = forecast(folder, NULL, 128), *alone = forecast(config, "F32", 128);
        if (whole->params_total != alone->params_total || whole->type || !alone->type ||
            sum_bytes(alone) != 4 * (uint64_t)alone->params_total ||
            whole->kv_bytes_per_token != alone->kv_bytes_per_token)
            fail_msg("%s", e->d_name);
        for (int i = 0; i < 2; i++) assert_true(whole->pair_macs[i] == alone->pair_macs[i]);
        fm_forecast_free(whole);
        fm_forecast_free(alone);
        n++;
    }
    (void)closedir(d);
    assert_true(n >= 5);
}

/* ---- speeds by hand -------------------------------------------------------------------------------------------- */

static struct fm_machine round_machine(void)
{
    struct fm_machine m = {.threads = 2,
                           .l3_bytes = 1 << 20,
                           .attn_read = 1e9,
                           .attn_decode = 1e12,
                           .attn_prefill = 1e10,
                           .loop_seconds = 0};
    m.formats[0] = (struct fm_machine_format){"F16", 1e10, 4e10, 1e11};
    m.formats[1] = (struct fm_machine_format){"F32", 2e10, 8e10, 2e11};
    m.n_formats = 2;
    return m;
}

static void near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-9 * fabs(b))) fail_msg("%.12g, not %.12g", a, b);
}

static void speed_of_a_dense_model(void **state)
{
    struct fm_speed s;
    (void)state;
    put_config(DENSE("llama", 1000, 1024, 4, 2048, 8, 8, ""));
    struct fm_forecast *f = forecast(config_path, "F16", 512);
    struct fm_machine m = round_machine();
    const double matrices = 4 * (4.0 * 1024 * 1024 + 3.0 * 1024 * 2048), head = 1000.0 * 1024, norms = 9.0 * 1024;
    fm_forecast_decode(f, &m, 0, &s);
    near(s.seconds, 2 * (matrices + head) / 1e10 + 4 * norms / 2e10);
    fm_forecast_decode(f, &m, 100, &s);
    near(s.seconds, 2 * (matrices + head) / 1e10 + 4 * norms / 2e10 + 100 * 4 * 16 * (128 + 2 * 4) / 1e9);
    fm_forecast_prefill(f, &m, 100, &s);
    near(s.seconds, 100 * matrices / 1e11 + 2 * head / 1e10 + 50 * 101 * 4 * 2 * 1024.0 / 1e10);
    m.l3_bytes = (uint64_t)1 << 40; /* all of it in the cache */
    fm_forecast_decode(f, &m, 0, &s);
    near(s.seconds, 2 * (matrices + head) / 4e10 + 4 * norms / 8e10);
    m.loop_seconds = 1e-6;
    const double without = s.seconds;
    fm_forecast_decode(f, &m, 0, &s);
    near(s.seconds, without + f->loops * 1e-6);
    m = round_machine(); /* half of the weights must be read from the disk */
    m.disk = 1e8;
    m.memory_free = f->other_bytes + f->weight_bytes / 2;
    fm_forecast_decode(f, &m, 0, &s);
    near(s.rows[s.n_rows - 1].seconds,
         (2 * (matrices + head) + 4 * norms) * (1 - (double)(f->weight_bytes / 2) / (double)f->weight_bytes) / 1e8);
    fm_forecast_free(f);
    f = forecast(config_path, "Q8_0", 512); /* not measured: the nearest */
    fm_forecast_decode(f, &m, 0, &s);
    bool guessed = false;
    for (int i = 0; i < s.n_rows; i++)
        guessed |= s.rows[i].guessed && !strcmp(s.rows[i].what, "Q8_0") && s.rows[i].rate == 1e10;
    assert_true(guessed);
    fm_forecast_free(f);
}

/* Latent attention: over latents when decoding and, in planned files, always; what it costs grows with the depth. */
static void speed_of_latent_attention(void **state)
{
    struct fm_speed s;
    double before = 0;
    (void)state;
    put_config(published[0].config);
    struct fm_forecast *f = forecast(config_path, "F16", 4096);
    const struct fm_machine m = round_machine();
    near(f->pair_macs[1], 27 * 16 * (2 * 512.0 + 64));
    near(f->pair_macs[0], 27 * 16 * (128 + 64 + 128.0));
    near(f->expand_macs, 27 * 16 * 512 * 256.0);
    assert_string_equal(f->expand_format, "F16"); /* split in files, put together when loading */
    for (int depth = 0; depth <= 4096; depth += 1024) {
        fm_forecast_decode(f, &m, depth, &s);
        assert_true(s.seconds > before);
        before = s.seconds;
    }
    before = 0;
    for (int n = 1; n <= 4096; n *= 4) {
        fm_forecast_prefill(f, &m, n, &s);
        assert_true(s.seconds > before);
        before = s.seconds;
    }
    fm_forecast_free(f);
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__)
#define WATCHED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WATCHED 1
#endif
#endif

/* Bytes of this process that are resident: everything, as the plan's sum has it. */
static double resident(void)
{
    char line[256];
    double kb = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "VmRSS:", 6)) kb = strtod(line + 6, NULL);
    if (f) (void)fclose(f);
    return kb * 1024;
}

/* Few layers with wide heads: a cache, scratch and weights worth measuring for little arithmetic. */
static const char *const wide[] = {
    DENSE("llama", 280, 32, 2, 64, 64, 64, ",\"head_dim\":512"),
    "{\"model_type\":\"deepseek_v2\",\"vocab_size\":280,\"hidden_size\":32,\"num_hidden_layers\":24,"
    "\"intermediate_size\":64,\"num_attention_heads\":2,\"q_lora_rank\":null,\"kv_lora_rank\":4096,"
    "\"qk_nope_head_dim\":64,\"qk_rope_head_dim\":64,\"v_head_dim\":64}"};

static void fill_context(const char *path, int ctx)
{
    struct fm_engine_options o = {.model = path, .threads = 2, .ctx = ctx};
    const double before = resident();
    struct fm_forecast *f = forecast(path, NULL, ctx);
    double plan = 0; /* of what this program is not yet */
    for (int i = 0; i < f->n_memory; i++)
        if (strcmp(f->memory[i].item, "program, estimated") != 0) plan += (double)f->memory[i].bytes;
    fm_forecast_free(f);
    struct fm_engine *e = engine(o);
    struct fm_session *s = session(e, ctx);
    int32_t *ids = fm_malloc((size_t)ctx * sizeof *ids);
    assert_non_null(ids);
    some_ids(ids, ctx, 1);
    ok(fm_session_feed(s, ids, ctx, NULL, &err));
    const double took = resident() - before;
    fm_free(ids);
    fm_session_free(s);
    fm_engine_close(e);
    if (fabs(took - plan) > 0.05 * plan + 16 * 1048576.0)
        fail_msg("planned %.1f MB, took %.1f MB", plan * 1e-6, took * 1e-6);
    assert_true(plan > 1e8);
}

static void a_full_context_takes_what_was_planned(void **state)
{
    (void)state;
#ifdef WATCHED
    printf("SKIP  the sanitizer's own memory would be counted\n");
    skip();
#endif
    for (int i = 0; i < 2; i++) {
        write_model_of(wide[i], model_path, false);
        fill_context(model_path, i ? 256 : 128);
        assert_int_equal(unlink(model_path), 0);
    }
}

/* ---- what goes wrong ------------------------------------------------------------------------------------------- */

static void refused(const char *path, const char *type, enum fm_status st, const char *about)
{
    struct fm_forecast *f = NULL;
    assert_int_equal(fm_forecast_new(&(struct fm_engine_options){.model = path}, type, &f, &err), st);
    assert_null(f);
    if (!strstr(err.message, about)) fail_msg("'%s' does not say %s", err.message, about);
}

static void failures(void **state)
{
    (void)state;
    put_config(published[0].config);
    refused(config_path, "Q9_9", FM_ERR_USAGE, "Q9_9");
    refused(config_path, "F64", FM_ERR_USAGE, "F64");
    refused(config_path, "", FM_ERR_USAGE, "type");
    refused("/no/such/folder", NULL, FM_ERR_INPUT, "/no/such/folder");
    refused("", NULL, FM_ERR_USAGE, "no model");
    put_config("{\"model_type\":\"gpt2\"}");
    refused(config_path, "Q4_K", FM_ERR_INPUT, "gpt2");
    put_config("[1,2");
    refused(config_folder, NULL, FM_ERR_INPUT, "config.json");
    put_config("{}");
    refused(config_folder, NULL, FM_ERR_INPUT, "config.json");
}

static void memory_may_be_short(void **state)
{
    (void)state;
    put_config(DENSE("llama", 1000, 64, 2, 128, 4, 4, ""));
    enum fm_status st = FM_ERR_MEMORY;
    for (long n = 1; st && n < 500; n++) {
        struct fm_forecast *f = NULL;
        fm_mem_fail_at(n);
        st = fm_forecast_new(&(struct fm_engine_options){.model = config_path, .threads = 1}, "Q8_0", &f, &err);
        fm_mem_fail_at(0);
        assert_true(st == FM_ERR_MEMORY ? !f : st == FM_OK && f);
        fm_forecast_free(f);
    }
    assert_int_equal(st, FM_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_of_published_models),
        cmocka_unit_test(mtp_block_of_v3),
        cmocka_unit_test(bytes_of_a_mixture),
        cmocka_unit_test(golden_configs),
        cmocka_unit_test(speed_of_a_dense_model),
        cmocka_unit_test(speed_of_latent_attention),
        cmocka_unit_test(a_full_context_takes_what_was_planned),
        cmocka_unit_test(failures),
        cmocka_unit_test(memory_may_be_short),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
