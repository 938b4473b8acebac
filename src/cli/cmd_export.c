/* fathom export: a training checkpoint as a model file or folder. */
#include "base/status.h"
#include "cli/setup.h"
#include "cli/term.h"
#include "fathom_train.h"

struct job {
    struct fm_setup setup;
    const char *type;
    bool no_mtp;
};

static const struct fm_opt export_rows[] = {
    {0, "type", FM_OPT_TEXT, offsetof(struct job, type), 0, 0, "T",
     "format of the matrices: F32, F16, BF16, Q8_0, … (default: F32)"},
    {0, "no-mtp", FM_OPT_FLAG, offsetof(struct job, no_mtp), 0, 0, NULL,
     "without the multi-token-prediction block, for readers that do not know it"},
    {0},
};

enum fm_status fm_cmd_export(struct fm_cli *cli, struct fm_error *err)
{
    struct job j = {0};
    const struct fm_opt_set sets[] = {{export_rows, &j}, {fm_log_rows, &j.setup}, {0}};
    struct fm_words words;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&j.setup, err));
    FM_TRY(fm_words_expect(cli, &words, 2, 2, words.n ? "TO" : "FROM", err));
    FM_TRY(fm_train_export(words.v[0], words.v[1], j.type, j.no_mtp, err));
    fm_note("wrote %s", words.v[1]);
    return FM_OK;
}
