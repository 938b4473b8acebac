/* The sources of drafts, and how a generation uses them.  See speculate.h. */
#include "run/speculate.h"

#include <string.h>

#include "base/clock.h"
#include "run/run.h"

/* ---- sources ---- */

enum { GRAM_LEAST = 2, GRAM_MOST = 8 };

/* How many tokens before and at a equal those before and at b > a. */
static int same_before(const int32_t *ids, int a, int b)
{
    int n = 0;
    while (n < GRAM_MOST && a - n >= 0 && ids[a - n] == ids[b - n]) n++;
    return n;
}

/* Prompt lookup: where the last tokens stood before, the longest and latest such place, what followed may follow again.
 * A place close to the end repeats itself. */
static enum fm_status propose_lookup(struct fm_session *s, int n, int32_t *out, int *made, struct fm_error *err)
{
    const int end = s->length; /* of the token to come */
    int best = -1, most = GRAM_LEAST - 1;
    (void)err;
    for (int at = end - 1; at >= 0 && most < GRAM_MOST; at--) {
        if (s->ids[at] != s->ids[end]) continue;
        int same = same_before(s->ids, at, end);
        if (same <= most) continue;
        most = same;
        best = at;
    }
    *made = best < 0 ? 0 : n;
    for (int i = 0; i < *made; i++) out[i] = best + 1 + i <= end ? s->ids[best + 1 + i] : out[best + i - end];
    return FM_OK;
}

static enum fm_status propose_mtp(struct fm_session *s, int n, int32_t *out, int *made, struct fm_error *err)
{
    struct fm_engine *e = s->e;
    FM_TRY(fm_session_complete(s, err));
    fm_session_turn(s);
    fm_mtp_draft(&e->ctx, &e->model.cfg, &e->model.w, e->model.rope_freq, &s->mtp, s->length, n, out);
    *made = n;
    return fm_session_turn_done(s, err);
}

static bool always(const struct fm_session *s)
{
    (void)s;
    return true;
}

static bool has_mtp(const struct fm_session *s) { return s->mtp.hidden != NULL; }

/* ids[length] is the token to come, with room behind it.  *made = 0 … n tokens that may follow it. */
static const struct source {
    const char *name;
    enum fm_draft draft;
    bool (*usable)(const struct fm_session *s);
    enum fm_status (*propose)(struct fm_session *s, int n, int32_t *out, int *made, struct fm_error *err);
} sources[FM_DRAFT_SOURCES] = {
    {"lookup", FM_DRAFT_LOOKUP, always, propose_lookup},
    {"mtp", FM_DRAFT_MTP, has_mtp, propose_mtp},
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
    *p = (struct fm_speculation){.s = s, .draft = g->draft};
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

static bool wanted(const struct fm_speculation *p, int i)
{
    return (p->draft == sources[i].draft || p->draft == FM_DRAFT_AUTO) && sources[i].usable(p->s);
}

/* Ask source i for up to n tokens. */
static enum fm_status ask(struct fm_speculation *p, int i, int n, int32_t *out, int *made, struct fm_error *err)
{
    double start = fm_seconds();
    FM_TRY(sources[i].propose(p->s, n, out, made, err));
    fm_guard_note_draft(&p->s->guard.source[i], *made, fm_seconds() - start);
    p->from = i;
    return FM_OK;
}

/* The source that promises most first; the next one if it has nothing to say. */
static enum fm_status draft(struct fm_speculation *p, int most, int32_t *out, int *made, struct fm_error *err)
{
    struct fm_guard *g = &p->s->guard;
    int n[FM_DRAFT_SOURCES] = {0};
    double rate[FM_DRAFT_SOURCES] = {0};
    for (int i = 0; i < FM_DRAFT_SOURCES; i++) {
        if (!wanted(p, i) || most < 1) continue;
        n[i] = p->s->unguarded ? most : fm_guard_choose(g, &g->source[i], most, &rate[i]);
    }
    *made = 0;
    for (int tries = 0; tries < FM_DRAFT_SOURCES && !*made; tries++) {
        int best = 0;
        for (int i = 1; i < FM_DRAFT_SOURCES; i++)
            if (!n[best] || (n[i] && rate[i] > rate[best])) best = i;
        if (!n[best]) break;
        FM_TRY(ask(p, best, n[best], out, made, err));
        n[best] = 0;
    }
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
    int most = s->ctx - s->length - 1, made = 0;
    if (most > room) most = room;
    if (most > p->most) most = p->most;
    if (most > 0) {
        s->ids[s->length] = id;
        FM_TRY(draft(p, most, ids + 1, &made, err));
    }
    p->n = made;
    p->drafted += made;
    p->steps++;
    FM_TRY(fm_session_feed_ahead(s, ids, 1 + made, err));
    fm_guard_note_step(&s->guard, 1 + made, s->step_seconds);
    return FM_OK;
}
