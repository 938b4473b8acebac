/* Options as tables.
 *
 *   static const struct fm_opt rows[] = {
 *       {'n', "max-tokens", FM_OPT_INT, offsetof(struct mine, n), 0, 100, "N", "at most N tokens"},
 *       {0},                                             ^ where in the struct  ^ range
 *   };
 *   struct fm_opt_set sets[] = {{rows, &mine}, {fm_engine_rows, &engine}, {0}};
 *
 * Accepted: --name VALUE, --name=VALUE, -n VALUE, -nVALUE, options and words in any order, `--` ends the options.
 * The same rows make `--help` and serve /set in a chat. */
#ifndef FM_CLI_OPTIONS_H
#define FM_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "cli/cli.h"

enum fm_opt_kind {
    FM_OPT_END,    /* the row after the last */
    FM_OPT_FLAG,   /* bool: no value */
    FM_OPT_INT,    /* int            */
    FM_OPT_INT64,  /* int64_t        */
    FM_OPT_UINT64, /* uint64_t       */
    FM_OPT_FLOAT,  /* float          */
    FM_OPT_DOUBLE, /* double         */
    FM_OPT_TEXT,   /* const char *   */
    FM_OPT_LIST,   /* struct fm_opt_list: may be repeated */
    FM_OPT_COUNT
};

struct fm_opt {
    char letter; /* 0: none */
    const char *name;
    enum fm_opt_kind kind;
    size_t at;       /* offset of the value in the struct of the set */
    double min, max; /* of numbers, both included */
    const char *value, *help;
};

struct fm_opt_set {
    const struct fm_opt *rows;
    void *into;
};

enum { FM_OPT_LIST_MAX = 16 };
struct fm_opt_list {
    int n;
    const char *v[FM_OPT_LIST_MAX];
};

/* The words that are no options, in order; v points into the caller's argv. */
struct fm_words {
    int n;
    char **v;
};

/* FM_ERR_USAGE names the option, the text given and what is accepted.  --help prints and sets cli->done. */
enum fm_status fm_opt_parse(struct fm_cli *cli, const struct fm_opt_set *sets, struct fm_words *words,
                            struct fm_error *err) FM_MUST_USE;

/* One assignment by name; _ and - mean the same. */
enum fm_status fm_opt_assign(const struct fm_opt_set *sets, const char *name, const char *text,
                             struct fm_error *err) FM_MUST_USE;

/* FM_ERR_USAGE when there are more than max or less than min words. what: "FILE", for the message. */
enum fm_status fm_words_expect(const struct fm_cli *cli, const struct fm_words *w, int min, int max, const char *what,
                               struct fm_error *err) FM_MUST_USE;

/* The entry of names (NULL-terminated) most like word, or NULL when none is near. */
const char *fm_nearest(const char *word, const char *const *names);

#endif
