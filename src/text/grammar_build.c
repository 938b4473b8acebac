/* Trees of grammars.  See grammar.h. */
#include <string.h>

#include "base/mem.h"
#include "text/grammar.h"

void fm_gbuild_release(struct fm_gbuild *b)
{
    for (int i = 0; i < b->n_rules; i++) fm_free(b->rules[i].name);
    fm_free(b->nodes);
    fm_free(b->kids);
    fm_free(b->ranges);
    fm_free(b->rules);
    fm_buf_release(&b->bytes);
    *b = (struct fm_gbuild){0};
}

/* Room for `more` behind n of *p; false: b has failed. */
static bool grow(struct fm_gbuild *b, void *p, int n, int *cap, int more, size_t size, int limit)
{
    void **at = p;
    if (more > limit - n) b->too_large = true;
    if (b->failed || b->too_large) return false;
    if (n + more <= *cap) return true;
    int want = *cap ? 2 * *cap : 64;
    while (want < n + more) want *= 2;
    void *room = fm_realloc(*at, (size_t)want * size);
    if (!room) {
        b->failed = true;
        return false;
    }
    *at = room;
    *cap = want;
    return true;
}

static fm_gnode add(struct fm_gbuild *b, struct fm_gnode_data d)
{
    if (!grow(b, &b->nodes, b->n_nodes, &b->cap_nodes, 1, sizeof *b->nodes, FM_GRAMMAR_NODES)) return FM_GNODE_NONE;
    b->nodes[b->n_nodes] = d;
    return b->n_nodes++;
}

static fm_gnode add_bytes(struct fm_gbuild *b, enum fm_gkind kind, const char *s, size_t n, bool flag)
{
    if (n > (size_t)(8 * FM_GRAMMAR_TEXT) - b->bytes.len) b->too_large = true;
    if (b->failed || b->too_large) return FM_GNODE_NONE;
    const struct fm_gnode_data d = {.kind = kind, .flag = flag, .at = (int32_t)b->bytes.len, .n = (int32_t)n};
    fm_buf_add(&b->bytes, s, n);
    b->failed |= b->bytes.failed;
    return add(b, d);
}

fm_gnode fm_g_text(struct fm_gbuild *b, const char *s, size_t n) { return add_bytes(b, FM_G_TEXT, s, n, false); }

fm_gnode fm_g_mark(struct fm_gbuild *b, const char *text)
{
    return add_bytes(b, FM_G_MARK, text, strlen(text) + 1, false); /* its NUL, too */
}

fm_gnode fm_g_free(struct fm_gbuild *b, const char *mark, bool until)
{
    return add_bytes(b, FM_G_FREE, mark, strlen(mark), until);
}

fm_gnode fm_g_class(struct fm_gbuild *b, const struct fm_grange *r, int n, bool negated)
{
    if (!grow(b, &b->ranges, b->n_ranges, &b->cap_ranges, n, sizeof *b->ranges, FM_GRAMMAR_NODES)) return FM_GNODE_NONE;
    const struct fm_gnode_data d = {.kind = FM_G_CLASS, .flag = negated, .at = b->n_ranges, .n = n};
    if (n) memcpy(b->ranges + b->n_ranges, r, (size_t)n * sizeof *r);
    b->n_ranges += n;
    return add(b, d);
}

static fm_gnode add_kids(struct fm_gbuild *b, enum fm_gkind kind, const fm_gnode *kids, int n)
{
    for (int i = 0; i < n; i++)
        if (kids[i] == FM_GNODE_NONE) return FM_GNODE_NONE;
    if (n == 1) return kids[0];
    if (!grow(b, &b->kids, b->n_kids, &b->cap_kids, n, sizeof *b->kids, FM_GRAMMAR_NODES)) return FM_GNODE_NONE;
    const struct fm_gnode_data d = {.kind = kind, .at = b->n_kids, .n = n};
    if (n) memcpy(b->kids + b->n_kids, kids, (size_t)n * sizeof *kids);
    b->n_kids += n;
    return add(b, d);
}

fm_gnode fm_g_seq(struct fm_gbuild *b, const fm_gnode *kids, int n) { return add_kids(b, FM_G_SEQ_, kids, n); }

fm_gnode fm_g_alt(struct fm_gbuild *b, const fm_gnode *kids, int n) { return add_kids(b, FM_G_ALT_, kids, n); }

fm_gnode fm_g_never(struct fm_gbuild *b) { return fm_g_alt(b, NULL, 0); }

fm_gnode fm_g_repeat(struct fm_gbuild *b, fm_gnode kid, uint32_t min, uint32_t max)
{
    if (kid == FM_GNODE_NONE) return FM_GNODE_NONE;
    if (max == 0) return fm_g_text(b, "", 0);
    if (min == 1 && max == 1) return kid;
    const fm_gnode at = fm_g_seq(b, NULL, 0); /* the kid has to lie in the list */
    if (at == FM_GNODE_NONE || !grow(b, &b->kids, b->n_kids, &b->cap_kids, 1, sizeof *b->kids, FM_GRAMMAR_NODES))
        return FM_GNODE_NONE;
    b->nodes[at] = (struct fm_gnode_data){.kind = FM_G_REPEAT, .at = b->n_kids, .n = 1, .min = min, .max = max};
    b->kids[b->n_kids++] = kid;
    return at;
}

fm_gnode fm_g_rule(struct fm_gbuild *b, int rule)
{
    if (rule < 0) return FM_GNODE_NONE;
    return add(b, (struct fm_gnode_data){.kind = FM_G_RULE, .min = (uint32_t)rule});
}

void fm_glist_add(struct fm_gbuild *b, struct fm_glist *l, fm_gnode kid)
{
    if (grow(b, &l->kids, l->n, &l->cap, 1, sizeof *l->kids, FM_GRAMMAR_NODES)) l->kids[l->n++] = kid;
}

fm_gnode fm_glist_alt(struct fm_gbuild *b, struct fm_glist *l)
{
    const fm_gnode all = fm_g_alt(b, l->kids, l->n);
    fm_free(l->kids);
    *l = (struct fm_glist){0};
    return all;
}

/* ---- rules ---- */

int fm_grule_new(struct fm_gbuild *b, const char *name, size_t n, int line)
{
    char *copy = NULL;
    if (!grow(b, &b->rules, b->n_rules, &b->cap_rules, 1, sizeof *b->rules, FM_GRAMMAR_RULES)) return -1;
    if (name && !(copy = fm_malloc(n + 1))) {
        b->failed = true;
        return -1;
    }
    if (name) {
        memcpy(copy, name, n);
        copy[n] = 0;
    }
    b->rules[b->n_rules] = (struct fm_grule){.name = copy, .body = FM_GNODE_NONE, .line = line};
    return b->n_rules++;
}

int fm_grule_find(const struct fm_gbuild *b, const char *name, size_t n)
{
    for (int i = 0; i < b->n_rules; i++)
        if (b->rules[i].name && !strncmp(b->rules[i].name, name, n) && !b->rules[i].name[n]) return i;
    return -1;
}

void fm_grule_define(struct fm_gbuild *b, int rule, fm_gnode body)
{
    if (rule < 0 || body == FM_GNODE_NONE) return;
    b->rules[rule].body = body;
    b->rules[rule].defined = true;
}
