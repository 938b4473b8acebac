/* See evalset.h.  Names of fields that published sets use:
 *
 *   question or text   question, input, query, goal, instruction; literal: prompt, context, ctx, passage (in front of a question)
 *   choices            choices, options, endings: an array of texts, of {"text", "label"}, or {"text": […], "label": […]};
 *                      {"A": "…", "B": "…"}
 *   answer             answer, answerKey, target, ideal, golden, gold, label, output
 *
 * so that GSM8K ("… #### 42"), MMLU, ARC, HellaSwag, CMATH, MAWPS, BIG-Bench Hard and OpenAI's evals read as they are. */
#include "run/evalset.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "run/fingerprint.h"

enum { SET_MAX = 1 << 30, MESSAGES_MAX = 1024 };

static const struct {
    const char *key;
    bool question;
} text_keys[] = {{"question", true}, {"prompt", false},  {"input", true},       {"query", true},
                 {"goal", true},     {"context", false}, {"instruction", true}, {"ctx", false}};
static const char *const before_keys[] = {"passage", "context", NULL}; /* stand in front of a question */
static const char *const choice_keys[] = {"choices", "options", "endings", NULL};
static const char *const answer_keys[] = {"answer", "answerKey", "target", "ideal", "golden",
                                          "gold",   "label",     "output", NULL};

struct at {
    const char *path;
    int line;
};

static enum fm_status bad(const struct at *at, const char *why, struct fm_error *err)
{
    return fm_fail(err, FM_ERR_INPUT, "read the set: %s:%d: %s", at->path, at->line, why);
}

static json_t *first_of(const json_t *j, const char *const *keys)
{
    for (; *keys; keys++) {
        json_t *v = json_object_get(j, *keys);
        if (v && !json_is_null(v)) return v;
    }
    return NULL;
}

/* ---- the question ---------------------------------------------------------------------------------------------- */

/* "name": "example_user" and "example_assistant" of OpenAI's evals are turns of a conversation. */
static const char *role_of(const json_t *m)
{
    const char *role = fm_json_str(m, "role", NULL), *name = fm_json_str(m, "name", "");
    if (!strcmp(name, "example_user")) return "user";
    return strcmp(name, "example_assistant") ? role : "assistant";
}

static enum fm_status take_messages(struct fm_eval_item *it, json_t *list, const struct at *at, struct fm_error *err)
{
    const size_t n = json_array_size(list);
    if (!n || n > MESSAGES_MAX) return bad(at, "its list of messages is empty or too long", err);
    it->messages = fm_calloc(n, sizeof *it->messages);
    if (!it->messages) return fm_fail_memory(err, "messages", n * sizeof *it->messages);
    it->n_messages = (int)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *m = json_array_get(list, i);
        const char *role = role_of(m), *text = fm_json_str(m, "content", NULL);
        if (!role || !text) return bad(at, "a message has no role or no text", err);
        it->messages[i] = (struct fm_chat_message){.role = role, .text = text, .n = strlen(text)};
        fm_buf_printf(&it->text, "%s%s", i ? "\n" : "", text); /* for models without a chat format */
    }
    it->question = true;
    return FM_OK;
}

static enum fm_status take_question(struct fm_eval_item *it, const struct at *at, struct fm_error *err)
{
    const json_t *v = NULL;
    size_t k = 0;
    for (; k < sizeof text_keys / sizeof *text_keys; k++)
        if ((v = json_object_get(it->j, text_keys[k].key)) && !json_is_null(v)) break;
    if (k == sizeof text_keys / sizeof *text_keys) return bad(at, "no question, prompt, input or context", err);
    if (json_is_array(v)) return take_messages(it, (json_t *)v, at, err);
    if (json_is_object(v)) v = json_object_get(v, "stem"); /* ARC's own files */
    if (!json_is_string(v)) return bad(at, "the question is no text", err);
    it->question = text_keys[k].question;
    const json_t *before = it->question ? first_of(it->j, before_keys) : NULL;
    if (json_is_string(before)) fm_buf_printf(&it->text, "%s\n", json_string_value(before));
    fm_buf_str(&it->text, json_string_value(v));
    return FM_OK;
}

/* ---- choices --------------------------------------------------------------------------------------------------- */

/* The texts of v into out[max], their labels, where there are any, into labels. */
static int list_choices(const json_t *v, const char **out, const char **labels, int max)
{
    const json_t *texts =
        json_is_object(v) && json_is_array(json_object_get(v, "text")) ? json_object_get(v, "text") : v;
    const json_t *names = json_is_object(v) ? json_object_get(v, "label") : NULL;
    int n = 0;
    const char *key;
    json_t *x;
    if (json_is_object(texts)) {
        json_object_foreach((json_t *)texts, key, x)
        {
            if (n == max || !json_is_string(x)) return -1;
            labels[n] = key;
            out[n++] = json_string_value(x);
        }
        return n;
    }
    for (size_t i = 0; i < json_array_size(texts); i++) {
        x = json_array_get(texts, i);
        if (n == max) return -1;
        labels[n] = json_string_value(json_array_get(names, i));
        if (json_is_object(x)) labels[n] = fm_json_str(x, "label", NULL);
        out[n] = json_is_object(x) ? fm_json_str(x, "text", NULL) : json_string_value(x);
        if (!out[n++]) return -1;
    }
    return n;
}

/* Label, text, letter, number from 0: the first that fits. */
static int find_choice(const char *s, const char *const *choices, const char *const *labels, int n)
{
    for (int i = 0; i < n; i++)
        if (labels[i] && !strcmp(labels[i], s)) return i;
    for (int i = 0; i < n; i++)
        if (!strcmp(choices[i], s)) return i;
    if (s[0] && !s[1] && s[0] >= 'A' && s[0] <= 'Z') return s[0] - 'A';
    if (s[0] && !s[1] && s[0] >= 'a' && s[0] <= 'z') return s[0] - 'a';
    if (s[0] && strspn(s, "0123456789") == strlen(s) && strlen(s) < 4) return atoi(s);
    return -1;
}

static enum fm_status take_choices(struct fm_eval_item *it, const json_t *v, const json_t *answer, const struct at *at,
                                   struct fm_error *err)
{
    const char *texts[FM_EVAL_CHOICES], *labels[FM_EVAL_CHOICES] = {NULL};
    const int n = list_choices(v, texts, labels, FM_EVAL_CHOICES);
    if (n < 2) return bad(at, "choices must be a list of two to 256 texts", err);
    it->gold = -1;
    if (json_is_integer(answer) && json_integer_value(answer) < n) it->gold = (int)json_integer_value(answer);
    if (json_is_string(answer)) it->gold = find_choice(json_string_value(answer), texts, labels, n);
    if (it->gold < 0 || it->gold >= n) return bad(at, "the answer is none of the choices", err);
    it->choices = fm_malloc((size_t)n * sizeof *it->choices);
    if (!it->choices) return fm_fail_memory(err, "choices", (size_t)n * sizeof *it->choices);
    memcpy(it->choices, texts, (size_t)n * sizeof *texts);
    it->n_choices = n;
    it->solution = texts[it->gold];
    for (int i = 0; i < n; i++)
        if (!*texts[i]) return bad(at, "a choice is empty", err);
    return FM_OK;
}

/* ---- answers --------------------------------------------------------------------------------------------------- */

/* As a text; numbers as short as they can be. */
static enum fm_status plain_answer(struct fm_eval_item *it, const json_t *v, const struct at *at, struct fm_error *err)
{
    enum { DIGITS = 32 };
    it->solution = json_is_boolean(v) ? (json_is_true(v) ? "true" : "false") : json_string_value(v);
    if (it->solution) return FM_OK;
    if (!json_is_number(v)) return bad(at, "the answer is neither text nor number", err);
    if (!(it->number = fm_malloc(DIGITS))) return fm_fail_memory(err, "an answer", DIGITS);
    if (json_is_integer(v))
        (void)snprintf(it->number, DIGITS, "%lld", (long long)json_integer_value(v));
    else
        (void)snprintf(it->number, DIGITS, "%.15g", json_real_value(v));
    it->solution = it->number;
    return FM_OK;
}

static enum fm_status take_answers(struct fm_eval_item *it, const json_t *v, const struct at *at, struct fm_error *err)
{
    const size_t n = json_array_size(v);
    if (!json_is_array(v)) {
        FM_TRY(plain_answer(it, v, at, err));
        const char *mark = strstr(it->solution, "####"); /* GSM8K: the worked solution, then the number */
        it->one = mark ? mark + 4 + strspn(mark + 4, " ") : it->solution;
        it->n_answers = 1;
        return FM_OK;
    }
    if (!n || n > FM_EVAL_CHOICES) return bad(at, "its list of answers is empty or too long", err);
    it->answers = fm_malloc(n * sizeof *it->answers);
    if (!it->answers) return fm_fail_memory(err, "answers", n * sizeof *it->answers);
    for (size_t i = 0; i < n; i++)
        if (!(it->answers[i] = json_string_value(json_array_get(v, i)))) return bad(at, "an answer is no text", err);
    it->n_answers = (int)n;
    it->solution = it->answers[0];
    return FM_OK;
}

/* Takes j over. */
static enum fm_status take_item(struct fm_eval_item *it, json_t *j, const struct at *at, struct fm_error *err)
{
    *it = (struct fm_eval_item){.line = at->line, .j = j};
    if (!json_is_object(j)) return bad(at, "it is no JSON object", err);
    FM_TRY(take_question(it, at, err));
    if (it->text.failed) return fm_fail_memory(err, "a question", it->text.len);
    const json_t *answer = first_of(j, answer_keys), *choices = first_of(j, choice_keys);
    const json_t *stem = json_object_get(j, "question");
    if (!choices && json_is_object(stem)) choices = first_of(stem, choice_keys);
    if (!answer) return bad(at, "no answer", err);
    const char *match = fm_json_str(j, "match", "auto");
    if ((it->match = fm_match_find(match)) == FM_MATCH_COUNT) return bad(at, "match is none that is known", err);
    return choices ? take_choices(it, choices, answer, at, err) : take_answers(it, answer, at, err);
}

/* ---- files ----------------------------------------------------------------------------------------------------- */

static enum fm_status push(struct fm_eval_set *s, int *cap, json_t *j, const struct at *at, struct fm_error *err)
{
    if (s->n == *cap) {
        const int more = *cap ? 2 * *cap : 64;
        void *p = fm_realloc(s->items, (size_t)more * sizeof *s->items);
        if (!p) {
            json_decref(j);
            return fm_fail_memory(err, "a set", (size_t)more * sizeof *s->items);
        }
        s->items = p;
        *cap = more;
    }
    return take_item(&s->items[s->n++], j, at, err);
}

static enum fm_status read_list(struct fm_eval_set *s, const char *path, const json_t *list, struct fm_error *err)
{
    int cap = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const struct at at = {path, (int)i + 1};
        FM_TRY(push(s, &cap, json_incref(json_array_get(list, i)), &at, err));
    }
    return FM_OK;
}

static enum fm_status read_line(struct fm_eval_set *s, int *cap, const char *text, size_t n, const struct at *at,
                                struct fm_error *err)
{
    json_t *j = NULL;
    struct fm_error why = {0};
    const enum fm_status st = fm_json_parse(text, n, "item", &j, &why);
    if (st == FM_ERR_INPUT) { /* "parse JSON: item, line 1, byte 7: why": the line is ours to name */
        const char *byte = strstr(why.message, "byte ");
        return bad(at, byte ? byte : why.message, err);
    }
    if (!st) return push(s, cap, j, at, err);
    if (err) *err = why;
    return st;
}

static enum fm_status read_lines(struct fm_eval_set *s, const char *path, const struct fm_buf *b, struct fm_error *err)
{
    int cap = 0;
    struct at at = {path, 0};
    for (size_t i = 0, end; i < b->len; i = end + 1) {
        const char *nl = memchr(b->data + i, '\n', b->len - i);
        end = nl ? (size_t)(nl - b->data) : b->len;
        at.line++;
        size_t blank = i;
        while (blank < end && strchr(" \t\r", b->data[blank])) blank++;
        if (blank < end) FM_TRY(read_line(s, &cap, b->data + i, end - i, &at, err));
    }
    return FM_OK;
}

/* A document is an array, or an object that holds one under "examples"; JSON lines are neither. */
static enum fm_status read_set(struct fm_eval_set *s, const char *path, const struct fm_buf *b, struct fm_error *err)
{
    json_t *doc = NULL;
    const enum fm_status st = fm_json_parse(b->data, b->len, path, &doc, NULL);
    if (st == FM_ERR_MEMORY) return fm_fail_memory(err, "a set", b->len);
    const json_t *list = st ? NULL : json_is_array(doc) ? doc : json_object_get(doc, "examples");
    const enum fm_status done = json_is_array(list) ? read_list(s, path, list, err) : read_lines(s, path, b, err);
    json_decref(doc);
    return done;
}

enum fm_status fm_eval_set_open(struct fm_eval_set *s, const char *path, struct fm_error *err)
{
    struct fm_buf b = {0};
    *s = (struct fm_eval_set){0};
    enum fm_status st = fm_buf_read_file(&b, path, SET_MAX, err);
    if (!st && b.failed) st = fm_fail_memory(err, path, b.len);
    if (!st) st = read_set(s, path, &b, err);
    if (!st && !s->n) st = fm_fail(err, FM_ERR_INPUT, "read the set: %s: it holds no items", path);
    if (!st) s->fingerprint = fm_fingerprint(FM_FINGERPRINT_START, b.data, b.len);
    fm_buf_release(&b);
    if (st) fm_eval_set_close(s);
    return st;
}

void fm_eval_set_close(struct fm_eval_set *s)
{
    for (int i = 0; i < s->n; i++) {
        fm_buf_release(&s->items[i].text);
        fm_free(s->items[i].messages);
        fm_free(s->items[i].choices);
        fm_free(s->items[i].answers);
        fm_free(s->items[i].number);
        json_decref(s->items[i].j);
    }
    fm_free(s->items);
    *s = (struct fm_eval_set){0};
}
