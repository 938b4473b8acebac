/* Grammars: GBNF, what it refuses, and masks of tokens against trying every token byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "base/rng.h"
#include "grammar_machine.h"

static enum fm_status open_gbnf(struct machine *x, const char *text, const struct fm_token_trie *t,
                                struct fm_error *err)
{
    struct fm_gbuild b = {0};
    int root = -1;
    const enum fm_status st = fm_gbnf_parse(&b, text, strlen(text), "grammar", &root, err);
    return open_machine(x, &b, root, st, t, "grammar", err);
}

/* ---- GBNF ---- */

static void test_gbnf(void **state)
{
    static const struct {
        const char *grammar, *good[4], *bad[4];
    } rows[] = {
        {"root ::= \"yes\" | \"no\" | number # a comment\nnumber ::= \"-\"? [0-9]+\n  (\".\" [0-9]{1,3})?",
         {"yes", "-12", "12.123"},
         {"", "ye", "12.", "12.1234"}},
        {"root ::= [^\"\xC3\xA4\\n]{2,3} \"x\"*",
         {"ab", "\xC3\x9F\xE2\x82\xAC", "\xF0\x9D\x84\x9E\xF0\x9D\x84\x9Exx"},
         {"\xC3\xA4z", "a", "a\nb", "\xED\xA0\x80z"}}, /* a surrogate is no character */
        {"root ::= \"(\" root \")\" | \"\"", {"", "(())"}, {"(", "())"}},
        {"root ::= a b{2} a+\na ::= \"a\"\nb ::= \"b\"", {"abba", "abbaaa"}, {"aba", "abb", "aa", "abbba"}},
        {"root ::= ((\"a\"?)* \"b\"){2}", {"bb", "aabab"}, {"b", "aab", "abb b"}},
        {"root ::= (\"a\" | \"ab\"){2,4} \"c\"", {"aac", "ababc", "abaababc"}, {"ac", "aaaaac"}},
        {"start ::= \"\\x41\\u00e9\\U0001F600\" .", {"A\xC3\xA9\xF0\x9F\x98\x80!"}, {"A\xC3\xA9\xF0\x9F\x98\x80"}},
        {"root ::= \"a\"{,2} | \"b\"{3} | \"c\"{2,}", {"", "aa", "bbb", "cccc"}, {"aaa", "bb", "c"}},
        {"root ::= [a-c-] [\\]\\\\]", {"-]", "b\\"}, {"d]", "-["}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct machine x;
        struct fm_error err = {0};
        if (open_gbnf(&x, rows[i].grammar, NULL, &err)) fail_msg("%s: %s", rows[i].grammar, err.message);
        for (int k = 0; k < 4 && rows[i].good[k]; k++)
            if (!takes(&x, rows[i].good[k])) fail_msg("%s: not taken: %s", rows[i].grammar, rows[i].good[k]);
        for (int k = 0; k < 4 && rows[i].bad[k]; k++)
            if (takes(&x, rows[i].bad[k])) fail_msg("%s: taken: %s", rows[i].grammar, rows[i].bad[k]);
        close_machine(&x);
    }
}

static void test_refused(void **state)
{
    static const struct {
        const char *grammar, *says;
    } rows[] = {
        {"root ::= a\na ::= a \"x\" | \"y\"", "grammar: line 2, rule a: it begins with itself: left recursion"},
        {"root ::= a\na ::= b?  \"x\"\nb ::= \"\" a", "left recursion"},
        {"root ::= \"a\" b", "grammar: line 1, rule b: it is not defined"},
        {"root ::= \"a\"\nb ::= \"x\" b", "grammar: line 2, rule b: useless: no text of it ever ends"},
        {"root ::= \"a", "grammar: line 1: a literal is not closed"},
        {"root ::= \"a\"\n\nroot ::= \"b\"", "grammar: line 3: the rule is defined a second time"},
        {"root ::= [z-a]", "runs backwards"},
        {"root ::= \"a\"{3,2}", "run backwards"},
        {"root ::= \"a\"{99999999}", "too large"},
        {"root ::= (\"a\"", "a group is not closed"},
        {"root ::= \"a\")", "closed that was not opened"},
        {"root ::= \"\\q\"", "an escape is not known"},
        {"root ::= \"\\ud800\"", "an escape is no character"},
        {"", "there is no rule"},
        {"nonsense", "not `name ::= "},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct machine x;
        struct fm_error err = {0};
        assert_int_equal(open_gbnf(&x, rows[i].grammar, NULL, &err), FM_ERR_INPUT);
        if (!strstr(err.message, rows[i].says)) fail_msg("%s: said: %s", rows[i].grammar, err.message);
    }
}

/* ---- masks ---- */

static bool is_end(const void *arg, int32_t id) { return fm_tokenizer_is_eog(arg, id); }

/* What the mask should say of one token: byte by byte, without trie, loops or caches of steps. */
static bool may_come(struct machine *x, const struct fm_token_trie *t, const char *text, int32_t id)
{
    size_t n;
    const char *s = fm_tokenizer_piece(t->tok, id, &n);
    if (is_end(t->tok, id)) return takes(x, text);
    if (!s || !n || fm_token_is_control(t->tok, id)) return false;
    fm_matcher_reset(x->m);
    return fm_matcher_text(x->m, text, strlen(text)) && fm_matcher_text(x->m, s, n);
}

/* Random walks: at each place the mask and the trial of every token agree. */
static void test_masks(void **state)
{
    static const char object[] =
        "root ::= \"{\" (pair (\", \" pair){0,3})? \"}\"\npair ::= str \": \" (str | num | root)\n"
        "str ::= \"\\\"\" [^\"\\\\\\x00-\\x1f]* \"\\\"\"\nnum ::= \"-\"? [0-9]{1,4}";
    static const char *const grammars[] = {object,
                                           "root ::= [a-z ]{0,40} (\"!\" | .{3,6} \"?\")",
                                           "root ::= (\"the \" | \"a \" | [b-m]+ \" \"){3,} \".\"",
                                           "root ::= [^x]{2,12} | \"x\" [\xC3\xA0-\xC3\xBF ]+",
                                           "root ::= .{30,90} \"!\"",
                                           "root ::= ([a-z]{0,3} \" \"){5,60} \".\"",
                                           "root ::= (\"ab\" | word \"-\" | [c-z ,]{1,50} \"\\n\"){2,70}\n"
                                           "word ::= [a-zA-Z ']{3,80}"};
    const struct fm_tokenizer *tok = *state;
    struct fm_token_trie *t;
    struct fm_rng rng;
    fm_rng_init(&rng, 7);
    assert_int_equal(fm_token_trie_new(tok, fm_tokenizer_size(tok), is_end, tok, &t, NULL), FM_OK);
    for (size_t i = 0; i < sizeof grammars / sizeof *grammars; i++) {
        struct machine x, twin;
        assert_int_equal(open_gbnf(&x, grammars[i], t, NULL), FM_OK);
        assert_int_equal(open_gbnf(&twin, grammars[i], t, NULL), FM_OK);
        struct fm_buf text = {0};
        for (int step = 0; step < 60; step++) {
            bool any;
            fm_buf_add(&text, "", 0);
            const uint64_t *mask = fm_matcher_mask(x.m, t, &any);
            assert_non_null(mask);
            int32_t pick = -1;
            int n = 0;
            for (int32_t id = 0; id < t->n_ids; id++) {
                const bool set = mask[id / 64] >> id % 64 & 1;
                if (set != may_come(&twin, t, text.data, id))
                    fail_msg("%s: behind '%s', token %d: %d", grammars[i], text.data, (int)id, set);
                if (set && !is_end(tok, id) && fm_rng_uniform(&rng) * ++n < 1) pick = id;
            }
            assert_int_equal(any, n > 0 || fm_matcher_accepts(x.m));
            if (pick < 0) break;
            size_t len;
            const char *s = fm_tokenizer_piece(tok, pick, &len);
            fm_buf_add(&text, s, len);
            assert_true(fm_matcher_token(x.m, t, pick));
        }
        fm_buf_release(&text);
        close_machine(&x);
        close_machine(&twin);
    }
    fm_token_trie_free(t);
}

/* Deep nesting ends somewhere; a long text is followed in bounded memory. */
static void test_limits(void **state)
{
    struct machine x;
    (void)state;
    assert_int_equal(open_gbnf(&x, "root ::= \"(\" root \")\" | \"\"", NULL, NULL), FM_OK);
    int depth = 0;
    while (depth < 1 << 20 && fm_matcher_byte(x.m, '(')) depth++;
    assert_in_range(depth, 500, 5000);
    assert_int_equal(fm_matcher_fault(x.m, NULL), FM_OK);
    for (int i = 0; i < depth; i++) assert_true(fm_matcher_byte(x.m, ')'));
    assert_true(fm_matcher_accepts(x.m));
    close_machine(&x);
    assert_int_equal(open_gbnf(&x, "root ::= [a-z]{100000} \"!\"", NULL, NULL), FM_OK);
    for (int i = 0; i < 100000; i++) assert_true(fm_matcher_byte(x.m, (unsigned char)('a' + i % 26)));
    assert_false(fm_matcher_byte(x.m, 'a'));
    assert_true(fm_matcher_byte(x.m, '!'));
    close_machine(&x);
}

int main(void)
{
    struct fm_tokenizer *tok;
    if (fm_tokenizer_open("models/default.gguf", NULL, &tok, NULL)) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gbnf), cmocka_unit_test(test_refused),
                                       cmocka_unit_test_prestate(test_masks, tok), cmocka_unit_test(test_limits)};
    const int bad = cmocka_run_group_tests(tests, NULL, NULL);
    fm_tokenizer_close(tok);
    return bad;
}
