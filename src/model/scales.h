/* Weights whose scales lie in a tensor beside them: FP8, FP4 and NVFP4 files.  models.md §9.2-9.5.
 *
 *   codes                     scales, one of                                   a scale counts for
 *   X.weight   F8_E4M3        X.weight_scale_inv   DeepSeek V3                 a block of 128 × 128 (64, 32 …)
 *   X.weight   F4, or packed  X.scale              DeepSeek V4, E8M0           32 columns of a row; a block (FP8)
 *              in I8, U8      X.weight_scale       compressed-tensors,         the matrix, a row, a block;
 *   X.weight_packed  U8                            modelopt, FBGEMM            16 columns of a row (NVFP4)
 *   X.weight   NVFP4 (GGUF)   X.scale                                          the matrix
 *
 * NVFP4 in safetensors has a second level: X.weight_scale_2 (multiplies) or X.weight_global_scale (divides), one number.
 * An E8M0 scale of 255 is NaN, and so are its elements. */
#ifndef FM_MODEL_SCALES_H
#define FM_MODEL_SCALES_H

#include "file/tensors.h"
#include "op/op.h"

/* The tensor `name` (of safetensors also NAME_packed) as weights: two E2M1 codes a byte in I8 or U8, with scales beside
 * them, become F4_E2M1 with twice the columns, in *view.  NULL when there is no such tensor. */
const struct fm_tensor *fm_weight_find(const struct fm_file *f, const char *name, struct fm_tensor *view);

/* The scales of w, as fm_weight_find gives it: a matrix [rows, cols], in GGUF perhaps number `expert` of n_experts stacked
 * ones (else 0 of 1).  out->at NULL: none there, none needed.  edges: of the blocks of FP8, rows and columns, as the config
 * has them, or NULL.  FM_ERR_INPUT naming the tensor: FP8 or FP4 without scales, scales of another shape or format. */
enum fm_status fm_scales_find(const struct fm_file *f, const struct fm_tensor *w, int rows, int cols, int expert,
                              int n_experts, const int *edges, struct fm_scales *out, struct fm_error *err) FM_MUST_USE;

/* Whether w is a matrix (or matrices, stacked) with scales beside it. */
bool fm_scales_beside(const struct fm_file *f, const struct fm_tensor *w);

/* Whether tensor `name` holds the scales, of either level, of w. */
bool fm_scales_are(const struct fm_file *f, const struct fm_tensor *w, const char *name);

#endif
