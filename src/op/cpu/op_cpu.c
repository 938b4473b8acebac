/* The two tables of the CPU. */
#include "op/cpu/backend.h"

const struct fm_ops fm_ops_cpu = {.name = "cpu", FM_OP_ROWS(fm_cpu_)};
const struct fm_ops_grad fm_ops_grad_cpu = {.name = "cpu", FM_OP_GRAD_ROWS(fm_cpu_)};
