/* Whether drafting pays, from what was measured: with a chain of acceptance rates a₁, a₂, … a step of 1 + n rows yields
 * 1 + a₁ + a₁a₂ + … tokens and costs step(1 + n) + n·draft seconds.  The n that promises most tokens per second is chosen; 0
 * is among the choices.  A source that loses is tried again after 32, 64, … 1024 steps.  Nothing here changes a text. */
#include "run/speculate.h"

enum { PAUSE_FIRST = 32, PAUSE_LAST = 1024, PLAIN_EVERY = 64 };
static const double SLOWLY = 1.0 / 16, /* weight of one more observation, at least         */
    HOPE = 0.6,                        /* acceptance before anything is known              */
    HOPED_ROW = 0.35,                  /* cost of one more row, of a whole step, likewise  */
    OUTLIER = 3;                       /* times the average: the machine did something else */

static double averaged(double old, double now, int *n)
{
    if (*n > 2 && now > OUTLIER * old) now = OUTLIER * old;
    double weight = 1.0 / ++*n;
    return old + (weight > SLOWLY ? weight : SLOWLY) * (now - old);
}

void fm_guard_note_step(struct fm_guard *g, int rows, double seconds)
{
    if (rows < 1 || rows > FM_DRAFT_MOST + 1) return;
    g->step[rows] = averaged(g->step[rows], seconds, &g->n_step[rows]);
    g->since_plain = rows == 1 ? 0 : g->since_plain + 1;
}

void fm_guard_note_draft(struct fm_guard_source *s, int n, double seconds)
{
    if (n > 0) s->cost = averaged(s->cost, seconds / n, &s->n_cost);
}

void fm_guard_note_result(struct fm_guard_source *s, int n, int accepted)
{
    for (int i = 0; i < n && i <= accepted; i++) {
        if (!s->seen[i]++) s->accept[i] = HOPE;
        double weight = 1.0 / (s->seen[i] + 1);
        s->accept[i] += (weight > SLOWLY ? weight : SLOWLY) * ((i < accepted) - s->accept[i]);
    }
}

/* Seconds of a step of n rows: measured, between two measured ones, or as the last ones go on. */
static double step_seconds(const struct fm_guard *g, int n)
{
    int below = n, above = n;
    while (below > 1 && !g->n_step[below]) below--;
    while (above <= FM_DRAFT_MOST && !g->n_step[above]) above++;
    if (below == n) return g->step[n];
    if (g->n_step[above]) return g->step[below] + (g->step[above] - g->step[below]) * (n - below) / (above - below);
    double row = below > 1 ? (g->step[below] - g->step[1]) / (below - 1) : HOPED_ROW * g->step[1];
    return g->step[below] + (row > 0 ? row : 0) * (n - below);
}

/* The best n of least … most. */
static int best(const struct fm_guard *g, const struct fm_guard_source *s, int least, int most, double *rate)
{
    double chain = 1, tokens = 1, last = HOPE;
    int at = least;
    *rate = 0;
    for (int n = 0; n <= most; n++) {
        double here = tokens / (step_seconds(g, 1 + n) + n * s->cost);
        if (n >= least && here > *rate) {
            *rate = here;
            at = n;
        }
        if (n == most) break;
        last = s->seen[n] ? s->accept[n] : last;
        chain *= last;
        tokens += chain;
    }
    return at;
}

/* Before another try: what was learned long ago counts no more than a first observation. */
static void hope_again(struct fm_guard *g, struct fm_guard_source *s)
{
    for (int i = 0; i < FM_DRAFT_MOST; i++) s->seen[i] = 0;
    for (int i = 2; i <= FM_DRAFT_MOST + 1; i++) g->n_step[i] = g->n_step[i] > 0;
    s->n_cost = s->n_cost > 0;
}

int fm_guard_choose(struct fm_guard *g, struct fm_guard_source *s, int most, double *rate)
{
    *rate = 0;
    if (most > FM_DRAFT_MOST) most = FM_DRAFT_MOST;
    if (most < 1 || !g->n_step[1] || g->since_plain >= PLAIN_EVERY) return 0;
    if (s->wait > 0) {
        s->wait--;
        return 0;
    }
    const bool again = s->pause && !s->streak; /* a pause is over: try at least what loses least */
    if (again) hope_again(g, s);
    const int n = best(g, s, again, most, rate);
    if (n) {
        if (++s->streak > PAUSE_FIRST) s->pause = 0; /* it pays: the next pause is a short one again */
        return n;
    }
    s->streak = 0;
    s->pause = !s->pause ? PAUSE_FIRST : s->pause < PAUSE_LAST ? 2 * s->pause : PAUSE_LAST;
    s->wait = s->pause;
    return 0;
}
