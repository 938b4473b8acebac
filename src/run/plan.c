/* How much memory a model will take, known before any of it is taken.
 *
 * Step scratch is measured, not computed: the real forward pass runs over a dry arena with ops that do nothing. The plan
 * does this with weights that have shapes but no values, the engine with the real ones; both give the same number. */
#include <string.h>

#include "base/host.h"
#include "base/log.h"
#include "base/mem.h"
#include "run/inventory.h"
#include "run/packing.h"
#include "run/resources.h"
#include "run/run.h"

enum fm_status fm_options_check(const struct fm_engine_options *o, struct fm_error *err)
{
    if (!o->model || !*o->model) return fm_fail(err, FM_ERR_USAGE, "open model: no model given");
    if (o->threads < 0 || o->threads > FM_THREADS_MAX)
        return fm_fail(err, FM_ERR_USAGE, "open model: %d threads: not within 0 … %d", o->threads, FM_THREADS_MAX);
    if (fm_pin_named(o->pin) == FM_PIN_COUNT)
        return fm_fail(err, FM_ERR_USAGE, "open model: pinning '%.40s': none of auto, on, off", o->pin);
    if (o->ctx < 0 || o->ctx > FM_CTX_MAX)
        return fm_fail(err, FM_ERR_USAGE, "open model: context of %d tokens: not within 0 … %d", o->ctx, FM_CTX_MAX);
    if (o->chunk < 0 || o->chunk > FM_CHUNK_MAX)
        return fm_fail(err, FM_ERR_USAGE, "open model: %d tokens per step: not within 0 … %d", o->chunk, FM_CHUNK_MAX);
    if (!fm_draft_name(o->draft))
        return fm_fail(err, FM_ERR_USAGE, "open model: draft source %d: there is none of this number", (int)o->draft);
    if (o->draft_max < 0 || o->draft_max > FM_DRAFT_MOST)
        return fm_fail(err, FM_ERR_USAGE, "open model: drafts of %d tokens: not within 0 … %d", o->draft_max,
                       FM_DRAFT_MOST);
    return FM_OK;
}

/* Arena bytes of the last rows of a prompt that fills the context, of verified drafts and of drafting. */
static size_t dry_step(const struct fm_plan *p, bool deterministic, const struct fm_config *cfg,
                       const struct fm_weights *w)
{
    struct fm_arena arena;
    struct fm_kv kv = {.shape = fm_kv_shape(cfg, p->kv_type)};
    struct fm_mtp_state m = {.hidden = p->mtp ? (fm_real *)&kv : NULL, .kv = &kv}; /* nobody looks there */
    const int rows = p->chunk > p->draft_max ? p->chunk : 1 + p->draft_max, n = rows < p->ctx ? rows : p->ctx;
    struct fm_seq seq = {.n = n, .pos0 = p->ctx - n, .segment_n = p->ctx, .kv = &kv};
    struct fm_batch b = {.T = n, .n_seqs = 1, .seqs = &seq};
    fm_arena_init_dry(&arena, "step");
    struct fm_ctx c = {.op = &fm_ops_dry, .arena = &arena, .exact = p->exact, .deterministic = deterministic};
    fm_session_compute(&c, cfg, w, NULL, &b, NULL, NULL, &m);
    if (p->mtp) fm_mtp_draft(&c, cfg, w, NULL, &m, p->ctx - 1, 1, NULL);
    return arena.peak;
}

/* What the model allows of the drafts asked for. */
static enum fm_status plan_drafts(const struct fm_engine_options *o, const struct fm_config *cfg, struct fm_plan *p,
                                  struct fm_error *err)
{
    p->draft = o->draft;
    p->draft_max = o->draft == FM_DRAFT_OFF ? 0 : o->draft_max ? o->draft_max : FM_DRAFT_DEFAULT;
    p->mtp = (o->draft == FM_DRAFT_MTP || o->draft == FM_DRAFT_AUTO) && cfg->n_mtp > 0;
    if (o->draft != FM_DRAFT_MTP || p->mtp) return FM_OK;
    fm_fail(err, FM_ERR_USAGE, "draft with mtp: %s: the model has no multi-token-prediction block", o->model);
    fm_hint(err, "lookup needs none");
    return FM_ERR_USAGE;
}

/* The referee computes with what it was given, and keeps that. */
static enum fm_status plan_kv_type(const struct fm_engine_options *o, struct fm_plan *p, struct fm_error *err)
{
    p->kv_type = o->kv_type ? fm_kv_type_named(o->kv_type) : o->exact ? FM_KV_F32 : FM_KV_DEFAULT;
    if (p->kv_type == FM_KV_TYPE_COUNT)
        return fm_fail(err, FM_ERR_USAGE, "open model: KV type '%.40s': none of f32, bf16, q8_0", o->kv_type);
    if (o->exact && p->kv_type != FM_KV_F32)
        return fm_fail(err, FM_ERR_USAGE, "open model: KV type %s: exact arithmetic keeps f32", o->kv_type);
    return FM_OK;
}

/* What a machine that is to stay usable must have left. */
static const uint64_t MEMORY_LEFT = (uint64_t)256 << 20;

/* Exact arithmetic decodes weights, one by one: it reads them where they lie. */
static enum fm_status plan_pack(const struct fm_engine_options *o, const struct fm_config *cfg,
                                const struct fm_weights *w, struct fm_plan *p, struct fm_error *err)
{
    static const char *const hows[] = {"auto", "on", "off"};
    int how = 0;
    struct fm_host host;
    p->packed_bytes = 0;
    while (o->pack && how < 3 && strcmp(o->pack, hows[how]) != 0) how++;
    if (how == 3) return fm_fail(err, FM_ERR_USAGE, "open model: packing '%.40s': none of auto, on, off", o->pack);
    if (how == 1 && o->exact) return fm_fail(err, FM_ERR_USAGE, "open model: packing: exact arithmetic does without");
    if (how == 2 || o->exact) return FM_OK;
    FM_TRY(fm_model_pack_bytes(cfg, w, &p->packed_bytes, err));
    if (how == 1) return FM_OK;
    fm_host_read(&host, "");
    const uint64_t need = (uint64_t)p->packed_bytes + p->step_bytes + p->session_bytes + MEMORY_LEFT +
                          (uint64_t)p->block_bytes * (uint64_t)fm_kv_blocks(p->ctx);
    if (fm_host_memory_free(&host) >= need) return FM_OK;
    fm_log(FM_LOG_INFO, "weights stay mapped: to pack them takes %.1f GB", (double)p->packed_bytes * 1e-9);
    p->packed_bytes = 0;
    return FM_OK;
}

/* The largest step has as many rows as there may be, at the end of the context.  Of the two forms of latent attention,
 * which need different scratch, a layer may choose either for some segment. */
static size_t step_bytes(const struct fm_plan *p, const struct fm_config *cfg, const struct fm_weights *w)
{
    size_t as_chosen = dry_step(p, p->deterministic, cfg, w), absorbed = dry_step(p, true, cfg, w);
    return as_chosen > absorbed ? as_chosen : absorbed;
}

enum fm_status fm_plan_make(const struct fm_engine_options *o, const struct fm_config *cfg, const struct fm_weights *w,
                            struct fm_plan *p, struct fm_error *err)
{
    size_t bytes;
    FM_TRY(plan_kv_type(o, p, err));
    const struct fm_kv_shape kv = fm_kv_shape(cfg, p->kv_type);
    p->exact = o->exact;
    p->deterministic = o->exact || o->deterministic;
    p->ctx = o->ctx ? o->ctx : cfg->ctx_train < FM_CTX_DEFAULT ? cfg->ctx_train : FM_CTX_DEFAULT;
    p->chunk = o->chunk ? o->chunk : FM_CHUNK_DEFAULT;
    if (p->chunk > p->ctx) p->chunk = p->ctx;
    FM_TRY(plan_drafts(o, cfg, p, err));
    if (!fm_mul_size((size_t)(cfg->L + p->mtp), fm_kv_layer_bytes(&kv), &p->block_bytes) ||
        !fm_mul_size(p->block_bytes, (size_t)fm_kv_blocks(p->ctx), &bytes))
        return fm_fail(err, FM_ERR_MEMORY, "plan memory: a KV cache of %d tokens: larger than the address space",
                       p->ctx);
    p->step_bytes = step_bytes(p, cfg, w);
    p->session_bytes = fm_session_bytes(p, cfg, p->ctx);
    return plan_pack(o, cfg, w, p, err);
}

/* ---- the plan for the user ---- */

/* Scratch of the threads; the pool is only made to be asked. */
static enum fm_status thread_bytes(int threads, uint64_t *bytes, struct fm_error *err)
{
    struct fm_pool *pool;
    FM_TRY(fm_pool_new(threads, &pool, err));
    *bytes = fm_cpu_backend_bytes(pool);
    fm_pool_free(pool);
    return FM_OK;
}

/* What loading derives for a model of which there is only a config: copies of its vectors, each at a multiple of 64 bytes;
 * kv_b once more as a whole. */
static uint64_t planned_derived(const struct fm_inventory *inv)
{
    uint64_t bytes = 0;
    for (int i = 0; i < inv->n; i++)
        if (inv->rows[i].flags & FM_BIND_VECTOR)
            bytes += ((uint64_t)inv->rows[i].cols * sizeof(float) + 63) & ~(uint64_t)63;
        else if (inv->rows[i].flags & FM_BIND_SPLIT_PART && inv->stored[i].there)
            bytes += inv->stored[i].bytes;
    return bytes;
}

static uint64_t planned_weights(const struct fm_inventory *inv)
{
    uint64_t bytes = 0;
    for (int i = 0; i < inv->n; i++) bytes += inv->stored[i].there ? inv->stored[i].bytes : 0;
    return bytes;
}

enum fm_status fm_plan_items(const struct fm_engine_options *o, const struct fm_file *f, const struct fm_inventory *inv,
                             struct fm_plan_items *out, struct fm_error *err)
{
    struct fm_plan p;
    struct fm_plan_items i = {0};
    if (f)
        FM_TRY(fm_model_derived_bytes(f, &i.derived, err));
    else
        i.derived = planned_derived(inv);
    FM_TRY(thread_bytes(o->threads, &i.threads, err));
    FM_TRY(fm_plan_make(o, inv->cfg, &inv->w, &p, err));
    i.ctx = p.ctx;
    i.chunk = p.chunk;
    i.deterministic = p.deterministic;
    i.kv_type = p.kv_type;
    i.packed = p.packed_bytes;
    i.weights = f ? fm_file_bytes(f) : planned_weights(inv);
    i.kv = (uint64_t)p.block_bytes * (uint64_t)fm_kv_blocks(p.ctx);
    i.step = p.step_bytes;
    i.session = p.session_bytes;
    i.tokenizer = f ? fm_tokenizer_estimate(f) : fm_tokenizer_estimate_of((uint64_t)inv->cfg->V);
    *out = i;
    return FM_OK;
}

/* Resident before anything is loaded: 2 MB of the program, the rest of 40 libraries, libcurl's and libmicrohttpd's most of them,
 * whose pages other processes share. */
static const uint64_t PROGRAM_BYTES = 11 << 20;

void fm_plan_tell(const struct fm_plan_items *i, fm_memory_fn fn, void *arg)
{
    if (i->packed) fn(arg, "weights, packed", i->packed, false);
    fn(arg, "weights, mapped", i->weights > i->packed ? i->weights - i->packed : 0, true);
    fn(arg, "derived weights", i->derived, false);
    fn(arg, "KV cache", i->kv, false);
    fn(arg, "step scratch", i->step, false);
    fn(arg, "thread scratch", i->threads, false);
    fn(arg, "session", i->session, false);
    fn(arg, "tokenizer, estimated", i->tokenizer, false);
    fn(arg, "program, estimated", PROGRAM_BYTES, false);
}

enum fm_status fm_memory_plan(const struct fm_engine_options *o, fm_memory_fn fn, void *arg, struct fm_error *err)
{
    struct fm_file *f;
    struct fm_config cfg;
    struct fm_inventory inv;
    struct fm_plan_items items;
    FM_TRY(fm_options_check(o, err));
    FM_TRY(fm_file_open(o->model, &f, err));
    enum fm_status st = fm_config_from_file(f, &cfg, err);
    if (!st) st = fm_inventory_new(&inv, &cfg, f, NULL, err);
    if (!st) {
        st = fm_plan_items(o, f, &inv, &items, err);
        fm_inventory_release(&inv);
    }
    fm_file_close(f);
    if (!st) fm_plan_tell(&items, fn, arg);
    return st;
}
