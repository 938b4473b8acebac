/* Unicode's form C against the one of Hugging Face's tokenizers (tests/oracle/nfc.jsonl, tools/make_nfc_vectors.py), its own
 * laws over all code points, bytes that are no UTF-8, and how it goes into ids. */
#include "text/nfc.h"

#include "base/json.h"
#include "text_util.h"

static void check(const char *s, size_t n, const char *want, size_t n_want)
{
    struct fm_buf b = {0};
    OK(fm_nfc(s, n, &b, &err));
    if (b.len != n_want || (n_want && memcmp(b.data, want, n_want) != 0))
        fail_msg("form C of \"%.*s\" is \"%.*s\", not \"%.*s\"", (int)n, s, (int)b.len, b.len ? b.data : "",
                 (int)n_want, want);
    if (!fm_nfc_matters(s, n)) assert_true(n == n_want && !memcmp(s, want, n));
    fm_buf_release(&b);
}

static void test_vectors(void **state)
{
    (void)state;
    FILE *f = fopen("tests/oracle/nfc.jsonl", "rb");
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    int rows = 0;
    if (!f) fail_msg("tests/oracle/nfc.jsonl is not there: tests run in the root of the tree");
    while ((n = getline(&line, &cap, f)) > 0) {
        json_error_t why;
        json_t *j = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, &why);
        const json_t *text = json_object_get(j, "text"), *nfc = json_object_get(j, "nfc");
        assert_true(json_is_string(text) && json_is_string(nfc));
        check(json_string_value(text), json_string_length(text), json_string_value(nfc), json_string_length(nfc));
        json_decref(j);
        rows++;
    }
    assert_true(rows > 500);
    free(line); /* getline's */
    fclose(f);
}

/* Form C of a form C is itself, for all code points in one text, up and down; plain characters alone never change. */
static void test_laws(void **state)
{
    (void)state;
    struct fm_buf all = {0}, once = {0};
    for (uint32_t i = 0; i < 2 * 0x110000; i++) {
        uint32_t c = i < 0x110000 ? i : 2 * 0x110000 - 1 - i;
        if (c < 0xD800 || c >= 0xE000) fm_buf_utf8(&all, c);
    }
    OK(fm_nfc(all.data, all.len, &once, &err));
    assert_true(once.len != all.len);
    check(once.data, once.len, once.data, once.len);
    fm_buf_release(&all);
    fm_buf_release(&once);
}

static void test_bytes(void **state)
{
    (void)state;
    static const char in[] = "e\xCC\x81\xFF\xCC\x81\x80 e\xCC", want[] = "\xC3\xA9\xFF\xCC\x81\x80 e\xCC";
    check(in, sizeof in - 1, want, sizeof want - 1);
    check("", 0, "", 0);
    check("a\xCC\x81", 3, "\xC3\xA1", 2);
    check("\xED\xA0\x80", 3, "\xED\xA0\x80", 3); /* a surrogate is no UTF-8 */
}

/* A letter under a hundred thousand marks: sorted, not in quadratic time. */
static void test_many_marks(void **state)
{
    (void)state;
    struct fm_buf in = {0}, want = {0};
    const int n = quick ? 5000 : 200000;
    fm_buf_char(&in, 'a');
    for (int i = 0; i < n; i++) fm_buf_str(&in, i % 2 ? "\xCC\x81" : "\xCC\xA3"); /* above, below */
    fm_buf_str(&want, "\xE1\xBA\xA1");                                            /* ạ */
    for (int i = 1; i < n / 2; i++) fm_buf_str(&want, "\xCC\xA3");
    for (int i = 0; i < n / 2; i++) fm_buf_str(&want, "\xCC\x81");
    check(in.data, in.len, want.data, want.len);
    fm_buf_release(&in);
    fm_buf_release(&want);
}

static void ids_of(const struct fm_tokenizer *t, const char *s, struct fm_ids *ids)
{
    ids->n = 0;
    OK(fm_tokenizer_encode(t, s, strlen(s), FM_ENCODE_SPECIAL, ids, &err));
}

/* Texts in either form have the same ids; added tokens are looked for before. */
static void test_ids(void **state)
{
    (void)state;
    struct fm_tokenizer *t = tiny();
    struct fm_ids a = {0}, b = {0};
    assert_false(t->nfc);
    t->nfc = true;
    ids_of(t, "Scho\xCC\x88ne<|im_end|>\xCC\x81 Scha\xCC\x88rfe", &a);
    ids_of(t, "Sch\xC3\xB6ne<|im_end|>\xCC\x81 Sch\xC3\xA4rfe", &b);
    assert_true(a.n == b.n && !memcmp(a.data, b.data, a.n * sizeof *a.data));
    t->nfc = false;
    ids_of(t, "Scho\xCC\x88ne<|im_end|>\xCC\x81 Scha\xCC\x88rfe", &a);
    assert_true(a.n != b.n);
    fm_ids_release(&a);
    fm_ids_release(&b);
    fm_tokenizer_close(t);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vectors), cmocka_unit_test(test_laws),
                                       cmocka_unit_test(test_bytes), cmocka_unit_test(test_many_marks),
                                       cmocka_unit_test(test_ids)};
    return RUN(tests);
}
