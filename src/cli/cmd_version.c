/* fathom version */
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "cli/setup.h"
#include "commit.h" /* made by the Makefile: FM_COMMIT */

enum fm_status fm_cmd_version(struct fm_cli *cli, struct fm_error *err)
{
    struct fm_setup s = {0};
    const struct fm_opt_set sets[] = {{fm_json_row, &s}, {0}};
    struct fm_words words;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_words_expect(cli, &words, 0, 0, "", err));
    printf(s.json ? "{\"name\":\"fathom\",\"version\":\"%s\",\"commit\":\"%s\",\"cpu\":\"%s\",\"threads\":%d}\n"
                  : "fathom %s\ncommit %s\ncpu %s\nthreads %d\n",
           FM_VERSION, FM_COMMIT, fm_cpu_tier(), fm_default_threads());
    return FM_OK;
}
