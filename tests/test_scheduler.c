/* Many requests over one engine: the same text alone and in company, caches, turns, ends. */
#include <dirent.h>
#include <math.h>
#include <pthread.h>

#include "run_testing.h"

#include "fathom_serve.h"
#include "run/prefix.h"

/* ---- a request and what came of it ---- */

struct answer {
    struct fm_buf text;
    struct fm_request_result r;
    struct fm_token_event first;
    char stop[8];
    int tokens, echoes, progress;
    bool over;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    struct fm_request *request;
};

static void on_text(void *arg, const char *text, size_t n) { fm_buf_add(&((struct answer *)arg)->text, text, n); }

static void on_token(void *arg, const struct fm_token_event *t)
{
    struct answer *a = arg;
    if (!a->tokens && !a->echoes) a->first = *t;
    *(t->prompt ? &a->echoes : &a->tokens) += 1;
}

static void on_progress(void *arg, int done, int total, int cached)
{
    if (done > total || cached > done) abort(); /* not the test's thread: cmocka's own would jump into it */
    ((struct answer *)arg)->progress = done;
}

static void on_end(void *arg, const struct fm_request_result *r)
{
    struct answer *a = arg;
    pthread_mutex_lock(&a->lock);
    if (a->over) abort();
    a->r = *r;
    (void)snprintf(a->stop, sizeof a->stop, "%s", r->stop ? r->stop : "");
    a->over = true;
    pthread_cond_signal(&a->ended);
    pthread_mutex_unlock(&a->lock);
}

static struct fm_request_options options(const int32_t *ids, int n, int max_tokens)
{
    struct fm_request_options o = {.ids = ids, .n_ids = n, .max_tokens = max_tokens, .top = -1};
    o.sampling = fm_sampling_default();
    o.on_text = on_text;
    o.on_token = on_token;
    o.on_progress = on_progress;
    o.on_end = on_end;
    return o;
}

static void submit(struct fm_scheduler *s, struct answer *a, struct fm_request_options o)
{
    *a = (struct answer){.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
    o.arg = a;
    ok(fm_scheduler_submit(s, &o, &a->request, NULL, &err));
}

static void await_keeping(struct answer *a)
{
    pthread_mutex_lock(&a->lock);
    while (!a->over) pthread_cond_wait(&a->ended, &a->lock);
    pthread_mutex_unlock(&a->lock);
}

static void await(struct answer *a)
{
    await_keeping(a);
    fm_request_free(a->request);
}

static void forget(struct answer *a) { fm_buf_release(&a->text); }

static const char *text_of(const struct answer *a) { return a->text.data ? a->text.data : ""; }

static struct fm_scheduler *scheduler(struct fm_engine *e, struct fm_scheduler_options o)
{
    struct fm_scheduler *s = NULL;
    ok(fm_scheduler_new(e, &o, &s, &err));
    return s;
}

/* ---- tests ---- */

/* What a plain session says. */
static void reference(struct fm_engine *e, const int32_t *ids, int n, int max_tokens, uint64_t seed, struct fm_buf *out)
{
    struct fm_session *s = session(e, 0);
    struct fm_generation g = {.sampling = fm_sampling_default(), .max_tokens = max_tokens, .on_text = collect};
    g.sampling.seed = seed;
    g.arg = out;
    ok(fm_session_feed(s, ids, n, NULL, &err));
    ok(fm_session_generate(s, &g, NULL, &err));
    fm_session_free(s);
}

static void company_changes(const char *model, bool no_cache)
{
    enum { N = 12 };
    struct fm_engine *e =
        engine((struct fm_engine_options){.model = model, .ctx = 512, .chunk = 48, .deterministic = true});
    struct fm_scheduler *s = scheduler(e, (struct fm_scheduler_options){.slots = 5, .no_cache = no_cache});
    struct answer a[N];
    int32_t ids[N][300];
    struct fm_buf want = {0};
    for (int i = 0; i < N; i++) {
        some_ids(ids[i], 300, 7);                          /* all begin alike … */
        some_ids(ids[i] + 20 * i, 300 - 20 * i, 100u + i); /* … for a while     */
        struct fm_request_options o = options(ids[i], 40 + 20 * i, 30 + i);
        o.sampling.seed = (uint64_t)i;
        submit(s, &a[i], o);
    }
    for (int i = 0; i < N; i++) {
        await(&a[i]);
        fm_buf_clear(&want);
        reference(e, ids[i], 40 + 20 * i, 30 + i, (uint64_t)i, &want);
        assert_string_equal(text_of(&a[i]), want.data ? want.data : "");
        assert_int_equal(a[i].r.prompt_tokens, 40 + 20 * i);
        assert_true(a[i].r.end == FM_END_LENGTH || a[i].r.end == FM_END_STOP);
        assert_int_equal(a[i].progress, 40 + 20 * i);
        forget(&a[i]);
    }
    fm_buf_release(&want);
    fm_scheduler_free(s);
    fm_engine_close(e);
}

static void company_changes_nothing(void **state)
{
    (void)state;
    company_changes(model_path, false);
    company_changes(model_path, true);
    company_changes(plain_path, false); /* latent attention and experts */
}

static void what_was_computed_is_found_again(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 1024, .chunk = 64, .deterministic = true});
    struct fm_scheduler *s = scheduler(e, (struct fm_scheduler_options){.slots = 2});
    struct answer a, b;
    int32_t ids[700];
    some_ids(ids, 700, 3);
    submit(s, &a, options(ids, 640, 20));
    await(&a);
    assert_int_equal(a.r.cached_tokens, 0);
    submit(s, &b, options(ids, 640, 20)); /* 640 = 10 blocks, of which the last token must be computed */
    await(&b);
    assert_int_equal(b.r.cached_tokens, 576);
    assert_string_equal(text_of(&a), text_of(&b));
    forget(&b);
    ids[400] ^= 1; /* an edit keeps what stands before */
    submit(s, &b, options(ids, 640, 20));
    await(&b);
    assert_int_equal(b.r.cached_tokens, 384);
    forget(&b);
    struct fm_request_options other = options(ids, 640, 20);
    other.user = "somebody else";
    submit(s, &b, other);
    await(&b);
    assert_int_equal(b.r.cached_tokens, 0);
    forget(&a);
    forget(&b);
    fm_scheduler_free(s);
    fm_engine_close(e);
}

/* Removes the folder's files, of every nth one only a bit. */
static void spoil_files(const char *dir, int nth)
{
    char path[512];
    DIR *d = opendir(dir);
    int i = 0;
    assert_non_null(d);
    for (struct dirent *f; (f = readdir(d));) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, f->d_name);
        if (f->d_name[0] == '.' || (nth && i++ % nth)) continue;
        FILE *file = nth ? fopen(path, "r+b") : NULL;
        if (!nth) (void)unlink(path);
        if (!file) continue;
        (void)fseek(file, 1000, SEEK_SET);
        const int c = fgetc(file);
        (void)fseek(file, 1000, SEEK_SET);
        (void)fputc(c ^ 4, file);
        (void)fclose(file);
    }
    (void)closedir(d);
}

/* Fifteen requests together: from nothing, after a restart, after a restart with spoilt files. */
static void restarts(const char *model)
{
    enum { N = 15 };
    char dir[64];
    struct answer a[N];
    int32_t ids[N][400];
    struct fm_buf want[N] = {0};
    (void)snprintf(dir, sizeof dir, "/tmp/fathom-test-%d-cache", (int)getpid());
    for (int i = 0; i < N; i++) {
        some_ids(ids[i], 400, 7);
        some_ids(ids[i] + 25 * i, 400 - 25 * i, 100u + i);
    }
    for (int start = 0; start < 3; start++) {
        struct fm_engine *e =
            engine((struct fm_engine_options){.model = model, .ctx = 512, .chunk = 48, .deterministic = true});
        struct fm_scheduler *s = scheduler(e, (struct fm_scheduler_options){.slots = 5, .cache_dir = dir});
        struct fm_scheduler_stats st;
        int cached = 0;
        for (int i = 0; i < N; i++) {
            struct fm_request_options o = options(ids[i], 130 + 18 * i, 30 + i);
            o.sampling.seed = (uint64_t)i;
            submit(s, &a[i], o);
        }
        struct answer left;
        submit(s, &left, options(ids[N - 1], 380, 20)); /* leaves while its blocks come from disk */
        fm_request_cancel(left.request);
        for (int i = 0; i < N; i++) {
            await(&a[i]);
            if (!start) reference(e, ids[i], 130 + 18 * i, 30 + i, (uint64_t)i, &want[i]);
            assert_string_equal(text_of(&a[i]), want[i].data ? want[i].data : "");
            if (start == 1) assert_int_equal(a[i].r.cached_tokens, (130 + 18 * i - 1) / FM_KV_BLOCK * FM_KV_BLOCK);
            cached += a[i].r.cached_tokens;
            forget(&a[i]);
        }
        await(&left);
        forget(&left);
        fm_scheduler_stats(s, &st);
        assert_true(start || !st.disk_tokens);
        assert_true(!start || (st.disk_tokens > 0 && st.disk_tokens <= st.cached_tokens));
        assert_int_equal(st.disk.dropped > 0, start == 2);
        assert_int_equal(st.disk.failed + st.disk.skipped, 0);
        assert_true(start != 2 || cached > 0);
        fm_scheduler_free(s);
        fm_engine_close(e);
        if (start == 1) spoil_files(dir, 3);
    }
    for (int i = 0; i < N; i++) fm_buf_release(&want[i]);
    spoil_files(dir, 0);
    assert_int_equal(rmdir(dir), 0);
}

static void a_restart_changes_nothing(void **state)
{
    (void)state;
    restarts(model_path);
    restarts(plain_path);
}

static void probabilities_are_those_of_the_logits(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 128, .deterministic = true});
    struct fm_scheduler *s = scheduler(e, (struct fm_scheduler_options){.slots = 3});
    struct fm_session *alone = session(e, 0);
    struct answer a;
    int32_t ids[40];
    some_ids(ids, 40, 9);
    float *logits = malloc(40 * (size_t)fm_engine_info(e)->vocab * sizeof *logits);
    ok(fm_session_feed(alone, ids, 40, logits, &err));
    struct fm_request_options o = options(ids, 40, 0);
    o.top = 5;
    o.echo = true;
    submit(s, &a, o);
    await(&a);
    assert_int_equal(a.echoes, 39);
    assert_int_equal(a.tokens, 0);
    assert_int_equal(a.r.end, FM_END_LENGTH);
    double sum = 0;
    int best = 0;
    for (int v = 0; v < fm_engine_info(e)->vocab; v++) {
        sum += exp((double)logits[v]);
        if (logits[v] > logits[best]) best = v;
    }
    assert_int_equal(a.first.token.id, ids[1]);
    assert_int_equal(a.first.position, 1);
    assert_int_equal(a.first.n_top, 5);
    assert_int_equal(a.first.top[0].id, best);
    assert_true(fabs((double)a.first.token.logprob - ((double)logits[ids[1]] - log(sum))) < 1e-5);
    for (int i = 1; i < 5; i++) assert_true(a.first.top[i].logprob <= a.first.top[i - 1].logprob);
    free(logits);
    forget(&a);
    fm_session_free(alone);
    fm_scheduler_free(s);
    fm_engine_close(e);
}

static void requests_end_as_they_should(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 256});
    struct fm_scheduler *s = scheduler(e, (struct fm_scheduler_options){.slots = 1, .queue = 2});
    struct answer a, b, c;
    int32_t ids[200];
    bool busy = false;
    some_ids(ids, 200, 11);
    struct fm_request *none = NULL;
    struct fm_request_options o = options(ids, 0, 1);
    assert_int_equal(fm_scheduler_submit(s, &o, &none, &busy, &err), FM_ERR_USAGE);
    o = options(ids, 200, 5);
    o.n_ids = 257;
    assert_int_equal(fm_scheduler_submit(s, &o, &none, &busy, &err), FM_ERR_USAGE);
    o = options((const int32_t[]){5, 280}, 2, 5);
    assert_int_equal(fm_scheduler_submit(s, &o, &none, &busy, &err), FM_ERR_USAGE);
    assert_false(busy);

    /* a stop text out of what it would say */
    o = options(ids, 100, 40);
    o.ignore_end = true;
    submit(s, &a, o);
    await(&a);
    assert_int_equal(a.r.answer_tokens, 40);
    assert_true(a.text.len > 6);
    char stop[3] = {a.text.data[4], a.text.data[5], 0};
    const char *stops[] = {"\x01", stop};
    o.stop = stops;
    o.n_stop = 2;
    submit(s, &b, o);
    await(&b);
    assert_int_equal(b.r.end, FM_END_STOP);
    assert_string_equal(b.stop, stop);
    assert_ptr_equal(strstr(text_of(&a), stop), text_of(&a) + b.text.len);
    forget(&a);
    forget(&b);

    /* the queue: one in the slot, two waiting, a fourth is refused */
    o = options(ids, 100, -1);
    o.ignore_end = true;
    submit(s, &a, o);
    struct fm_scheduler_stats stats;
    do fm_scheduler_stats(s, &stats);
    while (stats.waiting);
    submit(s, &b, options(ids, 100, 5));
    submit(s, &c, options(ids, 100, 5));
    fm_scheduler_stats(s, &stats);
    if (stats.waiting == 2) {
        assert_int_equal(fm_scheduler_submit(s, &o, &none, &busy, &err), FM_ERR_FAILED);
        assert_true(busy);
    }
    fm_request_cancel(a.request);
    fm_request_cancel(c.request);
    await(&a);
    await(&b);
    await(&c);
    assert_true(a.r.end == FM_END_CANCELLED || a.r.end == FM_END_LENGTH);
    assert_int_equal(b.r.answer_tokens, 5);
    forget(&a);
    forget(&b);
    forget(&c);

    o = options(ids, 100, -1);
    o.seconds_max = 1e-9;
    submit(s, &a, o);
    await(&a);
    assert_int_equal(a.r.end, FM_END_DEADLINE);
    forget(&a);

    submit(s, &a, options(ids, 100, -1));
    submit(s, &b, options(ids, 100, -1));
    (void)fm_scheduler_drain(s);
    assert_int_equal(fm_scheduler_submit(s, &o, &none, &busy, &err), FM_ERR_FAILED);
    assert_false(busy);
    fm_scheduler_free(s);
    assert_true(a.over && b.over);
    fm_request_free(a.request);
    fm_request_free(b.request);
    forget(&a);
    forget(&b);
    fm_engine_close(e);
}

/* Requests of one prompt that come together: all or none, one place in the queue, and the prompt is computed once. */
static void company_comes_together(void **state)
{
    enum { N = 5 };
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 512, .chunk = 64, .deterministic = true});
    struct fm_scheduler *s = scheduler(e, (struct fm_scheduler_options){.slots = N, .queue = 1});
    struct answer a[N];
    struct fm_request_options o[N];
    struct fm_request *r[N] = {0};
    struct fm_buf want = {0};
    int32_t ids[400];
    some_ids(ids, 400, 21);
    for (int i = 0; i < N; i++) {
        a[i] = (struct answer){.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
        o[i] = options(ids, 400, 10 + i);
        o[i].sampling.seed = (uint64_t)i;
        o[i].arg = &a[i];
    }
    o[N - 1].n_ids = 513; /* one that cannot be served: none is */
    assert_int_equal(fm_scheduler_submit_all(s, o, N, r, NULL, &err), FM_ERR_USAGE);
    assert_null(r[0]);
    o[N - 1].n_ids = 400;
    ok(fm_scheduler_submit_all(s, o, N, r, NULL, &err));
    for (int i = 0; i < N; i++) {
        a[i].request = r[i];
        await(&a[i]);
        fm_buf_clear(&want);
        reference(e, ids, 400, 10 + i, (uint64_t)i, &want);
        assert_string_equal(text_of(&a[i]), want.data ? want.data : "");
        assert_int_equal(a[i].r.cached_tokens, i ? 384 : 0);
        forget(&a[i]);
    }
    fm_buf_release(&want);
    fm_scheduler_free(s);
    fm_engine_close(e);
}

/* The head is linear: its product with the mean of the hidden states is the mean of all rows' logits. */
static void embeddings_are_means_of_hidden_states(void **state)
{
    enum { N = 100 };
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 256, .deterministic = true});
    struct fm_engine *small = engine((struct fm_engine_options){.ctx = 256, .chunk = 16, .deterministic = true});
    struct fm_scheduler *s = scheduler(e, (struct fm_scheduler_options){.slots = 3});
    struct fm_scheduler *s_small = scheduler(small, (struct fm_scheduler_options){.slots = 3});
    struct fm_session *alone = session(e, 0);
    const int V = fm_engine_info(e)->vocab, D = fm_engine_info(e)->dim;
    float *logits = malloc((size_t)N * (size_t)V * sizeof *logits), *mean = malloc((size_t)D * sizeof *mean),
          *got = malloc((size_t)V * sizeof *got);
    struct answer a, b, c;
    int32_t ids[N];
    some_ids(ids, N, 33);
    struct fm_request_options o = options(ids, N, 0);
    o.embed = true;
    submit(s, &c, options(ids, N, 5)); /* company, and something in the cache */
    await(&c);
    forget(&c);
    submit(s, &a, o);
    submit(s, &c, options(ids + 1, N - 1, 5));
    await_keeping(&a);
    await(&c);
    assert_int_equal(a.r.end, FM_END_LENGTH);
    assert_int_equal(a.r.answer_tokens, 0);
    ok(fm_session_feed(alone, ids, N, logits, &err));
    for (int d = 0; d < D; d++) mean[d] = (float)a.r.embedding[d];
    fm_arena_reset(e->ctx.arena, 0);
    fm_model_logits(&e->ctx, &e->model.w, got, mean, 1);
    for (int v = 0; v < V; v++) {
        double want = 0, size = 0;
        for (int i = 0; i < N; i++) want += (double)logits[i * V + v] / N;
        for (int i = 0; i < N; i++) size += fabs((double)logits[i * V + v]) / N;
        assert_true(fabs((double)got[v] - want) <= 1e-5 * (size + 1)); /* some 2^-23 per term of 32, of either */
    }
    submit(s_small, &b, o);
    await_keeping(&b);
    assert_memory_equal(a.r.embedding, b.r.embedding, (size_t)D * sizeof(double));
    fm_request_free(a.request);
    fm_request_free(b.request);
    forget(&a);
    forget(&b);
    forget(&c);
    o.max_tokens = 1;
    assert_int_equal(fm_scheduler_submit(s, &o, &a.request, NULL, &err), FM_ERR_USAGE);
    free(logits);
    free(mean);
    free(got);
    fm_session_free(alone);
    fm_scheduler_free(s);
    fm_scheduler_free(s_small);
    fm_engine_close(e);
    fm_engine_close(small);
}

/* The tree by itself, against a list of every block sequence that was added. */
static void the_tree_is_bounded(void **state)
{
    (void)state;
    struct fm_kvpool pool;
    struct fm_prefix *p = NULL;
    struct fm_kv_block *blocks[6], *found[6];
    int32_t ids[6 * FM_KV_BLOCK];
    ok(fm_kvpool_init(&pool, 64, &err));
    ok(fm_prefix_new(&pool, 10 * 64, &p, &err));
    for (int round = 0; round < 200; round++) {
        const int n = 1 + round % 6;
        some_ids(ids, n * FM_KV_BLOCK, (uint64_t)(round / 3));
        const int have = fm_prefix_find(p, round % 2 ? "a" : "b", ids, n * FM_KV_BLOCK, found);
        assert_true(have <= n);
        for (int i = 0; i < have; i++) fm_kvpool_drop(&pool, found[i]);
        ok(fm_kvpool_take(&pool, n, blocks, &err));
        fm_prefix_add(p, round % 2 ? "a" : "b", ids, n, blocks);
        for (int i = 0; i < n; i++) fm_kvpool_drop(&pool, blocks[i]);
        assert_true(fm_prefix_stats(p).bytes <= fm_prefix_stats(p).limit);
        const int now = fm_prefix_find(p, round % 2 ? "a" : "b", ids, n * FM_KV_BLOCK - 1, found);
        assert_int_equal(now, n - 1); /* only whole blocks, and all that fit the limit */
        for (int i = 0; i < now; i++) fm_kvpool_drop(&pool, found[i]);
        assert_int_equal(fm_prefix_find(p, "c", ids, n * FM_KV_BLOCK, found), 0);
    }
    while (fm_prefix_evict(p)) {
    }
    assert_int_equal(fm_prefix_stats(p).bytes, 0);
    fm_prefix_free(p);
    fm_kvpool_release(&pool);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 128, .threads = 1});
    int32_t ids[100];
    some_ids(ids, 100, 4);
    for (long at = 1; at < 90; at++) {
        struct fm_scheduler *s = NULL;
        struct fm_scheduler_options o = {.slots = 2};
        struct fm_request_options r = options(ids, 80, 8);
        struct answer a = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
        r.arg = &a;
        fm_mem_fail_at(at);
        enum fm_status st = fm_scheduler_new(e, &o, &s, &err);
        if (!st) st = fm_scheduler_submit(s, &r, &a.request, NULL, &err);
        if (!st) await(&a);
        struct fm_request_options both[2] = {r, r};
        struct answer b[2] = {a, a};
        struct fm_request *of[2] = {0};
        for (int i = 0; i < 2; i++) both[i].arg = &b[i];
        for (int i = 0; i < 2; i++)
            b[i] = (struct answer){.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
        if (!st && fm_scheduler_submit_all(s, both, 2, of, NULL, &err)) {
            assert_int_equal(err.code, FM_ERR_MEMORY);
            assert_null(of[0]);
        }
        for (int i = 0; i < 2 && of[0]; i++) {
            b[i].request = of[i];
            await(&b[i]);
        }
        fm_mem_fail_at(0);
        for (int i = 0; i < 2; i++) forget(&b[i]);
        if (st) assert_int_equal(st, FM_ERR_MEMORY);
        if (!st && a.r.end == FM_END_FAILED) assert_int_equal(a.r.error.code, FM_ERR_MEMORY);
        forget(&a);
        fm_scheduler_free(s);
    }
    fm_engine_close(e);
}

int main(void)
{
    static const char mla[] =
        "{\"model_type\":\"deepseek_v3\",\"vocab_size\":280,\"hidden_size\":32,\"num_hidden_layers\":2,"
        "\"intermediate_size\":48,\"moe_intermediate_size\":16,\"num_attention_heads\":4,\"num_key_value_heads\":4,"
        "\"q_lora_rank\":16,\"kv_lora_rank\":16,\"qk_nope_head_dim\":8,\"qk_rope_head_dim\":8,\"v_head_dim\":8,"
        "\"n_routed_experts\":8,\"num_experts_per_tok\":2,\"n_shared_experts\":1,\"n_group\":2,\"topk_group\":1,"
        "\"first_k_dense_replace\":1,\"routed_scaling_factor\":1.0,\"scoring_func\":\"sigmoid\","
        "\"topk_method\":\"noaux_tc\",\"norm_topk_prob\":true,\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-5,"
        "\"rope_theta\":10000,\"num_nextn_predict_layers\":0,\"tie_word_embeddings\":false}";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(company_changes_nothing),
        cmocka_unit_test(what_was_computed_is_found_again),
        cmocka_unit_test(a_restart_changes_nothing),
        cmocka_unit_test(probabilities_are_those_of_the_logits),
        cmocka_unit_test(requests_end_as_they_should),
        cmocka_unit_test(company_comes_together),
        cmocka_unit_test(embeddings_are_means_of_hidden_states),
        cmocka_unit_test(the_tree_is_bounded),
        cmocka_unit_test(every_allocation_may_fail),
    };
    (void)snprintf(model_path, sizeof model_path, "/tmp/fathom-test-%d-a.gguf", (int)getpid());
    (void)snprintf(plain_path, sizeof plain_path, "/tmp/fathom-test-%d-b.gguf", (int)getpid());
    (void)snprintf(folder_path, sizeof folder_path, "%s", plain_path);
    write_model(model_path, true);
    write_model_of(mla, plain_path, true);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)unlink(model_path);
    (void)unlink(plain_path);
    return failed;
}
