/* How many rows of prompts a step takes beside its answers.
 *
 *   a step of nothing but the answers of all busy slots      |=========|
 *   a step with prompts: at most STRETCH times as long       |=========|======|
 *                                                             answers   prompts
 *
 * Busy slots count, not the answers there are: a prompt is about to become one, so that is the pace all of them will have, and
 * the first answers of many do not hold up the rest.  Between two tokens then pass at most STRETCH times the usual. */
#include "run/scheduler.h"

enum {
    ROWS_ALIGN = 8,  /* rows that the kernels like, and the fewest: less wastes the weights that are read anyway */
    ROWS_FIRST = 64, /* without answers, before anything is known; and the fewest then */
};
static const double STRETCH = 1.75;    /* below 2, so that what the clock adds does not reach it */
static const double ALONE_SECONDS = 1; /* without answers: whoever comes then waits no longer    */
static const double NEWS = 0.2;        /* weight of the last measurement                         */

/* Of n answers: measured, or what the nearest count says, erring on the short side.  0: nothing known. */
static double seconds_of(const struct fm_pace *p, int n)
{
    for (int m = n; m > 0; m--)
        if (p->answers[m] > 0) return p->answers[m];
    for (int m = n + 1; m <= FM_SLOTS_MAX; m++)
        if (p->answers[m] > 0) return p->answers[m] * n / m;
    return 0;
}

static int aligned(double rows, int least, int room)
{
    const int n = rows < room ? (int)rows / ROWS_ALIGN * ROWS_ALIGN : room;
    return n > least ? n : least < room ? least : room;
}

int fm_pace_rows(const struct fm_pace *p, int answers, int busy, int room)
{
    const double row = answers && p->row_beside > 0 ? p->row_beside : p->row_alone;
    if (!answers) return aligned(row > 0 ? ALONE_SECONDS / row : 0, ROWS_FIRST, room);
    if (row <= 0) return aligned(0, ROWS_ALIGN, room);
    return aligned((STRETCH * seconds_of(p, busy) - seconds_of(p, answers)) / row, ROWS_ALIGN, room);
}

static void learn(double *mean, double x)
{
    if (x > 0) *mean = *mean > 0 ? (1 - NEWS) * *mean + NEWS * x : x;
}

void fm_pace_learn(struct fm_pace *p, int answers, int rows, double seconds)
{
    if (!rows)
        learn(&p->answers[answers], seconds);
    else if (!answers && rows >= ROWS_ALIGN)
        learn(&p->row_alone, seconds / rows);
    else if (answers && rows >= ROWS_ALIGN)
        learn(&p->row_beside, (seconds - seconds_of(p, answers)) / rows);
}
