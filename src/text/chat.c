/* See chat.h.  Formats are data; the few things that data cannot say are RULES.  Source: models.md §12 and the
 * templates published with the models. */
#include "text/chat.h"

#include <string.h>

enum role { SYSTEM, USER, ASSISTANT, N_ROLES };

enum rules {
    TRIM = 1 << 0,          /* white space around every text is dropped                                */
    SYSTEM_FIRST = 1 << 1,  /* system texts go to the front, joined by a blank line                    */
    SYSTEM_LAST = 1 << 2,   /* … only the last of them                                                 */
    SYSTEM_FOLD = 1 << 3,   /* the system text is part of the user's text that follows                 */
    HIDE_THINKING = 1 << 4, /* of an answer only what follows </think> is kept                        */
    THINK_TAIL = 1 << 5,    /* … but behind the last user text it is kept, and written out (Qwen 3)    */
    DATES = 1 << 6,         /* a system block always, beginning with two lines of dates                */
    NO_ROLES = 1 << 7,      /* texts one behind the other                                              */
};

struct fm_chat_format {
    const char *name;
    const char *all[3], *none[3]; /* a template of this format contains all of these and none of those   */
    const char *token;            /* control token that the tokenizer must have                          */
    const char *bos;
    const char *system; /* text of the system message when there is none                       */
    struct {
        const char *before, *after;
    } turn[N_ROLES];
    const char *generate, *generate_thinking; /* the latter NULL: the same */
    unsigned rules;
};

// clang-format off
#define IM_TURN(role) {FM_CONTROL("<|im_start|>") role "\n", FM_CONTROL("<|im_end|>") "\n"}
#define IM_TURNS {[SYSTEM] = IM_TURN("system"), [USER] = IM_TURN("user"), [ASSISTANT] = IM_TURN("assistant")}
#define IM_GENERATE FM_CONTROL("<|im_start|>") "assistant\n"

#define HEADER(role) FM_CONTROL("<|start_header_id|>") role FM_CONTROL("<|end_header_id|>") "\n\n"
#define HEADER_TURN(role) {HEADER(role), FM_CONTROL("<|eot_id|>")}
#define HEADER_TURNS \
    {[SYSTEM] = HEADER_TURN("system"), [USER] = HEADER_TURN("user"), [ASSISTANT] = HEADER_TURN("assistant")}
// clang-format on

#define DS_BOS       FM_CONTROL("<｜begin▁of▁sentence｜>")
#define DS_EOS       FM_CONTROL("<｜end▁of▁sentence｜>")
#define DS_USER      FM_CONTROL("<｜User｜>")
#define DS_ASSISTANT FM_CONTROL("<｜Assistant｜>")

#define SMOLLM_SYSTEM "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
#define QWEN_SYSTEM   "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

/* Where two rows fit a template, the first is taken. */
// clang-format off
static const struct fm_chat_format rows[] = {
    {.name = "plain", .all = {"\x01"}, .rules = NO_ROLES},
    {.name = "smollm2", .all = {"<|im_start|>", SMOLLM_SYSTEM}, .token = "<|im_start|>", .system = SMOLLM_SYSTEM,
     .turn = IM_TURNS, .generate = IM_GENERATE},
    {.name = "qwen2.5", .all = {"<|im_start|>", QWEN_SYSTEM}, .token = "<|im_start|>", .system = QWEN_SYSTEM,
     .turn = IM_TURNS, .generate = IM_GENERATE},
    {.name = "qwen3", .all = {"<|im_start|>", "</think>", "enable_thinking"}, .token = "<|im_start|>", .turn = IM_TURNS,
     .generate = IM_GENERATE FM_CONTROL("<think>") "\n\n" FM_CONTROL("</think>") "\n\n",
     .generate_thinking = IM_GENERATE, .rules = HIDE_THINKING | THINK_TAIL},
    {.name = "qwen2", .all = {"<|im_start|>", "You are a helpful assistant"}, .token = "<|im_start|>",
     .system = "You are a helpful assistant.", .turn = IM_TURNS, .generate = IM_GENERATE},
    {.name = "chatml", .all = {"<|im_start|>", "<|im_end|>"}, .token = "<|im_start|>", .turn = IM_TURNS,
     .generate = IM_GENERATE},
    {.name = "llama3.1", .all = {"<|start_header_id|>", "Cutting Knowledge Date: December 2023", "Today Date: "},
     .token = "<|eot_id|>", .bos = FM_CONTROL("<|begin_of_text|>"), .turn = HEADER_TURNS,
     .generate = HEADER("assistant"), .rules = TRIM | DATES},
    {.name = "llama3", .all = {"<|start_header_id|>", "<|eot_id|>"}, .none = {"Cutting Knowledge Date"},
     .token = "<|eot_id|>", .bos = FM_CONTROL("<|begin_of_text|>"), .turn = HEADER_TURNS,
     .generate = HEADER("assistant"), .rules = TRIM},
    {.name = "llama2", .all = {"[INST]", "<<SYS>>"}, .rules = TRIM | SYSTEM_FOLD,
     .turn = {[SYSTEM] = {"<<SYS>>\n", "\n<</SYS>>\n\n"},
              [USER] = {FM_CONTROL("<s>") "[INST] ", " [/INST]"},
              [ASSISTANT] = {" ", " " FM_CONTROL("</s>")}}},
    {.name = "deepseek-v3.1", .all = {"<｜Assistant｜>", "</think>", "thinking is defined"}, .none = {"DSML"},
     .token = "<｜User｜>", .bos = DS_BOS,
     .turn = {[USER] = {DS_USER, ""}, [ASSISTANT] = {DS_ASSISTANT FM_CONTROL("</think>"), DS_EOS}},
     .generate = DS_ASSISTANT FM_CONTROL("</think>"), .generate_thinking = DS_ASSISTANT FM_CONTROL("<think>"),
     .rules = SYSTEM_FIRST | HIDE_THINKING},
    {.name = "deepseek-r1", .all = {"<｜Assistant｜>", "</think>"}, .none = {"DSML"}, .token = "<｜User｜>",
     .bos = DS_BOS, .turn = {[USER] = {DS_USER, ""}, [ASSISTANT] = {DS_ASSISTANT, DS_EOS}},
     .generate = DS_ASSISTANT FM_CONTROL("<think>") "\n", .rules = SYSTEM_LAST | HIDE_THINKING},
    {.name = "deepseek-v3", .all = {"<｜Assistant｜>"}, .none = {"DSML", "<think>"}, .token = "<｜User｜>",
     .bos = DS_BOS, .turn = {[USER] = {DS_USER, ""}, [ASSISTANT] = {DS_ASSISTANT, DS_EOS}},
     .generate = DS_ASSISTANT, .rules = SYSTEM_FIRST},
    {.name = "deepseek-v2.5", .all = {"\x01"}, .token = "<｜User｜>", .bos = DS_BOS,
     .turn = {[USER] = {DS_USER, ""}, [ASSISTANT] = {DS_ASSISTANT, DS_EOS}}, .generate = DS_ASSISTANT,
     .rules = SYSTEM_FIRST},
    {.name = "deepseek-v2", .all = {"'User: '", "'Assistant: '", "'Assistant:'"}, .bos = DS_BOS,
     .turn = {[SYSTEM] = {"", "\n\n"}, [USER] = {"User: ", "\n\n"}, [ASSISTANT] = {"Assistant: ", DS_EOS}},
     .generate = "Assistant:"},
    {.name = NULL},
};
// clang-format on

/* ---- the table ---- */

const struct fm_chat_format *fm_chat_at(int i) { return rows[i].name ? &rows[i] : NULL; }

const char *fm_chat_name(const struct fm_chat_format *f) { return f->name; }

const struct fm_chat_format *fm_chat_find(const char *name)
{
    for (int i = 0; rows[i].name; i++)
        if (!strcmp(rows[i].name, name)) return &rows[i];
    return NULL;
}

static bool contains(const char *s, size_t n, const char *what) { return memmem(s, n, what, strlen(what)) != NULL; }

static bool fits(const struct fm_chat_format *f, const char *s, size_t n, const struct fm_tokenizer *t)
{
    for (int i = 0; i < 3 && f->all[i]; i++)
        if (!contains(s, n, f->all[i])) return false;
    for (int i = 0; i < 3 && f->none[i]; i++)
        if (contains(s, n, f->none[i])) return false;
    return !t || !f->token || fm_tokenizer_find(t, f->token) >= 0;
}

const char *fm_chat_detect(const char *chat_template, size_t n, const struct fm_tokenizer *t)
{
    for (int i = 0; chat_template && rows[i].name; i++)
        if (fits(&rows[i], chat_template, n, t)) return rows[i].name;
    return NULL;
}

/* ---- texts ---- */

struct span {
    const char *s;
    size_t n;
};

/* What Python's str.strip() takes off. */
static bool is_blank(int32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static struct span trim(struct span t)
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

static struct span trim_lines(struct span t)
{
    while (t.n && *t.s == '\n') t.s++, t.n--;
    while (t.n && t.s[t.n - 1] == '\n') t.n--;
    return t;
}

/* Cut an answer behind its last </think>: reasoning in front (without its opening tag), the answer behind. */
static bool cut_thinking(struct span t, struct span *reasoning, struct span *answer)
{
    static const char open[] = "<think>", close[] = "</think>";
    const char *hit = NULL;
    for (const char *s = t.s; (s = memmem(s, t.n - (size_t)(s - t.s), close, sizeof close - 1)); s++) hit = s;
    *answer = t;
    *reasoning = (struct span){t.s, 0};
    if (!hit) return false;
    size_t at = (size_t)(hit - t.s);
    const char *start = memmem(t.s, at, open, sizeof open - 1);
    start = start ? start + sizeof open - 1 : t.s;
    *reasoning = (struct span){start, at - (size_t)(start - t.s)};
    *answer = (struct span){hit + sizeof close - 1, t.n - at - (sizeof close - 1)};
    return true;
}

static void put(struct fm_prompt *p, struct span t) { fm_prompt_text(p, t.s, t.n); }

/* ---- rendering ---- */

struct render {
    const struct fm_chat_format *f;
    const struct fm_chat_message *m;
    const struct fm_chat_options *o;
    struct fm_prompt *out;
    size_t n, last_user;
    struct span folded; /* system text that waits for the user's */
    bool any_folded;
};

static int role_of(const struct fm_chat_message *m)
{
    static const char *const names[N_ROLES] = {[SYSTEM] = "system", [USER] = "user", [ASSISTANT] = "assistant"};
    for (int r = 0; r < N_ROLES; r++)
        if (!strcmp(m->role, names[r])) return r;
    return -1;
}

static struct span text_of(const struct render *r, size_t i)
{
    struct span t = {r->m[i].text, r->m[i].n};
    return r->f->rules & TRIM ? trim(t) : t;
}

static void put_dates(const struct render *r)
{
    static const char known[] = "Cutting Knowledge Date: December 2023\nToday Date: ", dflt[] = "26 Jul 2024";
    const char *date = r->o->date ? r->o->date : dflt;
    fm_prompt_text(r->out, known, sizeof known - 1);
    fm_prompt_text(r->out, date, strlen(date));
    fm_prompt_text(r->out, "\n\n", 2);
}

/* System texts that come before everything else. */
static void put_front(const struct render *r)
{
    unsigned rules = r->f->rules;
    bool first = true, begins = r->n && role_of(&r->m[0]) == SYSTEM, dflt = r->f->system && r->n && !begins;
    fm_prompt_template(r->out, r->f->bos);
    if (rules & DATES || dflt) {
        fm_prompt_template(r->out, r->f->turn[SYSTEM].before);
        if (rules & DATES) put_dates(r);
        if (rules & DATES && begins) put(r->out, text_of(r, 0));
        if (dflt) fm_prompt_text(r->out, r->f->system, strlen(r->f->system));
        fm_prompt_template(r->out, r->f->turn[SYSTEM].after);
    }
    for (size_t i = r->n; rules & SYSTEM_LAST && i-- > 0;) {
        if (role_of(&r->m[i]) != SYSTEM) continue;
        put(r->out, text_of(r, i));
        break;
    }
    for (size_t i = 0; rules & SYSTEM_FIRST && i < r->n; i++) {
        if (role_of(&r->m[i]) != SYSTEM) continue;
        if (!first) fm_prompt_text(r->out, "\n\n", 2);
        put(r->out, text_of(r, i));
        first = false;
    }
}

/* The answer in message i: with its reasoning only where the family keeps that. */
static void put_answer(const struct render *r, size_t i)
{
    struct span reasoning, answer, t = text_of(r, i);
    if (!(r->f->rules & HIDE_THINKING)) {
        put(r->out, t);
        return;
    }
    bool cut = cut_thinking(t, &reasoning, &answer);
    bool tail = r->f->rules & THINK_TAIL && (r->last_user == SIZE_MAX || i > r->last_user);
    if (r->f->rules & THINK_TAIL && cut)
        while (answer.n && *answer.s == '\n') answer.s++, answer.n--;
    if (tail && (cut || i + 1 == r->n)) {
        fm_prompt_template(r->out, FM_CONTROL("<think>") "\n");
        put(r->out, trim_lines(reasoning));
        fm_prompt_template(r->out, "\n" FM_CONTROL("</think>") "\n\n");
        while (answer.n && *answer.s == '\n') answer.s++, answer.n--;
    }
    put(r->out, answer);
}

static void put_folded(struct render *r)
{
    if (!r->any_folded) return;
    fm_prompt_template(r->out, r->f->turn[SYSTEM].before);
    put(r->out, r->folded);
    fm_prompt_template(r->out, r->f->turn[SYSTEM].after);
    r->any_folded = false;
}

static enum fm_status put_message(struct render *r, size_t i, struct fm_error *err)
{
    int role = role_of(&r->m[i]);
    unsigned rules = r->f->rules;
    if (role < 0)
        return fm_fail(err, FM_ERR_USAGE, "chat format %s: message %zu: role %.40s is not known", r->f->name, i + 1,
                       r->m[i].role);
    if (role == SYSTEM && (rules & (SYSTEM_FIRST | SYSTEM_LAST) || (rules & DATES && i == 0))) return FM_OK;
    if (role == SYSTEM && rules & SYSTEM_FOLD) {
        if (i)
            return fm_fail(err, FM_ERR_USAGE, "chat format %s: message %zu: only the first may be the system's",
                           r->f->name, i + 1);
        r->folded = text_of(r, i);
        r->any_folded = true;
        return FM_OK;
    }
    fm_prompt_template(r->out, r->f->turn[role].before);
    if (role == USER) put_folded(r);
    if (role == ASSISTANT)
        put_answer(r, i);
    else
        put(r->out, text_of(r, i));
    fm_prompt_template(r->out, r->f->turn[role].after);
    return FM_OK;
}

enum fm_status fm_chat_prompt(const struct fm_chat_format *f, const struct fm_chat_message *m, size_t n,
                              const struct fm_chat_options *o, struct fm_prompt *out, struct fm_error *err)
{
    struct render r = {.f = f, .m = m, .o = o, .out = out, .n = n, .last_user = SIZE_MAX};
    for (size_t i = 0; i < n; i++)
        if (role_of(&m[i]) == USER) r.last_user = i;
    if (!(f->rules & NO_ROLES)) put_front(&r);
    for (size_t i = 0; i < n; i++) FM_TRY(put_message(&r, i, err));
    if (r.any_folded)
        return fm_fail(err, FM_ERR_USAGE, "render the conversation: %s: the system's text needs a message of the user", f->name);
    if (o->generate) fm_prompt_template(out, o->thinking && f->generate_thinking ? f->generate_thinking : f->generate);
    return out->failed ? fm_fail_memory(err, "the prompt", out->text.len) : FM_OK;
}

enum fm_status fm_chat_render(const struct fm_chat_format *f, const struct fm_chat_message *m, size_t n,
                              const struct fm_chat_options *o, struct fm_buf *out, struct fm_error *err)
{
    struct fm_prompt p = {0};
    size_t before = out->len;
    enum fm_status st = fm_chat_prompt(f, m, n, o, &p, err);
    if (!st && p.text.len) fm_buf_add(out, p.text.data, p.text.len);
    if (!st && out->failed) {
        out->len = before;
        st = fm_fail_memory(err, "the prompt", p.text.len);
    }
    fm_prompt_release(&p);
    return st;
}

enum fm_status fm_chat_encode(const struct fm_chat_format *f, const struct fm_tokenizer *t,
                              const struct fm_chat_message *m, size_t n, const struct fm_chat_options *o,
                              struct fm_ids *out, struct fm_error *err)
{
    struct fm_prompt p = {0};
    enum fm_status st = fm_chat_prompt(f, m, n, o, &p, err);
    if (!st) st = fm_prompt_encode(&p, t, out, err);
    fm_prompt_release(&p);
    return st;
}
