/* RoPE settings in their two published spellings and in GGUF, and the frequencies that follow.  models.md §1.3. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "model/rope_config.h"

static double mscale(double factor, double m) { return factor > 1 ? 0.1 * m * log(factor) + 1 : 1; }

/* Of cos and sin, as the factor and both mscales give it. */
static double yarn_amplitude(const struct fm_config *cfg)
{
    const double m = mscale(cfg->rope_factor, cfg->yarn_mscale > 0 ? cfg->yarn_mscale : 1);
    return cfg->yarn_mscale_all_dim > 0 ? m / mscale(cfg->rope_factor, cfg->yarn_mscale_all_dim) : m;
}

/* Divisors, factors and betas are positive; the upper limits only keep the arithmetic finite. */
static void read_yarn(struct fm_reader *r, struct fm_config *cfg)
{
    cfg->yarn_beta_fast = fm_read_num(r, "beta_fast", 1e-3, 1e6, 32);
    cfg->yarn_beta_slow = fm_read_num(r, "beta_slow", 1e-3, 1e6, 1);
    cfg->yarn_mscale = fm_read_num(r, "mscale", 0, 100, 0);
    cfg->yarn_mscale_all_dim = fm_read_num(r, "mscale_all_dim", 0, 100, 0);
    /* The first replaces what the factor gives; the second multiplies it: DeepSeek-R1-0528-Qwen3-8B has 0.878, which undoes
     * the 1.139 of its factor 4.  (vLLM reads it so; transformers knows only the first.) */
    const double whole = fm_read_num(r, "attention_factor", 1e-3, 100, 0);
    cfg->yarn_attn = whole > 0 ? whole / yarn_amplitude(cfg) : fm_read_num(r, "attn_factor", 1e-3, 100, 0);
}

void fm_rope_read_json(struct fm_reader *r, struct fm_config *cfg)
{
    /* published: rope_theta + rope_scaling {type | rope_type, …}; transformers 5: rope_parameters {rope_theta, rope_type, …} */
    const json_t *p = json_object_get(r->json, "rope_parameters");
    if (!json_is_object(p)) p = json_object_get(r->json, "rope_scaling");
    cfg->rope_theta = fm_read_num(r, "rope_theta", 1, 1e12, 10000);
    if (!json_is_object(p)) return;
    struct fm_reader s = {.json = p, .where = r->where, .status = r->status, .err = r->err};
    cfg->rope_theta = fm_read_num(&s, "rope_theta", 1, 1e12, cfg->rope_theta);
    const char *type = fm_read_str(&s, "rope_type");
    if (!type) type = fm_read_str(&s, "type");
    if (type && strcmp(type, "default")) {
        cfg->rope_factor = fm_read_num(&s, "factor", 1e-3, 1e6, NAN);
        cfg->rope_orig_ctx = fm_read_num(&s, "original_max_position_embeddings", 1, FM_MAX_CTX, cfg->ctx_train);
        if (!strcmp(type, "llama3")) {
            cfg->rope_scaling = FM_ROPE_LLAMA3;
            cfg->rope_low = fm_read_num(&s, "low_freq_factor", 1e-3, 1e6, NAN);
            cfg->rope_high = fm_read_num(&s, "high_freq_factor", 1e-3, 1e6, NAN);
        } else if (!strcmp(type, "yarn")) {
            cfg->rope_scaling = FM_ROPE_YARN;
            read_yarn(&s, cfg);
        } else if (!strcmp(type, "linear")) {
            cfg->rope_scaling = FM_ROPE_LINEAR;
        } else {
            fm_reader_fail(&s, "rope_type", "is none of default, linear, llama3, yarn");
        }
    }
    r->status = s.status;
}

static void read_divisors(struct fm_reader *r, struct fm_config *cfg)
{
    const struct fm_tensor *t = fm_file_find(r->gguf, "rope_freqs.weight");
    if (!t) return;
    if (t->fmt != FM_F32 || t->n_elements != (uint64_t)cfg->rope_dim / 2 || (size_t)t->data % sizeof(float)) {
        fm_reader_fail(r, "rope.dimension_count", "does not agree with tensor rope_freqs.weight");
        return;
    }
    cfg->rope_divisors = t->data;
    for (int i = 0; i < cfg->rope_dim / 2; i++)
        if (!(cfg->rope_divisors[i] >= 1e-3f && cfg->rope_divisors[i] <= 1e6f))
            fm_reader_fail(r, "rope.dimension_count", "tensor rope_freqs.weight holds a divisor out of range");
}

void fm_rope_read_gguf(struct fm_reader *r, struct fm_config *cfg)
{
    char key[96];
    struct fm_str type = {"none", 4};
    cfg->rope_theta = fm_read_num(r, "rope.freq_base", 1, 1e12, 10000);
    snprintf(key, sizeof key, "%s.rope.scaling.type", r->arch);
    if (fm_file_meta(r->gguf, key) && !fm_meta_str(r->gguf, key, &type))
        fm_reader_fail(r, "rope.scaling.type", "is not a string");
    if (!fm_file_meta(r->gguf, key) && fm_read_num(r, "rope.scale_linear", 1e-3, 1e6, 1) != 1) { /* files of 2023 */
        cfg->rope_scaling = FM_ROPE_LINEAR;
        cfg->rope_factor = fm_read_num(r, "rope.scale_linear", 1e-3, 1e6, 1);
    }
    const bool yarn = type.len == 4 && !memcmp(type.data, "yarn", 4),
               linear = type.len == 6 && !memcmp(type.data, "linear", 6);
    if (yarn || linear) {
        cfg->rope_scaling = yarn ? FM_ROPE_YARN : FM_ROPE_LINEAR;
        cfg->rope_factor = fm_read_num(r, "rope.scaling.factor", 1e-3, 1e6, NAN);
        cfg->rope_orig_ctx = fm_read_num(r, "rope.scaling.original_context_length", 1, FM_MAX_CTX, cfg->ctx_train);
        cfg->yarn_beta_fast = fm_read_num(r, "rope.scaling.yarn_beta_fast", 1e-3, 1e6, 32);
        cfg->yarn_beta_slow = fm_read_num(r, "rope.scaling.yarn_beta_slow", 1e-3, 1e6, 1);
        /* 0.1·mscale_all_dim, which is 0.707 or 1 in every release; files from elsewhere hold it without the 0.1 */
        const double log_mul = fm_read_num(r, "rope.scaling.yarn_log_multiplier", 0, 10, 0);
        cfg->yarn_mscale_all_dim = log_mul > 0.5 ? log_mul : 10 * log_mul;
        if (!cfg->mla.Rkv) cfg->yarn_attn = fm_read_num(r, "rope.scaling.attn_factor", 1e-3, 100, 0);
        cfg->yarn_mscale = cfg->yarn_mscale_all_dim;
    } else if (type.len != 4 || memcmp(type.data, "none", 4)) {
        fm_reader_fail(r, "rope.scaling.type", "is none of none, linear, yarn");
    }
    read_divisors(r, cfg);
}

void fm_rope_amplitudes(struct fm_reader *r, struct fm_config *cfg)
{
    double scale = 1, both = 1; /* of the softmax; of cos and sin */
    if (cfg->rope_scaling == FM_ROPE_YARN) {
        if (cfg->yarn_mscale_all_dim > 0) scale = mscale(cfg->rope_factor, cfg->yarn_mscale_all_dim);
        /* a GGUF file of latent attention without the multiplier says nothing about mscale */
        if (cfg->yarn_mscale_all_dim > 0 || !cfg->mla.Rkv || r->json) both = yarn_amplitude(cfg);
        if (cfg->yarn_attn > 0) both *= cfg->yarn_attn;
    }
    if (cfg->mla.Rkv) {
        cfg->mla.scale = (fm_real)(scale * scale / sqrt(cfg->mla.Dn + cfg->mla.Dr));
        if (fabs(both - 1) > 1e-6)
            fm_reader_fail(r, "rope_scaling", "mscale and mscale_all_dim that differ are not supported");
    } else { /* the whole head is rotated: an amplitude of q and k is one of the scores */
        cfg->mha.scale = (fm_real)(both * both / sqrt(cfg->mha.Dh));
    }
}

static double yarn_ramp(const struct fm_config *cfg, int i)
{
    const double d = cfg->rope_dim, lb = 2 * log(cfg->rope_theta);
    double low = floor(d * log(cfg->rope_orig_ctx / (2 * M_PI * cfg->yarn_beta_fast)) / lb);
    double high = ceil(d * log(cfg->rope_orig_ctx / (2 * M_PI * cfg->yarn_beta_slow)) / lb);
    if (low < 0) low = 0;
    if (high > d - 1) high = d - 1;
    if (low == high) high += 0.001;
    const double x = (i - low) / (high - low);
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

static double llama3_scaled(const struct fm_config *cfg, double f)
{
    const double wavelength = 2 * M_PI / f, L = cfg->rope_orig_ctx;
    if (wavelength < L / cfg->rope_high) return f;
    if (wavelength > L / cfg->rope_low) return f / cfg->rope_factor;
    const double s = (L / wavelength - cfg->rope_low) / (cfg->rope_high - cfg->rope_low);
    return (1 - s) * f / cfg->rope_factor + s * f;
}

void fm_rope_frequencies(const struct fm_config *cfg, double *freq)
{
    for (int i = 0; i < cfg->rope_dim / 2; i++) {
        const double f = pow(cfg->rope_theta, -2.0 * i / cfg->rope_dim);
        switch (cfg->rope_scaling) {
        case FM_ROPE_PLAIN: freq[i] = f; break;
        case FM_ROPE_LINEAR: freq[i] = f / cfg->rope_factor; break;
        case FM_ROPE_LLAMA3: freq[i] = llama3_scaled(cfg, f); break;
        case FM_ROPE_YARN: {
            const double ramp = yarn_ramp(cfg, i);
            freq[i] = f / cfg->rope_factor * ramp + f * (1 - ramp);
            break;
        }
        }
        if (cfg->rope_divisors) freq[i] /= (double)cfg->rope_divisors[i];
    }
}

bool fm_rope_needs_divisors(const struct fm_config *cfg)
{
    return cfg->rope_scaling == FM_ROPE_LLAMA3 || cfg->rope_divisors;
}

bool fm_rope_divisors(const struct fm_config *cfg, float *divisors)
{
    const int n = cfg->rope_dim / 2;
    struct fm_config by_keys = *cfg; /* what a reader computes without the tensor */
    by_keys.rope_divisors = NULL;
    if (cfg->rope_scaling == FM_ROPE_LLAMA3) by_keys.rope_scaling = FM_ROPE_PLAIN;
    double *freq = fm_malloc(2 * (size_t)n * sizeof *freq);
    if (!freq) return false;
    fm_rope_frequencies(cfg, freq);
    fm_rope_frequencies(&by_keys, freq + n);
    for (int i = 0; i < n; i++) divisors[i] = (float)(freq[n + i] / freq[i]);
    fm_free(freq);
    return true;
}

/* Of a frequency in the zone between, s = L/(high − low)·(1/λ) − low/(high − low) is a line over 1/λ.  Only two numbers follow
 * from it, so low is 1, as in every release; one point leaves high at 4, as there, too. */
static bool fit_llama3(struct fm_config *cfg)
{
    double n = 0, sx = 0, sy = 0, sxx = 0, sxy = 0, factor = 1, edge = 0;
    const double pi2 = 2 * M_PI;
    for (int i = 0; i < cfg->rope_dim / 2; i++) factor = fmax(factor, (double)cfg->rope_divisors[i]);
    if (factor <= 1) return false;
    for (int i = 0; i < cfg->rope_dim / 2; i++) {
        const double d = (double)cfg->rope_divisors[i], x = pow(cfg->rope_theta, -2.0 * i / cfg->rope_dim) / pi2;
        if (d >= factor * (1 - 1e-6) && edge <= 0) edge = 1 / x;
        if (d <= 1 + 1e-6 || d >= factor * (1 - 1e-6)) continue;
        const double y = (1 / d - 1 / factor) / (1 - 1 / factor);
        n++, sx += x, sy += y, sxx += x * x, sxy += x * y;
    }
    double high = 4, length = edge;
    if (n == 1) length = (sy + 1.0 / 3) / sx * 3;
    if (n > 1) {
        const double a = (n * sxy - sx * sy) / (n * sxx - sx * sx), b = (sy - a * sx) / n;
        high = 1 - 1 / b;
        length = a * (high - 1);
    }
    if (!(high > 1 && high < 1e6 && length >= 1 && length < FM_MAX_CTX)) return false;
    cfg->rope_scaling = FM_ROPE_LLAMA3;
    cfg->rope_factor = factor;
    cfg->rope_low = 1;
    cfg->rope_high = fabs(high - round(high)) < 1e-3 * high ? round(high) : high;
    cfg->rope_orig_ctx = fabs(length - round(length)) < 1e-3 * length ? round(length) : length;
    return true;
}

bool fm_rope_from_divisors(struct fm_config *cfg)
{
    struct fm_config try = *cfg;
    const int n = cfg->rope_dim / 2;
    if (!cfg->rope_divisors || cfg->rope_scaling != FM_ROPE_PLAIN || !fit_llama3(&try)) return false;
    try.rope_divisors = NULL;
    float *d = fm_calloc((size_t)n, sizeof *d);
    bool same = d && fm_rope_divisors(&try, d);
    for (int i = 0; same && i < n; i++) same = fabsf(d[i] / cfg->rope_divisors[i] - 1) < 1e-5f;
    fm_free(d);
    if (same) *cfg = try;
    return same;
}

static const char *const scaling_names[] = {"default", "llama3", "yarn", "linear"};

void fm_rope_write_json(const struct fm_config *cfg, json_t *j)
{
    json_object_set_new(j, "rope_theta", json_real(cfg->rope_theta));
    if (cfg->rope_scaling == FM_ROPE_PLAIN) {
        json_object_set_new(j, "rope_scaling", json_null());
        return;
    }
    const char *type = scaling_names[cfg->rope_scaling];
    json_t *s = json_pack("{s:s, s:s, s:f, s:f}", "type", type, "rope_type", type, "factor", cfg->rope_factor,
                          "original_max_position_embeddings", cfg->rope_orig_ctx);
    if (cfg->rope_scaling == FM_ROPE_LLAMA3) {
        json_object_set_new(s, "low_freq_factor", json_real(cfg->rope_low));
        json_object_set_new(s, "high_freq_factor", json_real(cfg->rope_high));
    } else if (cfg->rope_scaling == FM_ROPE_YARN) {
        json_object_set_new(s, "beta_fast", json_real(cfg->yarn_beta_fast));
        json_object_set_new(s, "beta_slow", json_real(cfg->yarn_beta_slow));
        if (cfg->yarn_mscale > 0) json_object_set_new(s, "mscale", json_real(cfg->yarn_mscale));
        if (cfg->yarn_mscale_all_dim > 0) json_object_set_new(s, "mscale_all_dim", json_real(cfg->yarn_mscale_all_dim));
        if (cfg->yarn_attn > 0)
            json_object_set_new(s, "attention_factor", json_real(cfg->yarn_attn * yarn_amplitude(cfg)));
    }
    json_object_set_new(j, "rope_scaling", s);
}

void fm_rope_write_gguf(const struct fm_config *cfg, struct fm_writer *w, const char *arch)
{
    char key[96];
    snprintf(key, sizeof key, "%s.rope.dimension_count", arch);
    fm_writer_meta_int(w, key, 4, cfg->rope_dim);
    snprintf(key, sizeof key, "%s.rope.freq_base", arch);
    fm_writer_meta_float(w, key, (float)cfg->rope_theta);
    if (cfg->rope_scaling != FM_ROPE_YARN && cfg->rope_scaling != FM_ROPE_LINEAR) return;
    snprintf(key, sizeof key, "%s.rope.scaling.type", arch);
    fm_writer_meta_str(w, key, scaling_names[cfg->rope_scaling], strlen(scaling_names[cfg->rope_scaling]));
    snprintf(key, sizeof key, "%s.rope.scaling.factor", arch);
    fm_writer_meta_float(w, key, (float)cfg->rope_factor);
    snprintf(key, sizeof key, "%s.rope.scaling.original_context_length", arch);
    fm_writer_meta_int(w, key, 4, (int64_t)cfg->rope_orig_ctx);
    if (cfg->rope_scaling != FM_ROPE_YARN) return;
    snprintf(key, sizeof key, "%s.rope.scaling.yarn_beta_fast", arch);
    fm_writer_meta_float(w, key, (float)cfg->yarn_beta_fast);
    snprintf(key, sizeof key, "%s.rope.scaling.yarn_beta_slow", arch);
    fm_writer_meta_float(w, key, (float)cfg->yarn_beta_slow);
    if (cfg->yarn_attn > 0) {
        snprintf(key, sizeof key, "%s.rope.scaling.attn_factor", arch);
        fm_writer_meta_float(w, key, (float)cfg->yarn_attn);
    }
    if (cfg->yarn_mscale_all_dim > 0) {
        snprintf(key, sizeof key, "%s.rope.scaling.yarn_log_multiplier", arch);
        fm_writer_meta_float(w, key, (float)(0.1 * cfg->yarn_mscale_all_dim));
    }
}
