/* Parameters, floating point operations and bytes that follow from a config alone. */
#include "base/mem.h"
#include "model/model.h"

static double attention_flops_per_key(const struct fm_config *cfg, bool expanded)
{
    const struct fm_mla_shape *a = &cfg->mla;
    if (!a->Rkv) return 4.0 * cfg->mha.H * cfg->mha.Dh;
    return 2.0 * a->H * (expanded ? a->Dn + a->Dr + a->Dv : 2 * a->Rkv + a->Dr);
}

void fm_model_count(const struct fm_config *cfg, int seq, struct fm_counts *out)
{
    struct fm_weights w;
    struct fm_binding *list = NULL;
    int n = 0;
    double matrices = 0, active = 0, mtp = 0;
    *out = (struct fm_counts){0};
    if (fm_weights_init(&w, cfg, NULL)) return;
    if (!fm_bindings_new(cfg, &w, &list, &n, NULL)) {
        for (int i = 0; i < n; i++) {
            const struct fm_binding *b = &list[i];
            if (b->flags & FM_BIND_SPLIT_PART) continue;
            const double size = (double)b->rows * b->cols;
            const double used = b->expert >= 0 ? size * cfg->moe.router.K / cfg->moe.router.E : size;
            const bool lookup = b->mat == &w.embed, vector = b->flags & FM_BIND_VECTOR, in_mtp = b->layer >= cfg->L;
            out->params_total += (int64_t)size;
            if (in_mtp) {
                if (!vector) mtp += used;
                continue;
            }
            if (!lookup) active += used;
            if (!lookup && !vector) matrices += used;
        }
    }
    const double head = (double)cfg->V * cfg->D;
    if (cfg->tied) active += head, matrices += head;
    out->params_active = (int64_t)active;
    out->flops_per_token = 2 * matrices;
    out->flops_per_token_per_ctx = attention_flops_per_key(cfg, false) * cfg->L;
    const double layers = cfg->L + (cfg->n_mtp > 0);
    out->train_flops_per_token =
        3 * (2 * (matrices + (cfg->n_mtp ? mtp + head : 0)) + attention_flops_per_key(cfg, true) * layers * seq / 2);
    fm_free(list);
    fm_weights_release(&w, cfg);
}
