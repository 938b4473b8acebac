/* What lies with the weights: which tensor belongs to a binding, the tokenizer, the chat template. */
#ifndef FM_RUN_RESOURCES_H
#define FM_RUN_RESOURCES_H

#include "file/tensors.h"
#include "model/model.h"
#include "text/tokenizer.h"

/* The tensor of a binding under this container's name; NULL when absent. Of stacked experts the whole stack;
 * of packed FP4 the values, in *view (model/scales.h). */
const struct fm_tensor *fm_binding_tensor(const struct fm_file *f, const struct fm_binding *b, struct fm_tensor *view);

/* *tok stays NULL when the model carries no tokenizer, or one we cannot read: then why says so, and a model without text
 * still computes logits.  Only a lack of memory is a failure. */
enum fm_status fm_model_tokenizer(const struct fm_file *f, struct fm_tokenizer **tok, struct fm_error *why,
                                  struct fm_error *err) FM_MUST_USE;
/* Heap bytes that this tokenizer will take, within some tens of percent; 0 without one. */
uint64_t fm_tokenizer_estimate(const struct fm_file *f);
uint64_t fm_tokenizer_estimate_of(uint64_t n_vocab);
/* The name (static) of the chat format that the model's template is recognised as; NULL when there is none, or (*unknown)
 * none that we know.  t: the model's tokenizer, to be surer; may be NULL. */
enum fm_status fm_model_chat(const struct fm_file *f, const struct fm_tokenizer *t, const char **name, bool *unknown,
                             struct fm_error *err) FM_MUST_USE;

/* The template itself, appended to text; of several the default one.  Nothing is appended when there is none. */
enum fm_status fm_model_template(const struct fm_file *f, struct fm_buf *text, struct fm_error *err) FM_MUST_USE;

#endif
