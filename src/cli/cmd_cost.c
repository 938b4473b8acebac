/* fathom cost: a server's ledger, summed by key. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/status.h"
#include "cli/setup.h"
#include "cli/term.h"

enum { KEYS_MAX = 100000 };

struct job {
    struct fm_setup setup;
    const char *since, *until;
    bool json;
};

static const struct fm_opt cost_rows[] = {
    {0, "since", FM_OPT_TEXT, offsetof(struct job, since), 0, 0, "TIME",
     "from then on: 2026-11, 2026-11-25, 2026-11-25T14:00"},
    {0, "until", FM_OPT_TEXT, offsetof(struct job, until), 0, 0, "TIME", "before then"},
    {0, "json", FM_OPT_FLAG, offsetof(struct job, json), 0, 0, NULL, "a JSON object per key"},
    {0},
};

struct sum {
    char *key;
    long long requests, prompt, cached, answer;
    double cost, joules, seconds;
};
struct sums {
    struct sum *of;
    int n, cap;
};

/* ---- adding up ---- */

static struct sum *sum_of(struct sums *s, const char *key)
{
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->of[i].key, key)) return &s->of[i];
    if (s->n == KEYS_MAX) return NULL;
    if (s->n == s->cap) {
        const int cap = s->cap ? 2 * s->cap : 16;
        struct sum *more = fm_realloc(s->of, (size_t)cap * sizeof *more);
        if (!more) return NULL;
        s->of = more;
        s->cap = cap;
    }
    char *copy = fm_strdup(key);
    if (!copy) return NULL;
    s->of[s->n] = (struct sum){.key = copy};
    return &s->of[s->n++];
}

static void add(struct sum *to, const struct sum *x)
{
    to->requests += x->requests;
    to->prompt += x->prompt;
    to->cached += x->cached;
    to->answer += x->answer;
    to->cost += x->cost;
    to->joules += x->joules;
    to->seconds += x->seconds;
}

/* Times are compared as text, which ISO 8601 was made for: so a day is a time, too. */
static bool is_within(const struct job *j, const char *time)
{
    return (!j->since || strcmp(time, j->since) >= 0) && (!j->until || strcmp(time, j->until) < 0);
}

static enum fm_status add_line(const struct job *j, struct sums *s, const char *line, size_t n, const char *where,
                               struct fm_error *err)
{
    json_t *o = NULL;
    FM_TRY(fm_json_parse(line, n, where, &o, err));
    const char *time = fm_json_str(o, "time", NULL), *key = fm_json_str(o, "key", NULL);
    enum fm_status st = FM_OK;
    if (!time || !key) {
        st = fm_fail(err, FM_ERR_INPUT, "read ledger: %s: it is no line of a ledger", where);
    } else if (is_within(j, time)) {
        struct sum *to = sum_of(s, key);
        const struct sum x = {.requests = 1,
                              .prompt = fm_json_int(o, "prompt_tokens", 0),
                              .cached = fm_json_int(o, "cached_tokens", 0),
                              .answer = fm_json_int(o, "answer_tokens", 0),
                              .cost = fm_json_num(o, "cost", 0),
                              .joules = fm_json_num(o, "joules", 0),
                              .seconds = fm_json_num(o, "seconds", 0)};
        if (to)
            add(to, &x);
        else
            st = fm_fail_memory(err, "a ledger's keys", (size_t)s->cap * 2 * sizeof *to);
    }
    json_decref(o);
    return st;
}

static enum fm_status read_ledger(const struct job *j, const char *path, struct sums *s, struct fm_error *err)
{
    FILE *f = fopen(path, "r");
    if (!f) return fm_fail(err, FM_ERR_INPUT, "open ledger: %s: %m", path);
    char *line = NULL, where[300];
    size_t cap = 0;
    enum fm_status st = FM_OK;
    long at = 0;
    for (ssize_t n; !st && (n = getline(&line, &cap, f)) > 0;) {
        (void)snprintf(where, sizeof where, "%.250s, line %ld", path, ++at);
        if (line[n - 1] != '\n') /* its writer was cut off: at the end only */
            fm_note("fathom: %s: it is not whole, and left out", where);
        else
            st = add_line(j, s, line, (size_t)n - 1, where, err);
    }
    if (!st && ferror(f)) st = fm_fail(err, FM_ERR_INPUT, "read ledger: %s: %m", path);
    free(line); /* getline's */
    (void)fclose(f);
    return st;
}

/* ---- telling ---- */

static int by_cost(const void *a, const void *b)
{
    const struct sum *x = a, *y = b;
    if (x->cost != y->cost) return x->cost < y->cost ? 1 : -1;
    return strcmp(x->key, y->key);
}

static void print_row(const char *key, const struct sum *x)
{
    printf("%-24s %9lld %13lld %13lld %13lld %14.6f %12.1f\n", *key ? key : "-", x->requests, x->prompt, x->cached,
           x->answer, x->cost, x->joules);
}

static void print_json(const struct sum *x)
{
    json_t *o =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:f}", "key", x->key, "requests", (json_int_t)x->requests,
                  "prompt_tokens", (json_int_t)x->prompt, "cached_tokens", (json_int_t)x->cached, "answer_tokens",
                  (json_int_t)x->answer, "cost", x->cost, "joules", x->joules, "seconds", x->seconds);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    if (text) puts(text);
    json_decref(o);
    free(text); /* jansson's */
}

static void tell(const struct job *j, struct sums *s)
{
    struct sum all = {0};
    if (s->n) qsort(s->of, (size_t)s->n, sizeof *s->of, by_cost);
    if (!j->json)
        printf("%-24s %9s %13s %13s %13s %14s %12s\n", "KEY", "REQUESTS", "PROMPT", "OF IT CACHED", "ANSWER", "COST",
               "JOULES");
    for (int i = 0; i < s->n; i++) {
        add(&all, &s->of[i]);
        j->json ? print_json(&s->of[i]) : print_row(s->of[i].key, &s->of[i]);
    }
    if (!j->json) print_row("all", &all);
}

enum fm_status fm_cmd_cost(struct fm_cli *cli, struct fm_error *err)
{
    struct job j = {0};
    const struct fm_opt_set sets[] = {{cost_rows, &j}, {fm_log_rows, &j.setup}, {0}};
    struct fm_words words;
    struct sums s = {0};
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&j.setup, err));
    FM_TRY(fm_words_expect(cli, &words, 1, 1, "LEDGER", err));
    enum fm_status st = read_ledger(&j, words.v[0], &s, err);
    if (!st) tell(&j, &s);
    for (int i = 0; i < s.n; i++) fm_free(s.of[i].key);
    fm_free(s.of);
    return st ? st : fm_out_finish(err);
}
