/* Chat formats: JSON, prompts against what the published templates and encoders gave, answers cut at every byte.
 *
 * tests/oracle/chat/encode.jsonl   {format, input, output}: made by jinja2 from the templates of DeepSeek R1, V3.1 and
 *                                  V3.2, Llama 3.1, Qwen 2.5 and 3, and by DeepSeek-V4's own encoder
 * tests/oracle/chat/decode.jsonl   {format, thinking, text, message}: by DeepSeek-V4's own parser
 * $FATHOM_SHARED (../shared)       DeepSeek's published examples */
#include "text_util.h"

#include "base/json.h"
#include "base/mem.h"
#include "text/chat_impl.h"

#define ORACLE "tests/oracle/chat/"

/* ---- SHA-256, FIPS 180-4 ---- */

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void sha256_block(uint32_t h[8], const unsigned char *p)
{
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | p[4 * i + 1] << 16 | p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
               (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(s, h, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t a = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) +
                     k[i] + w[i];
        uint32_t b =
            (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += a;
        s[0] = a + b;
    }
    for (int i = 0; i < 8; i++) h[i] += s[i];
}

static void sha256_hex(const char *s, size_t n, char hex[65])
{
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    size_t full = n / 64 * 64, rest = n - full, total = rest < 56 ? 64 : 128;
    unsigned char tail[128] = {0};
    for (size_t i = 0; i < full; i += 64) sha256_block(h, (const unsigned char *)s + i);
    memcpy(tail, s + full, rest);
    tail[rest] = 0x80;
    for (int i = 0; i < 8; i++) tail[total - 1 - (size_t)i] = (unsigned char)(n * 8 >> 8 * i);
    for (size_t i = 0; i < total; i += 64) sha256_block(h, tail + i);
    for (int i = 0; i < 8; i++) snprintf(hex + 8 * i, 9, "%08x", h[i]);
}

static void test_paragraphs(void **state)
{
    (void)state;
    static const struct {
        int id;
        size_t n;
        const char *digest;
    } spec[] = {{FM_PARAGRAPH_V32_TOOLS, 1147, "8dc0ae780567338a"},
                {FM_PARAGRAPH_V4_TOOLS, 989, "c7d3159308f7d076"},
                {FM_PARAGRAPH_EFFORT, 476, "f7a24f3b3050d4a8"},
                {FM_PARAGRAPH_EFFORT_MORE, 528, "53fb31b8392ec5b4"}};
    for (int i = 0; i < FM_PARAGRAPH_COUNT; i++) {
        const struct fm_paragraph *p = &fm_paragraphs[i];
        char hex[65], *text = fm_strdup(p->text), *gap = strchr(text, FM_GAP[0]);
        if (gap) memmove(gap, gap + 1, strlen(gap));
        assert_int_equal(strlen(text), p->n);
        sha256_hex(text, p->n, hex);
        assert_string_equal(hex, p->sha256);
        assert_non_null(p->source);
        fm_free(text);
    }
    for (size_t i = 0; i < sizeof spec / sizeof *spec; i++) {
        assert_int_equal(fm_paragraphs[spec[i].id].n, spec[i].n);
        assert_memory_equal(fm_paragraphs[spec[i].id].sha256, spec[i].digest, 16);
    }
}

/* ---- JSON ---- */

static void assert_json(const char *in, int indent, const char *want)
{
    struct fm_py_doc d = {0};
    struct fm_buf b = {0};
    const struct fm_py *v;
    OK(fm_py_parse(&d, in, strlen(in), "t", &v, &err));
    fm_py_write(&b, v, indent);
    assert_string_equal(b.data, want);
    fm_buf_release(&b);
    fm_py_release(&d);
}

static void test_json(void **state)
{
    (void)state;
    assert_json("[0.1,1e22,12345678901234567890,-0,1.50E+3]", 0, "[0.1, 1e22, 12345678901234567890, -0, 1.50E+3]");
    assert_json(" {\"b\" : 1 , \"a\":{ },\"c\":[ ]} ", 0, "{\"b\": 1, \"a\": {}, \"c\": []}");
    assert_json("{\"a\":1,\"b\":2,\"a\":[3],\"c\":4,\"b\":5}", 0, "{\"a\": [3], \"b\": 5, \"c\": 4}");
    assert_json("\"\\u00e9\\ud83d\\ude42\\/\\u001F\\b\\f\\n\\r\\t\\\"\\\\\\u007f\"", 0,
                "\"é🙂/\\u001f\\b\\f\\n\\r\\t\\\"\\\\\x7f\"");
    assert_json("{\"a\":[1,{\"b\":null}],\"c\":{}}", 4,
                "{\n    \"a\": [\n        1,\n        {\n            \"b\": null\n        }\n    ],\n    \"c\": {}\n}");
    static const char *const bad[] = {"",
                                      " ",
                                      "{",
                                      "[1,]",
                                      "{\"a\":1,}",
                                      "{a:1}",
                                      "01",
                                      "1.",
                                      ".5",
                                      "1e",
                                      "+1",
                                      "NaN",
                                      "nul",
                                      "\"\\x\"",
                                      "\"\\ud800\"",
                                      "\"\\udc00\"",
                                      "\"\\ud800\\u0041\"",
                                      "\"a\nb\"",
                                      "\"\xff\"",
                                      "\"\xc0\x80\"",
                                      "\"\xed\xa0\x80\"",
                                      "1 2",
                                      "\"",
                                      "[1 2]",
                                      "-",
                                      "\"\\u12"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fm_py_doc d = {0};
        const struct fm_py *v;
        assert_int_equal(fm_py_parse(&d, bad[i], strlen(bad[i]), "t", &v, &err), FM_ERR_INPUT);
        assert_non_null(strstr(err.message, "t: byte "));
        fm_py_release(&d);
    }
}

static void test_json_limits(void **state)
{
    (void)state;
    size_t n = 1 << 20;
    char *s = fm_malloc(n + 3);
    const struct fm_py *v;
    for (int deep = 0; deep < 2; deep++) {
        struct fm_py_doc d = {0};
        memset(s, deep ? '[' : 'x', n);
        if (!deep) s[0] = s[n - 1] = '"';
        enum fm_status st = fm_py_parse(&d, s, n, "t", &v, &err);
        assert_int_equal(st, deep ? FM_ERR_INPUT : FM_OK);
        if (deep) assert_non_null(strstr(err.message, "nested too deeply"));
        fm_py_release(&d);
    }
    fm_free(s);
}

/* ---- prompts ---- */

static enum fm_status prompt_of(const char *format, const char *json, size_t n, struct fm_prompt *p)
{
    struct fm_py_doc d = {0};
    struct fm_talk t;
    const struct fm_py *v;
    const struct fm_chat_format *f = fm_chat_find(format);
    assert_non_null(f);
    enum fm_status st = fm_py_parse(&d, json, n, "read messages", &v, &err);
    if (!st) st = fm_talk_read(f, v, &d, &t, &err);
    if (!st) st = fm_talk_encode(f, &t, p, &err);
    fm_py_release(&d);
    return st;
}

static void assert_prompt(const char *format, const char *json, const char *want)
{
    struct fm_prompt p = {0};
    OK(prompt_of(format, json, strlen(json), &p));
    assert_string_equal(p.text.data, want);
    fm_prompt_release(&p);
}

#define B "<｜begin▁of▁sentence｜>"
#define E "<｜end▁of▁sentence｜>"
#define U "<｜User｜>"
#define A "<｜Assistant｜>"

static void each_line(const char *path, void (*fn)(json_t *row))
{
    FILE *f = fopen(path, "rb");
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    int rows = 0;
    if (!f) fail_msg("%s is not there: tests run in the root of the tree", path);
    while ((n = getline(&line, &cap, f)) > 0) {
        json_t *row;
        OK(fm_json_parse(line, (size_t)n, path, &row, &err));
        fn(row);
        json_decref(row);
        rows++;
    }
    assert_true(rows > 10);
    free(line); /* getline's */
    fclose(f);
}

static void check_encode(json_t *row)
{
    assert_prompt(fm_json_str(row, "format", ""), fm_json_str(row, "input", ""), fm_json_str(row, "output", ""));
}

static void test_oracle(void **state)
{
    (void)state;
    each_line(ORACLE "encode.jsonl", check_encode);
}

static void test_numbers(void **state)
{
    (void)state;
    static const char call[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"tool_calls\":[{\"function\":"
        "{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":0.1,\\\"b\\\":[1e22,12345678901234567890]}\"}}]}]}";
    assert_prompt("deepseek-v4", call,
                  B U "x" A
                      "</think>\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"a\" "
                      "string=\"false\">0.1</｜DSML｜parameter>\n<｜DSML｜parameter name=\"b\" string=\"false\">[1e22, "
                      "12345678901234567890]</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>" E);
    assert_prompt("deepseek-v3.1", call,
                  B U "x" A
                      "</think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 0.1, \"b\": [1e22, "
                      "12345678901234567890]}<｜tool▁call▁end｜><｜tool▁calls▁end｜>" E);
}

/* Arguments that are told to stay as they are do, where a format has a place for JSON. */
static void test_verbatim(void **state)
{
    (void)state;
    static const char call[] =
        "[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"tool_calls\":[{\"function\":"
        "{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":[1,2] }\",\"verbatim\":true}}]}]";
    assert_prompt("deepseek-v3.1", call,
                  B U "x" A "</think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\":[1,2] }"
                      "<｜tool▁call▁end｜><｜tool▁calls▁end｜>" E);
    assert_prompt("deepseek-v4", call,
                  B U "x" A "</think>\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter "
                      "name=\"a\" string=\"false\">[1, 2]</｜DSML｜parameter>\n</｜DSML｜invoke>\n"
                      "</｜DSML｜tool_calls>" E);
}

static void test_own_cases(void **state)
{
    (void)state;
    assert_prompt("deepseek-v3.1",
                  "{\"tools\":[{\"function\":{\"name\":\"f\",\"description\":\"d\",\"parameters\":{\"x\":1}}}],"
                  "\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"x\"}]}",
                  B
                  "S\n\n## Tools\nYou have access to the following tools:\n\n### f\nDescription: d\n\nParameters: "
                  "{\"x\": 1}\n\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n<｜tool▁calls▁begin｜>"
                  "<｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments<｜tool▁call▁end｜>"
                  "{additional_tool_calls}<｜tool▁calls▁end｜>\n\nWhere:\n- `tool_call_name` must be an exact match to "
                  "one of the available tools\n- `tool_call_arguments` must be valid JSON that strictly follows the "
                  "tool's Parameters Schema\n- For multiple tool calls, chain them directly without separators or "
                  "spaces" U "x" A "</think>");
    assert_prompt(
        "deepseek-v3.2",
        "{\"thinking\":true,\"messages\":[{\"role\":\"developer\",\"content\":\"x\",\"response_format\":{\"a\":1}"
        "}]}",
        B U "\n\n## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n{\"a\": 1}"
            "\n\n# The user's message is: x" A "<think>");
    assert_prompt(
        "deepseek-v3",
        "[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":"
        "\"f\",\"arguments\":{}}}]},{\"role\":\"tool\",\"content\":\"r\"}]",
        B U "x" A "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}\n```"
            "<｜tool▁call▁end｜><｜tool▁calls▁end｜>" E "<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>r"
            "<｜tool▁output▁end｜><｜tool▁outputs▁end｜>");
    assert_prompt(
        "deepseek-v4-0731",
        "{\"thinking\":true,\"reasoning_effort\":\"high\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
        "\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}],\"task\":\"query\"}]}",
        B "Reasoning Effort: Absolute maximum with no shortcuts permitted.\nYou MUST be very thorough in your "
          "thinking and comprehensively decompose the problem to resolve the root cause, rigorously "
          "stress-testing your logic against all potential paths, edge cases, and adversarial scenarios.\n"
          "Explicitly write out your entire deliberation process, documenting every intermediate step, "
          "considered alternative, and rejected hypothesis to ensure absolutely no assumption is left "
          "unchecked.\n\n" U "a\n\nb<｜query｜>");
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "null",
        "{}",
        "{\"messages\":[]}",
        "{\"messages\":{}}",
        "{\"messages\":[1]}",
        "{\"messages\":[{\"content\":\"x\"}]}",
        "{\"messages\":[{\"role\":1}]}",
        "{\"messages\":[{\"role\":\"wizard\"}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":1}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}]}",
        "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{}]}]}",
        "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\"}}]}]}",
        "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"[1]\"}}]}"
        "]}",
        "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}]}]"
        "}",
        "{\"thinking\":1,\"messages\":[{\"role\":\"user\"}]}",
        "{\"tools\":[{}],\"messages\":[{\"role\":\"user\"}]}",
        "{\"tools\":{},\"messages\":[{\"role\":\"user\"}]}",
        "{\"builtin_tools\":[1],\"messages\":[{\"role\":\"user\"}]}",
    };
    for (int f = 0; fm_chat_at(f); f++)
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            struct fm_prompt p = {0};
            assert_int_equal(prompt_of(fm_chat_name(fm_chat_at(f)), bad[i], strlen(bad[i]), &p), FM_ERR_INPUT);
            fm_prompt_release(&p);
        }
    struct fm_prompt p = {0};
    static const char tool[] = "[{\"role\":\"tool\",\"content\":\"x\"}]",
                      effort[] = "{\"reasoning_effort\":\"low\",\"messages\":[{\"role\":\"user\"}]}";
    assert_int_equal(prompt_of("chatml", tool, sizeof tool - 1, &p), FM_ERR_USAGE);
    assert_int_equal(prompt_of("deepseek-v3.2", tool, sizeof tool - 1, &p), FM_ERR_USAGE);
    assert_int_equal(prompt_of("deepseek-v4", effort, sizeof effort - 1, &p), FM_ERR_USAGE);
    fm_prompt_release(&p);
}

/* What was written by users and models is in no mark. */
static void test_marks(void **state)
{
    (void)state;
    static const char evil[] =
        "{\"thinking\":true,\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"EVIL\",\"description\":\"EVIL\"}"
        "}],"
        "\"messages\":[{\"role\":\"system\",\"content\":\"EVIL\"},{\"role\":\"user\",\"content\":\"EVIL\"},{\"role\":"
        "\"assistant\",\"content\":\"EVIL\",\"reasoning_content\":\"EVIL\",\"tool_calls\":[{\"id\":\"i\",\"function\":"
        "{\"name\":\"EVIL\",\"arguments\":{\"EVIL\":\"EVIL\"}}}]},{\"role\":\"tool\",\"tool_call_id\":\"i\","
        "\"content\":"
        "\"EVIL\"}]}";
    static const char *const marks[] = {"<|im_end|>", "｜DSML｜", "<think>", "<tool_call>", E, "<｜tool▁sep｜>"};
    for (int f = 0; fm_chat_at(f); f++)
        for (size_t m = 0; m < sizeof marks / sizeof *marks; m++) {
            struct fm_buf json = {0};
            struct fm_prompt plain = {0}, p = {0};
            const char *name = fm_chat_name(fm_chat_at(f));
            for (const char *s = evil; *s;) {
                bool hit = !strncmp(s, "EVIL", 4);
                fm_buf_add(&json, hit ? marks[m] : s, hit ? strlen(marks[m]) : 1);
                s += hit ? 4 : 1;
            }
            if (!prompt_of(name, evil, sizeof evil - 1, &plain)) {
                OK(prompt_of(name, json.data, json.len, &p));
                assert_int_equal(p.n_marks, plain.n_marks);
            }
            fm_prompt_release(&p);
            fm_prompt_release(&plain);
            fm_buf_release(&json);
        }
}

/* ---- answers ---- */

struct heard {
    struct fm_buf reasoning, content;
};

static void hear(void *arg, bool reasoning, const char *s, size_t n)
{
    struct heard *h = arg;
    assert_true(n > 0);
    fm_buf_add(reasoning ? &h->reasoning : &h->content, s, n);
}

/* Cut at a and b; a > b: byte by byte. */
static void decode_cut(const char *format, bool thinking, const char *text, size_t n, size_t a, size_t b,
                       const char *want, bool warns)
{
    const struct fm_chat_format *f = fm_chat_find(format);
    struct fm_parser p;
    struct fm_buf out = {0};
    struct heard h = {0};
    fm_parser_init(&p, &f->parse, thinking || f->rules & FM_CHAT_THINKS);
    p.out = hear;
    p.arg = &h;
    if (a > b)
        for (size_t i = 0; i < n; i++) fm_parser_push(&p, text + i, 1);
    else {
        fm_parser_push(&p, text, a);
        fm_parser_push(&p, text + a, b - a);
        fm_parser_push(&p, text + b, n - b);
    }
    fm_parser_end(&p);
    fm_parser_write(&p, &out);
    assert_false(p.failed);
    assert_string_equal(out.data, want);
    assert_int_equal(p.warning != NULL, warns);
    assert_int_equal(h.reasoning.len, p.reasoning.len);
    assert_int_equal(h.content.len, p.content.len);
    if (h.content.len) assert_memory_equal(h.content.data, p.content.data, h.content.len);
    if (h.reasoning.len) assert_memory_equal(h.reasoning.data, p.reasoning.data, h.reasoning.len);
    fm_buf_release(&h.reasoning);
    fm_buf_release(&h.content);
    fm_buf_release(&out);
    fm_parser_release(&p);
}

static void decode_all(const char *format, bool thinking, const char *text, const char *want, bool warns)
{
    size_t n = strlen(text);
    decode_cut(format, thinking, text, n, 1, 0, want, warns);
    for (size_t a = 0; a <= n; a++) decode_cut(format, thinking, text, n, a, n, want, warns);
    for (size_t a = 0; a + 3 <= n; a++) decode_cut(format, thinking, text, n, a, a + 3, want, warns);
}

static void check_decode(json_t *row)
{
    decode_all(fm_json_str(row, "format", ""), fm_json_bool(row, "thinking", false), fm_json_str(row, "text", ""),
               fm_json_str(row, "message", ""), false);
}

static void test_official_parser(void **state)
{
    (void)state;
    each_line(ORACLE "decode.jsonl", check_decode);
}

#define SAID(content, reasoning, calls)                                                           \
    "{\"role\": \"assistant\", \"content\": \"" content "\", \"reasoning_content\": \"" reasoning \
    "\", \"tool_calls\": [" calls "]}"
#define CALLED(name, args) \
    "{\"type\": \"function\", \"function\": {\"name\": \"" name "\", \"arguments\": \"" args "\"}}"
#define TB  "<｜tool▁calls▁begin｜>"
#define TE  "<｜tool▁calls▁end｜>"
#define CB  "<｜tool▁call▁begin｜>"
#define CE  "<｜tool▁call▁end｜>"
#define SEP "<｜tool▁sep｜>"

static void test_answers(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        bool thinking, warns;
        const char *text, *want;
    } rows[] = {
        {"plain", false, false, "as <think> it </think> is", SAID("as <think> it </think> is", "", "")},
        {"chatml", false, false, "Hi<|im_end|>\n", SAID("Hi", "", "")},
        {"chatml", false, true, "Hi<|im_end|>more", SAID("Hi", "", "")},
        {"llama2", false, false, " Hi you </s>", SAID("Hi you", "", "")},
        {"deepseek-v2", false, false, " Hi" E, SAID(" Hi", "", "")},
        {"deepseek-r1", false, false, "why\n</think>\n\nyes" E, SAID("\\n\\nyes", "why\\n", "")},
        {"deepseek-r1", false, false, "<think>\nwhy\n</think>\n\nyes", SAID("\\n\\nyes", "\\nwhy\\n", "")},
        {"deepseek-r1", false, false, "why not", SAID("", "why not", "")},
        {"deepseek-r1", false, false,
         "w</think>" TB CB "function" SEP "f\n```json\n{\"a\":1}\n```" CE "\n" CB "function" SEP
         "g\n```json\n{}\n```" CE TE E,
         SAID("", "w", CALLED("f", "{\\\"a\\\":1}") ", " CALLED("g", "{}"))},
        {"deepseek-v3", false, true, "x" TB CB "function" SEP "f\n```json\n{\"a\":1\n```" CE TE E,
         SAID("x" TB CB "function" SEP "f\\n```json\\n{\\\"a\\\":1\\n```" CE TE, "", "")},
        {"deepseek-v3.1", false, false, "ok" TB CB "f" SEP "{\"a\": 0.10}" CE CB "g" SEP "{}" CE TE E,
         SAID("ok", "", CALLED("f", "{\\\"a\\\": 0.10}") ", " CALLED("g", "{}"))},
        {"deepseek-v3.1", false, true, "ok" TB CB "f" SEP "{\"a\": 0.10}" CE,
         SAID("ok" TB CB "f" SEP "{\\\"a\\\": 0.10}" CE, "", "")},
        {"deepseek-v3.1", true, false, "why</think>yes", SAID("yes", "why", "")},
        {"deepseek-v4", true, true, "why\n\n<｜DSML｜tool_calls>\n</｜DSML｜tool_calls>" E,
         SAID("\\n\\n<｜DSML｜tool_calls>\\n</｜DSML｜tool_calls>", "why", "")},
        {"deepseek-v4", false, true,
         "a\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"k\" "
         "string=\"true\">v</｜DSML｜"
         "parameter>\n<｜DSML｜parameter name=\"k\" "
         "string=\"true\">w</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜"
         "tool_calls>" E,
         SAID("a\\n\\n<｜DSML｜tool_calls>\\n<｜DSML｜invoke name=\\\"f\\\">\\n<｜DSML｜parameter name=\\\"k\\\" "
              "string=\\\"true\\\">v</｜DSML｜parameter>\\n<｜DSML｜parameter name=\\\"k\\\" "
              "string=\\\"true\\\">w</｜DSML｜"
              "parameter>\\n</｜DSML｜invoke>\\n</｜DSML｜tool_calls>",
              "", "")},
        {"deepseek-v3.2", false, false,
         "a\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
         SAID("a", "", CALLED("f", "{}"))},
        {"deepseek-v3.2", false, true, "a\n\n<｜DSML｜function_calls>\n</｜DSML｜function_calls>x",
         SAID("a\\n\\n<｜DSML｜function_calls>\\n</｜DSML｜function_calls>x", "", "")},
        {"qwen3", false, false, "<think>\nwhy\n</think>\n\nyes\n<|im_end|>", SAID("yes\\n", "why", "")},
        {"qwen3", true, false,
         "why\n\n</think>\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\":1e22}}\n</tool_call>"
         "<|im_end|>",
         SAID("", "why", CALLED("f", "{\\\"a\\\": 1e22}"))},
        {"qwen3", false, false, "<thin", SAID("<thin", "", "")},
        {"qwen2.5", false, false,
         "Sure.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": "
         "\"</tool_call>\"}}\n</tool_call>\n<tool_call>\n{\"name\""
         ": \"g\", \"arguments\": {}}\n</tool_call>",
         SAID("Sure.", "", CALLED("f", "{\\\"a\\\": \\\"</tool_call>\\\"}") ", " CALLED("g", "{}"))},
        {"qwen2.5", false, true, "a <tool_call>\n{\"name\": \"f\"}\n</tool_call><|im_end|>",
         SAID("a <tool_call>\\n{\\\"name\\\": \\\"f\\\"}\\n</tool_call>", "", "")},
        {"llama3.1", false, false, "{\"name\": \"f\", \"parameters\": {\"a\": 12345678901234567890}}<|eot_id|>",
         SAID("", "", CALLED("f", "{\\\"a\\\": 12345678901234567890}"))},
        {"llama3.1", false, false, "<|python_tag|>f.call(q=\"x\", r=\"y\")<|eom_id|>",
         SAID("", "", CALLED("f", "{\\\"q\\\": \\\"x\\\", \\\"r\\\": \\\"y\\\"}"))},
        {"llama3.1", false, false, "{\"a\": 1}<|eot_id|>", SAID("{\\\"a\\\": 1}", "", "")},
        {"llama3.1", false, true, "{\"name\": \"f\", \"para", SAID("{\\\"name\\\": \\\"f\\\", \\\"para", "", "")},
        {"llama3", false, false, "\n Hi", SAID("\\n Hi", "", "")},
        {"deepseek-v4", false, false, "", SAID("", "", "")},
        {"deepseek-v4", false, false, "a\n\n<｜DSML", SAID("a\\n\\n<｜DSML", "", "")},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        decode_all(rows[i].format, rows[i].thinking, rows[i].text, rows[i].want, rows[i].warns);
}

/* Pieces of every grammar in any order: whatever comes out does not depend on the cuts. */
static void test_random_answers(void **state)
{
    (void)state;
    static const char *const bits[] = {"<think>",
                                       "</think>",
                                       "\n\n<｜DSML｜tool_calls",
                                       ">\n",
                                       "<｜DSML｜invoke",
                                       " name=\"f\">\n",
                                       "<｜DSML｜parameter",
                                       " name=\"a\" string=\"true\">v",
                                       "</｜DSML｜parameter",
                                       "</｜DSML｜invoke",
                                       "</｜DSML｜tool_calls>",
                                       E,
                                       "<tool_call>",
                                       "</tool_call>",
                                       "{\"name\":\"f\",\"arguments\":{}}",
                                       "\n",
                                       " ",
                                       "x",
                                       TB,
                                       CB,
                                       "function" SEP "f\n```json\n",
                                       "{}",
                                       "\n```",
                                       CE,
                                       TE,
                                       "<|eot_id|>",
                                       "<|im_end|>",
                                       "\xff",
                                       "<|python_tag|>",
                                       "f.call(a=\"b\")",
                                       "</s>"};
    struct fm_rng r;
    fm_rng_init(&r, 7);
    for (int round = 0; round < (quick ? 300 : 3000); round++) {
        struct fm_buf text = {0}, want = {0};
        struct fm_parser p;
        const struct fm_chat_format *f = fm_chat_at(round % 19);
        bool thinking = f->rules & FM_CHAT_THINKS || fm_rng_u64(&r) % 2;
        for (uint64_t k = fm_rng_u64(&r) % 14; k > 0; k--) {
            const char *bit = bits[fm_rng_u64(&r) % (sizeof bits / sizeof *bits)];
            fm_buf_add(&text, bit, fm_rng_u64(&r) % 8 ? strlen(bit) : fm_rng_u64(&r) % strlen(bit));
        }
        fm_buf_add(&text, "", 0);
        fm_parser_init(&p, &f->parse, thinking);
        fm_parser_push(&p, text.data, text.len);
        fm_parser_end(&p);
        fm_parser_write(&p, &want);
        decode_cut(f->name, thinking, text.data, text.len, 1, 0, want.data, p.warning != NULL);
        size_t cut = fm_rng_u64(&r) % (text.len + 1);
        decode_cut(f->name, thinking, text.data, text.len, cut, text.len, want.data, p.warning != NULL);
        fm_parser_release(&p);
        fm_buf_release(&text);
        fm_buf_release(&want);
    }
}

/* Every allocation fails once: an error, nothing lost. */
static void test_short_memory(void **state)
{
    (void)state;
    static const char in[] =
        "{\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],\"messages\":[{\"role\":\"user\",\"content\":"
        "[{\"type\":\"text\",\"text\":\"q\"}]},{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"a\",\"function\":"
        "{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1,\\\"a\\\":[2]}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"a\",\"content\":\"r\"}]}";
    static const char said[] = "w</think>" TB CB "f" SEP "{}" CE TE E;
    for (int f = 0; fm_chat_at(f); f++) {
        enum fm_status st = FM_ERR_MEMORY;
        for (long n = 1; st == FM_ERR_MEMORY; n++) {
            struct fm_prompt p = {0};
            fm_mem_fail_at(n);
            st = prompt_of(fm_chat_name(fm_chat_at(f)), in, sizeof in - 1, &p);
            fm_mem_fail_at(0);
            fm_prompt_release(&p);
        }
    }
    bool failed = true;
    for (long n = 1; failed; n++) {
        struct fm_parser p;
        fm_mem_fail_at(n);
        fm_parser_init(&p, &fm_chat_find("deepseek-v3.1")->parse, true);
        fm_parser_push(&p, said, sizeof said - 1);
        fm_parser_end(&p);
        fm_mem_fail_at(0);
        failed = p.failed;
        if (!failed) assert_int_equal(p.n_calls, 1);
        fm_parser_release(&p);
    }
}

/* ---- DeepSeek's examples ---- */

static void test_published(void **state)
{
    (void)state;
    const char *shared = getenv("FATHOM_SHARED");
    char path[512];
    for (int i = 1; i <= 2; i++) {
        struct fm_buf in = {0}, out = {0};
        struct fm_prompt p = {0};
        struct fm_py_doc d = {0};
        struct fm_talk t;
        const struct fm_py *v;
        const struct fm_chat_format *f = fm_chat_find("deepseek-v4");
        const char *root = shared ? shared : "../shared";
        snprintf(path, sizeof path, "%s/data/5-conformance/deepseek-encoding/v4/test_input_%d.json", root, i);
        if (fm_buf_read_file(&in, path, 1 << 20, &err)) {
            printf("SKIP DeepSeek's own examples: %s\n", err.message);
            fm_buf_release(&in);
            skip();
        }
        snprintf(path, sizeof path, "%s/data/5-conformance/deepseek-encoding/v4/test_output_%d.txt", root, i);
        OK(fm_buf_read_file(&out, path, 1 << 20, &err));
        OK(fm_py_parse(&d, in.data, in.len, path, &v, &err));
        OK(fm_talk_read(f, v, &d, &t, &err));
        t.thinking = true;
        OK(fm_talk_encode(f, &t, &p, &err));
        assert_string_equal(p.text.data, out.data);
        fm_prompt_release(&p);
        fm_py_release(&d);
        fm_buf_release(&in);
        fm_buf_release(&out);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paragraphs),      cmocka_unit_test(test_json),         cmocka_unit_test(test_json_limits),
        cmocka_unit_test(test_oracle),          cmocka_unit_test(test_numbers),      cmocka_unit_test(test_verbatim),
        cmocka_unit_test(test_own_cases),       cmocka_unit_test(test_refused),      cmocka_unit_test(test_marks),
        cmocka_unit_test(test_official_parser), cmocka_unit_test(test_answers),      cmocka_unit_test(test_published),
        cmocka_unit_test(test_random_answers),  cmocka_unit_test(test_short_memory),
    };
    return RUN(tests);
}
