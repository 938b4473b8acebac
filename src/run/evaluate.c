/* Answers to a set of questions.  A session holds the last prompt, so that what prompts begin with alike is fed once. */
#include "run/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "run/logprob.h"
#include "run/tally.h"

enum { PIECE = 32 }; /* tokens whose logits are held at a time */

/* ---- setting up ------------------------------------------------------------------------------------------------ */

static enum fm_status check_options(struct fm_eval *v, struct fm_error *err)
{
    const struct fm_eval_options *o = &v->o;
    if (!o->set || !*o->set) return fm_fail(err, FM_ERR_USAGE, "evaluate: no set given");
    if (o->shots < 0 || o->shots > 1000)
        return fm_fail(err, FM_ERR_USAGE, "evaluate: %d examples: not within 0 … 1000", o->shots);
    if (o->limit < 0 || o->max_tokens < 0 || o->n_stop < 0)
        return fm_fail(err, FM_ERR_USAGE, "evaluate: limit, max_tokens and n_stop: none may be negative");
    v->match = fm_match_find(o->match ? o->match : "auto");
    if (v->match == FM_MATCH_COUNT)
        return fm_fail(err, FM_ERR_USAGE,
                       "evaluate: match '%.40s': not known: auto, exact, text, starts, contains, number", o->match);
    if (!v->o.max_tokens) v->o.max_tokens = FM_EVAL_TOKENS;
    return FM_OK;
}

/* A permutation of n numbers; seed 0: none moved. */
static enum fm_status shuffle(int n, uint64_t seed, int **out, struct fm_error *err)
{
    struct fm_rng rng;
    int *p = fm_malloc((size_t)n * sizeof *p);
    if (!p) return fm_fail_memory(err, "an order", (size_t)n * sizeof *p);
    for (int i = 0; i < n; i++) p[i] = i;
    fm_rng_init(&rng, seed);
    for (int i = 0; seed && i < n - 1; i++) {
        const int k = i + (int)fm_rng_below(&rng, (uint64_t)(n - i)), t = p[i];
        p[i] = p[k];
        p[k] = t;
    }
    *out = p;
    return FM_OK;
}

/* Another permutation than that of the items, or the first ones would be examples of each other. */
static enum fm_status choose_shots(struct fm_eval *v, struct fm_error *err)
{
    const struct fm_eval_set *from = v->o.shots_from ? &v->examples : &v->set;
    const int most = from->n - (v->o.shots_from ? 0 : 1);
    if (!v->o.shots) return FM_OK;
    if (most < v->o.shots)
        return fm_fail(err, FM_ERR_USAGE, "evaluate: %d examples: %s has %d", v->o.shots,
                       v->o.shots_from ? v->o.shots_from : v->o.set, most);
    v->n_shots = v->o.shots + (v->o.shots_from ? 0 : 1);
    return shuffle(from->n, v->o.seed ? v->o.seed ^ 0x5851f42d4c957f2d : 0, &v->shots, err);
}

static enum fm_status open_pattern(struct fm_eval *v, struct fm_error *err)
{
    if (!v->o.pattern) return FM_OK;
    enum fm_status st = fm_regex_new(v->o.pattern, "the pattern", &v->regex, err);
    if (!st) st = fm_regex_run_new(&v->regex_run, err);
    if (st != FM_ERR_INPUT) return st;
    if (err) err->code = FM_ERR_USAGE;
    return FM_ERR_USAGE;
}

static enum fm_status reserve(struct fm_eval *v, struct fm_error *err)
{
    const size_t V = (size_t)v->e->model.cfg.V, piece = PIECE * V * sizeof *v->logits;
    FM_TRY(fm_session_new(v->e, v->o.ctx, &v->s, err));
    v->logits = fm_pages_alloc(piece);
    v->before = fm_pages_alloc(V * sizeof *v->before);
    v->rows = fm_calloc((size_t)v->set.n, sizeof *v->rows);
    return v->logits && v->before && v->rows ? FM_OK : fm_fail_memory(err, "logits of an answer", piece);
}

static enum fm_status set_up(struct fm_eval *v, struct fm_error *err)
{
    FM_TRY(check_options(v, err));
    FM_TRY(fm_engine_has_text(v->e, err));
    FM_TRY(open_pattern(v, err));
    FM_TRY(fm_eval_set_open(&v->set, v->o.set, err));
    if (v->o.shots_from && v->o.shots) FM_TRY(fm_eval_set_open(&v->examples, v->o.shots_from, err));
    v->chat = v->o.raw || !v->e->chat ? NULL : fm_chat_find(v->e->chat);
    v->total = v->o.limit && v->o.limit < v->set.n ? v->o.limit : v->set.n;
    FM_TRY(shuffle(v->set.n, v->o.seed, &v->order, err));
    FM_TRY(choose_shots(v, err));
    FM_TRY(reserve(v, err));
    if (v->o.out) FM_TRY(fm_eval_out_open(v, err));
    for (int i = 0; i < v->total; i++) v->done += v->rows[v->order[i]].done;
    return FM_OK;
}

enum fm_status fm_eval_new(struct fm_engine *e, const struct fm_eval_options *o, struct fm_eval **out,
                           struct fm_error *err)
{
    struct fm_eval *v = fm_calloc(1, sizeof *v);
    if (!v) return fm_fail_memory(err, "an evaluation", sizeof *v);
    v->e = e;
    v->o = *o;
    v->fd = -1;
    const enum fm_status st = set_up(v, err);
    if (st)
        fm_eval_free(v);
    else
        *out = v;
    return st;
}

void fm_eval_free(struct fm_eval *v)
{
    if (!v) return;
    const size_t V = (size_t)v->e->model.cfg.V;
    if (v->fd >= 0) close(v->fd);
    if (v->logits) fm_pages_free(v->logits, PIECE * V * sizeof *v->logits);
    if (v->before) fm_pages_free(v->before, V * sizeof *v->before);
    fm_session_free(v->s);
    fm_regex_free(v->regex);
    fm_regex_run_free(v->regex_run);
    fm_eval_set_close(&v->set);
    fm_eval_set_close(&v->examples);
    fm_free(v->order);
    fm_free(v->shots);
    fm_free(v->rows);
    fm_ids_release(&v->ids);
    fm_ids_release(&v->prefix);
    struct fm_buf *const bufs[] = {&v->text, &v->answer, &v->found, &v->line};
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++) fm_buf_release(bufs[i]);
    fm_free(v);
}

/* ---- feeding --------------------------------------------------------------------------------------------------- */

static enum fm_status too_long(const struct fm_eval *v, int item, size_t n, struct fm_error *err)
{
    (void)fm_fail(err, FM_ERR_USAGE, "evaluate: %s:%d: the prompt has %zu tokens: the context holds %d", v->o.set,
                  v->set.items[item].line, n, v->s->ctx);
    fm_hint(err, "use a larger context (--ctx) or fewer examples (--shots)");
    return FM_ERR_USAGE;
}

/* The session holds exactly ids[n], n >= 1, and v->before the logits behind them. */
static enum fm_status hold(struct fm_eval *v, const int32_t *ids, int n, struct fm_error *err)
{
    struct fm_session *s = v->s;
    int same = 0;
    while (same < n && same < s->length && s->ids[same] == ids[same]) same++;
    if (same == n && v->held == n) {
        fm_session_rewind(s, n);
        return FM_OK;
    }
    same = same < n ? same : n - 1; /* the last one is computed, for its logits */
    v->held = 0;
    fm_session_rewind(s, same);
    FM_TRY(fm_session_feed_on(s, ids + same, n - same, NULL, err));
    memcpy(v->before, s->logits, (size_t)v->e->model.cfg.V * sizeof *v->before);
    v->held = n;
    return FM_OK;
}

/* *sum = ln P(ids[from … n) | ids[0 … from)); the session then holds the first from tokens again. */
static enum fm_status score(struct fm_eval *v, const int32_t *ids, int from, int n, double *sum, struct fm_error *err)
{
    const int V = v->e->model.cfg.V;
    *sum = fm_row_lse(v->before, V);
    *sum = (double)v->before[ids[from]] - *sum;
    for (int at = from; at < n - 1; at += PIECE) {
        const int k = n - 1 - at < PIECE ? n - 1 - at : PIECE;
        FM_TRY(fm_session_feed_on(v->s, ids + at, k, v->logits, err));
        for (int i = 0; i < k; i++) {
            const float *row = v->logits + (size_t)i * (size_t)V;
            *sum += (double)row[ids[at + i + 1]] - fm_row_lse(row, V);
        }
    }
    fm_session_rewind(v->s, from);
    return FM_OK;
}

/* ---- multiple choice ------------------------------------------------------------------------------------------- */

/* v->prefix = ids of the prompt and a choice; *from: where they leave those of the prompt alone. */
static enum fm_status choice_ids(struct fm_eval *v, const char *choice, int *from, struct fm_error *err)
{
    const struct fm_tokenizer *t = v->e->tok;
    const size_t len = v->text.len;
    if (len && v->text.data[len - 1] != '\n' && *choice != ' ') fm_buf_char(&v->text, ' ');
    fm_buf_str(&v->text, choice);
    v->prefix.n = 0;
    enum fm_status st = v->text.failed
                            ? fm_fail_memory(err, "a prompt", v->text.len)
                            : fm_tokenizer_encode(t, v->text.data, v->text.len,
                                                  fm_tokenizer_add_bos(t) ? FM_ENCODE_BOS : 0, &v->prefix, err);
    v->text.len = len;
    if (v->text.data) v->text.data[len] = 0;
    int k = 0;
    while ((size_t)k < v->ids.n && (size_t)k + 1 < v->prefix.n && v->ids.data[k] == v->prefix.data[k]) k++;
    *from = k;
    return st;
}

static int best(const double *x, int n)
{
    int b = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[b]) b = i;
    return b;
}

static enum fm_status score_choice(struct fm_eval *v, int item, const char *choice, double *sum, struct fm_error *err)
{
    int from;
    FM_TRY(choice_ids(v, choice, &from, err));
    if (!from)
        return fm_fail(err, FM_ERR_INPUT, "evaluate: %s:%d: nothing stands in front of the choices", v->o.set,
                       v->set.items[item].line);
    if (v->prefix.n > (size_t)v->s->ctx) return too_long(v, item, v->prefix.n, err);
    FM_TRY(hold(v, v->prefix.data, from, err));
    FM_TRY(score(v, v->prefix.data, from, (int)v->prefix.n, sum, err));
    if (isfinite(*sum)) return FM_OK;
    return fm_fail(err, FM_ERR_FAILED, "evaluate: %s:%d: the model's logits are not finite", v->o.set,
                   v->set.items[item].line);
}

static enum fm_status choose(struct fm_eval *v, int item, struct fm_eval_row *row, struct fm_error *err)
{
    const struct fm_eval_item *it = &v->set.items[item];
    double sum[FM_EVAL_CHOICES], norm[FM_EVAL_CHOICES];
    FM_TRY(fm_eval_plain(v, item, err));
    for (int i = 0; i < it->n_choices; i++) {
        FM_TRY(score_choice(v, item, it->choices[i], &sum[i], err));
        norm[i] = sum[i] / (double)strlen(it->choices[i]);
    }
    const int picked = best(sum, it->n_choices), picked_norm = best(norm, it->n_choices);
    *row = (struct fm_eval_row){.done = true, .right = picked == it->gold, .right_norm = picked_norm == it->gold};
    fm_buf_printf(&v->line, "\"gold\":%d,\"picked\":%d,\"picked_norm\":%d,\"loglik\":[", it->gold, picked, picked_norm);
    for (int i = 0; i < it->n_choices; i++) fm_buf_printf(&v->line, "%s%.17g", i ? "," : "", sum[i]);
    fm_buf_printf(&v->line, "],\"right\":%s,\"right_norm\":%s}", row->right ? "true" : "false",
                  row->right_norm ? "true" : "false");
    return FM_OK;
}

/* ---- answers --------------------------------------------------------------------------------------------------- */

static bool collect(void *answer, const char *text, size_t n)
{
    fm_buf_add(answer, text, n);
    return true;
}

static enum fm_status generate(struct fm_eval *v, int item, struct fm_generation_stats *made, struct fm_error *err)
{
    static const char *const empty_line[] = {"\n\n"};
    struct fm_generation g = {.sampling = fm_sampling_default(),
                              .max_tokens = v->o.max_tokens,
                              .stop = v->o.stop,
                              .n_stop = v->o.n_stop,
                              .on_text = collect,
                              .arg = &v->answer};
    g.sampling.temp = 0;
    if (!v->chat && !g.n_stop) {
        g.stop = empty_line;
        g.n_stop = 1;
    }
    FM_TRY(v->chat ? fm_eval_chat(v, item, err) : fm_eval_plain(v, item, err));
    if (!v->ids.n)
        return fm_fail(err, FM_ERR_INPUT, "evaluate: %s:%d: the prompt is empty", v->o.set, v->set.items[item].line);
    if (v->ids.n >= (size_t)v->s->ctx) return too_long(v, item, v->ids.n, err);
    fm_buf_clear(&v->answer);
    FM_TRY(
        hold(v, v->ids.data, (int)v->ids.n, err)); /* generating finds the logits there, or computes them once more */
    FM_TRY(fm_session_generate_on(v->s, &g, made, err));
    if (made->finish == FM_FINISH_CANCELLED) return FM_ERR_CANCELLED;
    return v->answer.failed ? fm_fail_memory(err, "an answer", v->answer.len) : FM_OK;
}

/* The answer, or the last match of the pattern in it: *n = 0 when there is none. */
static enum fm_status extract(struct fm_eval *v, const char **text, size_t *n, struct fm_error *err)
{
    *text = v->answer.data ? v->answer.data : "";
    *n = v->answer.len;
    if (!v->regex) return FM_OK;
    size_t from = 0, begin = 0, end = 0;
    bool found = true, any = false;
    while (found && from <= v->answer.len) {
        size_t b, e;
        FM_TRY(fm_regex_next(v->regex, v->regex_run, *text, v->answer.len, from, &found, &b, &e, err));
        if (!found) break;
        any = true;
        begin = b;
        from = end = e;
    }
    *text += begin;
    *n = any ? end - begin : 0;
    return FM_OK;
}

static void json_text(struct fm_buf *b, const char *key, const char *text, size_t n)
{
    json_t *j = json_stringn_nocheck(text, n);
    char *s = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL;
    fm_buf_printf(b, "\"%s\":%s", key, s ? s : "null");
    b->failed |= !s && fm_utf8_valid(text, n);
    free(s); /* jansson's */
    json_decref(j);
}

static enum fm_status answer(struct fm_eval *v, int item, struct fm_eval_row *row, struct fm_error *err)
{
    const struct fm_eval_item *it = &v->set.items[item];
    struct fm_generation_stats made = {0};
    const char *text;
    size_t n;
    FM_TRY(generate(v, item, &made, err));
    FM_TRY(extract(v, &text, &n, err));
    *row = (struct fm_eval_row){.done = true,
                                .right = fm_match_answer(it, v->match, text, n, &v->found),
                                .cut = made.finish == FM_FINISH_LENGTH};
    if (v->found.failed) return fm_fail_memory(err, "an answer", n);
    json_text(&v->line, "answer", v->answer.data ? v->answer.data : "", v->answer.len);
    fm_buf_char(&v->line, ',');
    json_text(&v->line, "found", v->found.data ? v->found.data : "", v->found.len);
    fm_buf_str(&v->line, ",\"gold\":[");
    for (int i = 0; i < it->n_answers; i++) {
        const char *a = fm_eval_answer(it, i);
        struct fm_buf one = {0};
        json_text(&one, "", a, strlen(a));
        if (one.failed)
            v->line.failed = true;
        else
            fm_buf_printf(&v->line, "%s%s", i ? "," : "", one.data + 3); /* behind "": */
        fm_buf_release(&one);
    }
    fm_buf_printf(&v->line, "],\"tokens\":%d,\"cut\":%s,\"right\":%s}", made.answer_tokens, row->cut ? "true" : "false",
                  row->right ? "true" : "false");
    return FM_OK;
}

/* ---- the run --------------------------------------------------------------------------------------------------- */

static bool show(const struct fm_eval *v)
{
    struct fm_eval_progress p = {.done = v->done, .total = v->total};
    if (!v->o.progress) return true;
    for (int i = 0; i < v->total; i++) p.right += v->rows[v->order[i]].done && v->rows[v->order[i]].right;
    return v->o.progress(v->o.arg, &p);
}

static enum fm_status one_item(struct fm_eval *v, int item, struct fm_error *err)
{
    struct fm_eval_row row;
    fm_buf_clear(&v->line);
    fm_buf_printf(&v->line, "{\"item\":%d,", item + 1);
    FM_TRY(v->set.items[item].n_choices ? choose(v, item, &row, err) : answer(v, item, &row, err));
    FM_TRY(fm_eval_out_add(v, err));
    v->rows[item] = row;
    v->done++;
    return FM_OK;
}

static enum fm_status run(struct fm_eval *v, struct fm_error *err)
{
    if (!show(v)) return FM_ERR_CANCELLED;
    for (int i = 0; i < v->total; i++) {
        if (v->rows[v->order[i]].done) continue;
        if (atomic_load(&v->s->cancel)) return FM_ERR_CANCELLED;
        FM_TRY(one_item(v, v->order[i], err));
        if (!show(v)) return FM_ERR_CANCELLED;
    }
    return FM_OK;
}

static struct fm_estimate part(int k, int n) { return fm_tally_mean(k, k, (uint64_t)n); }

static void report(const struct fm_eval *v, struct fm_eval_result *r)
{
    int right = 0, norm = 0, answered = 0;
    double chance = 0;
    for (int i = 0; i < v->total; i++) {
        const struct fm_eval_item *it = &v->set.items[v->order[i]];
        const struct fm_eval_row *row = &v->rows[v->order[i]];
        r->items++;
        r->cut += row->cut;
        if (it->n_choices) {
            r->choice_items++;
            right += row->right;
            norm += row->right_norm;
            chance += 1.0 / it->n_choices;
        } else {
            r->answer_items++;
            answered += row->right;
        }
    }
    r->acc = part(right, r->choice_items);
    r->acc_norm = part(norm, r->choice_items);
    r->right = part(answered, r->answer_items);
    r->chance = (struct fm_estimate){r->choice_items ? chance / r->choice_items : NAN, 0};
}

enum fm_status fm_eval_run(struct fm_eval *v, struct fm_eval_result *r, struct fm_error *err)
{
    const double start = fm_seconds();
    const enum fm_status st = run(v, err);
    if (st == FM_ERR_CANCELLED)
        return fm_fail(err, FM_ERR_CANCELLED, "evaluate: item %d of %d: interrupted", v->done, v->total);
    FM_TRY(st);
    *r = (struct fm_eval_result){0};
    report(v, r);
    r->seconds = fm_seconds() - start;
    return FM_OK;
}

void fm_eval_cancel(struct fm_eval *v) { fm_session_cancel(v->s); }

int fm_eval_done(const struct fm_eval *v) { return v->done; }

int fm_eval_total(const struct fm_eval *v) { return v->total; }
