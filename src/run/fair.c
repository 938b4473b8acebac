/* Whose turn it is.
 *
 *   served: rows computed for a user, an answer's row counting ANSWER_ROWS of a prompt's
 *
 * The user who was served least comes first (the virtual counters of arXiv 2401.00588: deficits paid afterwards, because
 * nobody knows before how long an answer gets).  One who comes back starts no lower than the least of those present: waiting
 * saves nothing up; and what he had too much stays on his account while others are here. */
#include <string.h>

#include "base/mem.h"
#include "run/scheduler.h"

enum {
    ANSWER_ROWS = 3,   /* about what its bandwidth costs */
    ABSENT_MAX = 1024, /* accounts of users who have left */
};

static uint64_t least_present(const struct fm_scheduler *s, const struct fm_user *but)
{
    uint64_t least = UINT64_MAX;
    for (const struct fm_user *u = s->users; u; u = u->next)
        if (u != but && u->requests && u->served < least) least = u->served;
    return least;
}

static void forget(struct fm_user **at)
{
    struct fm_user *u = *at;
    *at = u->next;
    fm_free(u);
}

/* Accounts that would be lifted anyway go; and the lowest where there are too many. */
static void forget_absent(struct fm_scheduler *s)
{
    const uint64_t floor = least_present(s, NULL);
    struct fm_user **lowest = NULL;
    int absent = 0;
    for (struct fm_user **at = &s->users; *at;) {
        const struct fm_user *u = *at;
        if (!u->requests && u->served <= floor) {
            forget(at);
            continue;
        }
        if (!u->requests && (!absent++ || u->served < (*lowest)->served)) lowest = at;
        at = &(*at)->next;
    }
    if (absent > ABSENT_MAX) forget(lowest);
}

static struct fm_user *find(struct fm_scheduler *s, const char *name)
{
    struct fm_user *u;
    for (u = s->users; u && strcmp(u->name, name) != 0; u = u->next) {
    }
    return u;
}

bool fm_fair_join(struct fm_scheduler *s, struct fm_request *r)
{
    struct fm_user *u = find(s, r->o.user);
    if (!u) {
        const size_t n = strlen(r->o.user) + 1;
        if (!(u = fm_calloc(1, sizeof *u + n))) return false;
        memcpy(u->name, r->o.user, n);
        u->next = s->users;
        s->users = u;
    }
    const uint64_t least = least_present(s, u);
    if (!u->requests && least != UINT64_MAX && u->served < least) u->served = least;
    u->requests++;
    r->user = u;
    return true;
}

void fm_fair_leave(struct fm_scheduler *s, struct fm_request *r)
{
    if (!r->user) return;
    r->user->requests--;
    r->user = NULL;
    forget_absent(s);
}

int fm_fair_work(int prompt_rows, int answer_rows) { return prompt_rows + ANSWER_ROWS * answer_rows; }

void fm_fair_charge(struct fm_request *r, int work) { r->user->served += (uint64_t)work; }

void fm_fair_tally(struct fm_scheduler *s)
{
    for (struct fm_user *u = s->users; u; u = u->next) u->pledged = u->served;
    for (int i = 0; i < s->n_slots; i++) {
        const struct fm_request *r = s->slots[i];
        if (r && r->phase != FM_PHASE_ANSWER) r->user->pledged += (uint64_t)(r->n_prompt - r->fed);
    }
}

void fm_fair_free(struct fm_scheduler *s)
{
    while (s->users) {
        struct fm_user *u = s->users;
        s->users = u->next;
        fm_free(u);
    }
}
