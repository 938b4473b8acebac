/* Perplexity of a text, and how far the predictions of two models lie apart.  See fathom.h for the rule.
 *
 *   windows ─ trunk of one or two models ─ blocks of rows ─ logits ─ a score per row (threads) ─ tally in order
 *
 * Memory is taken in fm_judge_new; a step that is cut short leaves no trace. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/expd.h"
#include "base/mem.h"
#include "run/fingerprint.h"
#include "run/judge.h"
#include "run/logprob.h"

enum { CTX_DEFAULT = 512 };
static const double SAVE_SECONDS = 5; /* between states: what a power cut may cost */

/* ---- setting up ------------------------------------------------------------------------------------------------ */

static enum fm_status check_options(const struct fm_judge_options *o, struct fm_error *err)
{
    if (o->reference && o->base)
        return fm_fail(err, FM_ERR_USAGE, "judge: a reference and a base model: only one can be compared with");
    if (!o->ids && !o->reference) return fm_fail(err, FM_ERR_USAGE, "judge: no text given");
    if (o->ctx && (o->ctx < FM_WINDOW_MIN || o->ctx > FM_CTX_MAX))
        return fm_fail(err, FM_ERR_USAGE, "judge: windows of %d tokens: not within %d … %d", o->ctx, FM_WINDOW_MIN,
                       FM_CTX_MAX);
    if (o->chunks < 0) return fm_fail(err, FM_ERR_USAGE, "judge: %d chunks: negative", o->chunks);
    return FM_OK;
}

static enum fm_status open_reference(struct fm_judge *j, struct fm_error *err)
{
    const int V = j->e->model.cfg.V;
    FM_TRY(fm_reference_open(&j->ref, j->o.reference, err));
    if (j->ref.vocab != V)
        return fm_fail(err, FM_ERR_INPUT, "compare: %s: it was made with a vocabulary of %d: %s has %d", j->o.reference,
                       j->ref.vocab, j->e->info->path, V);
    if (j->o.ctx && j->o.ctx != j->ref.ctx)
        return fm_fail(err, FM_ERR_USAGE, "compare: %s: its windows have %d tokens, not %d", j->o.reference, j->ref.ctx,
                       j->o.ctx);
    j->ctx = j->ref.ctx;
    return FM_OK;
}

static enum fm_status check_base(const struct fm_judge *j, struct fm_error *err)
{
    const int V = j->e->model.cfg.V, base = j->base->model.cfg.V;
    if (V == base) return FM_OK;
    return fm_fail(err, FM_ERR_INPUT, "compare: %s: a vocabulary of %d: %s has %d", j->base->info->path, base,
                   j->e->info->path, V);
}

static int default_ctx(const struct fm_judge *j)
{
    const int trained = j->e->model.cfg.ctx_train;
    return trained >= FM_WINDOW_MIN && trained < CTX_DEFAULT ? trained : CTX_DEFAULT;
}

static enum fm_status check_text(const struct fm_judge *j, const int32_t *ids, struct fm_error *err)
{
    const int V = j->e->model.cfg.V;
    for (size_t i = 0; i < (size_t)j->total * (size_t)j->ctx; i++)
        if (ids[i] < 0 || ids[i] >= V)
            return fm_fail(err, FM_ERR_INPUT, "read the text: token %zu is %d: the vocabulary of %s ends at %d", i,
                           (int)ids[i], j->e->info->path, V - 1);
    if (j->ref.map.data && j->o.ids && memcmp(ids, j->ref.tokens, (size_t)j->total * (size_t)j->ctx * sizeof *ids) != 0)
        return fm_fail(err, FM_ERR_INPUT, "compare: %s: it was made from another text", j->o.reference);
    return FM_OK;
}

static enum fm_status take_text(struct fm_judge *j, struct fm_error *err)
{
    const struct fm_judge_options *o = &j->o;
    const int32_t *ids = o->ids ? o->ids : j->ref.tokens;
    size_t chunks = o->ids ? o->n_ids / (size_t)j->ctx : (size_t)j->ref.chunks;
    if (!chunks) {
        (void)fm_fail(err, FM_ERR_INPUT, "read the text: it has %zu tokens: a window takes %d", o->n_ids, j->ctx);
        fm_hint(err, "--ctx N makes windows shorter");
        return FM_ERR_INPUT;
    }
    if (j->ref.map.data && chunks > (size_t)j->ref.chunks) chunks = (size_t)j->ref.chunks;
    if (o->chunks && chunks > (size_t)o->chunks) chunks = (size_t)o->chunks;
    if (chunks > INT32_MAX) return fm_fail(err, FM_ERR_INPUT, "read the text: %zu chunks: too many", chunks);
    j->total = (int)chunks;
    FM_TRY(check_text(j, ids, err));
    const size_t bytes = chunks * (size_t)j->ctx * sizeof *ids;
    if (!(j->ids = fm_malloc(bytes))) return fm_fail_memory(err, "the text", bytes);
    memcpy(j->ids, ids, bytes);
    return FM_OK;
}

/* The text that the scored tokens stand for. */
static double count_bytes(const struct fm_judge *j)
{
    double sum = 0;
    if (!j->e->tok) return NAN;
    const int32_t size = fm_tokenizer_size(j->e->tok);
    for (int i = 0; i < j->total; i++)
        for (int k = fm_window_first(j->ctx) + 1; k < j->ctx; k++) {
            const int32_t id = j->ids[(size_t)i * (size_t)j->ctx + (size_t)k];
            size_t n = 0;
            if (id < size) (void)fm_tokenizer_piece(j->e->tok, id, &n);
            sum += (double)n;
        }
    return sum > 0 ? sum : NAN;
}

static uint64_t fingerprint_base(const struct fm_judge *j)
{
    if (j->base) return fm_fingerprint_weights(j->base->file);
    if (!j->ref.map.data) return 0;
    const size_t n = j->ref.map.size, head = n < 4096 ? n : 4096;
    uint64_t h = fm_fingerprint(n, j->ref.map.data, head); /* shape and first tokens … */
    for (uint64_t i = 0; i < fm_judge_positions(j, j->total); i += 64)
        h = fm_fingerprint(h, fm_reference_row(&j->ref, i), 64);
    return h;
}

static const char *arithmetic(const struct fm_engine *e)
{
    return e->plan.exact ? "exact" : e->plan.deterministic ? "deterministic" : "fast";
}

static void make_key(struct fm_judge *j)
{
    struct fm_judge_key *k = &j->key;
    memset(k, 0, sizeof *k);
    k->model = fm_fingerprint_weights(j->e->file);
    k->base = fingerprint_base(j);
    k->text = fm_fingerprint(FM_FINGERPRINT_START, j->ids, (size_t)j->total * (size_t)j->ctx * sizeof *j->ids);
    k->ctx = (uint32_t)j->ctx;
    k->chunks = (uint32_t)j->total;
    (void)snprintf(k->settings, sizeof k->settings, "%s %s %s", fm_engine_tier(j->e), arithmetic(j->e),
                   j->base ? arithmetic(j->base) : "");
}

static enum fm_status reserve(struct fm_judge *j, struct fm_error *err)
{
    const size_t block = (size_t)j->w.block, words = block * (size_t)fm_coded_words(j->e->model.cfg.V);
    const size_t n = fm_judge_positions(j, j->total);
    if (!(j->scores = fm_malloc(block * sizeof *j->scores))) return fm_fail_memory(err, "scores", block);
    if (j->o.save && !(j->coded = fm_malloc(words * sizeof *j->coded)))
        return fm_fail_memory(err, "log-probabilities", words * sizeof *j->coded);
    if (!j->compares) return FM_OK;
    j->kld = fm_malloc(n * sizeof *j->kld);
    j->diff = fm_malloc(n * sizeof *j->diff);
    return j->kld && j->diff ? FM_OK : fm_fail_memory(err, "divergences", 2 * n * sizeof *j->kld);
}

static enum fm_status name_state(struct fm_judge *j, struct fm_error *err)
{
    const char *name = j->o.state ? j->o.state : j->o.save;
    if (!name) return FM_OK;
    const size_t n = strlen(name) + sizeof ".state";
    if (!(j->state_path = fm_malloc(n))) return fm_fail_memory(err, "a file name", n);
    (void)snprintf(j->state_path, n, "%s%s", name, j->o.state ? "" : ".state");
    return FM_OK;
}

static int32_t bos_of(const struct fm_engine *e)
{
    return e->tok && fm_tokenizer_add_bos(e->tok) ? fm_tokenizer_bos(e->tok) : -1;
}

/* The file of this run lies complete under its name. */
static bool is_saved(const struct fm_judge *j)
{
    struct fm_reference r;
    if (j->done < j->total || fm_reference_open(&r, j->o.save, NULL)) return false;
    const bool same = r.ctx == j->ctx && r.vocab == j->e->model.cfg.V && r.chunks == j->total &&
                      !memcmp(r.tokens, j->ids, (size_t)j->total * (size_t)j->ctx * sizeof *j->ids);
    fm_reference_close(&r);
    return same;
}

static enum fm_status open_out(struct fm_judge *j, struct fm_error *err)
{
    const struct fm_reference shape = {.ctx = j->ctx, .vocab = j->e->model.cfg.V, .chunks = j->total, .tokens = j->ids};
    if (!is_saved(j)) return fm_reference_out_open(&j->out, j->o.save, &shape, j->done, err);
    fm_free(j->coded);
    j->coded = NULL;
    return FM_OK;
}

static enum fm_status set_up(struct fm_judge *j, struct fm_error *err)
{
    if (j->o.reference) FM_TRY(open_reference(j, err));
    if (j->base) FM_TRY(check_base(j, err));
    if (!j->ctx) j->ctx = j->o.ctx ? j->o.ctx : default_ctx(j);
    FM_TRY(take_text(j, err));
    j->compares = j->base || j->ref.map.data;
    j->text_bytes = count_bytes(j);
    j->bos = bos_of(j->e);
    FM_TRY(fm_windows_init(&j->w, j->e, j->ctx, &j->cancel, err));
    if (j->base) {
        j->bos_base = bos_of(j->base);
        FM_TRY(fm_windows_init(&j->w_base, j->base, j->ctx, &j->cancel, err));
    }
    FM_TRY(reserve(j, err));
    FM_TRY(name_state(j, err));
    make_key(j);
    if (j->state_path) FM_TRY(fm_judge_state_load(j, err));
    return j->o.save ? open_out(j, err) : FM_OK;
}

enum fm_status fm_judge_new(struct fm_engine *e, const struct fm_judge_options *o, struct fm_judge **out,
                            struct fm_error *err)
{
    FM_TRY(check_options(o, err));
    struct fm_judge *j = fm_calloc(1, sizeof *j);
    if (!j) return fm_fail_memory(err, "a judge", sizeof *j);
    j->e = e;
    j->base = o->base;
    j->o = *o;
    j->out.fd = -1;
    enum fm_status st = set_up(j, err);
    if (st)
        fm_judge_free(j);
    else
        *out = j;
    return st;
}

void fm_judge_free(struct fm_judge *j)
{
    if (!j) return;
    fm_windows_release(&j->w);
    fm_windows_release(&j->w_base);
    fm_reference_close(&j->ref);
    fm_reference_out_release(&j->out);
    fm_free(j->ids);
    fm_free(j->scores);
    fm_free(j->coded);
    fm_free(j->kld);
    fm_free(j->diff);
    fm_free(j->state_path);
    fm_free(j);
}

/* ---- a block of rows ------------------------------------------------------------------------------------------- */

struct block {
    struct fm_judge *j;
    int window; /* first of those in work                         */
    int row;    /* first of the block, counted from that window on */
};

static void score_pair(struct fm_score *s, double lse_p, double lse_q, float zt, float yt)
{
    s->nll = lse_q - (double)yt;
    s->nll_base = lse_p - (double)zt;
    s->p_diff = fm_exp_det(-s->nll) - fm_exp_det(-s->nll_base);
}

static void score_models(struct fm_score *s, const float *base, const float *logits, int V, int32_t target)
{
    const struct fm_row_pair p = fm_row_compare(base, logits, V);
    score_pair(s, p.lse_p, p.lse_q, base[target], logits[target]);
    s->kld = p.kld;
    s->same_top = fm_row_top(base, V) == fm_row_top(logits, V);
}

static void score_coded(struct fm_score *s, const uint16_t *base, const float *logits, int V, int32_t target)
{
    const double lse = fm_row_lse(logits, V);
    s->nll = fm_row_is_coded(base) ? lse - (double)logits[target] : NAN;
    s->nll_base = -fm_coded_logprob(base, target);
    s->p_diff = fm_exp_det(-s->nll) - fm_exp_det(-s->nll_base);
    s->kld = fm_coded_kld(base, logits, V, lse);
    s->same_top = fm_coded_top(base, V) == fm_row_top(logits, V);
}

static void score_row(const struct block *b, int i)
{
    struct fm_judge *j = b->j;
    const int V = j->e->model.cfg.V, per = fm_window_scored(j->ctx), row = b->row + i;
    const float *logits = j->w.logits + (size_t)i * (size_t)V;
    const size_t at = (size_t)(b->window + row / per) * (size_t)j->ctx;
    const int32_t target = j->ids[at + (size_t)(fm_window_first(j->ctx) + row % per + 1)];
    struct fm_score *s = &j->scores[i];
    *s = (struct fm_score){0};
    if (j->base)
        score_models(s, j->w_base.logits + (size_t)i * (size_t)V, logits, V, target);
    else if (j->compares)
        score_coded(s, fm_reference_row(&j->ref, fm_judge_positions(j, b->window) + (uint64_t)row), logits, V, target);
    else
        s->nll = fm_row_lse(logits, V) - (double)logits[target];
    if (j->coded)
        fm_row_encode(j->coded + (size_t)i * (size_t)fm_coded_words(V), logits, V, s->nll + (double)logits[target]);
}

static void score_rows(void *arg, int begin, int end, int thread)
{
    (void)thread;
    for (int i = begin; i < end; i++) score_row(arg, i);
}

static enum fm_status no_number(const struct block *b, int i, struct fm_error *err)
{
    const struct fm_judge *j = b->j;
    const int row = b->row + i, per = fm_window_scored(j->ctx), window = b->window + row / per;
    if (j->ref.map.data &&
        !fm_row_is_coded(fm_reference_row(&j->ref, fm_judge_positions(j, b->window) + (uint64_t)row)))
        return fm_fail(err, FM_ERR_INPUT, "read log-probabilities: %s: row %d of chunk %d is malformed", j->o.reference,
                       row % per + 1, window + 1);
    return fm_fail(err, FM_ERR_FAILED, "judge: chunk %d, token %d: the model's logits are not finite", window + 1,
                   fm_window_first(j->ctx) + row % per + 1);
}

/* n rows into tally t and into the values behind the n_done positions of the windows before. */
static enum fm_status count_rows(const struct block *b, int n, struct fm_tally *t, struct fm_error *err)
{
    struct fm_judge *j = b->j;
    for (int i = 0; i < n; i++) {
        const struct fm_score *s = &j->scores[i];
        if (!isfinite(s->nll) || !isfinite(s->kld)) return no_number(b, i, err);
        const uint64_t at = t->n;
        fm_tally_add(t, s);
        if (!j->compares) continue;
        j->kld[at] = s->kld;
        j->diff[at] = s->p_diff;
    }
    return FM_OK;
}

static enum fm_status judge_block(const struct block *b, int n, struct fm_tally *t, struct fm_error *err)
{
    struct fm_judge *j = b->j;
    const int V = j->e->model.cfg.V;
    FM_TRY(fm_windows_logits(&j->w, b->row, n, err));
    if (j->base) FM_TRY(fm_windows_logits(&j->w_base, b->row, n, err));
    (void)pthread_mutex_lock(&j->e->turn); /* the threads are the engine's */
    fm_parallel_for(j->e->pool, n, 1, score_rows, (void *)b);
    (void)pthread_mutex_unlock(&j->e->turn);
    FM_TRY(count_rows(b, n, t, err));
    if (!j->coded) return FM_OK;
    return fm_reference_out_add(&j->out, j->coded, (uint64_t)n * (uint64_t)fm_coded_words(V) * sizeof *j->coded, err);
}

/* n windows from done on. */
static enum fm_status judge_windows(struct fm_judge *j, int n, struct fm_error *err)
{
    const int rows = n * fm_window_scored(j->ctx);
    const int32_t *ids = j->ids + (size_t)j->done * (size_t)j->ctx;
    struct fm_tally t = j->tally;
    FM_TRY(fm_windows_forward(&j->w, ids, n, j->bos, err));
    if (j->base) FM_TRY(fm_windows_forward(&j->w_base, ids, n, j->bos_base, err));
    for (int row = 0; row < rows; row += j->w.block) {
        struct block b = {j, j->done, row};
        FM_TRY(judge_block(&b, rows - row < j->w.block ? rows - row : j->w.block, &t, err));
    }
    j->tally = t;
    j->done += n;
    return FM_OK;
}

/* ---- the run --------------------------------------------------------------------------------------------------- */

/* First the file of log-probabilities, then the state that counts on it. */
static enum fm_status save(struct fm_judge *j, struct fm_error *err)
{
    if (!j->state_path) return FM_OK;
    if (j->coded) FM_TRY(fm_reference_out_sync(&j->out, err));
    return fm_judge_state_save(j, err);
}

static bool show(const struct fm_judge *j, int begun)
{
    if (!j->o.progress) return true;
    const struct fm_tally *t = &j->tally;
    const struct fm_estimate ppl = fm_tally_exp(fm_tally_mean(t->nll, t->nll2, t->n));
    const struct fm_judge_progress p = {.done = j->done,
                                        .total = j->total,
                                        .tokens = (int64_t)(j->done - begun) * j->ctx,
                                        .ppl = ppl.value,
                                        .ppl_error = ppl.error,
                                        .kld = j->compares && t->n ? t->kld / (double)t->n : NAN};
    return j->o.progress(j->o.arg, &p);
}

static enum fm_status run(struct fm_judge *j, int begun, struct fm_error *err)
{
    double saved = fm_seconds();
    if (!show(j, begun)) return FM_ERR_CANCELLED;
    while (j->done < j->total) {
        const int n = j->total - j->done < j->w.lanes ? j->total - j->done : j->w.lanes;
        FM_TRY(judge_windows(j, n, err));
        if (!show(j, begun)) return FM_ERR_CANCELLED;
        if (j->state_path && fm_seconds() - saved >= SAVE_SECONDS) {
            FM_TRY(save(j, err));
            saved = fm_seconds();
        }
    }
    return FM_OK;
}

static enum fm_status finish(struct fm_judge *j, struct fm_error *err)
{
    FM_TRY(save(j, err)); /* should the machine stop right here, the next run only renames */
    if (j->coded) FM_TRY(fm_reference_out_commit(&j->out, err));
    if (j->state_path && !j->o.state) (void)unlink(j->state_path);
    return FM_OK;
}

static void report(struct fm_judge *j, struct fm_judge_result *r)
{
    r->ctx = j->ctx;
    r->chunks = j->total;
    r->compared = j->compares;
    fm_tally_report(&j->tally, r);
    r->bits_per_byte = j->tally.nll / 0x1.62e42fefa39efp-1 / j->text_bytes;
    if (!j->compares) return;
    fm_tally_quantiles(j->kld, j->tally.n, r->kld_quantiles);
    fm_tally_quantiles(j->diff, j->tally.n, r->p_diff_quantiles);
}

enum fm_status fm_judge_run(struct fm_judge *j, struct fm_judge_result *r, struct fm_error *err)
{
    const int begun = j->done;
    const double start = fm_seconds();
    enum fm_status st = run(j, begun, err);
    if (st == FM_ERR_CANCELLED) { /* a failure to save is worse news than the interruption */
        if (j->done > begun) FM_TRY(save(j, err));
        return fm_fail(err, FM_ERR_CANCELLED, "judge: chunk %d of %d: interrupted", j->done, j->total);
    }
    FM_TRY(st);
    FM_TRY(finish(j, err));
    *r = (struct fm_judge_result){.tokens = (int64_t)(j->done - begun) * j->ctx, .seconds = fm_seconds() - start};
    report(j, r);
    return FM_OK;
}

void fm_judge_cancel(struct fm_judge *j) { atomic_store(&j->cancel, true); }

int fm_judge_done(const struct fm_judge *j) { return j->done; }

int fm_judge_total(const struct fm_judge *j) { return j->total; }

uint64_t fm_judge_save_bytes(const struct fm_judge *j)
{
    return j->o.save ? fm_reference_bytes(j->ctx, j->e->model.cfg.V, j->total) : 0;
}

bool fm_judge_is_reference(const char *path) { return fm_reference_is(path); }

enum fm_status fm_judge_reference(const char *path, int *ctx, int *chunks, struct fm_error *err)
{
    struct fm_reference r;
    FM_TRY(fm_reference_open(&r, path, err));
    *ctx = r.ctx;
    *chunks = r.chunks;
    fm_reference_close(&r);
    return FM_OK;
}
