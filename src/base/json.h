/* Thin bounded layer over jansson: parse with a clear error, typed getters with defaults. */
#ifndef FM_BASE_JSON_H
#define FM_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Parse n bytes of strict UTF-8 JSON (duplicate keys refused).  where names the source in messages.
 * On success *out is a new reference: json_decref it. */
enum fm_status fm_json_parse(const char *text, size_t n, const char *where, json_t **out,
                             struct fm_error *err) FM_MUST_USE;
enum fm_status fm_json_read(const char *path, json_t **out, struct fm_error *err) FM_MUST_USE;

/* Missing or null → dflt; another type → dflt as well (use the _need forms where a wrong type must be an error). */
int64_t fm_json_int(const json_t *obj, const char *key, int64_t dflt);
double fm_json_num(const json_t *obj, const char *key, double dflt);
bool fm_json_bool(const json_t *obj, const char *key, bool dflt);
const char *fm_json_str(const json_t *obj, const char *key, const char *dflt);

#endif
