/* Seeds for the fuzz targets: make_seeds DIR writes small valid inputs to DIR/<target>. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../file_samples.h"
#include "fathom.h"
#include "kvfile_samples.h"
#include "model/imatrix.h"

/* A file with one key or one tensor, so that the fuzzer has short ways to every branch. */
static enum fm_status small(const char *path, enum fm_container kind, int which, struct fm_error *err)
{
    static const char data[64];
    struct fm_writer *w;
    FM_TRY(fm_writer_open(path, kind, &w, err));
    if (which == 0) fm_writer_meta_strs(w, "s", (struct fm_str[]){{"a", 1}, {"bc", 2}}, 2);
    if (which == 1) fm_writer_meta_str(w, "general.name", "x", 1);
    if (which == 2) fm_writer_tensor(w, "t", FM_F32, 1, (uint64_t[]){2});
    enum fm_status st = fm_writer_begin(w, err);
    if (!st && which == 2) st = fm_writer_data(w, data, 8, err);
    if (!st) return fm_writer_commit(w, err);
    fm_writer_abort(w);
    return st;
}

static enum fm_status seeds(const char *dir, const char *name, enum fm_container kind, struct fm_error *err)
{
    char folder[1024], path[1100];
    snprintf(folder, sizeof folder, "%s/%s", dir, name);
    (void)mkdir(dir, 0777);
    (void)mkdir(folder, 0777);
    snprintf(path, sizeof path, "%s/all", folder);
    FM_TRY(sample_write(path, kind, err));
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/small-%d", folder, i);
        FM_TRY(small(path, kind, i, err));
    }
    return FM_OK;
}

/* ---- texts: one per line of a table ---- */

static const char *const tokenizer[] = {
    "{\"added_tokens\":[{\"id\":4,\"content\":\"<s>\",\"special\":true}],\"normalizer\":null,"
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},"
    "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"c\":3},"
    "\"merges\":[\"a b\"]}}",
    "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{N}{1,3}\"},"
    "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]},"
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[[\"a\",\"b\"]],\"ignore_merges\":true}}",
    "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\342\226\201\"},"
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\342\226\201\"}]},"
    "\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"unk_token\":\"<unk>\",\"fuse_unk\":true,"
    "\"vocab\":{\"<unk>\":0,\"<0x41>\":1,\"\342\226\201\":2,\"a\":3},\"merges\":[]}}",
    NULL};

static const char *const config[] = {
    "{\"model_type\":\"llama\",\"vocab_size\":80,\"hidden_size\":32,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
    "\"num_key_value_heads\":2,\"intermediate_size\":48,\"rms_norm_eps\":1e-6,\"rope_theta\":10000,"
    "\"max_position_embeddings\":64,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,"
    "\"high_freq_factor\":4,\"original_max_position_embeddings\":32}}",
    "{\"model_type\":\"qwen3\",\"vocab_size\":80,\"hidden_size\":32,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
    "\"num_key_value_heads\":2,\"head_dim\":8,\"intermediate_size\":48,\"rms_norm_eps\":1e-6,\"rope_theta\":1e6,"
    "\"max_position_embeddings\":64,\"tie_word_embeddings\":true}",
    "{\"model_type\":\"deepseek_v3\",\"vocab_size\":80,\"hidden_size\":32,\"num_hidden_layers\":3,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":4,\"intermediate_size\":48,\"moe_intermediate_size\":16,"
    "\"rms_norm_eps\":1e-6,\"rope_theta\":10000,\"max_position_embeddings\":64,\"q_lora_rank\":16,\"kv_lora_rank\":16,"
    "\"qk_nope_head_dim\":8,\"qk_rope_head_dim\":8,\"v_head_dim\":8,\"n_routed_experts\":8,\"num_experts_per_tok\":2,"
    "\"n_group\":2,\"topk_group\":1,\"n_shared_experts\":1,\"first_k_dense_replace\":1,\"norm_topk_prob\":true,"
    "\"routed_scaling_factor\":2.5,\"scoring_func\":\"sigmoid\",\"topk_method\":\"noaux_tc\",\"moe_layer_freq\":1,"
    "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,\"original_max_position_embeddings\":16,\"beta_fast\":32,"
    "\"beta_slow\":1,\"mscale\":1,\"mscale_all_dim\":1},\"quantization_config\":{\"quant_method\":\"fp8\","
    "\"weight_block_size\":[128,128]},\"num_nextn_predict_layers\":1}",
    NULL};

static const char *const chat_encode[] = {
    "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\","
    "\"reasoning_content\":\"r\",\"content\":\"a\"},{\"role\":\"user\",\"content\":\"v\"}],\"thinking\":true}",
    "{\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\",\"parameters\":{\"type\":"
    "\"object\",\"properties\":{\"x\":{\"type\":\"string\"}},\"required\":[\"x\"]}}}],\"messages\":[{\"role\":\"user\","
    "\"content\":\"u\"},{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\","
    "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\": 0.10}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"1\","
    "\"content\":\"t\"}],\"reasoning_effort\":\"high\",\"date\":\"1 Jan 2026\"}",
    "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"u\"}],\"task\":\"query\"},"
    "{\"role\":\"assistant\",\"content\":\"a\",\"wo_eos\":true}],\"drop_thinking\":false}",
    NULL};

/* An answer per form of tool calls; write_answers puts in front what fuzz_chat_parse.c wants there. */
#define BAR "\357\275\234"
static const struct {
    const char *format;
    bool thinking;
    const char *text;
} answers[] = {
    {"deepseek-r1", true, "because</think>\n\nIt is so.<" BAR "end\342\226\201of\342\226\201sentence" BAR ">"},
    {"qwen3", false,
     "<think>\nwhy\n</think>\n\nyes\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call><|im_end|>"},
    {"deepseek-v3.2", false,
     "well\n\n<" BAR "DSML" BAR "function_calls>\n<" BAR "DSML" BAR "invoke name=\"f\">\n<" BAR "DSML" BAR
     "parameter name=\"x\" string=\"true\">1</" BAR "DSML" BAR "parameter>\n</" BAR "DSML" BAR "invoke>\n</" BAR
     "DSML" BAR "function_calls>"},
    {"deepseek-v4", true,
     "so</think><" BAR "DSML" BAR "tool_calls>\n<" BAR "DSML" BAR "invoke name=\"f\">\n</" BAR "DSML" BAR
     "invoke>\n</" BAR "DSML" BAR "tool_calls>"},
    {"deepseek-v3", false,
     "<" BAR "tool\342\226\201calls\342\226\201begin" BAR "><" BAR "tool\342\226\201call\342\226\201begin" BAR
     ">function<" BAR "tool\342\226\201sep" BAR ">f\n```json\n{\"x\": 1}\n```<" BAR
     "tool\342\226\201call\342\226\201end" BAR "><" BAR "tool\342\226\201calls\342\226\201end" BAR ">"},
    {"deepseek-v3.1", false,
     "<" BAR "tool\342\226\201calls\342\226\201begin" BAR "><" BAR "tool\342\226\201call\342\226\201begin" BAR ">f<" BAR
     "tool\342\226\201sep" BAR ">{\"x\": 1}<" BAR "tool\342\226\201call\342\226\201end" BAR "><" BAR
     "tool\342\226\201calls\342\226\201end" BAR ">"},
    {"llama3", false, "{\"name\": \"f\", \"parameters\": {\"x\": [1, 2]}}<|eot_id|>"},
    {"llama2", false, " yes </s>"},
};

/* Byte 0 as fuzz_hub.c says. */
static const char *const hub[] = {
    "\x04[{\"type\":\"directory\",\"path\":\"a\",\"oid\":\"0\",\"size\":0},{\"type\":\"file\",\"path\":\"m-Q4_K_M-00001-of-00002.gguf\","
    "\"size\":12,\"oid\":\"0123456789abcdef0123456789abcdef01234567\",\"lfs\":{\"oid\":\"0123456789abcdef0123456789abcdef"
    "0123456789abcdef0123456789abcdef\",\"size\":12}},{\"type\":\"file\",\"path\":\"m-Q4_K_M-00002-of-00002.gguf\",\"size\":3},"
    "{\"type\":\"file\",\"path\":\"a.gguf\",\"size\":1}]",
    "\x04[{\"type\":\"file\",\"path\":\"config.json\",\"size\":2},{\"type\":\"file\",\"path\":\"model.safetensors\",\"size\":2}]",
    "\x01{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\"}}",
    "\x02org/repo-name:Q4_K_M",
    "\x02models--org--repo",
    "\x03https://a.example/x?y=1\nhttp://localhost:80/z",
    "\x03<https://a.example/next?cursor=1>; rel=\"next\", <https://a.example/last>; rel=\"last\"",
    NULL};

/* Byte 0 as fuzz_schema.c says. */
static const char *const schema[] = {
    "\x10{\"a\": 1}{\"$defs\":{\"t\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\",\"minimum\":-5},\"b\":{\"$ref\":"
    "\"#/$defs/t\"}},\"required\":[\"a\"]}},\"anyOf\":[{\"$ref\":\"#/$defs/t\"},{\"enum\":[1,\"x\"]}]}",
    "\x08[\"a\"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"string\",\"pattern\":\"^[a-z\\\\d]{1,3}$\"}],\"items\":{\"format\":"
    "\"date\"},\"minItems\":1,\"maxItems\":4}",
    "\x02"
    "1{\"oneOf\":[{\"type\":\"number\",\"exclusiveMaximum\":2.5},{\"const\":\"q\"}],\"allOf\":[{\"not\":false}]}",
    "\x05"
    "aroot ::= \"a\" b* | [^x-z]{2,3}\nb ::= (\"b\" | .)+ # c",
    NULL};

/* Bytes 0 and 1 as fuzz_request.c says: one per dialect and route. */
#define CALLS                                                                                                                    \
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c\",\"type\":\"function\",\"function\":{\"name\":\"f\"," \
    "\"arguments\":\"{\\\"x\\\": 1.0}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":\"t\"}"
static const char *const request[] = {
    "\x1e\x01{\"model\":\"m\",\"messages\":[{\"role\":\"developer\",\"content\":\"s\"},{\"role\":\"user\",\"content\":[{\"type\":"
    "\"text\",\"text\":\"u\"}]}," CALLS
    "],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{}}}],"
    "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"temperature\":0,\"top_p\":0.5,\"stop\":[\"x\"],\"logprobs\":true,"
    "\"top_logprobs\":2,\"seed\":1,\"logit_bias\":{\"1\":-100},\"max_tokens\":5,\"thinking\":{\"type\":\"enabled\"},"
    "\"reasoning_effort\":\"high\",\"tool_choice\":\"auto\",\"response_format\":{\"type\":\"text\"},\"n\":2,\"user_id\":\"u\"}",
    "\x10\x02{\"prompt\":[1,2,3],\"echo\":true,\"logprobs\":3,\"max_tokens\":3,\"suffix\":\"\",\"n\":1,\"best_of\":2,\"stream\":false}",
    "\x01\x03{\"prompt\":[\"a\",\"b\"],\"stream\":true}",
    "\x20\x03{\"input\":[{\"role\":\"user\",\"content\":\"a\"},{\"type\":\"reasoning\",\"content\":[{\"type\":\"reasoning_text\","
    "\"text\":\"b\"}]},{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"{}\"},{\"type\":"
    "\"function_call_output\",\"call_id\":\"c\",\"output\":\"d\"}],\"instructions\":\"i\",\"stream\":true,\"max_output_tokens\":9,"
    "\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"parameters\":{}}],\"reasoning\":{\"effort\":\"low\"},\"text\":{\"format\":"
    "{\"type\":\"text\"}}}",
    "\x30\x04{\"model\":\"m\",\"max_tokens\":9,\"system\":[{\"type\":\"text\",\"text\":\"s\"}],\"messages\":[{\"role\":\"user\","
    "\"content\":\"u\"},{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"t\",\"signature\":\"\"},{\"type\":"
    "\"tool_use\",\"id\":\"c\",\"name\":\"f\",\"input\":{}}]},{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\","
    "\"tool_use_id\":\"c\",\"content\":\"r\"}]}],\"tools\":[{\"name\":\"f\",\"input_schema\":{}}],\"stream\":true,\"thinking\":{"
    "\"type\":\"enabled\",\"budget_tokens\":1024},\"stop_sequences\":[\"x\"],\"metadata\":{\"user_id\":\"u\"}}",
    "\x04\x01{\"messages\":[{\"role\":\"user\",\"content\":\"u\"}]}",
    "\x32\x05{\"messages\":[{\"role\":\"user\",\"content\":\"u\"}],\"options\":{\"num_predict\":9,\"stop\":[\"x\"]},\"think\":true}",
    "\x06\x01{\"prompt\":\"u\",\"system\":\"s\",\"raw\":false,\"stream\":false,\"options\":{\"temperature\":0}}",
    "\x07\x01{\"model\":\"m\"}",
    "\x08\x01{\"content\":\"a b\",\"add_special\":true,\"with_pieces\":true}",
    "\x09\x01{\"tokens\":[1,2,255]}",
    "\x1b\x02{\"input_prefix\":\"a\",\"input_suffix\":\"b\",\"input_extra\":[{\"filename\":\"f\",\"text\":\"t\"}],\"prompt\":"
    "\"c\",\"n_predict\":9,\"stream\":true,\"grammar\":\"\"}",
    "\x0d\x01{\"input\":[\"a\",\"b\"],\"truncate\":true}",
    "\x0e\x01{\"prompt\":\"a\"}",
    "\x0a\x01{\"messages\":[{\"role\":\"user\",\"content\":\"u\"}]}",
    "\x0b\x01{\"input\":[\"a\",\"b\"],\"encoding_format\":\"base64\"}",
    NULL};

static const struct {
    const char *target;
    const char *const *texts;
} tables[] = {{"tokenizer", tokenizer}, {"config", config},  {"chat_encode", chat_encode}, {"hub", hub},
              {"schema", schema},       {"request", request}};

static bool write_seed(const char *dir, const char *target, int i, const char *bytes, size_t n)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", dir, target);
    (void)mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/%d", dir, target, i);
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(bytes, 1, n, f) == n;
    if (f && fclose(f)) ok = false;
    return ok;
}

static bool write_answers(const char *dir)
{
    bool ok = true;
    for (int i = 0; ok && i < (int)(sizeof answers / sizeof *answers); i++) {
        char bytes[1024];
        int format = 0;
        while (fm_chat_format_at(format) && strcmp(fm_chat_format_at(format), answers[i].format) != 0) format++;
        int n = snprintf(bytes, sizeof bytes, "%c\x04\x01\x02\x03\x09%s", format * 2 + answers[i].thinking,
                         answers[i].text);
        ok = write_seed(dir, "chat_parse", i, bytes, (size_t)n);
    }
    return ok;
}

/* An importance matrix of two tensors, in both formats. */
static bool write_importance(const char *dir, struct fm_error *err)
{
    static const char dat[] = "\1\0\0\0\1\0\0\0a\2\0\0\0\2\0\0\0\0\0\0@\0\0\200@\2\0\0\0\1\0\0\0t";
    struct fm_imatrix m = {.chunk_count = 3, .chunk_size = 8};
    char path[1100];
    if (!write_seed(dir, "imatrix", 0, dat, sizeof dat - 1)) return false;
    snprintf(path, sizeof path, "%s/imatrix/gguf", dir);
    enum fm_status st = fm_imatrix_add(&m, "blk.0.attn_q.weight", 4, 1, "seed", err);
    if (!st) st = fm_imatrix_add(&m, "blk.0.ffn_up_exps.weight", 6, 3, "seed", err);
    if (!st) st = fm_imatrix_add_dataset(&m, "text", 4, err);
    for (int i = 0; i < m.n; i++) m.entries[i].sums[0] = 1.5f, m.entries[i].counts[0] = 24;
    if (!st) st = fm_imatrix_write(&m, path, err);
    fm_imatrix_release(&m);
    return !st;
}

/* Whole files, and one cut. */
static bool write_blocks(const char *dir)
{
    uint8_t file[1 + FM_KVFILE_HEAD + KVFILE_BODY] = {0};
    bool ok = true;
    for (int i = 0; ok && i < KVFILE_PLACES; i++) {
        struct fm_kvplace p;
        kvfile_place(&p, i);
        file[0] = (uint8_t)i;
        fm_kvfile_head(&kvfile_origin, &p, file + 1 + FM_KVFILE_HEAD, file + 1);
        ok = write_seed(dir, "kvfile", i, (const char *)file, i ? sizeof file : FM_KVFILE_HEAD);
    }
    return ok;
}

int main(int argc, char **argv)
{
    struct fm_error err = {.message = "cannot write"};
    if (argc != 2) return 2;
    bool ok = !seeds(argv[1], "gguf", FM_GGUF, &err) && !seeds(argv[1], "safetensors", FM_SAFETENSORS, &err);
    for (size_t i = 0; ok && i < sizeof tables / sizeof *tables; i++)
        for (int k = 0; ok && tables[i].texts[k]; k++)
            ok = write_seed(argv[1], tables[i].target, k, tables[i].texts[k], strlen(tables[i].texts[k]));
    ok = ok && write_blocks(argv[1]) && write_answers(argv[1]) && write_importance(argv[1], &err);
    if (ok) return 0;
    fprintf(stderr, "make_seeds: %s\n", err.message);
    return 1;
}
