/* Reading containers: round trips, files cut and corrupted at every byte, hostile files built by hand, folders; and
 * every real file of the shared data (FATHOM_SHARED, default ../shared) where it is there. */
#include "file_testing.h"

/* ---- small helpers ---- */

/* Open a copy that ends where its heap block ends, so that ASan sees any step beyond. */
static enum fm_status open_copy(const void *data, size_t n)
{
    struct fm_file *f;
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    if (n) memcpy(copy, data, n);
    err = (struct fm_error){0};
    enum fm_status st = fm_file_open_memory(copy, n, "x", &f, &err);
    if (st)
        assert_true(st == FM_ERR_INPUT && err.code == st && err.message[0] && !strchr(err.message, '\n'));
    else {
        (void)sample_touch(f);
        fm_file_close(f);
    }
    free(copy);
    return st;
}

static void refuse(struct fm_buf *b, const char *why)
{
    if (!open_copy(b->data, b->len)) fail_msg("accepted, but should be refused: %s", why);
    if (!strstr(err.message, why)) fail_msg("'%s' does not say '%s'", err.message, why);
    fm_buf_clear(b);
}

static void accept(struct fm_buf *b)
{
    ok(open_copy(b->data, b->len));
    fm_buf_clear(b);
}

static void refuse_path(const char *path, const char *why)
{
    struct fm_file *f = NULL;
    assert_int_equal(fm_file_open(path, &f, &err), FM_ERR_INPUT);
    assert_null(f);
    if (!strstr(err.message, why)) fail_msg("'%s' does not say '%s'", err.message, why);
}

/* ---- round trips ---- */

static void check_tensors(const struct fm_file *f, enum fm_container kind)
{
    assert_int_equal(fm_file_n_tensors(f), SAMPLE_TENSORS);
    for (int i = 0; i < SAMPLE_TENSORS; i++) {
        const struct fm_tensor *t = fm_file_find(f, sample_tensors[i].name);
        assert_non_null(t);
        assert_int_equal(t->fmt, sample_format(kind, i));
        assert_int_equal(t->n_dims, sample_tensors[i].n_dims);
        for (int d = 0; d < t->n_dims; d++) assert_int_equal(t->shape[d], sample_tensors[i].shape[d]);
        assert_int_equal(t->n_bytes, sample_bytes(kind, i));
        for (uint64_t k = 0; k < t->n_bytes; k++)
            assert_int_equal(((const unsigned char *)t->data)[k], sample_byte(i, k));
    }
    assert_null(fm_file_find(f, "nothing"));
}

static void check_numbers(const struct fm_file *f)
{
    assert_int_equal(fm_meta_int(f, "u8", 0), 255);
    assert_int_equal(fm_meta_int(f, "i8", 0), -128);
    assert_int_equal(fm_meta_int(f, "u16", 0), 65535);
    assert_int_equal(fm_meta_int(f, "i16", 0), -32768);
    assert_int_equal(fm_meta_int(f, "u32", 0), UINT32_MAX);
    assert_int_equal(fm_meta_int(f, "i32", 0), INT32_MIN);
    assert_true(fm_meta_int(f, "u64", 0) == INT64_MAX && fm_meta_int(f, "i64", 0) == INT64_MIN);
    assert_true(fm_meta_float(f, "f32", 0) == 1.5 && fm_meta_float(f, "u8", 0) == 255);
    assert_true(fm_meta_bool(f, "yes", false) && !fm_meta_bool(f, "no", true));
    assert_int_equal(fm_meta_int(f, "absent", 7), 7);
    assert_int_equal(fm_meta_int(f, "text", 7), 7);
    const struct fm_meta *ints = fm_file_meta(f, "ints"), *floats = fm_file_meta(f, "floats");
    assert_true(ints->n == 3 && ints->elem == FM_META_INT && floats->n == 2 && floats->elem == FM_META_FLOAT);
    assert_true(fm_meta_array_int(ints, 0) == -1 && fm_meta_array_float(ints, 2) == INT32_MAX);
    assert_true(fm_meta_array_float(floats, 1) == -0.5);
}

static void check_strings(const struct fm_file *f)
{
    struct fm_str s;
    assert_true(fm_meta_str(f, "text", &s) && s.len == 6 && !memcmp(s.data, "a\"\\\n\xC3\xA9", 6));
    assert_false(fm_meta_str(f, "u8", &s));
    if (fm_file_container(f) != FM_GGUF) return;
    const struct fm_meta *m = fm_file_meta(f, "strs");
    assert_true(m->n == 3 && m->elem == FM_META_STRING);
    s = fm_meta_array_str(m, 2);
    assert_true(s.len == 10 && !memcmp(s.data, "nul\0inside", 10) && fm_meta_array_str(m, 1).len == 0);
}

static void test_round_trip_gguf(void **state)
{
    (void)state;
    struct fm_file *f;
    ok(sample_write(in_dir("a.gguf"), FM_GGUF, &err));
    ok(fm_file_open(in_dir("a.gguf"), &f, &err));
    assert_int_equal(fm_file_container(f), FM_GGUF);
    check_tensors(f, FM_GGUF);
    check_numbers(f);
    check_strings(f);
    for (int i = 0; i < SAMPLE_TENSORS; i++) assert_int_equal(fm_file_tensor(f, i)->offset % 32, 0);
    fm_file_close(f);
}

static void test_round_trip_safetensors(void **state)
{
    (void)state;
    struct fm_file *f;
    ok(sample_write(in_dir("a.safetensors"), FM_SAFETENSORS, &err));
    ok(fm_file_open(in_dir("a.safetensors"), &f, &err));
    assert_int_equal(fm_file_container(f), FM_SAFETENSORS);
    assert_int_equal(fm_file_n_meta(f), 2);
    check_tensors(f, FM_SAFETENSORS);
    check_strings(f);
    struct fm_buf b = {0};
    read_file(&b, in_dir("a.safetensors"));
    assert_int_equal(b.data[0] % 8, 0);
    assert_int_equal(fm_file_bytes(f), b.len);
    fm_buf_release(&b);
    fm_file_close(f);
}

/* A copy made of what the reader hands out is the same file. */
static void test_copy(void **state)
{
    (void)state;
    struct fm_file *f;
    struct fm_writer *w;
    struct fm_buf a = {0}, b = {0};
    ok(sample_write(in_dir("a.gguf"), FM_GGUF, &err));
    ok(fm_file_open(in_dir("a.gguf"), &f, &err));
    ok(fm_writer_open(in_dir("b.gguf"), FM_GGUF, &w, &err));
    for (int i = 0; i < fm_file_n_meta(f); i++) fm_writer_meta_copy(w, fm_file_meta_at(f, i));
    fm_writer_meta_int(w, "general.alignment", FM_GGUF_U32, 64); /* not the caller's business */
    for (int i = 0; i < fm_file_n_tensors(f); i++) {
        const struct fm_tensor *t = fm_file_tensor(f, i);
        fm_writer_tensor(w, t->name, t->fmt, t->n_dims, t->shape);
    }
    ok(fm_writer_begin(w, &err));
    for (int i = 0; i < fm_file_n_tensors(f); i++)
        ok(fm_writer_data(w, fm_file_tensor(f, i)->data, fm_file_tensor(f, i)->n_bytes, &err));
    ok(fm_writer_commit(w, &err));
    fm_file_close(f);
    read_file(&a, in_dir("a.gguf"));
    read_file(&b, in_dir("b.gguf"));
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    fm_buf_release(&a);
    fm_buf_release(&b);
}

/* ---- damaged files ---- */

static void sample_bytes_of(enum fm_container kind, struct fm_buf *b)
{
    ok(sample_write(in_dir("sample"), kind, &err));
    read_file(b, in_dir("sample"));
}

static void test_cut(void **state)
{
    (void)state;
    struct fm_buf b = {0};
    sample_bytes_of(FM_SAFETENSORS, &b);
    for (size_t n = 0; n < b.len; n++) assert_int_equal(open_copy(b.data, n), FM_ERR_INPUT);
    ok(open_copy(b.data, b.len));
    sample_bytes_of(FM_GGUF, &b);
    uint64_t padding = -sample_bytes(FM_GGUF, SAMPLE_TENSORS - 1) % 32; /* of the last tensor: may be missing */
    for (size_t n = 0; n < b.len - padding; n++) assert_int_equal(open_copy(b.data, n), FM_ERR_INPUT);
    for (size_t n = b.len - padding; n <= b.len; n++) ok(open_copy(b.data, n));
    fm_buf_release(&b);
}

static void test_one_byte_wrong(void **state)
{
    (void)state;
    static const unsigned char flips[] = {1, 2, 4, 8, 16, 32, 64, 128, 255, 15, 240};
    struct fm_buf b = {0};
    for (int kind = FM_GGUF; kind <= FM_SAFETENSORS; kind++) {
        int refused = 0;
        sample_bytes_of((enum fm_container)kind, &b);
        for (size_t i = 0; i < b.len; i++)
            for (size_t k = 0; k < sizeof flips; k++) {
                b.data[i] = (char)(b.data[i] ^ flips[k]);
                refused += open_copy(b.data, b.len) != FM_OK;
                b.data[i] = (char)(b.data[i] ^ flips[k]);
            }
        assert_true(refused > 1000);
    }
    fm_buf_release(&b);
}

/* ---- hostile GGUF ---- */

static void u32(struct fm_buf *b, uint32_t v) { fm_buf_add(b, &v, sizeof v); }

static void u64(struct fm_buf *b, uint64_t v) { fm_buf_add(b, &v, sizeof v); }

static void str(struct fm_buf *b, const char *s)
{
    u64(b, strlen(s));
    fm_buf_str(b, s);
}

static void head(struct fm_buf *b, uint32_t version, uint64_t n_tensors, uint64_t n_keys)
{
    fm_buf_str(b, "GGUF");
    u32(b, version);
    u64(b, n_tensors);
    u64(b, n_keys);
}

static void key(struct fm_buf *b, const char *name, uint32_t type)
{
    str(b, name);
    u32(b, type);
}

static void array(struct fm_buf *b, uint32_t elem, uint64_t n)
{
    head(b, 3, 0, 1);
    key(b, "a", FM_GGUF_ARRAY);
    u32(b, elem);
    u64(b, n);
}

static void tensor(struct fm_buf *b, const char *name, uint64_t dim0, uint64_t dim1, uint32_t type, uint64_t offset)
{
    str(b, name);
    u32(b, 2);
    u64(b, dim0);
    u64(b, dim1);
    u32(b, type);
    u64(b, offset);
}

static void zeros(struct fm_buf *b, size_t n)
{
    while (n--) fm_buf_char(b, 0);
}

static void test_gguf_head(void **state)
{
    (void)state;
    struct fm_buf b = {0};
    refuse(&b, "is empty");
    fm_buf_str(&b, "GG");
    refuse(&b, "neither GGUF nor safetensors");
    fm_buf_str(&b, "version https://git-lfs.github.com/spec/v1\n");
    refuse(&b, "neither GGUF nor safetensors");
    assert_non_null(strstr(err.hint, "git lfs pull"));
    head(&b, 1, 0, 0);
    refuse(&b, "byte 4: version 1");
    head(&b, 4, 0, 0);
    refuse(&b, "byte 4: version 4");
    head(&b, 3u << 24, 0, 0);
    refuse(&b, "big-endian");
    head(&b, 2, 0, 0);
    accept(&b);
    static const uint64_t counts[] = {1, 1000000000000000, UINT64_MAX, (uint64_t)1 << 63, UINT32_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        head(&b, 3, 0, counts[i]);
        refuse(&b, "keys do not fit");
        head(&b, 3, counts[i], 0);
        refuse(&b, "tensors do not fit");
    }
    head(&b, 3, 0, (1 << 16) + 1); /* plausible for the size, yet above the limit */
    zeros(&b, 13 * ((1 << 16) + 1));
    refuse(&b, "more than 65536 metadata keys");
    fm_buf_release(&b);
}

static void test_gguf_keys(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {6, UINT64_MAX, (uint64_t)1 << 63, UINT64_MAX - 7};
    struct fm_buf b = {0};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        head(&b, 3, 0, 1);
        u64(&b, lengths[i]);
        fm_buf_str(&b, "short");
        refuse(&b, "ends within a key");
    }
    static const char *const names[] = {"a\nb", "\x1b[31m", "\xff", "\x7f"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        head(&b, 3, 0, 1);
        key(&b, names[i], FM_GGUF_U8);
        zeros(&b, 9);
        refuse(&b, "not a plain name");
    }
    head(&b, 3, 0, 1);
    u64(&b, 3);
    fm_buf_add(&b, "a\0b", 3);
    zeros(&b, 9);
    refuse(&b, "not a plain name");
    head(&b, 3, 0, 1);
    key(&b, "", FM_GGUF_U8);
    zeros(&b, 9);
    refuse(&b, "empty");
    head(&b, 3, 0, 2);
    for (int i = 0; i < 2; i++) {
        key(&b, "twin", FM_GGUF_U8);
        zeros(&b, 1);
    }
    refuse(&b, "twin occurs twice");
    fm_buf_release(&b);
}

static void test_gguf_values(void **state)
{
    (void)state;
    struct fm_buf b = {0};
    static const uint32_t types[] = {FM_GGUF_TYPES, 99, UINT32_MAX};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        head(&b, 3, 0, 1);
        key(&b, "k", types[i]);
        zeros(&b, 16);
        refuse(&b, "is unknown");
        array(&b, types[i], 1);
        refuse(&b, "is not supported");
    }
    array(&b, FM_GGUF_ARRAY, 1); /* arrays of arrays: no depth at all */
    zeros(&b, 64);
    refuse(&b, "array of type 9 is not supported");
    for (uint32_t t = 0; t < FM_GGUF_TYPES; t++) {
        if (t == FM_GGUF_ARRAY) continue;
        static const uint64_t counts[] = {1000000000000000, UINT64_MAX, (uint64_t)1 << 61, (uint64_t)1 << 63, 9};
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            array(&b, t, counts[i]);
            zeros(&b, 8);
            refuse(&b, "do not fit");
        }
        array(&b, t, 0);
        accept(&b);
    }
    array(&b, FM_GGUF_STRING, 2);
    u64(&b, 1);
    u64(&b, UINT64_MAX);
    refuse(&b, "ends within");
    head(&b, 3, 0, 1);
    key(&b, "big", FM_GGUF_U64);
    u64(&b, (uint64_t)INT64_MAX + 1);
    refuse(&b, "above 2^63 - 1");
    fm_buf_release(&b);
}

static void test_gguf_alignment(void **state)
{
    (void)state;
    static const uint32_t wrong[] = {0, 3, 48, UINT32_MAX, 1u << 31};
    struct fm_buf b = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        head(&b, 3, 0, 1);
        key(&b, "general.alignment", FM_GGUF_U32);
        u32(&b, wrong[i]);
        refuse(&b, "power of two");
    }
    head(&b, 3, 0, 1);
    key(&b, "general.alignment", FM_GGUF_STRING);
    str(&b, "32");
    refuse(&b, "power of two");
    for (uint32_t align = 1; align <= 256; align *= 2) {
        head(&b, 3, 1, 1);
        key(&b, "general.alignment", FM_GGUF_U32);
        u32(&b, align);
        tensor(&b, "t", 4, 1, 0, 0);
        zeros(&b, -b.len % align + 16);
        accept(&b);
    }
    fm_buf_release(&b);
}

static void one_tensor(struct fm_buf *b, uint64_t dim0, uint64_t dim1, uint32_t type, uint64_t offset)
{
    head(b, 3, 1, 0);
    tensor(b, "t", dim0, dim1, type, offset);
    zeros(b, -b->len % 32 + 64);
}

static void test_gguf_tensors(void **state)
{
    (void)state;
    struct fm_buf b = {0};
    static const uint64_t huge[][2] = {{(uint64_t)1 << 32, (uint64_t)1 << 32},
                                       {(uint64_t)1 << 63, 2},
                                       {UINT64_MAX, 1},
                                       {UINT64_MAX, UINT64_MAX},
                                       {0, UINT64_MAX},
                                       {(uint64_t)1 << 56, 2}};
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
        one_tensor(&b, huge[i][0], huge[i][1], 0, 0);
        refuse(&b, "too large");
    }
    static const uint64_t offsets[] = {96, UINT64_MAX - 31, (uint64_t)1 << 63, (uint64_t)1 << 40, 64};
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        one_tensor(&b, 4, 1, 0, offsets[i]);
        refuse(&b, "beyond the end");
    }
    one_tensor(&b, 16, 1, 0, 4);
    refuse(&b, "no multiple of the alignment");
    one_tensor(&b, 17, 1, 0, 0);
    refuse(&b, "beyond the end");
    one_tensor(&b, 16, 1, 0, 0);
    accept(&b);
    one_tensor(&b, 33, 1, 8, 0);
    refuse(&b, "whole blocks");
    one_tensor(&b, (uint64_t)1 << 56, 1, 8, 0);
    refuse(&b, "beyond the end");
    one_tensor(&b, 0, 0, 0, 64);
    accept(&b);
    head(&b, 3, 2, 0);
    tensor(&b, "twin", 1, 1, 0, 0);
    tensor(&b, "twin", 1, 1, 0, 32);
    zeros(&b, -b.len % 32 + 64);
    refuse(&b, "two tensors are called twin");
    head(&b, 3, 1, 0);
    str(&b, "t");
    u32(&b, 5);
    zeros(&b, 64);
    refuse(&b, "5 dimensions");
    fm_buf_release(&b);
}

static void test_gguf_unknown_type(void **state)
{
    (void)state;
    struct fm_buf b = {0};
    struct fm_file *f;
    float x[16];
    static const struct {
        uint32_t id;
        const char *name;
    } types[] = {{123, "type 123"}, {34, "TQ1_0"}, {4, "type 4"}, {UINT32_MAX, "type 4294967295"}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        one_tensor(&b, 16, 1, types[i].id, 0);
        ok(fm_file_open_memory(b.data, b.len, "x", &f, &err));
        const struct fm_tensor *t = fm_file_find(f, "t");
        assert_true(t->fmt == FM_FMT_COUNT && !t->data && !t->n_bytes && t->n_elements == 16);
        assert_string_equal(t->type_name, types[i].name);
        assert_int_equal(fm_tensor_decode(t, x, &err), FM_ERR_INPUT);
        fm_file_close(f);
        fm_buf_clear(&b);
    }
    fm_buf_release(&b);
}

/* ---- hostile safetensors ---- */

static void st(struct fm_buf *b, const char *json, size_t n_data)
{
    u64(b, strlen(json));
    fm_buf_str(b, json);
    zeros(b, n_data);
}

static void refuse_st(const char *json, size_t n_data, const char *why)
{
    struct fm_buf b = {0};
    st(&b, json, n_data);
    refuse(&b, why);
    fm_buf_release(&b);
}

static void accept_st(const char *json, size_t n_data)
{
    struct fm_buf b = {0};
    st(&b, json, n_data);
    accept(&b);
    fm_buf_release(&b);
}

#define ENTRY(name, dtype, shape, range) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" range "}"

static void test_safetensors_head(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {3, UINT64_MAX, (uint64_t)1 << 63, 100000001, UINT64_MAX - 8};
    struct fm_buf b = {0};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        u64(&b, lengths[i]);
        fm_buf_str(&b, "{}");
        refuse(&b, "does not fit");
    }
    u64(&b, 0);
    fm_buf_str(&b, "{}");
    refuse(&b, "JSON");
    refuse_st("[]", 0, "neither");
    refuse_st("{", 0, "JSON");
    refuse_st("{\"a\":1}", 0, "no dtype");
    refuse_st("{} x", 0, "JSON");
    accept_st("{}", 0);
    accept_st("{}      ", 0);
    refuse_st("{}", 1, "belong to no tensor");
    fm_buf_str(&b, "\xff\xff\0\0\0\0\0\0");
    b.len = 8;
    fm_buf_str(&b, "{\"a\":");
    for (int i = 0; i < 0xffff - 5; i++) fm_buf_char(&b, '[');
    refuse(&b, "depth");
    fm_buf_release(&b);
}

static void test_safetensors_entries(void **state)
{
    (void)state;
    accept_st("{" ENTRY("a", "F32", "[2,2]", "[0,16]") "}", 16);
    accept_st("{" ENTRY("a", "F32", "[2]", "[8,16]") "," ENTRY("b", "F32", "[2]", "[0,8]") "}", 16);
    accept_st("{" ENTRY("a", "F32", "[2]", "[0,8]") "," ENTRY("z", "F32", "[0,9]", "[8,8]") "," ENTRY("b", "F16", "[4]",
                                                                                                      "[8,16]") "}",
              16);
    accept_st("{" ENTRY("a", "F6_E2M3", "[3]", "[0,16]") "}", 16); /* unknown: listed */
    refuse_st("{" ENTRY("a", "F32", "[2]", "[0,8]") "," ENTRY("b", "F32", "[2]", "[4,12]") "}", 12, "overlap");
    refuse_st("{" ENTRY("a", "F32", "[2]", "[0,8]") "," ENTRY("b", "F32", "[2]", "[0,8]") "}", 8, "overlap");
    refuse_st("{" ENTRY("a", "F32", "[2]", "[0,8]") "," ENTRY("b", "F32", "[2]", "[12,20]") "}", 20, "gap");
    refuse_st("{" ENTRY("a", "F32", "[2]", "[4,12]") "}", 12, "gap");
    refuse_st("{" ENTRY("a", "F32", "[2]", "[0,8]") "}", 7, "beyond the end");
    refuse_st("{" ENTRY("a", "F32", "[2]", "[0,8]") "}", 9, "belong to no tensor");
    refuse_st("{" ENTRY("a", "F32", "[2]", "[8,0]") "}", 8, "not a range");
    refuse_st("{" ENTRY("a", "F32", "[2]", "[-8,0]") "}", 8, "not a range");
    refuse_st("{" ENTRY("a", "F32", "[2]", "[0,8,8]") "}", 8, "not a range");
    refuse_st("{" ENTRY("a", "F32", "[2]", "[0,8.0]") "}", 8, "not a range");
    refuse_st("{" ENTRY("a", "F32", "[2]", "8") "}", 8, "not a range");
    refuse_st("{" ENTRY("a", "F32", "[3]", "[0,8]") "}", 8, "does not fit the shape");
    refuse_st("{" ENTRY("a", "F32", "[-1]", "[0,8]") "}", 8, "not made of counts");
    refuse_st("{" ENTRY("a", "F32", "[\"2\"]", "[0,8]") "}", 8, "not made of counts");
    refuse_st("{" ENTRY("a", "F32", "2", "[0,8]") "}", 8, "not an array");
    refuse_st("{" ENTRY("a", "F32", "[4294967296,4294967296]", "[0,8]") "}", 8, "too large");
    refuse_st("{" ENTRY("a", "F4", "[9223372036854775807,2]", "[0,8]") "}", 8, "too large");
    refuse_st("{" ENTRY("a", "F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]") "}", 8, "too many dimensions");
    refuse_st("{" ENTRY("a", "F32", "[2]", "[0,99999999999999999999]") "}", 8, "JSON");
    refuse_st("{" ENTRY("a", "F32", "[1]", "[0,4]") "," ENTRY("a", "F32", "[1]", "[4,8]") "}", 8, "duplicate");
    refuse_st("{" ENTRY("a\\u0000b", "F32", "[2]", "[0,8]") "}", 8, "JSON");
    refuse_st("{" ENTRY("a\\nb", "F32", "[2]", "[0,8]") "}", 8, "plain name");
    refuse_st("{" ENTRY("a", "F\\u001b2", "[2]", "[0,8]") "}", 8, "no dtype");
    refuse_st("{\"__metadata__\":3}", 0, "not an object");
    refuse_st("{\"__metadata__\":{\"a\":3}}", 0, "not made of strings");
}

/* ---- folders ---- */

static void test_folder_shards(void **state)
{
    (void)state;
    struct fm_file *f;
    float x;
    make_dir(in_dir("sharded"));
    put_shard(in_dir("sharded/m-1.safetensors"), "a", 1);
    put_shard(in_dir("sharded/m-2.safetensors"), "b", 2);
    put_shard(in_dir("sharded/vectors.safetensors"), "a", 3); /* not named, not read */
    put_file(in_dir("sharded/model.safetensors.index.json"),
             "{\"weight_map\":{\"b\":\"m-2.safetensors\",\"a\":\"m-1.safetensors\"}}");
    ok(fm_file_open(in_dir("sharded/"), &f, &err));
    assert_int_equal(fm_file_container(f), FM_HF_FOLDER);
    assert_int_equal(fm_file_n_tensors(f), 2);
    assert_int_equal(fm_file_n_meta(f), 1);
    ok(fm_tensor_decode(fm_file_find(f, "b"), &x, &err));
    assert_true(x == 2);
    assert_non_null(strstr(fm_file_find(f, "b")->path, "sharded/m-2.safetensors"));
    fm_file_close(f);
}

static void test_folder_bad_index(void **state)
{
    (void)state;
    static const char *const names[] = {"../sharded/m-1.safetensors", "/etc/passwd", "x/y", "", ".", "..", "a\\nb"};
    make_dir(in_dir("bad"));
    put_shard(in_dir("bad/1"), "a", 1);
    put_shard(in_dir("bad/2"), "a", 2);
    ok(sample_write(in_dir("bad/g"), FM_GGUF, &err));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char json[200];
        snprintf(json, sizeof json, "{\"weight_map\":{\"a\":\"1\",\"b\":\"%s\"}}", names[i]);
        put_file(in_dir("bad/model.safetensors.index.json"), json);
        refuse_path(in_dir("bad"), "no plain file name");
    }
    static const char *const jsons[][2] = {
        {"{\"weight_map\":{\"a\":\"3\"}}", "bad/3: No such file"},
        {"{\"weight_map\":{\"a\":\"1\",\"c\":\"1\"}}", "tensor c is not in 1"},
        {"{\"weight_map\":{\"a\":\"1\",\"c\":\"2\"}}", "two tensors are called a"},
        {"{\"weight_map\":{\"a\":\"g\"}}", "bad/g: is not safetensors"},
        {"{\"weight_map\":{\"a\":1}}", "no plain file name"},
        {"{\"weight_map\":{}}", "empty"},
        {"{\"weight_map\":[\"1\"]}", "empty"},
        {"{}", "empty"},
        {"[]", "empty"},
        {"{\"weight_map\":{\"a\":\"1\"}", "JSON"},
        {"", "JSON"},
        {"{\"weight_map\":{\"a\":\"model.safetensors.index.json\"}}", "neither"},
    };
    for (size_t i = 0; i < sizeof jsons / sizeof *jsons; i++) {
        put_file(in_dir("bad/model.safetensors.index.json"), jsons[i][0]);
        refuse_path(in_dir("bad"), jsons[i][1]);
    }
}

static void test_folder_gguf(void **state)
{
    (void)state;
    struct fm_file *f;
    make_dir(in_dir("g"));
    refuse_path(in_dir("g"), "holds no model.safetensors");
    ok(sample_write(in_dir("g/x.gguf"), FM_GGUF, &err));
    ok(fm_file_open(in_dir("g"), &f, &err));
    assert_int_equal(fm_file_container(f), FM_GGUF);
    fm_file_close(f);
    ok(sample_write(in_dir("g/y.gguf"), FM_GGUF, &err));
    refuse_path(in_dir("g"), "holds 2 GGUF files");
    ok(sample_write(in_dir("g/model.safetensors"), FM_SAFETENSORS, &err));
    ok(fm_file_open(in_dir("g"), &f, &err));
    assert_int_equal(fm_file_container(f), FM_HF_FOLDER);
    fm_file_close(f);
    ok(sample_write(in_dir("g/model.safetensors"), FM_GGUF, &err));
    refuse_path(in_dir("g"), "is not safetensors");
}

static void test_split(void **state)
{
    (void)state;
    struct fm_file *f;
    const char *names[] = {"s/m-00001-of-00003.gguf", "s/m-00002-of-00003.gguf", "s/m-00003-of-00003.gguf"};
    make_dir(in_dir("s"));
    put_split(in_dir(names[0]), "a", 0, 3, 3);
    refuse_path(in_dir("s"), "m-00002-of-00003.gguf: No such file");
    put_split(in_dir(names[1]), "b", 1, 3, 3);
    put_split(in_dir(names[2]), "c", 2, 3, 3);
    for (int i = 0; i < 2; i++) {
        ok(fm_file_open(in_dir(i ? names[0] : "s"), &f, &err));
        assert_true(fm_file_n_tensors(f) == 3 && fm_file_n_meta(f) == 4 && fm_file_find(f, "c"));
        fm_file_close(f);
    }
    refuse_path(in_dir(names[1]), "not the first");
    put_split(in_dir(names[2]), "c", 1, 3, 3);
    refuse_path(in_dir("s"), "is not part 3 of 3");
    put_split(in_dir(names[2]), "a", 2, 3, 3);
    refuse_path(in_dir("s"), "two tensors are called a");
    put_split(in_dir(names[2]), "c", 2, 3, 3);
    put_split(in_dir(names[0]), "a", 0, 3, 4);
    refuse_path(in_dir("s"), "4 tensors are announced");
    put_split(in_dir(names[0]), "a", 0, 65535, 3);
    refuse_path(in_dir("s"), "more than");
    put_split(in_dir(names[0]), "a", 0, 3, 3);
}

static void test_paths(void **state)
{
    (void)state;
    refuse_path(in_dir("nowhere"), "No such file");
    refuse_path("/dev/null", "not a regular file");
    assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
    refuse_path(in_dir("fifo"), "not a regular file"); /* and does not wait for a writer */
    ok(fm_write_file(in_dir("empty"), "", 0, &err));
    refuse_path(in_dir("empty"), "is empty");
}

/* ---- the shared files ---- */

static int open_real(const char *path, enum fm_container kind)
{
    struct fm_file *f;
    struct stat s;
    if (stat(path, &s)) return 0;
    ok(fm_file_open(path, &f, &err));
    assert_int_equal(fm_file_container(f), kind);
    (void)sample_touch(f);
    if (strstr(path, "v3-fp8")) {
        int n = 0;
        for (int i = 0; i < fm_file_n_tensors(f); i++) n += fm_file_tensor(f, i)->fmt == FM_F8_E4M3;
        assert_true(n > 0);
    }
    if (kind == FM_GGUF) {
        const struct fm_meta *m = fm_file_meta(f, "tokenizer.ggml.tokens");
        assert_true(m && m->elem == FM_META_STRING && m->n > 100);
    }
    fm_file_close(f);
    return 1;
}

/* Every entry of shared/folder that ends in `ending`; how many there were. */
static int open_all(const char *folder, const char *ending, enum fm_container kind)
{
    const char *shared = fm_env("FATHOM_SHARED");
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", shared ? shared : "../shared", folder);
    DIR *d = opendir(path);
    size_t base = strlen(path);
    int n = 0;
    if (!d) return 0;
    for (struct dirent *e; (e = readdir(d));) {
        size_t len = strlen(e->d_name), tail = strlen(ending);
        if (e->d_name[0] == '.' || len < tail || strcmp(e->d_name + len - tail, ending)) continue;
        snprintf(path + base, sizeof path - base, "/%s%s", e->d_name, kind == FM_HF_FOLDER ? "/config.json" : "");
        struct stat s;
        if (stat(path, &s)) continue;
        snprintf(path + base, sizeof path - base, "/%s", e->d_name);
        n += open_real(path, kind);
    }
    closedir(d);
    return n;
}

static void test_shared_files(void **state)
{
    (void)state;
    int n = open_all("golden", "", FM_HF_FOLDER);
    n += open_all("golden/formats", ".safetensors", FM_SAFETENSORS);
    n += open_all("data/1-tokenizers/llama.cpp-vocab", ".gguf", FM_GGUF);
    n += open_all("data/4-models/stories260K", ".gguf", FM_GGUF);
    if (!n) {
        printf("SKIP test_shared_files: the shared data are not there\n");
        skip();
    }
    printf("%d shared files and folders\n", n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip_gguf),
        cmocka_unit_test(test_round_trip_safetensors),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_one_byte_wrong),
        cmocka_unit_test(test_gguf_head),
        cmocka_unit_test(test_gguf_keys),
        cmocka_unit_test(test_gguf_values),
        cmocka_unit_test(test_gguf_alignment),
        cmocka_unit_test(test_gguf_tensors),
        cmocka_unit_test(test_gguf_unknown_type),
        cmocka_unit_test(test_safetensors_head),
        cmocka_unit_test(test_safetensors_entries),
        cmocka_unit_test(test_folder_shards),
        cmocka_unit_test(test_folder_bad_index),
        cmocka_unit_test(test_folder_gguf),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_shared_files),
    };
    return cmocka_run_group_tests_name("file", tests, make_run_dir, remove_run_dir);
}
