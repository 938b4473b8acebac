/* What the tests of grammars share: a grammar with its matcher. */
#ifndef GRAMMAR_MACHINE_H
#define GRAMMAR_MACHINE_H

#include <string.h>

#include "text/matcher.h"

struct machine {
    struct fm_grammar g;
    struct fm_matcher *m;
};

/* Of the tree, which is given back; st: how it came about. */
static inline enum fm_status open_machine(struct machine *x, struct fm_gbuild *b, int root, enum fm_status st,
                                          const struct fm_token_trie *t, const char *what, struct fm_error *err)
{
    if (!st) st = fm_grammar_compile(b, root, t ? fm_token_trie_has_mark : NULL, t, what, &x->g, err);
    fm_gbuild_release(b);
    if (st) return st;
    st = fm_matcher_new(&x->g, &x->m, err);
    if (st) fm_grammar_release(&x->g);
    return st;
}

static inline void close_machine(struct machine *x)
{
    fm_matcher_free(x->m);
    fm_grammar_release(&x->g);
}

/* Whether the grammar has the text. */
static inline bool takes(struct machine *x, const char *s)
{
    fm_matcher_reset(x->m);
    return fm_matcher_text(x->m, s, strlen(s)) && fm_matcher_accepts(x->m);
}

#endif
