/* The two tables of the reference. */
#include "op/ref/ref.h"

const struct fm_ops fm_ops_ref = {.name = "ref", FM_OP_ROWS(fm_ref_)};
const struct fm_ops_grad fm_ops_grad_ref = {.name = "ref", FM_OP_GRAD_ROWS(fm_ref_)};
