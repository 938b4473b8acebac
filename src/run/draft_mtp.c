/* Drafts of the multi-token-prediction block (DeepSeek-V3 report §2.2): H_t and token t+1 give token t+2.
 *
 * Its cache rows depend on the block's input alone, so for tokens that are known only keys are computed (fm_mtp_append), in
 * batches; the whole block runs for the last token, and again for each further one of a draft.  Those further rows lie
 * behind `rows` and are overwritten when the truth is known.  Only the first of several blocks is used. */
#include <assert.h>
#include <string.h>

#include "run/run.h"

/* Rows m->rows … +n−1, from the hidden states held. */
static void append(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w, const double *rope_freq,
                   struct fm_mtp_state *m, int n)
{
    const bool dry = c->arena->dry; /* there are no ids to point at */
    struct fm_seq seqs[FM_MTP_HELD];
    int n_seqs = fm_seqs_of_single(cfg, m->kv, m->rows, n, seqs);
    const struct fm_batch b = {.T = n, .n_seqs = n_seqs, .seqs = seqs, .pos = dry ? NULL : m->pos + m->rows};
    fm_mtp_append(c, cfg, w, rope_freq, 0, &b, dry ? NULL : m->ids + m->rows + 1, m->hidden);
    if (dry || c->status) return;
    m->rows += n;
    m->held -= n;
    memmove(m->hidden, m->hidden + (size_t)n * (size_t)cfg->D, (size_t)m->held * (size_t)cfg->D * sizeof *m->hidden);
}

void fm_mtp_collect(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w, const double *rope_freq,
                    struct fm_mtp_state *m, const struct fm_batch *b, const fm_real *hidden)
{
    const size_t d = (size_t)cfg->D;
    if (!m->hidden) return;
    if (c->arena->dry) append(c, cfg, w, rope_freq, m, FM_MTP_HELD);
    if (c->arena->dry || c->status) return;
    assert(m->rows + m->held == b->seqs[0].pos0);
    for (int i = 0, n; i < b->T; i += n) {
        if (m->held == FM_MTP_HELD)
            append(c, cfg, w, rope_freq, m, FM_MTP_HELD); /* this row's token follows the last */
        if (c->status) return;
        n = b->T - i < FM_MTP_HELD - m->held ? b->T - i : FM_MTP_HELD - m->held;
        memcpy(m->hidden + (size_t)m->held * d, hidden + (size_t)i * d, (size_t)n * d * sizeof *hidden);
        m->held += n;
    }
}

static int32_t likeliest(const fm_real *logits, int V)
{
    int best = 0;
    for (int i = 1; i < V; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

/* One run of the block at position pos: hidden[D] becomes its output. */
static void run_block(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w,
                      const double *rope_freq, const struct fm_mtp_state *m, int pos, int32_t next, fm_real *hidden,
                      fm_real *logits)
{
    struct fm_seq seq;
    int n_seqs = fm_seqs_of_single(cfg, m->kv, pos, 1, &seq);
    const struct fm_batch b = {.T = 1, .n_seqs = n_seqs, .seqs = &seq, .pos = c->arena->dry ? NULL : m->pos + pos};
    fm_mtp_forward(c, cfg, w, rope_freq, 0, &b, &next, hidden, hidden);
    fm_model_logits(c, w, logits, hidden, 1);
}

void fm_mtp_draft(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w, const double *rope_freq,
                  struct fm_mtp_state *m, int length, int n, int32_t *out)
{
    fm_arena_reset(c->arena, 0);
    fm_real *hidden = fm_ctx_reals(c, (size_t)cfg->D, "hidden");
    fm_real *logits = fm_ctx_reals(c, (size_t)cfg->V, "logits");
    if (c->arena->dry) {
        run_block(c, cfg, w, rope_freq, m, length, 0, hidden, logits);
        return;
    }
    assert(m->rows + m->held == length && m->held > 0);
    if (m->held > 1) append(c, cfg, w, rope_freq, m, m->held - 1);
    if (c->status) return;
    memcpy(hidden, m->hidden, (size_t)cfg->D * sizeof *hidden);
    int32_t next = m->ids[length];
    for (int i = 0; i < n; i++) {
        run_block(c, cfg, w, rope_freq, m, length - 1 + i, next, hidden, logits);
        if (c->status) return;
        next = out[i] = likeliest(logits, cfg->V);
        if (!i) memcpy(m->logits, logits, (size_t)cfg->V * sizeof *logits);
    }
    m->rows = length; /* the first run's row is true */
    m->held = 0;
}

void fm_mtp_settle(struct fm_mtp_state *m, int length)
{
    const int whole = length ? length - 1 : 0; /* the last row's token is the one to come */
    if (m->rows > whole) {
        m->rows = whole;
        m->held = 0;
    }
    if (m->held > length - m->rows) m->held = length - m->rows;
}
