/* What the formats share, and the renderer of those that a table can describe: texts between marks. */
#include <string.h>

#include "text/chat_impl.h"

/* ---- spans ---- */

struct fm_span fm_span_of(const char *s) { return (struct fm_span){s, strlen(s)}; }

/* What Python's str.strip() takes off. */
static bool is_blank(int32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

struct fm_span fm_span_trim(struct fm_span t)
{
    int used;
    while (t.n && is_blank(fm_utf8_decode(t.s, t.n, &used))) t.s += used, t.n -= (size_t)used;
    while (t.n) {
        size_t k = 1;
        while (k < 4 && k < t.n && ((unsigned char)t.s[t.n - k] & 0xC0) == 0x80) k++;
        if (!is_blank(fm_utf8_decode(t.s + t.n - k, k, &used)) || (size_t)used != k) break;
        t.n -= k;
    }
    return t;
}

struct fm_span fm_span_strip(struct fm_span t, char c, bool both)
{
    while (t.n && *t.s == c) t.s++, t.n--;
    while (both && t.n && t.s[t.n - 1] == c) t.n--;
    return t;
}

bool fm_span_cut(struct fm_span t, const char *mark, bool last, struct fm_span *before, struct fm_span *behind)
{
    size_t n = strlen(mark);
    const char *hit = t.n ? memmem(t.s, t.n, mark, n) : NULL;
    for (const char *s = hit; s && last; s = memmem(s + 1, t.n - (size_t)(s + 1 - t.s), mark, n)) hit = s;
    *before = (struct fm_span){t.s, hit ? (size_t)(hit - t.s) : 0};
    *behind = hit ? (struct fm_span){hit + n, t.n - before->n - n} : t;
    return hit != NULL;
}

/* ---- writing ---- */

void fm_put(struct fm_prompt *p, struct fm_span t) { fm_prompt_text(p, t.s, t.n); }

void fm_put_str(struct fm_prompt *p, const char *s) { fm_prompt_text(p, s, strlen(s)); }

void fm_put_json(struct fm_prompt *p, const struct fm_py *v, int indent)
{
    fm_py_write(&p->text, v, indent);
    p->failed |= p->text.failed;
}

void fm_put_arguments(struct fm_prompt *p, const struct fm_call *c)
{
    if (c->written.s)
        fm_put(p, c->written);
    else
        fm_put_json(p, c->arguments, 0);
}

bool fm_put_systems(struct fm_prompt *p, const struct fm_talk *t)
{
    bool any = false;
    for (size_t i = 0; i < t->n; i++) {
        if (t->turns[i].role != FM_SYSTEM) continue;
        if (any) fm_put_str(p, "\n\n");
        fm_put(p, t->turns[i].text);
        any = true;
    }
    return any;
}

/* ---- texts between marks ---- */

static struct fm_span text_of(const struct fm_chat_format *f, const struct fm_turn *t)
{
    return f->rules & FM_CHAT_TRIM ? fm_span_trim(t->text) : t->text;
}

/* What comes before every message. */
static void put_front(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out)
{
    fm_prompt_template(out, f->bos);
    if (f->rules & FM_CHAT_SYSTEM_FIRST) (void)fm_put_systems(out, t);
    if (!f->system || !t->n || t->turns[0].role == FM_SYSTEM) return;
    fm_prompt_template(out, f->turn[FM_SYSTEM].before);
    fm_put_str(out, f->system);
    fm_prompt_template(out, f->turn[FM_SYSTEM].after);
}

/* The system's text inside the user's: only the first message may be one, and a user's has to follow. */
static enum fm_status check_fold(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_error *err)
{
    for (size_t i = 1; i < t->n; i++)
        if (t->turns[i].role == FM_SYSTEM)
            return fm_fail(err, FM_ERR_USAGE, "chat format %s: message %zu: only the first may be the system's",
                           f->name, i + 1);
    bool user = false;
    for (size_t i = 0; i < t->n; i++) user |= t->turns[i].role == FM_USER;
    if (t->n && t->turns[0].role == FM_SYSTEM && !user)
        return fm_fail(err, FM_ERR_USAGE, "chat format %s: the system's text needs a message of the user", f->name);
    return FM_OK;
}

enum fm_status fm_encode_plain(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                               struct fm_error *err)
{
    const struct fm_turn *folded = NULL;
    if (f->rules & FM_CHAT_SYSTEM_FOLD) {
        FM_TRY(check_fold(f, t, err));
        if (t->n && t->turns[0].role == FM_SYSTEM) folded = &t->turns[0];
    }
    put_front(f, t, out);
    for (size_t i = 0; i < t->n; i++) {
        const struct fm_turn *m = &t->turns[i];
        if (m->role == FM_SYSTEM && f->rules & (FM_CHAT_SYSTEM_FIRST | FM_CHAT_SYSTEM_FOLD)) continue;
        fm_prompt_template(out, f->turn[m->role].before);
        if (m->role == FM_USER && folded) {
            fm_prompt_template(out, f->turn[FM_SYSTEM].before);
            fm_put(out, text_of(f, folded));
            fm_prompt_template(out, f->turn[FM_SYSTEM].after);
            folded = NULL;
        }
        fm_put(out, text_of(f, m));
        fm_prompt_template(out, f->turn[m->role].after);
    }
    if (t->generate) fm_prompt_template(out, f->generate);
    return FM_OK;
}
