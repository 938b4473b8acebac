/* Weights from the mapping into memory, laid out for the kernels on the way (op.h).  The bits of every product stay. */
#ifndef FM_RUN_PACKING_H
#define FM_RUN_PACKING_H

#include "model/model.h"

/* The bytes that fm_model_pack would allocate for weights of these shapes (values are not looked at). */
enum fm_status fm_model_pack_bytes(const struct fm_config *cfg, const struct fm_weights *w, size_t *bytes,
                                   struct fm_error *err) FM_MUST_USE;
/* Moves the matrices that products read into memory of m's own, packed (op.h), in huge pages where there are any.  What was
 * packed is given back to the system piece by piece: never is more than a few MiB in memory twice. */
enum fm_status fm_model_pack(struct fm_model *m, const struct fm_file *f, struct fm_pool *pool,
                             struct fm_error *err) FM_MUST_USE;

#endif
