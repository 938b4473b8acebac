/* Writing a model folder so that a failure leaves nothing, and an older model in its place untouched.
 *
 *   FOLDER.tmp-<pid>/ ── files … ── rename → FOLDER
 *
 * Where FOLDER exists, its files are replaced one by one at the end; safetensors of the older model that the new one does
 * not have go, other files stay. */
#ifndef FM_FILE_REPLACE_FOLDER_H
#define FM_FILE_REPLACE_FOLDER_H

#include "base/status.h"

struct fm_replace_folder {
    char *path, *tmp; /* files are to be written into tmp */
};

/* FM_ERR_USAGE when path exists and is neither an empty folder nor one with a config.json. */
enum fm_status fm_replace_folder_open(struct fm_replace_folder *r, const char *path, struct fm_error *err) FM_MUST_USE;
/* Both release r. */
enum fm_status fm_replace_folder_commit(struct fm_replace_folder *r, struct fm_error *err) FM_MUST_USE;
void fm_replace_folder_abort(struct fm_replace_folder *r);

#endif
