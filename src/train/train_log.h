/* OUT/log.jsonl: one JSON object per line, keys always the same and in the same order; what is unknown is null.
 *
 * step steps_total tokens loss mtp_loss balance_loss val_loss val_bpb lr grad_norm load_max load_min load seconds
 * tokens_per_second flops_per_second event
 *
 * load: at evaluations, for each layer with experts the load of every expert relative to the mean. */
#ifndef FM_TRAIN_LOG_H
#define FM_TRAIN_LOG_H

#include "fathom_train.h"
#include "model/config.h"

struct fm_train_log_file {
    int fd;
    char *path;
};

/* Open for appending.  keep_step < 0: start anew; else lines of later steps, and a line cut by a kill, are dropped. */
enum fm_status fm_train_log_open(struct fm_train_log_file *f, const char *path, int64_t keep_step,
                                 struct fm_error *err) FM_MUST_USE;
/* load: NULL or [(L + n_mtp)·E] counts. */
enum fm_status fm_train_log_write(struct fm_train_log_file *f, const struct fm_train_log *line,
                                  const struct fm_config *cfg, const int64_t *load, struct fm_error *err) FM_MUST_USE;
void fm_train_log_close(struct fm_train_log_file *f);
/* Does the log at path hold the evaluation of this step? */
bool fm_train_log_has_eval(const char *path, int64_t step);

/* Largest and smallest load of any expert, relative to the mean of its layer; NaN without experts or tokens. */
void fm_train_log_loads(const struct fm_config *cfg, const int64_t *load, double *max, double *min);

#endif
