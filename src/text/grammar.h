/* Grammars that answers have to follow: built as trees, compiled to a pushdown automaton over bytes.
 *
 *   GBNF text ──┐
 *   JSON schema ┼─▶ tree of nodes, rules ─▶ operations ─▶ matcher.h: which byte, which token may come next
 *   tool calls ─┘   grammar_build.c         grammar_compile.c
 *
 * A grammar is read-only after it was compiled. */
#ifndef FM_TEXT_GRAMMAR_H
#define FM_TEXT_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"

enum {
    FM_GRAMMAR_NODES = 1 << 20,  /* of a tree                               */
    FM_GRAMMAR_RULES = 1 << 16,  /*                                         */
    FM_GRAMMAR_OPS = 1 << 21,    /* of a program                            */
    FM_GRAMMAR_DEPTH = 200,      /* groups within groups                    */
    FM_GRAMMAR_TEXT = 1 << 20,   /* bytes of a grammar's or a schema's text */
    FM_GRAMMAR_REPEAT = 1 << 20, /* largest bound of a repetition           */
    FM_GRAMMAR_ENTRIES = 4
};
#define FM_NO_MAX UINT32_MAX

/* ---- the tree ---- */

typedef int32_t fm_gnode; /* FM_GNODE_NONE once something failed: it may be passed on */
enum { FM_GNODE_NONE = -1 };

struct fm_grange {
    uint32_t lo, hi; /* code points, both included */
};

struct fm_gnode_data;
struct fm_grule {
    char *name; /* heap; NULL: made by a compiler */
    fm_gnode body;
    int line; /* of its definition or first use; 0: unknown */
    bool defined;
};

struct fm_gbuild {
    struct fm_gnode_data *nodes;
    fm_gnode *kids;
    struct fm_grange *ranges;
    struct fm_grule *rules;
    int n_nodes, cap_nodes, n_kids, cap_kids, n_ranges, cap_ranges, n_rules, cap_rules;
    struct fm_buf bytes;                      /* of literals, marks               */
    int entry[FM_GRAMMAR_ENTRIES], n_entries; /* rules at which a text may begin, too */
    bool failed, too_large;                   /* memory was short; past a limit      */
};

void fm_gbuild_release(struct fm_gbuild *b);

fm_gnode fm_g_text(struct fm_gbuild *b, const char *s, size_t n); /* these bytes; n 0: nothing */
static inline fm_gnode fm_g_str(struct fm_gbuild *b, const char *s) { return fm_g_text(b, s, __builtin_strlen(s)); }
/* A character of the n ranges, or outside of them; no surrogates either way. */
fm_gnode fm_g_class(struct fm_gbuild *b, const struct fm_grange *r, int n, bool negated);
fm_gnode fm_g_never(struct fm_gbuild *b); /* matches nothing */
fm_gnode fm_g_seq(struct fm_gbuild *b, const fm_gnode *kids, int n);
fm_gnode fm_g_alt(struct fm_gbuild *b, const fm_gnode *kids, int n); /* n 0: never */
fm_gnode fm_g_repeat(struct fm_gbuild *b, fm_gnode kid, uint32_t min, uint32_t max /* or FM_NO_MAX */);
fm_gnode fm_g_rule(struct fm_gbuild *b, int rule);
/* A control token's text: said by that token where the vocabulary has it, else spelled out. */
fm_gnode fm_g_mark(struct fm_gbuild *b, const char *text);
/* Any bytes and control tokens in which the mark does not stand; until: and then the mark. */
fm_gnode fm_g_free(struct fm_gbuild *b, const char *mark, bool until);
#define FM_G_SEQ(b, ...) \
    fm_g_seq(b, (const fm_gnode[]){__VA_ARGS__}, (int)(sizeof((fm_gnode[]){__VA_ARGS__}) / sizeof(fm_gnode)))
#define FM_G_ALT(b, ...) \
    fm_g_alt(b, (const fm_gnode[]){__VA_ARGS__}, (int)(sizeof((fm_gnode[]){__VA_ARGS__}) / sizeof(fm_gnode)))
static inline fm_gnode fm_g_maybe(struct fm_gbuild *b, fm_gnode kid) { return fm_g_repeat(b, kid, 0, 1); }

/* A new rule, not yet defined; name[n] is copied, NULL: without. −1: failed. */
int fm_grule_new(struct fm_gbuild *b, const char *name, size_t n, int line);
int fm_grule_find(const struct fm_gbuild *b, const char *name, size_t n); /* −1: unknown */
void fm_grule_define(struct fm_gbuild *b, int rule, fm_gnode body);

/* A list of alternatives that grows; fm_glist_alt makes them a node and gives the list's memory back. */
struct fm_glist {
    fm_gnode *kids;
    int n, cap;
};
void fm_glist_add(struct fm_gbuild *b, struct fm_glist *l, fm_gnode kid);
fm_gnode fm_glist_alt(struct fm_gbuild *b, struct fm_glist *l);

/* Of each rule, whether some text satisfies it.  fm_free; NULL: memory is short. */
bool *fm_grules_end(const struct fm_gbuild *b);

/* ---- inside the tree, for the compiler ---- */

enum fm_gkind { FM_G_TEXT, FM_G_CLASS, FM_G_SEQ_, FM_G_ALT_, FM_G_REPEAT, FM_G_RULE, FM_G_MARK, FM_G_FREE };
struct fm_gnode_data {
    enum fm_gkind kind;
    bool flag;         /* class: negated; free: until     */
    int32_t at, n;     /* bytes, ranges or kids           */
    uint32_t min, max; /* of a repetition; rule: its number in min */
};

/* ---- the program ---- */

enum fm_gop_code {
    FM_GOP_BYTE,  /* one byte of set a, then the next operation                              */
    FM_GOP_CALL,  /* push the next operation, go to a                                        */
    FM_GOP_LOOP,  /* the body follows and ends with RETURN; behind the last round go to a    */
    FM_GOP_SPLIT, /* both the next operation and a                                           */
    FM_GOP_JUMP,  /* a                                                                       */
    FM_GOP_RETURN,
};
enum { FM_GOP_NORMAL = 1, FM_GOP_CONTROL = 2 }; /* bytes of ordinary tokens, of control tokens */
struct fm_gop {
    uint8_t code, channel;
    int32_t a;
    uint32_t min, max; /* of a loop */
};

struct fm_grammar {
    struct fm_gop *ops;
    int32_t n_ops, start, entry[FM_GRAMMAR_ENTRIES]; /* entry: of the build's */
    uint8_t (*sets)[32];                             /* bit per byte */
    int32_t n_sets;
    uint8_t cls[256]; /* bytes that no set tells apart have the same class … */
    int n_cls;
    uint8_t sample[256]; /* … and this one stands for it                        */
    bool control;        /* some operation takes control tokens                 */
};

/* has_mark(arg, text): the vocabulary has a control token of this text; NULL: it has none.  Left recursion, undefined rules
 * and rules that never end are FM_ERR_INPUT with name and line; alternatives that never end are left out silently.  what
 * names the text in messages. */
enum fm_status fm_grammar_compile(const struct fm_gbuild *b, int root,
                                  bool (*has_mark)(const void *arg, const char *text), const void *arg,
                                  const char *what, struct fm_grammar *out, struct fm_error *err) FM_MUST_USE;
void fm_grammar_release(struct fm_grammar *g);

/* ---- texts that become trees ---- */

/* GBNF: rules `name ::= …`, the first or the one called root begins.  *root: its rule.  what: as above. */
enum fm_status fm_gbnf_parse(struct fm_gbuild *b, const char *text, size_t n, const char *what, int *root,
                             struct fm_error *err) FM_MUST_USE;

#endif
