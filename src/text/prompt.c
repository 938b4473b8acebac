/* See prompt.h. */
#include "text/prompt.h"

#include <string.h>

#include "base/mem.h"
#include "text/tokenizer_impl.h"

void fm_prompt_release(struct fm_prompt *p)
{
    fm_buf_release(&p->text);
    fm_free(p->marks);
    *p = (struct fm_prompt){0};
}

void fm_prompt_text(struct fm_prompt *p, const char *s, size_t n)
{
    if (n) fm_buf_add(&p->text, s, n);
    p->failed |= p->text.failed;
}

void fm_prompt_control(struct fm_prompt *p, const char *s, size_t n)
{
    if (p->n_marks == p->cap_marks) {
        size_t cap = p->cap_marks ? p->cap_marks * 2 : 32;
        void *m = fm_realloc(p->marks, cap * sizeof *p->marks);
        if (!m) {
            p->failed = true;
            return;
        }
        p->marks = m;
        p->cap_marks = cap;
    }
    p->marks[p->n_marks++] = (struct fm_prompt_mark){p->text.len, p->text.len + n};
    fm_prompt_text(p, s, n);
}

void fm_prompt_template(struct fm_prompt *p, const char *s)
{
    while (s && *s) {
        size_t n = strcspn(s, "\x01");
        fm_prompt_text(p, s, n);
        s += n;
        if (!*s) return;
        n = strcspn(++s, "\x02");
        fm_prompt_control(p, s, n);
        s += n + 1;
    }
}

void fm_prompt_trusted(struct fm_prompt *p, const char *s, size_t n)
{
    static const char *const known[] = {"<think>",
                                        "</think>",
                                        "｜DSML｜",
                                        "<tool_call>",
                                        "</tool_call>",
                                        "<｜tool▁calls▁begin｜>",
                                        "<｜tool▁calls▁end｜>",
                                        "<｜tool▁call▁begin｜>",
                                        "<｜tool▁call▁end｜>",
                                        "<｜tool▁sep｜>"};
    size_t from = 0, i = 0;
    while (i < n) {
        size_t k = 0, len = 0;
        for (; k < sizeof known / sizeof *known; k++) {
            len = strlen(known[k]);
            if (n - i >= len && !memcmp(s + i, known[k], len)) break;
        }
        if (k == sizeof known / sizeof *known) {
            i++;
            continue;
        }
        fm_prompt_text(p, s + from, i - from);
        fm_prompt_control(p, s + i, len);
        from = i += len;
    }
    fm_prompt_text(p, s + from, n - from);
}

/* Text from begin up to end, which lies between two control tokens. */
static enum fm_status encode_text(const struct fm_prompt *p, const struct fm_tokenizer *t, size_t begin, size_t end,
                                  struct fm_ids *out, struct fm_error *err)
{
    if (begin == end) return FM_OK;
    return fm_tokenizer_encode(t, p->text.data + begin, end - begin, begin ? FM_ENCODE_INNER : 0, out, err);
}

enum fm_status fm_prompt_encode(const struct fm_prompt *p, const struct fm_tokenizer *t, struct fm_ids *out,
                                struct fm_error *err)
{
    if (p->failed) return fm_fail_memory(err, "the prompt", p->text.len);
    size_t before = out->n, at = 0;
    enum fm_status st = FM_OK;
    bool add_bos = fm_tokenizer_add_bos(t) && fm_tokenizer_bos(t) >= 0;
    if (add_bos) FM_GOTO(fm_ids_push(out, fm_tokenizer_bos(t), err));
    for (size_t i = 0; i < p->n_marks; i++) {
        const struct fm_prompt_mark *m = &p->marks[i];
        int32_t id = fm_added_exact(&t->added, p->text.data + m->begin, m->end - m->begin);
        if (id < 0) continue; /* stays part of the text around it */
        FM_GOTO(encode_text(p, t, at, m->begin, out, err));
        bool again = add_bos && m->begin == 0 && id == fm_tokenizer_bos(t);
        if (!again) FM_GOTO(fm_ids_push(out, id, err));
        at = m->end;
    }
    FM_GOTO(encode_text(p, t, at, p->text.len, out, err));
out:
    if (st) out->n = before;
    return st;
}
