/* A vocabulary as a trie over bytes, in preorder, so that whole branches are taken or passed over at once.
 *
 *   node   0 ─┬─ 1 "a" ─── 2 "ab"        behind[1] = 3: the first node that is not below node 1
 *             └─ 3 "b"                   ranks [rank[i], rank[behind[i]]): the tokens at and below node i
 *
 * Tokens that say text stand in the trie; control tokens in a list of their own. */
#ifndef FM_TEXT_TOKEN_TRIE_H
#define FM_TEXT_TOKEN_TRIE_H

#include "text/tokenizer.h"

struct fm_trie_node {
    uint8_t byte;
    bool whole; /* from this node on only UTF-8, of which the last character may be cut short */
    bool wide;  /* … with characters beyond ASCII                                            */
    uint8_t unused;
    uint16_t depth;   /* bytes from the root                                                       */
    uint16_t longest; /* bytes from this node's on, along its longest token                       */
    int32_t behind, rank;
};

struct fm_token_trie {
    struct fm_trie_node *nodes;
    uint64_t (*ascii)[2]; /* of each node: which ASCII bytes stand at and below it */
    int32_t *order;       /* token of a rank                                       */
    int32_t *control;     /* control tokens that are no end                        */
    int32_t *ends;        /* tokens that end an answer                             */
    int n_nodes, n_ranks, n_control, n_ends, n_ids, deepest;
    const struct fm_tokenizer *tok;
};

/* n_ids: of the model's output, at least the tokenizer's.  is_end says which tokens end an answer.  t must outlive it. */
enum fm_status fm_token_trie_new(const struct fm_tokenizer *t, int32_t n_ids,
                                 bool (*is_end)(const void *arg, int32_t id), const void *arg,
                                 struct fm_token_trie **out, struct fm_error *err) FM_MUST_USE;
void fm_token_trie_free(struct fm_token_trie *t);

/* A control token's text, as fm_grammar_compile asks for it; arg: a trie. */
bool fm_token_trie_has_mark(const void *arg, const char *text);
/* Whether a token is a mark of formats rather than text. */
bool fm_token_is_control(const struct fm_tokenizer *t, int32_t id);

#endif
