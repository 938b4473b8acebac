/* libFuzzer target: JSON schemas and GBNF.
 *
 *   byte 0: which, and how many bytes behind it are a text to match    text    schema or grammar */
#include <stdlib.h>
#include <string.h>

#include "text/grammar_json.h"
#include "text/matcher.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static enum fm_status read_schema(struct fm_gbuild *b, const char *s, size_t n, int *root, struct fm_error *err)
{
    struct fm_py_doc doc = {0};
    const struct fm_py *schema;
    enum fm_status st = fm_py_parse(&doc, s, n, "fuzz", &schema, err);
    struct fm_gjson g = fm_gjson_new(b);
    if (!st) st = fm_schema_parse(&g, schema, "fuzz", root, err);
    fm_py_release(&doc);
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fm_gbuild b = {0};
    struct fm_grammar g;
    struct fm_matcher *m;
    struct fm_error err = {0};
    int root = -1;
    if (n < 1) return 0;
    const size_t k = data[0] / 2U < n - 1 ? data[0] / 2U : n - 1;
    const char *text = (const char *)data + 1, *s = text + k;
    enum fm_status st =
        data[0] & 1 ? fm_gbnf_parse(&b, s, n - 1 - k, "fuzz", &root, &err) : read_schema(&b, s, n - 1 - k, &root, &err);
    if (!st) st = fm_grammar_compile(&b, root, NULL, NULL, "fuzz", &g, &err);
    fm_gbuild_release(&b);
    if (st) {
        if (!*err.message || !memchr(err.message, 0, sizeof err.message)) abort();
        return 0;
    }
    if (fm_matcher_new(&g, &m, &err)) abort();
    for (size_t i = 0; i < k; i++)
        if (!fm_matcher_byte(m, (unsigned char)text[i]) && fm_matcher_fault(m, &err)) break;
    fm_matcher_free(m);
    fm_grammar_release(&g);
    return 0;
}
