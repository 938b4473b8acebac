/* Speculation changes no bit and no text: drafted rows against the same tokens fed one by one, generations with and without
 * drafts of every length, the MTP block's cache against one that never drafted, PyTorch's MTP logits, the guard. */
#include <dirent.h>
#include <math.h>

#include "run_testing.h"

static bool quick;
static char mtp_path[64], mtp_folder[64]; /* a DeepSeek-V3 whose block guesses well, as GGUF and as a folder */

static size_t row_bytes(const struct fm_engine *e) { return (size_t)fm_engine_info(e)->vocab * sizeof(float); }

/* The golden models: every family.  i-th folder, NULL behind the last. */
static const char *golden_at(int i)
{
    static const char *const folders[] = {
        "tests/golden/llama-tied-scaled", "tests/golden/qwen2-tied", "tests/golden/qwen3",
        "tests/golden/v2-groups-yarn",    "tests/golden/v2-lite",    "tests/golden/v3-groups-yarn",
        "tests/golden/v3-one-group",      "tests/golden/v3-mtp",     NULL};
    return folders[i];
}

static void ids_of(const struct fm_engine *e, int32_t *ids, int n, uint64_t seed)
{
    some_ids(ids, n, seed);
    for (int i = 0; i < n; i++) ids[i] %= fm_engine_info(e)->vocab;
}

/* ---- bits ---- */

/* ids[at … at+n) as one step of drafts, then one by one: the same logits and the same cache, to the bit. */
static void check_rows(struct fm_session *s, const int32_t *ids, int at, int n)
{
    const struct fm_engine *e = s->e;
    const size_t bytes = row_bytes(e);
    float *ahead = malloc((size_t)n * bytes);
    assert_non_null(ahead);
    fm_session_rewind(s, 0);
    ok(fm_session_feed(s, ids, at, NULL, &err));
    ok(fm_session_feed_ahead(s, ids + at, n, &err));
    memcpy(ahead, s->ahead, (size_t)n * bytes);
    assert_int_equal(fm_session_length(s), at + 1);
    for (int i = 1; i < n; i++) {
        assert_false(fm_session_take(s, ids[at + i] ? 0 : 1));
        assert_true(fm_session_take(s, ids[at + i]));
        assert_memory_equal(fm_session_logits(s), (char *)ahead + (size_t)i * bytes, bytes);
    }
    assert_false(fm_session_take(s, ids[at]));
    int32_t last = ids[at + n];
    ok(fm_session_feed(s, &last, 1, NULL, &err)); /* sees every cached row */
    float *behind = malloc(bytes);
    assert_non_null(behind);
    memcpy(behind, fm_session_logits(s), bytes);

    fm_session_rewind(s, 0);
    ok(fm_session_feed(s, ids, at, NULL, &err));
    for (int i = 0; i < n; i++) {
        ok(fm_session_feed(s, ids + at + i, 1, NULL, &err));
        assert_memory_equal(fm_session_logits(s), (char *)ahead + (size_t)i * bytes, bytes);
    }
    ok(fm_session_feed(s, &last, 1, NULL, &err));
    assert_memory_equal(fm_session_logits(s), behind, bytes);
    free(ahead);
    free(behind);
}

static void drafted_rows_have_the_bits_of_single_ones(void **state)
{
    (void)state;
    static const int starts[] = {1, 2, 5, 60, 127, 508};
    int32_t ids[540];
    for (int m = 0; golden_at(m); m++)
        for (int way = 0; way < 6; way++) { /* threads × {fast, deterministic, exact} */
            if (quick && (way + m) % 3) continue;
            struct fm_engine *e = engine((struct fm_engine_options){.model = golden_at(m),
                                                                    .ctx = 540,
                                                                    .threads = 1 + way % 2,
                                                                    .deterministic = way / 2 == 1,
                                                                    .exact = way / 2 == 2,
                                                                    .draft = FM_DRAFT_AUTO,
                                                                    .draft_max = 16});
            struct fm_session *s = session(e, 0);
            ids_of(e, ids, 540, 11);
            for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
                for (int n = 2; n <= 17; n += n < 5 ? 1 : 6) check_rows(s, ids, starts[i], n);
            fm_session_free(s);
            fm_engine_close(e);
        }
}

/* ---- generations over ids ---- */

struct told {
    int length;
    int32_t ids[400];
    float logits[512];
    struct fm_generation_stats stats;
};

static const int PROMPT = 12;

/* A prompt that repeats itself, so that lookup finds something, and n tokens behind it. */
static void tell(struct fm_engine *e, const struct fm_generation *g, struct told *t)
{
    struct fm_session *s = session(e, 0);
    int32_t ids[12];
    ids_of(e, ids, PROMPT / 2, 3);
    memcpy(ids + PROMPT / 2, ids, (size_t)PROMPT / 2 * sizeof *ids);
    ok(fm_session_feed(s, ids, PROMPT, NULL, &err));
    s->unguarded = true;
    ok(fm_session_generate(s, g, &t->stats, &err));
    t->length = fm_session_length(s);
    assert_in_range(t->length, PROMPT, 400);
    assert_in_range(fm_engine_info(e)->vocab, 1, 512);
    memcpy(t->ids, s->ids, (size_t)t->length * sizeof *t->ids);
    assert_non_null(fm_session_logits(s));
    memcpy(t->logits, fm_session_logits(s), row_bytes(e));
    fm_session_free(s);
}

static void same_told(const struct fm_engine *e, const struct told *a, const struct told *b)
{
    assert_int_equal(a->length, b->length);
    assert_memory_equal(a->ids, b->ids, (size_t)a->length * sizeof *a->ids);
    assert_memory_equal(a->logits, b->logits, row_bytes(e));
    assert_int_equal(a->stats.answer_tokens, b->stats.answer_tokens);
    assert_int_equal(a->stats.finish, b->stats.finish);
}

static const struct fm_sampling samplings[] = {
    {.top_p = 1, .repeat = 1},                      /* greedy */
    {.top_p = 1, .repeat = 1.1f, .repeat_last = 6}, /* greedy, penalised */
    {.temp = 0.5f, .top_p = 0.95f, .top_k = 5, .repeat = 1.05f, .repeat_last = -1, .seed = 7},
    {.temp = 0.8f, .top_p = 1, .min_p = 0.2f, .repeat = 1, .seed = 8},
};
enum { N_SAMPLINGS = sizeof samplings / sizeof *samplings };

static long total_accepted, total_refused;

static void compare_generations(const char *model, enum fm_draft draft, int threads)
{
    struct fm_engine_options o = {.model = model, .ctx = 160, .threads = threads, .draft = draft, .draft_max = 4};
    struct fm_engine *e = engine(o), *plain;
    o.draft = FM_DRAFT_OFF;
    o.threads = 1;
    plain = engine(o);
    for (int i = 0; i < N_SAMPLINGS; i++) {
        struct told want, got;
        struct fm_generation g = {.sampling = samplings[i], .max_tokens = i % 2 ? -1 : 100};
        tell(plain, &g, &want);
        assert_int_equal(want.stats.drafted, 0);
        assert_int_equal(want.stats.steps, want.stats.answer_tokens);
        for (int n = 1; n <= 4; n++) {
            g.draft = draft;
            g.draft_max = n;
            tell(e, &g, &got);
            same_told(e, &want, &got);
            assert_int_equal(got.stats.steps + got.stats.accepted, got.stats.answer_tokens);
            assert_in_range(got.stats.accepted, 0, got.stats.drafted);
            total_accepted += got.stats.accepted;
            total_refused += got.stats.drafted - got.stats.accepted;
        }
    }
    fm_engine_close(e);
    fm_engine_close(plain);
}

static void texts_do_not_depend_on_lookup(void **state)
{
    (void)state;
    total_accepted = total_refused = 0;
    for (int m = 0; golden_at(m); m++)
        for (int threads = 1; threads <= (quick ? 1 : 2); threads++)
            compare_generations(golden_at(m), FM_DRAFT_LOOKUP, threads);
    print_message("           lookup: %ld accepted, %ld not\n", total_accepted, total_refused);
    assert_true(total_accepted > 100 && total_refused > 100);
}

static void texts_do_not_depend_on_mtp(void **state)
{
    (void)state;
    total_accepted = total_refused = 0;
    const char *models[] = {mtp_path, mtp_folder, "tests/golden/v3-mtp"};
    for (int m = 0; m < 3; m++)
        for (int threads = 1; threads <= (quick ? 1 : 2); threads++) {
            compare_generations(models[m], FM_DRAFT_MTP, threads);
            compare_generations(models[m], FM_DRAFT_AUTO, threads);
        }
    print_message("           mtp: %ld accepted, %ld not\n", total_accepted, total_refused);
    assert_true(total_accepted > 1000 && total_refused > 100);
}

/* ---- texts ---- */

/* What happened between a session's "the cat" and the end of a generation. */
struct story {
    struct fm_buf text;
    struct fm_session *s;
    struct fm_generation_stats stats;
    int pieces, cancel_at, refuse_at; /* 0: never */
};

static bool listen(void *arg, const char *text, size_t n)
{
    struct story *t = arg;
    fm_buf_add(&t->text, text, n);
    if (++t->pieces == t->cancel_at) fm_session_cancel(t->s);
    return t->pieces != t->refuse_at;
}

/* The session stays open in t->s. */
static void narrate(struct fm_engine *e, struct fm_generation g, struct story *t)
{
    int32_t *ids;
    size_t n;
    t->s = session(e, 0);
    t->s->unguarded = true;
    ok(fm_text_encode(fm_engine_tokenizer(e), "the cat", 7, 0, &ids, &n, &err));
    ok(fm_session_feed(t->s, ids, (int)n, NULL, &err));
    fm_text_free(ids);
    g.on_text = listen;
    g.arg = t;
    ok(fm_session_generate(t->s, &g, &t->stats, &err));
    fm_buf_str(&t->text, "");
}

static void same_story(const struct story *a, const struct story *b)
{
    assert_string_equal(a->text.data, b->text.data);
    assert_int_equal(a->stats.answer_tokens, b->stats.answer_tokens);
    assert_int_equal(a->stats.finish, b->stats.finish);
    assert_int_equal(a->pieces, b->pieces);
    assert_int_equal(a->s->length, b->s->length);
    assert_memory_equal(a->s->ids, b->s->ids, (size_t)a->s->length * sizeof *a->s->ids);
    assert_int_equal(!fm_session_logits(a->s), !fm_session_logits(b->s));
    if (fm_session_logits(a->s)) assert_memory_equal(a->s->logits, b->s->logits, row_bytes(a->s->e));
}

/* Rows of the MTP block's cache that count, in order of position. */
static void mtp_rows(struct fm_session *s, char *out)
{
    for (int i = 0; i < s->mtp.rows; i++)
        fm_kv_keep(&s->kv, s->e->model.cfg.L, i, out + (size_t)i * fm_kv_row_bytes(&s->kv.shape), false);
}

/* What the block says of the token after next; the session must hold its next token. */
static void mtp_says(struct fm_session *s, int32_t next, float *logits)
{
    int32_t out;
    struct fm_engine *e = s->e;
    s->ids[s->length] = next;
    atomic_store(&s->cancel, false);
    fm_session_drop_ahead(s);
    ok(fm_session_complete(s, &err));
    fm_session_turn(s);
    fm_mtp_draft(&e->ctx, &e->model.cfg, &e->model.w, e->model.rope_freq, &s->mtp, s->length, 1, &out);
    ok(fm_session_turn_done(s, &err));
    memcpy(logits, s->mtp.logits, row_bytes(e));
    fm_mtp_settle(&s->mtp, s->length);
}

/* A session that drafted holds what a fresh one holds that was fed the same tokens.  Equal bits whatever the history are
 * promised by a deterministic engine. */
static void holds_what_it_should(struct fm_session *s)
{
    struct fm_engine *e = s->e;
    const size_t bytes = (size_t)s->ctx * fm_kv_row_bytes(&s->kv.shape);
    struct fm_session *fresh = session(e, 0);
    char *a = calloc(1, bytes), *b = calloc(1, bytes);
    float *x = malloc(row_bytes(e)), *y = malloc(row_bytes(e));
    assert_true(a && b && x && y);
    ok(fm_session_feed(fresh, s->ids, s->length, NULL, &err));
    if (s->length < s->ctx) {
        mtp_says(s, 5, x);
        mtp_says(fresh, 5, y);
        assert_memory_equal(x, y, row_bytes(e));
        assert_int_equal(s->mtp.rows, s->length - 1);
        assert_int_equal(fresh->mtp.rows, s->length - 1);
        mtp_rows(s, a);
        mtp_rows(fresh, b);
        assert_memory_equal(a, b, bytes);
        ok(fm_session_feed(s, (const int32_t[]){5}, 1, NULL, &err));
        ok(fm_session_feed(fresh, (const int32_t[]){5}, 1, NULL, &err));
        assert_memory_equal(s->logits, fresh->logits, row_bytes(e));
    }
    free(a);
    free(b);
    free(x);
    free(y);
    fm_session_free(fresh);
}

/* The same with drafts of 1 … 4 tokens from each source. */
static void compare_stories(struct fm_engine *plain, struct fm_engine *e, struct fm_generation g, int cancel_at,
                            int refuse_at, long *accepted)
{
    struct story want = {.cancel_at = cancel_at, .refuse_at = refuse_at};
    g.draft = FM_DRAFT_OFF;
    narrate(plain, g, &want);
    for (int n = 1; n <= 4; n++)
        for (enum fm_draft d = FM_DRAFT_AUTO; d <= FM_DRAFT_MTP; d++) {
            struct story got = {.cancel_at = cancel_at, .refuse_at = refuse_at};
            g.draft = d;
            g.draft_max = n;
            narrate(e, g, &got);
            same_story(&want, &got);
            *accepted += got.stats.accepted;
            if (n == 3) holds_what_it_should(got.s);
            fm_session_free(got.s);
            fm_buf_release(&got.text);
        }
    fm_session_free(want.s);
    fm_buf_release(&want.text);
}

static struct fm_engine *mtp_engine(int ctx, enum fm_draft draft)
{
    return engine(
        (struct fm_engine_options){.model = mtp_path, .deterministic = true, .ctx = ctx, .threads = 1, .draft = draft});
}

/* However a generation ends, and wherever: a limit, a stop text, a refusal, a cancel, the context. */
static void endings_are_the_same(void **state)
{
    (void)state;
    long accepted = 0;
    struct fm_engine *plain = mtp_engine(80, FM_DRAFT_OFF), *e = mtp_engine(80, FM_DRAFT_AUTO);
    struct fm_generation g = {.max_tokens = -1, .sampling = samplings[1]};
    struct story all = {0};
    narrate(plain, g, &all);
    assert_true(all.text.len > 40);
    for (int i = 0; i <= 12; i++) {
        g.max_tokens = i;
        compare_stories(plain, e, g, 0, 0, &accepted);
    }
    g.max_tokens = 40;
    for (int i = 1; i < 20; i += quick ? 5 : 1) {
        compare_stories(plain, e, g, i, 0, &accepted);
        compare_stories(plain, e, g, 0, i, &accepted);
    }
    for (size_t at = 0; at + 3 < 40; at += quick ? 7 : 1)
        for (size_t n = 1; n <= 3; n++) {
            char stop[4] = {0};
            const char *stops[] = {stop};
            memcpy(stop, all.text.data + at, n);
            g.stop = stops;
            g.n_stop = 1;
            compare_stories(plain, e, g, 0, 0, &accepted);
        }
    g.n_stop = 0;
    g.max_tokens = -1;
    compare_stories(plain, e, g, 0, 0, &accepted); /* the context */
    print_message("           %ld accepted\n", accepted);
    assert_true(accepted > 500);
    fm_session_free(all.s);
    fm_buf_release(&all.text);
    fm_engine_close(plain);
    fm_engine_close(e);
}

/* Warm sampling ends some answers by an end token, and some of these end tokens were drafted. */
static void end_tokens_end_it(void **state)
{
    (void)state;
    long accepted = 0;
    struct fm_engine *plain = mtp_engine(80, FM_DRAFT_OFF), *e = mtp_engine(80, FM_DRAFT_AUTO);
    struct fm_generation g = {.max_tokens = 60, .sampling = {.temp = 3, .top_p = 1, .repeat = 1}};
    const int32_t cat = 1;
    for (int seed = 0; seed < (quick ? 6 : 40); seed++) {
        g.sampling.seed = (uint64_t)seed;
        compare_stories(plain, e, g, 0, 0, &accepted);
    }
    /* an end token ahead: take it as the sampler would, it enters nothing */
    int32_t end = -1;
    for (int32_t id = 0; id < fm_text_vocab(fm_engine_tokenizer(e)); id++)
        if (fm_text_is_end(fm_engine_tokenizer(e), id)) end = id;
    assert_true(end >= 0);
    struct fm_session *s = session(e, 0);
    ok(fm_session_feed(s, &cat, 1, NULL, &err));
    ok(fm_session_feed_ahead(s, (const int32_t[]){cat, end, cat}, 3, &err));
    memset(s->logits, 0, row_bytes(e));
    s->logits[end] = 1;
    struct fm_generation_stats st;
    g.sampling = samplings[0];
    ok(fm_session_generate(s, &g, &st, &err));
    assert_int_equal(st.finish, FM_FINISH_STOP);
    assert_int_equal(st.answer_tokens, 0);
    assert_int_equal(fm_session_length(s), 2);
    holds_what_it_should(s);
    fm_session_free(s);
    fm_engine_close(plain);
    fm_engine_close(e);
}

/* ---- conversations ---- */

static struct fm_buf say(struct fm_chat *c, const char *text, enum fm_draft draft, struct fm_generation_stats *st)
{
    struct fm_buf answer = {0};
    struct fm_generation g = {
        .max_tokens = 20, .on_text = collect, .arg = &answer, .sampling = samplings[1], .draft = draft};
    fm_chat_session(c)->unguarded = true;
    if (text)
        ok(fm_chat_send(c, text, &g, st, &err));
    else
        ok(fm_chat_regenerate(c, &g, st, &err));
    fm_buf_str(&answer, "");
    return answer;
}

static void conversations_are_the_same(void **state)
{
    (void)state;
    static const char *const lines[] = {"hello", "and now?", NULL, "the cat sat on the mat", NULL, NULL, "once more"};
    struct fm_engine *plain = mtp_engine(400, FM_DRAFT_OFF), *e = mtp_engine(400, FM_DRAFT_AUTO);
    struct fm_generation_stats want, got;
    long accepted = 0;
    for (enum fm_draft d = FM_DRAFT_AUTO; d <= FM_DRAFT_MTP; d++) {
        struct fm_chat *a = NULL, *b = NULL;
        ok(fm_chat_new(plain, 0, NULL, NULL, &a, &err));
        ok(fm_chat_new(e, 0, NULL, NULL, &b, &err));
        for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
            struct fm_buf x = say(a, lines[i], FM_DRAFT_OFF, &want), y = say(b, lines[i], d, &got);
            assert_string_equal(x.data, y.data);
            assert_int_equal(want.cached_tokens, got.cached_tokens);
            accepted += got.accepted;
            fm_buf_release(&x);
            fm_buf_release(&y);
        }
        holds_what_it_should(fm_chat_session(b));
        fm_chat_free(a);
        fm_chat_free(b);
    }
    assert_true(accepted > 20);
    fm_engine_close(plain);
    fm_engine_close(e);
}

/* ---- the MTP block ---- */

/* Feeds, rewinds, cancels and drafts in a long random order; the block's cache is that of a fresh session all along. */
static void the_mtp_cache_follows_the_timeline(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){
        .model = mtp_path, .deterministic = true, .ctx = 200, .threads = 1, .chunk = 48, .draft = FM_DRAFT_MTP});
    struct fm_session *s = session(e, 0);
    struct fm_rng rng;
    int32_t ids[200];
    s->unguarded = true;
    fm_rng_init(&rng, 4);
    for (int i = 0; i < (quick ? 30 : 150); i++) {
        struct fm_generation g = {.draft = FM_DRAFT_MTP,
                                  .max_tokens = (int)fm_rng_below(&rng, 40),
                                  .sampling = samplings[fm_rng_below(&rng, N_SAMPLINGS)]};
        const int room = s->ctx - s->length;
        ids_of(e, ids, 200, fm_rng_u64(&rng));
        switch (fm_rng_below(&rng, 4)) {
        case 0: ok(fm_session_feed(s, ids, (int)fm_rng_below(&rng, (uint64_t)room + 1), NULL, &err)); break;
        case 1: fm_session_rewind(s, (int)fm_rng_below(&rng, (uint64_t)s->length + 1)); break;
        case 2: fm_session_rewind(s, s->length - 1); break;
        default:
            if (s->length) ok(fm_session_generate(s, &g, NULL, &err));
        }
        if (s->length == s->ctx) fm_session_rewind(s, 3);
        if (s->length) holds_what_it_should(s);
    }
    fm_session_free(s);
    fm_engine_close(e);
}

/* PyTorch's logits of the block, position by position, behind prompts of several lengths. */
static void the_block_says_what_pytorch_says(void **state)
{
    (void)state;
    const char *folders[] = {"tests/golden/v3-mtp", "../shared/golden/v3-mtp"};
    for (int f = 0; f < 2; f++) {
        char path[64];
        struct fm_tensors *v = NULL;
        struct fm_tensor_info logits;
        struct fm_file *file;
        (void)snprintf(path, sizeof path, "%s/vectors.safetensors", folders[f]);
        if (f && access(path, R_OK)) continue;
        ok(fm_tensors_open(path, &v, &err));
        ok(fm_file_open(path, &file, &err));
        const struct fm_tensor *tokens = fm_file_find(file, "tokens"); /* I64 */
        fm_tensors_info(v, fm_tensors_find(v, "mtp.logits"), &logits);
        const int T = (int)tokens->shape[1], V = (int)logits.shape[2];
        float *want = malloc(logits.n_elements * sizeof *want), *got = malloc((size_t)V * sizeof *got);
        int32_t ids[256];
        assert_true(want && got && T <= 256);
        ok(fm_tensors_read(v, fm_tensors_find(v, "mtp.logits"), want, &err));
        for (int i = 0; i < T; i++) {
            int64_t id;
            memcpy(&id, (const char *)tokens->data + 8 * i, 8);
            ids[i] = (int32_t)id;
        }
        for (int way = 0; way < 4; way++) {
            struct fm_engine *e = engine((struct fm_engine_options){.model = folders[f],
                                                                    .ctx = T + 1,
                                                                    .exact = way % 2,
                                                                    .kv_type = "f32",
                                                                    .chunk = way / 2 ? 5 : 0,
                                                                    .draft = FM_DRAFT_MTP});
            struct fm_session *s = session(e, 0);
            double worst = 0, top = 0;
            ok(fm_session_feed(s, ids, way + 1, NULL, &err));
            for (int t = way; t < T - 1; t++) {
                mtp_says(s, ids[t + 1], got);
                for (int i = 0; i < V; i++) {
                    const float x = want[(size_t)t * (size_t)V + (size_t)i];
                    worst = fmax(worst, fabs((double)got[i] - x));
                    top = fmax(top, fabs((double)x));
                }
                ok(fm_session_feed(s, ids + t + 1, 1, NULL, &err));
            }
            assert_true(worst <= 1e-4 * top);
            fm_session_free(s);
            fm_engine_close(e);
        }
        free(want);
        free(got);
        fm_file_close(file);
        fm_tensors_close(v);
    }
}

/* ---- the guard ---- */

/* A machine on which a step of n rows takes 1 + row·(n−1), and a source of which each token comes true with probability p:
 * tokens per second with the guard's choices. */
static double simulate(double row, double p, double cost, int tokens, struct fm_guard *g)
{
    struct fm_guard_source *s = &g->source[0];
    struct fm_rng rng;
    double seconds = 0, rate;
    fm_rng_init(&rng, 1);
    for (int said = 0; said < tokens;) {
        const int n = fm_guard_choose(g, s, 4, &rate);
        int accepted = 0;
        while (accepted < n && fm_rng_uniform(&rng) < p) accepted++;
        fm_guard_note_draft(s, n, cost * n);
        fm_guard_note_step(g, 1 + n, 1 + row * n);
        fm_guard_note_result(s, n, accepted);
        seconds += 1 + row * n + cost * n;
        said += 1 + accepted;
    }
    return tokens / seconds;
}

static void the_guard_drafts_where_it_pays(void **state)
{
    (void)state;
    struct fm_guard g = {0};
    assert_true(simulate(0.1, 0.9, 0.02, 5000, &g) > 2.5); /* best: four tokens, (1−p⁵)/(1−p)/1.48 = 2.77 */
    memset(&g, 0, sizeof g);
    assert_true(simulate(0.9, 0.3, 0.1, 5000, &g) > 0.98); /* never: 1 */
    memset(&g, 0, sizeof g);
    assert_true(simulate(0.5, 0.05, 0.3, 5000, &g) > 0.98);
    assert_true(simulate(0.1, 0.9, 0.02, 20000, &g) > 2); /* it is tried again */
    memset(&g, 0, sizeof g);
    assert_true(simulate(0.35, 0.6, 0.05, 5000, &g) > 1.05); /* one or two tokens: 1.6/1.4 = 1.14 */
}

/* Around the point where drafts are worth what they cost, where a few lucky ones look like a reason to go on. */
static void the_guard_never_loses_much(void **state)
{
    static const double costs[][2] = {{0.1, 0.05}, {0.35, 0.1}, {0.9, 0.1}, {0.2, 0.4}};
    (void)state;
    for (int i = 0; i < 4; i++)
        for (int percent = 0; percent <= 100; percent += 5) {
            struct fm_guard g = {0};
            const double rate = simulate(costs[i][0], percent / 100.0, costs[i][1], 5000, &g);
            if (rate < 0.99)
                fail_msg("a row costs %.2f, a draft %.2f, %d %% come true: %.3f of the speed without", costs[i][0],
                         costs[i][1], percent, rate);
        }
}

/* ---- what is refused, what is planned ---- */

static void refusals_name_the_reason(void **state)
{
    (void)state;
    struct fm_engine *e = NULL;
    struct fm_engine_options o = {.model = model_path, .ctx = 64, .threads = 1, .draft = FM_DRAFT_MTP};
    assert_int_equal(fm_engine_open(&o, &e, &err), FM_ERR_USAGE);
    assert_non_null(strstr(err.message, model_path));
    assert_non_null(strstr(err.hint, "lookup"));
    o.draft = FM_DRAFT_LOOKUP;
    o.draft_max = 17;
    assert_int_equal(fm_engine_open(&o, &e, &err), FM_ERR_USAGE);
    o.draft_max = 2;
    o.draft = (enum fm_draft)9;
    assert_int_equal(fm_engine_open(&o, &e, &err), FM_ERR_USAGE);
    o.draft = FM_DRAFT_AUTO; /* lookup alone */
    e = engine(o);
    struct fm_session *s = session(e, 0);
    struct fm_generation g = {.max_tokens = 3, .sampling = samplings[0], .draft = FM_DRAFT_MTP};
    ok(fm_session_feed(s, (const int32_t[]){1, 2}, 2, NULL, &err));
    assert_int_equal(fm_session_generate(s, &g, NULL, &err), FM_ERR_USAGE);
    g.draft = FM_DRAFT_AUTO;
    g.draft_max = 3;
    assert_int_equal(fm_session_generate(s, &g, NULL, &err), FM_ERR_USAGE);
    g.draft_max = -1;
    assert_int_equal(fm_session_generate(s, &g, NULL, &err), FM_ERR_USAGE);
    g.draft_max = 0;
    g.draft = (enum fm_draft) - 1;
    assert_int_equal(fm_session_generate(s, &g, NULL, &err), FM_ERR_USAGE);
    assert_int_equal(s->length, 2);
    g.draft = FM_DRAFT_LOOKUP;
    ok(fm_session_generate(s, &g, NULL, &err));
    fm_session_free(s);
    fm_engine_close(e);
}

static void note(void *arg, const char *item, uint64_t bytes, bool file_backed)
{
    uint64_t *p = arg;
    (void)file_backed;
    if (!strcmp(item, "step scratch")) p[0] = bytes;
    if (!strcmp(item, "KV cache")) p[1] = bytes;
    if (!strcmp(item, "session")) p[2] = bytes;
}

static void drafts_are_planned(void **state)
{
    (void)state;
    for (int m = 3; golden_at(m); m++)
        for (int way = 0; way < 4; way++) {
            struct fm_engine_options o = {.model = golden_at(m),
                                          .threads = 1,
                                          .ctx = way == 3 ? 5 : 90,
                                          .exact = way & 1,
                                          .chunk = way & 2 ? 1 : 0,
                                          .draft = FM_DRAFT_AUTO,
                                          .draft_max = 16};
            struct told t;
            uint64_t plan[3];
            ok(fm_memory_plan(&o, note, plan, &err));
            struct fm_engine *e = engine(o);
            struct fm_session *s = session(e, 0);
            assert_int_equal(plan[0], e->step.cap);
            assert_int_equal(plan[1], e->kv.reserved_bytes);
            assert_int_equal(plan[2], s->arena.cap);
            fm_session_free(s);
            struct fm_generation g = {.max_tokens = -1, .sampling = samplings[0], .draft = FM_DRAFT_AUTO};
            if (way < 3) tell(e, &g, &t);
            assert_int_equal(e->step.overflow, false);
            fm_engine_close(e);
        }
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct fm_engine_options o = {.model = mtp_path, .threads = 1, .ctx = 64, .draft = FM_DRAFT_MTP};
    enum fm_status st = FM_ERR_MEMORY;
    for (long n = 1; st; n += quick ? 5 : 1) {
        struct fm_engine *e = NULL;
        struct fm_session *s = NULL;
        fm_mem_fail_at(n);
        st = fm_engine_open(&o, &e, &err);
        if (!st) st = fm_session_new(e, 0, &s, &err);
        fm_mem_fail_at(0);
        if (st) assert_int_equal(st, FM_ERR_MEMORY);
        fm_session_free(s);
        fm_engine_close(e);
    }
}

static int write_models(void **state)
{
    static const char config[] =
        "{\"model_type\":\"deepseek_v3\",\"vocab_size\":280,\"hidden_size\":32,\"num_hidden_layers\":2,"
        "\"intermediate_size\":48,\"num_attention_heads\":4,\"kv_lora_rank\":16,\"q_lora_rank\":24,"
        "\"qk_nope_head_dim\":16,\"qk_rope_head_dim\":8,\"v_head_dim\":16,\"n_routed_experts\":4,"
        "\"num_experts_per_tok\":2,\"moe_intermediate_size\":16,\"n_shared_experts\":1,\"n_group\":1,\"topk_group\":1,"
        "\"first_k_dense_replace\":1,\"num_nextn_predict_layers\":1,\"max_position_embeddings\":4096,"
        "\"rms_norm_eps\":1e-5,\"rope_theta\":10000,\"tie_word_embeddings\":false}";
    (void)state;
    (void)snprintf(model_path, sizeof model_path, "/tmp/fathom-draft-%d.gguf", (int)getpid());
    (void)snprintf(mtp_path, sizeof mtp_path, "/tmp/fathom-draft-%d-mtp.gguf", (int)getpid());
    (void)snprintf(mtp_folder, sizeof mtp_folder, "/tmp/fathom-draft-%d-folder", (int)getpid());
    write_model(model_path, true);
    branch_scale = 0.05;
    write_model_of(config, mtp_path, true);
    write_model_of(config, mtp_folder, true);
    write_text_files(mtp_folder);
    return 0;
}

static int remove_models(void **state)
{
    (void)state;
    (void)unlink(model_path);
    (void)unlink(mtp_path);
    return remove_model_folder(mtp_folder);
}

int main(int argc, char **argv)
{
    quick = argc > 1 && !strcmp(argv[1], "--quick");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drafted_rows_have_the_bits_of_single_ones),
        cmocka_unit_test(texts_do_not_depend_on_lookup),
        cmocka_unit_test(texts_do_not_depend_on_mtp),
        cmocka_unit_test(endings_are_the_same),
        cmocka_unit_test(end_tokens_end_it),
        cmocka_unit_test(conversations_are_the_same),
        cmocka_unit_test(the_mtp_cache_follows_the_timeline),
        cmocka_unit_test(the_block_says_what_pytorch_says),
        cmocka_unit_test(the_guard_drafts_where_it_pays),
        cmocka_unit_test(the_guard_never_loses_much),
        cmocka_unit_test(refusals_name_the_reason),
        cmocka_unit_test(drafts_are_planned),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, write_models, remove_models);
}
