/* The options that decide the numbers of a run: filled in, checked, kept in the checkpoint, compared on resume. */
#ifndef FM_TRAIN_SETTINGS_H
#define FM_TRAIN_SETTINGS_H

#include "base/json.h"
#include "fathom_train.h"
#include "train/presets.h"

/* Every number within its limits, or FM_ERR_USAGE naming it. */
enum fm_status fm_settings_check(const struct fm_train_options *o, struct fm_error *err) FM_MUST_USE;
/* What is 0 becomes the preset's (NULL: that of a config.json of unknown origin). */
void fm_settings_fill(struct fm_train_options *o, const struct fm_preset_row *p);
/* New reference, or NULL when memory is short. */
json_t *fm_settings_to_json(const struct fm_train_options *o);
/* Resume: a setting left at its default takes the stored value; another that differs from it is FM_ERR_USAGE. */
enum fm_status fm_settings_resume(struct fm_train_options *o, const json_t *stored, struct fm_error *err) FM_MUST_USE;

#endif
