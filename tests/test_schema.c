/* JSON schemas as grammars: what they take, what is refused and how, and random walks through the masks of random schemas,
 * every finished one judged by tests/json_schema.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "base/json.h"
#include "base/rng.h"
#include "grammar_machine.h"
#include "json_schema.h"
#include "text/grammar_json.h"

static enum fm_status open_schema(struct machine *x, const char *text, const struct fm_token_trie *t,
                                  struct fm_error *err)
{
    struct fm_gbuild b = {0};
    struct fm_py_doc doc = {0};
    const struct fm_py *schema;
    int root = -1;
    enum fm_status st = fm_py_parse(&doc, text, strlen(text), "schema", &schema, err);
    if (!st) {
        struct fm_gjson g = fm_gjson_new(&b);
        st = fm_schema_parse(&g, schema, "schema", &root, err);
    }
    fm_py_release(&doc);
    return open_machine(x, &b, root, st, t, "schema", err);
}

/* ---- by hand ---- */

static void test_takes(void **state)
{
    static const struct {
        const char *schema, *good[5], *bad[5];
    } rows[] = {
        {"true", {"{\"a\": [1, null]}", "-1.5e3", "\"\\ud83d\\ude00\""}, {"\"\\ud83d\"", "01", "nul"}},
        {"{\"type\":\"integer\",\"minimum\":-12,\"exclusiveMaximum\":205}",
         {"-12", "0", "-1", "99", "204"},
         {"-13", "205", "1.0", "-0", "1000"}},
        {"{\"type\":\"integer\",\"minimum\":98765432109876543210987}",
         {"98765432109876543210987", "98765432109876543210988", "100000000000000000000000"},
         {"98765432109876543210986", "9"}},
        {"{\"type\":\"integer\",\"minimum\":2.5,\"maximum\":1e1}", {"3", "10"}, {"2", "11"}},
        {"{\"type\":\"integer\",\"minimum\":-3.5,\"maximum\":-0.5}", {"-3", "-1"}, {"-4", "0", "-0"}},
        {"{\"type\":\"number\",\"minimum\":-0.25,\"exclusiveMaximum\":1.5}",
         {"-0.25", "-0.1", "0", "1.49", "1"},
         {"-0.26", "1.5", "1.", "1.50", "2"}},
        {"{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":0.125}",
         {"0.125", "0.1", "0.001", "0.1250"},
         {"0", "0.0", "0.126", "0.2", "1"}},
        {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
         {"\"ab\"", "\"\xC3\xA4\xE2\x82\xAC\"", "\"\\n\\ud83d\\ude00\""},
         {"\"a\"", "\"abcd\"", "\"a\n\""}},
        {"{\"type\":\"string\",\"pattern\":\"^(\\\\+\\\\d{1,2} )?[^a\\\\s]+(x|\\\"){2}$\"}",
         {"\"+49 bxx\"", "\"b\\\"x\""},
         {"\"+493 bxx\"", "\"axx\"", "\"bx\""}},
        {"{\"type\":\"string\",\"pattern\":\"b|^c\"}", {"\"abc\"", "\"cx\""}, {"\"ac\"", "\"\""}},
        {"{\"format\":\"date\"}", {"\"2024-02-29\"", "\"1999-12-31\""}, {"\"2023-02-29\"", "\"1900-02-29\"", "\"x\""}},
        {"{\"format\":\"unknown\",\"type\":\"string\"}", {"\"x\""}, {"1"}},
        {"{\"enum\":[1,\"a\",{\"b\":[true]},null]}", {"1", "\"a\"", "{\"b\": [true]}", "null"}, {"2", "1.0"}},
        {"{\"type\":\"string\",\"enum\":[\"a\",1,\"bcd\"],\"maxLength\":2}", {"\"a\""}, {"\"bcd\"", "1"}},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"const\":2},\"c\":{}},\"required\":[\"b\"]}",
         {"{\"b\":2}", "{\"a\": 1, \"b\": 2}", "{\n  \"b\": 2,\n  \"c\": []\n}"},
         {"{\"a\": 1}", "{\"b\": 2, \"a\": 1}", "{\"b\": 2, \"d\": 1}", "{}", "{\"b\": 2,}"}},
        {"{\"properties\":{\"ab\":{\"type\":\"null\"}},\"additionalProperties\":{\"type\":\"boolean\"}}",
         {"{\"ab\": null, \"a\": true}", "{\"abc\": false, \"\": true}", "{}", "{\"b\\n\": true}"},
         {"{\"ab\": true}", "{\"\\u0061b\": true}", "{\"x\": null}"}},
        {"{\"type\":\"object\",\"minProperties\":1,\"maxProperties\":2}", {"{\"a\": 1}", "{\"a\":1,\"b\":2}"}, {"{}"}},
        {"{\"type\":\"object\",\"additionalProperties\":false}", {"{}"}, {"{\"a\":1}"}},
        {"{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"minItems\":1,\"maxItems\":2}",
         {"[null]", "[null, null]"},
         {"[]", "[null,null,null]", "[1]"}},
        {"{\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":{\"const\":3},\"minItems\":1}",
         {"[1]", "[1, 2]", "[1,2,3,3]"},
         {"[]", "[2]", "[1,3]"}},
        {"{\"items\":[{\"const\":1}],\"additionalItems\":false}", {"[]", "[1]"}, {"[1,1]", "[2]"}},
        {"{\"$defs\":{\"t\":{\"type\":\"object\",\"properties\":{\"k\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/t\"}}},"
         "\"required\":[\"k\"]}},\"$ref\":\"#/$defs/t\"}",
         {"{\"k\": []}", "{\"k\": [{\"k\": []}, {\"k\": []}]}"},
         {"{}", "{\"k\": [{}]}"}},
        {"{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"},{\"$ref\":\"#\"}]}", {"\"a\"", "null"}, {"1"}},
        {"{\"oneOf\":[{\"properties\":{\"t\":{\"const\":\"a\"},\"x\":{}},\"required\":[\"t\",\"x\"]},"
         "{\"properties\":{\"t\":{\"const\":\"b\"}},\"required\":[\"t\"]}]}",
         {"{\"t\": \"a\", \"x\": 1}", "{\"t\": \"b\"}"},
         {"{\"t\": \"a\"}", "{\"t\": \"c\"}"}},
        {"{\"allOf\":[{\"type\":[\"integer\",\"string\"]},{\"minimum\":3},{\"type\":\"number\",\"maximum\":4}]}",
         {"3", "4"},
         {"5", "\"x\"", "3.5"}},
        {"{\"type\":\"integer\",\"multipleOf\":7}",
         {"0", "-7", "14", "700000000000007", "98"},
         {"1", "-8", "15", "-0", "007"}},
        {"{\"multipleOf\":5,\"allOf\":[{\"multipleOf\":2}],\"exclusiveMinimum\":0}",
         {"10", "120"},
         {"0", "5", "-10", "2"}},
        {"{\"multipleOf\":250,\"minimum\":-500.5,\"exclusiveMaximum\":750}",
         {"-500", "0", "500"},
         {"-750", "750", "1", "100"}},
        {"{\"type\":\"object\",\"propertyNames\":{\"pattern\":\"^[a-c]{2}$\"},\"additionalProperties\":{\"type\":\"null\"}}",
         {"{}", "{\"ab\": null}", "{\"ab\": null, \"cc\": null}"},
         {"{\"a\": null}", "{\"ab\": 1}", "{\"abc\": null}"}},
        {"{\"propertyNames\":{\"enum\":[\"x\",\"y\",1]},\"minProperties\":1}",
         {"{\"x\": 1}", "{\"y\": []}"},
         {"{}", "{\"z\": 1}", "{1: 1}"}},
        {"{\"propertyNames\":{\"maxLength\":2}}", {"{}", "{\"x\": 1}"}, {"{\"abc\": 1}"}},
        {"{\"propertyNames\":false}", {"{}"}, {"{\"a\": 1}"}},
        {"{\"patternProperties\":{\"^n_\":{\"type\":\"integer\"}},\"additionalProperties\":false,\"maxProperties\":2}",
         {"{}", "{\"n_a\": 1}", "{\"n_\": 1, \"n_b\": 2}"},
         {"{\"a\": 1}", "{\"n_\": \"\"}", "{\"n_1\":1,\"n_2\":2,\"n_3\":3}"}},
        {"{\"allOf\":[{\"patternProperties\":{\"^a\":{}}},{\"additionalProperties\":{\"const\":2}}]}",
         {"{\"a\": 2}"},
         {"{\"a\": 1}"}},
        {"{\"uniqueItems\":true,\"items\":{\"enum\":[\"a\",\"b\",1,1.0]},\"minItems\":1}",
         {"[\"a\"]", "[\"b\", \"a\"]", "[1, \"b\", \"a\"]"},
         {"[]", "[\"a\",\"a\"]", "[1, \"b\", \"a\", 1]", "[1.0, 1]"}},
        {"{\"uniqueItems\":true,\"items\":{\"enum\":[1,2,3]},\"maxItems\":2}", {"[]", "[3,1]"}, {"[1,2,3]", "[2,2]"}},
        {"{\"items\":{\"type\":\"integer\"},\"contains\":{\"minimum\":5},\"minItems\":2}",
         {"[5, 1]", "[1, 7]", "[1, 2, 3, 9, 1]"},
         {"[5]", "[1, 2]", "[]", "[\"a\", 5]"}},
        {"{\"contains\":{\"const\":0},\"items\":{\"enum\":[0,1]},\"maxItems\":3}",
         {"[0]", "[1, 0]", "[1, 1, 0]"},
         {"[]", "[1]", "[0,1,1,1]"}},
        {"{\"type\":\"string\",\"nullable\":true}", {"null", "\"\""}, {"1"}},
        {"{\"$defs\":{\"a/b\":{\"const\":1}},\"$ref\":\"#/$defs/a~1b\"}", {"1"}, {"2"}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct machine x;
        struct fm_error err = {0};
        if (open_schema(&x, rows[i].schema, NULL, &err)) fail_msg("%s: %s", rows[i].schema, err.message);
        for (int k = 0; k < 5 && rows[i].good[k]; k++)
            if (!takes(&x, rows[i].good[k])) fail_msg("%s: not taken: %s", rows[i].schema, rows[i].good[k]);
        for (int k = 0; k < 5 && rows[i].bad[k]; k++)
            if (takes(&x, rows[i].bad[k])) fail_msg("%s: taken: %s", rows[i].schema, rows[i].bad[k]);
        close_machine(&x);
    }
}

static void test_refused(void **state)
{
    static const struct {
        const char *schema, *says;
    } rows[] = {
        {"1", "schema: /: a schema is neither an object nor a boolean"},
        {"{\"properties\":{\"a/b\":{\"not\":{}}}}", "schema: /properties/a~1b/not: this keyword is not supported"},
        {"{\"items\":{\"uniqueItems\":true,\"type\":\"array\"}}", "schema: /items/uniqueItems: "},
        {"{\"properties\":{\"a\":{}},\"propertyNames\":{}}",
         "schema: /propertyNames: it is not supported beside named"},
        {"{\"patternProperties\":{\"^a\":{},\"b$\":{}}}", "schema: /patternProperties/^a: two patterns for names"},
        {"{\"contains\":{},\"minContains\":2}", "schema: /minContains: only 1"},
        {"{\"contains\":{},\"maxContains\":2}", "schema: /maxContains: this keyword"},
        {"{\"if\":{},\"then\":{}}", "schema: /if: this keyword is not supported"},
        {"{\"multipleOf\":3,\"minimum\":5}", "schema: /multipleOf: beside these bounds"},
        {"{\"multipleOf\":101}", "schema: /multipleOf: beside these bounds"},
        {"{\"multipleOf\":0}", "schema: /multipleOf: only whole steps"},
        {"{\"type\":\"text\"}", "schema: /type: not the name of a type"},
        {"{\"$ref\":\"#/nowhere\"}", "schema: /$ref: a reference that leads nowhere"},
        {"{\"$ref\":\"http://x/y\"}", "schema: /$ref: a reference that leads nowhere"},
        {"{\"type\":\"string\",\"pattern\":\"(?=a)\"}", "schema: /pattern: look-around"},
        {"{\"type\":\"string\",\"pattern\":\"a(\"}", "schema: /pattern: a group is not closed"},
        {"{\"type\":\"string\",\"pattern\":\"a{2,1}\"}", "schema: /pattern: a repetition is not"},
        {"{\"type\":\"string\",\"pattern\":\"a\",\"maxLength\":3}", "shorter or longer"},
        {"{\"type\":\"number\",\"multipleOf\":0.1}", "schema: /multipleOf: only whole steps"},
        {"{\"minimum\":\"1\"}", "schema: /minimum: not a number"},
        {"{\"minimum\":1e999}", "schema: /minimum: a number of too many digits"},
        {"{\"minLength\":-1}", "schema: /minLength: not a count"},
        {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", "schema: /oneOf: two of the alternatives"},
        {"{\"oneOf\":[{\"properties\":{\"a\":{}}},{\"properties\":{\"b\":{}}}]}",
         "schema: /oneOf: two of the alternatives"},
        {"false", "no text can satisfy it"},
        {"{\"enum\":[]}", "no text can satisfy it"},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}",
         "no text can satisfy it"},
        {"{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", "no text can satisfy it"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct machine x = {.m = NULL};
        struct fm_error err = {0};
        if (open_schema(&x, rows[i].schema, NULL, &err) != FM_ERR_INPUT) fail_msg("%s: not refused", rows[i].schema);
        if (!strstr(err.message, rows[i].says)) fail_msg("%s: said: %s", rows[i].schema, err.message);
        close_machine(&x);
    }
}

/* Small texts that mean very large grammars end in an error, and soon. */
static void test_hostile(void **state)
{
    struct fm_buf s = {0};
    struct machine x;
    struct fm_error err;
    (void)state;
    for (int kind = 0; kind < 5; kind++) {
        fm_buf_clear(&s);
        if (kind == 0) { /* 3^40 branches */
            fm_buf_str(&s, "{\"allOf\":[");
            for (int i = 0; i < 40; i++)
                fm_buf_printf(
                    &s, "%s{\"anyOf\":[{\"required\":[\"a%d\"]},{\"required\":[\"b%d\"]},{\"minProperties\":%d}]}",
                    i ? "," : "", i, i, i);
            fm_buf_str(&s, "]}");
        } else if (kind == 1) { /* repetitions of repetitions */
            fm_buf_str(&s, "{\"type\":\"string\",\"pattern\":\"^");
            for (int i = 0; i < 150; i++) fm_buf_char(&s, '(');
            fm_buf_char(&s, 'a');
            for (int i = 0; i < 150; i++) fm_buf_str(&s, "){1000}");
            fm_buf_str(&s, "$\"}");
        } else if (kind == 2) { /* deep */
            for (int i = 0; i < 120; i++) fm_buf_str(&s, "{\"items\":");
            fm_buf_str(&s, "{}");
            for (int i = 0; i < 120; i++) fm_buf_char(&s, '}');
        } else if (kind == 3) { /* many alternatives that differ pairwise */
            fm_buf_str(&s, "{\"oneOf\":[");
            for (int i = 0; i < 3000; i++) fm_buf_printf(&s, "%s{\"const\":%d}", i ? "," : "", i);
            fm_buf_str(&s, "]}");
        } else { /* many names beside free ones */
            fm_buf_str(&s, "{\"additionalProperties\":true,\"properties\":{");
            for (int i = 0; i < 20000; i++) fm_buf_printf(&s, "%s\"name%dx%d\":true", i ? "," : "", i, i * 7919);
            fm_buf_str(&s, "}}");
        }
        if (!open_schema(&x, s.data, NULL, &err))
            close_machine(&x);
        else if (!strstr(err.message, kind == 1 ? "" : "too "))
            fail_msg("schema %d: %s", kind, err.message);
    }
    fm_buf_release(&s);
}

/* ---- random schemas ---- */

struct maker {
    struct fm_rng rng;
    struct fm_buf out;
    int depth;
};

static int below(struct maker *k, int n) { return (int)(fm_rng_uniform(&k->rng) * n); }

static void any_schema(struct maker *k);

static void number_schema(struct maker *k)
{
    static const char *const los[] = {"-100", "0", "-2.5", "17", "0.001", "-1e2", "123456789012345"},
                             *const his[] = {"100", "1e3", "18", "2.75", "123456789012346", "0.5", "99999"};
    fm_buf_printf(&k->out, "\"type\":\"%s\"", below(k, 2) ? "integer" : "number");
    if (below(k, 2))
        fm_buf_printf(&k->out, ",\"%s\":%s", below(k, 3) ? "minimum" : "exclusiveMinimum", los[below(k, 7)]);
    if (below(k, 2))
        fm_buf_printf(&k->out, ",\"%s\":%s", below(k, 3) ? "maximum" : "exclusiveMaximum", his[below(k, 7)]);
    if (below(k, 4) == 0) fm_buf_printf(&k->out, ",\"multipleOf\":%d", 1 + below(k, 40));
}

static void string_schema(struct maker *k)
{
    static const char *const patterns[] = {"^[a-z]{2,5}-[0-9]+$",
                                           "^(yes|no|maybe)$",
                                           "[A-Z]{3}",
                                           "^\\\\d{3}-\\\\w+$",
                                           "^[^\\\\s\\\"]{1,8}$",
                                           "^a|b$",
                                           "^(?:x+y?){2}[.?!]$",
                                           "^\\\\u00e4.\\\\/$",
                                           "^[\\\\S ]{0,6}$",
                                           "^$"};
    static const char *const formats[] = {"date", "date-time", "uuid", "ipv4", "email", "uri", "ipv6", "duration"};
    fm_buf_str(&k->out, "\"type\":\"string\"");
    switch (below(k, 4)) {
    case 0: fm_buf_printf(&k->out, ",\"pattern\":\"%s\"", patterns[below(k, 10)]); break;
    case 1: fm_buf_printf(&k->out, ",\"format\":\"%s\"", formats[below(k, 8)]); break;
    case 2: fm_buf_printf(&k->out, ",\"minLength\":%d,\"maxLength\":%d", below(k, 4), 4 + below(k, 9)); break;
    default: break;
    }
}

static void list_of(struct maker *k, int n)
{
    fm_buf_char(&k->out, '[');
    for (int i = 0; i < n; i++) {
        if (i) fm_buf_char(&k->out, ',');
        any_schema(k);
    }
    fm_buf_char(&k->out, ']');
}

static void array_schema(struct maker *k)
{
    static const char *const listed[] = {"[\"x\",\"\\u20ac\",null,2,2.0]", "[[1],[1.0],{}]",
                                         "[true,false,\"true\",0,1,-1,7]"};
    const int low = below(k, 3);
    fm_buf_str(&k->out, "\"type\":\"array\"");
    if (below(k, 6) == 0) {
        fm_buf_printf(&k->out, ",\"uniqueItems\":true,\"items\":{\"enum\":%s},\"minItems\":%d", listed[below(k, 3)],
                      low);
        return;
    }
    if (below(k, 6) == 0) {
        fm_buf_str(&k->out, ",\"contains\":");
        any_schema(k);
    }
    if (below(k, 3) == 0) {
        fm_buf_str(&k->out, ",\"prefixItems\":");
        list_of(k, 1 + below(k, 3));
    }
    if (below(k, 3)) {
        fm_buf_str(&k->out, ",\"items\":");
        any_schema(k);
    }
    if (below(k, 2)) fm_buf_printf(&k->out, ",\"minItems\":%d", low);
    if (below(k, 2)) fm_buf_printf(&k->out, ",\"maxItems\":%d", low + below(k, 3));
}

static void object_schema(struct maker *k)
{
    static const char *const names[] = {"a", "ab", "name", "\xC3\xA4\xE2\x82\xAC", "q\\\"x", "b\\n", "", "long name"};
    const int n = below(k, 5), from = below(k, 8);
    fm_buf_str(&k->out, "\"type\":\"object\"");
    if (below(k, 4) == 0) {
        static const char *const keys[] = {"\"propertyNames\":{\"pattern\":\"^[a-z]{1,4}$\"}",
                                           "\"propertyNames\":{\"maxLength\":3}",
                                           "\"propertyNames\":{\"enum\":[\"a\",\"ab\",\"q\\\"x\"]}"};
        if (below(k, 2)) {
            fm_buf_printf(&k->out, ",%s,\"additionalProperties\":", keys[below(k, 3)]);
            any_schema(k);
        } else {
            fm_buf_printf(&k->out, ",\"patternProperties\":{\"%s\":", below(k, 2) ? "^x-[0-9]+$" : "b");
            any_schema(k);
            fm_buf_printf(&k->out, "},\"additionalProperties\":%s", below(k, 2) ? "false" : "{}");
        }
        return;
    }
    if (n || below(k, 2)) {
        fm_buf_str(&k->out, ",\"properties\":{");
        for (int i = 0; i < n; i++) {
            fm_buf_printf(&k->out, "%s\"%s\":", i ? "," : "", names[(from + i) % 8]);
            any_schema(k);
        }
        fm_buf_str(&k->out, "}");
    }
    if (n && below(k, 2)) fm_buf_printf(&k->out, ",\"required\":[\"%s\"]", names[(from + below(k, n)) % 8]);
    if (below(k, 4) == 0)
        fm_buf_str(&k->out, ",\"additionalProperties\":false");
    else if (below(k, 3) == 0) {
        fm_buf_str(&k->out, ",\"additionalProperties\":");
        any_schema(k);
    }
    if (below(k, 5) == 0) fm_buf_printf(&k->out, ",\"minProperties\":%d", 1 + below(k, 2));
    if (below(k, 5) == 0) fm_buf_printf(&k->out, ",\"maxProperties\":%d", 1 + below(k, 3));
}

static void any_schema(struct maker *k)
{
    static const char *const plain[] = {"{\"type\":\"null\"}",
                                        "{\"type\":\"boolean\"}",
                                        "{\"enum\":[\"x\",1,null,[1,\"\\u20ac\"],{\"a\":1.50}]}",
                                        "{\"const\":\"q\\\"\\\\\"}",
                                        "{\"type\":[\"string\",\"null\"],\"maxLength\":5}",
                                        "{\"type\":\"integer\",\"enum\":[1,2,30]}",
                                        "true",
                                        "{}"};
    static const char *const of[] = {"anyOf", "oneOf", "allOf"};
    const int kind = below(k, k->depth > 2 ? 4 : 9);
    if (kind == 0) {
        fm_buf_str(&k->out, plain[below(k, 8)]);
        return;
    }
    k->depth++;
    fm_buf_char(&k->out, '{');
    if (kind == 1) number_schema(k);
    if (kind == 2) string_schema(k);
    if (kind == 3) fm_buf_printf(&k->out, "\"$ref\":\"#/$defs/%s\"", below(k, 2) ? "leaf" : "tree");
    if (kind == 4 || kind == 5) array_schema(k);
    if (kind == 6 || kind == 7) object_schema(k);
    if (kind == 8) {
        fm_buf_printf(&k->out, "\"%s\":", of[below(k, 3)]);
        list_of(k, 1 + below(k, 3));
        if (below(k, 3) == 0) fm_buf_str(&k->out, ",\"type\":[\"object\",\"integer\",\"string\"]");
    }
    fm_buf_char(&k->out, '}');
    k->depth--;
}

static void whole_schema(struct maker *k)
{
    fm_buf_clear(&k->out);
    k->depth = 0;
    fm_buf_str(&k->out,
               "{\"$defs\":{\"leaf\":{\"type\":\"string\",\"maxLength\":4},\"tree\":{\"type\":\"object\","
               "\"properties\":{\"v\":{\"type\":\"integer\"},\"l\":{\"$ref\":\"#/$defs/tree\"},\"r\":{\"anyOf\":["
               "{\"$ref\":\"#/$defs/tree\"},{\"type\":\"null\"}]}},\"required\":[\"v\"]}},\"allOf\":[");
    any_schema(k);
    fm_buf_str(&k->out, "]}");
}

static bool is_end(const void *arg, int32_t id) { return fm_tokenizer_is_eog(arg, id); }

/* A random token of the mask; late in the walk rather one that closes something.  −1: none. */
static int32_t pick(struct maker *k, const struct fm_token_trie *t, const uint64_t *mask, int step)
{
    int32_t best = -1, any = -1;
    int n = 0, m = 0;
    for (int32_t id = 0; id < t->n_ids; id++) {
        size_t len;
        if (!(mask[id / 64] >> id % 64 & 1)) continue;
        const char *s = fm_tokenizer_piece(t->tok, id, &len);
        const bool closes = is_end(t->tok, id) || (len == 1 && strchr("\"}]", *s));
        if (fm_rng_uniform(&k->rng) * ++n < 1) any = id;
        if (closes && fm_rng_uniform(&k->rng) * ++m < 1) best = id;
    }
    return best >= 0 && below(k, 40) < step ? best : any;
}

/* true: the walk came to an end, text holds it. */
static bool walk(struct maker *k, struct machine *x, const struct fm_token_trie *t, struct fm_buf *text)
{
    fm_matcher_reset(x->m);
    fm_buf_clear(text);
    fm_buf_add(text, "", 0);
    for (int step = 0; step < 400; step++) {
        bool any;
        size_t len;
        const uint64_t *mask = fm_matcher_mask(x->m, t, &any);
        if (!mask) return false; /* a fault, which is told */
        if (!any) fail_msg("%s: nothing may follow: %s", k->out.data, text->data);
        const int32_t id = pick(k, t, mask, step);
        if (is_end(t->tok, id)) return true;
        const char *s = fm_tokenizer_piece(t->tok, id, &len);
        fm_buf_add(text, s, len);
        if (!fm_matcher_token(x->m, t, id)) fail_msg("%s: a token of the mask is not taken", k->out.data);
    }
    return false;
}

static void judge(const char *schema, const char *text, size_t n)
{
    json_error_t e;
    json_t *s = json_loads(schema, JSON_DECODE_ANY, NULL),
           *v = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    /* jansson has no integers of 20 digits and drops members that come twice: both are legal */
    if (!v && strstr(e.text, "too big"))
        v = NULL;
    else if (!v)
        fail_msg("%s: no JSON: %s: %.*s", schema, e.text, (int)n, text);
    if (v && !schema_holds(s, s, v)) fail_msg("%s: not valid: %.*s", schema, (int)n, text);
    json_decref(s);
    json_decref(v);
}

static void test_random(void **state)
{
    enum { SCHEMAS = 1500, WALKS = 4 };
    const struct fm_tokenizer *tok = *state;
    struct fm_token_trie *t;
    struct maker k = {.depth = 0};
    struct fm_buf text = {0};
    int made = 0, ended = 0, tried = 0, refused = 0;
    fm_rng_init(&k.rng, 20);
    assert_int_equal(fm_token_trie_new(tok, fm_tokenizer_size(tok), is_end, tok, &t, NULL), FM_OK);
    while (made < SCHEMAS) {
        struct machine x = {.m = NULL};
        struct fm_error err;
        whole_schema(&k);
        if (open_schema(&x, k.out.data, t, &err)) {
            static const char *const known[] = {
                "two of the alternatives", "no text can satisfy",  "shorter or longer",
                "beside enum or const",    "two patterns",         "free names",
                "beside these bounds",     "not supported beside", "not supported within",
                "at most one item"};
            bool clear = false;
            for (size_t i = 0; i < sizeof known / sizeof *known; i++) clear |= strstr(err.message, known[i]) != NULL;
            if (!clear) fail_msg("%s: %s", k.out.data, err.message);
            refused++;
            continue;
        }
        made++;
        for (int i = 0; i < WALKS; i++) {
            tried++;
            if (!walk(&k, &x, t, &text)) continue;
            ended++;
            judge(k.out.data, text.data, text.len);
        }
        close_machine(&x);
    }
    printf("%d schemas, %d more refused; %d of %d walks came to an end, all of them valid\n", made, refused, ended,
           tried);
    assert_in_range(ended, tried * 9 / 10, tried);
    fm_buf_release(&text);
    fm_buf_release(&k.out);
    fm_token_trie_free(t);
}

/* ---- the published suite ---- */

/* No instance that the suite calls invalid is a text of its schema's grammar.  Which schemas have one, and how many valid
 * instances are texts, is printed; refusals carry a pointer. */
static void judge_file(const char *path, int count[4])
{
    json_t *all = json_load_file(path, JSON_ALLOW_NUL, NULL), *group, *test;
    size_t i, k;
    if (!all) fail_msg("%s: jansson cannot read it", path);
    json_array_foreach(all, i, group)
    {
        struct machine x = {.m = NULL};
        struct fm_error err = {0};
        char *schema = json_dumps(json_object_get(group, "schema"), JSON_ENCODE_ANY);
        const bool made = open_schema(&x, schema, NULL, &err) == FM_OK;
        count[made]++;
        if (!made && strncmp(err.message, "schema: ", 8) != 0) fail_msg("%s: %s: %s", path, schema, err.message);
        json_array_foreach(json_object_get(group, "tests"), k, test)
        {
            if (!made) break;
            char *text = json_dumps(json_object_get(test, "data"), JSON_ENCODE_ANY | JSON_ENSURE_ASCII * 0);
            const bool taken = takes(&x, text), valid = json_is_true(json_object_get(test, "valid"));
            if (taken && !valid) fail_msg("%s: %s: taken: %s", path, schema, text);
            if (valid) count[2 + taken]++;
            free(text); /* jansson's */
        }
        free(schema); /* jansson's */
        close_machine(&x);
    }
    json_decref(all);
}

static void test_suite(void **state)
{
    static const char dir[] = "../shared/data/5-conformance/json-schema/tests/draft2020-12";
    static const char *const names[] = {"additionalProperties",
                                        "allOf",
                                        "anyOf",
                                        "boolean_schema",
                                        "const",
                                        "default",
                                        "defs",
                                        "enum",
                                        "exclusiveMaximum",
                                        "exclusiveMinimum",
                                        "infinite-loop-detection",
                                        "items",
                                        "maxItems",
                                        "maxLength",
                                        "maxProperties",
                                        "maximum",
                                        "minItems",
                                        "minLength",
                                        "minProperties",
                                        "minimum",
                                        "multipleOf",
                                        "not",
                                        "oneOf",
                                        "pattern",
                                        "prefixItems",
                                        "properties",
                                        "ref",
                                        "required",
                                        "type",
                                        "uniqueItems",
                                        "if-then-else",
                                        "contains",
                                        "patternProperties",
                                        "propertyNames",
                                        "format",
                                        "dependentRequired",
                                        "unevaluatedProperties"};
    int count[4] = {0};
    char path[256];
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        (void)snprintf(path, sizeof path, "%s/%s.json", dir, names[i]);
        FILE *f = fopen(path, "r");
        if (!f) {
            printf("SKIP the suite: %s is not there\n", path);
            skip();
        }
        fclose(f);
        judge_file(path, count);
    }
    printf("%d schemas of the suite, %d more refused; %d of %d valid instances are texts of the grammars\n", count[1],
           count[0], count[3], count[2] + count[3]);
    assert_true(count[1] >= 150);
}

int main(void)
{
    struct fm_tokenizer *tok;
    if (fm_tokenizer_open("models/default.gguf", NULL, &tok, NULL)) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_takes), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_hostile), cmocka_unit_test_prestate(test_random, tok),
                                       cmocka_unit_test(test_suite)};
    const int bad = cmocka_run_group_tests(tests, NULL, NULL);
    fm_tokenizer_close(tok);
    return bad;
}
