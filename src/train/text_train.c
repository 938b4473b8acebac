/* fm_text_train: files and folders → a byte-level BPE vocabulary in tokenizer.json. */
#include "base/clock.h"
#include "fathom.h"
#include "text/tokenizer.h"
#include "train/corpus.h"
#include "train/trainer.h"

static enum fm_status learn(const struct fm_text_train_options *o, const struct fm_corpus *c, const char *out_path,
                            int *vocab, struct fm_error *err)
{
    static const char *const specials[] = {FM_CORPUS_SEPARATOR};
    const struct fm_bpe_train p = {.text = c->text,
                                   .n = c->text_len,
                                   .n_vocab = o->vocab,
                                   .pre = o->pre ? o->pre : "smollm",
                                   .specials = specials,
                                   .n_specials = 1,
                                   .threads = o->threads,
                                   .progress = o->progress,
                                   .progress_arg = o->progress_arg};
    struct fm_tokenizer *tk = NULL;
    FM_TRY(fm_tokenizer_train(&p, &tk, err));
    *vocab = fm_tokenizer_size(tk);
    enum fm_status st = fm_tokenizer_write_json(tk, out_path, err);
    fm_tokenizer_close(tk);
    return st;
}

enum fm_status fm_text_train(const struct fm_text_train_options *o, const char *out_path,
                             struct fm_text_train_result *r, struct fm_error *err)
{
    struct fm_corpus c;
    struct fm_text_train_result result = {0};
    const double start = fm_seconds();
    enum fm_status st;
    FM_GOTO(fm_corpus_find(&c, o->paths, o->n_paths, err));
    FM_GOTO(fm_corpus_load(&c, o->paths, o->n_paths, err));
    FM_GOTO(learn(o, &c, out_path, &result.vocab, err));
    result.corpus_bytes = c.text_len;
    result.files = c.text_files;
    result.seconds = fm_seconds() - start;
    if (r) *r = result;
out:
    fm_corpus_release(&c);
    return st;
}
