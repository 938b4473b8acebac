/* See kvfile.h. */
#include "run/kvfile.h"

#include <string.h>

#include "base/sum.h"

static const char MAGIC[8] = {'F', 'A', 'T', 'H', 'O', 'M', 'K', 'V'};
/* Where things lie in a head.  Numbers are little-endian. */
enum {
    AT_VERSION = 8,
    AT_HEAD = 12, /* its own size */
    AT_BLOCK = 16,
    AT_MODEL = 24,
    AT_TYPE = 32,
    AT_TIER = 40,
    AT_MODE = 56,
    AT_PROGRAM = 72,
    AT_TOKENS = 88, /* of a block */
    AT_INDEX = 92,
    AT_WHOSE = 96,
    AT_BEFORE = 128,
    AT_KEY = 160,
    AT_IDS = 192,
    AT_ZERO = 448, /* nothing yet */
    AT_BODY_SUM = 496,
    AT_HEAD_SUM = 504,
};
static const uint64_t HEAD_SEED = 0x6b76686561643031u, BODY_SEED = 0x6b76626f64793031u;

static void put(uint8_t *at, uint64_t x, int n)
{
    for (int i = 0; i < n; i++) at[i] = (uint8_t)(x >> 8 * i);
}

static uint64_t get(const uint8_t *at, int n)
{
    uint64_t x = 0;
    for (int i = n; i-- > 0;) x = x << 8 | at[i];
    return x;
}

static void put_ids(uint8_t *at, const int32_t *ids)
{
    for (int i = 0; i < FM_KV_BLOCK; i++) put(at + 4 * i, (uint32_t)ids[i], 4);
}

/* Bytes 0 … AT_INDEX. */
static void put_origin(uint8_t *head, const struct fm_kvorigin *o)
{
    memset(head, 0, AT_INDEX);
    memcpy(head, MAGIC, sizeof MAGIC);
    put(head + AT_VERSION, FM_KVFILE_VERSION, 4);
    put(head + AT_HEAD, FM_KVFILE_HEAD, 4);
    put(head + AT_BLOCK, o->block_bytes, 8);
    put(head + AT_MODEL, o->model, 8);
    memcpy(head + AT_TYPE, o->type, sizeof o->type);
    memcpy(head + AT_TIER, o->tier, sizeof o->tier);
    memcpy(head + AT_MODE, o->mode, sizeof o->mode);
    memcpy(head + AT_PROGRAM, o->version, sizeof o->version);
    put(head + AT_TOKENS, FM_KV_BLOCK, 4);
}

static void digest(uint8_t *out, const void *a, size_t na, const void *b, size_t nb)
{
    struct fm_sha256 s;
    fm_sha256_init(&s);
    fm_sha256_add(&s, a, na);
    fm_sha256_add(&s, b, nb);
    fm_sha256_end(&s, out);
}

void fm_kvplace_root(struct fm_kvplace *p, const struct fm_kvorigin *o, const char *user)
{
    uint8_t head[AT_INDEX];
    *p = (struct fm_kvplace){.index = UINT32_MAX};
    digest(p->whose, user, strlen(user), "", 0);
    put_origin(head, o);
    digest(p->key, head, sizeof head, p->whose, sizeof p->whose);
}

void fm_kvplace_next(struct fm_kvplace *p, const int32_t *ids)
{
    uint8_t bytes[4 * FM_KV_BLOCK];
    put_ids(bytes, ids);
    memcpy(p->ids, ids, sizeof p->ids);
    memcpy(p->before, p->key, sizeof p->before);
    digest(p->key, p->before, sizeof p->before, bytes, sizeof bytes);
    p->index++;
}

/* All but the sums. */
static void put_head(uint8_t *head, const struct fm_kvorigin *o, const struct fm_kvplace *p)
{
    memset(head, 0, FM_KVFILE_HEAD);
    put_origin(head, o);
    put(head + AT_INDEX, p->index, 4);
    memcpy(head + AT_WHOSE, p->whose, sizeof p->whose);
    memcpy(head + AT_BEFORE, p->before, sizeof p->before);
    memcpy(head + AT_KEY, p->key, sizeof p->key);
    put_ids(head + AT_IDS, p->ids);
}

void fm_kvfile_head(const struct fm_kvorigin *o, const struct fm_kvplace *p, const void *body,
                    uint8_t head[FM_KVFILE_HEAD])
{
    put_head(head, o, p);
    put(head + AT_BODY_SUM, fm_sum_of(BODY_SEED, body, o->block_bytes), 8);
    put(head + AT_HEAD_SUM, fm_sum_of(HEAD_SEED, head, AT_HEAD_SUM), 8);
}

const char *fm_kvfile_check(const struct fm_kvorigin *o, const struct fm_kvplace *p, const uint8_t head[FM_KVFILE_HEAD],
                            const void *body)
{
    uint8_t want[FM_KVFILE_HEAD];
    if (memcmp(head, MAGIC, sizeof MAGIC) != 0) return "not one of our files";
    if (get(head + AT_VERSION, 4) != FM_KVFILE_VERSION) return "another version of the format";
    if (get(head + AT_HEAD_SUM, 8) != fm_sum_of(HEAD_SEED, head, AT_HEAD_SUM)) return "wrong checksum of the head";
    put_head(want, o, p);
    if (memcmp(head, want, AT_BODY_SUM) != 0) return "another block than its name says";
    if (get(head + AT_BODY_SUM, 8) != fm_sum_of(BODY_SEED, body, o->block_bytes)) return "wrong checksum of the body";
    return NULL;
}
