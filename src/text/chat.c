/* See chat.h.  Formats are data; what data cannot say is an encoder of its own.  Source: models.md §12 and the
 * templates published with the models. */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "text/chat_impl.h"

// clang-format off
#define IM_TURN(role) {FM_CONTROL("<|im_start|>") role "\n", FM_CONTROL("<|im_end|>") "\n"}
#define IM_TURNS {[FM_SYSTEM] = IM_TURN("system"), [FM_USER] = IM_TURN("user"), [FM_ASSISTANT] = IM_TURN("assistant")}
#define IM_GENERATE FM_CONTROL("<|im_start|>") "assistant\n"
#define IM_ENDS {"<|im_end|>", "<|endoftext|>"}

#define HEADER(role) FM_CONTROL("<|start_header_id|>") role FM_CONTROL("<|end_header_id|>") "\n\n"
#define HEADER_TURN(role) {HEADER(role), FM_CONTROL("<|eot_id|>")}
#define HEADER_TURNS \
    {[FM_SYSTEM] = HEADER_TURN("system"), [FM_USER] = HEADER_TURN("user"), [FM_ASSISTANT] = HEADER_TURN("assistant")}
#define HEADER_ENDS {"<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"}

#define DS_TURNS {[FM_USER] = {FM_DS_USER, ""}, [FM_ASSISTANT] = {FM_DS_ASSISTANT, FM_DS_EOS}}
#define DS_ENDS {"<｜end▁of▁sentence｜>"}
#define KIMI(mark, role) FM_CONTROL("<|im_" mark "|>") role FM_CONTROL("<|im_middle|>")
#define KIMI_TURN(mark, role) {KIMI(mark, role), FM_CONTROL("<|im_end|>")}
#define KIMI_TURNS \
    {[FM_SYSTEM] = KIMI_TURN("system", "system"), [FM_USER] = KIMI_TURN("user", "user"), \
     [FM_ASSISTANT] = KIMI_TURN("assistant", "assistant")}
#define NEVER "\x01" /* in no template */
// clang-format on

#define SMOLLM_SYSTEM "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
#define KIMI_SYSTEM   "You are Kimi, an AI assistant created by Moonshot AI."
#define QWEN_SYSTEM   "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

/* Where two rows fit a template, the first is taken. */
// clang-format off
static const struct fm_chat_format rows[] = {
    {.name = "plain", .all = {NEVER}, .rules = FM_CHAT_NO_ROLES, .roles = FM_PLAIN_ROLES, .encode = fm_encode_plain},
    {.name = "smollm2", .all = {"<|im_start|>", SMOLLM_SYSTEM}, .token = "<|im_start|>", .system = SMOLLM_SYSTEM,
     .turn = IM_TURNS, .generate = IM_GENERATE, .roles = FM_PLAIN_ROLES, .encode = fm_encode_plain,
     .parse = {.ends = IM_ENDS}},
    {.name = "qwen2.5", .all = {"<|im_start|>", QWEN_SYSTEM}, .token = "<|im_start|>", .system = QWEN_SYSTEM,
     .rules = FM_CHAT_TOOLS, .roles = FM_TOOL_ROLES, .encode = fm_encode_qwen25,
     .parse = {.ends = IM_ENDS, .calls = FM_CALLS_HERMES}},
    {.name = "qwen3", .all = {"<|im_start|>", "</think>", "enable_thinking"}, .token = "<|im_start|>",
     .rules = FM_CHAT_TOOLS | FM_CHAT_MAY_THINK, .roles = FM_TOOL_ROLES, .encode = fm_encode_qwen3,
     .parse = {.ends = IM_ENDS, .calls = FM_CALLS_HERMES, .opens = true, .lines = true}},
    {.name = "qwen2", .all = {"<|im_start|>", "You are a helpful assistant"}, .token = "<|im_start|>",
     .system = "You are a helpful assistant.", .turn = IM_TURNS, .generate = IM_GENERATE, .roles = FM_PLAIN_ROLES,
     .encode = fm_encode_plain, .parse = {.ends = IM_ENDS}},
    {.name = "chatml", .all = {"<|im_start|>", "<|im_end|>"}, .token = "<|im_start|>", .turn = IM_TURNS,
     .generate = IM_GENERATE, .roles = FM_PLAIN_ROLES, .encode = fm_encode_plain, .parse = {.ends = IM_ENDS}},
    {.name = "llama3.1", .all = {"<|start_header_id|>", "Cutting Knowledge Date: December 2023", "Today Date: "},
     .token = "<|eot_id|>", .bos = FM_CONTROL("<|begin_of_text|>"), .generate = HEADER("assistant"),
     .rules = FM_CHAT_TOOLS, .roles = FM_TOOL_ROLES, .encode = fm_encode_llama31,
     .parse = {.ends = HEADER_ENDS, .calls = FM_CALLS_OBJECT}},
    {.name = "llama3", .all = {"<|start_header_id|>", "<|eot_id|>"}, .none = {"Cutting Knowledge Date"},
     .token = "<|eot_id|>", .bos = FM_CONTROL("<|begin_of_text|>"), .turn = HEADER_TURNS,
     .generate = HEADER("assistant"), .rules = FM_CHAT_TRIM, .roles = FM_PLAIN_ROLES, .encode = fm_encode_plain,
     .parse = {.ends = HEADER_ENDS, .calls = FM_CALLS_OBJECT}},
    {.name = "llama2", .all = {"[INST]", "<<SYS>>"}, .rules = FM_CHAT_TRIM | FM_CHAT_SYSTEM_FOLD,
     .turn = {[FM_SYSTEM] = {"<<SYS>>\n", "\n<</SYS>>\n\n"},
              [FM_USER] = {FM_CONTROL("<s>") "[INST] ", " [/INST]"},
              [FM_ASSISTANT] = {" ", " " FM_CONTROL("</s>")}},
     .roles = FM_PLAIN_ROLES, .encode = fm_encode_plain, .parse = {.ends = {"</s>"}, .trim = true}},
    {.name = "deepseek-v4-0731", .all = {"｜DSML｜", "tool_calls", "reasoning_effort_max"}, .token = "｜DSML｜",
     .bos = FM_DS_BOS, .rules = FM_CHAT_TOOLS | FM_CHAT_MAY_THINK | FM_CHAT_EFFORT | FM_CHAT_EFFORT_HIGH,
     .roles = FM_ALL_ROLES, .encode = fm_encode_v4,
     .parse = {.ends = DS_ENDS, .calls = FM_CALLS_V4}},
    {.name = "deepseek-v4", .all = {"｜DSML｜", "tool_calls>"}, .none = {"function_calls"}, .token = "｜DSML｜",
     .bos = FM_DS_BOS, .rules = FM_CHAT_TOOLS | FM_CHAT_MAY_THINK | FM_CHAT_EFFORT, .roles = FM_ALL_ROLES,
     .encode = fm_encode_v4,
     .parse = {.ends = DS_ENDS, .calls = FM_CALLS_V4}},
    {.name = "deepseek-v3.2", .all = {"｜DSML｜", "function_calls"}, .token = "<｜User｜>", .bos = FM_DS_BOS,
     .rules = FM_CHAT_TOOLS | FM_CHAT_MAY_THINK, .roles = FM_TOOL_ROLES | 1 << FM_DEVELOPER, .encode = fm_encode_v32,
     .parse = {.ends = DS_ENDS, .calls = FM_CALLS_V32}},
    {.name = "deepseek-v3.1", .all = {"<｜Assistant｜>", "</think>", "thinking is defined"}, .none = {"DSML"},
     .token = "<｜User｜>", .bos = FM_DS_BOS, .rules = FM_CHAT_TOOLS | FM_CHAT_MAY_THINK, .roles = FM_TOOL_ROLES,
     .encode = fm_encode_v31,
     .parse = {.ends = DS_ENDS, .calls = FM_CALLS_BARE}},
    {.name = "deepseek-r1", .all = {"<｜Assistant｜>", "</think>"}, .none = {"DSML"}, .token = "<｜User｜>",
     .bos = FM_DS_BOS, .rules = FM_CHAT_THINKS | FM_CHAT_TOOLS_UNSAID, .roles = FM_TOOL_ROLES, .encode = fm_encode_r1,
     .parse = {.ends = DS_ENDS, .calls = FM_CALLS_FENCED, .opens = true}},
    {.name = "deepseek-v3", .all = {"<｜Assistant｜>"}, .none = {"DSML", "<think>"}, .token = "<｜User｜>",
     .bos = FM_DS_BOS, .generate = FM_DS_ASSISTANT, .rules = FM_CHAT_TOOLS_UNSAID, .roles = FM_TOOL_ROLES,
     .encode = fm_encode_v3, .parse = {.ends = DS_ENDS, .calls = FM_CALLS_FENCED}},
    {.name = "deepseek-v2.5", .all = {NEVER}, .token = "<｜User｜>", .bos = FM_DS_BOS, .turn = DS_TURNS,
     .generate = FM_DS_ASSISTANT, .rules = FM_CHAT_SYSTEM_FIRST, .roles = FM_PLAIN_ROLES, .encode = fm_encode_plain,
     .parse = {.ends = DS_ENDS}},
    {.name = "deepseek-v2", .all = {"'User: '", "'Assistant: '", "'Assistant:'"}, .bos = FM_DS_BOS,
     .turn = {[FM_SYSTEM] = {"", "\n\n"}, [FM_USER] = {"User: ", "\n\n"}, [FM_ASSISTANT] = {"Assistant: ", FM_DS_EOS}},
     .generate = "Assistant:", .roles = FM_PLAIN_ROLES, .encode = fm_encode_plain, .parse = {.ends = DS_ENDS}},
    {.name = "kimi-k2", .all = {"<|im_middle|>", KIMI_SYSTEM}, .none = {"<think>"}, .token = "<|im_middle|>",
     .system = KIMI_SYSTEM, .turn = KIMI_TURNS, .generate = KIMI("assistant", "assistant"), .roles = FM_PLAIN_ROLES,
     .encode = fm_encode_plain, .parse = {.ends = {"<|im_end|>"}}},
    {.name = "moonlight", .all = {"<|im_middle|>", "You are a helpful assistant"}, .none = {"<think>"},
     .token = "<|im_middle|>", .system = "You are a helpful assistant", .turn = KIMI_TURNS,
     .generate = KIMI("assistant", "assistant"), .roles = FM_PLAIN_ROLES, .encode = fm_encode_plain,
     .parse = {.ends = {"<|im_end|>"}}},
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

bool fm_chat_may_think(const struct fm_chat_format *f) { return f->rules & FM_CHAT_MAY_THINK; }

bool fm_chat_must_think(const struct fm_chat_format *f) { return f->rules & FM_CHAT_THINKS; }

bool fm_chat_effort(const struct fm_chat_format *f, const char *effort)
{
    return f->rules & FM_CHAT_EFFORT && (!strcmp(effort, "high") || !strcmp(effort, "max"));
}

bool fm_chat_reasons(const struct fm_chat_format *f, bool thinking, bool *opened)
{
    thinking = thinking && fm_chat_may_think(f);
    *opened = f->rules & FM_CHAT_THINKS || (thinking && !f->parse.opens);
    return f->parse.opens || thinking;
}

/* ---- talks ---- */

static enum fm_status check_turn(const struct fm_chat_format *f, const struct fm_turn *m, size_t i,
                                 struct fm_error *err)
{
    static const char *const names[FM_ROLE_COUNT] = {
        [FM_SYSTEM] = "system",       [FM_DEVELOPER] = "developer", [FM_USER] = "user",
        [FM_ASSISTANT] = "assistant", [FM_TOOL] = "tool",           [FM_REMINDER] = "latest_reminder"};
    if (!(f->roles & 1u << m->role))
        return fm_fail(err, FM_ERR_USAGE, "chat format %s: message %zu: role %s is not known", f->name, i + 1,
                       names[m->role]);
    if (m->n_calls && !(f->roles & 1u << FM_TOOL))
        return fm_fail(err, FM_ERR_USAGE, "chat format %s: message %zu: it has no tool calls", f->name, i + 1);
    return FM_OK;
}

enum fm_status fm_talk_encode(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                              struct fm_error *err)
{
    bool tools = t->tools != NULL;
    for (size_t i = 0; i < t->n; i++) {
        FM_TRY(check_turn(f, &t->turns[i], i, err));
        tools |= t->turns[i].tools != NULL;
    }
    if (tools && !(f->rules & (FM_CHAT_TOOLS | FM_CHAT_TOOLS_UNSAID)))
        return fm_fail(err, FM_ERR_USAGE, "chat format %s: tools: it has no place for them", f->name);
    if (tools && !(f->rules & FM_CHAT_TOOLS))
        fm_log(FM_LOG_WARN, "chat format %s has no list of tools: the model is not told about them", f->name);
    FM_TRY(f->encode(f, t, out, err));
    return out->failed ? fm_fail_memory(err, "the prompt", out->text.len) : FM_OK;
}

static int role_of(const char *name)
{
    return !strcmp(name, "system")      ? FM_SYSTEM
           : !strcmp(name, "user")      ? FM_USER
           : !strcmp(name, "assistant") ? FM_ASSISTANT
                                        : -1;
}

enum fm_status fm_chat_prompt(const struct fm_chat_format *f, const struct fm_chat_message *m, size_t n,
                              const struct fm_chat_options *o, struct fm_prompt *out, struct fm_error *err)
{
    struct fm_talk t = {.n = n,
                        .generate = o->generate,
                        .thinking = o->thinking || f->rules & FM_CHAT_THINKS,
                        .drop_thinking = true,
                        .tools_in_user = true};
    enum fm_status st = FM_OK;
    if (o->date) t.date = fm_span_of(o->date);
    if (o->effort) t.effort = fm_span_of(o->effort);
    if (!(t.turns = fm_calloc(n, sizeof *t.turns))) return fm_fail_memory(err, "messages", n * sizeof *t.turns);
    for (size_t i = 0; i < n && !st; i++) {
        int role = role_of(m[i].role);
        if (role < 0)
            st = fm_fail(err, FM_ERR_USAGE, "chat format %s: message %zu: role %.40s is not known", f->name, i + 1,
                         m[i].role);
        else
            t.turns[i] = (struct fm_turn){.role = (enum fm_role)role, .text = {m[i].text, m[i].n}, .has_text = true};
    }
    if (!st) st = fm_talk_encode(f, &t, out, err);
    fm_free(t.turns);
    return st;
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
