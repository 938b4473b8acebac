/* See quantization_config in models.md §4.2, §9.3; the methods' names are those of transformers, vLLM and llm-compressor. */
#include "model/quant_config.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Weights of these are FP8, FP4 or NVFP4 with scales beside them. */
static const char *const methods[] = {"fp8",          "fbgemm_fp8",   "modelopt",
                                      "modelopt_fp4", "modelopt_fp8", "compressed-tensors"};
/* Of methods that say further what they did, the kinds that are such weights. */
static const char *const kinds[] = {"float-quantized",
                                    "naive-quantized",
                                    "nvfp4-pack-quantized",
                                    "FP8",
                                    "NVFP4",
                                    "FP8_PER_CHANNEL_PER_TOKEN",
                                    "FP8_PB_WO",
                                    "dense"};
static const char hint[] =
    "use the model's BF16 or FP8 folder, or a GGUF file of it: Q4_K_M is as small as 4-bit integers";

static bool listed(const char *s, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcasecmp(s, list[i])) return true;
    return false;
}

static void refuse(struct fm_reader *r, const char *key, const char *what)
{
    char full[64], why[120];
    if (r->status) return;
    snprintf(full, sizeof full, "quantization_config.%s", key);
    snprintf(why, sizeof why, "weights quantised by '%.40s' are not supported", what);
    fm_reader_fail(r, full, why);
    if (r->err) fm_hint(r->err, "%s", hint);
}

/* weight_block_size: [rows, columns] */
static void read_block(struct fm_reader *r, const json_t *size, struct fm_config *cfg)
{
    if (!size || json_is_null(size)) return;
    for (size_t i = 0; i < 2; i++) {
        const json_t *v = json_array_get(size, i);
        const json_int_t edge = json_integer_value(v);
        if (json_array_size(size) != 2 || edge < 1 || edge > FM_MAX_DIM) {
            fm_reader_fail(r, "quantization_config.weight_block_size", "is not two lengths");
            cfg->fp8_block[0] = cfg->fp8_block[1] = 0;
            return;
        }
        cfg->fp8_block[i] = (int)edge;
    }
}

void fm_quant_read_json(struct fm_reader *r, struct fm_config *cfg)
{
    const json_t *q = json_object_get(r->json, "quantization_config");
    if (!json_is_object(q)) return;
    const char *method = fm_json_str(q, "quant_method", NULL), *format = fm_json_str(q, "format", NULL),
               *algo = fm_json_str(q, "quant_algo", NULL), *fmt = fm_json_str(q, "fmt", NULL);
    if (method && !listed(method, methods, sizeof methods / sizeof *methods)) refuse(r, "quant_method", method);
    if (format && !listed(format, kinds, sizeof kinds / sizeof *kinds)) refuse(r, "format", format);
    if (algo && !listed(algo, kinds, sizeof kinds / sizeof *kinds)) refuse(r, "quant_algo", algo);
    if (fmt && strcasecmp(fmt, "e4m3") && strcasecmp(fmt, "float8_e4m3fn")) refuse(r, "fmt", fmt);
    read_block(r, json_object_get(q, "weight_block_size"), cfg);
}
