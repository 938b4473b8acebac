/* Constraints on generations: masks and drafts together, where a think block is let through, what is refused. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "base/json.h"
#include "fathom_serve.h"
#include "run/constraint.h"

static struct fm_engine *engine;

static struct fm_constraint *bind(enum fm_constraint_kind kind, const char *text)
{
    struct fm_constraint *c;
    struct fm_error err;
    const struct fm_constraint_options o = {.kind = kind, .text = text, .n = strlen(text)};
    if (fm_constraint_new(engine, &o, &c, &err)) fail_msg("%s: %s", text, err.message);
    return c;
}

static const char people[] =
    "{\"type\":\"array\",\"minItems\":3,\"maxItems\":3,\"items\":{\"type\":\"object\",\"properties\":{\"name\":{\"type\":"
    "\"string\",\"maxLength\":9},\"age\":{\"type\":\"integer\",\"minimum\":18,\"maximum\":99}},\"required\":[\"name\",\"age\"]}}";

static bool take(void *arg, const char *text, size_t n)
{
    fm_buf_add(arg, text, n);
    return true;
}

/* The answer to a prompt that repeats itself, so that there is something to draft. */
static struct fm_generation_stats generate(const struct fm_constraint *c, enum fm_draft draft, float temp,
                                           uint64_t seed, struct fm_buf *text)
{
    static const char prompt[] = "[{\"name\": \"Ann\", \"age\": 20}, {\"name\": \"Ann\", \"age\": 20}] ";
    struct fm_session *s;
    struct fm_error err;
    struct fm_generation_stats stats;
    int32_t *ids;
    size_t n;
    struct fm_generation g = {.sampling = fm_sampling_default(),
                              .constraint = c,
                              .max_tokens = 400,
                              .draft = draft,
                              .on_text = take,
                              .arg = text};
    g.sampling.temp = temp;
    g.sampling.seed = seed;
    fm_buf_clear(text);
    assert_int_equal(fm_text_encode(fm_engine_tokenizer(engine), prompt, sizeof prompt - 1, 0, &ids, &n, &err), FM_OK);
    assert_int_equal(fm_session_new(engine, 1024, &s, &err), FM_OK);
    assert_int_equal(fm_session_feed(s, ids, (int)n, NULL, &err), FM_OK);
    if (fm_session_generate(s, &g, &stats, &err)) fail_msg("%s", err.message);
    fm_session_free(s);
    fm_text_free(ids);
    return stats;
}

/* Every answer is what the schema says, and drafts change nothing of it. */
static void test_drafts(void **state)
{
    struct fm_constraint *c = bind(FM_CONSTRAINT_SCHEMA, people);
    struct fm_buf plain = {0}, drafted = {0};
    int ahead = 0;
    (void)state;
    for (uint64_t seed = 0; seed < 6; seed++) {
        const float temp = seed ? 1.0f : 0.0f;
        const struct fm_generation_stats a = generate(c, FM_DRAFT_OFF, temp, seed, &plain),
                                         b = generate(c, FM_DRAFT_LOOKUP, temp, seed, &drafted);
        assert_int_equal(plain.len, drafted.len);
        assert_memory_equal(plain.data, drafted.data, plain.len);
        assert_int_equal(a.answer_tokens, b.answer_tokens);
        assert_int_equal(a.finish, FM_FINISH_STOP);
        ahead += b.drafted;
        json_t *v = json_loadb(plain.data, plain.len, 0, NULL), *one;
        size_t i;
        if (json_array_size(v) != 3) fail_msg("%s", plain.data);
        json_array_foreach(v, i, one)
        {
            const json_int_t age = json_integer_value(json_object_get(one, "age"));
            assert_in_range(age, 18, 99);
            assert_true(json_is_string(json_object_get(one, "name")));
        }
        json_decref(v);
    }
    assert_true(ahead > 0);
    fm_buf_release(&plain);
    fm_buf_release(&drafted);
    fm_constraint_free(c);
}

/* Pushes the text through by the tokenizer's own tokens.  false: one of them may not come. */
static bool says(const struct fm_constraint *c, enum fm_constraint_start start, const char *text, bool *ends)
{
    struct fm_follower f;
    struct fm_error err;
    int32_t *ids;
    size_t n;
    bool ok = true, over;
    const uint64_t *allowed;
    assert_int_equal(fm_follow_begin(&f, c, start, &err), FM_OK);
    assert_int_equal(fm_text_encode(fm_engine_tokenizer(engine), text, strlen(text), 0, &ids, &n, &err), FM_OK);
    for (size_t i = 0; ok && i < n; i++) {
        assert_int_equal(fm_follow_mask(&f, &allowed, &over, &err), FM_OK);
        ok = allowed[ids[i] / 64] >> ids[i] % 64 & 1;
        if (ok) assert_int_equal(fm_follow_token(&f, ids[i], &err), FM_OK);
    }
    *ends = false;
    if (ok) {
        assert_int_equal(fm_follow_mask(&f, &allowed, &over, &err), FM_OK);
        for (int32_t id = 0; id < c->trie->n_ends; id++)
            *ends |= allowed[c->trie->ends[id] / 64] >> c->trie->ends[id] % 64 & 1;
    }
    fm_text_free(ids);
    fm_follow_end(&f);
    return ok;
}

static void test_thinking(void **state)
{
    static const struct {
        enum fm_constraint_start start;
        const char *text;
        bool ok, ends;
    } rows[] = {
        {FM_START_ANSWER, "yes", true, true},
        {FM_START_ANSWER, "<think>", false, false},
        {FM_START_ANSWER, "so</think>yes", false, false},
        {FM_START_IN_THOUGHT, "yes, or no? < </thin k> 1+1", true, false},
        {FM_START_IN_THOUGHT, "why\n</think>\n\nyes", true, true},
        {FM_START_IN_THOUGHT, "why</think>no", true, true},
        {FM_START_IN_THOUGHT, "why</think>so", false, false},
        {FM_START_IN_THOUGHT, "why</think>no</think>", false, false},
        {FM_START_MAY_THINK, "no", true, true},
        {FM_START_MAY_THINK, "<think>\nwhy</think>\n\nno", true, true},
        {FM_START_MAY_THINK, "<think>\nwhy", true, false},
        {FM_START_MAY_THINK, "why", false, false},
    };
    struct fm_constraint *c = bind(FM_CONSTRAINT_GBNF, "root ::= \"yes\" | \"no\"");
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool ends;
        const bool ok = says(c, rows[i].start, rows[i].text, &ends);
        if (ok != rows[i].ok || ends != rows[i].ends)
            fail_msg("%d, %s: %d %d", (int)rows[i].start, rows[i].text, ok, ends);
    }
    fm_constraint_free(c);
}

/* ---- with company ---- */

struct served {
    struct fm_buf text;
    enum fm_end end;
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool over;
};

static void on_text(void *arg, const char *text, size_t n) { fm_buf_add(&((struct served *)arg)->text, text, n); }

static void on_end(void *arg, const struct fm_request_result *r)
{
    struct served *s = arg;
    (void)pthread_mutex_lock(&s->lock);
    s->end = r->end;
    s->over = true;
    (void)pthread_cond_signal(&s->done);
    (void)pthread_mutex_unlock(&s->lock);
}

/* Bound and free requests side by side: the bound ones are bound, each by its own. */
static void test_company(void **state)
{
    static const char *const words[] = {"root ::= \"one\" [a-e]{4}", "root ::= \"two\" [x-z]{3}", NULL,
                                        "root ::= [0-9]{5}"};
    enum { N = 4 };
    struct served s[N];
    struct fm_constraint *c[N] = {NULL};
    struct fm_request *r[N];
    struct fm_scheduler *sched;
    struct fm_error err;
    const int32_t prompt[] = {5, 6, 7};
    (void)state;
    assert_int_equal(fm_scheduler_new(engine, &(struct fm_scheduler_options){.slots = N, .ctx = 256}, &sched, &err),
                     FM_OK);
    for (int i = 0; i < N; i++) {
        s[i] = (struct served){.over = false};
        (void)pthread_mutex_init(&s[i].lock, NULL);
        (void)pthread_cond_init(&s[i].done, NULL);
        if (words[i]) c[i] = bind(FM_CONSTRAINT_GBNF, words[i]);
        const struct fm_request_options o = {.ids = prompt,
                                             .n_ids = 3,
                                             .sampling = fm_sampling_default(),
                                             .constraint = c[i],
                                             .max_tokens = 30,
                                             .ignore_end = true, /* a constraint's end is one */
                                             .top = -1,
                                             .on_text = on_text,
                                             .on_end = on_end,
                                             .arg = &s[i]};
        if (fm_scheduler_submit(sched, &o, &r[i], NULL, &err)) fail_msg("%s", err.message);
    }
    for (int i = 0; i < N; i++) {
        (void)pthread_mutex_lock(&s[i].lock);
        while (!s[i].over) (void)pthread_cond_wait(&s[i].done, &s[i].lock);
        (void)pthread_mutex_unlock(&s[i].lock);
        assert_int_equal(s[i].end, words[i] ? FM_END_STOP : FM_END_LENGTH);
        if (words[i]) assert_int_equal(s[i].text.len, i == 0 ? 7 : i == 1 ? 6 : 5);
        if (i < 2) assert_memory_equal(s[i].text.data, i ? "two" : "one", 3);
        if (i == 3) assert_int_equal(strspn(s[i].text.data, "0123456789"), 5);
        fm_request_free(r[i]);
    }
    fm_scheduler_free(sched);
    for (int i = 0; i < N; i++) {
        fm_buf_release(&s[i].text);
        fm_constraint_free(c[i]);
        (void)pthread_cond_destroy(&s[i].done);
        (void)pthread_mutex_destroy(&s[i].lock);
    }
}

static void test_refused(void **state)
{
    static const struct {
        enum fm_constraint_kind kind;
        const char *text, *says;
    } rows[] = {{FM_CONSTRAINT_GBNF, "root ::= x", "the grammar: line 1, rule x: it is not defined"},
                {FM_CONSTRAINT_SCHEMA, "{\"not\":{}}", "the schema: /not: this keyword is not supported"},
                {FM_CONSTRAINT_SCHEMA, "{", "the schema: byte 1: "}};
    struct fm_constraint *c;
    struct fm_error err;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct fm_constraint_options o = {.kind = rows[i].kind, .text = rows[i].text, .n = strlen(rows[i].text)};
        assert_int_equal(fm_constraint_new(engine, &o, &c, &err), FM_ERR_INPUT);
        if (!strstr(err.message, rows[i].says)) fail_msg("said: %s", err.message);
    }
}

int main(void)
{
    const struct fm_engine_options o = {
        .model = "models/default.gguf", .ctx = 1024, .draft = FM_DRAFT_AUTO, .deterministic = true};
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_drafts), cmocka_unit_test(test_thinking),
                                       cmocka_unit_test(test_company), cmocka_unit_test(test_refused)};
    if (fm_engine_open(&o, &engine, NULL)) return 1;
    const int bad = cmocka_run_group_tests(tests, NULL, NULL);
    fm_engine_close(engine);
    return bad;
}
