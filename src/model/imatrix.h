/* Importance matrices: for each weight matrix the sums of its squared inputs, column by column, over a calibration text.
 *
 *   y = W·x, and W is replaced by W + E:  the expected square of a row's error is Σ_k E[k]²·mean(x_k²) where the inputs are
 *   uncorrelated; so mean(x_k²) is the weight that an encoder gives to errors in column k (quant/format.h).
 *
 * For quantising:
 *
 *   struct fm_imatrix im;
 *   FM_TRY(fm_imatrix_open(&im, path, err));
 *   ... per tensor of n_mats matrices (stacked experts; else 1), each [rows, cols]; weights[n_mats·cols] is the caller's:
 *   FM_TRY(fm_imatrix_weights(&im, "blk.0.ffn_down_exps.weight", n_mats, cols, weights, &found, err));
 *   ... if found: every row of matrix e is encoded with weights + e·cols
 *   fm_imatrix_release(&im);
 *
 * Files: GGUF as llama.cpp writes them today (general.type "imatrix"; imatrix.datasets, .chunk_count, .chunk_size;
 * for each tensor NAME.in_sum2 f32 [matrices, cols] and NAME.counts f32 [matrices, 1]), and, to read only, its older .dat:
 * i32 entries; each i32 length, name, i32 calls, i32 values, f32 mean·calls; then i32 calls, i32 length, name of the text.
 * Names are those of GGUF models. */
#ifndef FM_MODEL_IMATRIX_H
#define FM_MODEL_IMATRIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum {
    FM_IMATRIX_CHUNK = 512,       /* tokens in a chunk where a file does not say        */
    FM_IMATRIX_ENTRIES = 1 << 14, /* tensors */
    FM_IMATRIX_TEXT_ID = 32,
};

struct fm_imatrix_entry {
    char *name;                  /* of the weights: "blk.0.attn_q.weight"                                        */
    uint64_t n_values, n_counts; /* n_counts divides n_values; 1: all matrices of the tensor together (.dat)     */
    float *sums;                 /* [n_values] Σ x², finite, >= 0                                                */
    int64_t *counts;             /* [n_counts] rows that were summed                                             */
};

struct fm_imatrix {
    struct fm_imatrix_entry *entries; /* by name, in the order of strcmp */
    int n;
    char **datasets; /* names of the texts */
    int n_datasets;
    int64_t chunk_count;              /* sequences that were run …               */
    int chunk_size;                   /* … of that many tokens                   */
    char text_id[FM_IMATRIX_TEXT_ID]; /* of the text that can be resumed, or ""  */
};

/* The whole file in memory.  FM_ERR_INPUT names file and tensor; *m is untouched then. */
enum fm_status fm_imatrix_open(struct fm_imatrix *m, const char *path, struct fm_error *err) FM_MUST_USE;
/* The same for n bytes in memory; name stands for the path in messages. */
enum fm_status fm_imatrix_read(struct fm_imatrix *m, const void *data, size_t n, const char *name,
                               struct fm_error *err) FM_MUST_USE;
void fm_imatrix_release(struct fm_imatrix *m); /* of {0} too */

/* NULL when absent; O(log n). */
const struct fm_imatrix_entry *fm_imatrix_find(const struct fm_imatrix *m, const char *name);

/* weights[n_mats, cols] = mean of the squared inputs; ones for a matrix that never had an input.  *found: whether the file
 * has the tensor; if not, weights is untouched.  FM_ERR_INPUT where the file's sizes are others. */
enum fm_status fm_imatrix_weights(const struct fm_imatrix *m, const char *name, int n_mats, int cols, float *weights,
                                  bool *found, struct fm_error *err) FM_MUST_USE;

/* ---- making ---- */

/* A new entry with zero sums and counts, in its place by name.  Pointers to other entries end; sums and counts stay.
 * FM_ERR_INPUT: the name is there already.  where: the file, for messages. */
enum fm_status fm_imatrix_add(struct fm_imatrix *m, const char *name, uint64_t n_values, uint64_t n_counts,
                              const char *where, struct fm_error *err) FM_MUST_USE;
/* Appends a copy of n bytes; a name that is the last one already is not added again. */
enum fm_status fm_imatrix_add_dataset(struct fm_imatrix *m, const char *name, size_t n,
                                      struct fm_error *err) FM_MUST_USE;
/* m += b, tensor by tensor; where: b's file.  m may be {0}.  After a failure m can only be released. */
enum fm_status fm_imatrix_merge(struct fm_imatrix *m, const struct fm_imatrix *b, const char *where,
                                struct fm_error *err) FM_MUST_USE;
/* As GGUF, replacing path in one step. */
enum fm_status fm_imatrix_write(const struct fm_imatrix *m, const char *path, struct fm_error *err) FM_MUST_USE;

/* ---- looking ---- */

/* Of the means (Σ x² over count) of all columns of all matrices that had input. */
struct fm_imatrix_stats {
    uint64_t n_mats, n_seen, cols; /* matrices, those with input, columns of each         */
    int64_t count_min, count_max;  /* rows per matrix                                     */
    double min, max, mean, dev;    /* of the means over columns                           */
    double active;                 /* share of columns with a mean above 1e-5             */
    double entropy;                /* of the means as shares of their sum, over log2(columns): 1 = all the same */
};
void fm_imatrix_measure(const struct fm_imatrix_entry *e, struct fm_imatrix_stats *out);

#endif
