/* The only heap calls of fathom, so that tests can make allocation n fail. */
#ifndef FM_BASE_MEM_H
#define FM_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As malloc, calloc, realloc, free; 0 bytes give a valid pointer. NULL when memory is short. */
void *fm_malloc(size_t bytes);
void *fm_calloc(size_t n, size_t bytes);
void *fm_realloc(void *p, size_t bytes);
void fm_free(void *p);
char *fm_strdup(const char *s);

/* 64-byte aligned, zeroed lazily by the kernel (anonymous mapping); bytes must be passed back to free.
 * Asks for huge pages.  NULL when memory is short. */
void *fm_pages_alloc(size_t bytes);
void fm_pages_free(void *p, size_t bytes);

/* *out = a*b or a+b; false on overflow (out untouched). */
bool fm_mul_size(size_t a, size_t b, size_t *out);
bool fm_add_size(size_t a, size_t b, size_t *out);

/* Tests only: make the n-th allocation from now on fail (1 = the next); 0 = never. */
void fm_mem_fail_at(long n);

#endif
