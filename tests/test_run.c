/* Engines, sessions, generation, conversations and the memory plan, on a tiny model made here. */
#include <pthread.h>

#include "run_testing.h"

static bool quick;

/* ---- the timeline ---- */

static size_t row_bytes(const struct fm_engine *e) { return (size_t)fm_engine_info(e)->vocab * sizeof(float); }

static void rewinding_changes_nothing(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.deterministic = true, .ctx = 300, .chunk = 16});
    struct fm_session *s = session(e, 0), *other = session(e, 0);
    int32_t ids[200];
    some_ids(ids, 200, 1);
    float *first = malloc(200 * row_bytes(e)), *again = malloc(200 * row_bytes(e));
    assert_true(first && again);
    ok(fm_session_feed(s, ids, 200, first, &err));
    assert_int_equal(fm_session_length(s), 200);
    assert_memory_equal(fm_session_logits(s), (char *)first + 199 * row_bytes(e), row_bytes(e));

    fm_session_rewind(s, 70);
    assert_null(fm_session_logits(s));
    ok(fm_session_feed(s, ids + 3, 50, NULL, &err)); /* something else in between */
    fm_session_rewind(s, 70);
    ok(fm_session_feed(s, ids + 70, 130, again, &err));
    assert_memory_equal(again, (char *)first + 70 * row_bytes(e), 130 * row_bytes(e));

    for (int i = 0; i < 200; i++) ok(fm_session_feed(other, ids + i, 1, again, &err));
    assert_memory_equal(again, (char *)first + 199 * row_bytes(e), row_bytes(e));
    ok(fm_session_feed(s, NULL, 0, NULL, &err));
    assert_int_equal(fm_session_length(s), 200);
    fm_session_rewind(s, 0);
    assert_null(fm_session_logits(s));
    free(first);
    free(again);
    fm_session_free(s);
    fm_session_free(other);
    fm_engine_close(e);
}

static void wrong_feeds_are_refused(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 100});
    struct fm_session *s = session(e, 10), *none = NULL;
    struct fm_generation g = {.max_tokens = 5};
    int32_t ids[11] = {1, 2, 3};
    assert_int_equal(fm_session_generate(s, &g, NULL, &err), FM_ERR_USAGE); /* sampling settings are all zero: top-p */
    g.sampling = fm_sampling_default();
    assert_int_equal(fm_session_generate(s, &g, NULL, &err), FM_ERR_USAGE); /* empty */
    ok(fm_session_feed(s, ids, 3, NULL, &err));
    assert_int_equal(fm_session_feed(s, ids, 8, NULL, &err), FM_ERR_USAGE);
    assert_true(*err.hint);
    ids[1] = 280;
    assert_int_equal(fm_session_feed(s, ids, 2, NULL, &err), FM_ERR_USAGE);
    ids[1] = -1;
    assert_int_equal(fm_session_feed(s, ids, 2, NULL, &err), FM_ERR_USAGE);
    assert_int_equal(fm_session_length(s), 3);
    assert_non_null(fm_session_logits(s));
    assert_int_equal(fm_session_new(e, 101, &none, &err), FM_ERR_USAGE);
    assert_int_equal(fm_session_new(e, -1, &none, &err), FM_ERR_USAGE);
    assert_null(none);
    fm_session_free(s);
    fm_engine_close(e);
}

struct canceller {
    struct fm_session *s;
    atomic_bool stop;
};

static void *keep_cancelling(void *arg)
{
    struct canceller *c = arg;
    while (!atomic_load(&c->stop)) fm_session_cancel(c->s);
    return NULL;
}

/* A prompt in steps of one token, cancelled from another thread as soon as it runs. */
static void a_cancelled_prompt_leaves_no_trace(void **state)
{
    (void)state;
    enum { N = 3000 };
    struct fm_engine *e =
        engine((struct fm_engine_options){.deterministic = true, .ctx = 3100, .chunk = 1, .threads = 1});
    struct fm_session *s = session(e, 0);
    struct canceller c = {.s = s};
    static int32_t ids[N];
    some_ids(ids, N, 2);
    ok(fm_session_feed(s, ids, 20, NULL, &err));
    float *before = malloc(row_bytes(e)), *after = malloc(row_bytes(e));
    assert_true(before && after);
    memcpy(before, fm_session_logits(s), row_bytes(e));
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, keep_cancelling, &c), 0);
    enum fm_status st = FM_OK;
    for (int tries = 0; tries < 20 && !st; tries++) {
        fm_session_rewind(s, 20);
        memcpy(s->logits, before, row_bytes(e)); /* after a try that came through */
        s->logits_at = 20;
        st = fm_session_feed(s, ids, N, NULL, &err);
    }
    atomic_store(&c.stop, true);
    (void)pthread_join(t, NULL);
    assert_int_equal(st, FM_ERR_CANCELLED);
    assert_int_equal(fm_session_length(s), 20);
    assert_memory_equal(fm_session_logits(s), before, row_bytes(e));
    ok(fm_session_feed(s, ids + 20, 5, NULL, &err));
    memcpy(before, fm_session_logits(s), row_bytes(e));
    fm_session_rewind(s, 0);
    ok(fm_session_feed(s, ids, 25, NULL, &err));
    assert_memory_equal(fm_session_logits(s), before, row_bytes(e));
    free(before);
    free(after);
    fm_session_free(s);
    fm_engine_close(e);
}

/* ---- generation ---- */

/* Greedy text behind "the cat" with these settings; stats may be NULL. */
static struct fm_buf story(struct fm_engine *e, struct fm_generation g, struct fm_generation_stats *stats)
{
    struct fm_buf text = {0};
    struct fm_session *s = session(e, 0);
    int32_t *ids;
    size_t n;
    ok(fm_text_encode(fm_engine_tokenizer(e), "the cat", 7, 0, &ids, &n, &err));
    ok(fm_session_feed(s, ids, (int)n, NULL, &err));
    if (!g.on_text) {
        g.on_text = collect;
        g.arg = &text;
    }
    if (g.sampling.repeat <= 0) g.sampling = (struct fm_sampling){.top_p = 1, .repeat = 1.3f, .repeat_last = 64};
    ok(fm_session_generate(s, &g, stats, &err));
    fm_buf_str(&text, "");
    fm_text_free(ids);
    fm_session_free(s);
    return text;
}

static void generation_ends_where_it_should(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 40});
    struct fm_generation_stats st;
    struct fm_buf all = story(e, (struct fm_generation){.max_tokens = -1}, &st);
    assert_int_equal(st.finish, FM_FINISH_LENGTH);
    assert_int_equal(st.answer_tokens + st.prompt_tokens, 40);
    struct fm_buf few = story(e, (struct fm_generation){.max_tokens = 7}, &st);
    assert_int_equal(st.answer_tokens, 7);
    assert_int_equal(st.finish, FM_FINISH_LENGTH);
    assert_true(few.len < all.len && !memcmp(few.data, all.data, few.len));
    struct fm_buf none = story(e, (struct fm_generation){.max_tokens = 0}, &st);
    assert_int_equal(none.len + (size_t)st.answer_tokens, 0);
    fm_buf_release(&all);
    fm_buf_release(&few);
    fm_buf_release(&none);
    fm_engine_close(e);
}

/* Every piece of the text as a stop text: the answer is what stands before its first occurrence. */
static void stop_texts_cut_the_answer(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 64});
    struct fm_generation_stats st;
    struct fm_buf all = story(e, (struct fm_generation){.max_tokens = 24}, &st);
    assert_true(all.len > 12);
    for (size_t at = 0; at + 4 < all.len; at += quick ? 5 : 1)
        for (size_t n = 1; n <= 4; n++) {
            char stop[8] = {0};
            const char *stops[] = {"never\n", stop};
            memcpy(stop, all.data + at, n);
            struct fm_buf cut = story(e, (struct fm_generation){.max_tokens = 24, .stop = stops, .n_stop = 2}, &st);
            assert_int_equal(cut.len, strstr(all.data, stop) - all.data);
            assert_memory_equal(cut.data, all.data, cut.len);
            assert_int_equal(st.finish, FM_FINISH_STOP);
            fm_buf_release(&cut);
        }
    fm_buf_release(&all);
    fm_engine_close(e);
}

static bool first_piece_only(void *arg, const char *text, size_t n)
{
    fm_buf_add(arg, text, n);
    return false;
}

static void the_user_may_stop_it(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 64});
    struct fm_generation_stats st;
    struct fm_buf text = {0},
                  none = story(e, (struct fm_generation){.max_tokens = 24, .on_text = first_piece_only, .arg = &text},
                               &st);
    assert_int_equal(st.finish, FM_FINISH_CANCELLED);
    assert_int_equal(st.answer_tokens, 1);
    assert_true(text.len > 0);
    fm_buf_release(&text);
    fm_buf_release(&none);
    fm_engine_close(e);
}

static void sampling_follows_the_seed(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 64});
    struct fm_generation g = {.max_tokens = 24, .sampling = fm_sampling_default()};
    g.sampling.temp = 2;
    struct fm_buf a = story(e, g, NULL), b = story(e, g, NULL);
    g.sampling.seed = 1;
    struct fm_buf c = story(e, g, NULL);
    assert_string_equal(a.data, b.data);
    assert_string_not_equal(a.data, c.data);
    fm_buf_release(&a);
    fm_buf_release(&b);
    fm_buf_release(&c);
    fm_engine_close(e);
}

/* ---- conversations ---- */

static struct fm_generation greedy(struct fm_buf *text)
{
    return (struct fm_generation){
        .max_tokens = 12, .on_text = collect, .arg = text, .sampling = {.top_p = 1, .repeat = 1.3f, .repeat_last = 64}};
}

static struct fm_chat *chat(struct fm_engine *e, const char *system, const char *format)
{
    struct fm_chat *c = NULL;
    ok(fm_chat_new(e, 0, system, format, &c, &err));
    return c;
}

static struct fm_buf say(struct fm_chat *c, const char *text, struct fm_generation_stats *st)
{
    struct fm_buf answer = {0};
    struct fm_generation g = greedy(&answer);
    if (text)
        ok(fm_chat_send(c, text, &g, st, &err));
    else
        ok(fm_chat_regenerate(c, &g, st, &err));
    fm_buf_str(&answer, "");
    return answer;
}

static void a_conversation_reuses_its_cache(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.deterministic = true, .ctx = 400});
    struct fm_chat *c = chat(e, "be a cat", NULL), *fresh = chat(e, "be a cat", NULL);
    struct fm_generation_stats st;
    assert_string_equal(fm_chat_format_name(c), "chatml");
    struct fm_buf one = say(c, "hello", &st);
    assert_int_equal(st.cached_tokens, 0);
    int prompt = st.prompt_tokens;
    struct fm_buf two = say(c, "and now?", &st);
    assert_true(st.cached_tokens >= prompt && st.prompt_tokens > st.cached_tokens);
    struct fm_buf again = say(c, NULL, &st); /* regenerate */
    assert_string_equal(again.data, two.data);
    assert_int_equal(st.cached_tokens, st.prompt_tokens - 1);
    fm_buf_release(&again);
    again = say(fresh, "hello", &st);
    assert_string_equal(again.data, one.data);
    fm_buf_release(&again);
    fm_chat_clear(c);
    assert_int_equal(fm_chat_length(c), 0);
    again = say(c, "hello", &st);
    assert_string_equal(again.data, one.data);
    assert_int_equal(st.prompt_tokens, prompt); /* the system text is still there */
    fm_buf_release(&one);
    fm_buf_release(&two);
    fm_buf_release(&again);
    fm_chat_free(c);
    fm_chat_free(fresh);
    fm_engine_close(e);
}

static void a_cancelled_answer_is_kept(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 400});
    struct fm_chat *c = chat(e, NULL, NULL);
    struct fm_generation_stats st;
    struct fm_buf part = {0};
    struct fm_generation g = greedy(&part);
    g.on_text = first_piece_only;
    assert_int_equal(fm_chat_regenerate(c, &g, &st, &err), FM_ERR_USAGE);
    ok(fm_chat_send(c, "hello", &g, &st, &err));
    assert_int_equal(st.finish, FM_FINISH_CANCELLED);
    int prompt = st.prompt_tokens;
    struct fm_buf next = say(c, "go on", &st);
    assert_true(st.prompt_tokens > prompt);
    struct fm_buf shown = {0}; /* what the second prompt held of the first answer */
    ok(fm_tokenizer_decode(fm_engine_tokenizer(e), fm_chat_session(c)->ids, (size_t)st.prompt_tokens, &shown, &err));
    fm_buf_char(&part, '<');
    assert_non_null(memmem(shown.data, shown.len, part.data, part.len)); /* …<|im_end|> follows */
    fm_buf_release(&part);
    fm_buf_release(&next);
    fm_buf_release(&shown);
    fm_chat_free(c);
    fm_engine_close(e);
}

/* Without a chat format the text goes on for ever: its beginning is dropped, a quarter of the context stays for the answer. */
static void a_growing_text_keeps_its_end(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.deterministic = true, .ctx = 64});
    struct fm_chat *c = chat(e, NULL, "plain");
    struct fm_generation_stats st;
    for (int i = 0; i < 12; i++) {
        struct fm_buf answer = say(c, "once more, ", &st);
        assert_true(answer.len > 0);
        assert_in_range(st.prompt_tokens, 1, 48);
        fm_buf_release(&answer);
    }
    fm_chat_free(c);
    fm_engine_close(e);
}

static void a_full_conversation_says_so(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 80});
    struct fm_chat *c = chat(e, NULL, NULL);
    struct fm_generation_stats st;
    char text[200];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    struct fm_buf one = say(c, "hello", &st), none = {0};
    struct fm_generation g = greedy(&none);
    assert_int_equal(fm_chat_send(c, text, &g, &st, &err), FM_ERR_USAGE);
    assert_non_null(strstr(err.hint, "/clear"));
    assert_int_equal(none.len, 0);
    struct fm_buf again = say(c, NULL, &st); /* the long text was not kept */
    assert_string_equal(again.data, one.data);
    fm_buf_release(&one);
    fm_buf_release(&none);
    fm_buf_release(&again);
    fm_chat_free(c);
    fm_engine_close(e);
}

static void without_a_format_text_grows(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 200, .model = plain_path});
    struct fm_chat *c = chat(e, NULL, NULL), *unknown = NULL;
    struct fm_generation_stats st;
    assert_null(fm_chat_format_name(c));
    struct fm_buf one = say(c, "the cat", &st);
    int prompt = st.prompt_tokens;
    struct fm_buf two = say(c, " and the dog", &st), again = say(c, NULL, &st);
    assert_true(st.prompt_tokens > prompt + 1);
    assert_string_equal(again.data, two.data);
    assert_int_equal(fm_chat_new(e, 0, NULL, "no such format", &unknown, &err), FM_ERR_USAGE);
    struct fm_chat *forced = chat(e, NULL, "chatml");
    assert_string_equal(fm_chat_format_name(forced), "chatml");
    fm_buf_release(&one);
    fm_buf_release(&two);
    fm_buf_release(&again);
    fm_chat_free(c);
    fm_chat_free(forced);
    fm_engine_close(e);
}

/* The same weights, tokenizer and template as a folder. */
static void a_folder_speaks_like_its_gguf(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 200}),
                     *f = engine((struct fm_engine_options){.ctx = 200, .model = folder_path});
    struct fm_chat *c = chat(e, NULL, NULL), *d = chat(f, NULL, NULL);
    struct fm_generation_stats st;
    struct fm_buf one = say(c, "the cat sat", &st), two = say(d, "the cat sat", &st);
    assert_string_equal(fm_chat_format_name(d), "chatml");
    assert_string_equal(one.data, two.data);
    fm_buf_release(&one);
    fm_buf_release(&two);
    fm_chat_free(c);
    fm_chat_free(d);
    fm_engine_close(e);
    fm_engine_close(f);
}

struct talker {
    struct fm_engine *e;
    uint64_t seed;
    float *logits;
};

static void *talk(void *arg)
{
    struct talker *t = arg;
    struct fm_error mine;
    struct fm_session *s;
    int32_t ids[120];
    some_ids(ids, 120, t->seed);
    enum fm_status st = fm_session_new(t->e, 0, &s, &mine);
    if (st) return NULL;
    for (int i = 0; i < 120 && !st; i += 8) st = fm_session_feed(s, ids + i, 8, NULL, &mine);
    if (!st) memcpy(t->logits, fm_session_logits(s), row_bytes(t->e));
    fm_session_free(s);
    return NULL;
}

/* Sessions of one engine on several threads: each as if alone. */
static void sessions_do_not_disturb_each_other(void **state)
{
    (void)state;
    enum { N = 4 };
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 200});
    struct talker t[N], alone[N];
    pthread_t threads[N];
    for (int i = 0; i < N; i++) {
        t[i] = alone[i] = (struct talker){.e = e, .seed = (uint64_t)i};
        assert_non_null(t[i].logits = calloc(1, row_bytes(e)));
        assert_non_null(alone[i].logits = malloc(row_bytes(e)));
        (void)talk(&alone[i]);
    }
    for (int i = 0; i < N; i++) assert_int_equal(pthread_create(&threads[i], NULL, talk, &t[i]), 0);
    for (int i = 0; i < N; i++) {
        (void)pthread_join(threads[i], NULL);
        assert_memory_equal(t[i].logits, alone[i].logits, row_bytes(e));
        free(t[i].logits);
        free(alone[i].logits);
    }
    assert_int_equal(e->kv.reserved_bytes, 0);
    fm_engine_close(e);
}

/* ---- models that are none ---- */

static void cut_files_are_refused(void **state)
{
    (void)state;
    struct fm_buf whole = {0};
    char path[] = "/tmp/fathom-cut-XXXXXX";
    int fd = mkstemp(path);
    ok(fm_buf_read_file(&whole, model_path, 1 << 24, &err));
    assert_true(fd >= 0 && whole.len > 8 * 4096);
    for (size_t n = 0; n < whole.len; n = n + 4096 < whole.len || n == whole.len - 1 ? n + 4096 : whole.len - 1) {
        struct fm_engine *e = NULL;
        struct fm_model_info *i = NULL;
        FILE *f = fopen(path, "wb");
        assert_true(f && fwrite(whole.data, 1, n, f) == n && !fclose(f));
        assert_int_equal(fm_engine_open(&(struct fm_engine_options){.model = path, .threads = 1}, &e, &err),
                         FM_ERR_INPUT);
        assert_non_null(strstr(err.message, path));
        assert_int_equal(fm_model_inspect(path, &i, &err), FM_ERR_INPUT);
        assert_true(!e && !i);
    }
    (void)close(fd);
    (void)unlink(path);
    fm_buf_release(&whole);
    struct fm_engine *e = NULL;
    assert_int_equal(fm_engine_open(&(struct fm_engine_options){.model = "/no/such/model"}, &e, &err), FM_ERR_INPUT);
    assert_int_equal(fm_engine_open(&(struct fm_engine_options){.threads = 1}, &e, &err), FM_ERR_USAGE);
    assert_int_equal(fm_engine_open(&(struct fm_engine_options){.model = model_path, .ctx = -1}, &e, &err),
                     FM_ERR_USAGE);
    assert_null(e);
}

/* A folder of weights without a tokenizer: logits and ids, but no text. */
static void a_model_without_text_computes(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.model = "tests/golden/v3-mtp", .ctx = 64});
    struct fm_session *s = session(e, 0);
    struct fm_generation g = {.max_tokens = 5, .sampling = fm_sampling_default()};
    struct fm_generation_stats st;
    struct fm_buf text = {0};
    struct fm_chat *c = chat(e, NULL, NULL);
    assert_null(fm_engine_tokenizer(e));
    assert_int_equal(fm_engine_info(e)->n_experts, 8);
    ok(fm_session_feed(s, (const int32_t[]){1, 2, 3}, 3, NULL, &err));
    ok(fm_session_generate(s, &g, &st, &err));
    assert_int_equal(fm_session_length(s), 8);
    g.on_text = collect;
    g.arg = &text;
    assert_int_equal(fm_session_generate(s, &g, &st, &err), FM_ERR_INPUT);
    assert_int_equal(fm_chat_send(c, "hello", &g, &st, &err), FM_ERR_INPUT);
    fm_chat_free(c);
    fm_session_free(s);
    fm_engine_close(e);
}

/* ---- memory ---- */

/* One use of everything with allocation n failing; FM_OK when none did. */
static enum fm_status use(long n)
{
    struct fm_engine *e = NULL;
    struct fm_session *s = NULL;
    fm_mem_fail_at(n);
    enum fm_status st =
        fm_engine_open(&(struct fm_engine_options){.model = model_path, .threads = 1, .ctx = 64}, &e, &err);
    if (!st) st = fm_session_new(e, 0, &s, &err);
    fm_mem_fail_at(0);
    if (st) assert_true(*err.message);
    fm_session_free(s);
    fm_engine_close(e);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    long failed = 0, last = 0;
    for (long n = 1; n < last + 200; n += quick ? 3 : 1) { /* well behind the last one */
        enum fm_status st = use(n);
        if (!st) continue; /* PCRE2 does without its JIT */
        assert_int_equal(st, FM_ERR_MEMORY);
        failed++;
        last = n;
    }
    assert_true(failed > 10);
    print_message("           %ld of about %ld allocations\n", failed, last);
}

static void conversations_survive_a_lack_of_memory(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.deterministic = true, .ctx = 200});
    struct fm_chat *c = chat(e, NULL, NULL);
    struct fm_generation_stats st;
    struct fm_buf want = say(c, "hello", &st), got = {0};
    struct fm_generation g = greedy(&got);
    fm_chat_clear(c);
    enum fm_status status = FM_ERR_MEMORY;
    long n = 1;
    for (; status; n++) {
        got.len = 0;
        got.failed = false;
        fm_mem_fail_at(n);
        status = fm_chat_send(c, "hello", &g, &st, &err);
        fm_mem_fail_at(0);
        if (status) assert_int_equal(status, FM_ERR_MEMORY);
        if (!status && got.failed) { /* our own buffer was the one that failed */
            status = FM_ERR_MEMORY;
            fm_chat_clear(c);
        }
    }
    fm_buf_str(&got, "");
    assert_string_equal(got.data, want.data);
    assert_true(n > 5);
    fm_buf_release(&want);
    fm_buf_release(&got);
    fm_chat_free(c);
    fm_engine_close(e);
}

struct planned {
    uint64_t step, kv, session, weights, derived;
};

static void note(void *arg, const char *item, uint64_t bytes, bool file_backed)
{
    struct planned *p = arg;
    if (!strcmp(item, "step scratch")) p->step = bytes;
    if (!strcmp(item, "KV cache")) p->kv = bytes;
    if (!strcmp(item, "session")) p->session = bytes;
    if (!strcmp(item, "derived weights")) p->derived = bytes;
    if (!strcmp(item, "weights, mapped") || !strcmp(item, "weights, packed")) p->weights += bytes;
    assert_int_equal(file_backed, !strcmp(item, "weights, mapped"));
}

/* What was planned without weights is what the engine then reserves. */
static void the_plan_is_what_happens(void **state)
{
    (void)state;
    const char *models[] = {model_path, "tests/golden/llama-tied-scaled", "tests/golden/v2-groups-yarn",
                            "tests/golden/v3-mtp"};
    for (int i = 0; i < 4; i++)
        for (int way = 0; way < 4; way++) {
            struct fm_engine_options o = {
                .model = models[i], .threads = 1, .ctx = 700, .exact = way & 1, .chunk = way & 2 ? 33 : 0};
            struct planned p = {0};
            ok(fm_memory_plan(&o, note, &p, &err));
            struct fm_engine *e = engine(o);
            struct fm_session *s = session(e, 0);
            assert_int_equal(p.step, e->step.cap);
            assert_int_equal(p.kv, e->kv.reserved_bytes);
            assert_int_equal(p.session, s->arena.cap);
            assert_int_equal(p.derived, e->model.derived.cap);
            assert_int_equal(p.weights, fm_engine_info(e)->file_bytes);
            int32_t ids[700]; /* the whole context fits what was planned */
            some_ids(ids, 700, 3);
            for (int k = 0; k < 700; k++) ids[k] %= 80;
            ok(fm_session_feed(s, ids, 699, NULL, &err));
            ok(fm_session_feed(s, ids, 1, NULL, &err));
            assert_int_equal(e->step.overflow, false);
            fm_session_free(s);
            assert_int_equal(e->kv.reserved_bytes, 0);
            fm_engine_close(e);
        }
}

/* A wide latent and a short context: a segment in the absorbed form needs more scratch than a whole prompt in the naive
 * one, and which form a segment takes depends on where it begins. */
static void every_segment_fits_the_plan(void **state)
{
    (void)state;
    static const char config[] =
        "{\"model_type\":\"deepseek_v2\",\"vocab_size\":280,\"hidden_size\":32,\"num_hidden_layers\":1,"
        "\"intermediate_size\":48,\"num_attention_heads\":32,\"kv_lora_rank\":512,\"qk_nope_head_dim\":16,"
        "\"qk_rope_head_dim\":8,\"v_head_dim\":16}";
    char path[64];
    int32_t ids[64];
    (void)snprintf(path, sizeof path, "/tmp/fathom-run-%d-latent.gguf", (int)getpid());
    write_model_of(config, path, false);
    some_ids(ids, 64, 9);
    for (int chunk = 5; chunk <= 64; chunk += 59) {
        struct fm_engine *e =
            engine((struct fm_engine_options){.model = path, .threads = 1, .ctx = 64, .chunk = chunk});
        struct fm_session *s = session(e, 0);
        for (int first = 0; first < 64; first++) {
            fm_session_rewind(s, 0);
            ok(fm_session_feed(s, ids, first, NULL, &err));
            ok(fm_session_feed(s, ids, 64 - first, NULL, &err));
        }
        fm_session_free(s);
        fm_engine_close(e);
    }
    (void)unlink(path);
}

static void blocks_are_shared_and_given_back(void **state)
{
    (void)state;
    struct fm_kvpool p;
    struct fm_kv_block *a[4], *b[3], *more[4];
    ok(fm_kvpool_init(&p, 8192, &err));
    ok(fm_kvpool_take(&p, 4, a, &err));
    assert_int_equal(p.reserved_bytes, 4 * 8192);
    for (int i = 0; i < 4; i++) memset(a[i]->data, i, 8192); /* writable, apart */
    for (int i = 0; i < 4; i++) assert_int_equal(*(char *)a[i]->data, i);
    fm_kvpool_share(&p, a[1]);
    for (int i = 0; i < 4; i++) fm_kvpool_drop(&p, a[i]);
    assert_int_equal(p.reserved_bytes, 4 * 8192); /* a[1] is still held */
    ok(fm_kvpool_take(&p, 3, b, &err));
    assert_int_equal(p.reserved_bytes, 4 * 8192); /* from its free neighbours */
    for (int i = 0; i < 3; i++) assert_ptr_not_equal(b[i], a[1]);
    fm_mem_fail_at(1);
    assert_int_equal(fm_kvpool_take(&p, 4, more, &err), FM_ERR_MEMORY);
    fm_mem_fail_at(0);
    for (int i = 0; i < 3; i++) fm_kvpool_drop(&p, b[i]);
    fm_kvpool_drop(&p, a[1]);
    assert_int_equal(p.reserved_bytes, 0);
    fm_kvpool_release(&p);
}

static int write_models(void **state)
{
    (void)state;
    (void)snprintf(model_path, sizeof model_path, "/tmp/fathom-run-%d.gguf", (int)getpid());
    (void)snprintf(plain_path, sizeof plain_path, "/tmp/fathom-run-%d-plain.gguf", (int)getpid());
    write_model(model_path, true);
    write_model(plain_path, false);
    (void)snprintf(folder_path, sizeof folder_path, "/tmp/fathom-run-%d-folder", (int)getpid());
    write_model(folder_path, true);
    write_text_files(folder_path);
    return 0;
}

static int remove_models(void **state)
{
    (void)state;
    (void)unlink(model_path);
    (void)unlink(plain_path);
    return remove_model_folder(folder_path);
}

int main(int argc, char **argv)
{
    quick = argc > 1 && !strcmp(argv[1], "--quick");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rewinding_changes_nothing),
        cmocka_unit_test(wrong_feeds_are_refused),
        cmocka_unit_test(a_cancelled_prompt_leaves_no_trace),
        cmocka_unit_test(generation_ends_where_it_should),
        cmocka_unit_test(stop_texts_cut_the_answer),
        cmocka_unit_test(the_user_may_stop_it),
        cmocka_unit_test(sampling_follows_the_seed),
        cmocka_unit_test(a_conversation_reuses_its_cache),
        cmocka_unit_test(a_cancelled_answer_is_kept),
        cmocka_unit_test(a_growing_text_keeps_its_end),
        cmocka_unit_test(a_full_conversation_says_so),
        cmocka_unit_test(without_a_format_text_grows),
        cmocka_unit_test(a_folder_speaks_like_its_gguf),
        cmocka_unit_test(sessions_do_not_disturb_each_other),
        cmocka_unit_test(cut_files_are_refused),
        cmocka_unit_test(a_model_without_text_computes),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(conversations_survive_a_lack_of_memory),
        cmocka_unit_test(the_plan_is_what_happens),
        cmocka_unit_test(every_segment_fits_the_plan),
        cmocka_unit_test(blocks_are_shared_and_given_back),
    };
    return cmocka_run_group_tests(tests, write_models, remove_models);
}
