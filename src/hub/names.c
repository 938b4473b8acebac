/* Names of models: the table of short ones, and reading ORG/REPO[:FILE]. */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "hub/hub_impl.h"

/* Repositories, files and sizes as published; licences of the original weights.  Sizes are rounded: ~ in front where only
 * those of the same type and shape are known.  Memory is the file and the cache of 4096 positions. */
static const struct fm_hub_name names[] = {
    {"smollm2", "HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF", "Q4_K_M", "1.06 GB", "Apache-2.0", "2.7 GB"},
    {"smollm2-135m", "bartowski/SmolLM2-135M-Instruct-GGUF", "Q4_K_M", "~105 MB", "Apache-2.0", "0.3 GB"},
    {"qwen3-0.6b", "Qwen/Qwen3-0.6B-GGUF", "Q8_0", "639 MB", "Apache-2.0", "1.6 GB"},
    {"qwen3-1.7b", "Qwen/Qwen3-1.7B-GGUF", "Q8_0", "~1.8 GB", "Apache-2.0", "2.8 GB"},
    {"qwen3-4b", "Qwen/Qwen3-4B-GGUF", "Q4_K_M", "2.50 GB", "Apache-2.0", "3.8 GB"},
    {"qwen3-8b", "Qwen/Qwen3-8B-GGUF", "Q4_K_M", "5.03 GB", "Apache-2.0", "6.3 GB"},
    {"llama3.2-1b", "bartowski/Llama-3.2-1B-Instruct-GGUF", "Q4_K_M", "~0.8 GB", "Llama 3.2", "1.1 GB"},
    {"llama3.2-3b", "bartowski/Llama-3.2-3B-Instruct-GGUF", "Q4_K_M", "~2.0 GB", "Llama 3.2", "3.0 GB"},
    {"r1-qwen-1.5b", "bartowski/DeepSeek-R1-Distill-Qwen-1.5B-GGUF", "Q4_K_M", "~1.1 GB", "MIT", "1.4 GB"},
    {"r1-qwen-7b", "bartowski/DeepSeek-R1-Distill-Qwen-7B-GGUF", "Q4_K_M", "4.68 GB", "MIT", "5.2 GB"},
    {"r1-llama-8b", "unsloth/DeepSeek-R1-Distill-Llama-8B-GGUF", "Q4_K_M", "4.92 GB", "MIT, Llama 3.1", "6.1 GB"},
    {"v2-lite", "mradermacher/DeepSeek-V2-Lite-GGUF", "Q4_K_M", "10.4 GB", "DeepSeek", "11 GB"},
    {"v2-lite-chat", "mradermacher/DeepSeek-V2-Lite-Chat-GGUF", "Q4_K_M", "~10.4 GB", "DeepSeek", "11 GB"},
    {"coder-v2-lite", "bartowski/DeepSeek-Coder-V2-Lite-Instruct-GGUF", "Q4_K_M", "~10.4 GB", "DeepSeek", "11 GB"},
    {"moonlight", "gabriellarson/Moonlight-16B-A3B-Instruct-GGUF", "Q4_K_M", "10.5 GB", "MIT", "11 GB"},
    {"r1", "unsloth/DeepSeek-R1-0528-GGUF", "Q4_K_M", "405 GB", "MIT", "410 GB"},
    {"v3.1", "unsloth/DeepSeek-V3.1-GGUF", "Q4_K_M", "~405 GB", "MIT", "410 GB"},
};
enum { N_NAMES = sizeof names / sizeof *names };

const struct fm_hub_name *fm_hub_name_at(int i) { return i >= 0 && i < N_NAMES ? &names[i] : NULL; }

const struct fm_hub_name *fm_hub_name_find(const char *name)
{
    for (int i = 0; i < N_NAMES; i++)
        if (!strcasecmp(names[i].name, name)) return &names[i];
    return NULL;
}

bool fm_hub_is_hex(const char *s, size_t n) { return strlen(s) == n && strspn(s, "0123456789abcdef") == n; }

bool fm_hub_etag_ok(const char *etag)
{
    size_t n = strlen(etag);
    if (!n || n > 128 || etag[0] == '.') return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)etag[i]) && !strchr("._-", etag[i])) return false;
    return true;
}

bool fm_hub_rev_ok(const char *rev) { return strlen(rev) <= 255 && fm_hub_path_ok(rev); }

/* One half of ORG/REPO: letters, digits, single - and . between them, and _ */
static bool part_ok(const char *s, size_t n)
{
    if (!n || n > FM_HUB_REPO_MAX || !(isalnum((unsigned char)s[0]) || s[0] == '_')) return false;
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)s[i]) && !strchr("-._", s[i])) return false;
        if (i && (s[i] == '-' || s[i] == '.') && s[i - 1] == s[i]) return false;
    }
    return s[n - 1] != '.' && s[n - 1] != '-';
}

static const char *skip_address(const char *text)
{
    static const char *const fronts[] = {
        "https://huggingface.co/", "http://huggingface.co/", "https://hf.co/", "huggingface.co/", "hf.co/", "hf://"};
    for (size_t i = 0; i < sizeof fronts / sizeof *fronts; i++)
        if (!strncasecmp(text, fronts[i], strlen(fronts[i]))) return text + strlen(fronts[i]);
    return text;
}

static enum fm_status bad_ref(const char *text, const char *why, struct fm_error *err)
{
    (void)fm_fail(err, FM_ERR_USAGE, "read a model's name: %.100s: %s", text, why);
    fm_hint(err, "ORG/REPO or ORG/REPO:FILE, or a short name: fathom pull help lists them");
    return FM_ERR_USAGE;
}

enum fm_status fm_hub_ref_parse(const char *text, struct fm_hub_ref *out, struct fm_error *err)
{
    const char *s = skip_address(text), *colon = strchr(s, ':'), *file = colon ? colon + 1 : "";
    size_t n = colon ? (size_t)(colon - s) : strlen(s);
    struct fm_hub_ref ref = {{0}, {0}};
    if (colon && !*file) return bad_ref(text, "nothing stands behind the colon", err);
    if (!colon && n && s[n - 1] == '/') n--;
    if (n > FM_HUB_REPO_MAX) return bad_ref(text, "too long", err);
    memcpy(ref.repo, s, n);
    const struct fm_hub_name *known = fm_hub_name_find(ref.repo);
    if (known) {
        strcpy(ref.repo, known->repo);
        if (!*file) file = known->file;
    }
    const char *slash = strchr(ref.repo, '/');
    if (!slash) return bad_ref(text, "it is no short name, and no ORG/REPO", err);
    if (!part_ok(ref.repo, (size_t)(slash - ref.repo)) || !part_ok(slash + 1, strlen(slash + 1)))
        return bad_ref(text, "it is not of the form ORG/REPO", err);
    if (strlen(file) > FM_HUB_FILE_MAX || (*file && !fm_hub_path_ok(file)))
        return bad_ref(text, "what stands behind the colon is no file's name", err);
    strcpy(ref.file, file);
    *out = ref;
    return FM_OK;
}
