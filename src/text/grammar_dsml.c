/* One parameter of a call in DSML: <｜DSML｜parameter name="K" string="true">text</…> for strings, string="false" and JSON for
 * the rest.  Strings that are more than free or listed come as JSON, which every reader of this dialect takes. */
#include <string.h>

#include "text/grammar_schema.h"

#define D "｜DSML｜"

/* `true">` or `false">`, the value, and the closing mark. */
static fm_gnode closed(struct fm_schema *c, bool string, fm_gnode value)
{
    return FM_G_SEQ(c->b, fm_g_str(c->b, string ? "true\">" : "false\">"), value, fm_g_str(c->b, "</"),
                    fm_g_mark(c->b, D), fm_g_str(c->b, "parameter>\n"));
}

static fm_gnode free_text(struct fm_schema *c)
{
    return FM_G_SEQ(c->b, fm_g_str(c->b, "true\">"), fm_g_free(c->b, "</" D "parameter>", true), fm_g_str(c->b, "\n"));
}

static fm_gnode spell(struct fm_schema *c, const struct fm_py *v)
{
    if (v->kind != FM_PY_STRING) return closed(c, false, fm_gjson_literal(c->g, v));
    return closed(c, true, fm_g_text(c->b, v->text.s, v->text.n));
}

/* Whether a schema says of strings that any will do. */
static bool is_free(const struct fm_py *s)
{
    static const char *const more[] = {"enum",      "const", "pattern", "format", "minLength",
                                       "maxLength", "$ref",  "allOf",   "anyOf",  "oneOf"};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        if (fm_py_get(s, more[i])) return false;
    return true;
}

static bool has_free_branch(const struct fm_py *s)
{
    for (int k = 0; k < 2; k++) {
        const struct fm_py *list = fm_py_get(s, k ? "oneOf" : "anyOf");
        for (const struct fm_py *p = list && list->kind == FM_PY_ARRAY ? list->first : NULL; p; p = p->next)
            if (fm_py_is(fm_py_get(p, "type"), "string") && is_free(p)) return true;
    }
    return false;
}

static fm_gnode value(struct fm_schema *c, const struct fm_view *given)
{
    struct fm_view v = *given;
    fm_schema_flatten(c, &v);
    if (c->bad) return FM_GNODE_NONE;
    if (v.never) return fm_g_never(c->b);
    bool plain = true;
    for (int i = 0; i < v.n; i++) {
        const struct fm_py *s = v.part[i].schema;
        if (fm_py_get(s, "anyOf") || fm_py_get(s, "oneOf")) {
            const fm_gnode json = closed(c, false, fm_schema_node(c, &v));
            return v.n == 1 && has_free_branch(s) ? FM_G_ALT(c->b, free_text(c), json) : json;
        }
        if (fm_py_get(s, "enum") || fm_py_get(s, "const")) return fm_schema_listed(c, &v, s, spell);
        plain = plain && (is_free(s) || fm_py_get(s, "$ref"));
    }
    uint8_t types = v.n ? fm_schema_types(c, &v) : FM_JT_ANY;
    if (c->bad) return FM_GNODE_NONE;
    fm_gnode string = fm_g_never(c->b);
    if (plain && types & FM_JT_STRING) {
        string = free_text(c);
        types &= (uint8_t)~FM_JT_STRING;
    }
    return FM_G_ALT(c->b, string, types ? closed(c, false, fm_schema_value(c, &v, types)) : fm_g_never(c->b));
}

fm_gnode fm_dsml_parameter(struct fm_schema *c, struct fm_span name, const struct fm_view *v)
{
    return FM_G_SEQ(c->b, fm_g_str(c->b, "<"), fm_g_mark(c->b, D), fm_g_str(c->b, "parameter name=\""),
                    fm_g_text(c->b, name.s, name.n), fm_g_str(c->b, "\" string=\""), value(c, v));
}

fm_gnode fm_dsml_any(struct fm_schema *c)
{
    const struct fm_grange shut[] = {{0, 0x1F}, {'"', '"'}, {'<', '<'}};
    const fm_gnode name = fm_g_repeat(c->b, fm_g_class(c->b, shut, 3, true), 1, 64);
    return FM_G_SEQ(c->b, fm_g_str(c->b, "<"), fm_g_mark(c->b, D), fm_g_str(c->b, "parameter name=\""), name,
                    fm_g_str(c->b, "\" string=\""),
                    FM_G_ALT(c->b, free_text(c), closed(c, false, fm_gjson_value(c->g))));
}
