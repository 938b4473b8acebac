/* Added tokens (<|im_end|>, <think>, …) found in raw text: leftmost, then longest.
 *
 * A byte trie: root['<'] ─▶ '|' ─▶ 'i' … each node one byte, first child and next sibling by index.
 * Published tables hold up to 1,300 such tokens whose prefixes are mostly shared. */
#ifndef FM_TEXT_ADDED_H
#define FM_TEXT_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum {
    FM_ADDED_LSTRIP = 1, /* the token swallows white space to its left  */
    FM_ADDED_RSTRIP = 2, /* … to its right                              */
    FM_ADDED_TEXT = 4    /* ordinary text such as "ü", not markup       */
};

struct fm_added_node {
    int32_t child, sibling; /* -1: none                       */
    int32_t id;             /* -1: no token ends here         */
    unsigned char byte, flags;
};

struct fm_added {
    int32_t first[256]; /* node of a first byte, or -1 */
    struct fm_added_node *nodes;
    int32_t n, cap;
    bool any_text; /* some token has FM_ADDED_TEXT */
};

void fm_added_init(struct fm_added *a);
void fm_added_release(struct fm_added *a);
/* An empty text is ignored; the same text again keeps the first id. */
enum fm_status fm_added_insert(struct fm_added *a, const char *text, size_t n, int32_t id, unsigned flags,
                               struct fm_error *err) FM_MUST_USE;
/* Id of the token that is exactly this text, or -1. */
int32_t fm_added_exact(const struct fm_added *a, const char *text, size_t n);
/* First token with all flags of need at or after `from`: its [*begin, *end), white space that it swallows included,
 * and id; false at none. */
bool fm_added_next(const struct fm_added *a, const char *text, size_t n, size_t from, unsigned need, size_t *begin,
                   size_t *end, int32_t *id);

#endif
