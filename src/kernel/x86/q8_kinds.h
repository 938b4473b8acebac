/* Tiles of the panel kernels: one function per kind of arithmetic, height and width, each an instance of the file's own
 * tile(format, ni, nj, job, i0, g0).  Formats of the same kind share them. */
#ifndef FM_KERNEL_X86_Q8_KINDS_H
#define FM_KERNEL_X86_Q8_KINDS_H

struct job;
struct q8_format;

/* Rows of x from i0 on by groups of rows of W from g0 on. */
typedef void (*tile_fn)(const struct job *job, int i0, int g0);

struct kind {
    const struct q8_format *format;
    tile_fn tiles[2][2]; /* [one row, four rows of x][one, two groups] */
};

#define Q8_TILE(name, ni, nj) \
    static void name##_##ni##_##nj(const struct job *job, int i0, int g0) { tile(&name, ni, nj, job, i0, g0); }
#define Q8_KIND(name, ...)                              \
    static const struct q8_format name = {__VA_ARGS__}; \
    Q8_TILE(name, 1, 1)                                 \
    Q8_TILE(name, 1, 2)                                 \
    Q8_TILE(name, 4, 1)                                 \
    Q8_TILE(name, 4, 2)                                 \
    static const struct kind kind_##name = {&name, {{name##_1_1, name##_1_2}, {name##_4_1, name##_4_2}}};

#endif
