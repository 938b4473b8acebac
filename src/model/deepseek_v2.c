/* DeepSeek V2, V2-Lite, V2.5, Coder-V2: MLA, softmax router, group-limited top-k by the group's best expert.
 * DeepSeek-V2 report (arXiv 2405.04434); models.md §3; tools/ref/deepseek.py. */
#include <string.h>

#include "model/deepseek.h"

static const struct fm_tensor_row rows[] = {FM_DEEPSEEK_ROWS};

static void rule(struct fm_config *cfg)
{
    cfg->moe.router.sigmoid = false;
    cfg->moe.router.group_top2 = false;
    cfg->router_bias = false;
    cfg->n_mtp = 0;
}

static void read_json(struct fm_reader *r, struct fm_config *cfg)
{
    fm_deepseek_read_json(r, cfg);
    rule(cfg);
    const char *method = fm_read_str(r, "topk_method");
    if (method && !strcmp(method, "greedy"))
        cfg->moe.router.n_group = cfg->moe.router.topk_group = 1; /* groups play no part */
    else if (method && strcmp(method, "group_limited_greedy"))
        fm_reader_fail(r, "topk_method", "is neither greedy nor group_limited_greedy");
    const char *scoring = fm_read_str(r, "scoring_func");
    if (scoring && strcmp(scoring, "softmax")) fm_reader_fail(r, "scoring_func", "must be softmax in this family");
}

static void read_gguf(struct fm_reader *r, struct fm_config *cfg)
{
    struct fm_router *m = &cfg->moe.router;
    const bool no_groups_in_file = fm_read_int(r, "expert_group_count", 1, FM_MAX_EXPERTS, 0) == 0;
    fm_deepseek_read_gguf(r, cfg);
    rule(cfg);
    if (fm_read_int(r, "expert_gating_func", 0, 100, 1) > 1)
        fm_reader_fail(r, "expert_gating_func", "is neither 1 (softmax) nor 2 (sigmoid)");
    /* V2 files older than these keys */
    if (no_groups_in_file && m->E == 160) m->n_group = 8, m->topk_group = 3;
    if (m->E == 160 && !fm_deepseek_has_key(r, "expert_weights_scale")) m->scale = 16;
}

/* Both generations announce themselves as deepseek2: V3 has a sigmoid router. */
static bool is_v2(const struct fm_file *f) { return !fm_deepseek_gguf_is_v3(f); }

static void write_json(const struct fm_config *cfg, json_t *j)
{
    fm_deepseek_write_json(cfg, j);
    json_object_set_new(j, "topk_method", json_string(cfg->moe.router.n_group > 1 ? "group_limited_greedy" : "greedy"));
}

const struct fm_family fm_family_deepseek_v2 = {
    .name = "deepseek_v2",
    .hf_types = (const char *const[]){"deepseek_v2", NULL},
    .gguf_arch = "deepseek2",
    .hf_class = "DeepseekV2ForCausalLM",
    .rows = rows,
    .n_rows = sizeof rows / sizeof *rows,
    .gguf_match = is_v2,
    .read_json = read_json,
    .read_gguf = read_gguf,
    .write_json = write_json,
    .write_gguf = fm_deepseek_write_gguf,
};
