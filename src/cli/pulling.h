/* Models by name: from the cache, or downloaded with a bar and Ctrl-C. */
#ifndef FM_CLI_PULLING_H
#define FM_CLI_PULLING_H

#include "cli/cli.h"
#include "hub/hub.h"

/* fm_hub_pull with its progress on standard error; an interruption is FM_ERR_CANCELLED.  *path is on the heap. */
enum fm_status fm_pull_shown(const struct fm_hub *h, const struct fm_hub_ref *ref, const struct fm_pull_options *o,
                             char **path, struct fm_error *err) FM_MUST_USE;

/* *model names an existing path: stays.  A short name or ORG/REPO[:FILE]: becomes the path in the cache (static), after
 * a download if the user at the terminal agrees.  Anything else stays, and whoever opens it will complain. */
enum fm_status fm_model_locate(const char **model, struct fm_error *err) FM_MUST_USE;

/* The first word of a command line is a model's name rather than a word of a prompt: ORG/REPO or a plain word only when
 * it is in the cache, a short name with a digit or a dash always. */
bool fm_is_model_name(const char *word);

/* A question on standard error, answered on standard input: true for y or yes.  Only with a terminal at both. */
bool fm_can_ask(void);
bool fm_ask(const char *question);

#endif
