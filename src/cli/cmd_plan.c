/* fathom plan: what a model needs, whether it fits, how fast it will be.  Nothing is loaded, and the weights need not be here. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "base/str.h"
#include "cli/input.h"
#include "cli/machine.h"
#include "cli/setup.h"
#include "cli/term.h"

struct plan_options {
    struct fm_setup setup;
    const char *type;
    bool measure, check;
};

static const struct fm_opt rows[] = {
    {0, "type", FM_OPT_TEXT, offsetof(struct plan_options, type), 0, 0, "TYPE",
     "as if the weights were of this format, such as Q4_K"},
    {0, "measure", FM_OPT_FLAG, offsetof(struct plan_options, measure), 0, 0, NULL,
     "measure this machine anew, what the model needs only"},
    {0, "check", FM_OPT_FLAG, offsetof(struct plan_options, check), 0, 0, NULL,
     "exit code 4 when the model does not fit"},
    {0},
};

/* A forecast on this machine: tokens per second of one question each. */
struct speeds {
    bool decode;
    int n;
    struct fm_speed s;
    double rate;
};
enum { N_SPEEDS = 4 };

struct answer {
    const struct fm_forecast *f;
    const struct fm_machine *m;
    uint64_t needs, has;
    struct speeds speed[N_SPEEDS];
    int n_speeds;
};

static bool fits(const struct answer *a) { return !a->has || a->needs <= a->has; }

/* ---- speeds ---------------------------------------------------------------------------------------------------- */

static void ask(struct answer *a, bool decode, int n)
{
    struct speeds *s = &a->speed[a->n_speeds++];
    *s = (struct speeds){.decode = decode, .n = n};
    if (decode)
        fm_forecast_decode(a->f, a->m, n, &s->s);
    else
        fm_forecast_prefill(a->f, a->m, n, &s->s);
    s->rate = s->s.seconds > 0 ? (decode ? 1 : n) / s->s.seconds : 0;
}

static void ask_all(struct answer *a)
{
    const int full = a->f->ctx, part = full < 512 ? full : 512;
    if (!a->m->n_formats) return;
    ask(a, false, part);
    if (full > part) ask(a, false, full);
    ask(a, true, 0);
    ask(a, true, full);
}

/* ---- text ------------------------------------------------------------------------------------------------------ */

static void print_memory(const struct answer *a)
{
    struct fm_plan plan = {.stream = stdout};
    char needs[16], has[16];
    for (int i = 0; i < a->f->n_memory; i++)
        fm_plan_item(&plan, a->f->memory[i].item, a->f->memory[i].bytes, a->f->memory[i].file_backed);
    fm_plan_total(&plan);
    printf("%-32s %16" PRIu64 "  %8s\n", "KV cache per token", a->f->kv_bytes_per_token,
           fm_bytes_text(a->f->kv_bytes_per_token, needs));
    fm_bytes_text(a->needs, needs);
    fm_bytes_text(a->has, has);
    if (!a->has)
        printf("needs %s for a context of %d tokens\n", needs, a->f->ctx);
    else if (fits(a))
        printf("fits: needs %s for a context of %d tokens, has %s\n", needs, a->f->ctx, has);
    else
        printf("does not fit: needs %s for a context of %d tokens, has %s\n", needs, a->f->ctx, has);
    if (!fits(a) && a->f->other_bytes < a->has) printf("it would run, reading weights from the disk again and again\n");
}

static void print_weights(const struct fm_forecast *f)
{
    char bytes[16], active[16], name[64];
    printf("\n%-24s %-8s %10s %12s\n", "weights", "format", "bytes", "read/token");
    for (int i = 0; i < f->n_weights; i++) {
        const struct fm_weight_row *r = &f->weights[i];
        snprintf(name, sizeof name, "%s", r->part);
        printf("%-24s %-8s %10s %12s\n", name, r->format, fm_bytes_text(r->bytes, bytes),
               fm_bytes_text((unsigned long long)r->decode_bytes, active));
    }
    printf("%s: %.4g billion parameters, %.4g billion of them for a token%s%s\n", f->family,
           (double)f->params_total * 1e-9, (double)f->params_active * 1e-9, f->type ? ", as it would be in " : "",
           f->type ? f->type : "");
}

static void print_term(const struct fm_speed_row *r)
{
    char amount[24], rate[32], b[16];
    if (!strcmp(r->unit, "B")) {
        snprintf(amount, sizeof amount, "%s", fm_bytes_text((unsigned long long)r->amount, b));
        snprintf(rate, sizeof rate, "%.3g GB/s", r->rate * 1e-9);
    } else if (!strcmp(r->unit, "MAC")) {
        snprintf(amount, sizeof amount, "%.3g GMAC", r->amount * 1e-9);
        snprintf(rate, sizeof rate, "%.3g GMAC/s", r->rate * 1e-9);
    } else {
        snprintf(amount, sizeof amount, "%.0f %s", r->amount, r->unit);
        snprintf(rate, sizeof rate, "%.3g M/s", r->rate * 1e-6);
    }
    printf("  %-20s %14s / %-14s = %10.2f ms%s\n", r->what, amount, rate, r->seconds * 1e3,
           r->guessed ? "  (rate of the nearest format)" : "");
}

static void print_speed(const struct speeds *s)
{
    if (s->decode)
        printf("\none token after %d\n", s->n);
    else
        printf("\na prompt of %d tokens\n", s->n);
    for (int i = 0; i < s->s.n_rows; i++) print_term(&s->s.rows[i]);
    printf("  %-20s %14s   %-14s = %10.2f ms = %.1f tokens/s\n", "together", "", "", s->s.seconds * 1e3, s->rate);
}

static void print_summary(const struct answer *a)
{
    for (int i = 0; i < a->n_speeds; i++) {
        const struct speeds *s = &a->speed[i];
        printf(s->decode ? "%s: %.1f tokens/s after %d\n" : "%s: %.1f tokens/s for %d\n",
               s->decode ? "decode" : "prefill", s->rate, s->n);
    }
}

static void print_text(const struct answer *a)
{
    print_memory(a);
    print_weights(a->f);
    for (int i = 0; i < a->n_speeds; i++) print_speed(&a->speed[i]);
    if (a->n_speeds) putchar('\n');
    print_summary(a);
}

/* ---- JSON ------------------------------------------------------------------------------------------------------ */

static void text_member(struct fm_buf *b, const char *key, const char *text)
{
    fm_buf_printf(b, "\"%s\":", key);
    if (text)
        fm_json_text(b, text, strlen(text));
    else
        fm_buf_str(b, "null");
    fm_buf_char(b, ',');
}

static void weights_json(struct fm_buf *b, const struct fm_forecast *f)
{
    fm_buf_str(b, "\"weights\":[");
    for (int i = 0; i < f->n_weights; i++) {
        const struct fm_weight_row *r = &f->weights[i];
        fm_buf_str(b, i ? ",{" : "{");
        text_member(b, "part", r->part);
        text_member(b, "format", r->format);
        fm_buf_printf(b, "\"bytes\":%" PRIu64 ",\"decode_bytes\":%.17g,\"decode_macs\":%.17g,\"prefill_macs\":%.17g}",
                      r->bytes, r->decode_bytes, r->decode_macs, r->prefill_macs);
    }
    fm_buf_str(b, "],\"memory\":[");
    for (int i = 0; i < f->n_memory; i++) {
        fm_buf_str(b, i ? ",{" : "{");
        text_member(b, "item", f->memory[i].item);
        fm_buf_printf(b, "\"bytes\":%" PRIu64 ",\"file_backed\":%s}", f->memory[i].bytes,
                      f->memory[i].file_backed ? "true" : "false");
    }
    fm_buf_str(b, "],");
}

static void speeds_json(struct fm_buf *b, const struct answer *a)
{
    fm_buf_str(b, "\"speed\":[");
    for (int i = 0; i < a->n_speeds; i++) {
        const struct speeds *s = &a->speed[i];
        fm_buf_printf(b, "%s{\"what\":\"%s\",\"tokens\":%d,\"tokens_per_second\":%.6g,\"seconds\":%.6g,\"terms\":[",
                      i ? "," : "", s->decode ? "decode" : "prefill", s->n, s->rate, s->s.seconds);
        for (int k = 0; k < s->s.n_rows; k++) {
            const struct fm_speed_row *r = &s->s.rows[k];
            fm_buf_str(b, k ? ",{" : "{");
            text_member(b, "what", r->what);
            text_member(b, "unit", r->unit);
            fm_buf_printf(b, "\"amount\":%.9g,\"rate\":%.6g,\"seconds\":%.6g,\"guessed\":%s}", r->amount, r->rate,
                          r->seconds, r->guessed ? "true" : "false");
        }
        fm_buf_str(b, "]}");
    }
    fm_buf_str(b, "]}\n");
}

static enum fm_status print_json(const struct answer *a, struct fm_error *err)
{
    const struct fm_forecast *f = a->f;
    struct fm_buf b = {0};
    fm_buf_char(&b, '{');
    text_member(&b, "path", f->path);
    text_member(&b, "name", f->name);
    text_member(&b, "family", f->family);
    text_member(&b, "type", f->type);
    fm_buf_printf(&b,
                  "\"params_total\":%" PRId64 ",\"params_active\":%" PRId64 ",\"ctx\":%d,\"threads\":%d,"
                  "\"kv_bytes_per_token\":%" PRIu64 ",\"weight_bytes\":%" PRIu64 ",\"other_bytes\":%" PRIu64
                  ",\"needs_bytes\":%" PRIu64 ",\"has_bytes\":%" PRIu64 ",\"fits\":%s,",
                  f->params_total, f->params_active, f->ctx, f->threads, f->kv_bytes_per_token, f->weight_bytes,
                  f->other_bytes, a->needs, a->has, fits(a) ? "true" : "false");
    weights_json(&b, f);
    speeds_json(&b, a);
    const bool failed = b.failed;
    if (!failed) fm_out(b.data, b.len);
    fm_buf_release(&b);
    return failed ? fm_fail_memory(err, "the plan", 4096) : FM_OK;
}

/* ---- the command ----------------------------------------------------------------------------------------------- */

/* The machine's figures: those that doctor kept, or measured now for the formats of the model only. */
static enum fm_status get_machine(const struct plan_options *o, const struct fm_forecast *f, struct fm_machine *m,
                                  struct fm_error *err)
{
    char path[PATH_MAX];
    const char *formats[FM_FORECAST_ROWS + 1] = {NULL};
    struct fm_machine here;
    fm_machine_facts(&here);
    here.threads = f->threads;
    if (!o->measure && fm_machine_path(path) && fm_machine_load(path, &here, m, NULL) == FM_OK) {
        m->memory_free = here.memory_free;
        return FM_OK;
    }
    for (int i = 0; i < f->n_weights; i++) formats[i] = f->weights[i].format;
    fm_note("measuring what %s needs; fathom doctor measures once and for all", f->name);
    return fm_measure_machine(
        &(struct fm_doctor_options){.threads = f->threads, .seconds = FM_MEASURE_SECONDS, .formats = formats}, m, err);
}

static enum fm_status answer(const struct plan_options *o, const struct fm_forecast *f, struct fm_error *err)
{
    struct fm_machine m;
    FM_TRY(get_machine(o, f, &m, err));
    struct answer a = {.f = f, .m = &m, .needs = f->weight_bytes + f->other_bytes, .has = m.memory_free};
    ask_all(&a);
    if (o->setup.json)
        FM_TRY(print_json(&a, err));
    else
        print_text(&a);
    if (!o->check || fits(&a)) return FM_OK;
    return fm_fail(err, FM_ERR_MEMORY, "plan a model: %.200s: needs %.2f GB, %.2f GB are available", f->path,
                   (double)a.needs * 1e-9, (double)a.has * 1e-9);
}

enum fm_status fm_cmd_plan(struct fm_cli *cli, struct fm_error *err)
{
    struct plan_options o = {0};
    struct fm_setup *s = &o.setup;
    const struct fm_opt_set sets[] = {
        {fm_model_row, s}, {rows, &o}, {fm_engine_rows, s}, {fm_draft_rows, s}, {fm_json_row, s},
        {fm_log_rows, s},  {0}};
    struct fm_words words;
    struct fm_forecast *f;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(s, err));
    FM_TRY(fm_words_expect(cli, &words, 0, s->engine.model ? 0 : 1, "MODEL", err));
    FM_TRY(fm_setup_model_word(s, &words, err));
    FM_TRY(fm_setup_draft(s, NULL, err));
    FM_TRY(fm_forecast_new(&s->engine, o.type, &f, err));
    enum fm_status st = answer(&o, f, err);
    fm_forecast_free(f);
    return st;
}
