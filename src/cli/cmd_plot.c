/* fathom plot: a training log as a picture. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/status.h"
#include "cli/plot.h"
#include "cli/setup.h"
#include "cli/term.h"

struct job {
    struct fm_setup setup;
    const char *out, *kind;
};

static const struct fm_opt plot_rows[] = {
    {'o', "out", FM_OPT_TEXT, offsetof(struct job, out), 0, 0, "FILE", "FILE.svg or FILE.png (default: LOG with .svg)"},
    {0, "term", FM_OPT_TEXT, offsetof(struct job, kind), 0, 0, "T", "svg, png, or dumb: characters on standard output"},
    {0},
};

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcasecmp(s + n - k, end) == 0;
}

/* --term, else by the file's name. */
static enum fm_status pick_kind(struct job *j, struct fm_error *err)
{
    static const char *const kinds[] = {"svg", "png", "dumb"};
    if (!j->kind) j->kind = j->out && ends_in(j->out, ".png") ? "png" : "svg";
    for (int i = 0; i < 3; i++)
        if (!strcmp(j->kind, kinds[i])) return FM_OK;
    return fm_fail(err, FM_ERR_USAGE, "read options: --term: '%.40s' is none of svg, png, dumb", j->kind);
}

/* A folder stands for the log in it. */
static void find_log(const char *word, char path[PATH_MAX])
{
    struct stat st;
    bool folder = stat(word, &st) == 0 && S_ISDIR(st.st_mode);
    snprintf(path, PATH_MAX, folder ? "%s/log.jsonl" : "%s", word);
}

static void name_output(const char *log, const char *kind, char path[PATH_MAX])
{
    int n = (int)strlen(log) - (ends_in(log, ".jsonl") ? 6 : 0);
    snprintf(path, PATH_MAX, "%.*s.%s", n, log, kind);
}

enum fm_status fm_cmd_plot(struct fm_cli *cli, struct fm_error *err)
{
    struct job j = {0};
    const struct fm_opt_set sets[] = {{plot_rows, &j}, {fm_log_rows, &j.setup}, {0}};
    struct fm_words words;
    char log[PATH_MAX], out[PATH_MAX];
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&j.setup, err));
    FM_TRY(fm_words_expect(cli, &words, 1, 1, "LOG", err));
    FM_TRY(pick_kind(&j, err));
    find_log(words.v[0], log);
    if (!j.out && strcmp(j.kind, "dumb") != 0) {
        name_output(log, j.kind, out);
        j.out = out;
    }
    FM_TRY(fm_plot(log, j.kind, j.out, err));
    if (j.out) fm_note("wrote %s", j.out);
    return FM_OK;
}
