/* Blocks of 32 weights as integers, for the int8 products: value = d·scale·code, plus a minimum in some formats.
 * The layouts are drawn in quant/; source: spec models.md §9.5. */
#include <string.h>

#include "kernel/scalar/scalar.h"

enum { BLOCK = 32, HALF = 16 };

static uint16_t u16_at(const unsigned char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return h;
}

static float f16_at(const unsigned char *p) { return fm_f16_to_f32(u16_at(p)); }

/* Sixteen bytes: elements 0 … 15 are the low nibbles, 16 … 31 the high ones. */
static void open_nibbles(struct fm_q8_block *o, const unsigned char *p, int offset)
{
    for (int j = 0; j < HALF; j++) {
        o->code[j] = (p[j] & 15) - offset;
        o->code[j + HALF] = (p[j] >> 4) - offset;
    }
}

static void open_q8_0(struct fm_q8_block *o, const unsigned char *p, int b)
{
    (void)b;
    o->d = f16_at(p);
    for (int j = 0; j < BLOCK; j++) o->code[j] = (int8_t)p[2 + j];
}

static void open_q4_0(struct fm_q8_block *o, const unsigned char *p, int b)
{
    (void)b;
    o->d = f16_at(p);
    open_nibbles(o, p + 2, 8);
}

static void open_q4_1(struct fm_q8_block *o, const unsigned char *p, int b)
{
    (void)b;
    o->d = f16_at(p);
    o->m = f16_at(p + 2);
    open_nibbles(o, p + 4, 0);
}

/* The fifth bits, element j in bit j, then the nibbles. */
static void open_five(struct fm_q8_block *o, const unsigned char *p, int offset)
{
    open_nibbles(o, p + 4, offset);
    for (int j = 0; j < BLOCK; j++) o->code[j] += (p[j / 8] >> j % 8 & 1) << 4;
}

static void open_q5_0(struct fm_q8_block *o, const unsigned char *p, int b)
{
    (void)b;
    o->d = f16_at(p);
    open_five(o, p + 2, 16);
}

static void open_q5_1(struct fm_q8_block *o, const unsigned char *p, int b)
{
    (void)b;
    o->d = f16_at(p);
    o->m = f16_at(p + 2);
    open_five(o, p + 4, 0);
}

/* Scale and minimum of run b of Q4_K and Q5_K: six bits each. */
static void open_scales_k(struct fm_q8_block *o, const unsigned char *p, int b)
{
    const unsigned char *sc = p + 4;
    int scale = b < 4 ? sc[b] & 63 : (sc[b + 4] & 15) | sc[b - 4] >> 6 << 4;
    int min = b < 4 ? sc[b + 4] & 63 : sc[b + 4] >> 4 | sc[b] >> 6 << 4;
    o->d = f16_at(p) * (float)scale;
    o->m = -(f16_at(p + 2) * (float)min);
}

static void open_q4_k(struct fm_q8_block *o, const unsigned char *p, int b)
{
    open_scales_k(o, p, b);
    for (int j = 0; j < BLOCK; j++) o->code[j] = p[16 + b / 2 * 32 + j] >> b % 2 * 4 & 15;
}

static void open_q5_k(struct fm_q8_block *o, const unsigned char *p, int b)
{
    open_scales_k(o, p, b);
    for (int j = 0; j < BLOCK; j++) o->code[j] = (p[48 + b / 2 * 32 + j] >> b % 2 * 4 & 15) | (p[16 + j] >> b & 1) << 4;
}

static void open_q6_k(struct fm_q8_block *o, const unsigned char *p, int b)
{
    const unsigned char *low = p + b / 4 * 64 + b % 2 * 32, *high = p + 128 + b / 4 * 32;
    o->d = f16_at(p + 208);
    for (int h = 0; h < 2; h++) o->scale[h] = (int8_t)p[192 + 2 * b + h];
    for (int j = 0; j < BLOCK; j++)
        o->code[j] = ((low[j] >> (b % 4 < 2 ? 0 : 4) & 15) | (high[j] >> b % 4 * 2 & 3) << 4) - 32;
}

static void open_q2_k(struct fm_q8_block *o, const unsigned char *p, int b)
{
    o->d = f16_at(p + 80);
    o->m = -f16_at(p + 82);
    for (int h = 0; h < 2; h++) {
        o->scale[h] = p[2 * b + h] & 15;
        o->min[h] = p[2 * b + h] >> 4;
    }
    for (int j = 0; j < BLOCK; j++) o->code[j] = p[16 + b / 4 * 32 + j] >> b % 4 * 2 & 3;
}

static void open_q3_k(struct fm_q8_block *o, const unsigned char *p, int b)
{
    o->d = f16_at(p + 108);
    for (int h = 0; h < 2; h++) {
        int i = 2 * b + h;
        o->scale[h] = ((p[96 + i % 8] >> i / 8 * 4 & 15) | (p[104 + i % 4] >> i / 4 * 2 & 3) << 4) - 32;
    }
    for (int j = 0; j < BLOCK; j++) o->code[j] = (p[32 + b / 4 * 32 + j] >> b % 4 * 2 & 3) + 4 * (p[j] >> b & 1) - 4;
}

static void open_levels(struct fm_q8_block *o, const unsigned char *p, const int8_t levels[16])
{
    open_nibbles(o, p, 0);
    for (int j = 0; j < BLOCK; j++) o->code[j] = levels[o->code[j]];
}

static const int8_t uneven[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static void open_iq4_nl(struct fm_q8_block *o, const unsigned char *p, int b)
{
    (void)b;
    o->d = f16_at(p);
    open_levels(o, p + 2, uneven);
}

static void open_iq4_xs(struct fm_q8_block *o, const unsigned char *p, int b)
{
    int scale = (p[4 + b / 2] >> b % 2 * 4 & 15) | (u16_at(p + 2) >> 2 * b & 3) << 4;
    o->d = f16_at(p) * (float)(scale - 32);
    open_levels(o, p + 8 + 16 * b, uneven);
}

static void open_mxfp4(struct fm_q8_block *o, const unsigned char *p, int b)
{
    static const int8_t twice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    (void)b;
    /* 2^(e − 128): exponents below those of normal numbers are single bits of the fraction */
    uint32_t u = p[0] < 2 ? (uint32_t)0x200000 << p[0] : (uint32_t)(p[0] - 1) << 23;
    memcpy(&o->d, &u, sizeof u);
    open_levels(o, p + 1, twice);
}

const struct fm_q8_reader fm_scalar_q8_readers[FM_FMT_COUNT] = {
    [FM_Q8_0] = {open_q8_0, FM_Q8_NO_MINIMUM},     [FM_Q4_0] = {open_q4_0, FM_Q8_NO_MINIMUM},
    [FM_Q4_1] = {open_q4_1, FM_Q8_MINIMUM},        [FM_Q5_0] = {open_q5_0, FM_Q8_NO_MINIMUM},
    [FM_Q5_1] = {open_q5_1, FM_Q8_MINIMUM},        [FM_Q2_K] = {open_q2_k, FM_Q8_TWO_MINIMA},
    [FM_Q3_K] = {open_q3_k, FM_Q8_NO_MINIMUM},     [FM_Q4_K] = {open_q4_k, FM_Q8_MINIMUM},
    [FM_Q5_K] = {open_q5_k, FM_Q8_MINIMUM},        [FM_Q6_K] = {open_q6_k, FM_Q8_NO_MINIMUM},
    [FM_IQ4_NL] = {open_iq4_nl, FM_Q8_NO_MINIMUM}, [FM_IQ4_XS] = {open_iq4_xs, FM_Q8_NO_MINIMUM},
    [FM_MXFP4] = {open_mxfp4, FM_Q8_NO_MINIMUM},
};
