/* The sources of drafts, and how a generation uses them.  See speculate.h. */
#include "run/speculate.h"

#include <string.h>

#include "base/clock.h"
#include "run/run.h"

/* ---- sources ---- */

enum { GRAM_MOST = 8 };

/* A row of the table.  Drafts that come true more or less often are rows of their own, so that the guard knows them apart. */
struct source {
    const char *name;
    enum fm_draft draft;
    /* Has it something to say now?  ids[length] is the token to come. */
    bool (*ready)(struct fm_speculation *p, const struct source *row);
    /* n >= 1 tokens that may follow. */
    enum fm_status (*propose)(struct fm_speculation *p, int n, int32_t *out, struct fm_error *err);
    int least, most; /* lookup: tokens that are the same */
};

/* How many tokens before and at a equal those before and at b > a. */
static int same_before(const int32_t *ids, int a, int b)
{
    int n = 0;
    while (n < GRAM_MOST && a - n >= 0 && ids[a - n] == ids[b - n]) n++;
    return n;
}

/* Where the last tokens stood before: the longest such place, of equal ones the latest. */
static void look_up(struct fm_speculation *p)
{
    const int32_t *ids = p->s->ids;
    const int end = p->s->length; /* of the token to come */
    if (p->looked_at == end) return;
    p->looked_at = end;
    p->found_same = 0;
    for (int at = end - 1; at >= 0 && p->found_same < GRAM_MOST; at--) {
        const int same = ids[at] == ids[end] ? same_before(ids, at, end) : 0;
        if (same <= p->found_same) continue;
        p->found_same = same;
        p->found = at;
    }
}

static bool lookup_ready(struct fm_speculation *p, const struct source *row)
{
    look_up(p);
    return p->found_same >= row->least && p->found_same <= row->most;
}

/* What followed there may follow again; a place close to the end repeats itself. */
static enum fm_status lookup_propose(struct fm_speculation *p, int n, int32_t *out, struct fm_error *err)
{
    const int end = p->s->length;
    (void)err;
    for (int i = 0, at = p->found + 1; i < n; i++, at++) out[i] = at <= end ? p->s->ids[at] : out[at - end - 1];
    return FM_OK;
}

static bool mtp_ready(struct fm_speculation *p, const struct source *row)
{
    (void)row;
    return p->s->mtp.hidden != NULL;
}

static enum fm_status mtp_propose(struct fm_speculation *p, int n, int32_t *out, struct fm_error *err)
{
    struct fm_session *s = p->s;
    struct fm_engine *e = s->e;
    FM_TRY(fm_session_complete(s, err));
    fm_session_turn(s);
    fm_mtp_draft(&e->ctx, &e->model.cfg, &e->model.w, e->model.rope_freq, &s->mtp, s->length, n, out);
    return fm_session_turn_done(s, err);
}

/* Without a guard the first one that is ready speaks. */
static const struct source sources[FM_DRAFT_SOURCES] = {
    {"lookup", FM_DRAFT_LOOKUP, lookup_ready, lookup_propose, 8, GRAM_MOST},
    {"lookup", FM_DRAFT_LOOKUP, lookup_ready, lookup_propose, 4, 7},
    {"lookup", FM_DRAFT_LOOKUP, lookup_ready, lookup_propose, 2, 3},
    {"mtp", FM_DRAFT_MTP, mtp_ready, mtp_propose, 0, 0},
};

const char *fm_draft_name(enum fm_draft d)
{
    if (d == FM_DRAFT_OFF) return "off";
    if (d == FM_DRAFT_AUTO) return "auto";
    for (int i = 0; i < FM_DRAFT_SOURCES; i++)
        if (sources[i].draft == d) return sources[i].name;
    return NULL;
}

/* ---- a generation ---- */

enum fm_status fm_speculation_init(struct fm_speculation *p, struct fm_session *s, const struct fm_generation *g,
                                   struct fm_error *err)
{
    const struct fm_plan *plan = &s->e->plan;
    const char *name = fm_draft_name(g->draft);
    *p = (struct fm_speculation){.s = s, .draft = g->draft, .looked_at = -1};
    fm_session_drop_ahead(s);
    if (!name) return fm_fail(err, FM_ERR_USAGE, "draft: source %d: there is none of this number", (int)g->draft);
    if (g->draft == FM_DRAFT_OFF) return FM_OK;
    p->most = g->draft_max ? g->draft_max : plan->draft_max;
    if (p->most < 0 || p->most > plan->draft_max || (g->draft == FM_DRAFT_MTP && !plan->mtp)) {
        fm_fail(err, FM_ERR_USAGE, "draft: %s, up to %d tokens: the engine was opened for %s, up to %d", name, p->most,
                fm_draft_name(plan->draft), plan->draft_max);
        fm_hint(err, "fm_engine_options.draft and draft_max plan the memory");
        return FM_ERR_USAGE;
    }
    return FM_OK;
}

static bool wanted(struct fm_speculation *p, int i)
{
    return (p->draft == sources[i].draft || p->draft == FM_DRAFT_AUTO) && sources[i].ready(p, &sources[i]);
}

/* Up to `most` tokens from the source that promises most per second, or none. */
static enum fm_status draft(struct fm_speculation *p, int most, int32_t *out, struct fm_error *err)
{
    struct fm_guard *g = &p->s->guard;
    double best = -1;
    for (int i = 0; i < FM_DRAFT_SOURCES; i++) {
        double rate = 0;
        if (!wanted(p, i)) continue;
        const int n = p->s->unguarded ? most : fm_guard_choose(g, &g->source[i], most, &rate);
        if (!n || rate <= best) continue;
        best = rate;
        p->from = i;
        p->n = n;
    }
    if (!p->n) return FM_OK;
    const double start = fm_thread_seconds();
    FM_TRY(sources[p->from].propose(p, p->n, out, err));
    fm_guard_note_draft(&g->source[p->from], p->n, fm_thread_seconds() - start);
    return FM_OK;
}

/* What became of the last draft: all that was computed ahead is said by now, or the next of it was not sampled. */
static void note_result(struct fm_speculation *p)
{
    if (p->n) fm_guard_note_result(&p->s->guard.source[p->from], p->n, p->n - p->s->n_ahead);
    p->n = 0;
    fm_session_drop_ahead(p->s);
}

enum fm_status fm_speculation_put(struct fm_speculation *p, int32_t id, int room, struct fm_error *err)
{
    struct fm_session *s = p->s;
    int32_t ids[1 + FM_DRAFT_MOST] = {id};
    if (atomic_load(&s->cancel)) return fm_fail(err, FM_ERR_CANCELLED, "cancelled"); /* as a feed of it would be */
    if (fm_session_take(s, id)) {
        p->accepted++;
        return FM_OK;
    }
    note_result(p);
    int most = s->ctx - s->length - 1;
    if (most > room) most = room;
    if (most > p->most) most = p->most;
    if (most > 0) {
        s->ids[s->length] = id;
        FM_TRY(draft(p, most, ids + 1, err));
    }
    p->drafted += p->n;
    p->steps++;
    FM_TRY(fm_session_feed_ahead(s, ids, 1 + p->n, err));
    fm_guard_note_step(&s->guard, 1 + p->n, s->step_seconds);
    return FM_OK;
}
