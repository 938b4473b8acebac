/* fathom quantize: a model in other formats, or in the other container.  The work is the library's; here are the options, the
 * progress and the summary. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "base/str.h"
#include "cli/input.h"
#include "cli/setup.h"
#include "cli/signals.h"
#include "cli/term.h"

struct job {
    struct fm_setup setup;
    struct fm_quantize_options o;
    struct fm_opt_list tensors;
    struct fm_quantize_rule rules[FM_OPT_LIST_MAX];
    char globs[FM_OPT_LIST_MAX][256];
    double shard_mb;
    struct fm_bar bar;
    struct fm_buf list; /* of the tensors, for --dry-run */
};

#define AT(field) offsetof(struct job, field)
#define IN(field) offsetof(struct job, o.field)

static const struct fm_opt quantize_rows[] = {
    {0, "type", FM_OPT_TEXT, IN(type), 0, 0, "T", "the format of the matrices, or a mixture; `help` lists them"},
    {0, "experts", FM_OPT_TEXT, IN(experts), 0, 0, "T", "format of the routed experts"},
    {0, "shared-experts", FM_OPT_TEXT, IN(shared_experts), 0, 0, "T", "format of the shared experts"},
    {0, "attention", FM_OPT_TEXT, IN(attention), 0, 0, "T", "format of attention's matrices"},
    {0, "embeddings", FM_OPT_TEXT, IN(embeddings), 0, 0, "T", "format of the token embedding"},
    {0, "output", FM_OPT_TEXT, IN(output), 0, 0, "T", "format of the output matrix"},
    {0, "tensor", FM_OPT_LIST, AT(tensors), 0, 0, "GLOB=T",
     "format of the tensors whose names match; may be repeated, the last match counts"},
    {0, "imatrix", FM_OPT_TEXT, IN(imatrix), 0, 0, "FILE", "what fathom imatrix made: errors weigh by importance"},
    {0, "without-mtp", FM_OPT_FLAG, IN(without_mtp), 0, 0, NULL, "leave multi-token-prediction blocks out"},
    {0, "shard-size", FM_OPT_DOUBLE, AT(shard_mb), 1, 1e9, "MB", "of a folder's weight files (default: 5000)"},
    {0, "dry-run", FM_OPT_FLAG, IN(dry_run), 0, 0, NULL, "list what each tensor would become, and the size"},
    {'t', "threads", FM_OPT_INT, IN(threads), 1, 1024, "N", "(default: one per core)"},
    {0},
};

static enum fm_status list_types(void)
{
    const char *name, *summary;
    for (int i = 0; fm_quantize_type(i, &name, &summary); i++) printf("%-10s %s\n", name, summary);
    return FM_OK;
}

/* ---- while it runs --------------------------------------------------------------------------------------------- */

static void show_note(void *arg, const char *text)
{
    (void)arg;
    fm_note("%s", text);
}

static void show_progress(void *arg, uint64_t done, uint64_t total)
{
    struct job *j = arg;
    j->bar.total = total;
    fm_progress_bar(&j->bar, done, "");
}

static void list_tensor(void *arg, const struct fm_quantize_tensor *t)
{
    struct job *j = arg;
    struct fm_buf *b = &j->list, shape = {0};
    fm_json_shape(&shape, t->n_dims, t->shape);
    if (j->setup.json) {
        fm_buf_str(b, b->len ? ",\n{\"name\":" : "{\"name\":");
        fm_json_text(b, t->name, strlen(t->name));
        fm_buf_printf(b,
                      ",\"shape\":%s,\"from\":\"%s\",\"to\":\"%s\",\"wish\":\"%s\",\"bytes_from\":%" PRIu64
                      ",\"bytes_to\":%" PRIu64 "}",
                      shape.failed ? "[]" : shape.data, t->from, t->to, t->wish, t->bytes_from, t->bytes_to);
    } else {
        fm_buf_printf(b, "%-44s %-20s %-8s %-8s %12" PRIu64 "%s%s\n", t->name, shape.failed ? "?" : shape.data, t->from,
                      t->to, t->bytes_to, strcmp(t->wish, t->to) ? "  for " : "",
                      strcmp(t->wish, t->to) ? t->wish : "");
    }
    fm_buf_release(&shape);
}

/* ---- afterwards ------------------------------------------------------------------------------------------------ */

static double bits_per_weight(const struct fm_quantize_result *r)
{
    return r->n_weights ? 8 * (double)r->weight_bytes / (double)r->n_weights : 0;
}

static enum fm_status print_json(struct job *j, const struct fm_quantize_result *r, struct fm_error *err)
{
    struct fm_buf b = {0};
    fm_buf_str(&b, "{\"out\":");
    fm_json_text(&b, j->o.out, strlen(j->o.out));
    fm_buf_printf(&b,
                  ",\"written\":%s,\"tensors\":%d,\"weights\":%" PRIu64 ",\"bytes_in\":%" PRIu64
                  ",\"bytes_out\":%" PRIu64 ",\"bits_per_weight\":%.4f,\"seconds\":%.3f,\"formats\":[",
                  j->o.dry_run ? "false" : "true", r->n_tensors, r->n_weights, r->bytes_in, r->bytes_out,
                  bits_per_weight(r), r->seconds);
    for (int i = 0; i < r->n_formats; i++)
        fm_buf_printf(&b, "%s{\"format\":\"%s\",\"tensors\":%d,\"weights\":%" PRIu64 ",\"bytes\":%" PRIu64 "}",
                      i ? "," : "", r->formats[i].name, r->formats[i].tensors, r->formats[i].weights,
                      r->formats[i].bytes);
    fm_buf_char(&b, ']');
    if (j->o.dry_run) {
        fm_buf_str(&b, ",\"list\":[");
        if (j->list.len) fm_buf_add(&b, j->list.data, j->list.len);
        fm_buf_char(&b, ']');
    }
    fm_buf_str(&b, "}\n");
    enum fm_status st = b.failed ? fm_fail_memory(err, "the summary", b.len) : FM_OK;
    if (!st) fm_out(b.data, b.len);
    fm_buf_release(&b);
    return st;
}

/* "77 Q8_0, 44 F32: 12.1 MB, 8.51 bits per weight" */
static void add_summary(struct fm_buf *b, const struct fm_quantize_result *r)
{
    char bytes[16];
    for (int i = 0; i < r->n_formats; i++)
        fm_buf_printf(b, "%s%d %s", i ? ", " : "", r->formats[i].tensors, r->formats[i].name);
    fm_buf_printf(b, ": %s, %.2f bits per weight", fm_bytes_text(r->bytes_out, bytes), bits_per_weight(r));
}

static enum fm_status print_result(struct job *j, const struct fm_quantize_result *r, struct fm_error *err)
{
    struct fm_buf b = {0};
    char time[24], rate[16];
    if (j->setup.json) return print_json(j, r, err);
    add_summary(&b, r);
    enum fm_status st = b.failed || j->list.failed ? fm_fail_memory(err, "the summary", b.len) : FM_OK;
    if (!st && j->o.dry_run) {
        fm_out(j->list.data, j->list.len);
        fm_out(b.data, b.len);
        fm_out("\n", 1);
    } else if (!st) {
        fm_note("wrote %s: %s, in %s (%s/s)", j->o.out, b.data, fm_time_text(r->seconds, time),
                fm_bytes_text(r->seconds > 0 ? (uint64_t)((double)r->bytes_in / r->seconds) : 0, rate));
    }
    fm_buf_release(&b);
    return st;
}

/* ---- options --------------------------------------------------------------------------------------------------- */

static enum fm_status read_rules(struct job *j, struct fm_error *err)
{
    for (int i = 0; i < j->tensors.n; i++) {
        const char *text = j->tensors.v[i], *equals = strrchr(text, '=');
        if (!equals || equals == text || !equals[1] || equals - text >= (int)sizeof j->globs[i])
            return fm_fail(err, FM_ERR_USAGE, "read options: --tensor: '%.60s' is not GLOB=T", text);
        memcpy(j->globs[i], text, (size_t)(equals - text));
        j->rules[i] = (struct fm_quantize_rule){.glob = j->globs[i], .type = equals + 1};
    }
    j->o.rules = j->rules;
    j->o.n_rules = j->tensors.n;
    return FM_OK;
}

static enum fm_status convert(struct job *j, struct fm_error *err)
{
    struct fm_quantize_result r = {0};
    fm_signals_init();
    j->o.stop = fm_signals_flag();
    j->o.on_note = show_note;
    j->o.on_tensor = j->o.dry_run ? list_tensor : NULL;
    j->o.on_progress = show_progress;
    j->o.arg = j;
    j->bar = (struct fm_bar){.what = "quantize", .unit = "B", .start = fm_clock()};
    enum fm_status st = fm_quantize(&j->o, &r, err);
    fm_progress_end();
    if (!st) st = print_result(j, &r, err);
    fm_buf_release(&j->list);
    return st;
}

enum fm_status fm_cmd_quantize(struct fm_cli *cli, struct fm_error *err)
{
    struct job j = {0};
    const struct fm_opt_set sets[] = {{quantize_rows, &j}, {fm_json_row, &j.setup}, {fm_log_rows, &j.setup}, {0}};
    struct fm_words words;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&j.setup, err));
    if (j.o.type && !strcmp(j.o.type, "help")) return list_types();
    FM_TRY(fm_words_expect(cli, &words, 2, 2, words.n ? "OUT" : "IN", err));
    if (!j.o.type) {
        (void)fm_fail(err, FM_ERR_USAGE, "read options: --type: is needed");
        fm_hint(err, "fathom quantize --type help lists the types");
        return FM_ERR_USAGE;
    }
    FM_TRY(read_rules(&j, err));
    j.o.in = words.v[0];
    j.o.out = words.v[1];
    j.o.shard_bytes = (uint64_t)(j.shard_mb * 1e6);
    return convert(&j, err);
}
