/* See kept.h. */
#include "server/kept.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct call {
    char *text; /* id, name and arguments one behind the other; NULL: free */
    size_t n_id, n_name, n_arguments;
    int owner;
    uint64_t used; /* the clock when it was last asked for */
};

struct fm_kept {
    pthread_mutex_t lock;
    uint64_t clock;
    struct call calls[FM_KEPT_SETS][FM_KEPT_WAYS];
};

struct fm_kept *fm_kept_new(void)
{
    struct fm_kept *k = fm_calloc(1, sizeof *k);
    if (k && pthread_mutex_init(&k->lock, NULL)) {
        fm_free(k);
        return NULL;
    }
    return k;
}

void fm_kept_free(struct fm_kept *k)
{
    if (!k) return;
    for (int i = 0; i < FM_KEPT_SETS; i++)
        for (int w = 0; w < FM_KEPT_WAYS; w++) fm_free(k->calls[i][w].text);
    (void)pthread_mutex_destroy(&k->lock);
    fm_free(k);
}

/* ---- the table; under the lock ---- */

static struct call *set_of(struct fm_kept *k, int owner, struct fm_span id)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ (uint64_t)(owner + 1); /* FNV-1a */
    for (size_t i = 0; i < id.n; i++) h = (h ^ (unsigned char)id.s[i]) * UINT64_C(0x100000001b3);
    return k->calls[(h ^ h >> 32) % FM_KEPT_SETS];
}

static size_t bytes_of(const struct call *c) { return c->text ? c->n_id + c->n_name + c->n_arguments : 0; }

static void drop(struct call *c)
{
    fm_free(c->text);
    *c = (struct call){0};
}

static struct call *find(struct call *set, int owner, struct fm_span id)
{
    for (int w = 0; w < FM_KEPT_WAYS; w++) {
        struct call *c = &set[w];
        if (c->text && c->owner == owner && c->n_id == id.n && !memcmp(c->text, id.s, id.n)) return c;
    }
    return NULL;
}

/* A free place in a set that has room for that many bytes. */
static struct call *make_room(struct call *set, size_t bytes)
{
    for (;;) {
        struct call *place = NULL, *oldest = NULL;
        size_t sum = 0;
        for (int w = 0; w < FM_KEPT_WAYS; w++) {
            struct call *c = &set[w];
            sum += bytes_of(c);
            if (!c->text)
                place = c;
            else if (!oldest || c->used < oldest->used)
                oldest = c;
        }
        if (place && sum + bytes <= FM_KEPT_BYTES) return place;
        drop(oldest); /* bytes alone fit: while they do not, there is one */
    }
}

void fm_kept_add(struct fm_kept *k, int owner, struct fm_span id, struct fm_span name, struct fm_span arguments)
{
    enum { MAX = FM_KEPT_BYTES };
    if (!k || !id.n || id.n > MAX || name.n > MAX || arguments.n > MAX || id.n + name.n + arguments.n > MAX) return;
    const size_t bytes = id.n + name.n + arguments.n;
    char *text = fm_malloc(bytes);
    if (!text) return;
    memcpy(text, id.s, id.n);
    if (name.n) memcpy(text + id.n, name.s, name.n);
    if (arguments.n) memcpy(text + id.n + name.n, arguments.s, arguments.n);
    (void)pthread_mutex_lock(&k->lock);
    struct call *set = set_of(k, owner, id), *same = find(set, owner, id);
    if (same) drop(same);
    *make_room(set, bytes) = (struct call){
        .text = text, .n_id = id.n, .n_name = name.n, .n_arguments = arguments.n, .owner = owner, .used = ++k->clock};
    (void)pthread_mutex_unlock(&k->lock);
}

/* The arguments of a call of that name, copied into doc; .s NULL: none. */
static struct fm_span look_up(struct fm_kept *k, int owner, struct fm_span id, struct fm_span name,
                              struct fm_py_doc *doc)
{
    struct fm_span out = {NULL, 0};
    (void)pthread_mutex_lock(&k->lock);
    struct call *c = find(set_of(k, owner, id), owner, id);
    if (c && c->n_name == name.n && (!name.n || !memcmp(c->text + c->n_id, name.s, name.n))) {
        c->used = ++k->clock;
        out = (struct fm_span){fm_py_copy(doc, c->text + c->n_id + c->n_name, c->n_arguments), c->n_arguments};
    }
    (void)pthread_mutex_unlock(&k->lock);
    return out;
}

/* ---- the same value ---- */

static bool same_text(struct fm_span a, struct fm_span b) { return a.n == b.n && (!a.n || !memcmp(a.s, b.s, a.n)); }

/* The number, where a double tells it from every other of as many digits. */
static bool exact(struct fm_span s, double *out)
{
    enum { DIGITS = 15 };
    char text[64];
    int digits = 0;
    bool zero = true;
    if (s.n >= sizeof text) return false;
    memcpy(text, s.s, s.n);
    text[s.n] = 0;
    for (const char *c = text; *c && *c != 'e' && *c != 'E'; c++) {
        digits += *c >= '0' && *c <= '9';
        zero &= *c < '1' || *c > '9';
    }
    *out = strtod(text, NULL);
    return digits <= DIGITS && (zero || isnormal(*out));
}

/* Steps that are left: objects with many keys in another order are not worth more. */
static bool same_value(const struct fm_py *a, const struct fm_py *b, long *left)
{
    double x, y;
    if (--*left < 0 || a->kind != b->kind || a->n != b->n) return false;
    if (a->kind == FM_PY_NUMBER)
        return same_text(a->text, b->text) || (exact(a->text, &x) && exact(b->text, &y) && x == y);
    if (a->kind == FM_PY_STRING) return same_text(a->text, b->text);
    const struct fm_py *q = b->first;
    for (const struct fm_py *p = a->first; p; p = p->next) {
        if (a->kind == FM_PY_OBJECT && !same_text(p->key, q->key)) /* else it stands where it is looked for */
            for (q = b->first; q && !same_text(p->key, q->key); q = q->next)
                if (--*left < 0) return false;
        if (!q || !same_value(p, q, left)) return false;
        q = q->next ? q->next : b->first;
    }
    return true;
}

/* ---- a prompt's calls ---- */

struct restoring {
    struct fm_kept *k;
    int owner;
    struct fm_py_doc doc;
    long left; /* of same_value, for all calls together */
    bool any;
};

/* Values of doc are ours to change. */
static struct fm_py *own(const struct fm_py *v) { return (struct fm_py *)v; }

static void restore_call(struct restoring *r, const struct fm_py *call)
{
    static const char prefix[] = "toolu_";
    const struct fm_py *f = fm_py_get(call, "function"), *id = fm_py_get(call, "id"), *name = fm_py_get(f, "name"),
                       *args = fm_py_get(f, "arguments"), *value = args, *kept;
    if (!id || id->kind != FM_PY_STRING || !name || name->kind != FM_PY_STRING || !args) return;
    struct fm_span key = id->text;
    const size_t n = sizeof prefix - 1;
    if (key.n > n && !memcmp(key.s, prefix, n)) key = (struct fm_span){key.s + n, key.n - n};
    const struct fm_span text = look_up(r->k, r->owner, key, name->text, &r->doc);
    if (!text.s || fm_py_parse(&r->doc, text.s, text.n, "", &kept, NULL)) return;
    if (args->kind == FM_PY_STRING && fm_py_parse(&r->doc, args->text.s, args->text.n, "", &value, NULL)) return;
    struct fm_py *flag =
        value->kind == FM_PY_OBJECT && same_value(kept, value, &r->left) ? fm_py_room(&r->doc, sizeof *flag) : NULL;
    if (!flag) return;
    own(args)->kind = FM_PY_STRING;
    own(args)->text = text;
    own(args)->first = NULL;
    own(args)->n = 0;
    *flag = (struct fm_py){.kind = FM_PY_TRUE, .key = {"verbatim", 8}, .next = f->first};
    own(f)->first = flag;
    own(f)->n++;
    r->any = true;
}

bool fm_kept_restore(struct fm_kept *k, int owner, const char *json, size_t n, struct fm_buf *out)
{
    enum { STEPS = 1 << 20 };
    struct restoring r = {.k = k, .owner = owner, .left = STEPS};
    const struct fm_py *v, *messages;
    const size_t before = out->len;
    if (!k || !memmem(json, n, "\"tool_calls\"", 12)) return false;
    if (!fm_py_parse(&r.doc, json, n, "", &v, NULL)) {
        messages = fm_py_get(v, "messages");
        for (const struct fm_py *m = messages ? messages->first : NULL; m; m = m->next) {
            const struct fm_py *calls = fm_py_get(m, "tool_calls");
            for (const struct fm_py *c = calls ? calls->first : NULL; c; c = c->next) restore_call(&r, c);
        }
        if (r.any) fm_py_write(out, v, 0);
    }
    fm_py_release(&r.doc);
    if (r.any && !out->failed) return true;
    out->len = before;
    return false;
}
