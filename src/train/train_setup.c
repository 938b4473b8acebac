/* From options to a run that is ready to step: shape, text, plan, memory. */
#include <errno.h>
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/sum.h"
#include "file/write.h"
#include "train/trainer.h"

enum {
    TOKENIZER_SEED = 4,
    PATH_ROOM = 64,
    ROWS_TARGET = 2048, /* rows per micro-batch: speed is flat from 1024 to 8192 (bench_train), memory is not */
};
static const size_t ARENA_MAX = (size_t)3 << 29; /* 1.5 GiB */
static const size_t TOKENIZER_MAX = (size_t)1 << 30;

const char *fm_trainer_path(struct fm_trainer *t, const char *name)
{
    snprintf(t->path, strlen(t->dir) + PATH_ROOM, "%s/%s", t->dir, name);
    return t->path;
}

/* ---- configure ---- */

static enum fm_status make_folder(struct fm_trainer *t, struct fm_error *err)
{
    struct stat s;
    char *p = t->dir;
    for (char *q = p + 1; *q; q++)
        if (*q == '/') {
            *q = 0;
            (void)mkdir(p, 0777);
            *q = '/';
        }
    if (mkdir(p, 0777) && errno != EEXIST) return fm_fail(err, FM_ERR_DISK, "train: %s: %s", p, strerror(errno));
    if (stat(p, &s) || !S_ISDIR(s.st_mode)) return fm_fail(err, FM_ERR_USAGE, "train: %s: is not a folder", p);
    return FM_OK;
}

/* The preset or config.json, with the vocabulary and the length of the sequences put in. */
static enum fm_status read_shape(struct fm_trainer *t, int V, int eot, struct fm_error *err)
{
    const struct fm_preset_row *p = t->preset[0] ? fm_preset_find(t->preset) : NULL;
    const char *where = p ? p->name : t->o.config;
    json_t *j = NULL;
    if (p)
        j = fm_preset_config(p, V);
    else
        FM_TRY(fm_json_read(where, &j, err));
    if (!j) return fm_fail_memory(err, "preset", 0);
    json_object_set_new(j, "vocab_size", json_integer(V));
    json_object_set_new(j, "bos_token_id", json_integer(eot));
    json_object_set_new(j, "eos_token_id", json_integer(eot));
    if (fm_json_int(j, "max_position_embeddings", 0) < t->o.seq)
        json_object_set_new(j, "max_position_embeddings", json_integer(t->o.seq));
    enum fm_status st = fm_config_from_json(j, where, &t->cfg, err);
    json_decref(j);
    if (t->cfg.n_mtp > 1) t->cfg.n_mtp = 1; /* the step trains one depth, as DeepSeek-V3 did */
    return st;
}

static enum fm_status new_run(struct fm_trainer *t, struct fm_error *err)
{
    struct fm_train_options *o = &t->o;
    if (!o->preset == !o->config)
        return fm_fail(err, FM_ERR_USAGE, "train: give either a preset or a config, not %s",
                       o->preset ? "both" : "none");
    const struct fm_preset_row *p = o->preset ? fm_preset_find(o->preset) : NULL;
    if (o->preset && !p) {
        (void)fm_fail(err, FM_ERR_USAGE, "train: preset '%.80s': there is none of that name", o->preset);
        fm_hint(err, "--preset help lists them");
        return FM_ERR_USAGE;
    }
    if (p) snprintf(t->preset, sizeof t->preset, "%s", p->name);
    if (!o->plan_only && access(fm_trainer_path(t, "checkpoint.fmc"), F_OK) == 0) {
        (void)fm_fail(err, FM_ERR_USAGE, "train: %s: holds a checkpoint already", t->dir);
        fm_hint(err, "resume it, or choose another folder");
        return FM_ERR_USAGE;
    }
    FM_TRY(fm_settings_check(o, err));
    fm_settings_fill(o, p);
    int V = o->vocab;
    if (o->tokenizer) {
        struct fm_tokenizer *tk;
        FM_TRY(fm_tokenizer_open(o->tokenizer, NULL, &tk, err));
        V = fm_tokenizer_size(tk);
        fm_tokenizer_close(tk);
    }
    return read_shape(t, V, 0, err);
}

static enum fm_status old_run(struct fm_trainer *t, struct fm_checkpoint *k, struct fm_error *err)
{
    FM_TRY(fm_checkpoint_open(k, fm_trainer_path(t, "checkpoint.fmc"), err));
    return fm_trainer_restore_head(t, k, err);
}

enum fm_status fm_trainer_configure(struct fm_trainer *t, struct fm_checkpoint *k, struct fm_error *err)
{
    if (!t->o.out || !t->o.out[0]) return fm_fail(err, FM_ERR_USAGE, "train: no folder for the result was given");
    t->dir = fm_strdup(t->o.out);
    t->path = fm_malloc(strlen(t->o.out) + PATH_ROOM);
    if (!t->dir || !t->path) return fm_fail_memory(err, "path", strlen(t->o.out));
    FM_TRY(t->o.resume ? old_run(t, k, err) : new_run(t, err));
    t->extra = t->cfg.n_mtp > 0 ? 2 : 1;
    t->n_load = t->cfg.moe.router.E ? (t->cfg.L + t->cfg.n_mtp) * t->cfg.moe.router.E : 0;
    if (t->o.n_paths > 0) FM_TRY(fm_corpus_find(&t->corpus, t->o.paths, t->o.n_paths, err));
    if (!t->o.n_paths && !t->o.resume) return fm_fail(err, FM_ERR_USAGE, "train: no text to train on was given");
    return t->o.resume || t->o.plan_only ? FM_OK : make_folder(t, err); /* last: a wrong path leaves no empty folder */
}

/* ---- memory plan ---- */

/* Run a step of micro sequences with every op off, counting. */
static enum fm_status dry_step(const struct fm_trainer *t, const struct fm_params *p, int micro, size_t *bytes,
                               struct fm_error *err)
{
    struct fm_arena dry;
    struct fm_seq *seqs = fm_calloc((size_t)micro, sizeof *seqs);
    double *freq = fm_calloc((size_t)t->cfg.rope_dim, sizeof *freq);
    enum fm_status st = seqs && freq ? FM_OK : fm_fail_memory(err, "memory plan", (size_t)micro * sizeof *seqs);
    if (!st) {
        fm_arena_init_dry(&dry, "training step");
        struct fm_ctx c = {.op = &fm_ops_dry, .grad = &fm_ops_grad_dry, .arena = &dry};
        for (int s = 0; s < micro; s++)
            seqs[s] = (struct fm_seq){.row0 = s * t->o.seq, .n = t->o.seq, .segment_n = t->o.seq};
        const struct fm_batch b = {.T = micro * t->o.seq, .n_seqs = micro, .seqs = seqs};
        static const int32_t never_read;
        struct fm_step step = {.target = &never_read,
                               .next = t->extra > 1 ? &never_read : NULL,
                               .target2 = &never_read,
                               .balance_alpha = (double)t->o.balance_weight};
        struct fm_weights dw = p->dw;
        fm_model_step(&c, &p->cfg, &p->w, &dw, freq, &b, &step);
        st = c.status;
        if (st && err) *err = c.error;
        *bytes = dry.peak;
    }
    fm_free(seqs);
    fm_free(freq);
    return st;
}

/* The largest micro-batch that divides the batch, has about ROWS_TARGET rows and fits ARENA_MAX.  It follows from the
 * shape alone, never from the machine, since another split rounds differently. */
static enum fm_status choose_micro(struct fm_trainer *t, const struct fm_params *p, struct fm_error *err)
{
    if (t->o.micro > t->o.batch) t->o.micro = t->o.batch;
    if (t->o.micro) return dry_step(t, p, t->o.micro, &t->arena_bytes, err);
    int micro = ROWS_TARGET / t->o.seq;
    if (micro < 1) micro = 1;
    if (micro > t->o.batch) micro = t->o.batch;
    for (;; micro--) {
        if (t->o.batch % micro) continue;
        FM_TRY(dry_step(t, p, micro, &t->arena_bytes, err));
        if (micro == 1 || t->arena_bytes <= ARENA_MAX) break;
    }
    t->o.micro = micro;
    return FM_OK;
}

static size_t rows_bytes(const struct fm_trainer *t)
{
    return (size_t)t->o.micro * (size_t)t->o.seq * sizeof(int32_t) * (t->extra > 1 ? 4 : 3);
}

static void report(const struct fm_trainer *t, const char *item, uint64_t bytes, bool file_backed)
{
    if (t->o.on_memory && bytes) t->o.on_memory(t->o.arg, item, bytes, file_backed);
}

/* What is held while the text is read, learned from and encoded; all of it is freed before the blocks are allocated,
 * so only what exceeds them counts.  Twice the text: the words and pairs of a tokenizer being learned. */
static uint64_t text_bytes(const struct fm_trainer *t, uint64_t blocks)
{
    const uint64_t held = t->o.resume ? 0 : 2 * t->corpus.text_bound + ((uint64_t)16 << 20);
    return held > blocks ? held - blocks : 0;
}

enum fm_status fm_trainer_plan(struct fm_trainer *t, struct fm_error *err)
{
    struct fm_params p;
    FM_TRY(fm_params_init(&p, &t->cfg, err));
    const uint64_t block = fm_params_bytes(&p);
    enum fm_status st = choose_micro(t, &p, err);
    fm_params_release(&p);
    if (st) return st;
    const uint64_t scratch = fm_cpu_backend_bytes(t->pool), V = (uint64_t)t->cfg.V;
    const uint64_t tokens = t->tokens.n ? t->tokens.map.size : t->corpus.text_bound / 3 * (V > 0x10000 ? 4 : 2);
    const uint64_t tables = rows_bytes(t) + V * sizeof(int32_t) + tokens / (2 * (uint64_t)t->o.seq) * sizeof(uint32_t);
    report(t, "parameters", block, false);
    report(t, "gradients", block, false);
    report(t, "first moments", block, false);
    report(t, "second moments", block, false);
    report(t, "activations and scratch of a step", t->arena_bytes, false);
    report(t, "kernel scratch", scratch, false);
    report(t, "batches and tables", tables, false);
    report(t, "text while it is encoded, beyond all that", text_bytes(t, 4 * block + t->arena_bytes + scratch), false);
    report(t, "tokens", tokens, true);
    return FM_OK;
}

/* ---- text ---- */

static enum fm_status sum_of_file(const char *path, uint64_t *sum, struct fm_error *err)
{
    struct fm_map m;
    FM_TRY(fm_map_open(&m, path, err));
    *sum = fm_sum_of(TOKENIZER_SEED, m.data, m.size);
    fm_map_close(&m);
    return FM_OK;
}

static enum fm_status learn_tokenizer(struct fm_trainer *t, struct fm_error *err)
{
    static const char *const specials[] = {FM_CORPUS_SEPARATOR};
    const struct fm_bpe_train p = {.text = t->corpus.text,
                                   .n = t->corpus.text_len,
                                   .n_vocab = t->o.vocab,
                                   .pre = "smollm",
                                   .specials = specials,
                                   .n_specials = 1,
                                   .threads = t->o.threads};
    struct fm_tokenizer *tk = NULL;
    FM_TRY(fm_tokenizer_train(&p, &tk, err));
    enum fm_status st = fm_tokenizer_write_json(tk, fm_trainer_path(t, "tokenizer.json"), err);
    fm_tokenizer_close(tk);
    return st;
}

/* A tokenizer.json is copied as it is; what else the reader knows is written anew in that format. */
static enum fm_status copy_tokenizer(struct fm_trainer *t, struct fm_error *err)
{
    struct fm_buf text = {0};
    struct fm_tokenizer *tk = NULL;
    const char *from = t->o.tokenizer, *to = fm_trainer_path(t, "tokenizer.json");
    enum fm_status st;
    if (fm_ends_with(from, ".json")) {
        FM_GOTO(fm_buf_read_file(&text, from, TOKENIZER_MAX, err));
        FM_GOTO(fm_write_file(to, text.data ? text.data : "", text.len, err));
    } else {
        FM_GOTO(fm_tokenizer_open(from, NULL, &tk, err));
        FM_GOTO(fm_tokenizer_write_json(tk, to, err));
    }
out:
    fm_tokenizer_close(tk);
    fm_buf_release(&text);
    return st;
}

static enum fm_status load_corpus(struct fm_trainer *t, struct fm_error *err)
{
    struct fm_corpus *c = &t->corpus;
    if (c->text) return FM_OK;
    FM_TRY(fm_corpus_load(c, t->o.paths, t->o.n_paths, err));
    fm_log(FM_LOG_INFO,
           "corpus: %llu text files, %d documents, %zu bytes; skipped %d binary, %d hidden, %d linked twice, %d other",
           (unsigned long long)c->text_files, c->n_docs, c->text_len, c->binary, c->hidden, c->loops, c->other);
    return FM_OK;
}

static int32_t separator_of(const struct fm_tokenizer *tk)
{
    const int32_t id = fm_tokenizer_find(tk, FM_CORPUS_SEPARATOR);
    if (id >= 0) return id;
    return fm_tokenizer_eos(tk) >= 0 ? fm_tokenizer_eos(tk) : fm_tokenizer_bos(tk);
}

static enum fm_status encode(struct fm_trainer *t, const struct fm_tokenizer *tk, int32_t eot, struct fm_error *err)
{
    const struct fm_tokens_encode e = {.tokenizer = tk,
                                       .eot = eot,
                                       .tokenizer_sum = t->tokenizer_sum,
                                       .corpus_sum = t->corpus_sum,
                                       .cut = !t->o.tokenizer,
                                       .stop = t->o.stop};
    FM_TRY(load_corpus(t, err));
    FM_TRY(fm_tokens_write(&e, &t->corpus, t->pool, fm_trainer_path(t, "tokens.bin"), err));
    return fm_tokens_open(&t->tokens, fm_trainer_path(t, "tokens.bin"), err);
}

/* The cached tokens if they are of this corpus and tokenizer, else new ones.  A resumed run needs the same again. */
static enum fm_status get_tokens(struct fm_trainer *t, const struct fm_tokenizer *tk, int32_t eot, struct fm_error *err)
{
    const uint64_t before = t->corpus_sum;
    if (t->corpus.n_files) FM_TRY(fm_corpus_identity(&t->corpus, &t->corpus_sum, err));
    if (t->o.resume && t->corpus_sum != before)
        return fm_fail(err, FM_ERR_USAGE, "resume: corpus: it is not the one that the checkpoint was trained on");
    struct fm_error why;
    enum fm_status st = fm_tokens_open(&t->tokens, fm_trainer_path(t, "tokens.bin"), &why);
    if (!st && t->tokens.corpus_sum == t->corpus_sum && t->tokens.tokenizer_sum == t->tokenizer_sum) return FM_OK;
    if (!st) fm_tokens_close(&t->tokens);
    if (st && access(t->path, F_OK) == 0) fm_log(FM_LOG_WARN, "%s; the corpus is encoded again", why.message);
    if (t->o.n_paths > 0) return encode(t, tk, eot, err);
    (void)fm_fail(err, FM_ERR_INPUT, "resume: %s: missing or not of this run", t->path);
    fm_hint(err, "give the corpus again, so that it can be encoded");
    return FM_ERR_INPUT;
}

/* Text length of each id, for bits per byte: a separator is no text. */
static enum fm_status measure_tokens(struct fm_trainer *t, const struct fm_tokenizer *tk, int32_t eot,
                                     struct fm_error *err)
{
    struct fm_buf b = {0};
    t->token_bytes = fm_calloc((size_t)t->cfg.V, sizeof *t->token_bytes);
    if (!t->token_bytes) return fm_fail_memory(err, "token lengths", (size_t)t->cfg.V * sizeof *t->token_bytes);
    enum fm_status st = FM_OK;
    for (int32_t id = 0; !st && id < fm_tokenizer_size(tk) && id < t->cfg.V; id++) {
        fm_buf_clear(&b);
        st = fm_tokenizer_decode(tk, &id, 1, &b, err);
        t->token_bytes[id] = id == eot ? 0 : (int32_t)b.len;
    }
    fm_buf_release(&b);
    return st;
}

/* tokenizer.json in OUT and its sum. */
static enum fm_status get_tokenizer(struct fm_trainer *t, struct fm_error *err)
{
    const uint64_t before = t->tokenizer_sum;
    if (!t->o.resume && t->o.tokenizer) FM_TRY(copy_tokenizer(t, err));
    if (!t->o.resume && !t->o.tokenizer) {
        FM_TRY(load_corpus(t, err));
        FM_TRY(learn_tokenizer(t, err));
    }
    const char *path = fm_trainer_path(t, "tokenizer.json");
    FM_TRY(sum_of_file(path, &t->tokenizer_sum, err));
    if (t->o.resume && t->tokenizer_sum != before)
        return fm_fail(err, FM_ERR_INPUT, "resume: %s: is not the tokenizer of the checkpoint", path);
    return FM_OK;
}

enum fm_status fm_trainer_prepare_text(struct fm_trainer *t, struct fm_error *err)
{
    struct fm_tokenizer *tk = NULL;
    enum fm_status st;
    FM_GOTO(get_tokenizer(t, err));
    FM_GOTO(fm_tokenizer_open(fm_trainer_path(t, "tokenizer.json"), NULL, &tk, err));
    const int32_t eot = separator_of(tk);
    if (eot < 0) FM_GOTO(fm_fail(err, FM_ERR_INPUT, "train: %s: has no token that ends a text", t->path));
    if (!t->o.resume)
        FM_GOTO(read_shape(t, fm_tokenizer_size(tk), eot, err)); /* the vocabulary may be smaller than asked for */
    FM_GOTO(get_tokens(t, tk, eot, err));
    if (t->tokens.vocab > t->cfg.V)
        FM_GOTO(fm_fail(err, FM_ERR_INPUT, "train: %s: ids outside the model's vocabulary", t->path));
    FM_GOTO(measure_tokens(t, tk, eot, err));
    const struct fm_cursor cursor = t->data.cursor;
    FM_GOTO(fm_data_init(&t->data, &t->tokens, t->o.seq, t->extra, (double)t->o.val_fraction, t->o.seed, err));
    t->data.cursor = cursor;
out:
    fm_tokenizer_close(tk);
    fm_corpus_release(&t->corpus);
    malloc_trim(0); /* what learning and encoding used goes back before the blocks come */
    return st;
}

/* ---- allocate ---- */

static enum fm_status allocate_tables(struct fm_trainer *t, struct fm_error *err)
{
    const size_t rows = (size_t)t->o.micro * (size_t)t->o.seq;
    t->ids = fm_calloc(rows, sizeof *t->ids);
    t->pos = fm_calloc(rows, sizeof *t->pos);
    t->target = fm_calloc(rows, sizeof *t->target);
    t->target2 = fm_calloc(t->extra > 1 ? rows : 1, sizeof *t->target2);
    t->seqs = fm_calloc((size_t)t->o.micro, sizeof *t->seqs);
    t->starts = fm_calloc((size_t)t->o.batch, sizeof *t->starts);
    t->load = fm_calloc((size_t)t->n_load, sizeof *t->load);
    t->load_sum = fm_calloc((size_t)t->n_load, sizeof *t->load_sum);
    t->load_line = fm_calloc((size_t)t->n_load, sizeof *t->load_line);
    t->rope_freq = fm_calloc((size_t)t->cfg.rope_dim, sizeof *t->rope_freq);
    const bool ok = t->ids && t->pos && t->target && t->target2 && t->seqs && t->starts && t->load && t->load_sum &&
                    t->load_line && t->rope_freq;
    return ok ? FM_OK : fm_fail_memory(err, "batches and tables", rows_bytes(t));
}

enum fm_status fm_trainer_allocate(struct fm_trainer *t, struct fm_error *err)
{
    struct fm_counts counts;
    FM_TRY(fm_params_init(&t->params, &t->cfg, err));
    FM_TRY(dry_step(t, &t->params, t->o.micro, &t->arena_bytes, err)); /* the vocabulary is known only now */
    FM_TRY(fm_params_alloc(&t->params, true, err));
    FM_TRY(fm_arena_init(&t->arena, "training step", t->arena_bytes, err));
    FM_TRY(fm_cpu_backend_new(t->pool, &t->backend, err));
    FM_TRY(allocate_tables(t, err));
    fm_rope_frequencies(&t->cfg, t->rope_freq);
    fm_model_count(&t->cfg, t->o.seq, &counts);
    t->flops_per_token = counts.train_flops_per_token;
    t->ctx = (struct fm_ctx){
        .op = &fm_ops_cpu, .grad = &fm_ops_grad_cpu, .arena = &t->arena, .pool = t->pool, .backend = t->backend};
    return FM_OK;
}

void fm_trainer_release(struct fm_trainer *t)
{
    fm_train_log_close(&t->log);
    fm_corpus_release(&t->corpus);
    fm_data_release(&t->data);
    fm_tokens_close(&t->tokens);
    if (t->params.list) fm_params_release(&t->params);
    fm_arena_release(&t->arena);
    fm_cpu_backend_free(t->backend);
    fm_pool_free(t->pool);
    void *const tables[] = {t->ids,  t->pos,      t->target,    t->target2,   t->seqs,       t->starts,
                            t->load, t->load_sum, t->load_line, t->rope_freq, t->token_bytes};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) fm_free(tables[i]);
    fm_free(t->dir);
    fm_free(t->path);
}
