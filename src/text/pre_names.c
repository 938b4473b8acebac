/* The named pre-tokenizers.  A new one is a new row.
 *
 * Source: models.md §11.1, the pre_tokenizer of each published tokenizer.json, and the names that
 * tokenizer.ggml.pre carries in published GGUF files. */
#include <stddef.h>
#include <string.h>

#include "text/pre.h"

// clang-format off
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* Llama 3's, for digits in groups of up to `digits` */
#define LLAMA3(digits)                                                                                             \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits                                           \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* CJK ideographs and Hangul, as DeepSeek-LLM and -Coder group them */
#define CJK "[一-龥ࠀ-一가-퟿]+"

/* the fixed set of 2,729 cased letters of DeepSeek-LLM: not the same as Lu|Ll|Lt */
#define CASED                                                                                                      \
    "\\x{41}-\\x{5A}\\x{61}-\\x{7A}\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}"           \
    "\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}-\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}"          \
    "\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}"                  \
    "\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}"                  \
    "\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}"                \
    "\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}"        \
    "\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}"       \
    "\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}"       \
    "\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}\\x{212A}-\\x{212D}"         \
    "\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}\\x{2183}-\\x{2184}"                 \
    "\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}\\x{2CF2}-\\x{2CF3}\\x{A640}-\\x{A66D}"                \
    "\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}"                \
    "\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}"              \
    "\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}"      \
    "\\x{1E900}-\\x{1E943}"

/* letters and marks that are not Han, without and with the other case: written as "none of the other categories",
 * because the published [A&&[^B]] would cost a look-ahead per character */
#define KIMI_UPPER "[^\\p{Ll}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}\\p{Han}]"
#define KIMI_LOWER "[^\\p{Lu}\\p{Lt}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}\\p{Han}]"
#define KIMI_HEAD "[^\\r\\n\\p{L}\\p{N}]?"
#define KIMI_TAIL "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
#define KIMI                                                                                                       \
    "\\p{Han}+|" KIMI_HEAD KIMI_UPPER "*" KIMI_LOWER "+" KIMI_TAIL "|" KIMI_HEAD KIMI_UPPER "+" KIMI_LOWER         \
    "*" KIMI_TAIL "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct fm_pre_name rows[] = {
    {.name = "gpt2", .gguf = "gpt-2", .patterns = {GPT2}},
    {.name = "smollm", .patterns = {"\\p{N}", GPT2}},
    {.name = "llama3", .gguf = "llama-bpe", .ignore_merges = true, .patterns = {LLAMA3("\\p{N}{1,3}")}},
    {.name = "cl100k", .gguf = "chatglm-bpe", .patterns = {LLAMA3("\\p{N}{1,3}")}},
    {.name = "qwen2", .nfc = true, .patterns = {LLAMA3("\\p{N}")}},
    {.name = "deepseek-v3",
     .patterns = {"\\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
                  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
                  " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"}},
    {.name = "deepseek-llm",
     .patterns = {"[\r\n]", "\\s?[" CASED "]+", "\\s?[!-/:-~！-／：-～‘-‟　-。]+", "\\s+$", CJK, "\\p{N}"}},
    {.name = "deepseek-coder", .patterns = {"[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK, "\\p{N}"}},
    {.name = "kimi-k2", .ignore_merges = true, .patterns = {KIMI}},
    {.name = "falcon", .patterns = {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}},
    {.name = "default", .patterns = {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
    {.name = NULL},
};

// clang-format on

static const struct {
    const char *alias, *name;
} aliases[] = {
    {"gpt-2", "gpt2"},
    {"llama-bpe", "llama3"},
    {"llama-v3", "llama3"},
    {"glm4", "cl100k"},
    {"chatglm-bpe", "cl100k"},
    {"cl100k_base", "cl100k"},
    {"deepseek-r1-qwen", "qwen2"},
    {"qwen", "qwen2"},
    {"joyai-llm", "deepseek-v3"},
    {"kimi_k2", "kimi-k2"},
    {"starcoder", "smollm"},
    {"refact", "smollm"},
    {"command-r", "smollm"},
};

const struct fm_pre_name *fm_pre_at(int i) { return rows[i].name ? &rows[i] : NULL; }

const struct fm_pre_name *fm_pre_find(const char *name)
{
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (!strcmp(aliases[i].alias, name)) return fm_pre_find(aliases[i].name);
    for (int i = 0; rows[i].name; i++)
        if (!strcmp(rows[i].name, name)) return &rows[i];
    return NULL;
}
