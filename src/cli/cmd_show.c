/* fathom show: what a model is, without loading it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "cli/input.h"
#include "cli/setup.h"
#include "cli/term.h"

/* One property: every row prints as a line of text or a member of the JSON object. */
struct property {
    const char *key, *label, *unit;
    enum { TEXT, COUNT, BYTES, NUMBER } kind;
    const char *text;
    double number;
    uint64_t count;
};

static int list_properties(const struct fm_model_info *i, struct property *p)
{
    int n = 0;
#define ADD_TEXT(key, label, value) p[n++] = (struct property){key, label, "", TEXT, value, 0, 0}
#define ADD_COUNT(key, label, value) \
    p[n++] = (struct property) { key, label, "", COUNT, NULL, 0, (uint64_t)(value) }
#define ADD_BYTES(key, label, value) \
    p[n++] = (struct property) { key, label, "", BYTES, NULL, 0, value }
#define ADD_NUMBER(key, label, unit, value) \
    p[n++] = (struct property) { key, label, unit, NUMBER, NULL, value, 0 }
    ADD_TEXT("name", "name", i->name);
    ADD_TEXT("path", "file", i->path);
    ADD_TEXT("family", "family", i->family);
    ADD_TEXT("format", "weights", i->format);
    ADD_TEXT("chat_format", "chat format", i->chat_format);
    if (i->chat_unknown) ADD_TEXT("chat_note", "", "its template is none that is known: --chat-format NAME");
    ADD_COUNT("params_total", "parameters", i->params_total);
    ADD_COUNT("params_active", "active per token", i->params_active);
    ADD_COUNT("n_layers", "layers", i->n_layers);
    ADD_COUNT("dim", "model width", i->dim);
    ADD_COUNT("n_heads", "heads", i->n_heads);
    ADD_COUNT("n_experts", "experts", i->n_experts);
    ADD_COUNT("n_experts_active", "active experts", i->n_experts_active);
    ADD_COUNT("n_mtp", "MTP layers", i->n_mtp);
    ADD_COUNT("vocab", "vocabulary", i->vocab);
    ADD_COUNT("ctx_train", "context", i->ctx_train);
    ADD_BYTES("file_bytes", "file size", i->file_bytes);
    ADD_BYTES("weight_bytes", "weight bytes", i->weight_bytes);
    ADD_BYTES("active_weight_bytes", "read per token", i->active_weight_bytes);
    ADD_BYTES("kv_bytes_per_token", "KV per token", i->kv_bytes_per_token);
    ADD_NUMBER("flops_per_token", "work per token", "FLOP", i->flops_per_token);
    ADD_NUMBER("flops_per_token_per_ctx", "and per cached token", "FLOP", i->flops_per_token_per_ctx);
    return n;
}

static void print_count(uint64_t n)
{
    printf("%" PRIu64, n);
    if (n >= 1000000000)
        printf(" (%.4g billion)", (double)n * 1e-9);
    else if (n >= 1000000)
        printf(" (%.4g million)", (double)n * 1e-6);
    putchar('\n');
}

static void print_line(const struct property *p)
{
    char size[16];
    printf("%-22s", p->label);
    switch (p->kind) {
    case TEXT: printf("%s\n", p->text ? p->text : "-"); break;
    case COUNT: print_count(p->count); break;
    case BYTES: printf("%" PRIu64 " (%s)\n", p->count, fm_bytes_text(p->count, size)); break;
    case NUMBER: printf("%.4g %s\n", p->number, p->unit); break;
    }
}

static void add_member(struct fm_buf *b, const struct property *p)
{
    fm_buf_printf(b, "%s\"%s\":", b->len ? "," : "{", p->key);
    if (p->kind == NUMBER)
        fm_buf_printf(b, "%.17g", p->number);
    else if (p->kind != TEXT)
        fm_buf_printf(b, "%" PRIu64, p->count);
    else if (p->text)
        fm_json_text(b, p->text, strlen(p->text));
    else
        fm_buf_str(b, "null");
}

static enum fm_status print_info(const struct fm_model_info *info, bool json, struct fm_error *err)
{
    struct property p[32];
    int n = list_properties(info, p);
    if (!json) {
        for (int i = 0; i < n; i++) print_line(&p[i]);
        return FM_OK;
    }
    struct fm_buf b = {0};
    for (int i = 0; i < n; i++) add_member(&b, &p[i]);
    fm_buf_str(&b, "}\n");
    bool failed = b.failed;
    if (!failed) fm_out(b.data, b.len);
    fm_buf_release(&b);
    return failed ? fm_fail_memory(err, "the model's description", 1024) : FM_OK;
}

enum fm_status fm_cmd_show(struct fm_cli *cli, struct fm_error *err)
{
    struct fm_setup s = {0};
    const struct fm_opt_set sets[] = {{fm_model_row, &s}, {fm_json_row, &s}, {fm_log_rows, &s}, {0}};
    struct fm_words words;
    struct fm_model_info *info = NULL;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&s, err));
    FM_TRY(fm_words_expect(cli, &words, 0, s.engine.model ? 0 : 1, "MODEL", err));
    FM_TRY(fm_setup_model_word(&s, &words, err));
    FM_TRY(fm_model_inspect(s.engine.model, &info, err));
    enum fm_status st = print_info(info, s.json, err);
    fm_model_info_free(info);
    return st;
}
