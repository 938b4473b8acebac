/* Shapes with a name, as config.json in the published spelling. */
#ifndef FM_TRAIN_PRESETS_H
#define FM_TRAIN_PRESETS_H

#include "base/json.h"
#include "fathom_train.h"

struct fm_preset_row {
    const char *name, *summary;
    /* shape letters as in nn/nn.h */
    int V, D, L, F, H;
    int Hkv;                                /* dense attention (llama); 0: latent attention (deepseek_v3) */
    int Rq, Rkv, Dn, Dr, Dv;                /* latent attention; Rq 0: plain q (llama.cpp wants low rank) */
    int E, K, Fe, n_shared, n_dense, n_mtp; /* experts of width Fe; shared ones of the same  */
    double routed_scale;
    bool tied;
    /* how it is trained unless told otherwise */
    int seq, batch;
    float lr;
    double minutes;
};

/* NULL when there is none of that name. */
const struct fm_preset_row *fm_preset_find(const char *name);
/* New reference: config.json of this shape with a vocabulary of V entries; NULL when memory is short. */
json_t *fm_preset_config(const struct fm_preset_row *p, int V);

#endif
