/* Guarded buffers, counted checks and sample numbers for check_kernel.c.
 *
 *   │ no access │ … room … [ buffer ] … room … │ no access │      the buffer touches one of the two borders;
 *                                                              what lies around it in the room must not change */
#ifndef KERNEL_HARNESS_H
#define KERNEL_HARNESS_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/rng.h"
#include "kernel/kernel.h"
#include "kernel/math.h"

#define EPS 0x1p-24 /* half an ulp of 1 in float: the error of one rounding, relative */

enum { BUFFERS = 10, ROOM = 4 << 20, FILL = 0xC5, AROUND = 256 };

static struct {
    struct fm_rng rng;
    long passed, failed;
    bool quick;
    unsigned char *room[BUFFERS], *at[BUFFERS];
    size_t bytes[BUFFERS];
} g;

__attribute__((format(printf, 2, 3))) static bool check(bool ok, const char *fmt, ...)
{
    if (ok) {
        g.passed++;
        return true;
    }
    if (g.failed++ < 20) {
        va_list ap;
        va_start(ap, fmt);
        printf("FAILED: ");
        vprintf(fmt, ap);
        va_end(ap);
        putchar('\n');
    }
    return false;
}

static void open_rooms(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < BUFFERS; i++) {
        unsigned char *p = mmap(NULL, ROOM + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || mprotect(p, page, PROT_NONE) || mprotect(p + page + ROOM, page, PROT_NONE)) exit(2);
        g.room[i] = p + page;
    }
}

/* Places of a buffer: against the end, against the start, one element after the start. */
enum place { AT_END, AT_START, AFTER_START, PLACES };

static size_t around_before(int i)
{
    size_t room = (size_t)(g.at[i] - g.room[i]);
    return room < AROUND ? room : AROUND;
}

static size_t around_after(int i)
{
    size_t room = ROOM - (size_t)(g.at[i] - g.room[i]) - g.bytes[i];
    return room < AROUND ? room : AROUND;
}

/* Buffer i with the given size, its surroundings filled.  unit: what AFTER_START skips. */
static void *place(int i, size_t bytes, enum place where, size_t unit)
{
    if (bytes + unit > ROOM) exit(2);
    g.at[i] = where == AT_END ? g.room[i] + ROOM - bytes : g.room[i] + (where == AFTER_START ? unit : 0);
    g.bytes[i] = bytes;
    memset(g.at[i] - around_before(i), FILL, around_before(i));
    memset(g.at[i] + bytes, FILL, around_after(i));
    return g.at[i];
}

static bool all_fill(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != FILL) return false;
    return true;
}

static void check_around(int i, const char *what)
{
    check(all_fill(g.at[i] - around_before(i), around_before(i)) && all_fill(g.at[i] + g.bytes[i], around_after(i)),
          "%s: wrote outside of its output", what);
}

static void fill_nan(float *p, size_t n)
{
    for (size_t i = 0; i < n; i++) p[i] = NAN;
}

/* Numbers of both signs and several binary orders of magnitude. */
static void fill_random(float *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float v = (float)(fm_rng_uniform(&g.rng) * 2 - 1);
        p[i] = i % 5 == 3 ? v * 0.01f : v;
    }
}

static float *floats(int i, size_t n, enum place where)
{
    float *p = place(i, n * sizeof *p, where, sizeof *p);
    fill_random(p, n);
    return p;
}

static float *outputs(int i, size_t n, enum place where)
{
    float *p = place(i, n * sizeof *p, where, sizeof *p);
    fill_nan(p, n);
    return p;
}

/* Equal bits; any NaN equals any NaN (which of two NaN operands survives is left open). */
static bool same1(float a, float b) { return (a != a && b != b) || !memcmp(&a, &b, sizeof a); }

static void same_bits(const float *got, const float *want, size_t n, const char *fmt, ...)
{
    char what[128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    for (size_t i = 0; i < n; i++)
        if (!same1(got[i], want[i])) {
            check(false, "%s: element %zu of %zu is %a, not %a", what, i, n, (double)got[i], (double)want[i]);
            return;
        }
    check(true, "%s", what);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
