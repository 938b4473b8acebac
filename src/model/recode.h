/* Tensors from one file into another: decoded row by row, encoded by all threads, written behind.
 *
 *   mapped input ─▶ rows (dequantised, reordered) ─▶ blocks of the new format ─▶ three buffers ─▶ put, on a thread of its own
 *
 * Never more than the buffers and a row per thread in memory; the bytes do not depend on the number of threads. */
#ifndef FM_MODEL_RECODE_H
#define FM_MODEL_RECODE_H

#include "base/pool.h"
#include "file/tensors.h"
#include "model/imatrix.h"
#include "op/op.h"

/* Where row r of the output comes from. */
enum fm_row_order {
    FM_ROWS_SAME,   /* row r of the source                                                                      */
    FM_ROWS_PAIRS,  /* heads of d rows: 2i+p from p·d/2+i, as GGUF files of Llama have q and k (models.md §1.3) */
    FM_ROWS_HALVES, /* the way back                                                                            */
    FM_ROWS_K_B,    /* attn_k_b[h, r, n] from kv_b[h·(Dn+Dv) + n, r]: a head of R rows, transposed             */
    FM_ROWS_V_B,    /* attn_v_b[h, v, r] from kv_b[h·(Dn+Dv) + Dn + v, r]                                      */
    FM_ROWS_KV_B,   /* kv_b from mats[0] = attn_k_b [H·R, Dn] and mats[1] = attn_v_b [H·Dv, R]                 */
};

struct fm_recode_tensor {
    const char *name;      /* in the output                                                                  */
    const char *gguf;      /* its GGUF name: what recipes and importance matrices know; "" when there is none */
    enum fm_fmt fmt, from; /* to write; as it was (of several sources the first's)                      */
    const char *from_name; /* "BF16"                                                                    */
    int n_dims;
    uint64_t shape[FM_MAX_DIMS];
    uint64_t rows, cols;       /* of all slices together; cols is shape[n_dims − 1]                       */
    int n_slices;              /* experts of a stack; 1                                                   */
    const struct fm_mat *mats; /* one per slice, or one for all, or what the order says; NULL: `own` is it  */
    int n_mats;
    struct fm_mat own;
    struct fm_tensor source; /* of own, with its scales beside it; name NULL: not from a file            */
    enum fm_row_order order;
    int head, Dn, Dv, R; /* rows of a head (PAIRS, HALVES); widths of latent attention (K_B …)      */
    bool fixed;          /* keeps its format unless a rule names it: vectors, routers, norms        */
    bool must_f32;       /* … which is F32                                                          */
    bool scaled;         /* the source has scales beside it                                         */
    bool copied;         /* bytes as they are                                                       */
};

struct fm_recode {
    const struct fm_file *file; /* the tensors' own: scales, pages; NULL: not from a file */
    struct fm_pool *pool;       /* NULL: one thread                                  */
    /* The next bytes of the output; never of two tensors in one call; an empty tensor has one call. */
    enum fm_status (*put)(void *arg, const void *data, size_t n, struct fm_error *err);
    void *put_arg;
    const struct fm_imatrix *importance; /* weighs the errors of tensors that it knows; may be NULL */
    void (*progress)(void *arg, uint64_t done, uint64_t total); /* bytes of the input; may be NULL */
    void *progress_arg;
    const volatile int *stop; /* non-zero: FM_ERR_CANCELLED; may be NULL */
};

/* FM_ERR_INPUT naming tensor and row for a value that is not finite, or that F16 cannot hold. */
enum fm_status fm_recode_run(const struct fm_recode *r, const struct fm_recode_tensor *list, int n,
                             struct fm_error *err) FM_MUST_USE;
uint64_t fm_recode_input_bytes(const struct fm_recode_tensor *t);

#endif
