/* What a conversion writes, tensor by tensor: from a bound model under the names of either container, or from a file with
 * its names and layout as they are. */
#ifndef FM_MODEL_TENSOR_LIST_H
#define FM_MODEL_TENSOR_LIST_H

#include "model/model.h"
#include "model/recode.h"

struct fm_recode_list {
    struct fm_recode_tensor *v; /* names live in rows, or in the file */
    int n;
    struct fm_binding *rows;
    float *divisors; /* of RoPE frequencies */
};

/* gguf: names and layout of GGUF, else of Hugging Face; cfg->kv_split then decides how kv_b is written.  w and what it
 * points to must outlive the list. */
enum fm_status fm_list_from_model(const struct fm_config *cfg, struct fm_weights *w, bool gguf, bool without_mtp,
                                  struct fm_recode_list *list, struct fm_error *err) FM_MUST_USE;
/* Every tensor of f, whatever the architecture; layers from `layers` on are left out.  FM_ERR_INPUT for types that cannot be
 * converted or passed on. */
enum fm_status fm_list_from_file(const struct fm_file *f, int layers, struct fm_recode_list *list,
                                 struct fm_error *err) FM_MUST_USE;
void fm_list_release(struct fm_recode_list *list);

#endif
