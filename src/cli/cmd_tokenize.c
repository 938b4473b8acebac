/* fathom tokenize: bytes to token ids and back.  fathom tokenizer train: a vocabulary from texts. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "cli/input.h"
#include "cli/setup.h"
#include "cli/term.h"

/* ---- tokenize -------------------------------------------------------------------------------------------------- */

struct job {
    struct fm_setup setup;
    const char *pre;
    bool decode, no_special, bos, eos;
};

#define AT(field) offsetof(struct job, field)

static const struct fm_opt tokenize_rows[] = {
    {'m', "model", FM_OPT_TEXT, AT(setup.engine.model), 0, 0, "FILE",
     "GGUF, folder, tokenizer.json, .model or rank file (default: the shipped model)"},
    {0, "pre", FM_OPT_TEXT, AT(pre), 0, 0, "NAME", "pre-tokenizer of a rank file"},
    {0, "decode", FM_OPT_FLAG, AT(decode), 0, 0, NULL, "ids on standard input, bytes out"},
    {0, "no-special", FM_OPT_FLAG, AT(no_special), 0, 0, NULL, "added tokens in the text are plain text"},
    {0, "bos", FM_OPT_FLAG, AT(bos), 0, 0, NULL, "begin with the begin-of-text token"},
    {0, "eos", FM_OPT_FLAG, AT(eos), 0, 0, NULL, "end with the end-of-text token"},
    {0},
};

static enum fm_status encode(const struct job *j, const struct fm_tokenizer *t, const struct fm_buf *in,
                             struct fm_error *err)
{
    unsigned flags = (j->no_special ? 0 : FM_TEXT_SPECIAL) | (j->bos ? FM_TEXT_BOS : 0) | (j->eos ? FM_TEXT_EOS : 0);
    int32_t *ids = NULL;
    size_t n = 0;
    FM_TRY(fm_text_encode(t, in->data ? in->data : "", in->len, flags, &ids, &n, err));
    char number[16];
    for (size_t i = 0; i < n; i++)
        fm_out(number, (size_t)snprintf(number, sizeof number, i ? " %" PRId32 : "%" PRId32, ids[i]));
    fm_out("\n", 1);
    fm_text_free(ids);
    return FM_OK;
}

static enum fm_status check_ids(const struct fm_tokenizer *t, const int32_t *ids, size_t n, struct fm_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= fm_text_vocab(t))
            return fm_fail(err, FM_ERR_INPUT,
                           "read token ids: standard input, entry %zu: %" PRId32 " is not below %" PRId32, i + 1,
                           ids[i], fm_text_vocab(t));
    return FM_OK;
}

static enum fm_status decode(const struct fm_tokenizer *t, const struct fm_buf *in, struct fm_error *err)
{
    int32_t *ids = NULL;
    char *text = NULL;
    size_t n_ids = 0, n = 0;
    FM_TRY(fm_ids_parse(in->data, in->len, "standard input", FM_ERR_INPUT, &ids, &n_ids, err));
    enum fm_status st = check_ids(t, ids, n_ids, err);
    if (!st && n_ids) st = fm_text_decode(t, ids, n_ids, &text, &n, err);
    if (!st) fm_out(text, n);
    fm_text_free(text);
    fm_free(ids);
    return st;
}

enum fm_status fm_cmd_tokenize(struct fm_cli *cli, struct fm_error *err)
{
    struct job j = {0};
    const struct fm_opt_set sets[] = {{tokenize_rows, &j}, {fm_log_rows, &j.setup}, {0}};
    struct fm_words words;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&j.setup, err));
    FM_TRY(fm_words_expect(cli, &words, 0, 0, "", err));
    if (j.decode && (j.no_special || j.bos || j.eos))
        return fm_fail(err, FM_ERR_USAGE, "read options: --decode: --no-special, --bos and --eos belong to encoding");
    FM_TRY(fm_setup_model(&j.setup, err));
    struct fm_tokenizer *t = NULL;
    struct fm_buf in = {0};
    FM_TRY(fm_text_open(j.setup.engine.model, j.pre, &t, err));
    enum fm_status st = fm_stdin_read(&in, err);
    if (!st) st = j.decode ? decode(t, &in, err) : encode(&j, t, &in, err);
    fm_buf_release(&in);
    fm_text_close(t);
    return st;
}

/* ---- tokenizer train ------------------------------------------------------------------------------------------- */

struct lesson {
    struct fm_setup setup;
    int vocab;
    const char *out, *pre;
};

static const struct fm_opt lesson_rows[] = {
    {0, "vocab", FM_OPT_INT, offsetof(struct lesson, vocab), 257, 1 << 20, "N", "entries, the 256 bytes included"},
    {'o', "out", FM_OPT_TEXT, offsetof(struct lesson, out), 0, 0, "FILE", "the tokenizer.json to write"},
    {0, "pre", FM_OPT_TEXT, offsetof(struct lesson, pre), 0, 0, "NAME", "pre-tokenizer (default: smollm)"},
    {'t', "threads", FM_OPT_INT, offsetof(struct lesson, setup.engine.threads), 1, 1024, "N",
     "(default: one per core)"},
    {0},
};

static void show_progress(void *arg, int done, int total)
{
    (void)arg;
    fm_progress("tokenizer: %d of %d entries", done, total);
}

static enum fm_status learn(const struct lesson *l, const struct fm_words *w, struct fm_error *err)
{
    struct fm_text_train_result r = {0};
    struct fm_text_train_options o = {
        .paths = (const char *const *)w->v,
        .n_paths = w->n,
        .vocab = l->vocab,
        .pre = l->pre,
        .threads = l->setup.engine.threads,
        .progress = show_progress,
    };
    FM_TRY(fm_text_train(&o, l->out, &r, err));
    char size[16];
    fm_progress_end();
    fm_note("%d entries from %s in %" PRIu64 " files, %.1f s", r.vocab, fm_bytes_text(r.corpus_bytes, size), r.files,
            r.seconds);
    return FM_OK;
}

enum fm_status fm_cmd_tokenizer(struct fm_cli *cli, struct fm_error *err)
{
    struct lesson l = {0};
    const struct fm_opt_set sets[] = {{lesson_rows, &l}, {fm_log_rows, &l.setup}, {0}};
    struct fm_words words;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&l.setup, err));
    FM_TRY(fm_words_expect(cli, &words, 1, 1 << 30, "train", err));
    if (strcmp(words.v[0], "train") != 0)
        return fm_fail(err, FM_ERR_USAGE, "read arguments: fathom tokenizer: '%.40s' is not train", words.v[0]);
    FM_TRY(fm_words_expect(cli, &words, 2, 1 << 30, "PATH", err));
    if (!l.vocab) return fm_fail(err, FM_ERR_USAGE, "read options: --vocab: it is missing");
    if (!l.out) return fm_fail(err, FM_ERR_USAGE, "read options: --out: it is missing");
    words.v++;
    words.n--;
    return learn(&l, &words, err);
}
