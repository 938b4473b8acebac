/* Numbers from config.json or GGUF keys, each within named limits. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/family.h"

void fm_reader_fail(struct fm_reader *r, const char *key, const char *why)
{
    if (r->status) return;
    r->status = fm_fail(r->err, FM_ERR_INPUT, "read model config: %s, key '%s%s%s': %s", r->where,
                        r->gguf ? r->arch : "", r->gguf ? "." : "", key, why);
}

/* False when the key is absent (or null); fails when it is no number. */
static bool number(struct fm_reader *r, const char *key, double *out)
{
    if (r->gguf) {
        char full[128];
        snprintf(full, sizeof full, "%s.%s", r->arch, key);
        const struct fm_meta *m = fm_file_meta(r->gguf, full);
        if (!m) return false;
        if (m->type == FM_META_ARRAY && m->n > 0 && (m->elem == FM_META_INT || m->elem == FM_META_FLOAT)) {
            *out = fm_meta_array_float(m, 0); /* per-layer arrays: accepted when all layers agree */
            for (uint64_t i = 1; i < m->n; i++)
                if (fm_meta_array_float(m, i) != *out) fm_reader_fail(r, key, "layers that differ are not supported");
            return true;
        }
        if (m->type != FM_META_INT && m->type != FM_META_FLOAT) fm_reader_fail(r, key, "is not a number");
        *out = m->type == FM_META_FLOAT ? m->f : (double)m->i;
        return true;
    }
    const json_t *v = json_object_get(r->json, key);
    if (!v || json_is_null(v)) return false;
    if (!json_is_number(v)) fm_reader_fail(r, key, "is not a number");
    *out = json_number_value(v);
    return true;
}

double fm_read_num(struct fm_reader *r, const char *key, double min, double max, double dflt)
{
    double v = 0;
    char why[96];
    if (r->status) return dflt;
    if (!number(r, key, &v)) {
        if (isnan(dflt)) fm_reader_fail(r, key, "is missing");
        return dflt;
    }
    if (!(v >= min && v <= max)) {
        snprintf(why, sizeof why, "%.9g is not within %.9g … %.9g", v, min, max);
        fm_reader_fail(r, key, why);
    }
    return v;
}

int fm_read_int(struct fm_reader *r, const char *key, int min, int max, int dflt)
{
    const bool needed = dflt == FM_NEEDED;
    const double v = fm_read_num(r, key, min, max, needed ? (double)NAN : (double)dflt);
    if (r->status) return needed ? min : dflt;
    if (v != floor(v)) fm_reader_fail(r, key, "is not a whole number");
    return (int)v;
}

bool fm_read_bool(struct fm_reader *r, const char *key, bool dflt)
{
    if (!r->gguf) return fm_json_bool(r->json, key, dflt);
    char full[128];
    snprintf(full, sizeof full, "%s.%s", r->arch, key);
    return fm_meta_bool(r->gguf, full, dflt);
}

const char *fm_read_str(struct fm_reader *r, const char *key)
{
    return r->json ? json_string_value(json_object_get(r->json, key)) : NULL;
}
