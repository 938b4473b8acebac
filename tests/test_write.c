/* Writing containers: what the writers refuse, old files that stay when disk or memory is short. */
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <jansson.h>

#include "base/mem.h"
#include "file/replace.h"
#include "file_testing.h"

/* ---- writing ---- */

static struct fm_writer *writer(enum fm_container kind)
{
    struct fm_writer *w;
    ok(fm_writer_open(in_dir("out"), kind, &w, &err));
    return w;
}

static void refuse_begin(struct fm_writer *w, const char *why)
{
    assert_int_equal(fm_writer_begin(w, &err), FM_ERR_USAGE);
    if (!strstr(err.message, why)) fail_msg("'%s' does not say '%s'", err.message, why);
    fm_writer_abort(w);
    struct stat s;
    assert_true(stat(in_dir("out"), &s) != 0);
}

static void refuse_tensor(enum fm_container kind, const char *name, enum fm_fmt fmt, int n_dims, uint64_t dim,
                          const char *why)
{
    struct fm_writer *w = writer(kind);
    fm_writer_tensor(w, name, fmt, n_dims, (uint64_t[]){dim, dim, dim, dim, dim});
    refuse_begin(w, why);
}

static void test_writer_refuses(void **state)
{
    (void)state;
    refuse_tensor(FM_GGUF, "t", FM_F32, 5, 1, "too many dimensions");
    refuse_tensor(FM_GGUF, "t", FM_Q8_0, 1, 33, "whole blocks");
    refuse_tensor(FM_GGUF, "t", FM_F8_E4M3, 1, 1, "cannot hold");
    refuse_tensor(FM_GGUF, "t", FM_FMT_COUNT, 1, 1, "no known format");
    refuse_tensor(FM_GGUF, "t", FM_F32, 2, (uint64_t)1 << 40, "too large");
    refuse_tensor(FM_GGUF, "", FM_F32, 1, 1, "plain name");
    refuse_tensor(FM_GGUF, "0123456789012345678901234567890123456789012345678901234567890123", FM_F32, 1, 1,
                  "63 bytes");
    refuse_tensor(FM_SAFETENSORS, "t", FM_Q8_0, 1, 32, "cannot hold");
    refuse_tensor(FM_SAFETENSORS, "__metadata__", FM_F32, 1, 1, "for itself");
    struct fm_writer *w = writer(FM_GGUF);
    fm_writer_meta_int(w, "k", FM_GGUF_U8, 256);
    refuse_begin(w, "does not fit");
    w = writer(FM_GGUF);
    fm_writer_meta_int(w, "k", FM_GGUF_U8, 1);
    fm_writer_meta_bool(w, "k", true);
    refuse_begin(w, "key k is given twice");
    w = writer(FM_SAFETENSORS);
    fm_writer_tensor(w, "t", FM_F32, 0, NULL);
    fm_writer_tensor(w, "t", FM_F32, 0, NULL);
    refuse_begin(w, "tensor t is given twice");
}

/* Wrong sizes, missing tensors: the old file stays, the temporary one goes. */
static void test_writer_misuse(void **state)
{
    (void)state;
    make_dir(in_dir("keep"));
    put_file(in_dir("keep/f"), "old");
    for (int round = 0; round < 3; round++) {
        struct fm_writer *w;
        struct fm_buf b = {0};
        ok(fm_writer_open(in_dir("keep/f"), FM_GGUF, &w, &err));
        fm_writer_tensor(w, "t", FM_F32, 1, (uint64_t[]){2});
        if (round) ok(fm_writer_begin(w, &err));
        assert_int_equal(fm_writer_data(w, "12345678", round ? 4 : 8, &err), FM_ERR_FAILED);
        if (round < 2)
            assert_int_equal(fm_writer_commit(w, &err), FM_ERR_FAILED);
        else
            fm_writer_abort(w);
        assert_int_equal(count_files(in_dir("keep")), 1);
        read_file(&b, in_dir("keep/f"));
        assert_string_equal(b.data, "old");
        fm_buf_release(&b);
    }
}

static void test_write_paths(void **state)
{
    (void)state;
    struct stat s;
    struct fm_writer *w = NULL;
    assert_int_equal(fm_write_file("/dev/null", "x", 1, &err), FM_ERR_USAGE);
    assert_int_equal(fm_write_file(dir, "x", 1, &err), FM_ERR_USAGE);
    assert_int_equal(fm_write_file(in_dir("none/x"), "x", 1, &err), FM_ERR_DISK);
    assert_int_equal(fm_writer_open(in_dir("none/x"), FM_GGUF, &w, &err), FM_ERR_DISK);
    assert_null(w);
    put_file(in_dir("mode"), "x");
    assert_int_equal(chmod(in_dir("mode"), 0640), 0);
    put_file(in_dir("mode"), "y");
    assert_int_equal(stat(in_dir("mode"), &s), 0);
    assert_int_equal(s.st_mode & 0777, 0640);
}

/* ---- full disks ---- */

/* Write 1 MiB over keep/f where there is no room: with the disk reserved first, or found full half way. */
static void check_full(const char *folder)
{
    char path[400];
    struct fm_buf b = {0};
    struct fm_replace r;
    static char data[1 << 20];
    snprintf(path, sizeof path, "%s/f", folder);
    put_file(path, "old");
    int files = count_files(folder);
    assert_int_equal(fm_write_file(path, data, sizeof data, &err), FM_ERR_DISK);
    assert_non_null(strstr(err.message, path));
    ok(fm_replace_open(&r, "write file", path, &err));
    assert_int_equal(fm_replace_write(&r, data, sizeof data, &err), FM_ERR_DISK);
    fm_replace_abort(&r);
    struct fm_writer *w;
    ok(fm_writer_open(path, FM_SAFETENSORS, &w, &err));
    fm_writer_tensor(w, "t", FM_F32, 1, (uint64_t[]){1 << 18});
    assert_int_equal(fm_writer_begin(w, &err), FM_ERR_DISK);
    fm_writer_abort(w);
    assert_int_equal(count_files(folder), files);
    read_file(&b, path);
    assert_string_equal(b.data, "old");
    fm_buf_release(&b);
}

static void test_file_size_limit(void **state)
{
    (void)state;
    struct rlimit old, small;
    make_dir(in_dir("limit"));
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 65536;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    check_full(in_dir("limit"));
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
}

static void test_disk_full(void **state)
{
    (void)state;
    char path[400];
    snprintf(path, sizeof path, "%s", in_dir("tmpfs"));
    make_dir(path);
    if (mount("tmpfs", path, "tmpfs", 0, "size=64k")) {
        printf("SKIP test_disk_full: cannot mount a small file system: %s\n", strerror(errno));
        skip();
    }
    check_full(path);
    assert_non_null(strstr(err.hint, "disk is full"));
    umount(path);
}

/* ---- no memory ---- */

static enum fm_status try_open(const char *path)
{
    struct fm_file *f;
    enum fm_status st = fm_file_open(path, &f, &err);
    if (!st) fm_file_close(f);
    return st;
}

static enum fm_status try_write_gguf(const char *path) { return sample_write(path, FM_GGUF, &err); }

static enum fm_status try_write_safetensors(const char *path) { return sample_write(path, FM_SAFETENSORS, &err); }

/* Fail allocation n for n = 1, 2, … until all succeeds: FM_ERR_MEMORY, or `also`.  Leaks are ASan's business. */
static void torture(enum fm_status (*fn)(const char *), const char *path, enum fm_status also)
{
    enum fm_status st = FM_ERR_MEMORY;
    for (long n = 1; st; n++) {
        err = (struct fm_error){0};
        fm_mem_fail_at(n);
        st = fn(path);
        fm_mem_fail_at(0);
        if (st && st != FM_ERR_MEMORY && st != also) fail_msg("allocation %ld: %s", n, err.message);
        if (st) assert_int_equal(err.code, st);
        assert_true(n < 10000);
    }
}

static void test_no_memory(void **state)
{
    (void)state;
    ok(sample_write(in_dir("m.gguf"), FM_GGUF, &err));
    ok(sample_write(in_dir("m.safetensors"), FM_SAFETENSORS, &err));
    make_dir(in_dir("torture"));
    make_dir(in_dir("sharded"));
    put_shard(in_dir("sharded/1"), "a", 1);
    put_shard(in_dir("sharded/2"), "b", 2);
    put_file(in_dir("sharded/model.safetensors.index.json"), "{\"weight_map\":{\"b\":\"2\",\"a\":\"1\"}}");
    make_dir(in_dir("s"));
    put_split(in_dir("s/m-00001-of-00002.gguf"), "a", 0, 2, 2);
    put_split(in_dir("s/m-00002-of-00002.gguf"), "b", 1, 2, 2);
    torture(try_open, in_dir("m.gguf"), FM_ERR_MEMORY);
    torture(try_open, in_dir("m.safetensors"), FM_ERR_MEMORY);
    torture(try_open, in_dir("sharded"), FM_ERR_MEMORY);
    torture(try_open, in_dir("s"), FM_ERR_MEMORY);
    torture(try_write_gguf, in_dir("torture/x"), FM_ERR_MEMORY);
    torture(try_write_safetensors, in_dir("torture/x"), FM_ERR_MEMORY);
    assert_int_equal(count_files(in_dir("torture")), 1);
    json_set_alloc_funcs(fm_malloc, fm_free); /* jansson may take its own want of memory for bad syntax */
    torture(try_open, in_dir("m.safetensors"), FM_ERR_INPUT);
    torture(try_open, in_dir("sharded"), FM_ERR_INPUT);
    json_set_alloc_funcs(malloc, free);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writer_refuses), cmocka_unit_test(test_writer_misuse),
        cmocka_unit_test(test_write_paths),    cmocka_unit_test(test_file_size_limit),
        cmocka_unit_test(test_disk_full),      cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests_name("write", tests, make_run_dir, remove_run_dir);
}
