/* Shapes and numbers of the dense families. */
#include "model/dense.h"

#include <stdio.h>

FM_SHAPE(fm_shape_vocab) { *rows = cfg->V, *cols = cfg->D; }
FM_SHAPE(fm_shape_dim) { *rows = 1, *cols = cfg->D; }
FM_SHAPE(fm_shape_q) { *rows = cfg->mha.H * cfg->mha.Dh, *cols = cfg->D; }
FM_SHAPE(fm_shape_kv) { *rows = cfg->mha.Hkv * cfg->mha.Dh, *cols = cfg->D; }
FM_SHAPE(fm_shape_o) { *rows = cfg->D, *cols = cfg->mha.H * cfg->mha.Dh; }
FM_SHAPE(fm_shape_bq) { *rows = 1, *cols = cfg->mha.H * cfg->mha.Dh; }
FM_SHAPE(fm_shape_bkv) { *rows = 1, *cols = cfg->mha.Hkv * cfg->mha.Dh; }
FM_SHAPE(fm_shape_head) { *rows = 1, *cols = cfg->mha.Dh; }
FM_SHAPE(fm_shape_up) { *rows = cfg->F, *cols = cfg->D; }
FM_SHAPE(fm_shape_down) { *rows = cfg->D, *cols = cfg->F; }
int fm_heads_q(const struct fm_config *cfg) { return cfg->mha.H; }
int fm_heads_kv(const struct fm_config *cfg) { return cfg->mha.Hkv; }

bool fm_when_untied(const struct fm_config *cfg, int layer)
{
    (void)layer;
    return !cfg->tied;
}

bool fm_when_dense(const struct fm_config *cfg, int layer) { return !fm_layer_is_moe(cfg, layer); }

/* The widest head that attention holds: the same limit whether a file states the width or it follows from D and H. */
enum { HEAD_MAX = FM_OP_HEAD_WIDTH / 3 };

static void set(struct fm_config *cfg, int Hkv, int Dh)
{
    cfg->mha = (struct fm_mha_shape){.H = cfg->H, .Hkv = Hkv, .Dh = Dh, .eps = (fm_real)cfg->eps};
    cfg->rope_dim = Dh;
}

void fm_dense_read_json(struct fm_reader *r, struct fm_config *cfg)
{
    const int Hkv = fm_read_int(r, "num_key_value_heads", 1, 4096, cfg->H);
    set(cfg, Hkv, fm_read_int(r, "head_dim", 2, HEAD_MAX, cfg->D / (cfg->H ? cfg->H : 1)));
}

void fm_dense_read_gguf(struct fm_reader *r, struct fm_config *cfg)
{
    const int Hkv = fm_read_int(r, "attention.head_count_kv", 1, 4096, cfg->H);
    set(cfg, Hkv, fm_read_int(r, "attention.key_length", 2, HEAD_MAX, cfg->D / (cfg->H ? cfg->H : 1)));
    if (fm_read_int(r, "attention.value_length", 2, HEAD_MAX, cfg->mha.Dh) != cfg->mha.Dh)
        fm_reader_fail(r, "attention.value_length", "differs from key_length");
    cfg->rope_dim = fm_read_int(r, "rope.dimension_count", 2, HEAD_MAX, cfg->mha.Dh);
}

void fm_dense_write_json(const struct fm_config *cfg, json_t *j)
{
    json_object_set_new(j, "num_key_value_heads", json_integer(cfg->mha.Hkv));
    json_object_set_new(j, "head_dim", json_integer(cfg->mha.Dh));
}

void fm_dense_write_gguf(const struct fm_config *cfg, struct fm_writer *w)
{
    char key[96];
    const char *arch = cfg->family->gguf_arch;
    snprintf(key, sizeof key, "%s.attention.head_count_kv", arch);
    fm_writer_meta_int(w, key, 4, cfg->mha.Hkv);
    snprintf(key, sizeof key, "%s.attention.key_length", arch);
    fm_writer_meta_int(w, key, 4, cfg->mha.Dh);
    snprintf(key, sizeof key, "%s.attention.value_length", arch);
    fm_writer_meta_int(w, key, 4, cfg->mha.Dh);
}
