/* tokenizer.json of Hugging Face's `tokenizers`: byte-level BPE, and SentencePiece BPE with byte fallback.
 *
 *   added_tokens[]  normalizer  pre_tokenizer  model{vocab, merges}  post_processor  decoder
 *
 * What this build would tokenise otherwise than the original (other models, other normalizers) is refused. */
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "text/alphabet.h"
#include "text/tokenizer_impl.h"

struct load {
    const json_t *root, *model;
    const char *where;
    struct fm_tokenizer *t;
};

static enum fm_status wrong(const struct load *l, const char *what, struct fm_error *err)
{
    return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: %s", l->where, what);
}

static bool is_type(const json_t *o, const char *type) { return !strcmp(fm_json_str(o, "type", ""), type); }

/* o itself, or the element of its list `key` (when it is a "Sequence"), of this type; NULL when there is none. */
static const json_t *find_type(const json_t *o, const char *key, const char *type)
{
    if (is_type(o, type)) return o;
    size_t i;
    json_t *e;
    if (is_type(o, "Sequence")) json_array_foreach(json_object_get(o, key), i, e) if (is_type(e, type)) return e;
    return NULL;
}

/* ---- vocabulary ---- */

static enum fm_status check_model(const struct load *l, struct fm_error *err)
{
    const char *type = fm_json_str(l->model, "type", "BPE");
    if (strcmp(type, "BPE"))
        return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: model type %.40s: only BPE is supported", l->where,
                       type);
    if (!json_is_object(json_object_get(l->model, "vocab"))) return wrong(l, "model.vocab is no object", err);
    if (!json_is_array(json_object_get(l->model, "merges"))) return wrong(l, "model.merges is no list", err);
    if (*fm_json_str(l->model, "continuing_subword_prefix", "") || *fm_json_str(l->model, "end_of_word_suffix", ""))
        return wrong(l, "subword prefixes and suffixes are not supported", err);
    return FM_OK;
}

static enum fm_status count_id(const struct load *l, int64_t id, int64_t *n, struct fm_error *err)
{
    if (id < 0 || id >= FM_MAX_VOCAB)
        return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: token id %lld is below 0 or above %d", l->where,
                       (long long)id, FM_MAX_VOCAB - 1);
    if (id >= *n) *n = id + 1;
    return FM_OK;
}

/* One more than the highest id; a wrong id is refused before anything is allocated. */
static enum fm_status count_ids(const struct load *l, int64_t *n, struct fm_error *err)
{
    const char *key;
    json_t *v;
    size_t i;
    *n = 0;
    json_object_foreach((json_t *)(size_t)json_object_get(l->model, "vocab"), key, v)
    {
        if (!json_is_integer(v)) return wrong(l, "an id in model.vocab is no integer", err);
        FM_TRY(count_id(l, json_integer_value(v), n, err));
    }
    json_array_foreach(json_object_get(l->root, "added_tokens"), i, v)
    {
        if (!fm_json_str(v, "content", NULL)) return wrong(l, "an added token has no content", err);
        FM_TRY(count_id(l, fm_json_int(v, "id", -1), n, err));
    }
    return FM_OK;
}

static enum fm_status add_added(const struct load *l, struct fm_error *err)
{
    size_t i;
    json_t *a;
    json_array_foreach(json_object_get(l->root, "added_tokens"), i, a)
    {
        const char *text = fm_json_str(a, "content", "");
        unsigned flags = (fm_json_bool(a, "lstrip", false) ? FM_ADDED_LSTRIP : 0u) |
                         (fm_json_bool(a, "rstrip", false) ? FM_ADDED_RSTRIP : 0u);
        FM_TRY(fm_tokenizer_add(l->t, fm_json_int(a, "id", -1), text, strlen(text),
                                fm_json_bool(a, "special", false) ? FM_TOKEN_CONTROL : FM_TOKEN_USER, flags, l->where,
                                err));
    }
    return FM_OK;
}

/* Bytes that the token text s of the file stands for; dst holds FM_MAX_TOKEN_BYTES. */
static enum fm_status token_bytes(const struct load *l, const char *s, char *dst, size_t *n, struct fm_error *err)
{
    size_t len = strlen(s), k = 0;
    if (len > FM_MAX_TOKEN_BYTES)
        return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: a token has %zu bytes, at most %d are accepted",
                       l->where, len, FM_MAX_TOKEN_BYTES);
    if (!l->t->spm) {
        fm_alphabet_read(s, len, dst, n);
        return FM_OK;
    }
    for (size_t i = 0; i < len;) {
        bool mark = !strncmp(s + i, "▁", 3);
        dst[k++] = mark ? ' ' : s[i];
        i += mark ? 3 : 1;
    }
    *n = k;
    return FM_OK;
}

static enum fm_status add_vocab(const struct load *l, struct fm_error *err)
{
    const char *key;
    json_t *v;
    char bytes[FM_MAX_TOKEN_BYTES];
    size_t n;
    json_object_foreach((json_t *)(size_t)json_object_get(l->model, "vocab"), key, v)
    {
        int64_t id = json_integer_value(v);
        enum fm_token_type known = l->t->vocab.tokens[id].type;
        if (known == FM_TOKEN_CONTROL || known == FM_TOKEN_USER) continue; /* listed as added as well */
        if (l->t->spm)
            FM_TRY(fm_tokenizer_set_piece(l->t, id, key, strlen(key), FM_TOKEN_NORMAL, l->where, err));
        else {
            FM_TRY(token_bytes(l, key, bytes, &n, err));
            FM_TRY(fm_vocab_set(&l->t->vocab, id, bytes, n, FM_TOKEN_NORMAL, l->where, err));
        }
    }
    return FM_OK;
}

/* ---- merges ---- */

/* The two texts of a merge, "a b" or ["a","b"]; false when it is neither.  room holds the cut copy of "a b". */
static bool read_merge(const json_t *m, char *room, size_t n_room, const char **a, const char **b)
{
    if (json_is_array(m)) {
        *a = json_string_value(json_array_get(m, 0));
        *b = json_string_value(json_array_get(m, 1));
        return json_array_size(m) == 2 && *a && *b;
    }
    const char *s = json_string_value(m), *blank = s ? strchr(s, ' ') : NULL;
    if (!blank || strchr(blank + 1, ' ') || strlen(s) >= n_room) return false;
    strcpy(room, s);
    room[blank - s] = 0;
    *a = room;
    *b = room + (blank - s) + 1;
    return true;
}

static int32_t find_token(const struct load *l, const char *text, const char *bytes, size_t n)
{
    int32_t id = fm_vocab_find(&l->t->vocab, bytes, n);
    return id >= 0 || !text ? id : fm_added_exact(&l->t->added, text, strlen(text));
}

static enum fm_status add_merges(const struct load *l, struct fm_error *err)
{
    char room[2 * FM_MAX_TOKEN_BYTES + 2], bytes[2 * FM_MAX_TOKEN_BYTES];
    size_t i, n_a, n_b;
    json_t *m;
    json_array_foreach(json_object_get(l->model, "merges"), i, m)
    {
        const char *a, *b;
        if (!read_merge(m, room, sizeof room, &a, &b))
            return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: merge %zu is no pair of tokens", l->where, i);
        FM_TRY(token_bytes(l, a, bytes, &n_a, err));
        int32_t left = find_token(l, a, bytes, n_a);
        FM_TRY(token_bytes(l, b, bytes + n_a, &n_b, err));
        int32_t right = find_token(l, b, bytes + n_a, n_b), id = find_token(l, NULL, bytes, n_a + n_b);
        if (left < 0 || right < 0 || id < 0)
            return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: merge %zu (%.60s + %.60s) names an unknown token",
                           l->where, i, a, b);
        FM_TRY(fm_pairs_add(&l->t->pairs, left, right, (uint32_t)i, id, err));
    }
    return FM_OK;
}

/* ---- normalizer, pre-tokenizer, decoder, post-processor ---- */

static enum fm_status read_normalizer(const struct load *l, const json_t *n, struct fm_error *err)
{
    if (!n || json_is_null(n)) return FM_OK;
    if (is_type(n, "Sequence")) {
        size_t i;
        json_t *e;
        json_array_foreach(json_object_get(n, "normalizers"), i, e)
        {
            if (is_type(e, "Sequence")) return wrong(l, "normalizers are nested", err);
            FM_TRY(read_normalizer(l, e, err));
        }
        return FM_OK;
    }
    const json_t *pattern = json_object_get(n, "pattern");
    if (l->t->spm && is_type(n, "Prepend") && !strcmp(fm_json_str(n, "prepend", ""), "▁")) {
        l->t->prefix = FM_PREFIX_ALWAYS;
        return FM_OK;
    }
    if (l->t->spm && is_type(n, "Replace") && !strcmp(fm_json_str(pattern, "String", ""), " ") &&
        !strcmp(fm_json_str(n, "content", ""), "▁"))
        return FM_OK;
    if (is_type(n, "NFC")) {
        l->t->nfc = true;
        return FM_OK;
    }
    return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: normalizer %.40s is not supported", l->where,
                   fm_json_str(n, "type", "without type"));
}

static enum fm_status read_metaspace(const struct load *l, const json_t *p, struct fm_error *err)
{
    const char *scheme =
        fm_json_str(p, "prepend_scheme", fm_json_bool(p, "add_prefix_space", true) ? "always" : "never");
    if (!l->t->spm || strcmp(fm_json_str(p, "replacement", "▁"), "▁"))
        return wrong(l, "Metaspace of an unknown kind", err);
    l->t->prefix = !strcmp(scheme, "first")   ? FM_PREFIX_FIRST
                   : !strcmp(scheme, "never") ? FM_PREFIX_NONE
                                              : FM_PREFIX_ABSENT;
    l->t->split_spaces = fm_json_bool(p, "split", true);
    return FM_OK;
}

/* A literal text as a pattern. */
static void quote(struct fm_buf *out, const char *s)
{
    for (; *s; s++) {
        if (strchr("\\^$.[]|()?*+{}-/#&~ ", *s) && *s != ' ') fm_buf_char(out, '\\');
        fm_buf_char(out, *s);
    }
}

/* enum fm_split of "behavior"; FM_SPLIT_COUNT when it is unknown. */
static enum fm_split read_behavior(const json_t *p, const char *dflt)
{
    static const char *const names[FM_SPLIT_COUNT] = {[FM_SPLIT_ISOLATED] = "Isolated",
                                                      [FM_SPLIT_REMOVED] = "Removed",
                                                      [FM_SPLIT_PREVIOUS] = "MergedWithPrevious",
                                                      [FM_SPLIT_NEXT] = "MergedWithNext",
                                                      [FM_SPLIT_CONTIGUOUS] = "Contiguous"};
    int split = 0;
    while (split < FM_SPLIT_COUNT && strcmp(names[split], fm_json_str(p, "behavior", dflt))) split++;
    return (enum fm_split)split;
}

static enum fm_status read_split(const struct load *l, const json_t *p, struct fm_error *err)
{
    /* Rust's is_ascii_punctuation, or category P */
    static const char punctuation[] = "[\\p{P}$+<=>^`|~]";
    bool punct = is_type(p, "Punctuation");
    enum fm_split split = read_behavior(p, punct ? "Isolated" : "");
    if (split == FM_SPLIT_COUNT) return wrong(l, "a pre-tokenizer has an unknown behavior", err);
    if (punct) return fm_pre_add(&l->t->pre, punctuation, split, false, l->where, err);
    const json_t *pattern = json_object_get(p, "pattern");
    const char *regex = fm_json_str(pattern, "Regex", NULL), *text = fm_json_str(pattern, "String", NULL);
    if (!regex && !text) return wrong(l, "a Split has no pattern", err);
    struct fm_buf quoted = {0};
    if (!regex) quote(&quoted, text);
    enum fm_status st = quoted.failed ? fm_fail_memory(err, "pre-tokenizer", strlen(text))
                                      : fm_pre_add(&l->t->pre,
                                                   regex         ? regex
                                                   : quoted.data ? quoted.data
                                                                 : "",
                                                   split, fm_json_bool(p, "invert", false), l->where, err);
    fm_buf_release(&quoted);
    return st;
}

static enum fm_status read_pre(const struct load *l, const json_t *p, int depth, struct fm_error *err)
{
    struct fm_pre *pre = &l->t->pre;
    if (!p || json_is_null(p)) return FM_OK;
    if (is_type(p, "Sequence")) {
        size_t i;
        json_t *e;
        if (depth > 3) return wrong(l, "pre-tokenizers are nested too deeply", err);
        json_array_foreach(json_object_get(p, "pretokenizers"), i, e) FM_TRY(read_pre(l, e, depth + 1, err));
        return FM_OK;
    }
    if (is_type(p, "Metaspace")) return read_metaspace(l, p, err);
    if (l->t->spm) return wrong(l, "a pre-tokenizer other than Metaspace beside byte fallback", err);
    if (is_type(p, "Split") || is_type(p, "Punctuation")) return read_split(l, p, err);
    if (is_type(p, "Digits"))
        return fm_pre_add(pre, "\\p{N}",
                          fm_json_bool(p, "individual_digits", false) ? FM_SPLIT_ISOLATED : FM_SPLIT_CONTIGUOUS, false,
                          l->where, err);
    if (is_type(p, "ByteLevel")) {
        if (fm_json_bool(p, "add_prefix_space", true)) pre->prefix_space = true;
        return fm_json_bool(p, "use_regex", true)
                   ? fm_pre_add(pre, fm_pre_find("gpt2")->patterns[0], FM_SPLIT_ISOLATED, false, l->where, err)
                   : FM_OK;
    }
    return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: pre-tokenizer %.40s is not supported", l->where,
                   fm_json_str(p, "type", "without type"));
}

static void read_decoder(const struct load *l, const json_t *d)
{
    const json_t *strip = find_type(d, "decoders", "Strip"), *meta = find_type(d, "decoders", "Metaspace");
    if (!l->t->spm) return;
    l->t->strip_first_space = (strip && fm_json_int(strip, "start", 0) > 0) ||
                              (meta && strcmp(fm_json_str(meta, "prepend_scheme", "always"), "never"));
}

/* "single" of the template says whether BOS goes in front and EOS behind. */
static void read_post(const struct load *l, const json_t *p)
{
    const json_t *t = find_type(p, "processors", "TemplateProcessing");
    bool behind = false;
    size_t i;
    json_t *e;
    json_array_foreach(json_object_get(t, "single"), i, e)
    {
        const char *name = fm_json_str(json_object_get(e, "SpecialToken"), "id", NULL);
        if (!name) {
            behind = true;
            continue;
        }
        int32_t id = fm_added_exact(&l->t->added, name, strlen(name));
        if (id < 0) continue;
        *(behind ? &l->t->eos : &l->t->bos) = id;
        *(behind ? &l->t->add_eos : &l->t->add_bos) = true;
    }
}

/* ---- all ---- */

static bool is_byte_level(const json_t *root)
{
    return find_type(json_object_get(root, "pre_tokenizer"), "pretokenizers", "ByteLevel") ||
           find_type(json_object_get(root, "decoder"), "decoders", "ByteLevel");
}

static enum fm_status load(struct load *l, struct fm_error *err)
{
    int64_t n;
    l->model = json_object_get(l->root, "model");
    FM_TRY(check_model(l, err));
    FM_TRY(count_ids(l, &n, err));
    FM_TRY(fm_tokenizer_new(n, l->where, &l->t, err));
    struct fm_tokenizer *t = l->t;
    t->spm = !is_byte_level(l->root);
    t->ignore_merges = fm_json_bool(l->model, "ignore_merges", false);
    FM_TRY(add_added(l, err));
    FM_TRY(add_vocab(l, err));
    FM_TRY(fm_tokenizer_index(t, err));
    FM_TRY(add_merges(l, err));
    FM_TRY(read_normalizer(l, json_object_get(l->root, "normalizer"), err));
    FM_TRY(read_pre(l, json_object_get(l->root, "pre_tokenizer"), 0, err));
    fm_pre_recognise(&t->pre);
    read_decoder(l, json_object_get(l->root, "decoder"));
    read_post(l, json_object_get(l->root, "post_processor"));
    const char *unk = fm_json_str(l->model, "unk_token", NULL);
    if (unk) t->unk = fm_tokenizer_find(t, unk);
    fm_tokenizer_finish(t);
    return FM_OK;
}

enum fm_status fm_tokenizer_load_json(const char *text, size_t n, const char *where, struct fm_tokenizer **out,
                                      struct fm_error *err)
{
    json_t *root;
    FM_TRY(fm_json_parse(text, n, where, &root, err));
    struct load l = {.root = root, .where = where};
    enum fm_status st = load(&l, err);
    if (st)
        fm_tokenizer_close(l.t);
    else
        *out = l.t;
    json_decref(root);
    return st;
}
