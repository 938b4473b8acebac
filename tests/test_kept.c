/* Calls of tools that are kept: what is found again, what makes room, whose they are, and what counts as the same value. */
#include "run_testing.h"

#include "server/kept.h"

static struct fm_span span(const char *s) { return (struct fm_span){s, strlen(s)}; }

static void add(struct fm_kept *k, int owner, const char *id, const char *arguments)
{
    fm_kept_add(k, owner, span(id), span("f"), span(arguments));
}

/* The arguments of the call in the prompt that comes out, or "" where nothing was restored. */
static const char *restored(struct fm_kept *k, int owner, const char *id, const char *name, const char *arguments)
{
    static char text[256];
    struct fm_buf in = {0}, out = {0};
    struct fm_py_doc doc = {0};
    const struct fm_py *v;
    text[0] = 0;
    fm_buf_printf(
        &in,
        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"tool_calls\":[{\"id\":"
        "\"%s\",\"function\":{\"name\":\"%s\",\"arguments\":%s}}]}]}",
        id, name, arguments);
    if (fm_kept_restore(k, owner, in.data, in.len, &out)) {
        assert_int_equal(fm_py_parse(&doc, out.data, out.len, "out", &v, &err), FM_OK);
        const struct fm_py *message = fm_py_get(v, "messages")->first->next;
        const struct fm_py *f = fm_py_get(fm_py_get(message, "tool_calls")->first, "function"),
                           *flag = fm_py_get(f, "verbatim"), *got = fm_py_get(f, "arguments");
        assert_true(flag && flag->kind == FM_PY_TRUE && got->kind == FM_PY_STRING && got->text.n < sizeof text);
        assert_true(fm_py_is(fm_py_get(message, "role"), "assistant") && fm_py_is(fm_py_get(f, "name"), name));
        memcpy(text, got->text.s, got->text.n);
        text[got->text.n] = 0;
    } else {
        assert_int_equal(out.len, 0);
    }
    fm_buf_release(&in);
    fm_buf_release(&out);
    fm_py_release(&doc);
    return text;
}

static void the_same_value_gets_the_kept_text(void **state)
{
    static const char kept[] = "{\"b\":  [1.0,\"\\u00e9\",{\"x\":null}], \"a\":true}";
    static const char *const same[] = {"{\"a\":true,\"b\":[1,\"\xC3\xA9\",{\"x\":null}]}",
                                       "\"{\\\"a\\\": true, \\\"b\\\": [1e0, \\\"\xC3\xA9\\\", {\\\"x\\\": null}]}\""},
                             *const other[] = {"{\"a\":true,\"b\":[1.1,\"\xC3\xA9\",{\"x\":null}]}",
                                               "{\"a\":true}",
                                               "{\"a\":true,\"c\":[1,\"\xC3\xA9\",{\"x\":null}]}",
                                               "{\"a\":true,\"b\":[\"\xC3\xA9\",1,{\"x\":null}]}",
                                               "{\"a\":false,\"b\":[1,\"\xC3\xA9\",{\"x\":null}]}",
                                               "{\"a\":true,\"b\":[1,\"\xC3\xA9\",{\"x\":null}],\"c\":0}",
                                               "\"{\"",
                                               "\"\"",
                                               "null",
                                               "[]"};
    struct fm_kept *k = fm_kept_new();
    (void)state;
    add(k, -1, "call_1", kept);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        assert_string_equal(restored(k, -1, "call_1", "f", same[i]), kept);
        assert_string_equal(restored(k, -1, "toolu_call_1", "f", same[i]), kept);
        assert_string_equal(restored(k, -1, "call_2", "f", same[i]), "");
        assert_string_equal(restored(k, -1, "call_1", "g", same[i]), "");
        assert_string_equal(restored(NULL, -1, "call_1", "f", same[i]), "");
    }
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        assert_string_equal(restored(k, -1, "call_1", "f", other[i]), "");
    add(k, -1, "call_1", "{ }");
    assert_string_equal(restored(k, -1, "call_1", "f", "{}"), "{ }");
    fm_kept_free(k);
}

/* What a double cannot tell apart is another number. */
static void numbers_are_exact(void **state)
{
    static const struct {
        const char *kept, *sent;
        bool same;
    } rows[] = {{"9007199254740993", "9007199254740992", false},
                {"9007199254740993", "9007199254740993", true},
                {"1e-400", "0", false},
                {"0.0", "0", true},
                {"1e400", "2e400", false},
                {"100", "1E2", true},
                {"0.1", "0.10", true},
                {"1", "\"1\"", false}};
    struct fm_kept *k = fm_kept_new();
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char kept[64], sent[64];
        (void)snprintf(kept, sizeof kept, "{\"n\":%s }", rows[i].kept);
        (void)snprintf(sent, sizeof sent, "{\"n\":%s}", rows[i].sent);
        add(k, 0, "n", kept);
        assert_string_equal(restored(k, 0, "n", "f", sent), rows[i].same ? kept : "");
    }
    fm_kept_free(k);
}

static void every_owner_has_its_own(void **state)
{
    struct fm_kept *k = fm_kept_new();
    (void)state;
    add(k, 0, "x", "{ }");
    add(k, 1, "x", "{  }");
    assert_string_equal(restored(k, 0, "x", "f", "{}"), "{ }");
    assert_string_equal(restored(k, 1, "x", "f", "{}"), "{  }");
    assert_string_equal(restored(k, 2, "x", "f", "{}"), "");
    assert_string_equal(restored(k, -1, "x", "f", "{}"), "");
    fm_kept_free(k);
}

static void the_least_recently_used_go(void **state)
{
    enum { CALLS = FM_KEPT_SETS * FM_KEPT_WAYS, MANY = 8 * CALLS, RECENT = 64 };
    struct fm_kept *k = fm_kept_new();
    char id[32];
    int n = 0, recent = 0;
    (void)state;
    add(k, 0, "loved", "{ }");
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(id, sizeof id, "call_%d", i);
        add(k, 0, id, "{ }");
        if (i % RECENT == 0) assert_string_equal(restored(k, 0, "loved", "f", "{}"), "{ }");
    }
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(id, sizeof id, "call_%d", i);
        const bool there = *restored(k, 0, id, "f", "{}") != 0;
        n += there;
        recent += there && i >= MANY - RECENT;
    }
    assert_true(n < CALLS && n > CALLS * 9 / 10); /* all but "loved", if every set is full */
    assert_int_equal(recent, RECENT);
    fm_kept_free(k);
}

static void bytes_are_bounded(void **state)
{
    struct fm_kept *k = fm_kept_new();
    char *big = fm_malloc(FM_KEPT_BYTES + 1), id[32];
    int n = 0;
    (void)state;
    memset(big, ' ', FM_KEPT_BYTES + 1);
    memcpy(big, "{}", 2);
    fm_kept_add(k, 0, span("much"), span("f"), (struct fm_span){big, FM_KEPT_BYTES + 1});
    fm_kept_add(k, 0, span("much"), span("f"), (struct fm_span){big, SIZE_MAX});
    assert_string_equal(restored(k, 0, "much", "f", "{}"), "");
    for (int i = 0; i < 4 * FM_KEPT_SETS; i++) { /* each fills its set alone: the one before has to go */
        (void)snprintf(id, sizeof id, "call_%d", i);
        fm_kept_add(k, 0, span(id), span("f"), (struct fm_span){big, FM_KEPT_BYTES - 16});
    }
    for (int i = 0; i < 4 * FM_KEPT_SETS; i++) {
        struct fm_buf out = {0}, in = {0};
        fm_buf_printf(&in,
                      "{\"messages\":[{\"tool_calls\":[{\"id\":\"call_%d\",\"function\":{\"name\":\"f\",\"arguments\":"
                      "{}}}]}]}",
                      i);
        n += fm_kept_restore(k, 0, in.data, in.len, &out);
        fm_buf_release(&in);
        fm_buf_release(&out);
    }
    assert_true(n > 0 && n <= FM_KEPT_SETS);
    fm_free(big);
    fm_kept_free(k);
}

/* Whichever allocation fails: nothing is kept, or nothing restored. */
static void memory_may_be_short(void **state)
{
    static const char json[] =
        "{\"messages\":[{\"tool_calls\":[{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":"
        "\"{}\"}}]}]}";
    struct fm_kept *k = fm_kept_new();
    bool ok = false;
    (void)state;
    fm_mem_fail_at(1);
    assert_null(fm_kept_new());
    fm_mem_fail_at(1);
    add(k, 0, "a", "{ }");
    fm_mem_fail_at(0);
    assert_string_equal(restored(k, 0, "a", "f", "{}"), "");
    add(k, 0, "a", "{ }");
    for (int i = 1; !ok; i++) {
        struct fm_buf out = {0};
        assert_true(i < 100);
        fm_mem_fail_at(i);
        ok = fm_kept_restore(k, 0, json, sizeof json - 1, &out);
        fm_mem_fail_at(0);
        assert_true(ok || !out.len);
        fm_buf_release(&out);
    }
    fm_kept_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_value_gets_the_kept_text),
        cmocka_unit_test(numbers_are_exact),
        cmocka_unit_test(every_owner_has_its_own),
        cmocka_unit_test(the_least_recently_used_go),
        cmocka_unit_test(bytes_are_bounded),
        cmocka_unit_test(memory_may_be_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
