/* Whose turn it is, how much of a step prompts may take, and how soon a request that nobody wants stops.  No clock decides:
 * the model's steps are scripted, or counted by operations. */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>

#include "run_testing.h"

#include "run/scheduler.h"

/* ---- requests that note in which order they end ---- */

enum { MOST = 64 };

struct stage {
    struct fm_scheduler *s;
    struct fm_buf order; /* a letter per request that began its answer */
    int ended, ends[FM_END_COUNT];
    bool closed; /* a request that is held up waits for it to open */
    pthread_mutex_t lock;
    pthread_cond_t change;
};

struct part {
    struct stage *at;
    char name;
    bool holds_up, begun;
    int prompt_steps;
    struct fm_buf text;
    struct fm_request *request;
    struct fm_request_result r;
};

static void on_text(void *arg, const char *text, size_t n) { fm_buf_add(&((struct part *)arg)->text, text, n); }

static void on_progress(void *arg, int done, int total, int cached)
{
    struct part *p = arg;
    (void)done;
    (void)total;
    (void)cached;
    p->prompt_steps++;
    pthread_mutex_lock(&p->at->lock);
    while (p->holds_up && p->at->closed) pthread_cond_wait(&p->at->change, &p->at->lock);
    pthread_mutex_unlock(&p->at->lock);
}

static void on_token(void *arg, const struct fm_token_event *t)
{
    struct part *p = arg;
    (void)t;
    if (!p->begun) fm_buf_char(&p->at->order, p->name);
    p->begun = true;
}

static void on_end(void *arg, const struct fm_request_result *r)
{
    struct part *p = arg;
    pthread_mutex_lock(&p->at->lock);
    p->r = *r;
    p->at->ended++;
    p->at->ends[r->end]++;
    pthread_cond_broadcast(&p->at->change);
    pthread_mutex_unlock(&p->at->lock);
}

static void begin(struct stage *at, struct fm_engine *e, int slots)
{
    *at = (struct stage){.lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER, .closed = true};
    const struct fm_scheduler_options o = {.slots = slots, .queue = MOST, .no_cache = true};
    ok(fm_scheduler_new(e, &o, &at->s, &err));
}

static void submit(struct stage *at, struct part *p, char name, const int32_t *ids, int n, int max_tokens)
{
    struct fm_request_options o = {.ids = ids, .n_ids = n, .max_tokens = max_tokens, .top = -1, .ignore_end = true};
    const char user[2] = {name, 0};
    p->at = at;
    p->name = name;
    o.user = user;
    o.sampling = fm_sampling_default();
    o.sampling.temp = 0;
    o.on_text = on_text;
    o.on_token = on_token;
    o.on_progress = on_progress;
    o.on_end = on_end;
    o.arg = p;
    ok(fm_scheduler_submit(at->s, &o, &p->request, NULL, &err));
}

static void open_up(struct stage *at)
{
    pthread_mutex_lock(&at->lock);
    at->closed = false;
    pthread_cond_broadcast(&at->change);
    pthread_mutex_unlock(&at->lock);
}

static void await(struct stage *at, int n)
{
    pthread_mutex_lock(&at->lock);
    while (at->ended < n) pthread_cond_wait(&at->change, &at->lock);
    pthread_mutex_unlock(&at->lock);
}

static void finish(struct stage *at, struct part *p, int n)
{
    fm_scheduler_free(at->s);
    for (int i = 0; i < n; i++) {
        fm_request_free(p[i].request);
        fm_buf_release(&p[i].text);
    }
    fm_buf_release(&at->order);
}

static struct fm_engine *engine_of(int chunk)
{
    return engine((struct fm_engine_options){.ctx = 512, .chunk = chunk, .threads = 2});
}

/* ---- users ---- */

/* One slot, held up while all queue.  A asks eight times for 100 tokens, b eight times for 20, c comes once: work, not
 * requests, is shared out. */
static void users_share_the_work(void **state)
{
    (void)state;
    struct fm_engine *e = engine_of(64);
    struct stage at;
    struct part p[18] = {0};
    int32_t ids[100];
    int n = 0;
    some_ids(ids, 100, 1);
    begin(&at, e, 1);
    p[n].holds_up = true;
    submit(&at, &p[n++], 'x', ids, 10, 1);
    for (int i = 0; i < 8; i++) submit(&at, &p[n++], 'A', ids, 96, 4);
    for (int i = 0; i < 8; i++) submit(&at, &p[n++], 'b', ids, 16, 4);
    submit(&at, &p[n++], 'c', ids, 60, 4);
    open_up(&at);
    await(&at, n);
    fm_buf_char(&at.order, 0);
    assert_string_equal(at.order.data, "xAbcbbbbAbbbAAAAAA"); /* an A is 105 rows' work, a b 25, c 69 */
    int A = 0, b = 0, waiting_b = 8;
    for (const char *c = at.order.data + 1; waiting_b;
         c++) { /* while both wait, neither is ahead by more than a request */
        A += *c == 'A' ? 96 + 3 * 3 : 0;
        b += *c == 'b' ? 16 + 3 * 3 : 0;
        waiting_b -= *c == 'b';
        assert_true(A - b <= 105 && b - A <= 25);
    }
    finish(&at, p, n);
    fm_engine_close(e);
}

/* The accounts by themselves. */
static void accounts_neither_save_nor_forgive(void **state)
{
    (void)state;
    struct fm_scheduler s = {0};
    struct fm_request a = {.o.user = "a"}, b = {.o.user = "b"}, again = {.o.user = "a"}, c = {.o.user = "c"};
    assert_true(fm_fair_join(&s, &a));
    fm_fair_charge(&a, fm_fair_work(100, 10));
    assert_int_equal(a.user->served, 130);
    assert_true(fm_fair_join(&s, &b));
    assert_int_equal(b.user->served, 130); /* having waited outside saves nothing up … */
    fm_fair_charge(&a, fm_fair_work(70, 0));
    fm_fair_leave(&s, &a);
    assert_true(fm_fair_join(&s, &again));
    assert_int_equal(again.user->served, 200); /* … and going for a moment forgives nothing */
    fm_fair_charge(&b, fm_fair_work(500, 0));
    fm_fair_leave(&s, &again);
    assert_ptr_equal(s.users, b.user); /* below all who are here: nothing to remember */
    assert_null(s.users->next);
    assert_true(fm_fair_join(&s, &c));
    assert_int_equal(c.user->served, 630);
    fm_fair_leave(&s, &b);
    fm_fair_leave(&s, &c);
    assert_null(s.users); /* nobody here: nobody is behind */

    struct fm_request many[2000] = {0}, one = {.o.user = "z"};
    char names[2000][8];
    assert_true(fm_fair_join(&s, &one));
    for (int i = 0; i < 2000; i++) {
        (void)snprintf(names[i], sizeof names[i], "u%d", i);
        many[i].o.user = names[i];
        assert_true(fm_fair_join(&s, &many[i]));
        fm_fair_charge(&many[i], fm_fair_work(1 + i, 0));
        fm_fair_leave(&s, &many[i]);
    }
    int n = 0;
    for (const struct fm_user *u = s.users; u; u = u->next) n++;
    assert_int_equal(n, 1025); /* the 1024 who had most */
    assert_true(fm_fair_join(&s, &many[1999]));
    assert_int_equal(many[1999].user->served, 2000);
    fm_fair_free(&s);
}

/* A prompt of eight chunks is on its way when a short one comes: whoever asked, it is answered within three steps. */
static void a_long_prompt_holds_nobody_up(void **state)
{
    (void)state;
    for (int same = 0; same < 2; same++) {
        struct fm_engine *e = engine_of(48);
        struct stage at;
        struct part p[3] = {0};
        int32_t ids[400];
        some_ids(ids, 400, 2);
        begin(&at, e, 3);
        p[0].holds_up = true;
        submit(&at, &p[0], 'L', ids, 390, 2);
        while (true) { /* until its first chunk is done, where it is held up */
            struct fm_slot_info x;
            fm_scheduler_slot(at.s, 0, &x);
            if (x.busy) break;
        }
        submit(&at, &p[1], same ? 'L' : 's', ids + 5, 30, 2);
        p[1].name = 's';
        open_up(&at);
        await(&at, 2);
        fm_buf_char(&at.order, 0);
        assert_string_equal(at.order.data, "sL");
        assert_int_equal(p[1].prompt_steps, 1);
        assert_true(p[0].prompt_steps >= 8);
        finish(&at, p, 2);
        fm_engine_close(e);
    }
}

/* ---- pace ---- */

/* A machine: seconds of a step are fixed + row·rows + head·(rows with logits); up to 8 rows less, down to first with one. */
struct machine {
    double first, fixed, row, head;
};

static double seconds_of(const struct machine *m, int answers, int rows)
{
    const int n = answers + rows;
    const double few = n < 8 ? (m->fixed + m->row - m->first) * (8 - n) / 7 : 0;
    return m->fixed + m->row * n - few + m->head * answers;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* streams clients in a closed loop, prompts of 128 tokens and answers of 128: p99 over p50 of the time between two tokens, and
 * tokens per second. */
static double ratio(const struct machine *m, int streams, int chunk, int requests, double *rate)
{
    enum { GAPS = 1 << 17 };
    static double gap[GAPS];
    struct fm_pace pace = {0};
    struct fm_rng rng;
    double now = 0, last[MOST] = {0};
    int left[MOST], said[MOST] = {0}, n = 0, done = 0;
    fm_rng_init(&rng, 1);
    for (int i = 0; i < streams; i++) left[i] = 128;
    while (done < requests * streams) {
        bool answering[MOST];
        int answers = 0, rows = 0;
        for (int i = 0; i < streams; i++) answers += answering[i] = !left[i];
        int room = answers < streams ? fm_pace_rows(&pace, answers, streams, chunk - answers) : 0;
        assert_true(answers == streams || room > 0); /* prompts go on whatever happens */
        for (int i = 0; i < streams; i++) {
            const int take = left[i] < room ? left[i] : room;
            left[i] -= take;
            room -= take;
            rows += take;
        }
        const double seconds = seconds_of(m, answers, rows) * (0.95 + 0.1 * fm_rng_uniform(&rng));
        now += seconds;
        fm_pace_learn(&pace, answers, rows, seconds);
        for (int i = 0; i < streams; i++) {
            if (left[i]) continue;
            if (answering[i] && n < GAPS) gap[n++] = now - last[i];
            last[i] = now;
            if (++said[i] < 128) continue;
            said[i] = 0;
            left[i] = 128;
            done++;
        }
    }
    qsort(gap, (size_t)n, sizeof *gap, ascending);
    *rate = done * 128 / now;
    return gap[(int)(0.99 * n)] / gap[n / 2];
}

static void prompts_take_their_share_and_no_more(void **state)
{
    (void)state;
    static const struct machine machines[] = {
        {0.023, 0.075, 0.0037, 0.003},       /* arithmetic is short: 1 B weights of 4 bits on two cores */
        {0.050, 0.052, 0.001, 0.0001},       /* memory is short: a big model on many cores               */
        {0.0003, 0.0005, 0.00005, 0.00001}}; /* everything is quick                                      */
    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++)
        for (int streams = 4; streams <= 16; streams *= 2)
            for (int requests = 2; requests <= 40; requests += 19) { /* the first ones without any experience */
                const struct machine *m = &machines[i];
                double rate;
                const double r = ratio(m, streams, 512, requests, &rate);
                /* before it has seen four answers alone it takes the line for them, which is above */
                if (r >= (streams < 8 && requests == 2 ? 2.5 : 2))
                    fail_msg("machine %d, %d streams, %d requests: p99 is %.2f times p50", (int)i, streams, requests,
                             r);
                /* prompts are not starved to keep the promise: most of what it would be with prompts for themselves */
                const double best = streams * 128 / (seconds_of(m, 0, 128) * streams + 128 * seconds_of(m, streams, 0));
                if (rate < 0.7 * best)
                    fail_msg("machine %d, %d streams, %d requests: %.1f tokens/s of %.1f", (int)i, streams, requests,
                             rate, best);
            }
    struct fm_pace p = {0};
    assert_int_equal(fm_pace_rows(&p, 0, 1, 512), 64); /* nothing is known */
    assert_int_equal(fm_pace_rows(&p, 3, 4, 512), 5);  /* eight with the answers */
    assert_int_equal(fm_pace_rows(&p, 6, 8, 512), 10); /* two would be too few */
    assert_int_equal(fm_pace_rows(&p, 3, 4, 4), 4);
    fm_pace_learn(&p, 0, 64, 0.01 + 64 * 0.001);
    fm_pace_learn(&p, 0, 256, 0.01 + 256 * 0.001);
    assert_int_equal(fm_pace_rows(&p, 0, 1, 2048), 984); /* a second's work, in eights */
    fm_pace_learn(&p, 4, 0, 0.04);
    fm_pace_learn(&p, 8, 0, 0.05);
    assert_int_equal(fm_pace_rows(&p, 4, 8, 512), 68); /* 1.75 times 50 ms are 87.5: 10, 4 and 73 rows */
}

/* ---- the end of a request in the middle of a step ---- */

static struct {
    struct fm_request *_Atomic cancel[2]; /* one after the other */
    atomic_int calls, at;                 /* of the slot below; at which call of a step */
    atomic_int computed;                  /* calls that did something after a cancel       */
    int n;
} script;

static void scripted_swiglu(struct fm_ctx *c, float *y, const float *g, const float *u, size_t n)
{
    struct fm_request *r = script.n < 2 ? atomic_load(&script.cancel[script.n]) : NULL;
    if (r && ++script.calls == script.at) {
        fm_request_cancel(r);
        script.n++;
        script.calls = 0;
    } else if (script.n && !c->status) {
        script.computed++;
    }
    fm_ops_cpu.swiglu(c, y, g, u, n);
}

static const struct fm_ops *script_ops(void)
{
    static struct fm_ops ops;
    ops = fm_ops_cpu;
    ops.swiglu = scripted_swiglu;
    memset(&script, 0, sizeof script);
    script.at = 1;
    return &ops;
}

/* In the first of two layers of a prompt's only step: the second layer is not computed any more. */
static void a_prompt_stops_between_two_tiles(void **state)
{
    (void)state;
    struct fm_engine *e = engine_of(256);
    struct stage at;
    struct part p[1] = {0};
    int32_t ids[256];
    some_ids(ids, 256, 3);
    e->ctx.op = script_ops();
    begin(&at, e, 2);
    pthread_mutex_lock(&at.s->lock); /* the scheduler sleeps until the script is written */
    pthread_mutex_unlock(&at.s->lock);
    pthread_mutex_lock(&e->turn);
    submit(&at, &p[0], 'a', ids, 250, 5);
    atomic_store(&script.cancel[0], p[0].request);
    pthread_mutex_unlock(&e->turn);
    await(&at, 1);
    assert_int_equal(p[0].r.end, FM_END_CANCELLED);
    assert_int_equal(p[0].r.answer_tokens, 0);
    assert_int_equal(p[0].prompt_steps, 0);
    assert_int_equal(script.computed, 0);
    finish(&at, p, 1);
    fm_engine_close(e);
}

/* In company: the step is given up once, for one who fills half of it, not a second time in a row; and the others' text is
 * what it is without them. */
static void who_leaves_disturbs_nobody(void **state)
{
    (void)state;
    struct fm_engine *e = engine_of(256);
    struct stage at;
    struct part p[3] = {0}, alone[1] = {0};
    int32_t ids[256];
    struct fm_scheduler_stats stats;
    some_ids(ids, 256, 4);
    begin(&at, e, 3);
    submit(&at, &alone[0], 'a', ids, 40, 20);
    await(&at, 1);
    fm_buf_char(&alone[0].text, 0);
    fm_scheduler_free(at.s);
    fm_buf_release(&at.order);

    e->ctx.op = script_ops();
    begin(&at, e, 3);
    pthread_mutex_lock(&e->turn);
    submit(&at, &p[0], 'a', ids, 40, 20);
    submit(&at, &p[1], 'b', ids + 20, 200, 20);
    submit(&at, &p[2], 'c', ids + 10, 230, 20);
    atomic_store(&script.cancel[1], p[2].request);
    atomic_store(&script.cancel[0], p[1].request);
    pthread_mutex_unlock(&e->turn);
    await(&at, 3);
    assert_int_equal(p[0].r.end, FM_END_LENGTH);
    assert_int_equal(at.ends[FM_END_CANCELLED], 2);
    fm_buf_char(&p[0].text, 0);
    assert_string_equal(p[0].text.data, alone[0].text.data);
    while (!fm_scheduler_drain(at.s)) sched_yield();
    fm_scheduler_stats(at.s, &stats);
    assert_int_equal(stats.requests, 3);
    assert_int_equal(stats.answer_tokens, 20);
    finish(&at, p, 3);
    fm_request_free(alone[0].request);
    fm_buf_release(&alone[0].text);
    fm_engine_close(e);
}

/* ---- energy ---- */

static void write_number(const char *folder, const char *name, unsigned long long n)
{
    char path[160];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fprintf(f, "%llu\n", n);
    assert_int_equal(fclose(f), 0);
}

static char meter_path[64], package_path[80];
static unsigned long long meter;

/* Every call of one slot costs 2 J, on a meter that begins anew at 1000 J. */
static void costly_swiglu(struct fm_ctx *c, float *y, const float *g, const float *u, size_t n)
{
    meter = (meter + 2000000) % 1000000000;
    write_number(package_path, "energy_uj", meter);
    fm_ops_cpu.swiglu(c, y, g, u, n);
}

static void joules_are_shared_by_work(void **state)
{
    (void)state;
    struct fm_engine *e = engine_of(256);
    struct stage at = {.lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER};
    struct part p[3] = {0};
    struct fm_ops ops = fm_ops_cpu;
    struct fm_scheduler_stats stats;
    int32_t ids[100];
    some_ids(ids, 100, 6);
    (void)snprintf(meter_path, sizeof meter_path, "/tmp/fathom-test-%d-power", (int)getpid());
    (void)snprintf(package_path, sizeof package_path, "%s/intel-rapl:0", meter_path);
    assert_int_equal(mkdir(meter_path, 0700) | mkdir(package_path, 0700), 0);
    meter = 999000000; /* runs over with the first call */
    write_number(package_path, "energy_uj", meter);
    write_number(package_path, "max_energy_range_uj", 1000000000);
    ops.swiglu = costly_swiglu;
    e->ctx.op = &ops;
    const struct fm_scheduler_options o = {.slots = 2, .no_cache = true, .powercap = meter_path};
    ok(fm_scheduler_new(e, &o, &at.s, &err));
    assert_true(fm_scheduler_has_joules(at.s));
    submit(&at, &p[0], 'a', ids, 50, 1); /* a step of two layers */
    await(&at, 1);
    assert_true(fabs(p[0].r.joules - 4) < 1e-9);
    pthread_mutex_lock(&e->turn); /* b's prompt and c's in one step, which is shared out by rows; or one by one */
    submit(&at, &p[1], 'b', ids, 30, 3);
    submit(&at, &p[2], 'c', ids, 60, 3);
    pthread_mutex_unlock(&e->turn);
    await(&at, 3);
    fm_scheduler_stats(at.s, &stats);
    assert_true(fabs(stats.joules - 4 * (double)stats.steps) < 1e-9);
    assert_true(fabs(p[1].r.joules + p[2].r.joules - (stats.joules - 4)) < 1e-9);
    finish(&at, p, 3);
    fm_engine_close(e);

    struct fm_energy none;
    fm_energy_open(&none, "/nowhere");
    assert_int_equal(none.n, 0);
    assert_true(fm_energy_read(&none) == 0);
    fm_energy_close(&none);
    static const char *const files[] = {"energy_uj", "max_energy_range_uj"};
    for (int i = 0; i < 2; i++) {
        char path[160];
        (void)snprintf(path, sizeof path, "%s/%s", package_path, files[i]);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(package_path) | rmdir(meter_path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(users_share_the_work),
        cmocka_unit_test(accounts_neither_save_nor_forgive),
        cmocka_unit_test(a_long_prompt_holds_nobody_up),
        cmocka_unit_test(prompts_take_their_share_and_no_more),
        cmocka_unit_test(a_prompt_stops_between_two_tiles),
        cmocka_unit_test(joules_are_shared_by_work),
        cmocka_unit_test(who_leaves_disturbs_nobody),
    };
    (void)snprintf(model_path, sizeof model_path, "/tmp/fathom-test-%d-t.gguf", (int)getpid());
    write_model(model_path, true);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)unlink(model_path);
    return failed;
}
