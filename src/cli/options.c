/* See options.h. */
#include "cli/options.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

static bool is_number(enum fm_opt_kind k) { return k >= FM_OPT_INT && k <= FM_OPT_DOUBLE; }

static bool is_whole(enum fm_opt_kind k) { return k >= FM_OPT_INT && k <= FM_OPT_UINT64; }

/* ---- values ---------------------------------------------------------------------------------------------------- */

static void describe_range(const struct fm_opt *o, char *dst, size_t n)
{
    const char *noun = is_whole(o->kind) ? "whole number" : "number";
    if (o->max >= 2147483647)
        snprintf(dst, n, "a %s of at least %.15g", noun, o->min);
    else
        snprintf(dst, n, "a %s from %.15g to %.15g", noun, o->min, o->max);
}

static enum fm_status bad_number(const struct fm_opt *o, const char *text, struct fm_error *err)
{
    char range[96];
    describe_range(o, range, sizeof range);
    return fm_fail(err, FM_ERR_USAGE, "read options: --%s: '%.60s' is not %s", o->name, text, range);
}

static enum fm_status set_real(const struct fm_opt *o, void *at, const char *text, struct fm_error *err)
{
    char *end;
    double x = strtod(text, &end);
    bool plain = *text && !*end && strspn(text, "+-.0123456789eE") == strlen(text); /* no hex, nan, inf */
    if (!plain || !isfinite(x) || x < o->min || x > o->max) return bad_number(o, text, err);
    if (o->kind == FM_OPT_FLOAT)
        *(float *)at = (float)x;
    else
        *(double *)at = x;
    return FM_OK;
}

static enum fm_status set_whole(const struct fm_opt *o, void *at, const char *text, struct fm_error *err)
{
    char *end;
    errno = 0;
    bool plain = *text && strspn(text, "+-0123456789") == strlen(text);
    long long x = strtoll(text, &end, 10);
    if (!plain || *end || errno || (double)x < o->min || (double)x > o->max) return bad_number(o, text, err);
    if (o->kind == FM_OPT_INT)
        *(int *)at = (int)x;
    else
        *(int64_t *)at = x;
    return FM_OK;
}

static enum fm_status set_seed(const struct fm_opt *o, void *at, const char *text, struct fm_error *err)
{
    errno = 0;
    bool plain = *text && strspn(text, "0123456789") == strlen(text);
    unsigned long long x = strtoull(text, NULL, 10);
    if (!plain || errno) return bad_number(o, text, err);
    *(uint64_t *)at = x;
    return FM_OK;
}

static enum fm_status set_list(const struct fm_opt *o, struct fm_opt_list *list, const char *text, struct fm_error *err)
{
    if (list->n == FM_OPT_LIST_MAX)
        return fm_fail(err, FM_ERR_USAGE, "read options: --%s: given more than %d times", o->name, FM_OPT_LIST_MAX);
    list->v[list->n++] = text;
    return FM_OK;
}

/* text NULL: a flag */
static enum fm_status set_value(const struct fm_opt *o, void *into, const char *text, struct fm_error *err)
{
    void *at = (char *)into + o->at;
    switch (o->kind) {
    case FM_OPT_FLAG: *(bool *)at = true; return FM_OK;
    case FM_OPT_TEXT: *(const char **)at = text; return FM_OK;
    case FM_OPT_LIST: return set_list(o, at, text, err);
    case FM_OPT_UINT64: return set_seed(o, at, text, err);
    case FM_OPT_INT:
    case FM_OPT_INT64: return set_whole(o, at, text, err);
    case FM_OPT_FLOAT:
    case FM_OPT_DOUBLE: return set_real(o, at, text, err);
    case FM_OPT_END:
    case FM_OPT_COUNT: break;
    }
    return fm_fail(err, FM_ERR_FAILED, "read options: --%s: its table row has no kind", o->name);
}

/* ---- names ----------------------------------------------------------------------------------------------------- */

/* Insertions, deletions and replacements from a to b; words here are short. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[64];
    size_t nb = strlen(b);
    if (nb >= sizeof row / sizeof *row) return SIZE_MAX;
    for (size_t j = 0; j <= nb; j++) row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[nb];
}

const char *fm_nearest(const char *word, const char *const *names)
{
    const char *best = NULL;
    size_t best_distance = strlen(word) / 3 + 1; /* a typo or two, not another word */
    for (; *names; names++) {
        size_t d = edit_distance(word, *names);
        if (d <= best_distance && (!best || d < best_distance)) {
            best = *names;
            best_distance = d;
        }
    }
    return best;
}

static bool same_name(const char *row, const char *name, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (row[i] != (name[i] == '_' ? '-' : name[i])) return false;
    return !row[n];
}

static const struct fm_opt *find_row(const struct fm_opt_set *sets, const char *name, size_t n, char letter,
                                     void **into)
{
    for (; sets->rows; sets++)
        for (const struct fm_opt *o = sets->rows; o->kind; o++)
            if (letter ? o->letter == letter : same_name(o->name, name, n)) {
                *into = sets->into;
                return o;
            }
    return NULL;
}

static enum fm_status unknown_option(const struct fm_cli *cli, const struct fm_opt_set *sets, const char *arg,
                                     struct fm_error *err)
{
    enum { MAX = 128 };
    const char *names[MAX + 1] = {NULL};
    int n = 0;
    for (; sets->rows; sets++)
        for (const struct fm_opt *o = sets->rows; o->kind && n < MAX; o++) names[n++] = o->name;
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(arg, "="), arg);
    const char *near = arg[1] == '-' ? fm_nearest(name + 2, names) : NULL;
    fm_fail(err, FM_ERR_USAGE, "read options: %s: no such option of fathom %s", name, cli->command->name);
    if (near)
        fm_hint(err, "did you mean --%s?", near);
    else
        fm_hint(err, "fathom %s --help lists the options", cli->command->name);
    return FM_ERR_USAGE;
}

/* ---- help ------------------------------------------------------------------------------------------------------ */

static void print_row(const struct fm_opt *o)
{
    char left[48];
    snprintf(left, sizeof left, "%c%c%s--%s %s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
             o->letter ? ", " : "  ", o->name, o->value ? o->value : "");
    printf("  %-28s %s", left, o->help);
    if (is_number(o->kind) && o->max < 2147483647 && !strchr(o->help, '(')) printf(" (%.15g to %.15g)", o->min, o->max);
    putchar('\n');
}

static void print_help(const struct fm_cli *cli, const struct fm_opt_set *sets)
{
    const struct fm_command *c = cli->command;
    printf("usage: fathom %s [OPTIONS]%s%s\n%s\n\n", c->name, *c->args ? " " : "", c->args, c->summary);
    for (; sets->rows; sets++)
        for (const struct fm_opt *o = sets->rows; o->kind; o++) print_row(o);
    printf("  %-28s %s\n", "-h, --help", "print this");
}

/* ---- parsing --------------------------------------------------------------------------------------------------- */

/* argv[*i] is an option.  Sets its value and moves *i to the last argument used. */
static enum fm_status parse_option(struct fm_cli *cli, const struct fm_opt_set *sets, int *i, struct fm_error *err)
{
    const char *arg = cli->argv[*i], *text = NULL;
    bool is_long = arg[1] == '-';
    size_t n = is_long ? strcspn(arg + 2, "=") : 1;
    void *into = NULL;
    const struct fm_opt *o = find_row(sets, arg + 2, n, is_long ? 0 : arg[1], &into);
    if (!o) return unknown_option(cli, sets, arg, err);
    const char *rest = is_long ? arg + 2 + n : arg + 2;
    if (*rest) text = rest + (*rest == '=');
    if (o->kind == FM_OPT_FLAG) {
        if (!text) return set_value(o, into, NULL, err);
        return fm_fail(err, FM_ERR_USAGE, "read options: %s: --%s takes no value", arg, o->name);
    }
    if (!text) {
        if (*i + 1 >= cli->argc)
            return fm_fail(err, FM_ERR_USAGE, "read options: --%s: its value %s is missing", o->name, o->value);
        text = cli->argv[++*i];
    }
    return set_value(o, into, text, err);
}

enum fm_status fm_opt_parse(struct fm_cli *cli, const struct fm_opt_set *sets, struct fm_words *words,
                            struct fm_error *err)
{
    *words = (struct fm_words){.v = cli->argv};
    bool options = true;
    for (int i = 0; i < cli->argc; i++) {
        char *arg = cli->argv[i];
        if (options && (!strcmp(arg, "--help") || !strcmp(arg, "-h"))) {
            print_help(cli, sets);
            cli->done = true;
            return FM_OK;
        }
        if (options && !strcmp(arg, "--"))
            options = false;
        else if (options && arg[0] == '-' && arg[1])
            FM_TRY(parse_option(cli, sets, &i, err));
        else
            words->v[words->n++] = arg; /* never ahead of i */
    }
    return FM_OK;
}

enum fm_status fm_opt_assign(const struct fm_opt_set *sets, const char *name, const char *text, struct fm_error *err)
{
    void *into = NULL;
    const struct fm_opt *o = find_row(sets, name, strlen(name), 0, &into);
    if (!o || !is_number(o->kind)) return fm_fail(err, FM_ERR_USAGE, "set a value: %.40s: no such setting", name);
    return set_value(o, into, text, err);
}

enum fm_status fm_words_expect(const struct fm_cli *cli, const struct fm_words *w, int min, int max, const char *what,
                               struct fm_error *err)
{
    if (w->n < min)
        fm_fail(err, FM_ERR_USAGE, "read arguments: fathom %s: %s is missing", cli->command->name, what);
    else if (w->n > max)
        fm_fail(err, FM_ERR_USAGE, "read arguments: fathom %s: '%.80s' is one too many", cli->command->name, w->v[max]);
    else
        return FM_OK;
    fm_hint(err, "usage: fathom %s [OPTIONS]%s%s", cli->command->name, *cli->command->args ? " " : "",
            cli->command->args);
    return FM_ERR_USAGE;
}
