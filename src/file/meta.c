/* Getters of metadata; see tensors.h.  The readers have checked every range, so nothing here can fail. */
#include <assert.h>
#include <string.h>

#include "file/container.h"
#include "file/gguf_types.h"

int fm_file_n_meta(const struct fm_file *f) { return f->n_meta; }

const struct fm_meta *fm_file_meta_at(const struct fm_file *f, int i) { return &f->meta[i]; }

/* Where element i of an array lies. */
static const unsigned char *element(const struct fm_meta *m, uint64_t i)
{
    assert(m->type == FM_META_ARRAY && i < m->n);
    return (const unsigned char *)m->array + i * fm_gguf_types[m->gguf_type].bytes;
}

int64_t fm_meta_array_int(const struct fm_meta *m, uint64_t i)
{
    assert(m->elem == FM_META_INT || m->elem == FM_META_BOOL);
    return fm_gguf_load_int(m->gguf_type, element(m, i));
}

double fm_meta_array_float(const struct fm_meta *m, uint64_t i)
{
    if (m->elem == FM_META_FLOAT) return fm_gguf_load_float(m->gguf_type, element(m, i));
    if (m->gguf_type == FM_GGUF_U64) return (double)(uint64_t)fm_meta_array_int(m, i);
    return (double)fm_meta_array_int(m, i);
}

/* An array of strings is kept as pointers to where each begins: its length, then its bytes. */
struct fm_str fm_meta_array_str(const struct fm_meta *m, uint64_t i)
{
    assert(m->type == FM_META_ARRAY && m->elem == FM_META_STRING && i < m->n);
    const unsigned char *p = ((const unsigned char *const *)m->array)[i];
    struct fm_str s;
    memcpy(&s.len, p, sizeof s.len);
    s.data = (const char *)p + sizeof s.len;
    return s;
}

int64_t fm_meta_int(const struct fm_file *f, const char *key, int64_t dflt)
{
    const struct fm_meta *m = fm_file_meta(f, key);
    return m && m->type == FM_META_INT ? m->i : dflt;
}

double fm_meta_float(const struct fm_file *f, const char *key, double dflt)
{
    const struct fm_meta *m = fm_file_meta(f, key);
    if (m && m->type == FM_META_INT) return (double)m->i;
    return m && m->type == FM_META_FLOAT ? m->f : dflt;
}

bool fm_meta_bool(const struct fm_file *f, const char *key, bool dflt)
{
    const struct fm_meta *m = fm_file_meta(f, key);
    return m && m->type == FM_META_BOOL ? m->i != 0 : dflt;
}

bool fm_meta_str(const struct fm_file *f, const char *key, struct fm_str *out)
{
    const struct fm_meta *m = fm_file_meta(f, key);
    if (!m || m->type != FM_META_STRING) return false;
    *out = m->s;
    return true;
}
