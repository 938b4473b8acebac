/* A conversion in work, for quantize*.c. */
#ifndef FM_RUN_QUANTIZE_H
#define FM_RUN_QUANTIZE_H

#include "fathom.h"
#include "file/replace_folder.h"
#include "file/shards.h"
#include "model/imatrix.h"
#include "model/recipe.h"
#include "model/tensor_list.h"

struct fm_quantize_job {
    const struct fm_quantize_options *o;
    struct fm_file *file;
    bool from_gguf, to_gguf;
    bool known; /* the config could be read */
    struct fm_config cfg;
    struct fm_model model; /* where the container changes */
    bool loaded;
    struct fm_recode_list list;
    struct fm_recipe recipe;
    struct fm_recipe_rule *rules;
    struct fm_imatrix importance;
    struct fm_pool *pool;
    /* the output */
    struct fm_replace_folder folder;
    struct fm_shards *shards;
    struct fm_writer *writer;
    int file_type; /* general.file_type */
};

void fm_quantize_note(const struct fm_quantize_job *j, const char *fmt, ...) FM_PRINTF(2, 3);

/* quantize_files.c: what is written beside the tensors. */
/* Keys of the GGUF being written. */
enum fm_status fm_quantize_keys(struct fm_quantize_job *j, struct fm_error *err) FM_MUST_USE;
/* Files of the folder being written. */
enum fm_status fm_quantize_files(struct fm_quantize_job *j, struct fm_error *err) FM_MUST_USE;
/* The first layer that --without-mtp leaves out; INT_MAX: none. */
int fm_quantize_layers(const struct fm_quantize_job *j);

#endif
