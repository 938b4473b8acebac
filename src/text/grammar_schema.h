/* Inside of grammar_json.h's schemas: what grammar_schema.c and grammar_values.c share. */
#ifndef FM_TEXT_GRAMMAR_SCHEMA_H
#define FM_TEXT_GRAMMAR_SCHEMA_H

#include "text/grammar_json.h"

enum {
    FM_JT_NULL = 1,
    FM_JT_BOOLEAN = 2,
    FM_JT_INTEGER = 4,
    FM_JT_FRACTION = 8,
    FM_JT_NUMBER = FM_JT_INTEGER | FM_JT_FRACTION,
    FM_JT_STRING = 16,
    FM_JT_ARRAY = 32,
    FM_JT_OBJECT = 64,
    FM_JT_ANY = 127
};

enum { FM_VIEW_MAX = 48 };
enum {
    FM_VIEW_ANY = 1,    /* of the schema's anyOf a branch was chosen */
    FM_VIEW_ONE = 2,    /* … of its oneOf                            */
    FM_VIEW_CLOSED = 4, /* only properties that its own grammar makes */
    FM_VIEW_FLAT = 8    /* its $ref and allOf are in the view */
};
struct fm_view_part {
    const struct fm_py *schema;
    uint64_t done; /* as wide as the pointer: parts are compared as bytes */
};
struct fm_view {
    int n;
    bool never;
    struct fm_view_part part[FM_VIEW_MAX];
};

struct fm_schema_view {
    struct fm_view_part *parts, *key; /* [n] as they came, and sorted */
    int n, rule;
    bool never;
    uint64_t hash;
};
struct fm_schema_probe {
    struct fm_view view;
    const struct fm_py *list; /* the oneOf                             */
    bool unknown;             /* they cannot be put together: may hold */
};

struct fm_schema {
    struct fm_gjson *g;
    struct fm_gbuild *b;
    const struct fm_py *root;
    const char *what;
    struct fm_error *err;
    struct fm_schema_view *views;
    struct fm_schema_probe *probes;
    int n_views, n_done, n_probes, cap_probes;
    uint64_t work;
    bool bad, probing; /* refused: err says why; probing: it is silent */
};

/* Adds all that $ref and allOf name. */
void fm_schema_flatten(struct fm_schema *c, struct fm_view *v);
/* What of a flat view: its types, values of these types, and the listed values of one of its schemas as `spell` has them. */
uint8_t fm_schema_types(struct fm_schema *c, const struct fm_view *v);
fm_gnode fm_schema_value(struct fm_schema *c, const struct fm_view *v, uint8_t types);
fm_gnode fm_schema_listed(struct fm_schema *c, const struct fm_view *v, const struct fm_py *schema,
                          fm_gnode (*spell)(struct fm_schema *c, const struct fm_py *value));
/* The different values that a flat view lists, in out[max]; −1: it lists none, or more, or alternatives. */
int fm_schema_distinct(struct fm_schema *c, const struct fm_view *v, const struct fm_py **out, int max);
bool fm_schema_refuse(struct fm_schema *c, const struct fm_py *where, const char *key, const char *why);
void fm_view_add(struct fm_schema *c, struct fm_view *v, const struct fm_py *schema, uint8_t done);
int fm_schema_rule(struct fm_schema *c, const struct fm_view *v);
fm_gnode fm_schema_node(struct fm_schema *c, const struct fm_view *v);
bool fm_schema_count(struct fm_schema *c, const struct fm_py *schema, const char *key, uint32_t *out);
bool fm_schema_counts(struct fm_schema *c, const struct fm_view *v, const char *min, const char *max, uint32_t *least,
                      uint32_t *most);

/* ---- grammar_values.c: values of one type ---- */

struct fm_number_bounds {
    struct fm_bounds b; /* its pointers lead here */
    struct fm_decimal min, max;
};
bool fm_schema_bounds(struct fm_schema *c, const struct fm_view *v, struct fm_number_bounds *out);
fm_gnode fm_schema_number(struct fm_schema *c, const struct fm_view *v, bool whole);
fm_gnode fm_schema_string(struct fm_schema *c, const struct fm_view *v);
fm_gnode fm_schema_array(struct fm_schema *c, const struct fm_view *v);
fm_gnode fm_schema_object(struct fm_schema *c, const struct fm_view *v);
/* The members of an object as parameters in DSML. */
fm_gnode fm_schema_parameters(struct fm_schema *c, const struct fm_view *v);

/* ---- grammar_dsml.c ---- */

fm_gnode fm_dsml_parameter(struct fm_schema *c, struct fm_span name, const struct fm_view *v);
fm_gnode fm_dsml_any(struct fm_schema *c); /* of any name */

#endif
