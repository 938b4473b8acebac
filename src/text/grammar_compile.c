/* From the tree to a program.  What can never end is found first and left out; then rules that begin with themselves are
 * refused, for the matcher would follow them for ever. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/grammar.h"

enum { SETS_MAX = 8192, SET_SLOTS = 2 * SETS_MAX, MARK_MAX = 64 };

struct facts {
    bool ends, empty; /* matches some text; matches no text at all */
};

struct compiler {
    const struct fm_gbuild *b;
    struct fm_grammar *g;
    bool (*has_mark)(const void *arg, const char *text);
    const void *arg;
    struct fm_error *err;
    const char *what;
    struct facts *facts; /* of rules                          */
    int32_t *pc;         /* of rules, −1: not yet wanted       */
    int *queue;          /* of rules                          */
    int cap_ops, n_queue, n_reached;
    int32_t slots[SET_SLOTS]; /* sets by hash, −1: free            */
    bool failed, too_large;
};

/* ---- what ends, what may be empty ---- */

static struct facts facts_of(const struct compiler *c, fm_gnode at)
{
    const struct fm_gbuild *b = c->b;
    const struct fm_gnode_data *d = &b->nodes[at];
    struct facts f = {d->kind != FM_G_ALT_, d->kind == FM_G_SEQ_};
    if (d->kind == FM_G_RULE) return c->facts[d->min];
    if (d->kind == FM_G_TEXT) return (struct facts){true, d->n == 0};
    if (d->kind == FM_G_FREE) return (struct facts){true, !d->flag};
    if (d->kind == FM_G_CLASS || d->kind == FM_G_MARK) return (struct facts){true, false};
    for (int i = 0; i < d->n; i++) {
        const struct facts k = facts_of(c, b->kids[d->at + i]);
        if (d->kind == FM_G_REPEAT) return (struct facts){k.ends || !d->min, k.empty || !d->min};
        f.ends = d->kind == FM_G_SEQ_ ? f.ends && k.ends : f.ends || k.ends;
        f.empty = d->kind == FM_G_SEQ_ ? f.empty && k.empty : f.empty || k.empty;
    }
    return f;
}

/* Who mentions a rule: edges[from[r] … from[r + 1]). */
struct mentions {
    int *from, *edges;
};

static void note_mentions(const struct fm_gbuild *b, fm_gnode at, int rule, int *count, int *edges)
{
    const struct fm_gnode_data *d = &b->nodes[at];
    if (d->kind == FM_G_RULE) {
        if (edges) edges[count[d->min]] = rule;
        count[d->min]++;
    }
    if (d->kind != FM_G_SEQ_ && d->kind != FM_G_ALT_ && d->kind != FM_G_REPEAT) return;
    for (int i = 0; i < d->n; i++) note_mentions(b, b->kids[d->at + i], rule, count, edges);
}

static bool mentions_of(const struct fm_gbuild *b, struct mentions *m)
{
    const int n = b->n_rules;
    int *count = fm_calloc((size_t)n + 1, sizeof *count);
    m->from = fm_calloc((size_t)n + 1, sizeof *m->from);
    m->edges = NULL;
    if (count && m->from) {
        for (int r = 0; r < n; r++)
            if (b->rules[r].defined) note_mentions(b, b->rules[r].body, r, count, NULL);
        for (int r = 0; r < n; r++) m->from[r + 1] = m->from[r] + count[r];
        m->edges = fm_malloc((size_t)(m->from[n] + 1) * sizeof *m->edges);
    }
    if (m->edges) {
        memcpy(count, m->from, (size_t)(n + 1) * sizeof *count);
        for (int r = 0; r < n; r++)
            if (b->rules[r].defined) note_mentions(b, b->rules[r].body, r, count, m->edges);
    }
    fm_free(count);
    return m->edges;
}

/* The least fixed point, by a queue of rules whose parts have changed. */
static bool find_facts(struct compiler *c)
{
    const struct fm_gbuild *b = c->b;
    const int n = b->n_rules;
    struct mentions m = {0};
    bool *waits = fm_calloc((size_t)n + 1, 1);
    const bool ok = mentions_of(b, &m) && waits;
    int first = 0, left = 0;
    for (int r = n - 1; ok && r >= 0; r--) {
        c->queue[left++] = r;
        waits[r] = true;
    }
    while (left) {
        const int r = c->queue[first];
        first = first + 1 == n ? 0 : first + 1;
        left--;
        waits[r] = false;
        if (!b->rules[r].defined) continue;
        const struct facts f = facts_of(c, b->rules[r].body);
        if (f.ends == c->facts[r].ends && f.empty == c->facts[r].empty) continue;
        c->facts[r] = f;
        for (int i = m.from[r]; i < m.from[r + 1]; i++) {
            if (waits[m.edges[i]]) continue;
            waits[m.edges[i]] = true;
            c->queue[(first + left++) % n] = m.edges[i];
        }
    }
    fm_free(waits);
    fm_free(m.from);
    fm_free(m.edges);
    return ok;
}

bool *fm_grules_end(const struct fm_gbuild *b)
{
    const size_t n = (size_t)b->n_rules + 1;
    struct compiler c = {.b = b, .facts = fm_calloc(n, sizeof *c.facts), .queue = fm_malloc(n * sizeof *c.queue)};
    bool *ends = fm_calloc(n, sizeof *ends);
    const bool ok = ends && c.facts && c.queue && find_facts(&c);
    for (int r = 0; ok && r < b->n_rules; r++) ends[r] = c.facts[r].ends;
    fm_free(c.facts);
    fm_free(c.queue);
    if (ok) return ends;
    fm_free(ends);
    return NULL;
}

/* ---- complaints ---- */

static enum fm_status complain(struct compiler *c, int rule, const char *why)
{
    const struct fm_grule *r = &c->b->rules[rule];
    if (!r->name) return fm_fail(c->err, FM_ERR_INPUT, "%s: %s", c->what, why);
    return fm_fail(c->err, FM_ERR_INPUT, "%s: line %d, rule %.80s: %s", c->what, r->line, r->name, why);
}

/* Named rules are a person's: all of them have to make sense. */
static enum fm_status check_rules(struct compiler *c, int root)
{
    for (int r = 0; r < c->b->n_rules; r++)
        if (c->b->rules[r].name && !c->b->rules[r].defined) return complain(c, r, "it is not defined");
    for (int r = 0; r < c->b->n_rules; r++)
        if (c->b->rules[r].name && !c->facts[r].ends) return complain(c, r, "useless: no text of it ever ends");
    return c->facts[root].ends ? FM_OK : complain(c, root, "no text can satisfy it");
}

/* ---- left recursion: no rule may come back to itself before a byte ---- */

/* Calls fn for each rule that a text of this node may begin with. */
static void each_first(struct compiler *c, fm_gnode at, void (*fn)(struct compiler *c, int rule, void *arg), void *arg)
{
    const struct fm_gnode_data *d = &c->b->nodes[at];
    if (d->kind == FM_G_RULE) fn(c, (int)d->min, arg);
    if (d->kind != FM_G_SEQ_ && d->kind != FM_G_ALT_ && d->kind != FM_G_REPEAT) return;
    for (int i = 0; i < d->n; i++) {
        const fm_gnode kid = c->b->kids[d->at + i];
        const struct facts f = facts_of(c, kid);
        if (f.ends) each_first(c, kid, fn, arg);
        if (d->kind == FM_G_SEQ_ && !f.empty) return;
    }
}

struct walk {
    int *stack, n;
    uint8_t *state; /* 0 new, 1 on the way, 2 done */
    int culprit;
};

static void visit(struct compiler *c, int rule, void *arg)
{
    struct walk *w = arg;
    (void)c;
    if (w->state[rule] == 1) w->culprit = rule;
    if (w->state[rule] == 0) w->stack[w->n++] = rule; /* may stand there twice: see below */
}

static void count_one(struct compiler *c, int rule, void *arg)
{
    (void)c;
    (void)rule;
    ++*(int *)arg;
}

/* Depth first with an own stack: a rule is on the way from when it is opened until it comes up again. */
static enum fm_status check_left(struct compiler *c)
{
    const int n = c->b->n_rules;
    int edges = n + 1;
    enum fm_status st = FM_OK;
    for (int r = 0; r < n; r++)
        if (c->facts[r].ends) each_first(c, c->b->rules[r].body, count_one, &edges);
    struct walk w = {
        .stack = fm_malloc((size_t)edges * sizeof(int)), .state = fm_calloc((size_t)n + 1, 1), .culprit = -1};
    if (!w.stack || !w.state) st = fm_fail_memory(c->err, "a grammar", (size_t)edges * sizeof(int));
    for (int r = 0; !st && r < n; r++) {
        if (!c->facts[r].ends || w.state[r]) continue;
        w.stack[w.n++] = r;
        while (w.n && w.culprit < 0) {
            const int top = w.stack[w.n - 1];
            if (w.state[top] == 0) {
                w.state[top] = 1;
                each_first(c, c->b->rules[top].body, visit, &w);
            } else {
                w.state[top] = 2;
                w.n--;
            }
        }
        if (w.culprit >= 0) st = complain(c, w.culprit, "it begins with itself: left recursion");
    }
    fm_free(w.stack);
    fm_free(w.state);
    return st;
}

/* ---- emitting ---- */

static int32_t emit(struct compiler *c, struct fm_gop op)
{
    struct fm_grammar *g = c->g;
    if (c->failed || c->too_large) return 0;
    if (g->n_ops == FM_GRAMMAR_OPS) {
        c->too_large = true;
        return 0;
    }
    if (g->n_ops == c->cap_ops) {
        const int cap = c->cap_ops ? 2 * c->cap_ops : 256;
        void *room = fm_realloc(g->ops, (size_t)cap * sizeof *g->ops);
        if (!room) {
            c->failed = true;
            return 0;
        }
        g->ops = room;
        c->cap_ops = cap;
    }
    g->ops[g->n_ops] = op;
    return g->n_ops++;
}

static int32_t emit_code(struct compiler *c, enum fm_gop_code code)
{
    return emit(c, (struct fm_gop){.code = (uint8_t)code});
}

/* Operation `at` goes to the place that comes next. */
static void land(struct compiler *c, int32_t at)
{
    if (!c->failed && !c->too_large) c->g->ops[at].a = c->g->n_ops;
}

static int32_t intern_set(struct compiler *c, const uint8_t set[32])
{
    struct fm_grammar *g = c->g;
    uint32_t h = 2166136261u;
    for (int i = 0; i < 32; i++) h = (h ^ set[i]) * 16777619u;
    uint32_t at = h % SET_SLOTS;
    for (; c->slots[at] >= 0; at = (at + 1) % SET_SLOTS)
        if (!memcmp(g->sets[c->slots[at]], set, 32)) return c->slots[at];
    if (g->n_sets == SETS_MAX) {
        c->too_large = true;
        return 0;
    }
    memcpy(g->sets[g->n_sets], set, 32);
    return c->slots[at] = g->n_sets++;
}

static void emit_set(struct compiler *c, const uint8_t set[32], int channel)
{
    emit(c, (struct fm_gop){.code = FM_GOP_BYTE, .channel = (uint8_t)channel, .a = intern_set(c, set)});
}

static void set_range(uint8_t set[32], int lo, int hi)
{
    for (int i = lo; i <= hi; i++) set[i / 8] |= (uint8_t)(1 << i % 8);
}

static void emit_byte(struct compiler *c, unsigned char byte, int channel)
{
    uint8_t set[32] = {0};
    set_range(set, byte, byte);
    emit_set(c, set, channel);
}

/* ---- classes of characters: alternatives of ranges of bytes ---- */

struct class_job {
    struct compiler *c;
    uint8_t ascii[32];
    int32_t *jumps; /* to the end */
    int n, cap;
};

static void class_jump(struct class_job *j)
{
    if (j->n == j->cap) {
        const int cap = j->cap ? 2 * j->cap : 16;
        void *room = fm_realloc(j->jumps, (size_t)cap * sizeof *j->jumps);
        if (!room) {
            j->c->failed = true;
            return;
        }
        j->jumps = room;
        j->cap = cap;
    }
    j->jumps[j->n++] = emit_code(j->c, FM_GOP_JUMP);
}

static int encode(uint32_t c, uint8_t out[4])
{
    const int n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (int i = n - 1; i > 0; i--, c >>= 6) out[i] = (uint8_t)(0x80 | (c & 0x3F));
    out[0] = (uint8_t)(lead[n] | c);
    return n;
}

/* Cut until every byte of the encodings runs through a range of its own. */
static void class_range(struct class_job *j, uint32_t lo, uint32_t hi)
{
    static const uint32_t last[] = {0x7F, 0x7FF, 0xFFFF};
    uint8_t a[4], z[4];
    if (hi <= 0x7F) {
        set_range(j->ascii, (int)lo, (int)hi);
        return;
    }
    for (int i = 0; i < 3; i++)
        if (lo <= last[i] && hi > last[i]) {
            class_range(j, lo, last[i]);
            class_range(j, last[i] + 1, hi);
            return;
        }
    const int n = encode(lo, a);
    for (int i = 1; i < n; i++) {
        const uint32_t m = (1u << 6 * i) - 1;
        if ((lo & ~m) == (hi & ~m)) continue;
        const uint32_t cut = lo & m ? lo | m : (hi & ~m) - 1;
        if (!(lo & m) && (hi & m) == m) continue;
        class_range(j, lo, cut);
        class_range(j, cut + 1, hi);
        return;
    }
    (void)encode(hi, z);
    const int32_t split = emit_code(j->c, FM_GOP_SPLIT);
    for (int i = 0; i < n; i++) {
        uint8_t set[32] = {0};
        set_range(set, a[i], z[i]);
        emit_set(j->c, set, FM_GOP_NORMAL);
    }
    class_jump(j);
    land(j->c, split);
}

/* Without the surrogates, which no UTF-8 holds. */
static void class_real(struct class_job *j, uint32_t lo, uint32_t hi)
{
    if (hi > 0x10FFFF) hi = 0x10FFFF;
    if (lo > hi) return;
    if (hi < 0xD800 || lo > 0xDFFF) {
        class_range(j, lo, hi);
        return;
    }
    if (lo < 0xD800) class_range(j, lo, 0xD7FF);
    if (hi > 0xDFFF) class_range(j, 0xE000, hi);
}

static int by_lo(const void *a, const void *b)
{
    const struct fm_grange *x = a, *y = b;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

static void emit_class(struct compiler *c, const struct fm_gnode_data *d)
{
    struct class_job j = {.c = c};
    struct fm_grange *r = fm_malloc((size_t)(d->n + 1) * sizeof *r);
    if (!r) {
        c->failed = true;
        return;
    }
    if (d->n) memcpy(r, c->b->ranges + d->at, (size_t)d->n * sizeof *r);
    qsort(r, (size_t)d->n, sizeof *r, by_lo);
    uint32_t next = 0; /* all below is done */
    for (int i = 0; i < d->n; i++) {
        if (d->flag && r[i].lo > next) class_real(&j, next, r[i].lo - 1);
        const uint32_t lo = r[i].lo > next ? r[i].lo : next;
        if (!d->flag && lo <= r[i].hi) class_real(&j, lo, r[i].hi);
        if (r[i].hi + 1 > next) next = r[i].hi + 1;
    }
    if (d->flag) class_real(&j, next, 0x10FFFF);
    emit_set(c, j.ascii, FM_GOP_NORMAL);
    for (int i = 0; i < j.n; i++) land(c, j.jumps[i]);
    fm_free(j.jumps);
    fm_free(r);
}

/* ---- free text: the automaton of Knuth, Morris and Pratt that looks for the mark ---- */

static void emit_free(struct compiler *c, const struct fm_gnode_data *d)
{
    const unsigned char *mark = (const unsigned char *)c->b->bytes.data + d->at;
    const int m = d->n;
    int fall[MARK_MAX + 1] = {0};
    int32_t pc[MARK_MAX], ends[2 * MARK_MAX], n_ends = 0;
    struct {
        int32_t at;
        int to;
    } jumps[MARK_MAX * (MARK_MAX + 1)];
    int n_jumps = 0;
    if (m < 1 || m > MARK_MAX) {
        c->too_large = true;
        return;
    }
    for (int i = 1, k = 0; i < m; i++) {
        while (k && mark[i] != mark[k]) k = fall[k];
        k += mark[i] == mark[k];
        fall[i + 1] = k;
    }
    for (int s = 0; s < m; s++) {
        uint8_t to[MARK_MAX + 1][32] = {{0}};
        bool any[MARK_MAX + 1] = {false};
        for (int byte = 0; byte < 256; byte++) {
            int k = s;
            while (k && mark[k] != byte) k = fall[k];
            k += mark[k] == byte;
            any[k] = true;
            set_range(to[k], byte, byte);
        }
        pc[s] = c->g->n_ops;
        if (!d->flag) ends[n_ends++] = emit_code(c, FM_GOP_SPLIT); /* it may end here */
        for (int k = 0; k <= m; k++) {
            if (!any[k] || (k == m && !d->flag)) continue;
            const int32_t split = emit_code(c, FM_GOP_SPLIT);
            emit_set(c, to[k], FM_GOP_NORMAL | FM_GOP_CONTROL);
            const int32_t jump = emit_code(c, FM_GOP_JUMP);
            land(c, split);
            if (k == m)
                ends[n_ends++] = jump;
            else
                jumps[n_jumps].at = jump, jumps[n_jumps++].to = k;
        }
        emit_set(c, (const uint8_t[32]){0}, FM_GOP_NORMAL); /* the last split leads to nothing */
    }
    c->g->control = true;
    if (c->failed || c->too_large) return;
    for (int i = 0; i < n_jumps; i++) c->g->ops[jumps[i].at].a = pc[jumps[i].to];
    for (int i = 0; i < n_ends; i++) land(c, ends[i]);
}

/* ---- nodes ---- */

static void emit_node(struct compiler *c, fm_gnode at);

static void emit_mark(struct compiler *c, const char *text)
{
    const bool token = c->has_mark && c->has_mark(c->arg, text);
    c->g->control |= token;
    for (; *text; text++) emit_byte(c, (unsigned char)*text, token ? FM_GOP_CONTROL : FM_GOP_NORMAL);
}

static void emit_alt(struct compiler *c, const struct fm_gnode_data *d)
{
    int32_t *jumps = fm_malloc((size_t)(d->n + 1) * sizeof *jumps), n = 0;
    int last = -1;
    if (!jumps) {
        c->failed = true;
        return;
    }
    for (int i = 0; i < d->n; i++)
        if (facts_of(c, c->b->kids[d->at + i]).ends) last = i;
    if (last < 0) emit_set(c, (const uint8_t[32]){0}, FM_GOP_NORMAL);
    for (int i = 0; i <= last; i++) {
        if (!facts_of(c, c->b->kids[d->at + i]).ends) continue;
        const int32_t split = i < last ? emit_code(c, FM_GOP_SPLIT) : 0;
        emit_node(c, c->b->kids[d->at + i]);
        if (i == last) break;
        jumps[n++] = emit_code(c, FM_GOP_JUMP);
        land(c, split);
    }
    for (int i = 0; i < n; i++) land(c, jumps[i]);
    fm_free(jumps);
}

static void emit_repeat(struct compiler *c, const struct fm_gnode_data *d)
{
    const fm_gnode kid = c->b->kids[d->at];
    const struct facts f = facts_of(c, kid);
    if (!f.ends && !d->min) return;
    if (d->min == 0 && d->max == 1) {
        const int32_t split = emit_code(c, FM_GOP_SPLIT);
        emit_node(c, kid);
        land(c, split);
        return;
    }
    const int32_t loop = emit_code(c, FM_GOP_LOOP);
    emit_node(c, kid);
    emit_code(c, FM_GOP_RETURN);
    land(c, loop);
    if (c->failed || c->too_large) return;
    c->g->ops[loop].min = f.empty ? 0 : d->min; /* empty rounds count, too */
    c->g->ops[loop].max = d->max;
}

static void emit_call(struct compiler *c, int rule)
{
    if (c->pc[rule] < 0) {
        c->pc[rule] = 0;
        c->queue[c->n_queue++] = rule;
    }
    emit(c, (struct fm_gop){.code = FM_GOP_CALL, .a = rule}); /* its place is put in at the end */
}

static void emit_node(struct compiler *c, fm_gnode at)
{
    const struct fm_gnode_data *d = &c->b->nodes[at];
    const char *bytes =
        c->b->bytes.len ? c->b->bytes.data + (d->kind == FM_G_TEXT || d->kind == FM_G_MARK ? d->at : 0) : "";
    if (c->failed || c->too_large) return;
    switch (d->kind) {
    case FM_G_TEXT:
        for (int i = 0; i < d->n; i++) emit_byte(c, (unsigned char)bytes[i], FM_GOP_NORMAL);
        break;
    case FM_G_CLASS: emit_class(c, d); break;
    case FM_G_SEQ_:
        for (int i = 0; i < d->n; i++) emit_node(c, c->b->kids[d->at + i]);
        break;
    case FM_G_ALT_: emit_alt(c, d); break;
    case FM_G_REPEAT: emit_repeat(c, d); break;
    case FM_G_RULE: emit_call(c, (int)d->min); break;
    case FM_G_MARK: emit_mark(c, bytes); break;
    case FM_G_FREE: emit_free(c, d); break;
    }
}

/* ---- the end ---- */

/* Bytes that every set holds, or does not hold, together. */
static void find_classes(struct fm_grammar *g)
{
    g->n_cls = 1;
    for (int s = 0; s < g->n_sets && g->n_cls < 256; s++) {
        int twin[256];
        const int before = g->n_cls;
        bool in[256] = {false}, out[256] = {false};
        for (int i = 0; i < 256; i++) (g->sets[s][i / 8] >> i % 8 & 1 ? in : out)[g->cls[i]] = true;
        for (int k = 0; k < before; k++) twin[k] = in[k] && out[k] ? g->n_cls++ : k;
        for (int i = 0; i < 256; i++)
            if (g->sets[s][i / 8] >> i % 8 & 1) g->cls[i] = (uint8_t)twin[g->cls[i]];
    }
    for (int i = 255; i >= 0; i--) g->sample[g->cls[i]] = (uint8_t)i;
}

static void emit_all(struct compiler *c, int root)
{
    struct fm_grammar *g = c->g;
    c->n_queue = 0;
    c->queue[c->n_queue++] = root;
    c->pc[root] = 0;
    for (int i = 0; i < c->b->n_entries; i++) {
        if (c->pc[c->b->entry[i]] >= 0) continue;
        c->queue[c->n_queue++] = c->b->entry[i];
        c->pc[c->b->entry[i]] = 0;
    }
    for (int i = 0; i < c->n_queue; i++) {
        const int rule = c->queue[i];
        c->pc[rule] = g->n_ops;
        emit_node(c, c->b->rules[rule].body);
        emit_code(c, FM_GOP_RETURN);
    }
    if (c->failed || c->too_large) return;
    g->start = c->pc[root];
    for (int i = 0; i < c->b->n_entries; i++) g->entry[i] = c->pc[c->b->entry[i]];
    for (int i = 0; i < g->n_ops; i++)
        if (g->ops[i].code == FM_GOP_CALL) g->ops[i].a = c->pc[g->ops[i].a];
    find_classes(g);
}

static enum fm_status compile(struct compiler *c, int root)
{
    const struct fm_gbuild *b = c->b;
    if (b->too_large) return fm_fail(c->err, FM_ERR_INPUT, "%s: it is too large", c->what);
    c->facts = fm_calloc((size_t)b->n_rules + 1, sizeof *c->facts);
    c->pc = fm_malloc((size_t)(b->n_rules + 1) * sizeof *c->pc);
    c->queue = fm_malloc((size_t)(b->n_rules + 1) * sizeof *c->queue);
    c->g->sets = fm_calloc(SETS_MAX, sizeof *c->g->sets);
    if (b->failed || !c->facts || !c->pc || !c->queue || !c->g->sets || !find_facts(c))
        return fm_fail_memory(c->err, "a grammar", (size_t)b->n_nodes * sizeof *b->nodes);
    memset(c->pc, 0xFF, (size_t)b->n_rules * sizeof *c->pc);
    memset(c->slots, 0xFF, sizeof c->slots);
    FM_TRY(check_rules(c, root));
    FM_TRY(check_left(c));
    emit_all(c, root);
    if (c->too_large) return fm_fail(c->err, FM_ERR_INPUT, "%s: it is too large", c->what);
    return c->failed ? fm_fail_memory(c->err, "a grammar", (size_t)c->g->n_ops * sizeof *c->g->ops) : FM_OK;
}

enum fm_status fm_grammar_compile(const struct fm_gbuild *b, int root,
                                  bool (*has_mark)(const void *arg, const char *text), const void *arg,
                                  const char *what, struct fm_grammar *out, struct fm_error *err)
{
    struct fm_grammar g = {0};
    struct compiler *c = fm_calloc(1, sizeof *c);
    if (!c) return fm_fail_memory(err, "a grammar", sizeof *c);
    *c = (struct compiler){.b = b, .g = &g, .has_mark = has_mark, .arg = arg, .what = what, .err = err};
    const enum fm_status st = compile(c, root);
    fm_free(c->facts);
    fm_free(c->pc);
    fm_free(c->queue);
    fm_free(c);
    if (st)
        fm_grammar_release(&g);
    else
        *out = g;
    return st;
}

void fm_grammar_release(struct fm_grammar *g)
{
    fm_free(g->ops);
    fm_free(g->sets);
    *g = (struct fm_grammar){0};
}
