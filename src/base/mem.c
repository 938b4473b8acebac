/* Heap and page allocation with an injectable failure. */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static atomic_long fail_countdown;

static bool must_fail(void)
{
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) <= 0) return false;
    return atomic_fetch_sub(&fail_countdown, 1) == 1;
}

void fm_mem_fail_at(long n) { atomic_store(&fail_countdown, n); }

void *fm_malloc(size_t bytes) { return must_fail() ? NULL : malloc(bytes ? bytes : 1); }

void *fm_calloc(size_t n, size_t bytes) { return must_fail() ? NULL : calloc(n ? n : 1, bytes ? bytes : 1); }

void *fm_realloc(void *p, size_t bytes) { return must_fail() ? NULL : realloc(p, bytes ? bytes : 1); }

void fm_free(void *p) { free(p); }

char *fm_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = fm_malloc(n);
    if (p) memcpy(p, s, n);
    return p;
}

/* Mappings of 4 MiB and more ask for 2 MiB pages: fewer TLB misses when weights are streamed. */
void *fm_pages_alloc(size_t bytes)
{
    if (must_fail()) return NULL;
    void *p = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    if (bytes >= (size_t)4 << 20) (void)madvise(p, bytes, MADV_HUGEPAGE);
    return p;
}

void fm_pages_free(void *p, size_t bytes)
{
    if (p) (void)munmap(p, bytes ? bytes : 1);
}

bool fm_mul_size(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

bool fm_add_size(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}
