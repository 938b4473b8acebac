/* See added.h. */
#include "text/added.h"

#include <string.h>

#include "base/mem.h"

void fm_added_init(struct fm_added *a)
{
    *a = (struct fm_added){0};
    memset(a->first, 0xff, sizeof a->first);
}

void fm_added_release(struct fm_added *a)
{
    fm_free(a->nodes);
    fm_added_init(a);
}

static int32_t new_node(struct fm_added *a, unsigned char byte)
{
    if (a->n == a->cap) {
        int32_t cap = a->cap ? a->cap * 2 : 256;
        void *p = fm_realloc(a->nodes, (size_t)cap * sizeof *a->nodes);
        if (!p) return -1;
        a->nodes = p;
        a->cap = cap;
    }
    a->nodes[a->n] = (struct fm_added_node){-1, -1, -1, byte, 0};
    return a->n++;
}

/* Child of node (-1: of the root) for byte; -1 when there is none. */
static int32_t step(const struct fm_added *a, int32_t node, unsigned char byte)
{
    int32_t c = node < 0 ? a->first[byte] : a->nodes[node].child;
    while (c >= 0 && a->nodes[c].byte != byte) c = a->nodes[c].sibling;
    return c;
}

enum fm_status fm_added_insert(struct fm_added *a, const char *text, size_t n, int32_t id, unsigned flags,
                               struct fm_error *err)
{
    int32_t node = -1;
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)text[i];
        int32_t next = step(a, node, byte);
        if (next < 0) {
            next = new_node(a, byte);
            if (next < 0) return fm_fail_memory(err, "added tokens", n);
            int32_t *head = node < 0 ? &a->first[byte] : &a->nodes[node].child;
            a->nodes[next].sibling = *head;
            *head = next;
        }
        node = next;
    }
    if (node >= 0 && a->nodes[node].id < 0) {
        a->nodes[node].id = id;
        a->nodes[node].flags = (unsigned char)flags;
        a->any_text |= (flags & FM_ADDED_TEXT) != 0;
    }
    return FM_OK;
}

int32_t fm_added_exact(const struct fm_added *a, const char *text, size_t n)
{
    int32_t node = -1;
    for (size_t i = 0; i < n; i++)
        if ((node = step(a, node, (unsigned char)text[i])) < 0) return -1;
    return node < 0 ? -1 : a->nodes[node].id;
}

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

bool fm_added_next(const struct fm_added *a, const char *text, size_t n, size_t from, unsigned need, size_t *begin,
                   size_t *end, int32_t *id)
{
    if (need & FM_ADDED_TEXT && !a->any_text) return false;
    for (size_t i = from; i < n; i++) {
        int32_t node = a->first[(unsigned char)text[i]], best = -1;
        if (node < 0) continue;
        size_t best_end = i;
        for (size_t k = i + 1;; k++) {
            if (a->nodes[node].id >= 0 && (a->nodes[node].flags & need) == need) {
                best = node;
                best_end = k;
            }
            if (k == n || (node = step(a, node, (unsigned char)text[k])) < 0) break;
        }
        if (best < 0) continue;
        *begin = i;
        *end = best_end;
        *id = a->nodes[best].id;
        if (a->nodes[best].flags & FM_ADDED_LSTRIP)
            while (*begin > from && is_blank(text[*begin - 1])) --*begin;
        if (a->nodes[best].flags & FM_ADDED_RSTRIP)
            while (*end < n && is_blank(text[*end])) ++*end;
        return true;
    }
    return false;
}
