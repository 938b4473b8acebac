/* tiktoken rank files: one token a line, "BASE64 RANK"; the rank is the id and the order of merging.
 * Added tokens are not in the file: tokenizer_config.json beside it lists them, else the few that are known are taken. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "text/tokenizer_impl.h"

/* Added tokens by pre-tokenizer; ids count from the end of the ranks (models.md §11.2). */
static const struct {
    const char *pre, *text;
    int offset;
    enum fm_token_type type;
} known[] = {
    {"llama3", "<|begin_of_text|>", 0, FM_TOKEN_CONTROL},
    {"llama3", "<|end_of_text|>", 1, FM_TOKEN_CONTROL},
    {"llama3", "<|finetune_right_pad_id|>", 4, FM_TOKEN_CONTROL},
    {"llama3", "<|start_header_id|>", 6, FM_TOKEN_CONTROL},
    {"llama3", "<|end_header_id|>", 7, FM_TOKEN_CONTROL},
    {"llama3", "<|eom_id|>", 8, FM_TOKEN_CONTROL},
    {"llama3", "<|eot_id|>", 9, FM_TOKEN_CONTROL},
    {"llama3", "<|python_tag|>", 10, FM_TOKEN_CONTROL},
    {"qwen2", "<|endoftext|>", 0, FM_TOKEN_CONTROL},
    {"qwen2", "<|im_start|>", 1, FM_TOKEN_CONTROL},
    {"qwen2", "<|im_end|>", 2, FM_TOKEN_CONTROL},
    {"cl100k", "<|endoftext|>", 1, FM_TOKEN_CONTROL},
    {"cl100k", "<|fim_prefix|>", 2, FM_TOKEN_CONTROL},
    {"cl100k", "<|fim_middle|>", 3, FM_TOKEN_CONTROL},
    {"cl100k", "<|fim_suffix|>", 4, FM_TOKEN_CONTROL},
    {"cl100k", "<|endofprompt|>", 20, FM_TOKEN_CONTROL},
    {"kimi-k2", "[BOS]", 0, FM_TOKEN_CONTROL},
    {"kimi-k2", "[EOS]", 1, FM_TOKEN_CONTROL},
    {"kimi-k2", "<|im_end|>", 2, FM_TOKEN_CONTROL},
};
enum { N_KNOWN = sizeof known / sizeof *known, LLAMA3_ADDED = 256 };

struct line {
    char bytes[FM_MAX_TOKEN_BYTES];
    size_t n;
    int64_t rank;
};

static int digit64(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* Decode s[0 … n); false when it is no base64 or too long. */
static bool read_base64(const char *s, size_t n, struct line *l)
{
    while (n && s[n - 1] == '=') n--;
    uint32_t bits = 0;
    l->n = 0;
    for (size_t i = 0; i < n; i++) {
        int d = digit64(s[i]);
        if (d < 0) return false;
        bits = bits << 6 | (uint32_t)d;
        if (i % 4 == 0) continue;
        if (l->n == sizeof l->bytes) return false;
        l->bytes[l->n++] = (char)(bits >> (6 - i % 4 * 2));
    }
    return n % 4 != 1 && l->n > 0;
}

/* The line at *at, which moves behind it; false when it is malformed.  A blank line has n == 0. */
static bool read_line(const char *data, size_t n, size_t *at, struct line *l)
{
    const char *s = data + *at, *end = memchr(s, '\n', n - *at);
    size_t len = end ? (size_t)(end - s) : n - *at;
    *at += len + (end != NULL);
    while (len && (s[len - 1] == '\r' || s[len - 1] == ' ')) len--;
    l->n = 0;
    l->rank = 0;
    if (!len) return true;
    const char *blank = memchr(s, ' ', len);
    size_t n64 = blank ? (size_t)(blank - s) : 0, n_digits = len - n64 - 1;
    if (!n64 || n_digits < 1 || n_digits > 9 || !read_base64(s, n64, l)) return false;
    for (size_t i = n64 + 1; i < len; i++) {
        if (s[i] < '0' || s[i] > '9') return false;
        l->rank = l->rank * 10 + (s[i] - '0');
    }
    return true;
}

/* Walk all lines: with t NULL only count the ids, else fill t. */
static enum fm_status walk(const char *data, size_t n, const char *where, struct fm_tokenizer *t, int64_t *n_ids,
                           struct fm_error *err)
{
    struct line l;
    int64_t row = 1;
    for (size_t at = 0; at < n; row++) {
        if (!read_line(data, n, &at, &l))
            return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: line %lld is not \"BASE64 RANK\"", where,
                           (long long)row);
        if (l.n && l.rank >= *n_ids) *n_ids = l.rank + 1;
        if (l.n && t) FM_TRY(fm_vocab_set(&t->vocab, l.rank, l.bytes, l.n, FM_TOKEN_NORMAL, where, err));
    }
    return FM_OK;
}

static enum fm_status add_known(struct fm_tokenizer *t, int64_t base, const char *where, struct fm_error *err)
{
    const char *pre = t->pre.name->name;
    for (size_t i = 0; i < N_KNOWN; i++)
        if (!strcmp(known[i].pre, pre))
            FM_TRY(fm_tokenizer_add(t, base + known[i].offset, known[i].text, strlen(known[i].text), known[i].type, 0,
                                    where, err));
    if (strcmp(pre, "llama3")) return FM_OK;
    for (int i = 0, k = 0; i < LLAMA3_ADDED; i++) {
        if (t->vocab.tokens[base + i].type != FM_TOKEN_GAP) continue;
        char text[48];
        int n = snprintf(text, sizeof text, "<|reserved_special_token_%d|>", k++);
        FM_TRY(fm_tokenizer_add(t, base + i, text, (size_t)n, FM_TOKEN_CONTROL, 0, where, err));
    }
    return FM_OK;
}

/* The id that a key of the list spells; -1: none behind the ranks. */
static int64_t listed_id(const char *key, int64_t n_ranks)
{
    char *end;
    const long long id = strtoll(key, &end, 10);
    return *key && !*end && id >= n_ranks && id < FM_MAX_VOCAB ? (int64_t)id : -1;
}

/* With t NULL only raise *n_ids above the ids of the list, else add its tokens. */
static enum fm_status walk_listed(const json_t *added, int64_t n_ranks, const char *where, struct fm_tokenizer *t,
                                  int64_t *n_ids, struct fm_error *err)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(size_t)added, key, v)
    {
        const int64_t id = listed_id(key, n_ranks);
        const char *text = fm_json_str(v, "content", NULL);
        if (id < 0 || !text)
            return fm_fail(err, FM_ERR_INPUT,
                           "read tokenizer: %s: added token '%.40s' has no text, or no id above %lld", where, key,
                           (long long)n_ranks - 1);
        if (n_ids && id >= *n_ids) *n_ids = id + 1;
        if (t)
            FM_TRY(fm_tokenizer_add(t, id, text, strlen(text),
                                    fm_json_bool(v, "special", false) ? FM_TOKEN_CONTROL : FM_TOKEN_USER, 0, where,
                                    err));
    }
    return FM_OK;
}

static enum fm_status fill(struct fm_tokenizer *t, const char *data, size_t n, const struct fm_pre_name *pre,
                           const json_t *added, int64_t n_ranks, const char *where, struct fm_error *err)
{
    enum fm_status st;
    FM_TRY(fm_pre_add_name(&t->pre, pre, err));
    FM_TRY(walk(data, n, where, t, &n_ranks, err));
    FM_TRY(json_object_size(added) ? walk_listed(added, n_ranks, where, t, NULL, err)
                                   : add_known(t, n_ranks, where, err));
    FM_TRY(fm_tokenizer_index(t, err));
    uint32_t *rank = fm_malloc((size_t)t->vocab.n * sizeof *rank);
    if (!rank) return fm_fail_memory(err, "merges", (size_t)t->vocab.n * sizeof *rank);
    for (int32_t i = 0; i < t->vocab.n; i++) rank[i] = (uint32_t)i;
    FM_GOTO(fm_tokenizer_derive_pairs(t, rank, err));
    t->nfc = pre->nfc;
    t->ignore_merges = true; /* tiktoken takes a piece that is a token whole */
    t->add_bos = !strcmp(pre->name, "llama3");
    fm_tokenizer_finish(t);
out:
    fm_free(rank);
    return st;
}

enum fm_status fm_tokenizer_load_tiktoken(const char *data, size_t n, const struct fm_pre_name *pre,
                                          const json_t *added, const char *where, struct fm_tokenizer **out,
                                          struct fm_error *err)
{
    int64_t n_ranks = 0;
    FM_TRY(walk(data, n, where, NULL, &n_ranks, err));
    if (n_ranks > FM_MAX_VOCAB - LLAMA3_ADDED)
        return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: rank %lld is above %d", where, (long long)n_ranks - 1,
                       FM_MAX_VOCAB - LLAMA3_ADDED);
    int64_t n_ids = n_ranks + (strcmp(pre->name, "llama3") ? 0 : LLAMA3_ADDED);
    for (size_t i = 0; i < N_KNOWN; i++)
        if (!strcmp(known[i].pre, pre->name) && n_ranks + known[i].offset >= n_ids)
            n_ids = n_ranks + known[i].offset + 1;
    FM_TRY(walk_listed(added, n_ranks, where, NULL, &n_ids, err));
    struct fm_tokenizer *t;
    FM_TRY(fm_tokenizer_new(n_ids, where, &t, err));
    enum fm_status st = fill(t, data, n, pre, added, n_ranks, where, err);
    if (st)
        fm_tokenizer_close(t);
    else
        *out = t;
    return st;
}
