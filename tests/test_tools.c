/* Calls that a grammar forces, in every dialect: random walks through the masks of tokens, taken apart by the dialect's own
 * parser, their arguments judged by tests/json_schema.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "base/rng.h"
#include "fathom.h"
#include "json_schema.h"
#include "text/chat_impl.h"
#include "text/grammar_tools.h"
#include "text/matcher.h"

static const char tools_text[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"strict\":true,\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"city\":{\"type\":\"string\"},\"unit\":{\"enum\":[\"c\",\"f\",7]},\"day\":{\"type\":[\"string\",\"null\"],"
    "\"format\":\"date\"}},\"required\":[\"city\"],\"additionalProperties\":false}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"find\",\"parameters\":{\"type\":\"object\",\"properties\":{\"limit\":{\"type\":"
    "\"integer\",\"minimum\":1,\"maximum\":50},\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":5},"
    "\"maxItems\":3},\"where\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}},\"required\":[\"limit\",\"tags\"]}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"nothing\",\"parameters\":{\"type\":\"object\",\"properties\":{}}}}]";

static struct fm_tokenizer *tok;
static struct fm_token_trie *trie;
static struct fm_rng rng;

static int below(int n) { return (int)(fm_rng_uniform(&rng) * n); }

static bool is_end(const void *arg, int32_t id) { return fm_tokenizer_is_eog(arg, id); }

/* The longest token of the mask that goes on with what is wished for; −1. */
static int32_t toward(const uint64_t *mask, const char *wish)
{
    int32_t best = -1;
    size_t most = 0;
    for (int32_t id = 0; id < trie->n_ids; id++) {
        size_t n;
        const char *s = fm_tokenizer_piece(tok, id, &n);
        if (!s || n <= most || !(mask[id / 64] >> id % 64 & 1) || n > strlen(wish) || memcmp(s, wish, n) != 0) continue;
        best = id;
        most = n;
    }
    return best;
}

static int32_t pick(const uint64_t *mask, int step)
{
    int32_t any = -1, closing = -1;
    int n = 0, m = 0;
    for (int32_t id = 0; id < trie->n_ids; id++) {
        size_t len;
        if (!(mask[id / 64] >> id % 64 & 1)) continue;
        const char *s = fm_tokenizer_piece(tok, id, &len);
        if (fm_rng_uniform(&rng) * ++n < 1) any = id;
        if ((is_end(tok, id) || (len == 1 && strchr("\"}]", *s))) && fm_rng_uniform(&rng) * ++m < 1) closing = id;
    }
    return closing >= 0 && below(40) < step ? closing : any;
}

/* Free text of DSML ends with a mark that chance would never say: late in the walk it is wished for. */
static bool walk(struct fm_matcher *m, bool dsml, struct fm_buf *text)
{
    static const char mark[] = "</｜DSML｜parameter>";
    const char *wish = NULL;
    fm_matcher_reset(m);
    fm_buf_clear(text);
    fm_buf_add(text, "", 0);
    for (int step = 0; step < 500; step++) {
        bool any;
        size_t len;
        const uint64_t *mask = fm_matcher_mask(m, trie, &any);
        if (!mask) return false;
        if (!any) fail_msg("nothing may follow: %s", text->data);
        if (dsml && !wish && below(60) < step) wish = mark;
        int32_t id = wish ? toward(mask, wish) : -1;
        if (id < 0) {
            wish = NULL;
            id = pick(mask, step);
        }
        if (is_end(tok, id)) return true;
        const char *s = fm_tokenizer_piece(tok, id, &len);
        if (wish && !*(wish += len)) wish = NULL;
        fm_buf_add(text, s, len);
        assert_true(fm_matcher_token(m, trie, id));
    }
    return false;
}

/* Every call is one of the tools', and what it gives is valid. */
static int judge(const char *format, const char *text, size_t n, const json_t *tools, const char *only)
{
    struct fm_chat_parser *p;
    struct fm_error err;
    char *said;
    size_t n_said, i, k;
    const char *warning;
    json_t *call, *tool;
    assert_int_equal(fm_chat_parser_new(format, false, NULL, NULL, &p, &err), FM_OK);
    if (fm_chat_must_think(fm_chat_find(format))) fm_chat_parser_push(p, "</think>", 8);
    fm_chat_parser_push(p, text, n);
    assert_int_equal(fm_chat_parser_end(p, &said, &n_said, &warning, &err), FM_OK);
    if (warning) fail_msg("%s: %s: %s", format, warning, text);
    json_t *message = json_loadb(said, n_said, 0, NULL);
    const json_t *calls = json_object_get(message, "tool_calls");
    json_array_foreach(calls, i, call)
    {
        const json_t *f = json_object_get(call, "function");
        const char *name = json_string_value(json_object_get(f, "name"));
        const char *given = json_string_value(json_object_get(f, "arguments"));
        json_t *args = json_loads(given, 0, NULL);
        bool known = false;
        if (!args) fail_msg("%s: no JSON: %s", format, given);
        json_array_foreach(tools, k, tool)
        {
            const json_t *t = json_object_get(tool, "function"), *schema = json_object_get(t, "parameters");
            if (strcmp(json_string_value(json_object_get(t, "name")), name) != 0) continue;
            known = true;
            if (!schema_holds(schema, schema, args)) fail_msg("%s: %s: not valid: %s", format, name, given);
        }
        if (!known || (only && strcmp(only, name) != 0)) fail_msg("%s: no such tool: %s", format, name);
        json_decref(args);
    }
    const int found = (int)json_array_size(calls);
    json_decref(message);
    fm_text_free(said);
    fm_chat_parser_free(p);
    return found;
}

static void test_forced(void **state)
{
    static const char *const formats[] = {"deepseek-v3", "deepseek-r1", "deepseek-v3.1", "deepseek-v3.2",
                                          "deepseek-v4", "qwen2.5",     "llama3.1"};
    enum { WALKS = 60 };
    struct fm_py_doc doc = {0};
    const struct fm_py *tools;
    json_t *twin = json_loads(tools_text, 0, NULL);
    int ended = 0, calls = 0;
    (void)state;
    assert_int_equal(fm_py_parse(&doc, tools_text, sizeof tools_text - 1, "tools", &tools, NULL), FM_OK);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        for (int only = 0; only < 2; only++) {
            const enum fm_calls kind = fm_chat_find(formats[i])->parse.calls;
            const struct fm_tool_use use = {
                .calls = kind, .tools = tools, .only = only ? "get_weather" : NULL, .required = true};
            struct fm_gbuild b = {0};
            struct fm_gjson g = fm_gjson_new(&b);
            struct fm_grammar grammar;
            struct fm_matcher *m;
            struct fm_error err;
            struct fm_buf text = {0};
            int root = -1, mine = 0;
            if (fm_tools_parse(&g, &use, -1, &root, &err)) fail_msg("%s: %s", formats[i], err.message);
            if (fm_grammar_compile(&b, root, fm_token_trie_has_mark, trie, "tools", &grammar, &err))
                fail_msg("%s: %s", formats[i], err.message);
            assert_int_equal(fm_matcher_new(&grammar, &m, &err), FM_OK);
            for (int k = 0; k < WALKS; k++) {
                if (!walk(m, kind == FM_CALLS_V32 || kind == FM_CALLS_V4, &text)) continue;
                const int n = judge(formats[i], text.data, text.len, twin, use.only);
                if (n < 1 || (only && n != 1)) fail_msg("%s: %d calls: %s", formats[i], n, text.data);
                mine++;
                calls += n;
            }
            if (mine < WALKS / 2) fail_msg("%s: only %d walks came to an end", formats[i], mine);
            ended += mine;
            fm_buf_release(&text);
            fm_matcher_free(m);
            fm_grammar_release(&grammar);
            fm_gbuild_release(&b);
        }
    printf("%d answers of %d came to an end, with %d calls, all of them valid\n", ended,
           (int)(sizeof formats / sizeof *formats) * 2 * WALKS, calls);
    json_decref(twin);
    fm_py_release(&doc);
}

/* Content, then perhaps calls: what a strict tool's answers may be. */
static void test_content(void **state)
{
    static const struct {
        const char *format, *text;
        bool ok;
    } rows[] = {
        {"qwen2.5", "just words < and <tool_cal", true},
        {"qwen2.5", "words\n<tool_call>\n{\"name\": \"nothing\", \"arguments\": {}}\n</tool_call>", true},
        {"qwen2.5",
         "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"x\"}}\n</tool_call>\n<tool_call>\n"
         "{\"name\": \"nothing\", \"arguments\": {\"free\": 1}}\n</tool_call>",
         true},
        {"qwen2.5", "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"unit\": \"c\"}}\n</tool_call>", false},
        {"qwen2.5", "<tool_call>\n{\"name\": \"other\", \"arguments\": {}}\n</tool_call>", false},
        {"qwen2.5", "<tool_call> and words", false},
        {"llama3.1", "words with { in them", true},
        {"llama3.1", "{\"name\": \"nothing\", \"parameters\": {}}", true},
        {"llama3.1", "{\"name\": \"other\", \"parameters\": {}}", false},
        {"deepseek-v4",
         "words\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" "
         "string=\"true\">a<b</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
         true},
        {"deepseek-v4",
         "words\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"get_weather\">\n</｜DSML｜invoke>\n"
         "</｜DSML｜tool_calls>",
         false},
    };
    struct fm_py_doc doc = {0};
    const struct fm_py *tools;
    (void)state;
    assert_int_equal(fm_py_parse(&doc, tools_text, sizeof tools_text - 1, "tools", &tools, NULL), FM_OK);
    assert_true(fm_tools_strict(tools));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct fm_tool_use use = {.calls = fm_chat_find(rows[i].format)->parse.calls, .tools = tools};
        struct fm_gbuild b = {0};
        struct fm_gjson g = fm_gjson_new(&b);
        struct fm_grammar grammar;
        struct fm_matcher *m;
        struct fm_error err;
        int root = -1;
        if (fm_tools_parse(&g, &use, -1, &root, &err)) fail_msg("%s: %s", rows[i].format, err.message);
        assert_int_equal(fm_grammar_compile(&b, root, NULL, NULL, "tools", &grammar, &err), FM_OK);
        assert_int_equal(fm_matcher_new(&grammar, &m, &err), FM_OK);
        const bool ok = fm_matcher_text(m, rows[i].text, strlen(rows[i].text)) && fm_matcher_accepts(m);
        if (ok != rows[i].ok) fail_msg("%s: %d: %s", rows[i].format, ok, rows[i].text);
        fm_matcher_free(m);
        fm_grammar_release(&grammar);
        fm_gbuild_release(&b);
    }
    fm_py_release(&doc);
}

static void test_refused(void **state)
{
    static const struct {
        const char *format, *tools, *only, *says;
    } rows[] = {
        {"smollm2", "[]", NULL, "the model's chat format has no tool calls"},
        {"qwen2.5", "[]", NULL, "tool_choice: there are no tools"},
        {"qwen2.5", tools_text, "other", "tool_choice: there is no tool 'other'"},
        {"qwen2.5",
         "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"strict\":true,\"parameters\":{\"properties\":{\"x\":"
         "{\"not\":{}}}}}}]",
         NULL, "tool f: its parameters: /properties/x/not: this keyword is not supported"},
        {"deepseek-v4",
         "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"strict\":true,\"parameters\":{\"anyOf\":[true]}}}]",
         NULL, "tool f: its parameters: /anyOf: it is not supported for a tool's parameters as a whole"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fm_py_doc doc = {0};
        const struct fm_py *tools;
        struct fm_gbuild b = {0};
        struct fm_gjson g = fm_gjson_new(&b);
        struct fm_error err = {0};
        int root;
        assert_int_equal(fm_py_parse(&doc, rows[i].tools, strlen(rows[i].tools), "tools", &tools, NULL), FM_OK);
        const struct fm_tool_use use = {
            .calls = fm_chat_find(rows[i].format)->parse.calls, .tools = tools, .only = rows[i].only, .required = true};
        assert_int_not_equal(fm_tools_parse(&g, &use, -1, &root, &err), FM_OK);
        if (!strstr(err.message, rows[i].says)) fail_msg("%s: said: %s", rows[i].tools, err.message);
        fm_gbuild_release(&b);
        fm_py_release(&doc);
    }
}

int main(void)
{
    if (fm_tokenizer_open("models/default.gguf", NULL, &tok, NULL)) return 1;
    if (fm_token_trie_new(tok, fm_tokenizer_size(tok), is_end, tok, &trie, NULL)) return 1;
    fm_rng_init(&rng, 3);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forced), cmocka_unit_test(test_content),
                                       cmocka_unit_test(test_refused)};
    const int bad = cmocka_run_group_tests(tests, NULL, NULL);
    fm_token_trie_free(trie);
    fm_tokenizer_close(tok);
    return bad;
}
