/* Prompts of an evaluation.
 *
 *   plain    Question: …\nAnswer: …\n\n   per example, then   Question: …\nAnswer:      literal prompts stand alone
 *   chat     user …, assistant …          per example, then   user …
 *
 * An answer follows a plain prompt behind one blank, which belongs to the answer: so tokenizers want it. */
#include <string.h>

#include "base/mem.h"
#include "run/evaluate.h"

static void add_prompt(struct fm_buf *b, const struct fm_eval_item *it)
{
    if (it->question)
        fm_buf_printf(b, "Question: %s\nAnswer:", it->text.data);
    else
        fm_buf_str(b, it->text.data ? it->text.data : "");
}

static const struct fm_eval_item *example(const struct fm_eval *v, int k)
{
    return &(v->examples.n ? &v->examples : &v->set)->items[v->shots[k]];
}

/* The k-th example for an item, which is never one of its own; k counts to o.shots. */
static const struct fm_eval_item *next_example(const struct fm_eval *v, int item, int *at)
{
    while (*at < v->n_shots) {
        const int k = (*at)++;
        if (v->examples.n || v->shots[k] != item) return example(v, k);
    }
    return NULL;
}

enum fm_status fm_eval_plain(struct fm_eval *v, int item, struct fm_error *err)
{
    const struct fm_tokenizer *t = v->e->tok;
    const struct fm_eval_item *x;
    fm_buf_clear(&v->text);
    for (int k = 0, at = 0; k < v->o.shots && (x = next_example(v, item, &at)); k++) {
        add_prompt(&v->text, x);
        fm_buf_printf(&v->text, " %s\n\n", x->solution);
    }
    add_prompt(&v->text, &v->set.items[item]);
    if (v->text.failed) return fm_fail_memory(err, "a prompt", v->text.len);
    while (v->text.len && v->text.data[v->text.len - 1] == ' ') v->text.data[--v->text.len] = 0;
    v->ids.n = 0;
    return fm_tokenizer_encode(t, v->text.data ? v->text.data : "", v->text.len,
                               fm_tokenizer_add_bos(t) ? FM_ENCODE_BOS : 0, &v->ids, err);
}

/* The messages that ask for it; its text as one of the user when it has none of its own. */
static int add_messages(struct fm_chat_message *m, const struct fm_eval_item *it)
{
    if (it->n_messages) {
        memcpy(m, it->messages, (size_t)it->n_messages * sizeof *m);
        return it->n_messages;
    }
    *m = (struct fm_chat_message){.role = "user", .text = it->text.data ? it->text.data : "", .n = it->text.len};
    return 1;
}

enum fm_status fm_eval_chat(struct fm_eval *v, int item, struct fm_error *err)
{
    static const struct fm_chat_options options = {.generate = true};
    const struct fm_eval_item *x, *it = &v->set.items[item];
    size_t n = 0, most = (size_t)(it->n_messages ? it->n_messages : 1);
    for (int k = 0, at = 0; k < v->o.shots && (x = next_example(v, item, &at)); k++)
        most += (size_t)(x->n_messages ? x->n_messages : 1) + 1;
    struct fm_chat_message *m = fm_malloc(most * sizeof *m);
    if (!m) return fm_fail_memory(err, "messages", most * sizeof *m);
    for (int k = 0, at = 0; k < v->o.shots && (x = next_example(v, item, &at)); k++) {
        n += (size_t)add_messages(m + n, x);
        m[n++] = (struct fm_chat_message){.role = "assistant", .text = x->solution, .n = strlen(x->solution)};
    }
    n += (size_t)add_messages(m + n, it);
    v->ids.n = 0;
    const enum fm_status st = fm_chat_encode(v->chat, v->e->tok, m, n, &options, &v->ids, err);
    fm_free(m);
    return st;
}
