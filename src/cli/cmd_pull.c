/* fathom pull: a model from the hub into the cache that other programs share, or into a folder. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "cli/pulling.h"
#include "cli/setup.h"
#include "cli/term.h"

struct job {
    struct fm_setup setup;
    struct fm_pull_options pull;
};

#define AT(field) offsetof(struct job, field)

static const struct fm_opt pull_rows[] = {
    {0, "rev", FM_OPT_TEXT, AT(pull.rev), 0, 0, "REV", "branch, tag or commit (default: main)"},
    {0, "dir", FM_OPT_TEXT, AT(pull.dir), 0, 0, "FOLDER", "plain files there, instead of the shared cache"},
    {0, "connections", FM_OPT_INT, AT(pull.connections), 1, 16, "N", "at once for a large file (default: 4)"},
    {0},
};

static void list_names(void)
{
    printf("\nNAME is ORG/REPO, ORG/REPO:FILE, ORG/REPO:Q4_K_M for one quantisation of several, or one of:\n\n"
           "  %-14s %-9s %-8s %-15s %s\n",
           "NAME", "DOWNLOAD", "MEMORY", "LICENCE", "FROM");
    for (int i = 0; fm_hub_name_at(i); i++) {
        const struct fm_hub_name *n = fm_hub_name_at(i);
        printf("  %-14s %-9s %-8s %-15s %s%s%s\n", n->name, n->size, n->memory, n->licence, n->repo,
               *n->file ? ":" : "", n->file);
    }
    printf("\nDOWNLOAD with ~ in front is approximate; MEMORY is about what it takes to run with a context of 4096.\n"
           "Environment: HF_TOKEN for private and gated models, HF_HUB_CACHE or HF_HOME for the place of the cache,\n"
           "HF_ENDPOINT for a mirror, HF_HUB_OFFLINE=1 to send nothing, https_proxy for a proxy.\n");
}

enum fm_status fm_cmd_pull(struct fm_cli *cli, struct fm_error *err)
{
    struct job j = {.pull = {.connections = 4}};
    const struct fm_opt_set sets[] = {{pull_rows, &j}, {fm_log_rows, &j.setup}, {0}};
    struct fm_words words;
    struct fm_hub_ref ref;
    struct fm_hub h;
    char *path = NULL;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done || (words.n == 1 && !strcmp(words.v[0], "help"))) {
        list_names();
        return FM_OK;
    }
    FM_TRY(fm_setup_streams(&j.setup, err));
    FM_TRY(fm_words_expect(cli, &words, 1, 1, "NAME", err));
    if (j.pull.dir && !*j.pull.dir) return fm_fail(err, FM_ERR_USAGE, "read options: --dir: the name is empty");
    FM_TRY(fm_hub_ref_parse(words.v[0], &ref, err));
    FM_TRY(fm_hub_init(&h, err));
    enum fm_status st = fm_pull_shown(&h, &ref, &j.pull, &path, err);
    if (!st) printf("%s\n", path);
    fm_free(path);
    fm_hub_release(&h);
    return st;
}
