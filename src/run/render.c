/* See render.h. */
#include "run/render.h"

#include <string.h>

#include "base/str.h"

enum fm_status fm_render_check(const char *format, struct fm_error *err)
{
    return fm_fail(err, FM_ERR_USAGE, "chat format '%s': not known", format);
}

const char *fm_render_name(const char *format) { return format; }

/* The texts one after the other. */
static void plain(const struct fm_render_message *m, int n, struct fm_buf *out)
{
    for (int i = 0; i < n; i++) fm_buf_str(out, m[i].text);
}

enum fm_status fm_render_ids(const char *format, const struct fm_tokenizer *t, const struct fm_render_message *m, int n,
                             struct fm_ids *out, struct fm_error *err)
{
    struct fm_buf text = {0};
    (void)format;
    plain(m, n, &text);
    unsigned flags = FM_ENCODE_SPECIAL | (fm_tokenizer_add_bos(t) ? FM_ENCODE_BOS : 0);
    enum fm_status st = text.failed ? fm_fail_memory(err, "the prompt", text.len)
                                    : fm_tokenizer_encode(t, text.data ? text.data : "", text.len, flags, out, err);
    fm_buf_release(&text);
    return st;
}
