/* What the masks of bound answers cost, beside the decode step they stand in.
 *
 *   bench_mask MODEL [--threads N] [--tokens N] [--answers N]
 *
 * Of each form N answers of at most N tokens, sampled at temperature 1 behind a short prompt, each with a matcher of its own,
 * as a request has.  A line a form: the time of a mask and of its token (mean, the first of an answer, the slowest), of the
 * sampling among what it allows, of the model's step; and the mask's share of the step.  The line "free" has no form. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "run/constraint.h"
#include "run/run.h"

#define TEXTS \
    "{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\"}},\"required\":[\"text\"],\"additionalProperties\":false}"
#define PEOPLE                                                                                                         \
    "{\"type\":\"array\",\"minItems\":3,\"items\":{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"," \
    "\"maxLength\":40},\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":130},\"role\":{\"enum\":[\"king\","     \
    "\"queen\",\"fool\"]},\"born\":{\"type\":\"string\",\"format\":\"date\"}},\"required\":[\"name\",\"age\","         \
    "\"role\",\"born\"],\"additionalProperties\":false}}"
#define TREE                                                                                                         \
    "{\"$ref\":\"#/$defs/n\",\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"value\":{\"type\":\"number\"}," \
    "\"children\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/n\"}}},\"required\":[\"value\",\"children\"],"   \
    "\"additionalProperties\":false}}}"
#define CODES "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"pattern\":\"^[A-Z]{2}-[0-9]{4}(-[a-z]+)?$\"}}"
#define OPEN \
    "{\"type\":\"object\",\"properties\":{\"id\":{\"type\":\"integer\"}},\"required\":[\"id\"],\"additionalProperties\":true}"
#define PROSE "root ::= (line \"\\n\")+\nline ::= [A-Z] [a-z ,;']* [.!?]"
#define TOOLS                                                                                                        \
    "{\"messages\":[],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"send\",\"strict\":true,"            \
    "\"parameters\":{\"type\":\"object\",\"properties\":{\"to\":{\"enum\":[\"king\",\"queen\"]},\"text\":{\"type\":" \
    "\"string\"}},\"required\":[\"to\",\"text\"],\"additionalProperties\":false}}},{\"type\":\"function\","          \
    "\"function\":{\"name\":\"stop\",\"parameters\":{\"type\":\"object\"}}}]}"

static const struct form {
    const char *name;
    enum fm_constraint_kind kind;
    const char *text;
    enum fm_tool_choice tools;
    const char *format;
} forms[] = {
    {"free", FM_CONSTRAINT_NONE, NULL, FM_TOOLS_NONE, NULL},
    {"JSON", FM_CONSTRAINT_JSON, "", FM_TOOLS_NONE, NULL},
    {"schema: a text", FM_CONSTRAINT_SCHEMA, TEXTS, FM_TOOLS_NONE, NULL},
    {"schema: records", FM_CONSTRAINT_SCHEMA, PEOPLE, FM_TOOLS_NONE, NULL},
    {"schema: a tree", FM_CONSTRAINT_SCHEMA, TREE, FM_TOOLS_NONE, NULL},
    {"schema: patterns", FM_CONSTRAINT_SCHEMA, CODES, FM_TOOLS_NONE, NULL},
    {"schema: open", FM_CONSTRAINT_SCHEMA, OPEN, FM_TOOLS_NONE, NULL},
    {"GBNF: any text", FM_CONSTRAINT_GBNF, "root ::= [^\\x00]*", FM_TOOLS_NONE, NULL},
    {"GBNF: at most 2000", FM_CONSTRAINT_GBNF, "root ::= [^\\x00]{0,2000}", FM_TOOLS_NONE, NULL},
    {"GBNF: prose", FM_CONSTRAINT_GBNF, PROSE, FM_TOOLS_NONE, NULL},
    {"tools: required", FM_CONSTRAINT_NONE, NULL, FM_TOOLS_REQUIRED, "qwen2.5"},
    {"tools: auto, strict", FM_CONSTRAINT_NONE, NULL, FM_TOOLS_AUTO, "qwen2.5"},
    {"tools: DSML", FM_CONSTRAINT_NONE, NULL, FM_TOOLS_REQUIRED, "deepseek-v3.2"},
};

struct times {
    double build, mask, first, slowest, pick, step;
    int tokens;
};

static void die(const struct fm_error *err)
{
    (void)fprintf(stderr, "bench_mask: %s\n", err->message);
    exit(1);
}

static double since(double *t)
{
    const double now = fm_seconds(), d = now - *t;
    *t = now;
    return d;
}

static void answer(struct fm_session *s, const struct fm_constraint *c, uint64_t seed, int most, struct times *t)
{
    const struct fm_sampling how = {.temp = 1, .top_p = 1, .repeat = 1, .seed = seed};
    struct fm_follower bound;
    struct fm_sampler sampler;
    struct fm_error err;
    if (fm_sampler_init(&sampler, &how, s->e->model.cfg.V, s->work, s->seen, &err)) die(&err);
    if (fm_follow_begin(&bound, c, FM_START_ANSWER, &err)) die(&err);
    for (int i = 0; i < most; i++) {
        double at = fm_seconds();
        bool over;
        if (fm_follow_mask(&bound, &sampler.allowed, &over, &err)) die(&err);
        double mask = since(&at);
        if (over) break;
        const int32_t id = fm_sampler_pick(&sampler, s->logits, s->ids, s->length);
        t->pick += since(&at);
        const bool end = fm_engine_is_end(s->e, id);
        if (end && c) break; /* without a form it goes on */
        if (fm_follow_token(&bound, id, &err)) die(&err);
        mask += since(&at);
        if (fm_session_feed(s, &id, 1, NULL, &err)) die(&err);
        t->step += since(&at);
        t->mask += mask;
        if (!i) t->first += mask;
        if (mask > t->slowest) t->slowest = mask;
        t->tokens++;
    }
    fm_follow_end(&bound);
}

static struct times measure(struct fm_session *s, int prompt, const struct form *f, int answers, int tokens)
{
    struct times t = {0};
    struct fm_constraint *c = NULL;
    struct fm_error err;
    const struct fm_constraint_options o = {.kind = f->kind,
                                            .text = f->text,
                                            .n = f->text ? strlen(f->text) : 0,
                                            .tool_choice = f->tools,
                                            .format = f->format,
                                            .messages = TOOLS,
                                            .n_messages = sizeof TOOLS - 1};
    double at = fm_seconds();
    if (fm_constraint_new(s->e, &o, &c, &err)) die(&err);
    t.build = since(&at);
    for (int k = 0; k < answers; k++) {
        const int32_t last = s->ids[prompt - 1];
        fm_session_rewind(s, prompt - 1);
        if (fm_session_feed(s, &last, 1, NULL, &err)) die(&err);
        answer(s, c, (uint64_t)k + 1, tokens, &t);
    }
    fm_constraint_free(c);
    return t;
}

int main(int argc, char **argv)
{
    static const char text[] = "Here is what the king told the queen about the fool, in the form that was asked for:\n";
    struct fm_engine_options o = {0};
    struct fm_engine *e = NULL;
    struct fm_session *s = NULL;
    struct fm_error err;
    int32_t *ids = NULL;
    size_t n = 0;
    int tokens = 128, answers = 3;
    for (int i = 1; i < argc; i++) {
        const bool more = i + 1 < argc;
        if (!strcmp(argv[i], "--threads") && more)
            o.threads = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--tokens") && more)
            tokens = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--answers") && more)
            answers = atoi(argv[++i]);
        else
            o.model = argv[i];
    }
    if (!o.model || tokens < 1 || tokens > 1 << 20 || answers < 1) {
        (void)fprintf(stderr, "usage: bench_mask MODEL [--threads N] [--tokens N] [--answers N]\n");
        return 2;
    }
    o.ctx = tokens + 64;
    if (fm_engine_open(&o, &e, &err) || fm_session_new(e, 0, &s, &err)) die(&err);
    if (fm_text_encode(fm_engine_tokenizer(e), text, sizeof text - 1, FM_TEXT_BOS, &ids, &n, &err)) die(&err);
    if (fm_session_feed(s, ids, (int)n, NULL, &err)) die(&err);
    (void)measure(s, (int)n, &forms[1], 1, tokens); /* warm; it makes the trie of tokens, too */
    printf("%-20s %8s %8s %8s %8s %8s %8s %8s %7s   us per token, but build\n", "form", "tokens", "build ms", "mask",
           "first", "slowest", "sampling", "step", "%");
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        const struct times t = measure(s, (int)n, &forms[i], answers, tokens);
        const double per = t.tokens ? 1e6 / t.tokens : 0;
        printf("%-20s %8d %8.2f %8.1f %8.1f %8.1f %8.1f %8.1f %7.2f\n", forms[i].name, t.tokens, t.build * 1e3,
               t.mask * per, t.first * 1e6 / answers, t.slowest * 1e6, t.pick * per, t.step * per,
               t.step > 0 ? 100 * t.mask / t.step : 0);
    }
    fm_text_free(ids);
    fm_session_free(s);
    fm_engine_close(e);
    return 0;
}
