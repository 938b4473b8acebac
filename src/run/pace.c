/* How many rows of prompts a step takes beside its answers.
 *
 *   a step of nothing but the answers of all busy slots      |=========|
 *   a step with prompts: at most STRETCH times as long       |=========|======|
 *                                                             answers   prompts
 *
 * Busy slots count, not the answers there are: a prompt is about to become one, so that is the pace all of them will have, and
 * the first answers of many do not hold up the rest.  Between two tokens then pass at most STRETCH times the usual.
 *
 * What a step with prompts takes is a line over its rows, seconds = fixed + each·rows, fitted to the latest steps by least
 * squares of the relative errors; what one of answers alone takes is kept by their number, for few rows are no line. */
#include "run/scheduler.h"

enum {
    ROWS_ALIGN = 8,  /* rows of a tile: fewer waste the weights that are read anyway                */
    ROWS_FEWEST = 4, /* so that a prompt gets on                                                    */
    ROWS_FIRST = 64, /* without answers, before anything is known; and the fewest then */
};
static const double STRETCH = 1.75;    /* below 2, so that what the clock adds does not reach it  */
static const double ALONE_SECONDS = 1; /* without answers: whoever comes then waits no longer     */
static const double NEWS = 0.2;        /* weight of the last step of answers alone                */
static const double OLD = 0.97;        /* of the steps with prompts before each: thirty or so count */
static const double SPREAD = 0.2;      /* of 1/rows, relative: less says nothing about a slope    */

static double of_rows(const struct fm_pace *p, double rows) { return p->fixed + p->each * rows; }

/* A step of n answers alone: measured, or between what is known of fewer and of more, or the line.  0: nothing known. */
static double of_answers(const struct fm_pace *p, int n)
{
    int less = n, more = n;
    while (less > 0 && p->answers[less] <= 0) less--;
    while (more <= FM_SLOTS_MAX && p->answers[more] <= 0) more++;
    const double least = less > 0 ? p->answers[less] : 0, line = of_rows(p, n);
    if (less == n) return least;
    if (more > FM_SLOTS_MAX) return line > least ? line : least;
    const double most = p->answers[more];
    return line < least || line <= 0 ? least : line < most ? line : most;
}

/* As many rows beside the answers as fill whole tiles together with them. */
static int aligned(double rows, int answers, int room)
{
    if (rows >= room) return room;
    int least = answers ? ROWS_ALIGN - answers % ROWS_ALIGN : ROWS_FIRST;
    if (least < ROWS_FEWEST) least += ROWS_ALIGN;
    const int n = (answers + (int)(rows > 0 ? rows : 0)) / ROWS_ALIGN * ROWS_ALIGN - answers;
    const int wanted = n > least ? n : least;
    return wanted < room ? wanted : room;
}

int fm_pace_rows(const struct fm_pace *p, int answers, int busy, int room)
{
    if (p->each <= 0) return aligned(0, answers, room);
    const double seconds = answers ? STRETCH * of_answers(p, busy) : ALONE_SECONDS;
    return aligned((seconds - of_rows(p, answers)) / p->each, answers, room);
}

/* seconds/rows = each + fixed/rows: a line over x = 1/rows. */
static void fit(struct fm_pace *p, double rows, double seconds)
{
    const double x = 1 / rows, y = seconds / rows;
    p->n = OLD * p->n + 1;
    p->x = OLD * p->x + x;
    p->y = OLD * p->y + y;
    p->xx = OLD * p->xx + x * x;
    p->xy = OLD * p->xy + x * y;
    const double mean_x = p->x / p->n, mean_y = p->y / p->n, var = p->xx / p->n - mean_x * mean_x;
    if (var > SPREAD * SPREAD * mean_x * mean_x) p->slope = (p->xy / p->n - mean_x * mean_y) / var;
    if (p->slope < 0) p->slope = 0;
    if (p->slope * mean_x > 0.9 * mean_y) p->slope = 0.9 * mean_y / mean_x; /* a row takes some time */
    p->fixed = p->slope;
    p->each = mean_y - p->slope * mean_x;
}

void fm_pace_learn(struct fm_pace *p, int answers, int rows, double seconds)
{
    double *mean = &p->answers[answers];
    if (seconds <= 0) return;
    if (rows)
        fit(p, rows + answers, seconds);
    else
        *mean = *mean > 0 ? (1 - NEWS) * *mean + NEWS * seconds : seconds;
}
