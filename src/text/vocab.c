/* See vocab.h. */
#include "text/vocab.h"

#include <string.h>

#include "base/mem.h"

enum fm_status fm_vocab_init(struct fm_vocab *v, int64_t n, const char *where, struct fm_error *err)
{
    if (n < 0 || n > FM_MAX_VOCAB)
        return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: %lld ids, at most %d are accepted", where, (long long)n,
                       FM_MAX_VOCAB);
    *v = (struct fm_vocab){.n = (int32_t)n};
    v->tokens = fm_calloc((size_t)n, sizeof *v->tokens);
    fm_buf_char(&v->bytes, 0); /* so that bytes.data is never NULL */
    if (!v->tokens || v->bytes.failed) {
        fm_vocab_release(v);
        return fm_fail_memory(err, "vocabulary", (unsigned long long)n * sizeof *v->tokens);
    }
    return FM_OK;
}

void fm_vocab_release(struct fm_vocab *v)
{
    fm_free(v->tokens);
    fm_free(v->slots);
    fm_buf_release(&v->bytes);
    *v = (struct fm_vocab){0};
}

enum fm_status fm_vocab_set(struct fm_vocab *v, int64_t id, const char *bytes, size_t len, enum fm_token_type type,
                            const char *where, struct fm_error *err)
{
    if (id < 0 || id >= v->n)
        return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: token id %lld, the vocabulary has %d", where,
                       (long long)id, v->n);
    if (v->tokens[id].type != FM_TOKEN_GAP)
        return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: token id %lld is given twice", where, (long long)id);
    if (len > FM_MAX_TOKEN_BYTES || v->bytes.len > UINT32_MAX - len)
        return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: token %lld has %zu bytes, at most %d are accepted",
                       where, (long long)id, len, FM_MAX_TOKEN_BYTES);
    size_t offset = v->bytes.len;
    fm_buf_add(&v->bytes, bytes, len);
    if (v->bytes.failed) return fm_fail_memory(err, "vocabulary", len);
    v->tokens[id] = (struct fm_vocab_token){(uint32_t)offset, (uint32_t)len, type};
    return FM_OK;
}

/* Slot of the token with these bytes, or the empty slot where it belongs. */
static uint32_t find_slot(const struct fm_vocab *v, const char *bytes, size_t len)
{
    uint32_t mask = v->n_slots - 1, i = (uint32_t)fm_hash_bytes(bytes, len) & mask;
    for (;; i = (i + 1) & mask) {
        int32_t id = v->slots[i];
        if (id < 0) return i;
        if (v->tokens[id].len == len && !memcmp(fm_vocab_bytes(v, id), bytes, len)) return i;
    }
}

enum fm_status fm_vocab_index(struct fm_vocab *v, struct fm_error *err)
{
    uint32_t n = 16;
    while (n < (uint32_t)v->n * 2) n *= 2;
    int32_t *slots = fm_malloc(n * sizeof *slots);
    if (!slots) return fm_fail_memory(err, "vocabulary index", n * sizeof *slots);
    memset(slots, 0xff, n * sizeof *slots);
    fm_free(v->slots);
    v->slots = slots;
    v->n_slots = n;
    for (int32_t id = 0; id < v->n; id++)
        if (v->tokens[id].type == FM_TOKEN_NORMAL) fm_vocab_index_one(v, id);
    return FM_OK;
}

void fm_vocab_index_one(struct fm_vocab *v, int32_t id)
{
    uint32_t i = find_slot(v, fm_vocab_bytes(v, id), v->tokens[id].len);
    if (v->slots[i] < 0) v->slots[i] = id;
}

int32_t fm_vocab_find(const struct fm_vocab *v, const char *bytes, size_t len)
{
    return v->slots[find_slot(v, bytes, len)];
}
