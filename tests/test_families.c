/* Every published model of the supported families by its numbers: config.json and the GGUF keys of each generation of files
 * give the same model, whose parameters count to what was published.  Numbers: models.md §2.2, §3.1, §4, the models' own
 * config.json (Llama 2 and 3, Qwen, Kimi-K2, Moonlight); the counts were computed from them by hand.
 *
 * GGUF keys are written as "KEY=VALUE …": integers; with a point, floats; else words. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "model/model.h"
#include "text/chat.h"
#include "text/pre.h"

static struct fm_error err;

// clang-format off
#define DENSE(type, V, D, F, L, H, KV, theta, eps, ctx, tied)                                                          \
    "{\"model_type\":\"" type "\",\"vocab_size\":" #V ",\"hidden_size\":" #D ",\"intermediate_size\":" #F              \
    ",\"num_hidden_layers\":" #L ",\"num_attention_heads\":" #H ",\"num_key_value_heads\":" #KV                        \
    ",\"rope_theta\":" #theta ",\"rms_norm_eps\":" #eps ",\"max_position_embeddings\":" #ctx                           \
    ",\"tie_word_embeddings\":" tied ",\"hidden_act\":\"silu\",\"bos_token_id\":1,\"eos_token_id\":[2,3]"
#define DENSE_GGUF(arch, V, D, F, L, H, KV, theta, ctx)                                                                \
    "general.architecture=" arch " " arch ".vocab_size=" #V " " arch ".embedding_length=" #D " " arch                  \
    ".feed_forward_length=" #F " " arch ".block_count=" #L " " arch ".attention.head_count=" #H " " arch               \
    ".attention.head_count_kv=" #KV " " arch ".rope.freq_base=" theta " " arch ".context_length=" #ctx " "             \
    arch ".attention.layer_norm_rms_epsilon=0.00001 "
#define LLAMA(V, D, F, L, H, KV, theta, ctx, tied, more)                                                               \
    .json = DENSE("llama", V, D, F, L, H, KV, theta, 1e-5, ctx, tied) more "}",                                        \
    .gguf = {DENSE_GGUF("llama", V, D, F, L, H, KV, #theta, ctx)}, .family = "llama"
#define LLAMA3_SCALING(F)                                                                                              \
    ",\"rope_scaling\":{\"factor\":" #F ".0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"                         \
    "\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"}"
#define QWEN2(V, D, F, L, H, KV, theta, eps, tied)                                                                     \
    .json = DENSE("qwen2", V, D, F, L, H, KV, theta, eps, 32768, tied)                                                 \
            ",\"use_sliding_window\":false,\"sliding_window\":131072,\"max_window_layers\":28}",                       \
    .gguf = {DENSE_GGUF("qwen2", V, D, F, L, H, KV, #theta, 32768)}, .family = "qwen2", .pre = "qwen2"
#define QWEN3(V, D, F, L, H, KV, tied, more, gguf_more)                                                                \
    .json = DENSE("qwen3", V, D, F, L, H, KV, 1000000, 1e-6, 40960, tied)                                              \
            ",\"head_dim\":128,\"attention_bias\":false,\"use_sliding_window\":false,\"sliding_window\":null" more "}", \
    .gguf = {DENSE_GGUF("qwen3", V, D, F, L, H, KV, "1000000.0", 40960)                                                 \
            "qwen3.attention.key_length=128 qwen3.attention.value_length=128 " gguf_more}, .family = "qwen3", .pre = "qwen2"

#define MLA(type, V, D, F, L, H, rest)                                                                                 \
    "{\"model_type\":\"" type "\",\"vocab_size\":" #V ",\"hidden_size\":" #D ",\"intermediate_size\":" #F              \
    ",\"num_hidden_layers\":" #L ",\"num_attention_heads\":" #H ",\"num_key_value_heads\":" #H                         \
    ",\"kv_lora_rank\":512,\"qk_nope_head_dim\":128,\"qk_rope_head_dim\":64,\"v_head_dim\":128,"                       \
    "\"attention_bias\":false,\"tie_word_embeddings\":false,\"moe_layer_freq\":1,\"hidden_act\":\"silu\","             \
    "\"max_position_embeddings\":163840," rest "}"
#define YARN(F, fast, m)                                                                                               \
    "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":" #F ",\"original_max_position_embeddings\":4096,\"beta_fast\":" #fast \
    ",\"beta_slow\":1,\"mscale\":" #m ",\"mscale_all_dim\":" #m "}"
#define V2_LITE MLA("deepseek_v2", 102400, 2048, 10944, 27, 16,                                                        \
    "\"q_lora_rank\":null,\"n_routed_experts\":64,\"n_shared_experts\":2,\"num_experts_per_tok\":6,"                   \
    "\"moe_intermediate_size\":1408,\"first_k_dense_replace\":1,\"n_group\":1,\"topk_group\":1,"                       \
    "\"topk_method\":\"greedy\",\"scoring_func\":\"softmax\",\"norm_topk_prob\":false,"                                \
    "\"routed_scaling_factor\":1.0,\"rms_norm_eps\":1e-6,\"rope_theta\":10000," YARN(40, 32, 0.707))
#define V2_OF(m) MLA("deepseek_v2", 102400, 5120, 12288, 60, 128,                                                      \
    "\"q_lora_rank\":1536,\"n_routed_experts\":160,\"n_shared_experts\":2,\"num_experts_per_tok\":6,"                  \
    "\"moe_intermediate_size\":1536,\"first_k_dense_replace\":1,\"n_group\":8,\"topk_group\":3,"                       \
    "\"topk_method\":\"group_limited_greedy\",\"scoring_func\":\"softmax\",\"norm_topk_prob\":false,"                  \
    "\"routed_scaling_factor\":16.0,\"rms_norm_eps\":1e-6,\"rope_theta\":10000," YARN(40, 32, m))
#define V3_OF(quant) MLA("deepseek_v3", 129280, 7168, 18432, 61, 128,                                                  \
    "\"q_lora_rank\":1536,\"n_routed_experts\":256,\"n_shared_experts\":1,\"num_experts_per_tok\":8,"                  \
    "\"moe_intermediate_size\":2048,\"first_k_dense_replace\":3,\"n_group\":8,\"topk_group\":4,"                       \
    "\"topk_method\":\"noaux_tc\",\"scoring_func\":\"sigmoid\",\"norm_topk_prob\":true,\"ep_size\":1,"                 \
    "\"routed_scaling_factor\":2.5,\"num_nextn_predict_layers\":1,\"rms_norm_eps\":1e-6,\"rope_theta\":10000,"         \
    "\"quantization_config\":{\"activation_scheme\":\"dynamic\",\"fmt\":\"e4m3\",\"quant_method\":\"fp8\"," quant      \
    "\"weight_block_size\":[128,128]}," YARN(40, 32, 1.0))
#define KIMI_K2 MLA("kimi_k2", 163840, 7168, 18432, 61, 64,                                                            \
    "\"q_lora_rank\":1536,\"n_routed_experts\":384,\"n_shared_experts\":1,\"num_experts_per_tok\":8,"                  \
    "\"moe_intermediate_size\":2048,\"first_k_dense_replace\":1,\"n_group\":1,\"topk_group\":1,"                       \
    "\"topk_method\":\"noaux_tc\",\"scoring_func\":\"sigmoid\",\"norm_topk_prob\":true,"                               \
    "\"routed_scaling_factor\":2.827,\"num_nextn_predict_layers\":0,\"rms_norm_eps\":1e-6,\"rope_theta\":50000.0,"     \
    "\"quantization_config\":{\"fmt\":\"e4m3\",\"quant_method\":\"fp8\",\"weight_block_size\":[128,128]},"             \
    YARN(32, 1, 1.0))
#define MOONLIGHT MLA("deepseek_v3", 163840, 2048, 11264, 27, 16,                                                      \
    "\"q_lora_rank\":null,\"n_routed_experts\":64,\"n_shared_experts\":2,\"num_experts_per_tok\":6,"                   \
    "\"moe_intermediate_size\":1408,\"first_k_dense_replace\":1,\"n_group\":1,\"topk_group\":1,"                       \
    "\"topk_method\":\"noaux_tc\",\"scoring_func\":\"sigmoid\",\"norm_topk_prob\":true,"                               \
    "\"routed_scaling_factor\":2.446,\"num_nextn_predict_layers\":0,\"rms_norm_eps\":1e-5,\"rope_theta\":50000.0,"     \
    "\"rope_scaling\":null")

#define D2 "deepseek2."
#define MLA_GGUF(V, D, F, L, H, E, K, Fm, shared, dense)                                                               \
    "general.architecture=deepseek2 " D2 "vocab_size=" #V " " D2 "embedding_length=" #D " " D2 "feed_forward_length="  \
    #F " " D2 "block_count=" #L " " D2 "attention.head_count=" #H " " D2 "expert_count=" #E " " D2                     \
    "expert_used_count=" #K " " D2 "expert_feed_forward_length=" #Fm " " D2 "expert_shared_count=" #shared " "         \
    dense D2 "attention.kv_lora_rank=512 " D2 "rope.dimension_count=64 "                                               \
    D2 "attention.layer_norm_rms_epsilon=0.000001 " D2 "context_length=163840 "
#define DENSE_FIRST(n) D2 "leading_dense_block_count=" #n " "
#define OLD_WIDTHS(H) D2 "attention.head_count_kv=" #H " " D2 "attention.key_length=192 " D2 "attention.value_length=128 "
#define NEW_WIDTHS                                                                                                     \
    D2 "attention.head_count_kv=1 " D2 "attention.key_length=576 " D2 "attention.value_length=512 "                    \
    D2 "attention.key_length_mla=192 " D2 "attention.value_length_mla=128 "
#define YARN_GGUF(F, log_mul)                                                                                          \
    D2 "rope.freq_base=10000.0 " D2 "rope.scaling.type=yarn " D2 "rope.scaling.factor=" F " " D2                       \
    "rope.scaling.original_context_length=4096 " D2 "rope.scaling.yarn_log_multiplier=" log_mul " "
#define Q_RANK D2 "attention.q_lora_rank=1536 "
#define SIGMOID D2 "expert_gating_func=2 " D2 "expert_weights_norm=true "
#define GROUPS(n, k) D2 "expert_group_count=" #n " " D2 "expert_group_used_count=" #k " "
#define SCALE(x) D2 "expert_weights_scale=" x " "
#define V3_NUMBERS(dense) MLA_GGUF(129280, 7168, 18432, 61, 128, 256, 8, 2048, 1, dense)

/* marks of the published templates */
#define T_LLAMA2 "{% if messages[0]['role'] == 'system' %}<<SYS>> [INST] {{ bos_token }}"
#define T_LLAMA3 "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>' }}<|eot_id|>"
#define T_LLAMA31 T_LLAMA3 "Cutting Knowledge Date: December 2023 Today Date: "
#define T_QWEN25 "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>"
#define T_QWEN3 "<|im_start|> enable_thinking is defined <think></think><|im_end|>"
#define T_V2 "{{ 'User: ' + message['content'] }} 'Assistant: ' {{ 'Assistant:' }}"
#define T_V3 "{{'<｜User｜>' + message['content']}}{{'<｜Assistant｜>'}}"
#define T_R1 T_V3 "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}"
#define T_V31 T_V3 "{% if thinking is defined and thinking %}<think>{% else %}</think>"
#define T_KIMI "<|im_system|>system<|im_middle|>You are Kimi, an AI assistant created by Moonshot AI.<|im_end|>"
#define T_MOON "<|im_system|>system<|im_middle|>You are a helpful assistant<|im_end|>"

static const struct model {
    const char *name, *json, *gguf[3]; /* gguf: as files of several generations have it */
    const char *tensors[3];            /* beside output.weight: those that tell something, in gguf[i] */
    const char *family, *pre, *chat, *tmpl;
    int64_t params; /* without MTP */
    double scale;   /* of the softmax; 0: 1/√head */
} models[] = {
    {"Llama-2-7B", LLAMA(32000, 4096, 11008, 32, 32, 32, 10000.0, 4096, "false", ""), .chat = "llama2", .tmpl = T_LLAMA2, .params = 6738415616},
    {"Llama-2-13B", LLAMA(32000, 5120, 13824, 40, 40, 40, 10000.0, 4096, "false", ""), .chat = "llama2", .tmpl = T_LLAMA2, .params = 13015864320},
    {"Llama-2-70B", LLAMA(32000, 8192, 28672, 80, 64, 8, 10000.0, 4096, "false", ""), .chat = "llama2", .tmpl = T_LLAMA2, .params = 68976648192},
    {"Llama-3-8B", LLAMA(128256, 4096, 14336, 32, 32, 8, 500000.0, 8192, "false", ""), .pre = "llama-bpe", .chat = "llama3", .tmpl = T_LLAMA3, .params = 8030261248},
    {"Llama-3-70B", LLAMA(128256, 8192, 28672, 80, 64, 8, 500000.0, 8192, "false", ""), .pre = "llama-bpe", .chat = "llama3", .tmpl = T_LLAMA3, .params = 70553706496},
    {"Llama-3.1-8B", LLAMA(128256, 4096, 14336, 32, 32, 8, 500000.0, 131072, "false", LLAMA3_SCALING(8)), .tensors = {"rope_freqs.weight"}, .pre = "llama-bpe", .chat = "llama3.1", .tmpl = T_LLAMA31, .params = 8030261248},
    {"Llama-3.2-3B", LLAMA(128256, 3072, 8192, 28, 24, 8, 500000.0, 131072, "true", LLAMA3_SCALING(32) ",\"head_dim\":128"), .tensors = {"rope_freqs.weight"}, .pre = "llama-bpe", .chat = "llama3.1", .tmpl = T_LLAMA31, .params = 3212749824},
    {"Llama-3.2-1B", LLAMA(128256, 2048, 8192, 16, 32, 8, 500000.0, 131072, "true", LLAMA3_SCALING(32) ",\"head_dim\":64"), .tensors = {"rope_freqs.weight"}, .pre = "llama-bpe", .chat = "llama3.1", .tmpl = T_LLAMA31, .params = 1235814400},
    {"Llama-3.3-70B", LLAMA(128256, 8192, 28672, 80, 64, 8, 500000.0, 131072, "false", LLAMA3_SCALING(8)), .tensors = {"rope_freqs.weight"}, .pre = "llama-bpe", .chat = "llama3.1", .tmpl = T_LLAMA31, .params = 70553706496},
    {"R1-Distill-Llama-8B", LLAMA(128256, 4096, 14336, 32, 32, 8, 500000.0, 131072, "false", LLAMA3_SCALING(8)), .tensors = {"rope_freqs.weight"}, .pre = "llama-bpe", .chat = "deepseek-r1", .tmpl = T_R1, .params = 8030261248},
    {"R1-Distill-Llama-70B", LLAMA(128256, 8192, 28672, 80, 64, 8, 500000.0, 131072, "false", LLAMA3_SCALING(8)), .tensors = {"rope_freqs.weight"}, .pre = "llama-bpe", .chat = "deepseek-r1", .tmpl = T_R1, .params = 70553706496},
    {"Qwen2.5-0.5B", QWEN2(151936, 896, 4864, 24, 14, 2, 1000000.0, 1e-6, "true"), .chat = "qwen2.5", .tmpl = T_QWEN25, .params = 494032768},
    {"Qwen2.5-1.5B", QWEN2(151936, 1536, 8960, 28, 12, 2, 1000000.0, 1e-6, "true"), .chat = "qwen2.5", .tmpl = T_QWEN25, .params = 1543714304},
    {"Qwen2.5-3B", QWEN2(151936, 2048, 11008, 36, 16, 2, 1000000.0, 1e-6, "true"), .chat = "qwen2.5", .tmpl = T_QWEN25, .params = 3085938688},
    {"Qwen2.5-7B", QWEN2(152064, 3584, 18944, 28, 28, 4, 1000000.0, 1e-6, "false"), .chat = "qwen2.5", .tmpl = T_QWEN25, .params = 7615616512},
    {"Qwen2.5-14B", QWEN2(152064, 5120, 13824, 48, 40, 8, 1000000.0, 1e-5, "false"), .chat = "qwen2.5", .tmpl = T_QWEN25, .params = 14770033664},
    {"Qwen2.5-32B", QWEN2(152064, 5120, 27648, 64, 40, 8, 1000000.0, 1e-5, "false"), .chat = "qwen2.5", .tmpl = T_QWEN25, .params = 32763876352},
    {"Qwen2.5-72B", QWEN2(152064, 8192, 29568, 80, 64, 8, 1000000.0, 1e-5, "false"), .chat = "qwen2.5", .tmpl = T_QWEN25, .params = 72706203648},
    {"R1-Distill-Qwen-1.5B", QWEN2(151936, 1536, 8960, 28, 12, 2, 10000.0, 1e-6, "false"), .chat = "deepseek-r1", .tmpl = T_R1, .params = 1777088000},
    {"R1-Distill-Qwen-7B", QWEN2(152064, 3584, 18944, 28, 28, 4, 10000.0, 1e-6, "false"), .chat = "deepseek-r1", .tmpl = T_R1, .params = 7615616512},
    {"R1-Distill-Qwen-32B", QWEN2(152064, 5120, 27648, 64, 40, 8, 1000000.0, 1e-5, "false"), .chat = "deepseek-r1", .tmpl = T_R1, .params = 32763876352},
    {"Qwen3-0.6B", QWEN3(151936, 1024, 3072, 28, 16, 8, "true", "", ""), .chat = "qwen3", .tmpl = T_QWEN3, .params = 596049920},
    {"Qwen3-1.7B", QWEN3(151936, 2048, 6144, 28, 16, 8, "true", "", ""), .chat = "qwen3", .tmpl = T_QWEN3, .params = 1720574976},
    {"Qwen3-4B", QWEN3(151936, 2560, 9728, 36, 32, 8, "true", "", ""), .chat = "qwen3", .tmpl = T_QWEN3, .params = 4022468096},
    {"Qwen3-8B", QWEN3(151936, 4096, 12288, 36, 32, 8, "false", "", ""), .chat = "qwen3", .tmpl = T_QWEN3, .params = 8190735360},
    {"Qwen3-14B", QWEN3(151936, 5120, 17408, 40, 40, 8, "false", "", ""), .chat = "qwen3", .tmpl = T_QWEN3, .params = 14768307200},
    {"Qwen3-32B", QWEN3(151936, 5120, 25600, 64, 64, 8, "false", "", ""), .chat = "qwen3", .tmpl = T_QWEN3, .params = 32762123264},
    {"R1-0528-Qwen3-8B", QWEN3(151936, 4096, 12288, 36, 32, 8, "false",
        ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4.0,\"original_max_position_embeddings\":32768,\"attn_factor\":0.8782488562869419}",
        "qwen3.rope.scaling.type=yarn qwen3.rope.scaling.factor=4.0 qwen3.rope.scaling.original_context_length=32768 qwen3.rope.scaling.attn_factor=0.87824886"),
     .chat = "deepseek-r1", .tmpl = T_R1, .params = 8190735360, .scale = 0.08838834764831845},

    {"DeepSeek-V2-Lite", V2_LITE,
     {MLA_GGUF(102400, 2048, 10944, 27, 16, 64, 6, 1408, 2, DENSE_FIRST(1)) OLD_WIDTHS(16) YARN_GGUF("40.0", "0.0707") SCALE("1.0"),
      MLA_GGUF(102400, 2048, 10944, 27, 16, 64, 6, 1408, 2, "") NEW_WIDTHS YARN_GGUF("40.0", "0.0707") SCALE("1.0") D2 "expert_gating_func=1 " D2 "expert_weights_norm=false"},
     {NULL, "blk.1.ffn_gate_inp.weight"},
     "deepseek_v2", "deepseek-llm", "deepseek-v2", T_V2, 15706484224, 0.1147213868},
    {"DeepSeek-V2, V2.5, Coder-V2", V2_OF(0.707),
     {MLA_GGUF(102400, 5120, 12288, 60, 128, 160, 6, 1536, 2, DENSE_FIRST(1)) OLD_WIDTHS(128) Q_RANK YARN_GGUF("40.0", "0.0707") SCALE("16.0"),
      MLA_GGUF(102400, 5120, 12288, 60, 128, 160, 6, 1536, 2, DENSE_FIRST(1)) OLD_WIDTHS(128) Q_RANK YARN_GGUF("40.0", "0.707"),
      MLA_GGUF(102400, 5120, 12288, 60, 128, 160, 6, 1536, 2, DENSE_FIRST(1)) NEW_WIDTHS Q_RANK YARN_GGUF("40.0", "0.0707") SCALE("16.0") GROUPS(8, 3) D2 "expert_gating_func=1 " D2 "expert_weights_norm=false"},
     {NULL}, "deepseek_v2", "deepseek-llm", "deepseek-v2", T_V2, 235741434880, 0.1147213868},
    {"DeepSeek-V2.5 with mscale 1", V2_OF(1.0),
     {MLA_GGUF(102400, 5120, 12288, 60, 128, 160, 6, 1536, 2, DENSE_FIRST(1)) OLD_WIDTHS(128) Q_RANK YARN_GGUF("40.0", "0.1") SCALE("16.0")},
     {NULL}, "deepseek_v2", "deepseek-llm", "deepseek-v3", T_V3, 235741434880, 0.1352337788},
    {"DeepSeek-V3, V3-0324", V3_OF(""),
     {V3_NUMBERS("") OLD_WIDTHS(128) Q_RANK YARN_GGUF("40.0", "0.1"), /* neither gating nor groups nor weights said */
      V3_NUMBERS(DENSE_FIRST(3)) OLD_WIDTHS(128) Q_RANK YARN_GGUF("40.0", "0.1") SIGMOID SCALE("2.5"),
      V3_NUMBERS(DENSE_FIRST(3)) NEW_WIDTHS Q_RANK YARN_GGUF("40.0", "1.0") SIGMOID SCALE("2.5") GROUPS(8, 4)},
     {"blk.3.exp_probs_b.bias blk.3.ffn_gate_inp.weight"}, "deepseek_v3", "deepseek-v3", "deepseek-v3", T_V3, 671026419200, 0.1352337788},
    {"DeepSeek-R1, R1-0528", V3_OF(""),
     {V3_NUMBERS(DENSE_FIRST(3)) NEW_WIDTHS Q_RANK YARN_GGUF("40.0", "0.1") SIGMOID SCALE("2.5") GROUPS(8, 4)},
     {NULL}, "deepseek_v3", "deepseek-v3", "deepseek-r1", T_R1, 671026419200, 0.1352337788},
    {"DeepSeek-V3.1", V3_OF("\"scale_fmt\":\"ue8m0\","),
     {V3_NUMBERS(DENSE_FIRST(3)) NEW_WIDTHS Q_RANK YARN_GGUF("40.0", "0.1") SIGMOID SCALE("2.5") GROUPS(8, 4)},
     {NULL}, "deepseek_v3", "joyai-llm", "deepseek-v3.1", T_V31, 671026419200, 0.1352337788},
    {"Kimi-K2", KIMI_K2,
     {MLA_GGUF(163840, 7168, 18432, 61, 64, 384, 8, 2048, 1, DENSE_FIRST(1)) NEW_WIDTHS Q_RANK D2 "rope.freq_base=50000.0 " D2 "rope.scaling.type=yarn " D2 "rope.scaling.factor=32.0 " D2 "rope.scaling.original_context_length=4096 " D2 "rope.scaling.yarn_log_multiplier=0.1 " D2 "rope.scaling.yarn_beta_fast=1.0 " D2 "rope.scaling.yarn_beta_slow=1.0 " SIGMOID SCALE("2.827")},
     {NULL}, "deepseek_v3", "kimi-k2", "kimi-k2", T_KIMI, 1026408232448, 0.130860800},
    {"Moonlight-16B-A3B", MOONLIGHT,
     {MLA_GGUF(163840, 2048, 11264, 27, 16, 64, 6, 1408, 2, DENSE_FIRST(1)) NEW_WIDTHS D2 "rope.freq_base=50000.0 " SIGMOID SCALE("2.446")},
     {NULL}, "deepseek_v3", "kimi-k2", "moonlight", T_MOON, 15960110208, 0.07216878364870322},
};
// clang-format on
enum { N_MODELS = sizeof models / sizeof *models };

static void ok(enum fm_status st)
{
    if (st) fail_msg("%s", err.message);
}

static void read_json(const struct model *m, struct fm_config *cfg)
{
    json_t *j = NULL;
    ok(fm_json_parse(m->json, strlen(m->json), m->name, &j, &err));
    ok(fm_config_from_json(j, m->name, cfg, &err));
    json_decref(j);
}

/* One KEY=VALUE. */
static void put_key(struct fm_writer *w, const char *item)
{
    char key[96], *end;
    const char *equals = strchr(item, '='), *value = equals + 1;
    (void)snprintf(key, sizeof key, "%.*s", (int)(equals - item), item);
    const double number = strtod(value, &end);
    if (!strcmp(value, "true") || !strcmp(value, "false"))
        fm_writer_meta_bool(w, key, *value == 't');
    else if (*end)
        fm_writer_meta_str(w, key, value, strlen(value));
    else if (strchr(value, '.'))
        fm_writer_meta_float(w, key, (float)number);
    else
        fm_writer_meta_int(w, key, 4, (int64_t)number);
}

static void each_word(const char *words, struct fm_writer *w, void (*fn)(struct fm_writer *w, const char *word))
{
    char word[160];
    for (const char *s = words ? words : ""; *s;) {
        const size_t n = strcspn(s, " ");
        (void)snprintf(word, sizeof word, "%.*s", (int)n, s);
        if (n) fn(w, word);
        s += n + (s[n] == ' ');
    }
}

static void put_tensor(struct fm_writer *w, const char *name)
{
    if (strcmp(name, "rope_freqs.weight")) fm_writer_tensor(w, name, FM_F32, 1, &(uint64_t){1});
}

/* f32 of a Llama 3.1's rope_freqs.weight, by models.md §1.3. */
static void divisors(const struct fm_config *cfg, float *d)
{
    for (int i = 0; i < cfg->rope_dim / 2; i++) {
        const double f = pow(500000, -2.0 * i / cfg->rope_dim), wave = 2 * M_PI / f, F = cfg->rope_factor;
        const double s = (8192 / wave - 1) / (4 - 1);
        d[i] = (float)(wave < 8192.0 / 4 ? 1 : wave > 8192 ? F : 1 / ((1 - s) / F + s));
    }
}

static void read_gguf(const struct model *m, int i, const struct fm_config *like, struct fm_config *cfg,
                      double *frequencies)
{
    static const float one = 1;
    char path[64];
    float d[256];
    struct fm_writer *w;
    struct fm_file *f;
    const bool tied = like->tied, freqs = m->tensors[i] && !strcmp(m->tensors[i], "rope_freqs.weight");
    const uint64_t n = (uint64_t)like->rope_dim / 2;
    (void)snprintf(path, sizeof path, "/tmp/fathom-families-%d.gguf", (int)getpid());
    ok(fm_writer_open(path, FM_GGUF, &w, &err));
    each_word(m->gguf[i], w, put_key);
    if (!tied) fm_writer_tensor(w, "output.weight", FM_F32, 1, &(uint64_t){1});
    if (freqs) fm_writer_tensor(w, "rope_freqs.weight", FM_F32, 1, &n);
    each_word(m->tensors[i], w, put_tensor);
    ok(fm_writer_begin(w, &err));
    if (!tied) ok(fm_writer_data(w, &one, sizeof one, &err));
    divisors(like, d);
    if (freqs) ok(fm_writer_data(w, d, n * sizeof *d, &err));
    for (const char *s = freqs ? NULL : m->tensors[i]; s; s = strchr(s, ' ') ? strchr(s, ' ') + 1 : NULL)
        ok(fm_writer_data(w, &one, sizeof one, &err));
    ok(fm_writer_commit(w, &err));
    ok(fm_file_open(path, &f, &err));
    (void)unlink(path);
    ok(fm_config_from_file(f, cfg, &err));
    fm_rope_frequencies(cfg, frequencies);
    cfg->rope_divisors = NULL; /* of the file */
    fm_file_close(f);
}

#define SAME(a, b, field)                         \
    if ((double)(a)->field != (double)(b)->field) \
    fail_msg("%s, GGUF %d: " #field " is %.9g, in config.json %.9g", m->name, i, (double)(b)->field, (double)(a)->field)

static void same_model(const struct model *m, int i, const struct fm_config *a, const struct fm_config *b)
{
    assert_ptr_equal(a->family, b->family);
    SAME(a, b, V);
    SAME(a, b, D);
    SAME(a, b, L);
    SAME(a, b, F);
    SAME(a, b, H);
    SAME(a, b, tied);
    SAME(a, b, ctx_train);
    SAME(a, b, rope_dim);
    SAME(a, b, rope_theta);
    SAME(a, b, mha.Hkv);
    SAME(a, b, mha.Dh);
    SAME(a, b, mla.Rq);
    SAME(a, b, mla.Rkv);
    SAME(a, b, mla.Dn);
    SAME(a, b, mla.Dr);
    SAME(a, b, mla.Dv);
    SAME(a, b, moe.router.E);
    SAME(a, b, moe.router.K);
    SAME(a, b, moe.router.n_group);
    SAME(a, b, moe.router.topk_group);
    SAME(a, b, moe.router.sigmoid);
    SAME(a, b, moe.router.group_top2);
    SAME(a, b, moe.router.norm_topk);
    SAME(a, b, moe.router.scale);
    SAME(a, b, moe.F);
    SAME(a, b, moe.Fs);
    SAME(a, b, router_bias);
    SAME(a, b, qkv_bias);
    SAME(a, b, head_norms);
    if (a->moe.router.E) SAME(a, b, n_dense);
}

static void check_scale(const struct model *m, const struct fm_config *cfg)
{
    const double got = (double)(cfg->mla.Rkv ? cfg->mla.scale : cfg->mha.scale);
    const double want = m->scale > 0 ? m->scale : 1 / sqrt(cfg->mha.Dh);
    if (fabs(got / want - 1) > 2e-6) fail_msg("%s: softmax scale %.9g, not %.9g", m->name, got, want);
}

static void check_model(const struct model *m)
{
    struct fm_config cfg, other;
    struct fm_counts counts;
    double f[256], g[256];
    read_json(m, &cfg);
    assert_string_equal(cfg.family->name, m->family);
    check_scale(m, &cfg);
    assert_int_equal(cfg.n_mtp, strstr(m->json, "nextn_predict_layers\":1") ? 1 : 0);
    cfg.n_mtp = 0; /* counted apart in what is published; GGUF files leave it out */
    fm_model_count(&cfg, 1, &counts);
    if (counts.params_total != m->params)
        fail_msg("%s: %lld parameters, not %lld", m->name, (long long)counts.params_total, (long long)m->params);
    assert_true(cfg.moe.router.group_top2 == !strcmp(m->family, "deepseek_v3"));
    fm_rope_frequencies(&cfg, f);
    for (int i = 0; i < 3 && m->gguf[i]; i++) {
        read_gguf(m, i, &cfg, &other, g);
        same_model(m, i, &cfg, &other);
        check_scale(m, &other);
        for (int k = 0; k < cfg.rope_dim / 2; k++)
            if (fabs(g[k] / f[k] - 1) > 1e-6)
                fail_msg("%s, GGUF %d: frequency %d: %.9g, not %.9g", m->name, i, k, g[k], f[k]);
    }
    if (m->pre && !fm_pre_find(m->pre)) fail_msg("%s: no pre-tokenizer %s", m->name, m->pre);
    const char *chat = fm_chat_detect(m->tmpl, strlen(m->tmpl), NULL);
    if (!chat || strcmp(chat, m->chat)) fail_msg("%s: chat format %s, not %s", m->name, chat ? chat : "none", m->chat);
}

static void test_models(void **state)
{
    (void)state;
    for (int i = 0; i < N_MODELS; i++) check_model(&models[i]);
}

/* The figures of models.md §1.3. */
static void test_frequencies(void **state)
{
    static const struct {
        int i;
        double f;
    } want[] = {{11, 0.0390069266}, {15, 0.00833450895}, {20, 0.000790569415}, {23, 3.33380358e-05}};
    struct fm_config cfg;
    double f[32];
    (void)state;
    read_json(&models[N_MODELS - 4], &cfg);
    fm_rope_frequencies(&cfg, f);
    for (int k = 0; k < 4; k++) assert_true(fabs(f[want[k].i] / want[k].f - 1) < 1e-8);
}

/* The MTP block's own parameters: 11.61 billion (models.md §0.1). */
static void test_mtp(void **state)
{
    struct fm_config cfg;
    struct fm_counts counts;
    (void)state;
    read_json(&models[N_MODELS - 4], &cfg);
    fm_model_count(&cfg, 1, &counts);
    assert_true(llabs(counts.params_total - 671026419200 - 11610000000) < 10000000);
}

static void refused(const char *what, const char *keys, const char *message)
{
    struct model m = {.name = what, .gguf = {keys}};
    char path[64];
    struct fm_writer *w;
    struct fm_file *f;
    struct fm_config cfg;
    (void)snprintf(path, sizeof path, "/tmp/fathom-families-%d.gguf", (int)getpid());
    ok(fm_writer_open(path, FM_GGUF, &w, &err));
    each_word(m.gguf[0], w, put_key);
    ok(fm_writer_begin(w, &err));
    ok(fm_writer_commit(w, &err));
    ok(fm_file_open(path, &f, &err));
    (void)unlink(path);
    if (fm_config_from_file(f, &cfg, &err) != FM_ERR_INPUT) fail_msg("%s: accepted", what);
    if (!strstr(err.message, message)) fail_msg("%s: '%s' does not say '%s'", what, err.message, message);
    fm_file_close(f);
}

static void test_refused(void **state)
{
    (void)state;
    refused("another gate", V3_NUMBERS(DENSE_FIRST(3)) NEW_WIDTHS Q_RANK D2 "expert_gating_func=4",
            "deepseek2.expert_gating_func': is neither 1 (softmax) nor 2 (sigmoid)");
    refused("V3.2", "general.architecture=deepseek32", "architecture 'deepseek32' is not supported");
    refused("V4", "general.architecture=deepseek4", "architecture 'deepseek4' is not supported");
    struct fm_config cfg;
    json_t *j = NULL;
    static const char window[] =
        DENSE("qwen2", 152064, 3584, 18944, 28, 28, 4, 1e6, 1e-6, 32768, "false") ",\"use_sliding_window\":true}";
    ok(fm_json_parse(window, sizeof window - 1, "x", &j, &err));
    assert_int_equal(fm_config_from_json(j, "x", &cfg, &err), FM_ERR_INPUT);
    assert_non_null(strstr(err.message, "use_sliding_window"));
    json_decref(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_models), cmocka_unit_test(test_frequencies),
                                       cmocka_unit_test(test_mtp), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests_name("families", tests, NULL, NULL);
}
