/* One step: a row of every answer, and of the waiting prompts as many rows as the answers can bear.
 *
 *   slot 0  answer   |.|                       T rows, one forward pass
 *   slot 1  prompt   |.........................|
 *   slot 2  answer   |.|                       logits only for the last row of a prompt and for answers
 *
 * The cut into steps changes no bits: rows do not depend on their neighbours, a prompt stays one segment. */
#include <string.h>

#include "base/clock.h"
#include "run/scheduler.h"

enum { ECHO_ROWS = 16 /* rows of logits at a time when every position's are wanted: never more than n_slots */ };

/* ---- what goes into a step ---- */

struct plan {
    struct fm_batch b;
    int answers, prompt_rows;
};

static void add_rows(struct fm_scheduler *s, struct plan *p, struct fm_request *r, int n)
{
    s->of[p->b.n_seqs] = r;
    s->seqs[p->b.n_seqs++] = (struct fm_seq){.row0 = p->b.T,
                                             .n = n,
                                             .pos0 = r->fed,
                                             .segment_pos0 = r->segment_pos0,
                                             .segment_n = r->segment_n,
                                             .kv = &r->kv};
    for (int i = 0; i < n; i++) {
        s->ids[p->b.T + i] = r->ids[r->fed + i];
        s->pos[p->b.T + i] = r->fed + i;
    }
    r->rows = n;
    p->b.T += n;
}

/* Ends r, counted before anybody is told; its slot is free afterwards. */
static void end_slot(struct fm_scheduler *s, struct fm_request *r, enum fm_end end, const struct fm_error *err)
{
    const double held = fm_seconds() - r->t_start;
    fm_request_publish(r);
    (void)pthread_mutex_lock(&s->lock);
    s->slot_seconds = s->slot_seconds > 0 ? 0.9 * s->slot_seconds + 0.1 * held : held;
    s->stats.ends[end]++;
    s->stats.prompt_tokens += (uint64_t)((r->fed < r->n_prompt ? r->fed : r->n_prompt) - r->cached);
    s->stats.cached_tokens += (uint64_t)r->cached;
    s->stats.disk_tokens += (uint64_t)r->load.got * FM_KV_BLOCK;
    s->stats.answer_tokens += (uint64_t)r->made;
    fm_fair_leave(s, r);
    (void)pthread_mutex_unlock(&s->lock);
    fm_request_finish(r, end, err);
    (void)pthread_mutex_lock(&s->lock);
    for (int i = 0; i < s->n_slots; i++)
        if (s->slots[i] == r) s->slots[i] = NULL;
    (void)pthread_mutex_unlock(&s->lock);
    fm_request_drop(r);
}

static bool is_late(const struct fm_request *r)
{
    return r->o.seconds_max > 0 && fm_seconds() - r->t_submit > r->o.seconds_max;
}

static void end_unwanted(struct fm_scheduler *s)
{
    for (int i = 0; i < s->n_slots; i++) {
        struct fm_request *r = s->slots[i];
        if (r && atomic_load(&r->cancelled))
            end_slot(s, r, FM_END_CANCELLED, NULL);
        else if (r && is_late(r))
            end_slot(s, r, FM_END_DEADLINE, NULL);
    }
}

/* Room in the cache for n more tokens of r, or its end. */
static bool has_room(struct fm_scheduler *s, struct fm_request *r, int n)
{
    struct fm_error err;
    if (!fm_request_reserve(r, r->fed + n, &err)) return true;
    end_slot(s, r, FM_END_FAILED, &err);
    return false;
}

/* Who was served less comes first; of one user in turn whose prompt is nearly done, and who has waited longest: so none
 * waits for a long one, and a long one not for ever. */
static bool is_before(const struct fm_scheduler *s, const struct fm_request *a, const struct fm_request *b)
{
    const int a_left = a->n_prompt - a->fed, b_left = b->n_prompt - b->fed;
    if (a->user->served != b->user->served) return a->user->served < b->user->served;
    if (s->stats.steps % 2 && a_left != b_left) return a_left < b_left;
    return a->t_submit < b->t_submit;
}

/* Prompts into s->order; returns how many. */
static int line_up(struct fm_scheduler *s)
{
    int n = 0;
    for (int i = 0; i < s->n_slots; i++) {
        struct fm_request *r = s->slots[i];
        if (!r || r->phase != FM_PHASE_PROMPT) continue;
        int at = n++;
        for (; at && is_before(s, r, s->order[at - 1]); at--) s->order[at] = s->order[at - 1];
        s->order[at] = r;
    }
    return n;
}

static struct plan compose(struct fm_scheduler *s)
{
    struct plan p = {.b = {.seqs = s->seqs, .ids = s->ids, .pos = s->pos}};
    for (int i = 0; i < s->n_slots; i++) {
        struct fm_request *r = s->slots[i];
        if (!r || r->phase != FM_PHASE_ANSWER || !has_room(s, r, 1)) continue;
        add_rows(s, &p, r, 1);
        p.answers++;
    }
    const int prompts = line_up(s);
    int left = fm_pace_rows(&s->pace, p.answers, p.answers + prompts, s->rows_max - p.answers);
    for (int i = 0; i < prompts && left > 0; i++) {
        struct fm_request *r = s->order[i];
        const int want = r->n_prompt - r->fed, n = want < left ? want : left;
        if (!has_room(s, r, n)) continue;
        add_rows(s, &p, r, n);
        left -= n;
        p.prompt_rows += n;
    }
    return p;
}

/* ---- computing ---- */

/* Rows whose logits are wanted, gathered; returns how many. */
static int gather(struct fm_scheduler *s, const struct fm_batch *b, fm_real *dst, const fm_real *hidden)
{
    const size_t D = (size_t)s->e->model.cfg.D;
    int m = 0;
    for (int i = 0; i < b->n_seqs; i++) {
        const struct fm_seq *q = &b->seqs[i];
        if (q->pos0 + q->n < s->of[i]->n) continue;
        s->wanted[m] = s->of[i];
        memcpy(dst + (size_t)m++ * D, hidden + (size_t)(q->row0 + q->n - 1) * D, D * sizeof *dst);
    }
    return m;
}

/* Every row of a prompt that wants its own probabilities; logits[n_slots, V] is the room. */
static void echo(struct fm_scheduler *s, struct fm_request *r, const struct fm_seq *q, const fm_real *hidden)
{
    const struct fm_engine *e = s->e;
    const size_t D = (size_t)e->model.cfg.D, V = (size_t)e->model.cfg.V;
    const int group = s->n_slots < ECHO_ROWS ? s->n_slots : ECHO_ROWS;
    for (int at = 0; at < q->n; at += group) {
        const int n = q->n - at < group ? q->n - at : group;
        fm_model_logits(&s->ctx_step, &e->model.w, s->logits, hidden + (size_t)(q->row0 + at) * D, n);
        if (s->ctx_step.status) return;
        for (int i = 0; i < n && q->pos0 + at + i + 1 < r->n_prompt; i++)
            fm_request_echo(r, s->logits + (size_t)i * V, q->pos0 + at + i + 1);
    }
}

/* Sampling walks the whole vocabulary: as many lanes as there are threads, request i in lane i mod lanes. */
static void pick(void *arg, int begin, int end, int thread)
{
    struct fm_scheduler *s = arg;
    const size_t V = (size_t)s->e->model.cfg.V;
    (void)thread;
    for (int lane = begin; lane < end; lane++)
        for (int i = lane; i < s->n_wanted; i += s->pickers)
            fm_request_pick(s->wanted[i], s->logits + (size_t)i * V, s->work + (size_t)lane * V,
                            s->seen + (size_t)lane * V);
}

static void compute(struct fm_scheduler *s, struct fm_batch *b)
{
    const struct fm_engine *e = s->e;
    struct fm_ctx *c = &s->ctx_step;
    const size_t D = (size_t)e->model.cfg.D;
    fm_arena_reset(c->arena, 0);
    fm_real *hidden = fm_ctx_reals(c, (size_t)b->T * D, "hidden");
    fm_real *rows = fm_ctx_reals(c, (size_t)s->n_slots * D, "logit rows");
    fm_model_forward(c, &e->model.cfg, &e->model.w, e->model.rope_freq, b, hidden, NULL);
    if (c->status || c->arena->dry) return;
    for (int i = 0; i < b->n_seqs; i++)
        if (s->of[i]->o.echo && s->of[i]->phase == FM_PHASE_PROMPT) echo(s, s->of[i], &b->seqs[i], hidden);
    s->n_wanted = c->status ? 0 : gather(s, b, rows, hidden);
    if (s->n_wanted) fm_model_logits(c, &e->model.w, s->logits, rows, s->n_wanted);
    if (!c->status && atomic_load(&s->abort_step)) fm_ctx_fail(c, FM_ERR_CANCELLED, "cancelled");
    if (!c->status) fm_parallel_for(c->pool, s->pickers, 1, pick, s);
    for (int i = 0; i < b->n_seqs && !c->status; i++) /* once it is sure that these rows count */
        if (s->of[i]->sum) fm_request_pool(s->of[i], hidden + (size_t)b->seqs[i].row0 * D, b->seqs[i].n);
}

size_t fm_batch_bytes(const struct fm_scheduler *s)
{
    struct fm_arena dry;
    struct fm_kv kv = {.shape = fm_kv_shape(&s->e->model.cfg, s->e->plan.kv_type)};
    struct fm_scheduler copy = *s;
    size_t peak = 0;
    /* more than any real step: one sequence with all the rows, and the others with one each */
    struct fm_batch b = {.T = s->rows_max + s->n_slots - 1, .n_seqs = s->n_slots, .seqs = s->seqs};
    for (int i = 0; i < s->n_slots; i++) {
        const int n = i ? 1 : s->rows_max;
        s->seqs[i] = (struct fm_seq){.row0 = i ? s->rows_max + i - 1 : 0, .n = n, .pos0 = s->ctx - n};
        s->seqs[i].segment_n = s->ctx;
        s->seqs[i].kv = &kv;
    }
    for (int deterministic = 0; deterministic < 2; deterministic++) { /* either form of latent attention */
        fm_arena_init_dry(&dry, "step");
        copy.ctx_step = (struct fm_ctx){.op = &fm_ops_dry,
                                        .arena = &dry,
                                        .exact = s->e->plan.exact,
                                        .deterministic = deterministic || s->e->plan.deterministic};
        compute(&copy, &b);
        if (dry.peak > peak) peak = dry.peak;
    }
    return peak;
}

/* ---- after it ---- */

/* What other threads may see of the slots. */
static void show(struct fm_scheduler *s)
{
    (void)pthread_mutex_lock(&s->lock);
    for (int i = 0; i < s->n_slots; i++) {
        struct fm_request *r = s->slots[i];
        if (!r) continue;
        r->rows_shown = r->rows;
        r->info = (struct fm_slot_info){.busy = true,
                                        .prompt_tokens = r->n_prompt,
                                        .cached_tokens = r->cached,
                                        .done_tokens = r->fed < r->n_prompt ? r->fed : r->n_prompt,
                                        .answer_tokens = r->made};
    }
    s->stats.kv_bytes = fm_kvpool_reserved(&s->e->kv);
    if (s->prefix) {
        const struct fm_prefix_stats p = fm_prefix_stats(s->prefix);
        s->stats.cache_bytes = p.bytes;
        s->stats.cache_limit = p.limit;
        s->stats.cache_evicted = p.evicted;
    }
    (void)pthread_mutex_unlock(&s->lock);
}

static void account(struct fm_scheduler *s, const struct plan *p, double seconds, double joules)
{
    fm_pace_learn(&s->pace, p->answers, p->prompt_rows, seconds);
    (void)pthread_mutex_lock(&s->lock);
    const double share = (double)p->prompt_rows / (p->prompt_rows + p->answers);
    for (int i = 0; i < p->b.n_seqs; i++) {
        struct fm_request *r = s->of[i];
        const bool answers = r->phase == FM_PHASE_ANSWER;
        const int work = fm_fair_work(answers ? 0 : r->rows, answers ? 1 : 0);
        fm_fair_charge(r, work);
        r->joules += joules * work / fm_fair_work(p->prompt_rows, p->answers);
    }
    s->stats.joules += joules;
    s->stats.steps++;
    s->stats.rows += (uint64_t)(p->prompt_rows + p->answers);
    s->stats.prompt_seconds += seconds * share;
    s->stats.answer_seconds += seconds * (1 - share);
    (void)pthread_mutex_unlock(&s->lock);
}

/* r's rows are in the cache; logits: of its last row, NULL while the prompt goes on. */
static void move_on(struct fm_scheduler *s, struct fm_request *r, const float *logits)
{
    struct fm_error err = {0};
    const bool was_prompt = r->phase == FM_PHASE_PROMPT;
    r->fed += r->rows;
    if (was_prompt && r->o.on_progress) r->o.on_progress(r->o.arg, r->fed, r->n_prompt, r->cached);
    if (!logits) return;
    if (was_prompt) fm_request_publish(r);
    r->phase = FM_PHASE_ANSWER;
    const enum fm_end end = fm_request_advance(r, logits, &err);
    r->segment_pos0 = r->fed;
    r->segment_n = 1;
    if (end != FM_END_COUNT) end_slot(s, r, end, &err);
}

static void finish_step(struct fm_scheduler *s, const struct fm_batch *b)
{
    const size_t V = (size_t)s->e->model.cfg.V;
    int m = 0;
    for (int i = 0; i < b->n_seqs; i++) {
        const bool last = b->seqs[i].pos0 + b->seqs[i].n == s->of[i]->n;
        move_on(s, s->of[i], last ? s->logits + (size_t)m++ * V : NULL);
    }
}

static void fail_step(struct fm_scheduler *s, const struct fm_batch *b)
{
    for (int i = 0; i < b->n_seqs; i++) end_slot(s, s->of[i], FM_END_FAILED, &s->ctx_step.error);
}

void fm_batch_step(struct fm_scheduler *s)
{
    end_unwanted(s);
    for (int i = 0; i < s->n_slots; i++) {
        struct fm_request *r = s->slots[i];
        if (!r) continue;
        r->rows = 0;
        if (r->phase == FM_PHASE_LOADING) (void)fm_request_loaded(r);
    }
    struct plan p = compose(s);
    show(s);
    if (!p.b.T) return;
    const double start = fm_seconds(), joules = s->energy.joules;
    s->ctx_step.status = FM_OK;
    s->ctx_step.cancel = &s->abort_step;
    (void)pthread_mutex_lock(&s->e->turn);
    compute(s, &p.b);
    (void)pthread_mutex_unlock(&s->e->turn);
    const enum fm_status st = s->ctx_step.status;
    (void)pthread_mutex_lock(&s->lock);
    s->aborted = st == FM_ERR_CANCELLED;
    atomic_store(&s->abort_step, false);
    (void)pthread_mutex_unlock(&s->lock);
    if (st == FM_ERR_CANCELLED) return; /* the next step is composed without the one who left */
    if (st) {
        fail_step(s, &p.b);
        return;
    }
    account(s, &p, fm_seconds() - start, fm_energy_read(&s->energy) - joules);
    finish_step(s, &p.b);
    show(s);
}
