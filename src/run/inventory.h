/* Every weight of a model with its format, whether the file is here or only its config: what plans count. */
#ifndef FM_RUN_INVENTORY_H
#define FM_RUN_INVENTORY_H

#include "model/model.h"

enum fm_part_kind {
    FM_KIND_ATTENTION,
    FM_KIND_FFN,
    FM_KIND_EXPERTS,
    FM_KIND_SHARED,
    FM_KIND_SMALL, /* norms, biases, routers */
    FM_KIND_EMBED,
    FM_KIND_HEAD,
    FM_KIND_MTP,
    FM_KIND_COUNT
};

struct fm_stored {
    enum fm_part_kind kind;
    enum fm_fmt fmt;
    uint64_t bytes;      /* of this matrix; one expert's share of a stack         */
    double decode_bytes; /* read for one token that is generated, on average      */
    double decode_macs;  /* multiply-adds for it                                  */
    double prefill_macs; /* for each token of a prompt, without expanded latents  */
    bool there;          /* false: the other form of a pair is stored             */
};

struct fm_inventory {
    const struct fm_config *cfg;
    struct fm_weights w; /* shapes and addresses that nobody reads */
    struct fm_binding *rows;
    struct fm_stored *stored; /* [n], of rows[i] */
    int n;
    double absorbed_bytes; /* float32 matrices derived when loading, read for each generated token */
};

/* f NULL: what fathom quantize --type TYPE would write as GGUF; type: a mixture ("Q4_K_M") or a format.  cfg must outlive
 * inv. */
enum fm_status fm_inventory_new(struct fm_inventory *inv, const struct fm_config *cfg, const struct fm_file *f,
                                const char *type, struct fm_error *err) FM_MUST_USE;
/* Whether weights can be planned in that type. */
bool fm_inventory_knows(const char *type);
void fm_inventory_release(struct fm_inventory *inv);

#endif
