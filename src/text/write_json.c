/* tokenizer.json and tokenizer_config.json, for Hugging Face's `tokenizers` and `transformers`. */
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "text/alphabet.h"
#include "text/tokenizer_impl.h"

/* A JSON string with its quotes.  ASCII control characters are escaped; everything else is written as it is. */
static void put_string(struct fm_buf *b, const char *s, size_t n)
{
    fm_buf_char(b, '"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\')
            fm_buf_printf(b, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            fm_buf_printf(b, "\\u%04x", c);
        else
            fm_buf_char(b, (char)c);
    }
    fm_buf_char(b, '"');
}

static const char *flag(bool on) { return on ? "true" : "false"; }

static bool is_added(const struct fm_tokenizer *t, int32_t id)
{
    const enum fm_token_type type = t->vocab.tokens[id].type;
    return type == FM_TOKEN_CONTROL || type == FM_TOKEN_USER || type == FM_TOKEN_UNKNOWN;
}

/* Token text as the file has it, as a JSON string. */
static void put_token(struct fm_buf *b, const struct fm_tokenizer *t, int32_t id, struct fm_buf *scratch)
{
    fm_buf_clear(scratch);
    fm_tokenizer_put_piece(scratch, t, id);
    b->failed |= scratch->failed;
    put_string(b, scratch->data ? scratch->data : "", scratch->len);
}

static void put_added(struct fm_buf *b, const struct fm_tokenizer *t)
{
    const char *comma = "";
    for (int32_t id = 0; id < t->vocab.n; id++) {
        if (!is_added(t, id)) continue;
        fm_buf_printf(b, "%s\n    {\"id\": %d, \"content\": ", comma, id);
        put_string(b, fm_vocab_bytes(&t->vocab, id), t->vocab.tokens[id].len);
        fm_buf_printf(b,
                      ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
                      "\"special\": %s}",
                      flag(t->vocab.tokens[id].type != FM_TOKEN_USER));
        comma = ",";
    }
}

static void put_pre(struct fm_buf *b, const struct fm_pre *pre)
{
    static const char *const names[FM_SPLIT_COUNT] = {[FM_SPLIT_ISOLATED] = "Isolated",
                                                      [FM_SPLIT_REMOVED] = "Removed",
                                                      [FM_SPLIT_PREVIOUS] = "MergedWithPrevious",
                                                      [FM_SPLIT_NEXT] = "MergedWithNext",
                                                      [FM_SPLIT_CONTIGUOUS] = "Contiguous"};
    fm_buf_str(b, "{\"type\": \"Sequence\", \"pretokenizers\": [\n");
    for (int i = 0; i < pre->n; i++) {
        fm_buf_str(b, "    {\"type\": \"Split\", \"pattern\": {\"Regex\": ");
        put_string(b, pre->steps[i].pattern, strlen(pre->steps[i].pattern));
        fm_buf_printf(b, "}, \"behavior\": \"%s\", \"invert\": %s},\n", names[pre->steps[i].split],
                      flag(pre->steps[i].invert));
    }
    fm_buf_printf(b,
                  "    {\"type\": \"ByteLevel\", \"add_prefix_space\": %s, \"trim_offsets\": true, "
                  "\"use_regex\": false}\n  ]}",
                  flag(pre->prefix_space));
}

static void put_model(struct fm_buf *b, const struct fm_tokenizer *t, const struct fm_pair *merges,
                      struct fm_buf *scratch)
{
    const char *comma = "";
    fm_buf_printf(
        b,
        "{\"type\": \"BPE\", \"dropout\": null, \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, "
        "\"fuse_unk\": %s, \"byte_fallback\": %s, \"ignore_merges\": %s, \"unk_token\": ",
        flag(t->spm), flag(t->spm), flag(t->ignore_merges));
    if (t->spm && t->unk >= 0)
        put_token(b, t, t->unk, scratch);
    else
        fm_buf_str(b, "null");
    fm_buf_str(b, ", \"vocab\": {");
    for (int32_t id = 0; id < t->vocab.n; id++) {
        if (t->vocab.tokens[id].type == FM_TOKEN_GAP) continue;
        fm_buf_printf(b, "%s\n    ", comma);
        put_token(b, t, id, scratch);
        fm_buf_printf(b, ": %d", id);
        comma = ",";
    }
    fm_buf_str(b, "\n  }, \"merges\": [");
    for (uint32_t i = 0; i < t->pairs.n; i++) {
        fm_buf_printf(b, "%s\n    [", i ? "," : "");
        put_token(b, t, (int32_t)(merges[i].key >> 32), scratch);
        fm_buf_str(b, ", ");
        put_token(b, t, (int32_t)(merges[i].key & UINT32_MAX), scratch);
        fm_buf_char(b, ']');
    }
    fm_buf_str(b, "\n  ]}");
}

static void put_text(struct fm_buf *b, const struct fm_tokenizer *t, int32_t id)
{
    put_string(b, fm_vocab_bytes(&t->vocab, id), t->vocab.tokens[id].len);
}

/* BOS in front and EOS behind, where the tokenizer adds them: transformers reads it here, not in tokenizer_config.json. */
static void put_template_piece(struct fm_buf *b, const struct fm_tokenizer *t, int32_t id, int type)
{
    fm_buf_str(b, "{\"SpecialToken\": {\"id\": ");
    put_text(b, t, id);
    fm_buf_printf(b, ", \"type_id\": %d}}", type);
}

static void put_template_text(struct fm_buf *b, const struct fm_tokenizer *t, const char *name, int type)
{
    if (t->add_bos && t->bos >= 0) {
        put_template_piece(b, t, t->bos, type);
        fm_buf_str(b, ", ");
    }
    fm_buf_printf(b, "{\"Sequence\": {\"id\": \"%s\", \"type_id\": %d}}", name, type);
    if (t->add_eos && t->eos >= 0) {
        fm_buf_str(b, ", ");
        put_template_piece(b, t, t->eos, type);
    }
}

static void put_template_token(struct fm_buf *b, const struct fm_tokenizer *t, int32_t id)
{
    put_text(b, t, id);
    fm_buf_str(b, ": {\"id\": ");
    put_text(b, t, id);
    fm_buf_printf(b, ", \"ids\": [%d], \"tokens\": [", id);
    put_text(b, t, id);
    fm_buf_str(b, "]}");
}

static void put_post(struct fm_buf *b, const struct fm_tokenizer *t)
{
    const bool bos = t->add_bos && t->bos >= 0, eos = t->add_eos && t->eos >= 0;
    if (!bos && !eos) {
        fm_buf_str(b, "null");
        return;
    }
    fm_buf_str(b, "{\"type\": \"TemplateProcessing\", \"single\": [");
    put_template_text(b, t, "A", 0);
    fm_buf_str(b, "], \"pair\": [");
    put_template_text(b, t, "A", 0);
    fm_buf_str(b, ", ");
    put_template_text(b, t, "B", 1);
    fm_buf_str(b, "], \"special_tokens\": {");
    if (bos) put_template_token(b, t, t->bos);
    if (bos && eos && t->bos != t->eos) fm_buf_str(b, ", ");
    if (eos && (!bos || t->bos != t->eos)) put_template_token(b, t, t->eos);
    fm_buf_str(b, "}}");
}

/* SentencePiece: spaces are ▁, perhaps one more in front. */
static void put_normalizer(struct fm_buf *b, const struct fm_tokenizer *t)
{
    if (!t->spm || t->prefix == FM_PREFIX_FIRST || t->prefix == FM_PREFIX_ABSENT) {
        fm_buf_str(b, t->nfc ? "{\"type\": \"NFC\"}" : "null");
        return;
    }
    fm_buf_str(b, "{\"type\": \"Sequence\", \"normalizers\": [");
    if (t->prefix == FM_PREFIX_ALWAYS) fm_buf_str(b, "{\"type\": \"Prepend\", \"prepend\": \"▁\"}, ");
    fm_buf_str(b, "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"▁\"}]}");
}

static void put_pieces(struct fm_buf *b, const struct fm_tokenizer *t)
{
    if (!t->spm)
        put_pre(b, &t->pre);
    else if (t->prefix == FM_PREFIX_FIRST || t->prefix == FM_PREFIX_ABSENT)
        fm_buf_printf(b, "{\"type\": \"Metaspace\", \"replacement\": \"▁\", \"prepend_scheme\": \"%s\", \"split\": %s}",
                      t->prefix == FM_PREFIX_FIRST ? "first" : "always", flag(t->split_spaces));
    else
        fm_buf_str(b, "null");
}

static void put_decoder(struct fm_buf *b, const struct fm_tokenizer *t)
{
    if (!t->spm) {
        fm_buf_str(
            b, "{\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true}");
        return;
    }
    fm_buf_str(b, "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \"▁\"}, "
                  "\"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}");
    if (t->strip_first_space) fm_buf_str(b, ", {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}");
    fm_buf_str(b, "]}");
}

enum fm_status fm_tokenizer_write_json(const struct fm_tokenizer *t, const char *path, struct fm_error *err)
{
    if (t->collapse_spaces)
        return fm_fail(err, FM_ERR_USAGE, "write tokenizer: %s: removing extra spaces has no form there", path);
    struct fm_buf b = {0}, scratch = {0};
    struct fm_pair *merges;
    FM_TRY(fm_tokenizer_sorted_pairs(t, &merges, err));
    fm_buf_str(&b, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [");
    put_added(&b, t);
    fm_buf_str(&b, "\n  ],\n  \"normalizer\": ");
    put_normalizer(&b, t);
    fm_buf_str(&b, ",\n  \"pre_tokenizer\": ");
    put_pieces(&b, t);
    fm_buf_str(&b, ",\n  \"post_processor\": ");
    put_post(&b, t);
    fm_buf_str(&b, ",\n  \"decoder\": ");
    put_decoder(&b, t);
    fm_buf_str(&b, ",\n  \"model\": ");
    put_model(&b, t, merges, &scratch);
    fm_buf_str(&b, "\n}\n");
    enum fm_status st = b.failed || scratch.failed ? fm_fail_memory(err, "tokenizer.json", b.len)
                                                   : fm_write_file(path, b.data, b.len, err);
    fm_free(merges);
    fm_buf_release(&b);
    fm_buf_release(&scratch);
    return st;
}

static void put_config_token(struct fm_buf *b, const struct fm_tokenizer *t, const char *key, int32_t id)
{
    fm_buf_printf(b, "  \"%s\": ", key);
    if (id >= 0)
        put_string(b, fm_vocab_bytes(&t->vocab, id), t->vocab.tokens[id].len);
    else
        fm_buf_str(b, "null");
    fm_buf_str(b, ",\n");
}

enum fm_status fm_tokenizer_write_config(const struct fm_tokenizer *t, const char *path, const char *chat_template,
                                         struct fm_error *err)
{
    struct fm_buf b = {0};
    fm_buf_str(&b, "{\n");
    put_config_token(&b, t, "bos_token", t->bos);
    put_config_token(&b, t, "eos_token", t->eos);
    if (chat_template) {
        fm_buf_str(&b, "  \"chat_template\": ");
        put_string(&b, chat_template, strlen(chat_template));
        fm_buf_str(&b, ",\n");
    }
    fm_buf_printf(&b,
                  "  \"add_bos_token\": %s,\n  \"add_eos_token\": %s,\n  \"clean_up_tokenization_spaces\": false,\n"
                  "  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n",
                  flag(t->add_bos), flag(t->add_eos));
    enum fm_status st =
        b.failed ? fm_fail_memory(err, "tokenizer_config.json", b.len) : fm_write_file(path, b.data, b.len, err);
    fm_buf_release(&b);
    return st;
}
