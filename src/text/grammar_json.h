/* JSON as grammars: any value, one of a schema, and the parts that both are made of.
 *
 * White space is bounded, so that no model can fill its answer with it: between tokens stands nothing, one space, or a
 * newline with at most FM_GJSON_INDENT blanks; behind a colon nothing or one space. */
#ifndef FM_TEXT_GRAMMAR_JSON_H
#define FM_TEXT_GRAMMAR_JSON_H

#include "base/pyjson.h"
#include "text/grammar.h"

enum { FM_GJSON_INDENT = 40 };

struct fm_gjson {
    struct fm_gbuild *b;
    int blank, character, value, object, array; /* rules, made when they are first wanted */
};
struct fm_gjson fm_gjson_new(struct fm_gbuild *b);

fm_gnode fm_gjson_blank(struct fm_gjson *g);
fm_gnode fm_gjson_character(struct fm_gjson *g); /* any one of a string */
/* One character of the n ranges, or outside of them, as it stands in a string. */
fm_gnode fm_gjson_class(struct fm_gjson *g, const struct fm_grange *r, int n, bool negated);
fm_gnode fm_gjson_string(struct fm_gjson *g, fm_gnode inside); /* between quotes */
fm_gnode fm_gjson_literal(struct fm_gjson *g, const struct fm_py *v);
fm_gnode fm_gjson_key(struct fm_gjson *g, fm_gnode key, fm_gnode value); /* key: with its quotes */
fm_gnode fm_gjson_object_of(struct fm_gjson *g, fm_gnode members);       /* between braces, members may be empty */
fm_gnode fm_gjson_array_of(struct fm_gjson *g, fm_gnode items);
fm_gnode fm_gjson_comma(struct fm_gjson *g, fm_gnode what); /* a comma, then it */
fm_gnode fm_gjson_number(struct fm_gjson *g);
fm_gnode fm_gjson_integer(struct fm_gjson *g);
fm_gnode fm_gjson_value(struct fm_gjson *g);
fm_gnode fm_gjson_object(struct fm_gjson *g);

/* ---- grammar_number.c ---- */

enum { FM_DECIMAL = 40 }; /* digits on either side of the point */
struct fm_decimal {
    bool negative;
    int n_whole, n_part; /* no zeros in front but a single one; none behind the point's last */
    char whole[FM_DECIMAL + 2], part[FM_DECIMAL + 2];
};
/* A JSON number's text, exponents included; false: more digits than FM_DECIMAL. */
bool fm_decimal_read(struct fm_decimal *d, struct fm_span text);
int fm_decimal_compare(const struct fm_decimal *a, const struct fm_decimal *b);

struct fm_bounds {
    const struct fm_decimal *min, *max; /* NULL: none        */
    bool above, below;                  /* not the bound itself */
};
/* Numbers within the bounds: exactly, in plain digits.  whole: integers only.  Where there is no bound, up to 18 digits for
 * integers and 15 for others, which every reader's doubles hold. */
fm_gnode fm_g_number(struct fm_gbuild *b, const struct fm_bounds *bounds, bool whole);

/* Multiples of step, 2 … FM_STEP_MAX, of up to 15 digits, which doubles hold. */
enum fm_sign { FM_SIGN_ANY, FM_SIGN_NOT_NEGATIVE, FM_SIGN_POSITIVE };
enum { FM_STEP_MAX = 100 };
fm_gnode fm_g_multiples(struct fm_gbuild *b, unsigned step, enum fm_sign sign);

/* ---- grammar_regex.c ---- */

struct fm_regex_span {
    uint64_t min, max; /* characters of the texts that match; max UINT64_MAX: no bound */
};
/* An ECMA-262 pattern as the inside of a JSON string; unanchored ends take any text.  No look-around, back references and
 * word boundaries; anchors only at the ends of a whole alternative.  \d and \w mean ASCII, \s what all dialects agree on.
 * why[n]: what was wrong, on FM_GNODE_NONE without b's failure. */
fm_gnode fm_g_regex(struct fm_gjson *g, struct fm_span pattern, struct fm_regex_span *span, const char **why);

/* ---- grammar_schema.c ---- */

/* A JSON schema, drafts 7 and 2020-12, as the grammar of values that satisfy it; README.md has the list.  Every text of the
 * grammar is valid; not every valid text is in it: properties come in the schema's order.  FM_ERR_INPUT
 * "WHAT: /JSON/POINTER: WHY".  schema must live during the call only. */
enum fm_status fm_schema_parse(struct fm_gjson *g, const struct fm_py *schema, const char *what, int *root,
                               struct fm_error *err) FM_MUST_USE;
/* A tool's parameters: objects only; dsml: as the parameters of a call in that dialect. */
enum fm_status fm_schema_arguments(struct fm_gjson *g, const struct fm_py *schema, bool dsml, const char *what,
                                   int *root, struct fm_error *err) FM_MUST_USE;

#endif
