/* libFuzzer target: the streaming parser of answers.  The same text, whole and cut into pieces, must give the same message,
 * the same warning, and pieces that add up to what the message says.
 *
 *   byte 0: the format and whether the prompt opened a think block    byte 1: n cuts    n bytes: their distances    text */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "fathom.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct said {
    struct fm_buf parts[2]; /* content, reasoning, as they were handed out */
    char *message;
    size_t n;
    const char *warning;
};

static void take(void *arg, bool reasoning, const char *text, size_t n)
{
    fm_buf_add(&((struct said *)arg)->parts[reasoning], text, n);
}

static void parse(const char *format, bool thinking, const char *text, size_t n, const uint8_t *cuts, size_t n_cuts,
                  struct said *out)
{
    struct fm_chat_parser *p;
    struct fm_error err;
    *out = (struct said){.message = NULL};
    if (fm_chat_parser_new(format, thinking, take, out, &p, &err)) abort();
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
    fm_text_free(s->message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct said whole, pieces;
    int formats = 0;
    while (fm_chat_format_at(formats)) formats++;
    if (n < 2) return 0;
    const char *format = fm_chat_format_at(data[0] / 2 % formats);
    size_t n_cuts = data[1] < n - 2 ? data[1] : n - 2;
    const uint8_t *cuts = data + 2;
    const char *text = (const char *)cuts + n_cuts;
    parse(format, data[0] & 1, text, n - 2 - n_cuts, NULL, 0, &whole);
    parse(format, data[0] & 1, text, n - 2 - n_cuts, cuts, n_cuts, &pieces);
    if (whole.n != pieces.n || memcmp(whole.message, pieces.message, whole.n) != 0 || whole.warning != pieces.warning ||
        !same_buf(&whole.parts[0], &pieces.parts[0]) || !same_buf(&whole.parts[1], &pieces.parts[1])) {
        fprintf(stderr, "%s: whole  %s\n%s: pieces %s\n", format, whole.message, format, pieces.message);
        abort();
    }
    release(&whole);
    release(&pieces);
    return 0;
}
