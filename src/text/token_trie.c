/* See token_trie.h. */
#include "text/token_trie.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/tokenizer_impl.h"

bool fm_token_is_control(const struct fm_tokenizer *t, int32_t id)
{
    size_t n;
    const char *s = fm_tokenizer_piece(t, id, &n);
    const enum fm_token_type type = s ? t->vocab.tokens[id].type : FM_TOKEN_GAP;
    if (type == FM_TOKEN_CONTROL || type == FM_TOKEN_UNKNOWN) return true;
    /* <think>, <tool_call>: added as plain text, and yet a mark */
    return type == FM_TOKEN_USER && n && (memchr(s, '<', n) || memmem(s, n, "｜", 3)) && fm_utf8_valid(s, n) &&
           *s != ' ';
}

bool fm_token_trie_has_mark(const void *arg, const char *text)
{
    const struct fm_tokenizer *t = ((const struct fm_token_trie *)arg)->tok;
    const int32_t id = fm_added_exact(&t->added, text, strlen(text));
    return id >= 0 && fm_token_is_control(t, id);
}

/* ---- building ---- */

struct entry {
    const unsigned char *s;
    int32_t id;
    uint32_t n;
};

static int by_bytes(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    const uint32_t n = x->n < y->n ? x->n : y->n;
    const int c = memcmp(x->s, y->s, n);
    if (c) return c;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Lists of control and end tokens; entries of the others. */
static int sort_out(struct fm_token_trie *t, bool (*is_end)(const void *arg, int32_t id), const void *arg,
                    struct entry *entries)
{
    int n = 0;
    for (int32_t id = 0; id < t->n_ids; id++) {
        size_t len = 0;
        const char *s = fm_tokenizer_piece(t->tok, id, &len);
        if (is_end(arg, id))
            t->ends[t->n_ends++] = id;
        else if (s && len && fm_token_is_control(t->tok, id))
            t->control[t->n_control++] = id;
        else if (s && len)
            entries[n++] = (struct entry){(const unsigned char *)s, id, (uint32_t)len};
    }
    qsort(entries, (size_t)n, sizeof *entries, by_bytes);
    return n;
}

static uint32_t shared(const struct entry *a, const struct entry *b)
{
    uint32_t k = 0;
    while (k < a->n && k < b->n && a->s[k] == b->s[k]) k++;
    return k;
}

/* Nodes in preorder: entry i opens those that entry i−1 does not have. */
static void fill(struct fm_token_trie *t, const struct entry *e, int n)
{
    t->nodes[0] = (struct fm_trie_node){.depth = 0};
    t->n_nodes = 1;
    for (int i = 0; i < n; i++) {
        for (uint32_t d = i ? shared(&e[i - 1], &e[i]) : 0; d < e[i].n; d++)
            t->nodes[t->n_nodes++] =
                (struct fm_trie_node){.byte = e[i].s[d], .depth = (uint16_t)(d + 1), .rank = (int32_t)i};
        t->order[i] = e[i].id;
        if ((int)e[i].n > t->deepest) t->deepest = (int)e[i].n;
    }
    t->n_ranks = n;
    t->nodes[t->n_nodes] = (struct fm_trie_node){.rank = n}; /* behind all */
}

/* above[d]: the latest node of depth d, whose branch is still open while no node of depth <= d has come. */
static void link_up(struct fm_token_trie *t, int32_t *above)
{
    int open = 0;
    for (int i = 0; i < t->n_nodes; i++) {
        const int d = t->nodes[i].depth;
        for (; open > d; open--) t->nodes[above[open - 1]].behind = i;
        above[open++] = i;
    }
    for (; open; open--) t->nodes[above[open - 1]].behind = t->n_nodes;
}

/* How many more bytes a first byte of UTF-8 wants; −1: it is none. */
static int follows(unsigned char b)
{
    return b < 0x80 ? 0 : b < 0xC2 ? -1 : b < 0xE0 ? 1 : b < 0xF0 ? 2 : b < 0xF5 ? 3 : -1;
}

/* Whether b may come as the k-th byte, from 1, of a character that begins with lead. */
static bool may_follow(unsigned char lead, int k, unsigned char b)
{
    const unsigned char lo = k == 1 && lead == 0xE0   ? 0xA0
                             : k == 1 && lead == 0xF0 ? 0x90
                                                      : 0x80,
                        hi = k == 1 && lead == 0xED   ? 0x9F
                             : k == 1 && lead == 0xF4 ? 0x8F
                                                      : 0xBF;
    return b >= lo && b <= hi;
}

/* From node i on, if a character begins there: is all below it whole?  Children come behind their parents, so they are done.
 * want: bytes still missing of the character that lead began. */
static bool is_whole(const struct fm_token_trie *t, int i, unsigned char lead, int k, int want)
{
    for (int c = i + 1; c < t->nodes[i].behind; c = t->nodes[c].behind) {
        const bool good =
            want ? may_follow(lead, k, t->nodes[c].byte) && is_whole(t, c, lead, k + 1, want - 1) : t->nodes[c].whole;
        if (!good) return false;
    }
    return true;
}

static void summarise(struct fm_token_trie *t)
{
    for (int i = t->n_nodes - 1; i >= 0; i--) {
        struct fm_trie_node *x = &t->nodes[i];
        uint64_t *set = t->ascii[i];
        set[0] = set[1] = 0;
        if (i && x->byte < 0x80) set[x->byte / 64] |= UINT64_C(1) << x->byte % 64;
        x->wide = i && x->byte >= 0x80;
        x->longest = i ? 1 : 0;
        for (int c = i + 1; c < x->behind; c = t->nodes[c].behind) {
            set[0] |= t->ascii[c][0];
            set[1] |= t->ascii[c][1];
            x->wide |= t->nodes[c].wide;
            if (t->nodes[c].longest + (i ? 1 : 0) > x->longest)
                x->longest = (uint16_t)(t->nodes[c].longest + (i ? 1 : 0));
        }
        const int more = follows(x->byte);
        x->whole = i && more >= 0 && is_whole(t, i, x->byte, 1, more);
    }
}

enum fm_status fm_token_trie_new(const struct fm_tokenizer *tok, int32_t n_ids,
                                 bool (*is_end)(const void *arg, int32_t id), const void *arg,
                                 struct fm_token_trie **out, struct fm_error *err)
{
    struct fm_token_trie *t = fm_calloc(1, sizeof *t);
    struct entry *entries = fm_malloc((size_t)n_ids * sizeof *entries);
    int32_t *open = NULL;
    size_t bytes = 2;
    enum fm_status st = FM_OK;
    if (t) {
        *t = (struct fm_token_trie){.n_ids = n_ids, .tok = tok};
        t->order = fm_malloc((size_t)n_ids * sizeof *t->order);
        t->control = fm_malloc((size_t)n_ids * sizeof *t->control);
        t->ends = fm_malloc((size_t)n_ids * sizeof *t->ends);
    }
    if (!t || !entries || !t->order || !t->control || !t->ends) {
        st = fm_fail_memory(err, "a trie of tokens", (size_t)n_ids * sizeof *entries);
        goto out;
    }
    const int n = sort_out(t, is_end, arg, entries);
    for (int i = 0; i < n; i++) bytes += entries[i].n - (i ? shared(&entries[i - 1], &entries[i]) : 0);
    t->nodes = fm_malloc(bytes * sizeof *t->nodes);
    t->ascii = fm_malloc(bytes * sizeof *t->ascii);
    if (t->nodes && t->ascii) {
        fill(t, entries, n);
        open = fm_malloc(((size_t)t->deepest + 1) * sizeof *open);
    }
    if (!open) {
        st = fm_fail_memory(err, "a trie of tokens", bytes * sizeof *t->nodes);
        goto out;
    }
    link_up(t, open);
    summarise(t);
    *out = t;
    t = NULL;
out:
    fm_free(open);
    fm_free(entries);
    fm_token_trie_free(t);
    return st;
}

void fm_token_trie_free(struct fm_token_trie *t)
{
    if (!t) return;
    fm_free(t->nodes);
    fm_free(t->ascii);
    fm_free(t->order);
    fm_free(t->control);
    fm_free(t->ends);
    fm_free(t);
}
