/* SentencePiece .model files: a protobuf message, read here by a tiny bounded reader.
 *
 *   ModelProto      1: SentencePiece (repeated)   2: TrainerSpec   3: NormalizerSpec
 *   SentencePiece   1: piece   2: score (float)   3: type, the numbers of enum fm_token_type
 *   TrainerSpec     3: model_type (2 = BPE)   24: treat_whitespace_as_suffix   40 41 42: unk, bos, eos id
 *   NormalizerSpec  2: precompiled_charsmap   3: add_dummy_prefix   4: remove_extra_whitespaces
 *
 * Source: sentencepiece_model.proto.  Only BPE models without a character map are read: no published Llama or
 * Mistral needs more. */
#include <string.h>

#include "base/mem.h"
#include "text/tokenizer_impl.h"

/* ---- protobuf ---- */

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

struct message {
    const unsigned char *at, *end;
    bool bad; /* sticky: ran over the end, or an unknown wire type */
};

struct field {
    uint64_t number, value; /* value of WIRE_VARINT and WIRE_32 */
    enum wire wire;
    struct message bytes; /* of WIRE_BYTES                    */
};

static uint64_t read_varint(struct message *m)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (m->at == m->end) break;
        unsigned char c = *m->at++;
        v |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80) return v;
    }
    m->bad = true;
    return 0;
}

static const unsigned char *take(struct message *m, uint64_t n)
{
    if (m->bad || n > (uint64_t)(m->end - m->at)) {
        m->bad = true;
        return NULL;
    }
    m->at += n;
    return m->at - n;
}

/* The next field; false at the end and at a malformed one (m->bad). */
static bool next_field(struct message *m, struct field *f)
{
    if (m->bad || m->at == m->end) return false;
    uint64_t tag = read_varint(m);
    *f = (struct field){.number = tag >> 3, .wire = (enum wire)(tag & 7)};
    const unsigned char *s;
    switch (f->wire) {
    case WIRE_VARINT: f->value = read_varint(m); break;
    case WIRE_64: take(m, 8); break;
    case WIRE_32:
        if ((s = take(m, 4))) f->value = s[0] | (uint64_t)s[1] << 8 | (uint64_t)s[2] << 16 | (uint64_t)s[3] << 24;
        break;
    case WIRE_BYTES: {
        uint64_t n = read_varint(m);
        if ((s = take(m, n))) f->bytes = (struct message){s, s + n, false};
        break;
    }
    default: m->bad = true;
    }
    return !m->bad;
}

/* ---- the model ---- */

struct piece {
    const char *text;
    size_t n;
    float score;
    uint64_t type;
};

struct model {
    const char *where;
    int64_t n_pieces;
    uint64_t model_type;
    int64_t unk, bos, eos;
    bool dummy_prefix, collapse, suffix, charsmap;
};

static enum fm_status malformed(const char *where, struct fm_error *err)
{
    return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: is no SentencePiece model, or a damaged one", where);
}

static bool read_piece(struct message m, struct piece *p)
{
    struct field f;
    *p = (struct piece){.text = "", .type = FM_TOKEN_NORMAL};
    while (next_field(&m, &f)) {
        uint32_t bits = (uint32_t)f.value;
        if (f.number == 1 && f.wire == WIRE_BYTES) {
            p->text = (const char *)f.bytes.at;
            p->n = (size_t)(f.bytes.end - f.bytes.at);
        } else if (f.number == 2 && f.wire == WIRE_32)
            memcpy(&p->score, &bits, sizeof bits);
        else if (f.number == 3 && f.wire == WIRE_VARINT)
            p->type = f.value;
    }
    return !m.bad && p->type >= FM_TOKEN_NORMAL && p->type <= FM_TOKEN_BYTE;
}

static bool read_trainer(struct message m, struct model *s)
{
    struct field f;
    while (next_field(&m, &f)) {
        if (f.wire != WIRE_VARINT) continue;
        if (f.number == 3) s->model_type = f.value;
        if (f.number == 24) s->suffix = f.value != 0;
        if (f.number == 40) s->unk = (int32_t)f.value;
        if (f.number == 41) s->bos = (int32_t)f.value;
        if (f.number == 42) s->eos = (int32_t)f.value;
    }
    return !m.bad;
}

static bool read_normalizer(struct message m, struct model *s)
{
    struct field f;
    while (next_field(&m, &f)) {
        if (f.number == 2 && f.wire == WIRE_BYTES) s->charsmap = f.bytes.at != f.bytes.end;
        if (f.number == 3 && f.wire == WIRE_VARINT) s->dummy_prefix = f.value != 0;
        if (f.number == 4 && f.wire == WIRE_VARINT) s->collapse = f.value != 0;
    }
    return !m.bad;
}

static enum fm_status read_model(struct message m, struct model *s, struct fm_error *err)
{
    struct field f;
    bool good = true;
    while (good && next_field(&m, &f)) {
        if (f.number == 1) s->n_pieces++;
        if (f.number >= 1 && f.number <= 3 && f.wire != WIRE_BYTES) good = false;
        if (f.number == 2) good = good && read_trainer(f.bytes, s);
        if (f.number == 3) good = good && read_normalizer(f.bytes, s);
    }
    if (!good || m.bad || !s->n_pieces) return malformed(s->where, err);
    if (s->model_type != 2)
        return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: SentencePiece model type %llu: only BPE is supported",
                       s->where, (unsigned long long)s->model_type);
    if (s->charsmap || s->suffix)
        return fm_fail(err, FM_ERR_INPUT, "read tokenizer: %s: its %s is not supported", s->where,
                       s->charsmap ? "character map (normalisation)" : "treat_whitespace_as_suffix");
    return FM_OK;
}

static enum fm_status fill(struct fm_tokenizer *t, struct message m, const struct model *s, struct fm_error *err)
{
    struct field f;
    struct piece p;
    int64_t id = 0;
    t->spm = true;
    t->scores = fm_calloc((size_t)s->n_pieces, sizeof *t->scores);
    if (!t->scores) return fm_fail_memory(err, "scores", (size_t)s->n_pieces * sizeof *t->scores);
    while (next_field(&m, &f)) {
        if (f.number != 1) continue;
        if (!read_piece(f.bytes, &p)) return malformed(s->where, err);
        t->scores[id] = p.score;
        FM_TRY(fm_tokenizer_set_piece(t, id++, p.text, p.n, (enum fm_token_type)p.type, s->where, err));
    }
    FM_TRY(fm_tokenizer_index(t, err));
    FM_TRY(fm_tokenizer_pairs_from_scores(t, err));
    t->unk = s->unk >= 0 && s->unk < s->n_pieces ? (int32_t)s->unk : -1;
    t->bos = s->bos >= 0 && s->bos < s->n_pieces ? (int32_t)s->bos : -1;
    t->eos = s->eos >= 0 && s->eos < s->n_pieces ? (int32_t)s->eos : -1;
    t->add_bos = t->bos >= 0;
    t->prefix = s->dummy_prefix ? FM_PREFIX_ALWAYS : FM_PREFIX_NONE;
    t->strip_first_space = s->dummy_prefix;
    t->collapse_spaces = s->collapse;
    fm_tokenizer_finish(t);
    return FM_OK;
}

enum fm_status fm_tokenizer_load_spm(const char *data, size_t n, const char *where, struct fm_tokenizer **out,
                                     struct fm_error *err)
{
    const unsigned char *d = (const unsigned char *)data;
    struct message m = {d, d + n, false};
    struct model s = {.where = where, .model_type = 1, .bos = 1, .eos = 2, .dummy_prefix = true, .collapse = true};
    FM_TRY(read_model(m, &s, err));
    struct fm_tokenizer *t;
    FM_TRY(fm_tokenizer_new(s.n_pieces, where, &t, err));
    enum fm_status st = fill(t, m, &s, err);
    if (st)
        fm_tokenizer_close(t);
    else
        *out = t;
    return st;
}
