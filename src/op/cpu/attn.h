/* What the files of attention share: op_attn.c cuts a call into tiles and spans, attn_float.c and attn_q8.c fold keys into
 * them, each in its arithmetic. */
#ifndef FM_OP_CPU_ATTN_H
#define FM_OP_CPU_ATTN_H

#include "op/cpu/backend.h"
#include "op/kv_tile.h"

struct fm_attn_tile;
struct fm_attn_job;

/* One arithmetic. */
struct fm_attn_way {
    /* floats of scratch for a row (states aside), and for a tile */
    size_t (*row_floats)(const struct fm_attn_job *j);
    size_t tile_floats;
    /* the tile's queries into its scratch */
    void (*begin)(const struct fm_attn_job *j, const struct fm_attn_tile *t);
    /* keys s0 … s0+63, as far as the tile's rows see them, into t->now */
    void (*fold)(const struct fm_attn_job *j, const struct fm_attn_tile *t, int s0);
};
extern const struct fm_attn_way fm_attn_float, fm_attn_q8;

enum { FM_ATTN_SPLIT = 64 }; /* tiles whose spans may be apart */

struct fm_attn_job {
    struct fm_ctx *c;
    const struct fm_kernels *kernels;
    const struct fm_attn_way *way;
    float *y, *lse;
    const float *q;
    const struct fm_rows *k, *v;
    const struct fm_attn *a;
    const struct fm_batch *b;
    int ldy;         /* of a state: Dv, rounded up where the way wants it */
    int ldq;         /* bytes of a row's query (q8)                       */
    bool spread;     /* states are, as the keys that are their values are */
    int group;       /* query heads per key head */
    int heads, rows; /* of a tile                */
    int n_tiles;
    bool apart;                   /* spans are tasks; else a thread does all of its tile's */
    int first[FM_ATTN_SPLIT + 1]; /* apart: task of tile i's first span                 */
};

/* What folding leaves behind for the m rows of a tile. */
struct fm_attn_state {
    float *y; /* [m,ldy] unnormalised */
    float *max, *sum;
};

struct fm_attn_tile {
    const struct fm_rows *k, *v;
    int hk;         /* key head                             */
    int row0, pos0; /* first row of the step and its position */
    int n, h0, heads;
    int m;                         /* n·heads gemm rows                       */
    struct fm_attn_state now, all; /* this span; the spans before it together */
    float *scratch;                /* the way's                               */
    int thread;
};

#endif
