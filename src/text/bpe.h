/* Byte-pair merging: repeatedly join the adjacent pair of lowest rank, leftmost on ties.
 *
 * One engine for all tokenizers.  Byte-level BPE starts from bytes and has the ranks of its merge list; tiktoken files
 * rank a pair by the token it forms; SentencePiece starts from characters and ranks by score.  The last two are turned
 * into a pair table on loading: a pair can merge when both halves and the whole are tokens. */
#ifndef FM_TEXT_BPE_H
#define FM_TEXT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* (left id, right id) → rank and id of the merged token; open addressing, linear probing. */
struct fm_pair {
    uint64_t key; /* left << 32 | right; FM_PAIR_EMPTY: free slot */
    uint32_t rank;
    int32_t id;
};
#define FM_PAIR_EMPTY UINT64_MAX
#define FM_RANK_NONE  UINT32_MAX

struct fm_pairs {
    struct fm_pair *slots;
    uint32_t n_slots; /* a power of two, or 0 */
    uint32_t n;
};

void fm_pairs_release(struct fm_pairs *p);
/* A pair that is known keeps its lower rank. */
enum fm_status fm_pairs_add(struct fm_pairs *p, int32_t left, int32_t right, uint32_t rank, int32_t id,
                            struct fm_error *err) FM_MUST_USE;

static inline const struct fm_pair *fm_pairs_find(const struct fm_pairs *p, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    if (!p->n_slots) return NULL;
    uint32_t mask = p->n_slots - 1, i = (uint32_t)((key * 0x9E3779B97F4A7C15u) >> 32) & mask;
    while (p->slots[i].key != FM_PAIR_EMPTY) {
        if (p->slots[i].key == key) return &p->slots[i];
        i = (i + 1) & mask;
    }
    return NULL;
}

/* Merge ids[0 … *n) in place to the end; *n becomes smaller.  Time O(n log n). */
enum fm_status fm_bpe_merge(const struct fm_pairs *p, int32_t *ids, size_t *n, struct fm_error *err) FM_MUST_USE;

#endif
