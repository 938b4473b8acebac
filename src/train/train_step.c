/* One optimiser step over all micro-batches; one evaluation. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "train/trainer.h"

/* Windows starts[0 … n) → rows of the micro-batch. */
static struct fm_batch fill_batch(struct fm_trainer *t, const uint64_t *starts, int n)
{
    const int seq = t->o.seq;
    for (int s = 0; s < n; s++) {
        const size_t row = (size_t)s * (size_t)seq;
        t->seqs[s] = (struct fm_seq){.row0 = (int)row, .n = seq, .segment_n = seq};
        for (int i = 0; i < seq; i++) {
            const uint64_t at = starts[s] + (uint64_t)i;
            t->ids[row + (size_t)i] = fm_tokens_at(&t->tokens, at);
            t->pos[row + (size_t)i] = i;
            t->target[row + (size_t)i] = fm_tokens_at(&t->tokens, at + 1);
            if (t->extra > 1) t->target2[row + (size_t)i] = fm_tokens_at(&t->tokens, at + 2);
        }
    }
    return (struct fm_batch){.T = n * seq, .n_seqs = n, .seqs = t->seqs, .ids = t->ids, .pos = t->pos};
}

static enum fm_status check_ctx(const struct fm_trainer *t, struct fm_error *err)
{
    if (t->ctx.status && err) *err = t->ctx.error;
    return t->ctx.status;
}

/* What went wrong, where: the step, and the first token of every sequence that was in it. */
static enum fm_status not_finite(const struct fm_trainer *t, const char *what, double value, const uint64_t *starts,
                                 int n, struct fm_error *err)
{
    struct fm_buf list = {0};
    for (int i = 0; i < n && i < 6; i++) fm_buf_printf(&list, i ? ", %llu" : "%llu", (unsigned long long)starts[i]);
    if (n > 6) fm_buf_str(&list, ", …");
    (void)fm_fail(err, FM_ERR_FAILED, "train: step %lld: %s is %g; sequences start at tokens %s of the corpus",
                  (long long)t->step + 1, what, value, list.data ? list.data : "?");
    fm_hint(
        err,
        "the last checkpoint is kept; resume from it with a lower learning rate in a new run, or look at that text");
    fm_buf_release(&list);
    return FM_ERR_FAILED;
}

struct step_losses {
    double loss, mtp, balance; /* means over the step */
};

/* Gradients of the whole batch into params.g, a micro-batch at a time. */
static enum fm_status gradients(struct fm_trainer *t, struct step_losses *out, struct fm_error *err)
{
    const int batch = t->o.batch;
    const double rows = (double)batch * t->o.seq;
    const bool mtp = t->extra > 1;
    *out = (struct step_losses){0};
    fm_adamw_zero(&t->ctx, &t->params);
    memset(t->load, 0, (size_t)t->n_load * sizeof *t->load);
    for (int i = 0; i < batch; i++) t->starts[i] = fm_data_next(&t->data);
    for (int i = 0; i < batch; i += t->o.micro) {
        const int n = batch - i < t->o.micro ? batch - i : t->o.micro;
        const struct fm_batch b = fill_batch(t, t->starts + i, n);
        struct fm_step s = {.target = t->target,
                            .next = mtp ? t->target : NULL,
                            .target2 = t->target2,
                            .scale = 1 / rows,
                            .scale_mtp = (double)t->o.mtp_weight / rows,
                            .balance_alpha = (double)t->o.balance_weight,
                            .balance_seq_weight = 1.0 / batch,
                            .load = t->n_load ? t->load : NULL};
        fm_model_step(&t->ctx, &t->cfg, &t->params.w, &t->params.dw, t->rope_freq, &b, &s);
        FM_TRY(check_ctx(t, err));
        const double all = s.loss_sum + s.mtp_loss_sum + s.balance_sum;
        if (!isfinite(all)) return not_finite(t, "the loss", all, t->starts + i, n, err);
        out->loss += s.loss_sum / rows;
        out->mtp += s.mtp_loss_sum / rows;
        out->balance += s.balance_sum;
    }
    return FM_OK;
}

static enum fm_status update(struct fm_trainer *t, double lr, struct fm_error *err)
{
    const struct fm_train_options *o = &t->o;
    const struct fm_adamw_rule rule = {lr, o->beta1, o->beta2, o->eps, o->weight_decay, o->clip};
    const double norm = fm_adamw_norm(&t->ctx, &t->params);
    if (!isfinite(norm)) return not_finite(t, "the norm of the gradient", norm, t->starts, o->batch, err);
    fm_adamw_step(&t->ctx, &t->params, &rule, t->step + 1, norm);
    t->grad_norm = norm;
    t->lr = lr;
    return check_ctx(t, err);
}

enum fm_status fm_trainer_step(struct fm_trainer *t, struct fm_error *err)
{
    const double start = fm_seconds();
    struct step_losses l;
    FM_TRY(gradients(t, &l, err));
    FM_TRY(update(t, (double)t->o.lr * fm_schedule_at(&t->plan, t->step), err));
    fm_router_bias_update(&t->cfg, &t->params.w, t->load, (double)t->o.bias_rate * fm_schedule_hold(&t->plan, t->step));
    for (int i = 0; i < t->n_load; i++) t->load_sum[i] += t->load[i];
    t->sums.loss += l.loss;
    t->sums.mtp_loss += l.mtp;
    t->sums.balance_loss += l.balance;
    t->sums.steps++;
    t->sums.seconds += fm_seconds() - start;
    t->last_loss = l.loss;
    t->step++;
    t->seen += (int64_t)t->o.batch * t->o.seq;
    return FM_OK;
}

/* The work of a step at rate 0: parameters keep their bits, moments are cleared again. */
enum fm_status fm_trainer_rehearse(struct fm_trainer *t, struct fm_error *err)
{
    struct step_losses l;
    const struct fm_cursor cursor = t->data.cursor;
    FM_TRY(gradients(t, &l, err));
    FM_TRY(update(t, 0, err));
    memset(t->params.m, 0, fm_params_bytes(&t->params));
    memset(t->params.v, 0, fm_params_bytes(&t->params));
    t->data.cursor = cursor;
    return FM_OK;
}

/* Text bytes of the targets of the n windows in the batch. */
static double target_bytes(const struct fm_trainer *t, int rows)
{
    double bytes = 0;
    for (int i = 0; i < rows; i++) bytes += t->token_bytes[t->target[i]];
    return bytes;
}

enum fm_status fm_trainer_eval(struct fm_trainer *t, int64_t n_windows, struct fm_error *err)
{
    const int64_t all = t->data.n_val, n = n_windows > 0 && n_windows < all ? n_windows : all;
    double loss = 0, bytes = 0;
    if (!n) return FM_OK;
    const int most = t->o.micro < t->o.batch ? t->o.micro : t->o.batch; /* starts holds a batch */
    for (int64_t i = 0; i < n; i += most) {
        uint64_t *const starts = t->starts;
        const int k = n - i < most ? (int)(n - i) : most;
        for (int j = 0; j < k; j++) starts[j] = fm_data_val(&t->data, (i + j) * all / n);
        const struct fm_batch b = fill_batch(t, starts, k);
        struct fm_step s = {.target = t->target};
        fm_model_step(&t->ctx, &t->cfg, &t->params.w, NULL, t->rope_freq, &b, &s);
        FM_TRY(check_ctx(t, err));
        loss += s.loss_sum;
        bytes += target_bytes(t, b.T);
    }
    t->val_loss = loss / ((double)n * t->o.seq);
    t->val_bpb = bytes > 0 ? loss / (bytes * 0.69314718055994531) : NAN; /* nats → bits */
    return FM_OK;
}
