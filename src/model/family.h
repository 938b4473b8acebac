/* A family = one file and one row: how to recognise it, read its numbers, and name its tensors. */
#ifndef FM_MODEL_FAMILY_H
#define FM_MODEL_FAMILY_H

#include "base/json.h"
#include "file/tensors.h"
#include "file/write.h"
#include "model/config.h"

/* Checked reading of numbers from config.json or GGUF keys; the first failure sticks. */
struct fm_reader {
    const json_t *json;         /* the object, or NULL … */
    const struct fm_file *gguf; /* … then keys are arch.KEY */
    const char *arch, *where;
    enum fm_status status;
    struct fm_error *err;
};
enum { FM_NEEDED = -2147483647 }; /* as dflt: the key must be there */
int fm_read_int(struct fm_reader *r, const char *key, int min, int max, int dflt);
double fm_read_num(struct fm_reader *r, const char *key, double min, double max, double dflt); /* NAN as dflt: needed */
bool fm_read_bool(struct fm_reader *r, const char *key, bool dflt);
/* NULL when absent or no string; json only */
const char *fm_read_str(struct fm_reader *r, const char *key);
void fm_reader_fail(struct fm_reader *r, const char *key, const char *why);

/* One concrete tensor of a concrete model. */
enum {
    FM_BIND_VECTOR = 1,       /* one row, kept as fm_real                                      */
    FM_BIND_SPLIT_WHOLE = 64, /* this tensor, or …                                         */
    FM_BIND_SPLIT_PART = 128, /* … these parts of it (no hf name: never trained or exported) */
    FM_BIND_PERMUTE = 4,      /* rows of q, k in GGUF llama files are permuted per head (models.md §1.3) */
    FM_BIND_NORM = 8,         /* starts at one                                                 */
    FM_BIND_ZERO = 16,        /* starts at zero (biases)                                       */
    FM_BIND_BUFFER = 32,      /* no gradient (router bias)                                     */
    FM_BIND_F32 = 256,        /* a matrix that is written as f32 whatever the others are       */
};
struct fm_binding {
    char hf[128];  /* Hugging Face name */
    char gguf[64]; /* GGUF name; for experts the stacked tensor */
    int layer;     /* number in names; 0 outside layers          */
    int expert;    /* slice of the stacked GGUF tensor, or -1   */
    int n_experts;
    struct fm_mat *mat; /* where it goes in struct fm_weights     */
    int rows, cols;     /* rows 1 for a vector                    */
    int heads;          /* FM_BIND_PERMUTE: heads of this matrix  */
    unsigned flags;
};

/* A row of a family's table: names with {l} (layer) and {e} (expert). */
struct fm_tensor_row {
    const char *hf, *gguf;
    size_t offset; /* of the fm_mat in its struct                        */
    enum { FM_IN_MODEL, FM_IN_LAYER, FM_IN_EXPERT, FM_IN_MTP } where; /* layer rows serve the MTP blocks, too */
    void (*shape)(const struct fm_config *cfg, int *rows, int *cols);
    bool (*when)(const struct fm_config *cfg, int layer); /* NULL: always */
    unsigned flags;
    int (*heads)(const struct fm_config *cfg);
};

struct fm_family {
    const char *name;            /* "deepseek_v3"                                    */
    const char *const *hf_types; /* model_type values, NULL-terminated               */
    const char *gguf_arch;       /* general.architecture                             */
    const char *hf_class;        /* architectures[0] written on export               */
    const struct fm_tensor_row *rows;
    int n_rows;
    bool permuted_gguf;                          /* q, k rows of GGUF files are permuted per head (models.md §1.3) */
    bool (*gguf_match)(const struct fm_file *f); /* two families may share an arch; NULL: arch decides */
    /* The family's own numbers; the common ones are read before.  Failures stick in the reader. */
    void (*read_json)(struct fm_reader *r, struct fm_config *cfg);
    void (*read_gguf)(struct fm_reader *r, struct fm_config *cfg);
    /* for export: the keys that the readers read back */
    void (*write_json)(const struct fm_config *cfg, json_t *j);
    void (*write_gguf)(const struct fm_config *cfg, struct fm_writer *w);
};

extern const struct fm_family *const fm_families[];
extern const int fm_n_families;

#endif
