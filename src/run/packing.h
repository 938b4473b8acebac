/* Weights from the mapping into memory, laid out for the kernels on the way (op.h).  The bits of every product stay. */
#ifndef FM_RUN_PACKING_H
#define FM_RUN_PACKING_H

#include "model/model.h"

/* The bytes that fm_model_pack would allocate for weights of these shapes (values are not looked at). */
enum fm_status fm_model_pack_bytes(const struct fm_config *cfg, const struct fm_weights *w, size_t *bytes,
                                   struct fm_error *err) FM_MUST_USE;
/* From now on a matrix that products read moves, when the first of them does, into memory of m's own, packed (op.h), in huge
 * pages where there are any.  Its pages of the file are given back to the system on the way: never is more than a few MiB in
 * memory twice. f must outlive m. */
enum fm_status fm_model_pack(struct fm_model *m, const struct fm_file *f, struct fm_error *err) FM_MUST_USE;

#endif
