/* See input.h. */
#include "cli/input.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/status.h"

enum { INPUT_MAX = 1 << 30 }; /* bytes: a billion is no prompt */

enum fm_status fm_stdin_read(struct fm_buf *out, struct fm_error *err)
{
    char chunk[65536];
    for (;;) {
        ssize_t n = read(0, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EBADF) return FM_OK;
        if (n < 0) return fm_fail(err, FM_ERR_INPUT, "read input: standard input: %s", strerror(errno));
        if (n == 0) return FM_OK;
        fm_buf_add(out, chunk, (size_t)n);
        if (out->failed) return fm_fail_memory(err, "standard input", out->len + (size_t)n);
        if (out->len > INPUT_MAX)
            return fm_fail(err, FM_ERR_INPUT, "read input: standard input: more than %d bytes", INPUT_MAX);
    }
}

static bool is_separator(char c) { return c == ',' || isspace((unsigned char)c); }

/* One id at *p, which moves behind it. */
static bool parse_id(const char **p, const char *end, int32_t *id)
{
    int64_t x = 0;
    const char *s = *p;
    for (; s < end && isdigit((unsigned char)*s) && x <= INT32_MAX; s++) x = x * 10 + (*s - '0');
    if (s == *p || x > INT32_MAX || (s < end && !is_separator(*s))) return false;
    *id = (int32_t)x;
    *p = s;
    return true;
}

enum fm_status fm_ids_parse(const char *text, size_t n, const char *where, enum fm_status code, int32_t **ids,
                            size_t *n_ids, struct fm_error *err)
{
    *ids = NULL;
    *n_ids = 0;
    if (!n) return FM_OK;
    int32_t *v = fm_malloc((n + 1) / 2 * sizeof *v); /* an id and its separator take two bytes at least */
    if (!v) return fm_fail_memory(err, "token ids", (n + 1) / 2 * sizeof *v);
    size_t k = 0;
    const char *p = text, *end = text + n;
    for (;;) {
        while (p < end && is_separator(*p)) p++;
        if (p == end) break;
        if (!parse_id(&p, end, &v[k])) {
            int len = 0;
            while (p + len < end && !is_separator(p[len]) && len < 24) len++;
            fm_free(v);
            return fm_fail(err, code, "read token ids: %s, entry %zu: '%.*s' is not a number from 0 to 2147483647",
                           where, k + 1, len, p);
        }
        k++;
    }
    *ids = v;
    *n_ids = k;
    return FM_OK;
}

void fm_json_text(struct fm_buf *out, const char *text, size_t n)
{
    fm_buf_char(out, '"');
    for (size_t i = 0; i < n;) {
        int used;
        int32_t c = fm_utf8_decode(text + i, n - i, &used);
        if (c < 0)
            fm_buf_utf8(out, 0xFFFD);
        else if (c == '"' || c == '\\')
            fm_buf_printf(out, "\\%c", (char)c);
        else if (c == '\n')
            fm_buf_str(out, "\\n");
        else if (c < 32)
            fm_buf_printf(out, "\\u%04x", (unsigned)c);
        else
            fm_buf_add(out, text + i, (size_t)used);
        i += (size_t)used;
    }
    fm_buf_char(out, '"');
}

void fm_json_shape(struct fm_buf *out, int n, const uint64_t *shape)
{
    fm_buf_char(out, '[');
    for (int d = 0; d < n; d++) fm_buf_printf(out, "%s%" PRIu64, d ? "," : "", shape[d]);
    fm_buf_char(out, ']');
}
