/* Answers cut anywhere: thinking, content and tool blocks of every format, in random pieces.  What is handed out is at each
 * moment a beginning of what was meant, so no mark and no part of one ever stands in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "base/pyjson.h"
#include "base/rng.h"
#include "base/str.h"
#include "fathom.h"

#define BAR   "\xEF\xBD\x9C"
#define DSML  BAR "DSML" BAR
#define SPACE "\xE2\x96\x81"

static struct fm_rng rng;

static int below(int n) { return (int)(fm_rng_uniform(&rng) * n); }

/* Words that look like marks but are none. */
static void put_words(struct fm_buf *b, int n)
{
    static const char *const words[] = {
        "well ",   "<",         "</thin k> ", BAR,       "<" BAR "DSM", "think>",  "\n\n<",
        "{\"a\":", "<tool_cal", "\n",         "```json", "invoke ",     "<|im_en", "\xE4\xBD\xA0\xE5\xA5\xBD"};
    fm_buf_str(b, "so");
    for (int i = 0; i < n; i++) fm_buf_str(b, words[below(14)]);
    fm_buf_char(b, '.');
}

struct form {
    const char *format;
    bool thinks;
    const char *end, *begin, *before, *name, *args, *close; /* a block of calls; begin NULL: none */
};
static const struct form forms[] = {
    {"deepseek-v3", false, "<" BAR "end" SPACE "of" SPACE "sentence" BAR ">",
     "<" BAR "tool" SPACE "calls" SPACE "begin" BAR ">",
     "<" BAR "tool" SPACE "call" SPACE "begin" BAR ">function<" BAR "tool" SPACE "sep" BAR ">", "\n```json\n",
     "\n```<" BAR "tool" SPACE "call" SPACE "end" BAR ">", "<" BAR "tool" SPACE "calls" SPACE "end" BAR ">"},
    {"deepseek-r1", true, "<" BAR "end" SPACE "of" SPACE "sentence" BAR ">",
     "<" BAR "tool" SPACE "calls" SPACE "begin" BAR ">",
     "<" BAR "tool" SPACE "call" SPACE "begin" BAR ">function<" BAR "tool" SPACE "sep" BAR ">", "\n```json\n",
     "\n```<" BAR "tool" SPACE "call" SPACE "end" BAR ">", "<" BAR "tool" SPACE "calls" SPACE "end" BAR ">"},
    {"deepseek-v3.1", true, "<" BAR "end" SPACE "of" SPACE "sentence" BAR ">",
     "<" BAR "tool" SPACE "calls" SPACE "begin" BAR ">", "<" BAR "tool" SPACE "call" SPACE "begin" BAR ">",
     "<" BAR "tool" SPACE "sep" BAR ">", "<" BAR "tool" SPACE "call" SPACE "end" BAR ">",
     "<" BAR "tool" SPACE "calls" SPACE "end" BAR ">"},
    {"deepseek-v3.2", true, "<" BAR "end" SPACE "of" SPACE "sentence" BAR ">", "\n\n<" DSML "function_calls>\n",
     "<" DSML "invoke name=\"", "\">\n<" DSML "parameter name=\"x\" string=\"false\">",
     "</" DSML "parameter>\n</" DSML "invoke>\n", "</" DSML "function_calls>"},
    {"deepseek-v4", true, "<" BAR "end" SPACE "of" SPACE "sentence" BAR ">", "\n\n<" DSML "tool_calls>\n",
     "<" DSML "invoke name=\"", "\">\n<" DSML "parameter name=\"x\" string=\"false\">",
     "</" DSML "parameter>\n</" DSML "invoke>\n", "</" DSML "tool_calls>"},
    {"qwen2.5", false, "<|im_end|>", "\n", "<tool_call>\n{\"name\": \"",
     "\", \"arguments\": {\"x\": ", "}}\n</tool_call>\n", ""},
    {"qwen3", true, "<|im_end|>", "\n", "<tool_call>\n{\"name\": \"",
     "\", \"arguments\": {\"x\": ", "}}\n</tool_call>\n", ""},
    {"smollm2", false, "<|im_end|>", NULL, NULL, NULL, NULL, NULL},
};

struct heard {
    struct fm_buf said[2], args[4];
    size_t calls;
    const struct fm_buf *meant[2];
};

static void hear(void *arg, bool reasoning, const char *text, size_t n)
{
    struct heard *h = arg;
    const struct fm_buf *all = h->meant[reasoning];
    fm_buf_add(&h->said[reasoning], text, n);
    const struct fm_buf *so_far = &h->said[reasoning];
    if (so_far->len > all->len || memcmp(so_far->data, all->data, so_far->len) != 0)
        fail_msg("%s: said '%s', meant '%s'", reasoning ? "reasoning" : "content", so_far->data, all->data);
}

/* A name, once, and then its arguments. */
static void hear_call(void *arg, size_t i, const char *name, size_t n_name, const char *args, size_t n)
{
    struct heard *h = arg;
    if (name) {
        assert_int_equal(i, h->calls);
        h->calls++;
        assert_int_equal(n_name, 2);
        assert_int_equal(name[1], '0' + (int)i);
        fm_buf_add(&h->args[i], "", 0);
        return;
    }
    assert_int_equal(i + 1, h->calls);
    fm_buf_add(&h->args[i], args, n);
}

/* One answer, and what it means. */
static void make(const struct form *f, struct fm_buf *text, struct fm_buf *why, struct fm_buf *content, int *calls)
{
    fm_buf_clear(text);
    fm_buf_clear(why);
    fm_buf_clear(content);
    put_words(content, below(8));
    if (f->thinks) {
        put_words(why, below(10));
        fm_buf_printf(text, "%s</think>%s", why->data, strcmp(f->format, "qwen3") ? "" : "\n\n");
    } else {
        fm_buf_add(why, "", 0);
    }
    fm_buf_str(text, content->data);
    *calls = f->begin ? below(4) : 0;
    if (*calls) fm_buf_str(text, f->begin);
    for (int i = 0; i < *calls; i++)
        fm_buf_printf(text, "%sf%d%s%s%s", f->before, i, f->name,
                      strstr(f->name, "x\"") ? below(2) ? "[1, \"</tool_cal\"]" : "\"<\"" : "{\"x\": \"</think\"}",
                      f->args);
    if (*calls) fm_buf_str(text, f->close);
    fm_buf_str(text, f->end);
}

static void test_splits(void **state)
{
    enum { SPLITS = 10000 };
    struct fm_buf text = {0}, why = {0}, content = {0};
    (void)state;
    fm_rng_init(&rng, 5);
    for (int i = 0; i < SPLITS; i++) {
        const struct form *f = &forms[i % (int)(sizeof forms / sizeof *forms)];
        struct fm_chat_parser *p;
        struct fm_error err;
        int calls, found = 0;
        make(f, &text, &why, &content, &calls);
        struct heard h = {.meant = {&content, &why}};
        assert_int_equal(fm_chat_parser_new(f->format, f->thinks, hear, &h, &p, &err), FM_OK);
        if (i / 7 % 4) fm_chat_parser_tell_calls(p, hear_call);
        const int longest = 1 + below(12);
        for (size_t at = 0; at < text.len;) {
            size_t n = (size_t)(1 + below(longest));
            if (n > text.len - at) n = text.len - at;
            fm_chat_parser_push(p, text.data + at, n);
            at += n;
        }
        char *message;
        size_t n;
        const char *warning;
        assert_int_equal(fm_chat_parser_end(p, &message, &n, &warning, &err), FM_OK);
        if (warning || h.said[0].len != content.len || h.said[1].len != why.len)
            fail_msg("%s: %s: %s: of %s", f->format, warning ? warning : "cut short", message, text.data);
        for (const char *s = message; (s = strstr(s, "\"type\": \"function\"")); s++) found++;
        if (found != calls) fail_msg("%s: %d calls, not %d: %s", f->format, found, calls, text.data);
        for (size_t k = 0; k < h.calls; k++) { /* what was told is what the message says */
            char *as_text = NULL;
            struct fm_buf quoted = {0};
            fm_py_write_text(&quoted, h.args[k].data, h.args[k].len);
            as_text = strstr(message, quoted.data);
            if (!as_text) fail_msg("%s: told %s, said %s", f->format, quoted.data, message);
            fm_buf_release(&quoted);
            fm_buf_release(&h.args[k]);
        }
        if (i / 7 % 4 && h.calls != (size_t)calls) fail_msg("%s: %zu calls told of %d", f->format, h.calls, calls);
        fm_text_free(message);
        fm_chat_parser_free(p);
        fm_buf_release(&h.said[0]);
        fm_buf_release(&h.said[1]);
    }
    fm_buf_release(&text);
    fm_buf_release(&why);
    fm_buf_release(&content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_splits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
