/* libFuzzer target: the streaming parser of answers.  The same text, whole and cut into pieces, must give the same message,
 * the same warning, and pieces that add up to what the message says; with tool calls at the end, and with calls as they come,
 * whose names and arguments must be the same, too.
 *
 *   byte 0: the format and whether the prompt opened a think block    byte 1: n cuts    n bytes: their distances    text */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "fathom.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct said {
    struct fm_buf parts[3]; /* content, reasoning, as they were handed out; calls as they were told */
    size_t n_calls;
    char *message;
    size_t n;
    const char *warning;
};

static void take(void *arg, bool reasoning, const char *text, size_t n)
{
    fm_buf_add(&((struct said *)arg)->parts[reasoning], text, n);
}

/* The name, a line, then arguments. */
static void take_call(void *arg, size_t i, const char *name, size_t n_name, const char *args, size_t n)
{
    struct said *s = arg;
    struct fm_buf *b = &s->parts[2];
    if (name ? i != s->n_calls : i + 1 != s->n_calls) abort(); /* one behind the other, the name first */
    if (name) {
        s->n_calls++;
        fm_buf_printf(b, "\n%zu ", i);
    }
    fm_buf_add(b, name ? name : args, name ? n_name : n);
    if (name) fm_buf_char(b, '\n');
}

static void parse(const char *format, bool thinking, bool tell, const char *text, size_t n, const uint8_t *cuts,
                  size_t n_cuts, struct said *out)
{
    struct fm_chat_parser *p;
    struct fm_error err;
    *out = (struct said){.message = NULL};
    if (fm_chat_parser_new(format, thinking, take, out, &p, &err)) abort();
    if (tell) fm_chat_parser_tell_calls(p, take_call);
    for (size_t i = 0; n && i < n_cuts; i++) {
        size_t k = cuts[i] < n ? cuts[i] : n;
        fm_chat_parser_push(p, text, k);
        text += k;
        n -= k;
    }
    fm_chat_parser_push(p, text, n);
    if (fm_chat_parser_end(p, &out->message, &out->n, &out->warning, &err)) abort();
    fm_chat_parser_free(p);
}

static bool same_buf(const struct fm_buf *a, const struct fm_buf *b)
{
    return a->len == b->len && (!a->len || !memcmp(a->data, b->data, a->len));
}

static void release(struct said *s)
{
    fm_buf_release(&s->parts[0]);
    fm_buf_release(&s->parts[1]);
    fm_buf_release(&s->parts[2]);
    fm_text_free(s->message);
}

static void compare(const char *format, bool thinking, bool tell, const char *text, size_t n, const uint8_t *cuts,
                    size_t n_cuts)
{
    struct said whole, pieces;
    parse(format, thinking, tell, text, n, NULL, 0, &whole);
    parse(format, thinking, tell, text, n, cuts, n_cuts, &pieces);
    bool same = whole.n == pieces.n && !memcmp(whole.message, pieces.message, whole.n);
    for (int i = 0; i < 3; i++) same &= same_buf(&whole.parts[i], &pieces.parts[i]);
    if (!same || whole.warning != pieces.warning) {
        fprintf(stderr, "%s: whole  %s\n%s: pieces %s\ntold %.*s\ntold %.*s\n", format, whole.message, format,
                pieces.message, (int)whole.parts[2].len, whole.parts[2].data, (int)pieces.parts[2].len,
                pieces.parts[2].data);
        abort();
    }
    release(&whole);
    release(&pieces);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    int formats = 0;
    while (fm_chat_format_at(formats)) formats++;
    if (n < 2) return 0;
    const char *format = fm_chat_format_at(data[0] / 2 % formats);
    size_t n_cuts = data[1] < n - 2 ? data[1] : n - 2;
    const uint8_t *cuts = data + 2;
    const char *text = (const char *)cuts + n_cuts;
    for (int tell = 0; tell < 2; tell++) compare(format, data[0] & 1, tell, text, n - 2 - n_cuts, cuts, n_cuts);
    return 0;
}
