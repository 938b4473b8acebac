/* A family = one file and one row: how to recognise it, read its numbers, and name its tensors. */
#ifndef FM_MODEL_FAMILY_H
#define FM_MODEL_FAMILY_H

#include "base/json.h"
#include "file/tensors.h"
#include "file/write.h"
#include "model/config.h"

/* One concrete tensor of a concrete model. */
enum {
    FM_BIND_VECTOR = 1,   /* one row, kept as fm_real                                      */
    FM_BIND_OPTIONAL = 2, /* may be absent from the file                                   */
    FM_BIND_PERMUTE = 4,  /* rows of q, k in GGUF llama files are permuted per head (models.md §1.3) */
    FM_BIND_NORM = 8,     /* starts at one                                                 */
    FM_BIND_ZERO = 16,    /* starts at zero (biases)                                       */
    FM_BIND_BUFFER = 32,  /* no gradient (router bias)                                     */
};
struct fm_binding {
    char hf[128];   /* Hugging Face name */
    char gguf[64];  /* GGUF name; for experts the stacked tensor */
    int expert;     /* slice of the stacked GGUF tensor, or -1   */
    int n_experts;
    struct fm_mat *mat; /* where it goes in struct fm_weights     */
    int rows, cols;     /* rows 1 for a vector                    */
    int heads;          /* FM_BIND_PERMUTE: heads of this matrix  */
    unsigned flags;
};

/* A row of a family's table: names with {l} (layer) and {e} (expert). */
struct fm_tensor_row {
    const char *hf, *gguf;
    size_t offset;                                    /* of the fm_mat in its struct                        */
    enum { FM_IN_MODEL, FM_IN_LAYER, FM_IN_EXPERT, FM_IN_MTP, FM_IN_MTP_LAYER, FM_IN_MTP_EXPERT } where;
    void (*shape)(const struct fm_config *cfg, int *rows, int *cols);
    bool (*when)(const struct fm_config *cfg, int layer); /* NULL: always */
    unsigned flags;
    int (*heads)(const struct fm_config *cfg);
};

struct fm_family {
    const char *name;           /* "deepseek_v3"                                    */
    const char *const *hf_types;/* model_type values, NULL-terminated               */
    const char *gguf_arch;      /* general.architecture                             */
    const char *hf_class;       /* architectures[0] written on export               */
    const struct fm_tensor_row *rows;
    int n_rows;
    /* Is this GGUF (arch already equal) ours?  Two families may share an arch. */
    bool (*gguf_match)(const struct fm_file *f);
    enum fm_status (*read_json)(const json_t *j, struct fm_config *cfg, const char *where, struct fm_error *err);
    enum fm_status (*read_gguf)(const struct fm_file *f, struct fm_config *cfg, struct fm_error *err);
    /* for export: the keys that read_json / read_gguf read back */
    void (*write_json)(const struct fm_config *cfg, json_t *j);
    void (*write_gguf)(const struct fm_config *cfg, struct fm_writer *w);
};

extern const struct fm_family *const fm_families[];
extern const int fm_n_families;

#endif
