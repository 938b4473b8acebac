/* DeepSeek V3, R1, V3.1 and models of their shape (Moonlight, Kimi-K2): sigmoid router whose bias enters the selection only,
 * groups scored by their two best experts, renormalised weights, multi-token prediction.
 * DeepSeek-V3 report (arXiv 2412.19437) §2.1-2.2; models.md §4; tools/ref/deepseek.py. */
#include <string.h>

#include "model/deepseek.h"

FM_SHAPE(fm_shape_eh_proj) { *rows = cfg->D, *cols = 2 * cfg->D; }

/* An MTP block is one more layer whose number follows the last; its embedding and head are the main model's. */
static const struct fm_tensor_row rows[] = {
    FM_DEEPSEEK_ROWS,
    {"model.layers.{l}.enorm.weight", "blk.{l}.nextn.enorm.weight", MTP(enorm), fm_shape_dim, NULL,
     FM_BIND_VECTOR | FM_BIND_NORM, NULL},
    {"model.layers.{l}.hnorm.weight", "blk.{l}.nextn.hnorm.weight", MTP(hnorm), fm_shape_dim, NULL,
     FM_BIND_VECTOR | FM_BIND_NORM, NULL},
    {"model.layers.{l}.eh_proj.weight", "blk.{l}.nextn.eh_proj.weight", MTP(eh_proj), fm_shape_eh_proj, NULL, 0, NULL},
    {"model.layers.{l}.shared_head.norm.weight", "blk.{l}.nextn.shared_head_norm.weight", MTP(norm), fm_shape_dim, NULL,
     FM_BIND_VECTOR | FM_BIND_NORM, NULL},
};

static void rule(struct fm_config *cfg)
{
    cfg->moe.router.sigmoid = true;
    cfg->moe.router.group_top2 = true;
    cfg->router_bias = true;
}

static void read_json(struct fm_reader *r, struct fm_config *cfg)
{
    fm_deepseek_read_json(r, cfg);
    rule(cfg);
    const char *method = fm_read_str(r, "topk_method"), *scoring = fm_read_str(r, "scoring_func");
    if (method && strcmp(method, "noaux_tc")) fm_reader_fail(r, "topk_method", "must be noaux_tc in this family");
    if (scoring && strcmp(scoring, "sigmoid")) fm_reader_fail(r, "scoring_func", "must be sigmoid in this family");
    if (!fm_read_bool(r, "rope_interleave", true)) cfg->rope_interleaved = false;
}

static void read_gguf(struct fm_reader *r, struct fm_config *cfg)
{
    struct fm_router *m = &cfg->moe.router;
    const bool no_groups_in_file = fm_read_int(r, "expert_group_count", 1, FM_MAX_EXPERTS, 0) == 0;
    fm_deepseek_read_gguf(r, cfg);
    rule(cfg);
    /* V3 files older than these keys */
    if (no_groups_in_file && m->E == 256) m->n_group = 8, m->topk_group = 4;
    if (m->E && !fm_deepseek_has_key(r, "expert_weights_norm")) m->norm_topk = true;
    if (m->E == 256 && !fm_deepseek_has_key(r, "expert_weights_scale")) m->scale = (fm_real)2.5;
}

static void write_json(const struct fm_config *cfg, json_t *j)
{
    fm_deepseek_write_json(cfg, j);
    json_object_set_new(j, "topk_method", json_string("noaux_tc"));
}

const struct fm_family fm_family_deepseek_v3 = {
    .name = "deepseek_v3",
    .hf_types = (const char *const[]){"deepseek_v3", "kimi_k2", NULL},
    .gguf_arch = "deepseek2",
    .hf_class = "DeepseekV3ForCausalLM",
    .rows = rows,
    .n_rows = sizeof rows / sizeof *rows,
    .gguf_match = fm_deepseek_gguf_is_v3,
    .read_json = read_json,
    .read_gguf = read_gguf,
    .write_json = write_json,
    .write_gguf = fm_deepseek_write_gguf,
};
