/* Where the values of a Q8_0 cache lie.  A head's values are cut into groups of 64 (the last one: what is left, rounded up to
 * a multiple of 16; what is not there is 0).  Of each group a block of 64 rows keeps a tile of int8 and then 64 scales,
 * value = scale · int8:
 *
 *   head   | tile 64×64 | f32[64] | tile 64×64 | f32[64] | … | tile 64×n | f32[64] |        136 bits for 16 values
 *   tile   of keys:    [n/4][64 rows][4]     four values of a row:   a score sums over values
 *          by value:   [64/4][n values][4]   four rows of a value:   an output sums over rows
 *
 * Either is the order in which one instruction multiplies and adds four products.  Rows are written one by one.
 *
 * A group of keys is kept spread, as H·x with H the orthonormal Hadamard matrix, its own inverse: a few large values, as keys
 * have, become many middling ones, which int8 with one scale holds better; scores do not change, (H·q)·(H·k) = q·k
 * (QuaRot, Ashkboos et al. 2024). */
#ifndef FM_OP_KV_TILE_H
#define FM_OP_KV_TILE_H

#include <math.h>

#include "op/op.h"

enum {
    FM_KV_GROUP = 64,                                                                /* values that share a scale  */
    FM_KV_STEP = 16,                                                                 /* a group's width is a multiple */
    FM_KV_TILE_BYTES = FM_KV_GROUP * FM_KV_BLOCK + FM_KV_BLOCK * (int)sizeof(float), /* of a whole group */
};

static inline int fm_kv_groups(int width) { return (width + FM_KV_GROUP - 1) / FM_KV_GROUP; }

/* Width of group g with its padding. */
static inline int fm_kv_group_width(int width, int g)
{
    const int left = width - g * FM_KV_GROUP;
    return left >= FM_KV_GROUP ? FM_KV_GROUP : (left + FM_KV_STEP - 1) / FM_KV_STEP * FM_KV_STEP;
}

/* Width of the groups that hold the first n values of a head, with their padding. */
static inline int fm_kv_padded(int width, int n)
{
    const int g = fm_kv_groups(n) - 1;
    return g * FM_KV_GROUP + fm_kv_group_width(width, g);
}

/* Bytes of a head's 64 rows. */
static inline size_t fm_kv_head_bytes(enum fm_kv_type type, int width)
{
    if (type == FM_KV_F32) return (size_t)FM_KV_BLOCK * (size_t)width * sizeof(fm_real);
    if (type == FM_KV_BF16) return (size_t)FM_KV_BLOCK * (size_t)width * sizeof(uint16_t);
    return (size_t)FM_KV_BLOCK * ((size_t)fm_kv_padded(width, width) + (size_t)fm_kv_groups(width) * sizeof(float));
}

struct fm_kv_tile {
    int8_t *q; /* [64·n] */
    float *d;  /* [64]   */
    int n;
};

/* Group g of head h in block b. */
static inline struct fm_kv_tile fm_kv_tile_at(const struct fm_rows *r, int b, int h, int g)
{
    const int n = fm_kv_group_width(r->width, g);
    int8_t *q = (int8_t *)r->blocks[b] + r->offset + (size_t)h * r->head + (size_t)g * FM_KV_TILE_BYTES;
    return (struct fm_kv_tile){q, (float *)(void *)(q + FM_KV_BLOCK * n), n};
}

/* Place of value i of row s (of the block) in a tile. */
static inline int fm_kv_at(bool by_value, int n, int s, int i)
{
    return by_value ? (s / 4 * n + i) * 4 + s % 4 : (i / 4 * FM_KV_BLOCK + s) * 4 + i % 4;
}

/* A group of n values by H, in place; by pieces of the largest power of two that divides n.  To whoever need not be fast. */
static inline void fm_kv_spread(fm_real *x, int n)
{
    const int size = n & -n;
    const fm_real scale = (fm_real)1 / (fm_real)sqrt((double)size);
    for (int h = 1; h < size; h *= 2)
        for (int i = 0; i < n; i++)
            if (!(i & h)) {
                const fm_real a = x[i], b = x[i + h];
                x[i] = a + b;
                x[i + h] = a - b;
            }
    for (int i = 0; i < n; i++) x[i] *= scale;
}

static inline uint16_t *fm_rows_bf16(const struct fm_rows *r, int s)
{
    return (uint16_t *)r->blocks[s / FM_KV_BLOCK] + (size_t)(s % FM_KV_BLOCK) * r->stride + r->offset;
}

/* Value i of head h of row s, whatever the type, keys of Q8_0 as they are kept, spread; i may be in the last group's padding
 * then.  For whoever need not be fast. */
static inline fm_real fm_rows_value(const struct fm_rows *r, int s, int h, int i)
{
    if (r->flat || r->type == FM_KV_F32) return fm_rows_at(r, s)[(size_t)h * r->head + (size_t)i];
    if (r->type == FM_KV_BF16) return (fm_real)fm_bf16_to_f32(fm_rows_bf16(r, s)[(size_t)h * r->head + (size_t)i]);
    const struct fm_kv_tile t = fm_kv_tile_at(r, s / FM_KV_BLOCK, h, i / FM_KV_GROUP);
    s %= FM_KV_BLOCK;
    return (fm_real)t.d[s] * (fm_real)t.q[fm_kv_at(r->by_value, t.n, s, i % FM_KV_GROUP)];
}

#endif
