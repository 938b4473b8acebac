/* Fill in the middle: models that learned it have marks for it in their vocabulary.
 *
 *   [BOS] begin PREFIX hole SUFFIX end ─► what belongs into the hole
 */
#include <string.h>

#include "server/ask.h"

/* begin, hole, end as published vocabularies have them, and what stands in front of a file */
static const char *const marks[][4] = {
    {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"},                 /* DeepSeek V2, V3, R1, Coder */
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_sep|>"}, /* Qwen 2.5 and later, cl100k  */
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<file_sep>"},         /* StarCoder, Granite          */
    {"<fim-prefix>", "<fim-suffix>", "<fim-middle>"},                       /* SantaCoder                  */
    {"▁<PRE>", "▁<SUF>", "▁<MID>"},                                         /* Code Llama                  */
};

/* The id that text is by itself, or −1. */
static int32_t mark_id(const struct fm_tokenizer *t, const char *text)
{
    struct fm_error err;
    int32_t *ids = NULL;
    size_t n = 0;
    if (fm_text_encode(t, text, strlen(text), FM_TEXT_SPECIAL, &ids, &n, &err)) return -1;
    const int32_t id = n == 1 ? ids[0] : -1;
    fm_text_free(ids);
    return id;
}

struct fm_fim fm_fim_find(const struct fm_tokenizer *t)
{
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        const struct fm_fim f = {mark_id(t, marks[i][0]), mark_id(t, marks[i][1]), mark_id(t, marks[i][2]),
                                 marks[i][3] ? mark_id(t, marks[i][3]) : -1};
        if (f.begin >= 0 && f.hole >= 0 && f.end >= 0) return f;
    }
    return (struct fm_fim){-1, -1, -1, -1};
}

bool fm_ask_add_first(struct fm_ask *a, const struct fm_server *s)
{
    return a->n_ids || fm_ask_add_text(a, s, (struct fm_span){"", 0}, fm_text_adds_bos(s->tok) ? FM_TEXT_BOS : 0);
}

bool fm_ask_hole(struct fm_ask *a, const struct fm_server *s, struct fm_span prefix, struct fm_span suffix)
{
    if (s->fim.begin < 0)
        return fm_fault_set(&a->fault, 400, "suffix",
                            "suffix: the vocabulary of %.100s has no marks to fill in the middle with", s->name);
    /* without FM_TEXT_SPECIAL: source that speaks of marks does not become one */
    return fm_ask_add_first(a, s) && fm_ask_add_id(a, s->fim.begin) && fm_ask_add_text(a, s, prefix, 0) &&
           fm_ask_add_id(a, s->fim.hole) && fm_ask_add_text(a, s, suffix, 0) && fm_ask_add_id(a, s->fim.end);
}
