/* See matcher.h. */
#include "text/matcher.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum {
    STATES_MAX = 1 << 16,  /* at once; a quarter of them is what is kept between calls */
    THREADS_MAX = 1 << 12, /* of a state                                              */
    FRAMES_MAX = 1 << 20,
    DEEPEST = 1 << 10, /* frames above each other: a text that needs more is none      */
    MASKS = 16,
    BRANCH = 8, /* tokens of a branch that is worth a look as a whole */
    BOTTOM = 0, /* the frame below all */
    UNKNOWN = -2,
    DEAD = -1,
};

struct frame {
    int32_t parent, pc; /* where it goes on: behind a call; −1 − the place of a loop */
    uint32_t count;     /* of a loop: rounds done                       */
    int32_t depth, chain;
};
struct thread {
    int32_t pc, frame;
};
struct state {
    int32_t first, n, chain, next, control_next; /* next: of the rows of steps; −1: none yet */
    bool accepts, takes_control;
    int8_t looped;    /* −1: `loop` is not known yet                                           */
    bool wide;        /* any character beyond ASCII leads back, too                            */
    uint32_t rounds;  /* bytes or characters that may come so at least                         */
    uint64_t loop[2]; /* ASCII bytes that lead back, but for counts                           */
};

/* A growing array of any kind. */
struct pile {
    void *data;
    int n, cap;
};

struct mask {
    uint64_t *bits;
    int state;
    bool any;
    uint64_t used;
};

struct fm_matcher {
    const struct fm_grammar *g;
    struct pile frames, threads, states, rows, frame_slots, state_slots; /* slots: heads of chains, −1 none */
    struct pile set, todo;                                               /* the closure being made         */
    uint32_t *seen;                                                      /* see note_thread                 */
    int seen_size, seen_n;
    uint32_t stamp;
    bool set_accepts;
    int state, begin;
    int32_t start;  /* the operation that begins       */
    int known_loop; /* a state with its loop; −1: none */
    struct mask masks[MASKS];
    int32_t *path; /* states along a branch of the trie */
    int path_size;
    uint64_t clock;
    bool failed, too_much;
};

#define FRAMES(m)  ((struct frame *)(m)->frames.data)
#define THREADS(m) ((struct thread *)(m)->threads.data)
#define STATES(m)  ((struct state *)(m)->states.data)
#define ROWS(m)    ((int32_t *)(m)->rows.data)

static bool reserve(struct fm_matcher *m, struct pile *p, int more, size_t size)
{
    if (p->n + more <= p->cap) return true;
    int cap = p->cap ? 2 * p->cap : 64;
    while (cap < p->n + more) cap *= 2;
    void *room = fm_realloc(p->data, (size_t)cap * size);
    if (!room) {
        m->failed = true;
        return false;
    }
    p->data = room;
    p->cap = cap;
    return true;
}

/* ---- frames and states: each exists once ---- */

enum { SLOTS = 1 << 12 };

static int frame_of(struct fm_matcher *m, int32_t parent, int32_t pc, uint32_t count)
{
    int32_t *slots = m->frame_slots.data;
    const uint32_t h = ((uint32_t)parent * 2654435761u ^ (uint32_t)pc * 2246822519u ^ count * 3266489917u) >> 7;
    for (int f = slots[h % SLOTS]; f >= 0; f = FRAMES(m)[f].chain)
        if (FRAMES(m)[f].parent == parent && FRAMES(m)[f].pc == pc && FRAMES(m)[f].count == count) return f;
    if (m->frames.n == FRAMES_MAX) m->too_much = true;
    if (m->too_much || !reserve(m, &m->frames, 1, sizeof(struct frame))) return DEAD;
    FRAMES(m)
    [m->frames.n] = (struct frame){parent, pc, count, FRAMES(m)[parent].depth + 1, slots[h % SLOTS]};
    return slots[h % SLOTS] = m->frames.n++;
}

static int by_thread(const void *a, const void *b)
{
    const struct thread *x = a, *y = b;
    return x->pc != y->pc ? (x->pc > y->pc) - (x->pc < y->pc) : (x->frame > y->frame) - (x->frame < y->frame);
}

/* The state of the set that was made; DEAD for an empty one that accepts nothing. */
static int state_of_set(struct fm_matcher *m)
{
    struct thread *set = m->set.data;
    const int n = m->set.n;
    int32_t *slots = m->state_slots.data;
    if (m->failed || m->too_much || (!n && !m->set_accepts)) return DEAD;
    for (int i = 1; i < n; i++) { /* small, and nearly in order */
        const struct thread t = set[i];
        int k = i;
        if (n > 64) break;
        for (; k > 0 && by_thread(&t, &set[k - 1]) < 0; k--) set[k] = set[k - 1];
        set[k] = t;
    }
    if (n > 64) qsort(set, (size_t)n, sizeof *set, by_thread);
    uint32_t h = m->set_accepts;
    for (int i = 0; i < n; i++) h = (h ^ (uint32_t)set[i].pc * 31 ^ (uint32_t)set[i].frame) * 16777619u;
    h ^= h >> 15;
    for (int s = slots[h % SLOTS]; s >= 0; s = STATES(m)[s].chain) {
        const struct state *x = &STATES(m)[s];
        if (x->n == n && x->accepts == m->set_accepts &&
            (!n || !memcmp(THREADS(m) + x->first, set, (size_t)n * sizeof *set)))
            return s;
    }
    if (m->states.n == STATES_MAX) m->too_much = true;
    if (m->too_much || !reserve(m, &m->states, 1, sizeof(struct state)) ||
        !reserve(m, &m->threads, n, sizeof(struct thread)))
        return DEAD;
    struct state *x = &STATES(m)[m->states.n];
    *x = (struct state){.first = m->threads.n,
                        .n = n,
                        .chain = slots[h % SLOTS],
                        .next = -1,
                        .control_next = -1,
                        .accepts = m->set_accepts,
                        .looped = -1};
    if (n) memcpy(THREADS(m) + m->threads.n, set, (size_t)n * sizeof *set);
    for (int i = 0; i < n; i++) x->takes_control |= m->g->ops[set[i].pc].channel & FM_GOP_CONTROL;
    m->threads.n += n;
    return slots[h % SLOTS] = m->states.n++;
}

/* ---- the closure: from an operation on to those that wait for a byte ---- */

/* Whether this thread is new to the set under way. */
static bool note_thread(struct fm_matcher *m, struct thread t)
{
    if (2 * m->seen_n >= m->seen_size) { /* at most half full */
        const int size = m->seen_size ? 2 * m->seen_size : 256;
        uint32_t *room = fm_calloc((size_t)size, 3 * sizeof *room);
        if (!room) {
            m->failed = true;
            return false;
        }
        uint32_t *old = m->seen;
        const int old_size = m->seen_size;
        m->seen = room;
        m->seen_size = size;
        m->seen_n = 0;
        for (int i = 0; i < old_size; i++)
            if (old[3 * i] == m->stamp)
                (void)note_thread(m, (struct thread){(int32_t)old[3 * i + 1], (int32_t)old[3 * i + 2]});
        fm_free(old);
    }
    uint32_t at = ((uint32_t)t.pc * 2654435761u ^ (uint32_t)t.frame * 2246822519u) >> 5;
    for (at %= (uint32_t)m->seen_size; m->seen[3 * at] == m->stamp; at = (at + 1) % (uint32_t)m->seen_size)
        if (m->seen[3 * at + 1] == (uint32_t)t.pc && m->seen[3 * at + 2] == (uint32_t)t.frame) return false;
    m->seen[3 * at] = m->stamp;
    m->seen[3 * at + 1] = (uint32_t)t.pc;
    m->seen[3 * at + 2] = (uint32_t)t.frame;
    m->seen_n++;
    return true;
}

static void push(struct fm_matcher *m, int32_t pc, int32_t frame)
{
    if (frame < 0 || m->failed || m->too_much || !note_thread(m, (struct thread){pc, frame})) return;
    if (m->seen_n > 8 * THREADS_MAX) m->too_much = true;
    if (m->too_much || !reserve(m, &m->todo, 1, sizeof(struct thread))) return;
    ((struct thread *)m->todo.data)[m->todo.n++] = (struct thread){pc, frame};
}

/* Into a rule or a round of a loop; texts nested too deep are none. */
static void enter(struct fm_matcher *m, int32_t body, int32_t parent, int32_t pc, uint32_t count)
{
    if (FRAMES(m)[parent].depth < DEEPEST) push(m, body, frame_of(m, parent, pc, count));
}

static void call(struct fm_matcher *m, struct thread t)
{
    const struct fm_gop *ops = m->g->ops;
    int32_t back = t.pc + 1;
    while (ops[back].code == FM_GOP_JUMP) back = ops[back].a;
    if (ops[back].code == FM_GOP_RETURN)
        push(m, ops[t.pc].a, t.frame); /* nothing left to do here */
    else
        enter(m, ops[t.pc].a, t.frame, back, 0);
}

static void leave(struct fm_matcher *m, int32_t frame)
{
    const struct frame f = FRAMES(m)[frame];
    if (frame == BOTTOM) {
        m->set_accepts = true;
    } else if (f.pc >= 0) {
        push(m, f.pc, f.parent);
    } else {
        const int32_t loop = -1 - f.pc;
        const struct fm_gop *op = &m->g->ops[loop];
        const uint32_t done = f.count + (op->max != FM_NO_MAX || f.count < op->min); /* no further than it matters */
        if (done >= op->min) push(m, op->a, f.parent);
        if (done < op->max) enter(m, loop + 1, f.parent, f.pc, done);
    }
}

static void follow(struct fm_matcher *m, struct thread t)
{
    const struct fm_gop *op = &m->g->ops[t.pc];
    switch ((enum fm_gop_code)op->code) {
    case FM_GOP_BYTE:
        if (m->set.n == THREADS_MAX) m->too_much = true;
        if (!m->too_much && reserve(m, &m->set, 1, sizeof t)) ((struct thread *)m->set.data)[m->set.n++] = t;
        break;
    case FM_GOP_CALL: call(m, t); break;
    case FM_GOP_LOOP:
        if (!op->min) push(m, op->a, t.frame);
        if (op->max) enter(m, t.pc + 1, t.frame, -1 - t.pc, 0);
        break;
    case FM_GOP_SPLIT:
        push(m, t.pc + 1, t.frame);
        push(m, op->a, t.frame);
        break;
    case FM_GOP_JUMP: push(m, op->a, t.frame); break;
    case FM_GOP_RETURN: leave(m, t.frame); break;
    }
}

static void begin_set(struct fm_matcher *m)
{
    m->set.n = m->todo.n = m->seen_n = 0;
    m->set_accepts = false;
    if (!++m->stamp) { /* it came round: old marks would look new */
        m->stamp = 1;
        if (m->seen) memset(m->seen, 0, (size_t)m->seen_size * 3 * sizeof *m->seen);
    }
}

static int end_set(struct fm_matcher *m)
{
    while (m->todo.n && !m->failed && !m->too_much) follow(m, ((struct thread *)m->todo.data)[--m->todo.n]);
    return state_of_set(m);
}

/* What a byte of this class makes of state s. */
static int compute_step(struct fm_matcher *m, int s, int cls, int channel)
{
    const struct state x = STATES(m)[s];
    const uint8_t byte = m->g->sample[cls];
    begin_set(m);
    for (int i = 0; i < x.n; i++) {
        const struct thread t = THREADS(m)[x.first + i];
        const struct fm_gop *op = &m->g->ops[t.pc];
        if (op->channel & channel && m->g->sets[op->a][byte / 8] >> byte % 8 & 1) push(m, t.pc + 1, t.frame);
    }
    return end_set(m);
}

static int step_class(struct fm_matcher *m, int s, int cls, int channel)
{
    const bool control = channel == FM_GOP_CONTROL;
    int32_t row = control ? STATES(m)[s].control_next : STATES(m)[s].next;
    if (row < 0) {
        if (!reserve(m, &m->rows, m->g->n_cls, sizeof(int32_t))) return DEAD;
        row = m->rows.n;
        for (int i = 0; i < m->g->n_cls; i++) ROWS(m)
        [row + i] = UNKNOWN;
        m->rows.n += m->g->n_cls;
        *(control ? &STATES(m)[s].control_next : &STATES(m)[s].next) = row;
    }
    if (ROWS(m)[row + cls] != UNKNOWN) return ROWS(m)
    [row + cls];
    const int to = compute_step(m, s, cls, channel);
    if (m->failed || m->too_much) return DEAD;
    return ROWS(m)
    [row + cls] = to;
}

static int step(struct fm_matcher *m, int s, uint8_t byte, int channel)
{
    const struct state *x = &STATES(m)[s];
    const int32_t row = channel == FM_GOP_CONTROL ? x->control_next : x->next;
    const int32_t to = row < 0 ? UNKNOWN : ROWS(m)
    [row + m->g->cls[byte]];
    return to != UNKNOWN ? to : step_class(m, s, m->g->cls[byte], channel);
}

/* ---- life ---- */

static void drop_masks(struct fm_matcher *m)
{
    for (int i = 0; i < MASKS; i++) m->masks[i].state = -1;
}

/* Empty tables with the bottom frame. */
static bool clear(struct fm_matcher *m)
{
    m->frames.n = m->threads.n = m->states.n = m->rows.n = 0;
    m->frame_slots.n = m->state_slots.n = 0;
    if (!reserve(m, &m->frame_slots, SLOTS, sizeof(int32_t)) || !reserve(m, &m->state_slots, SLOTS, sizeof(int32_t)) ||
        !reserve(m, &m->frames, 1, sizeof(struct frame)))
        return false;
    memset(m->frame_slots.data, 0xFF, SLOTS * sizeof(int32_t));
    memset(m->state_slots.data, 0xFF, SLOTS * sizeof(int32_t));
    FRAMES(m)[m->frames.n++] = (struct frame){.parent = -1, .pc = 0, .chain = -1};
    drop_masks(m);
    m->known_loop = -1;
    return true;
}

static int begin_state(struct fm_matcher *m)
{
    begin_set(m);
    push(m, m->start, BOTTOM);
    return end_set(m);
}

void fm_matcher_reset(struct fm_matcher *m) { m->state = m->begin; }

bool fm_matcher_enter(struct fm_matcher *m, int i)
{
    m->start = m->g->entry[i];
    m->state = m->begin = begin_state(m);
    return !m->failed && !m->too_much;
}

enum fm_status fm_matcher_new(const struct fm_grammar *g, struct fm_matcher **out, struct fm_error *err)
{
    struct fm_matcher *m = fm_calloc(1, sizeof *m);
    if (!m) return fm_fail_memory(err, "a matcher", sizeof *m);
    m->g = g;
    m->start = g->start;
    if (clear(m)) m->state = m->begin = begin_state(m);
    const enum fm_status st = fm_matcher_fault(m, err);
    if (st)
        fm_matcher_free(m);
    else
        *out = m;
    return st;
}

void fm_matcher_free(struct fm_matcher *m)
{
    if (!m) return;
    struct pile *piles[] = {&m->frames,      &m->threads,     &m->states, &m->rows,
                            &m->frame_slots, &m->state_slots, &m->set,    &m->todo};
    for (size_t i = 0; i < sizeof piles / sizeof *piles; i++) fm_free(piles[i]->data);
    for (int i = 0; i < MASKS; i++) fm_free(m->masks[i].bits);
    fm_free(m->seen);
    fm_free(m->path);
    fm_free(m);
}

enum fm_status fm_matcher_fault(const struct fm_matcher *m, struct fm_error *err)
{
    if (m->failed) return fm_fail_memory(err, "a grammar's states", (size_t)m->states.n * sizeof(struct state));
    if (!m->too_much) return FM_OK;
    return fm_fail(err, FM_ERR_FAILED, "follow a grammar: byte by byte: there are too many ways to read this text");
}

/* Keep the current state only. */
static bool forget(struct fm_matcher *m)
{
    const struct state now = STATES(m)[m->state];
    struct frame *old = m->frames.data;
    struct thread *threads = fm_malloc((size_t)(now.n + 1) * sizeof *threads);
    int32_t *path = fm_malloc((DEEPEST + 2) * sizeof *path);
    bool ok = threads && path;
    if (ok && now.n) memcpy(threads, THREADS(m) + now.first, (size_t)now.n * sizeof *threads);
    m->frames = (struct pile){0};
    ok = ok && clear(m);
    if (ok) m->begin = begin_state(m);
    if (ok) begin_set(m);
    for (int i = 0; ok && i < now.n; i++) {
        int n = 0, frame = BOTTOM;
        for (int f = threads[i].frame; f != BOTTOM; f = old[f].parent) path[n++] = f;
        while (n-- && frame >= 0) frame = frame_of(m, frame, old[path[n]].pc, old[path[n]].count);
        follow(m, (struct thread){threads[i].pc, frame});
        ok = frame >= 0;
    }
    m->set_accepts = now.accepts;
    if (ok) m->state = state_of_set(m);
    m->failed |= !ok;
    fm_free(threads);
    fm_free(path);
    fm_free(old);
    return !m->failed && m->state >= 0;
}

static bool ready(struct fm_matcher *m)
{
    if (m->failed || m->too_much || m->state < 0) return false;
    return (m->states.n < STATES_MAX / 4 && m->frames.n < FRAMES_MAX / 4) || forget(m);
}

/* ---- bytes ---- */

bool fm_matcher_byte(struct fm_matcher *m, unsigned char byte)
{
    if (!ready(m)) return false;
    const int to = step(m, m->state, byte, FM_GOP_NORMAL);
    if (to < 0) return false;
    m->state = to;
    return true;
}

bool fm_matcher_text(struct fm_matcher *m, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!fm_matcher_byte(m, (unsigned char)s[i])) return false;
    return true;
}

bool fm_matcher_accepts(const struct fm_matcher *m) { return m->state >= 0 && STATES(m)[m->state].accepts; }

/* ---- loops: states that a byte leads back to, but for how often ---- */

/* Whether b is a with one more round of some loops; *rounds: how many rounds a still has at least. */
static bool is_back(const struct fm_matcher *m, int a, int b, uint32_t *rounds)
{
    if (a == b) return true;
    if (b < 0 || STATES(m)[a].n != STATES(m)[b].n || STATES(m)[a].accepts != STATES(m)[b].accepts) return false;
    for (int i = 0; i < STATES(m)[a].n; i++) {
        const struct thread s = THREADS(m)[STATES(m)[a].first + i], t = THREADS(m)[STATES(m)[b].first + i];
        if (s.pc != t.pc) return false;
        if (s.frame == t.frame) continue;
        const struct frame f = FRAMES(m)[s.frame], g = FRAMES(m)[t.frame];
        if (f.parent != g.parent || f.pc != g.pc || g.count != f.count + 1) return false;
        if (f.pc >= 0) return false;
        const struct fm_gop *op = &m->g->ops[-1 - f.pc];
        if (op->max != FM_NO_MAX && op->max - f.count < *rounds) *rounds = op->max - f.count;
    }
    return true;
}

/* Whether each character of `want` more bytes leads from state `at` back to `home`. */
static bool wide_back(struct fm_matcher *m, int home, int at, uint8_t lead, int k, int want, uint32_t *rounds)
{
    if (at < 0) return false;
    if (!want) return is_back(m, home, at, rounds);
    const int lo = k == 1 && lead == 0xE0   ? 0xA0
                   : k == 1 && lead == 0xF0 ? 0x90
                                            : 0x80,
              hi = k == 1 && lead == 0xED   ? 0x9F
                   : k == 1 && lead == 0xF4 ? 0x8F
                                            : 0xBF;
    for (int b = lo; b <= hi; b++) {
        if (b > lo && m->g->cls[b] == m->g->cls[b - 1]) continue;
        if (!wide_back(m, home, step(m, at, (uint8_t)b, FM_GOP_NORMAL), lead, k + 1, want - 1, rounds)) return false;
    }
    return true;
}

/* Whether frames x and y differ only in how often loops went round, by too little for `bytes` more bytes to meet a bound of one
 * and not of the other.  *more: the most that y's loops are ahead. */
static bool frames_alike(const struct fm_matcher *m, int x, int y, uint64_t bytes, uint32_t *more)
{
    for (; x != y; x = FRAMES(m)[x].parent, y = FRAMES(m)[y].parent) {
        const struct frame f = FRAMES(m)[x], g = FRAMES(m)[y];
        const uint32_t lo = f.count < g.count ? f.count : g.count, hi = f.count < g.count ? g.count : f.count;
        if (f.pc != g.pc || f.depth != g.depth) return false;
        if (lo == hi) continue;
        const struct fm_gop *op = &m->g->ops[-1 - f.pc]; /* calls have no count */
        if ((op->max != FM_NO_MAX && hi + bytes >= op->max) || (lo < op->min && hi + bytes >= op->min)) return false;
        if (g.count > f.count && hi - lo > *more) *more = hi - lo;
    }
    return true;
}

/* Whether the same texts of so many bytes may come in states a and b, which differ in rounds of loops only. */
static bool states_alike(const struct fm_matcher *m, int a, int b, int bytes, uint32_t *more)
{
    const struct state x = STATES(m)[a], y = STATES(m)[b];
    *more = 0;
    if (x.n != y.n || x.accepts != y.accepts) return false;
    for (int i = 0; i < x.n; i++) {
        const struct thread s = THREADS(m)[x.first + i], t = THREADS(m)[y.first + i];
        if (s.pc != t.pc || !frames_alike(m, s.frame, t.frame, (uint64_t)bytes, more)) return false;
    }
    return true;
}

/* What is known of another round. */
static bool know_loop(struct fm_matcher *m, int s)
{
    enum { CHARACTER = 4 };
    uint32_t more;
    struct state *x = &STATES(m)[s];
    if (m->known_loop < 0 || !states_alike(m, m->known_loop, s, CHARACTER, &more)) return false;
    const struct state *known = &STATES(m)[m->known_loop];
    if (known->rounds <= more) return false;
    x->looped = known->looped;
    x->wide = known->wide;
    x->rounds = known->rounds == UINT32_MAX ? UINT32_MAX : known->rounds - more;
    memcpy(x->loop, known->loop, sizeof x->loop);
    return true;
}

static void find_loop(struct fm_matcher *m, int s)
{
    if (know_loop(m, s)) return;
    uint64_t loop[2] = {0, 0};
    uint32_t rounds = UINT32_MAX;
    int n = 0;
    bool wide = true;
    for (int b = 0; b < 128; b++) {
        if (!is_back(m, s, step(m, s, (uint8_t)b, FM_GOP_NORMAL), &rounds)) continue;
        loop[b / 64] |= UINT64_C(1) << b % 64;
        n++;
    }
    for (int b = 0xC2; wide && n && b < 0xF5; b++) {
        const int want = b < 0xE0 ? 1 : b < 0xF0 ? 2 : 3;
        if (b > 0xC2 && b != 0xE0 && b != 0xE1 && b != 0xED && b != 0xEE && b != 0xF0 && b != 0xF1 && b != 0xF4 &&
            m->g->cls[b] == m->g->cls[b - 1])
            continue;
        wide = wide_back(m, s, step(m, s, (uint8_t)b, FM_GOP_NORMAL), (uint8_t)b, 1, want, &rounds);
    }
    struct state *x = &STATES(m)[s]; /* steps may have moved it */
    x->looped = n > 0;
    x->wide = wide && n;
    x->rounds = rounds;
    x->loop[0] = loop[0];
    x->loop[1] = loop[1];
    m->known_loop = s;
}

/* Whether every token at and below node i may come in state s. */
static bool takes_branch(struct fm_matcher *m, const struct fm_token_trie *t, int i, int s)
{
    const struct fm_trie_node *x = &t->nodes[i];
    if (!x->whole || t->nodes[x->behind].rank - x->rank < BRANCH) return false;
    if (STATES(m)[s].looped < 0) find_loop(m, s);
    const struct state *st = &STATES(m)[s];
    return st->looped > 0 && !(t->ascii[i][0] & ~st->loop[0]) && !(t->ascii[i][1] & ~st->loop[1]) &&
           (!x->wide || st->wide) && x->longest <= st->rounds;
}

/* ---- tokens ---- */

static void set_bit(uint64_t *bits, int32_t id) { bits[id / 64] |= UINT64_C(1) << id % 64; }

static void set_ranks(const struct fm_token_trie *t, uint64_t *bits, int from, int to)
{
    for (int r = from; r < to; r++) set_bit(bits, t->order[r]);
}

static void walk(struct fm_matcher *m, const struct fm_token_trie *t, uint64_t *bits)
{
    m->path[0] = m->state;
    for (int i = 1; i < t->n_nodes;) {
        const struct fm_trie_node *x = &t->nodes[i];
        const int s = m->path[x->depth - 1];
        if (takes_branch(m, t, i, s)) {
            set_ranks(t, bits, x->rank, t->nodes[x->behind].rank);
            i = x->behind;
            continue;
        }
        const int to = step(m, s, x->byte, FM_GOP_NORMAL);
        if (to < 0) {
            if (m->failed || m->too_much) return;
            i = x->behind;
            continue;
        }
        m->path[x->depth] = to;
        set_ranks(t, bits, x->rank, t->nodes[i + 1].rank);
        i++;
    }
}

/* The state behind a token; DEAD. */
static int behind_token(struct fm_matcher *m, const struct fm_token_trie *t, int32_t id)
{
    size_t n;
    const char *s = fm_tokenizer_piece(t->tok, id, &n);
    const int channel = fm_token_is_control(t->tok, id) ? FM_GOP_CONTROL : FM_GOP_NORMAL;
    int at = m->state;
    for (size_t i = 0; s && i < n && at >= 0; i++) at = step(m, at, (uint8_t)s[i], channel);
    return s && n ? at : DEAD;
}

static void compute_mask(struct fm_matcher *m, const struct fm_token_trie *t, struct mask *x)
{
    const size_t words = ((size_t)t->n_ids + 63) / 64;
    memset(x->bits, 0, words * sizeof *x->bits);
    walk(m, t, x->bits);
    for (int i = 0; STATES(m)[m->state].takes_control && i < t->n_control; i++)
        if (behind_token(m, t, t->control[i]) >= 0) set_bit(x->bits, t->control[i]);
    if (STATES(m)[m->state].accepts)
        for (int i = 0; i < t->n_ends; i++) set_bit(x->bits, t->ends[i]);
    x->any = false;
    for (size_t i = 0; i < words && !x->any; i++) x->any = x->bits[i] != 0;
}

/* The one of this state or of another that no token tells from it, or the one that was not used for longest. */
static struct mask *find_mask(struct fm_matcher *m, const struct fm_token_trie *t)
{
    struct mask *oldest = &m->masks[0];
    uint32_t more;
    for (int i = 0; i < MASKS; i++) {
        struct mask *x = &m->masks[i];
        if (x->bits && x->state == m->state) return x;
        if (x->used < oldest->used) oldest = x;
    }
    for (int i = 0; i < MASKS && !STATES(m)[m->state].takes_control; i++) { /* control tokens may be longer */
        struct mask *x = &m->masks[i];
        if (!x->bits || x->state < 0 || !states_alike(m, x->state, m->state, t->deepest, &more)) continue;
        x->state = m->state;
        return x;
    }
    if (!oldest->bits) oldest->bits = fm_malloc(((size_t)t->n_ids + 63) / 64 * sizeof *oldest->bits);
    m->failed |= !oldest->bits;
    oldest->state = -1;
    return oldest;
}

static bool make_path(struct fm_matcher *m, const struct fm_token_trie *t)
{
    if (m->path_size > t->deepest) return true;
    fm_free(m->path);
    m->path = fm_malloc(((size_t)t->deepest + 1) * sizeof *m->path);
    m->path_size = m->path ? t->deepest + 1 : 0;
    m->failed |= !m->path;
    return m->path;
}

const uint64_t *fm_matcher_mask(struct fm_matcher *m, const struct fm_token_trie *t, bool *any)
{
    if (!ready(m) || !make_path(m, t)) return NULL;
    struct mask *x = find_mask(m, t);
    if (m->failed) return NULL;
    if (x->state != m->state) {
        compute_mask(m, t, x);
        if (m->failed || m->too_much) return NULL;
        x->state = m->state;
    }
    x->used = ++m->clock;
    *any = x->any;
    return x->bits;
}

bool fm_matcher_token(struct fm_matcher *m, const struct fm_token_trie *t, int32_t id)
{
    if (!ready(m)) return false;
    const int to = behind_token(m, t, id);
    if (to < 0) return false;
    m->state = to;
    return true;
}
