/* See setup.h. */
#include "cli/setup.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/status.h"
#include "base/str.h"
#include "cli/pulling.h"
#include "cli/term.h"

#define AT(field) offsetof(struct fm_setup, field)

const struct fm_opt fm_model_row[] = {
    {'m', "model", FM_OPT_TEXT, AT(engine.model), 0, 0, "MODEL",
     "GGUF file, model folder, or a name as pull takes it (default: the shipped model)"},
    {0},
};

const struct fm_opt fm_engine_rows[] = {
    {'t', "threads", FM_OPT_INT, AT(engine.threads), 1, 1024, "N", "compute threads (default: one per core)"},
    {0, "pin", FM_OPT_TEXT, AT(engine.pin), 0, 0, "HOW",
     "keep threads on their processors: auto (on those of their memory node), on or off (default: auto)"},
    {'c', "ctx", FM_OPT_INT, AT(engine.ctx), 1, 1 << 24, "N", "longest context (default: the model's, at most 4096)"},
    {0, "kv-type", FM_OPT_TEXT, AT(engine.kv_type), 0, 0, "TYPE",
     "what the KV cache keeps: f32, bf16 or q8_0 (default: q8_0; f32 with --exact)"},
    {0, "pack", FM_OPT_TEXT, AT(engine.pack), 0, 0, "HOW",
     "copy weights into the layout that is read fastest: auto (if memory suffices), on or off (default: auto)"},
    {0, "exact", FM_OPT_FLAG, AT(engine.exact), 0, 0, NULL, "float32 arithmetic in a fixed order: the referee"},
    {0, "deterministic", FM_OPT_FLAG, AT(engine.deterministic), 0, 0, NULL,
     "fast, but the same bits whatever came before"},
    {0, "mem", FM_OPT_FLAG, AT(mem), 0, 0, NULL, "print the memory plan before loading"},
    {0},
};

const struct fm_opt fm_log_rows[] = {
    {'q', "quiet", FM_OPT_FLAG, AT(quiet), 0, 0, NULL, "no notes and no progress"},
    {0, "log-level", FM_OPT_TEXT, AT(log_level), 0, 0, "LEVEL", "error, warn, info or debug (default: warn)"},
    {0},
};

const struct fm_opt fm_json_row[] = {
    {0, "json", FM_OPT_FLAG, AT(json), 0, 0, NULL, "the result as one JSON object"},
    {0},
};

const struct fm_opt fm_draft_rows[] = {
    {0, "draft", FM_OPT_TEXT, AT(draft), 0, 0, "HOW", "guess tokens ahead: off, auto, lookup or mtp (default: off)"},
    {0, "draft-max", FM_OPT_INT, AT(engine.draft_max), 1, 16, "N", "tokens guessed for one step (default: 4)"},
    {0},
};

/* ---- streams --------------------------------------------------------------------------------------------------- */

static void print_log(void *arg, enum fm_log_level level, const char *message)
{
    static const char *const name[] = {"error", "warning", "info", "debug"};
    (void)arg;
    fprintf(stderr, "%s: %s\n", name[level], message);
}

enum fm_status fm_setup_streams(const struct fm_setup *s, struct fm_error *err)
{
    static const char *const levels[] = {"error", "warn", "info", "debug", NULL};
    int level = FM_LOG_WARN;
    if (s->log_level) {
        for (level = 0; levels[level] && strcmp(levels[level], s->log_level) != 0;) level++;
        if (!levels[level])
            return fm_fail(err, FM_ERR_USAGE, "read options: --log-level: '%.40s' is none of error, warn, info, debug",
                           s->log_level);
    }
    fm_log_set(print_log, NULL, (enum fm_log_level)level);
    fm_term_quiet(s->quiet);
    return FM_OK;
}

/* ---- model ----------------------------------------------------------------------------------------------------- */

bool fm_is_model_path(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) return false;
    size_t n = strlen(path);
    if (S_ISREG(st.st_mode)) return n > 5 && strcmp(path + n - 5, ".gguf") == 0;
    char config[PATH_MAX];
    int len = snprintf(config, sizeof config, "%s/config.json", path);
    return len > 0 && (size_t)len < sizeof config && access(config, F_OK) == 0;
}

/* The shipped model's path in a static buffer, NULL when it is not there. */
static const char *shipped_model(void)
{
    static const char *const places[] = {"../models", "../../models", "../share/fathom/models", NULL};
    static char path[PATH_MAX];
    char exe[PATH_MAX], candidate[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0) return NULL;
    exe[n] = 0;
    *strrchr(exe, '/') = 0;
    for (const char *const *p = places; *p; p++) {
        int len = snprintf(candidate, sizeof candidate, "%s/%s/default.gguf", exe, *p);
        if (len > 0 && (size_t)len < sizeof candidate && realpath(candidate, path)) return path;
    }
    return NULL;
}

enum fm_status fm_setup_model(struct fm_setup *s, struct fm_error *err)
{
    if (!s->engine.model) s->engine.model = shipped_model();
    if (s->engine.model && *s->engine.model) return fm_model_locate(&s->engine.model, err);
    if (s->engine.model) return fm_fail(err, FM_ERR_USAGE, "read options: --model: the name is empty");
    fm_fail(err, FM_ERR_INPUT, "find the shipped model: models/default.gguf: no such file beside the program");
    fm_hint(err, "name a model: -m FILE.gguf or -m FOLDER");
    return FM_ERR_INPUT;
}

enum fm_status fm_setup_model_word(struct fm_setup *s, struct fm_words *w, struct fm_error *err)
{
    if (!s->engine.model && w->n > 0) {
        s->engine.model = *w->v++;
        w->n--;
    }
    return fm_setup_model(s, err);
}

static enum fm_status plan_logits(const struct fm_setup *s, struct fm_plan *plan, struct fm_error *err)
{
    struct fm_model_info *info;
    if (!s->positions) return FM_OK;
    FM_TRY(fm_model_inspect(s->engine.model, &info, err));
    fm_plan_item(plan, "logits of all positions", s->positions * (uint64_t)info->vocab * sizeof(float), false);
    fm_model_info_free(info);
    return FM_OK;
}

enum fm_status fm_setup_plan(const struct fm_setup *s, struct fm_error *err)
{
    struct fm_plan plan = {.stream = stderr};
    if (!s->mem) return FM_OK;
    FM_TRY(fm_memory_plan(&s->engine, fm_plan_item, &plan, err));
    FM_TRY(plan_logits(s, &plan, err));
    fm_plan_total(&plan);
    return FM_OK;
}

enum fm_status fm_setup_open(const struct fm_setup *s, struct fm_engine **out, struct fm_error *err)
{
    FM_TRY(fm_setup_plan(s, err));
    return fm_engine_open(&s->engine, out, err);
}

/* ---- memory plan ----------------------------------------------------------------------------------------------- */

static void plan_row(FILE *f, const char *item, uint64_t bytes, const char *remark)
{
    char text[16];
    fprintf(f, "%-32s %16llu  %8s%s%s\n", item, (unsigned long long)bytes, fm_bytes_text(bytes, text),
            *remark ? "  " : "", remark);
}

void fm_plan_item(void *arg, const char *item, uint64_t bytes, bool file_backed)
{
    struct fm_plan *p = arg;
    *(file_backed ? &p->mapped : &p->memory) += bytes;
    plan_row(p->stream, item, bytes, file_backed ? "mapped from the file" : "");
}

void fm_plan_total(const struct fm_plan *p)
{
    plan_row(p->stream, "memory", p->memory, "");
    if (p->mapped) plan_row(p->stream, "mapped, may be dropped", p->mapped, "");
}

/* ---- answers --------------------------------------------------------------------------------------------------- */

#define OF(field) offsetof(struct fm_answer_setup, field)

const struct fm_opt fm_sampling_rows[] = {
    {0, "temp", FM_OPT_FLOAT, OF(gen.sampling.temp), 0, 100, "T", "temperature, 0 is greedy (default: 0.7)"},
    {0, "top-k", FM_OPT_INT, OF(gen.sampling.top_k), 0, INT_MAX, "K",
     "only the K likeliest tokens, 0: all (default: 40)"},
    {0, "top-p", FM_OPT_FLOAT, OF(gen.sampling.top_p), 0, 1, "P",
     "only the likeliest with sum P, 1: all (default: 0.95)"},
    {0, "min-p", FM_OPT_FLOAT, OF(gen.sampling.min_p), 0, 1, "P", "none below P times the likeliest (default: 0)"},
    {0, "repeat", FM_OPT_FLOAT, OF(gen.sampling.repeat), 0.01, 100, "R",
     "penalty of repeated tokens (default: 1, off)"},
    {'s', "seed", FM_OPT_UINT64, OF(gen.sampling.seed), 0, 0x1p64, "N", "of the random numbers (default: 0)"},
    {'n', "max-tokens", FM_OPT_INT, OF(gen.max_tokens), -1, INT_MAX, "N",
     "at most N tokens (default: -1, all that fit)"},
    {0},
};

const struct fm_opt fm_stop_row[] = {
    {0, "stop", FM_OPT_LIST, OF(stop), 0, 0, "TEXT", "ends the answer, is no part of it; may be repeated"},
    {0},
};

const struct fm_opt fm_constraint_rows[] = {
    {0, "grammar", FM_OPT_TEXT, OF(grammar), 0, 0, "FILE", "answers are texts of this grammar (GBNF)"},
    {0, "json-schema", FM_OPT_TEXT, OF(schema), 0, 0, "FILE", "answers are JSON that satisfies this schema"},
    {0},
};

enum fm_status fm_answer_bind(struct fm_answer_setup *a, struct fm_engine *e, struct fm_error *err)
{
    enum { FILE_MAX = 1 << 20 };
    const char *path = a->grammar ? a->grammar : a->schema;
    struct fm_buf text = {0};
    if (!path) return FM_OK;
    if (a->grammar && a->schema)
        return fm_fail(err, FM_ERR_USAGE, "read options: --grammar, --json-schema: only one of them binds an answer");
    enum fm_status st = fm_buf_read_file(&text, path, FILE_MAX, err);
    const struct fm_constraint_options o = {.kind = a->grammar ? FM_CONSTRAINT_GBNF : FM_CONSTRAINT_SCHEMA,
                                            .text = text.data ? text.data : "",
                                            .n = text.len,
                                            .what = path};
    if (!st) st = fm_constraint_new(e, &o, &a->bound, err);
    a->gen.constraint = a->bound;
    fm_buf_release(&text);
    return st;
}

void fm_answer_release(struct fm_answer_setup *a)
{
    fm_constraint_free(a->bound);
    a->gen.constraint = a->bound = NULL;
}

void fm_answer_default(struct fm_answer_setup *a)
{
    *a = (struct fm_answer_setup){.gen = {.sampling = fm_sampling_default(), .max_tokens = -1}};
}

void fm_answer_ready(struct fm_answer_setup *a)
{
    a->gen.stop = a->stop.v;
    a->gen.n_stop = a->stop.n;
}

enum fm_status fm_setup_draft(struct fm_setup *s, struct fm_answer_setup *a, struct fm_error *err)
{
    int d = FM_DRAFT_OFF;
    if (s->draft)
        while (fm_draft_name((enum fm_draft)d) && strcmp(fm_draft_name((enum fm_draft)d), s->draft) != 0) d++;
    if (!fm_draft_name((enum fm_draft)d))
        return fm_fail(err, FM_ERR_USAGE, "read options: --draft: '%.40s' is none of off, auto, lookup, mtp", s->draft);
    s->engine.draft = (enum fm_draft)d;
    if (a) a->gen.draft = s->engine.draft;
    return FM_OK;
}

void fm_answer_report(const struct fm_generation_stats *s)
{
    double rate = s->answer_seconds > 0 ? s->answer_tokens / s->answer_seconds : 0;
    double read = s->prompt_seconds > 0 ? (s->prompt_tokens - s->cached_tokens) / s->prompt_seconds : 0;
    fprintf(stderr,
            "prompt %d tokens, %d of them cached, %.2f s (%.1f tokens/s); answer %d tokens, %.2f s (%.1f tokens/s)",
            s->prompt_tokens, s->cached_tokens, s->prompt_seconds, read, s->answer_tokens, s->answer_seconds, rate);
    if (s->drafted)
        fprintf(stderr, "; drafted %d, accepted %d, %.2f tokens/step", s->drafted, s->accepted,
                s->steps ? (double)(s->steps + s->accepted) / s->steps : 0);
    fputc('\n', stderr);
}
