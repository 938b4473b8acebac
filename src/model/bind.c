/* Table rows + file → weights: every shape checked, matrices left in the mapping, vectors copied to f32.
 *
 * The same code runs twice: over a dry arena to learn how many bytes the derived copies need, then for real. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "model/model.h"
#include "model/scales.h"

static enum fm_status bad(const struct fm_tensor *t, const char *name, const struct fm_file *f, struct fm_error *err,
                          const char *why)
{
    return fm_fail(err, FM_ERR_INPUT, "load model: %s, tensor '%s': %s", t ? t->path : fm_file_path(f),
                   t ? t->name : name, why);
}

/* Stacked experts have one more dimension in front; newer files give attn_k_b, attn_v_b per head. */
static bool shape_fits(const struct fm_tensor *t, const struct fm_binding *b, bool stacked)
{
    uint64_t want = (uint64_t)b->rows * (uint64_t)b->cols;
    if (stacked && (t->n_dims < 1 || t->shape[0] != (uint64_t)b->n_experts)) return false;
    if (stacked) want *= (uint64_t)b->n_experts;
    return t->n_dims >= 1 && t->n_elements == want && t->shape[t->n_dims - 1] == (uint64_t)b->cols;
}

/* E8M0 holds scales, F64 would be rounded on every use. */
static bool supported(enum fm_fmt f)
{
    return f < FM_FMT_COUNT && fm_formats[f].decode && f != FM_F64 && f != FM_F8_E8M0;
}

static void hint_supported(struct fm_error *err)
{
    char list[300];
    size_t n = 0;
    for (int f = 0; f < FM_FMT_COUNT && n < sizeof list; f++)
        if (supported((enum fm_fmt)f)) n += (size_t)snprintf(list + n, sizeof list - n, " %s", fm_formats[f].name);
    fm_hint(err, "supported:%s", list);
}

static enum fm_status check_tensor(const struct fm_tensor *t, const struct fm_binding *b, bool stacked,
                                   const char *name, const struct fm_file *f, struct fm_error *err)
{
    char why[160];
    if (!supported(t->fmt)) {
        snprintf(why, sizeof why, "format %s is not supported yet", t->type_name);
        (void)bad(t, name, f, err, why);
        hint_supported(err);
        return FM_ERR_INPUT;
    }
    if (!shape_fits(t, b, stacked)) {
        int n = snprintf(why, sizeof why, "has shape [");
        for (int i = 0; i < t->n_dims && n < 100; i++)
            n += snprintf(why + n, sizeof why - (size_t)n, i ? ",%llu" : "%llu", (unsigned long long)t->shape[i]);
        snprintf(why + n, sizeof why - (size_t)n, "], the config says [%d,%d]%s", b->rows, b->cols,
                 stacked ? " per expert" : "");
        return bad(t, name, f, err, why);
    }
    if (b->cols % (int)fm_formats[t->fmt].block) return bad(t, name, f, err, "rows are no whole number of blocks");
    return FM_OK;
}

/* f32 copy of a vector. */
static enum fm_status bind_vector(struct fm_arena *a, const struct fm_tensor *t, const struct fm_binding *b,
                                  struct fm_error *err)
{
    const size_t n = (size_t)b->cols;
    if (t->fmt == FM_F8_E4M3 || t->fmt == FM_F4_E2M1)
        return fm_fail(err, FM_ERR_INPUT, "load model: %s, tensor '%s': a vector in %s is not supported", t->path,
                       t->name, t->type_name);
    float *v = fm_arena_alloc(a, n * sizeof *v, "vectors");
    if (a->dry) return FM_OK;
    if (!v) return fm_fail_memory(err, "vectors", n * sizeof *v);
    FM_TRY(fm_tensor_decode(t, v, err));
    *b->mat = fm_mat_of(FM_F32, 1, b->cols, v);
    return FM_OK;
}

/* Kernels read f32 and f16 at natural alignment; containers promise none, so an odd tensor is copied. */
static enum fm_status bind_matrix(const struct fm_file *f, struct fm_arena *a, const struct fm_tensor *t,
                                  const struct fm_binding *b, bool stacked, const int *edges, struct fm_error *err)
{
    const struct fm_format *fmt = &fm_formats[t->fmt];
    const size_t row_bytes = (size_t)fm_format_bytes(t->fmt, (uint64_t)b->cols), bytes = row_bytes * (size_t)b->rows;
    const size_t align = fmt->block > 1 ? 2 : fmt->block_bytes;
    const unsigned char *data = (const unsigned char *)t->data + (stacked ? bytes * (size_t)b->expert : 0);
    void *copy = NULL;
    if ((size_t)data % align) {
        copy = fm_arena_alloc(a, bytes, "unaligned matrices");
        if (!a->dry && !copy) return fm_fail_memory(err, "unaligned matrices", bytes);
        if (!a->dry) memcpy(copy, data, bytes);
    }
    struct fm_scales scale;
    FM_TRY(fm_scales_find(f, t, b->rows, b->cols, stacked ? b->expert : 0, stacked ? b->n_experts : 1, edges, &scale,
                          err));
    if (a->dry) return FM_OK;
    *b->mat = fm_mat_of(t->fmt, b->rows, b->cols, copy ? copy : (void *)(size_t)data);
    b->mat->scale = scale;
    return FM_OK;
}

/* The parts of a pair whose other half the file holds, and attn_k_b/attn_v_b beside attn_kv_b, may be absent. */
static bool may_be_absent(const struct fm_file *f, const struct fm_binding *list, int n, int i)
{
    if (!(list[i].flags & (FM_BIND_SPLIT_WHOLE | FM_BIND_SPLIT_PART))) return false;
    const unsigned other = list[i].flags & FM_BIND_SPLIT_WHOLE ? FM_BIND_SPLIT_PART : FM_BIND_SPLIT_WHOLE;
    const bool gguf = fm_file_container(f) == FM_GGUF;
    for (int j = 0; j < n; j++)
        if (list[j].layer == list[i].layer && (list[j].flags & other) &&
            fm_file_find(f, gguf ? list[j].gguf : list[j].hf))
            return true;
    return false;
}

/* A bias or scale beside a weight changes what the weight means: without a row of its own it must not be passed over. */
static enum fm_status refuse_companions(const struct fm_file *f, const struct fm_binding *list, int n,
                                        const struct fm_tensor *t, const char *name, struct fm_error *err)
{
    static const char *const beside[] = {".bias",
                                         ".scale",
                                         ".weight_scale",
                                         ".weight_scale_inv",
                                         ".weight_scale_2",
                                         ".weight_global_scale",
                                         ".weight_zero_point",
                                         ".pre_quant_scale"};
    const bool gguf = fm_file_container(f) == FM_GGUF;
    char other[160];
    if (!fm_ends_with(name, ".weight")) return FM_OK;
    for (size_t k = 0; k < sizeof beside / sizeof *beside; k++) {
        snprintf(other, sizeof other, "%.*s%s", (int)(strlen(name) - strlen(".weight")), name, beside[k]);
        bool unknown = fm_file_find(f, other) && !fm_scales_are(f, t, other);
        for (int i = 0; unknown && i < n; i++) unknown = strcmp(gguf ? list[i].gguf : list[i].hf, other);
        if (unknown) return bad(fm_file_find(f, other), other, f, err, "this family does not use it");
    }
    return FM_OK;
}

static enum fm_status bind_all(const struct fm_file *f, struct fm_arena *a, const struct fm_binding *list, int n,
                               const int *edges, struct fm_error *err)
{
    const bool gguf = fm_file_container(f) == FM_GGUF;
    for (int i = 0; i < n; i++) {
        const struct fm_binding *b = &list[i];
        const char *name = gguf ? b->gguf : b->hf;
        struct fm_tensor view;
        const struct fm_tensor *t = *name ? fm_weight_find(f, name, &view) : NULL;
        const bool stacked = gguf && b->expert >= 0;
        if (!t && may_be_absent(f, list, n, i)) continue;
        if (!t) return bad(NULL, name, f, err, "is missing");
        FM_TRY(check_tensor(t, b, stacked, name, f, err));
        if (a->dry && (b->expert <= 0 || !gguf)) FM_TRY(refuse_companions(f, list, n, t, name, err));
        FM_TRY(b->flags & FM_BIND_VECTOR ? bind_vector(a, t, b, err) : bind_matrix(f, a, t, b, stacked, edges, err));
    }
    return FM_OK;
}

/* wk_b[h·Rkv + r, n] = W_UK,h[n, r]: the key rows of wkv_b, transposed per head, in f32. */
static enum fm_status derive_absorbed(const struct fm_config *cfg, struct fm_mla *m, struct fm_arena *a,
                                      bool whole_in_file, struct fm_error *err)
{
    const struct fm_mla_shape *s = &cfg->mla;
    const size_t R = (size_t)s->Rkv, Dn = (size_t)s->Dn, H = (size_t)s->H, Db = Dn + (size_t)s->Dv,
                 bytes = H * R * Dn * sizeof(float);
    if (!whole_in_file) return FM_OK;
    float *wk = fm_arena_alloc(a, bytes, "absorbed keys");
    if (a->dry) return FM_OK;
    float *row = fm_malloc(R * sizeof *row);
    if (!wk || !row) {
        fm_free(row);
        return fm_fail_memory(err, "absorbed keys", bytes);
    }
    for (size_t h = 0; h < H; h++)
        for (size_t n = 0; n < Dn; n++) {
            fm_mat_decode(row, &m->wkv_b, (int)(h * Db + n), 0, s->Rkv, fm_formats[m->wkv_b.fmt].decode);
            for (size_t r = 0; r < R; r++) wk[(h * R + r) * Dn + n] = row[r];
        }
    fm_free(row);
    m->wk_b = fm_mat_of(FM_F32, (int)(H * R), s->Dn, wk);
    return FM_OK;
}

/* The other way, for files that hold the parts: wkv_b in their format where that is plain floats, else in int8 along its
 * own rows. */
static enum fm_status derive_expanding(const struct fm_config *cfg, struct fm_mla *m, struct fm_arena *a,
                                       enum fm_fmt part, struct fm_error *err)
{
    const struct fm_mla_shape *s = &cfg->mla;
    const bool plain = part == FM_F32 || part == FM_F16 || part == FM_BF16;
    const enum fm_fmt fmt = plain ? part : s->Rkv % (int)fm_formats[FM_Q8_0].block ? FM_F32 : FM_Q8_0;
    const size_t R = (size_t)s->Rkv, Dn = (size_t)s->Dn, H = (size_t)s->H, Db = Dn + (size_t)s->Dv,
                 row_bytes = (size_t)fm_format_bytes(fmt, R);
    char *wkv = fm_arena_alloc(a, H * Db * row_bytes, "expanding latents");
    if (a->dry) return FM_OK;
    float *head = fm_malloc((R * Dn + R) * sizeof *head), *row = head + R * Dn; /* W_UKᵀ of a head; a row */
    if (!wkv || !head) {
        fm_free(head);
        return fm_fail_memory(err, "expanding latents", H * Db * row_bytes);
    }
    for (size_t h = 0; h < H; h++) {
        for (size_t r = 0; r < R; r++)
            fm_mat_decode(head + r * Dn, &m->wk_b, (int)(h * R + r), 0, s->Dn, fm_formats[m->wk_b.fmt].decode);
        for (size_t n = 0; n < Db; n++, wkv += row_bytes) {
            for (size_t r = 0; r < R && n < Dn; r++) row[r] = head[r * Dn + n];
            if (n >= Dn)
                fm_mat_decode(row, &m->wv_b, (int)(h * (Db - Dn) + n - Dn), 0, s->Rkv, fm_formats[m->wv_b.fmt].decode);
            fm_formats[fmt].encode(wkv, row, R);
        }
    }
    fm_free(head);
    m->wkv_b = fm_mat_of(fmt, (int)(H * Db), s->Rkv, wkv - H * Db * row_bytes);
    return FM_OK;
}

static enum fm_status derive_all(const struct fm_file *f, struct fm_model *m, struct fm_arena *a,
                                 const struct fm_binding *list, int n, struct fm_error *err)
{
    const bool gguf = fm_file_container(f) == FM_GGUF;
    const struct fm_tensor *whole = NULL; /* of the layer: in the list before its parts */
    for (int i = 0; i < n; i++) {
        const int l = list[i].layer;
        if (!(list[i].flags & (FM_BIND_SPLIT_WHOLE | FM_BIND_SPLIT_PART))) continue;
        struct fm_mla *mla = l < m->cfg.L ? &m->w.layers[l].mla : &m->w.mtp[l - m->cfg.L].layer.mla;
        const char *name = gguf ? list[i].gguf : list[i].hf;
        const struct fm_tensor *t = name ? fm_file_find(f, name) : NULL;
        if (list[i].flags & FM_BIND_SPLIT_WHOLE)
            FM_TRY(derive_absorbed(&m->cfg, mla, a, (whole = t) != NULL, err));
        else if (list[i].mat == &mla->wk_b && t && !whole)
            FM_TRY(derive_expanding(&m->cfg, mla, a, t->fmt, err));
    }
    return FM_OK;
}

/* A pass over the file into arena a: dry, or real. */
static enum fm_status load_into(const struct fm_file *f, bool for_inference, struct fm_model *m, struct fm_arena *a,
                                struct fm_error *err)
{
    struct fm_binding *list;
    int n;
    FM_TRY(fm_bindings_new(&m->cfg, &m->w, &list, &n, err));
    enum fm_status st = bind_all(f, a, list, n, m->cfg.fp8_block[0] ? m->cfg.fp8_block : NULL, err);
    if (!st && for_inference && m->cfg.mla.Rkv) st = derive_all(f, m, a, list, n, err);
    fm_free(list);
    return st;
}

enum fm_status fm_model_load(const struct fm_file *f, bool for_inference, struct fm_model *out, struct fm_error *err)
{
    struct fm_model m = {0};
    struct fm_arena dry;
    enum fm_status st;
    fm_arena_init_dry(&dry, "derived weights");
    FM_GOTO(fm_config_from_file(f, &m.cfg, err));
    FM_GOTO(fm_weights_init(&m.w, &m.cfg, err));
    m.rope_freq = fm_calloc((size_t)m.cfg.rope_dim / 2, sizeof *m.rope_freq);
    if (!m.rope_freq) FM_GOTO(fm_fail_memory(err, "RoPE frequencies", (size_t)m.cfg.rope_dim * 4));
    fm_rope_frequencies(&m.cfg, m.rope_freq);
    FM_GOTO(load_into(f, for_inference, &m, &dry, err));
    m.derived_bytes = dry.peak;
    FM_GOTO(fm_arena_init(&m.derived, "derived weights", dry.peak, err));
    FM_GOTO(load_into(f, for_inference, &m, &m.derived, err));
    if (m.cfg.tied) m.w.head = m.w.embed;
    *out = m;
    return FM_OK;
out:
    fm_model_release(&m);
    return st;
}

enum fm_status fm_model_derived_bytes(const struct fm_file *f, uint64_t *bytes, struct fm_error *err)
{
    struct fm_model m = {0};
    struct fm_arena dry;
    fm_arena_init_dry(&dry, "derived weights");
    FM_TRY(fm_config_from_file(f, &m.cfg, err));
    FM_TRY(fm_weights_init(&m.w, &m.cfg, err));
    enum fm_status st = load_into(f, true, &m, &dry, err);
    fm_weights_release(&m.w, &m.cfg);
    if (!st) *bytes = dry.peak;
    return st;
}

void fm_model_release(struct fm_model *m)
{
    fm_weights_release(&m->w, &m->cfg);
    fm_arena_release(&m->derived);
    fm_pages_free(m->packed_at, m->packed_bytes);
    fm_free(m->packed);
    fm_free(m->rope_freq);
    *m = (struct fm_model){0};
}
