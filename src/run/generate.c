/* Continue a session token by token: sample, hand the text out, feed.  One loop; the rest is about when to stop.  That a
 * token may have been computed ahead shows nowhere here: fm_speculation_put feeds it in either case. */
#include <string.h>

#include "base/clock.h"
#include "run/constraint.h"
#include "run/run.h"
#include "run/stream.h"

struct generator {
    struct fm_session *s;
    const struct fm_generation *g;
    struct fm_sampler sampler;
    struct fm_stream stream;
    struct fm_buf a, b; /* decoded text, reused */
    int made;
    struct fm_speculation ahead;
    struct fm_follower bound; /* by a constraint */
};

static bool cancelled(const struct generator *r) { return atomic_load(&r->s->cancel); }

/* After a rewind there are no logits: compute the last token once more. */
static enum fm_status need_logits(struct fm_session *s, struct fm_error *err)
{
    if (fm_session_logits(s)) return FM_OK;
    if (!s->length) return fm_fail(err, FM_ERR_USAGE, "generate: the session is empty: feed at least one token first");
    const int length = s->length;
    const int32_t id = s->ids[length - 1];
    fm_session_rewind(s, length - 1);
    enum fm_status st = fm_session_feed_on(s, &id, 1, NULL, err);
    if (st) s->length = length;
    return st;
}

/* One token more; *finish is set when it was the last. */
static enum fm_status advance(struct generator *r, bool *done, enum fm_finish *finish, struct fm_error *err)
{
    struct fm_session *s = r->s;
    bool over;
    *done = true;
    *finish = FM_FINISH_STOP;
    FM_TRY(fm_follow_mask(&r->bound, &r->sampler.allowed, &over, err));
    if (over) return FM_OK;
    int32_t id = fm_sampler_pick(&r->sampler, s->logits, s->ids, s->length);
    if (fm_engine_is_end(s->e, id)) return FM_OK;
    FM_TRY(fm_follow_token(&r->bound, id, err));
    const int32_t before = s->length ? s->ids[s->length - 1] : -1;
    if (s->e->tok && id < fm_tokenizer_size(s->e->tok))
        FM_TRY(fm_stream_token(&r->stream, s->e->tok, before, id, &r->a, &r->b, err));
    r->made++;
    *finish = r->stream.refused ? FM_FINISH_CANCELLED : FM_FINISH_STOP;
    if (r->stream.refused || r->stream.stopped) return FM_OK;
    *done = false;
    return fm_speculation_put(&r->ahead, id, r->g->max_tokens < 0 ? s->ctx : r->g->max_tokens - r->made, err);
}

static enum fm_status run(struct generator *r, enum fm_finish *finish, struct fm_error *err)
{
    struct fm_session *s = r->s;
    bool done = false;
    enum fm_status st = need_logits(s, err);
    *finish = FM_FINISH_LENGTH;
    while (!st && !done) {
        *finish = FM_FINISH_LENGTH;
        if (s->length == s->ctx || (r->g->max_tokens >= 0 && r->made >= r->g->max_tokens)) break;
        if (cancelled(r))
            st = FM_ERR_CANCELLED;
        else
            st = advance(r, &done, finish, err);
    }
    if (st == FM_ERR_CANCELLED) *finish = FM_FINISH_CANCELLED;
    if (st && st != FM_ERR_CANCELLED) return st;
    return fm_stream_end(&r->stream) ? FM_OK : fm_fail_memory(err, "generated text", r->stream.held.len);
}

enum fm_status fm_session_generate_on(struct fm_session *s, const struct fm_generation *g,
                                      struct fm_generation_stats *stats, struct fm_error *err)
{
    struct generator r = {
        .s = s, .g = g, .stream = {.stop = g->stop, .n_stop = g->n_stop, .out = g->on_text, .arg = g->arg}};
    enum fm_finish finish;
    if (g->on_text || g->n_stop) FM_TRY(fm_engine_has_text(s->e, err));
    FM_TRY(fm_sampler_init(&r.sampler, &g->sampling, s->e->model.cfg.V, s->work, s->seen, err));
    r.sampler.from = s->length;
    FM_TRY(fm_speculation_init(&r.ahead, s, g, err));
    FM_TRY(fm_follow_begin(&r.bound, g->constraint, g->constraint_start, err));
    double start = fm_seconds();
    int before = s->length;
    enum fm_status st = run(&r, &finish, err);
    if (!st && stats)
        *stats = (struct fm_generation_stats){.prompt_tokens = before,
                                              .cached_tokens = before,
                                              .answer_tokens = r.made,
                                              .answer_seconds = fm_seconds() - start,
                                              .steps = r.ahead.steps,
                                              .drafted = r.ahead.drafted,
                                              .accepted = r.ahead.accepted,
                                              .finish = finish};
    fm_follow_end(&r.bound);
    fm_stream_release(&r.stream);
    fm_buf_release(&r.a);
    fm_buf_release(&r.b);
    return st;
}

enum fm_status fm_session_generate(struct fm_session *s, const struct fm_generation *g,
                                   struct fm_generation_stats *stats, struct fm_error *err)
{
    atomic_store(&s->cancel, false);
    return fm_session_generate_on(s, g, stats, err);
}
