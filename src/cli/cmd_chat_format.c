/* fathom chat-encode: messages to the prompt that a family was trained on.  fathom chat-decode: an answer to a message. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "cli/input.h"
#include "cli/setup.h"
#include "cli/term.h"

struct job {
    struct fm_setup setup;
    const char *format;
    bool ids, thinking;
};

#define AT(field) offsetof(struct job, field)

static const struct fm_opt format_row[] = {
    {0, "format", FM_OPT_TEXT, AT(format), 0, 0, "NAME", "chat format; help lists them"},
    {0},
};
static const struct fm_opt encode_rows[] = {
    {0, "thinking", FM_OPT_FLAG, AT(thinking), 0, 0, NULL, "as if the messages said \"thinking\": true"},
    {0, "ids", FM_OPT_FLAG, AT(ids), 0, 0, NULL, "token ids instead of text; needs -m"},
    {'m', "model", FM_OPT_TEXT, AT(setup.engine.model), 0, 0, "FILE", "whose tokenizer makes the ids"},
    {0},
};
static const struct fm_opt decode_rows[] = {
    {0, "thinking", FM_OPT_FLAG, AT(thinking), 0, 0, NULL, "the prompt ended inside an opened think block"},
    {0},
};

void fm_list_chat_formats(void)
{
    const char *name;
    for (int i = 0; (name = fm_chat_format_at(i)); i++) {
        fm_out(name, strlen(name));
        fm_out("\n", 1);
    }
}

bool fm_note_unknown_chat(const struct fm_model_info *info, const char *chosen)
{
    if (chosen || !info->chat_unknown) return false;
    fm_note("%s: its chat template is of no format that is known here: the text is continued as it stands.",
            info->name);
    fm_note("hint: choose a format with --chat-format NAME; --chat-format help lists them");
    return true;
}

/* Parse the options; *go: there is something to do. */
static enum fm_status begin(struct fm_cli *cli, struct job *j, const struct fm_opt *rows, bool *go,
                            struct fm_error *err)
{
    const struct fm_opt_set sets[] = {{format_row, j}, {rows, j}, {fm_log_rows, &j->setup}, {0}};
    struct fm_words words;
    *go = false;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&j->setup, err));
    FM_TRY(fm_words_expect(cli, &words, 0, 0, "", err));
    if (!j->format) {
        (void)fm_fail(err, FM_ERR_USAGE, "read options: --format: it is missing");
        fm_hint(err, "--format help lists the names");
        return FM_ERR_USAGE;
    }
    if (!strcmp(j->format, "help")) {
        fm_list_chat_formats();
        return FM_OK;
    }
    const char *names[64] = {NULL}, *near;
    for (int i = 0; i < 63 && (names[i] = fm_chat_format_at(i)); i++)
        if (!strcmp(names[i], j->format)) *go = true;
    if (*go) return FM_OK;
    (void)fm_fail(err, FM_ERR_USAGE, "read options: --format: '%.40s' is not known", j->format);
    if ((near = fm_nearest(j->format, names)))
        fm_hint(err, "did you mean %s?", near);
    else
        fm_hint(err, "--format help lists the names");
    return FM_ERR_USAGE;
}

/* ---- chat-encode ----------------------------------------------------------------------------------------------- */

static enum fm_status print_text(const struct job *j, const struct fm_buf *in, struct fm_error *err)
{
    char *text;
    size_t n;
    FM_TRY(fm_chat_format_encode(j->format, in->data ? in->data : "", in->len, j->thinking, &text, &n, err));
    fm_out(text, n);
    fm_text_free(text);
    return FM_OK;
}

static enum fm_status print_ids(const struct job *j, const struct fm_buf *in, struct fm_error *err)
{
    struct fm_tokenizer *t = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    char number[16];
    FM_TRY(fm_text_open(j->setup.engine.model, NULL, &t, err));
    enum fm_status st =
        fm_chat_format_encode_ids(j->format, t, in->data ? in->data : "", in->len, j->thinking, &ids, &n, err);
    for (size_t i = 0; !st && i < n; i++)
        fm_out(number, (size_t)snprintf(number, sizeof number, i ? " %" PRId32 : "%" PRId32, ids[i]));
    if (!st) fm_out("\n", 1);
    fm_text_free(ids);
    fm_text_close(t);
    return st;
}

enum fm_status fm_cmd_chat_encode(struct fm_cli *cli, struct fm_error *err)
{
    struct job j = {0};
    struct fm_buf in = {0};
    bool go;
    FM_TRY(begin(cli, &j, encode_rows, &go, err));
    if (!go) return FM_OK;
    if (j.setup.engine.model && !j.ids) return fm_fail(err, FM_ERR_USAGE, "read options: --model: it belongs to --ids");
    if (j.ids) FM_TRY(fm_setup_model(&j.setup, err));
    enum fm_status st = fm_stdin_read(&in, err);
    if (!st) st = j.ids ? print_ids(&j, &in, err) : print_text(&j, &in, err);
    fm_buf_release(&in);
    return st;
}

/* ---- chat-decode ----------------------------------------------------------------------------------------------- */

static enum fm_status decode(const struct job *j, const struct fm_buf *in, struct fm_error *err)
{
    struct fm_chat_parser *p = NULL;
    char *message = NULL;
    const char *warning = NULL;
    size_t n = 0;
    FM_TRY(fm_chat_parser_new(j->format, j->thinking, NULL, NULL, &p, err));
    if (in->len) fm_chat_parser_push(p, in->data, in->len);
    enum fm_status st = fm_chat_parser_end(p, &message, &n, &warning, err);
    if (!st && warning) fprintf(stderr, "warning: %s\n", warning);
    if (!st) fm_out(message, n);
    if (!st) fm_out("\n", 1);
    fm_text_free(message);
    fm_chat_parser_free(p);
    return st;
}

enum fm_status fm_cmd_chat_decode(struct fm_cli *cli, struct fm_error *err)
{
    struct job j = {0};
    struct fm_buf in = {0};
    bool go;
    FM_TRY(begin(cli, &j, decode_rows, &go, err));
    if (!go) return FM_OK;
    enum fm_status st = fm_stdin_read(&in, err);
    if (!st) st = decode(&j, &in, err);
    fm_buf_release(&in);
    return st;
}
