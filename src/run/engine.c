/* A loaded model and everything its sessions share.  Opening maps the file, checks it, plans, and only then allocates. */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "run/packing.h"
#include "run/resources.h"
#include "run/run.h"
#include "text/token_trie.h"

/* The machine that computes: threads, kernels, the arena of a step. */
static enum fm_status start_compute(struct fm_engine *e, int threads, struct fm_error *err)
{
    FM_TRY(fm_pool_new_pinned(threads, e->pin, &e->pool, err));
    FM_TRY(fm_cpu_backend_new(e->pool, &e->backend, err));
    FM_TRY(fm_arena_init(&e->step, "step", e->plan.step_bytes, err));
    FM_TRY(fm_kvpool_init(&e->kv, e->plan.block_bytes, err));
    fm_nodes_of(fm_pool_topology(e->pool), &e->kv.nodes);
    if (pthread_mutex_init(&e->turn, NULL)) return fm_fail_memory(err, "engine lock", sizeof e->turn);
    e->turn_made = true;
    e->ctx = (struct fm_ctx){.op = &fm_ops_cpu,
                             .arena = &e->step,
                             .pool = e->pool,
                             .backend = e->backend,
                             .exact = e->plan.exact,
                             .deterministic = e->plan.deterministic};
    return FM_OK;
}

static enum fm_status load(struct fm_engine *e, const struct fm_engine_options *o, bool for_inference,
                           struct fm_error *err)
{
    FM_TRY(fm_file_open(o->model, &e->file, err));
    FM_TRY(fm_model_load(e->file, for_inference, &e->model, err));
    e->loaded = true;
    FM_TRY(fm_model_tokenizer(e->file, &e->tok, &e->tok_error, err));
    bool unknown = false;
    if (e->tok) FM_TRY(fm_model_chat(e->file, e->tok, &e->chat, &unknown, err));
    FM_TRY(fm_info_new(e->file, &e->model.cfg, e->chat, unknown, &e->info, err));
    FM_TRY(fm_plan_make(o, &e->model.cfg, &e->model.w, &e->plan, err));
    const struct fm_kv_shape kv = fm_kv_shape(&e->model.cfg, e->plan.kv_type);
    e->info->kv_bytes_per_token = (uint64_t)e->model.cfg.L * fm_kv_row_bytes(&kv);
    if (e->tok_error.code) fm_log(FM_LOG_INFO, "%s", e->tok_error.message); /* whoever needs it fails with the same */
    if (e->plan.ctx > e->model.cfg.ctx_train)
        fm_log(FM_LOG_WARN, "a context of %d tokens: the model was trained with %d", e->plan.ctx,
               e->model.cfg.ctx_train);
    return FM_OK;
}

enum fm_status fm_engine_open_for(const struct fm_engine_options *o, bool for_inference, struct fm_engine **out,
                                  struct fm_error *err)
{
    FM_TRY(fm_options_check(o, err));
    struct fm_engine *e = fm_calloc(1, sizeof *e);
    if (!e) return fm_fail_memory(err, "an engine", sizeof *e);
    enum fm_status st;
    e->pin = fm_pin_named(o->pin);
    FM_GOTO(load(e, o, for_inference, err));
    FM_GOTO(start_compute(e, o->threads, err));
    if (e->plan.packed_bytes && for_inference) FM_GOTO(fm_model_pack(&e->model, e->file, err));
    fm_cpu_place(e->pool, e->model.packed_at, e->model.packed_bytes, e->model.packed, e->model.n_packed);
    *out = e;
    return FM_OK;
out:
    fm_engine_close(e);
    return st;
}

enum fm_status fm_engine_open(const struct fm_engine_options *o, struct fm_engine **out, struct fm_error *err)
{
    return fm_engine_open_for(o, true, out, err);
}

void fm_engine_close(struct fm_engine *e)
{
    if (!e) return;
    if (e->turn_made) (void)pthread_mutex_destroy(&e->turn);
    fm_kvpool_release(&e->kv);
    fm_arena_release(&e->step);
    fm_cpu_backend_free(e->backend);
    fm_pool_free(e->pool);
    fm_model_info_free(e->info);
    fm_token_trie_free(e->trie);
    fm_tokenizer_close(e->tok);
    if (e->loaded) fm_model_release(&e->model);
    fm_file_close(e->file);
    fm_free(e);
}

enum fm_status fm_engine_set_threads(struct fm_engine *e, int threads, struct fm_error *err)
{
    struct fm_pool *pool = NULL;
    void *backend = NULL;
    enum fm_status st = fm_pool_new_pinned(threads, e->pin, &pool, err);
    if (!st) st = fm_cpu_backend_new(pool, &backend, err);
    if (st) {
        fm_pool_free(pool);
        return st;
    }
    fm_cpu_backend_free(e->backend);
    fm_pool_free(e->pool);
    e->ctx.pool = e->pool = pool;
    e->ctx.backend = e->backend = backend;
    return FM_OK;
}

bool fm_engine_is_end(const struct fm_engine *e, int32_t id)
{
    return e->tok && (fm_tokenizer_is_eog(e->tok, id) || (id >= 0 && id == fm_tokenizer_bos(e->tok)));
}

enum fm_status fm_engine_has_text(const struct fm_engine *e, struct fm_error *err)
{
    if (e->tok) return FM_OK;
    if (!e->tok_error.code)
        return fm_fail(err, FM_ERR_INPUT, "generate text: %s: the model carries no tokenizer", e->info->path);
    if (err) *err = e->tok_error;
    return e->tok_error.code;
}

const struct fm_model_info *fm_engine_info(const struct fm_engine *e) { return e->info; }

int fm_engine_threads(const struct fm_engine *e) { return fm_pool_size(e->pool); }

const char *fm_engine_tier(const struct fm_engine *e) { return fm_cpu_backend_tier(e->backend); }

int fm_default_threads(void) { return fm_cpu_count(); }

/* Tier names are constants; the backend is only made to be asked. */
const char *fm_cpu_tier(void)
{
    struct fm_pool *pool = NULL;
    void *backend = NULL;
    const char *tier = "unknown";
    if (!fm_pool_new(1, &pool, NULL) && !fm_cpu_backend_new(pool, &backend, NULL)) tier = fm_cpu_backend_tier(backend);
    fm_cpu_backend_free(backend);
    fm_pool_free(pool);
    return tier;
}
