/* For the tests of containers and writers: a folder of the run, files in it.  Include last. */
#ifndef FM_TESTS_FILE_TESTING_H
#define FM_TESTS_FILE_TESTING_H

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/env.h"
#include "base/str.h"
#include "file_samples.h"

static char dir[256]; /* of this test run */
static struct fm_error err;

static inline const char *in_dir(const char *name)
{
    static char path[4][600];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static inline void ok(enum fm_status st)
{
    if (st) fail_msg("%s", err.message);
}

static inline void put_file(const char *path, const char *text) { ok(fm_write_file(path, text, strlen(text), &err)); }

static inline void read_file(struct fm_buf *b, const char *path)
{
    fm_buf_clear(b);
    ok(fm_buf_read_file(b, path, 1 << 20, &err));
}

static inline int count_files(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static inline void make_dir(const char *path)
{
    if (mkdir(path, 0777) && errno != EEXIST) fail_msg("%s: %s", path, strerror(errno));
}

/* A shard with one tensor of one float. */
static inline void put_shard(const char *path, const char *tensor_name, float value)
{
    struct fm_writer *w;
    ok(fm_writer_open(path, FM_SAFETENSORS, &w, &err));
    fm_writer_meta_str(w, "format", "pt", 2);
    fm_writer_tensor(w, tensor_name, FM_F32, 1, (uint64_t[]){1});
    ok(fm_writer_begin(w, &err));
    ok(fm_writer_data(w, &value, sizeof value, &err));
    ok(fm_writer_commit(w, &err));
}

/* Part no of count: one tensor of one float. */
static inline void put_split(const char *path, const char *tensor_name, int no, int count, int total)
{
    struct fm_writer *w;
    float x = (float)no;
    ok(fm_writer_open(path, FM_GGUF, &w, &err));
    if (!no) fm_writer_meta_str(w, "general.architecture", "llama", 5);
    fm_writer_meta_int(w, "split.no", FM_GGUF_U16, no);
    fm_writer_meta_int(w, "split.count", FM_GGUF_U16, count);
    fm_writer_meta_int(w, "split.tensors.count", FM_GGUF_I32, total);
    fm_writer_tensor(w, tensor_name, FM_F32, 1, (uint64_t[]){1});
    ok(fm_writer_begin(w, &err));
    ok(fm_writer_data(w, &x, sizeof x, &err));
    ok(fm_writer_commit(w, &err));
}

static inline int make_run_dir(void **state)
{
    (void)state;
    const char *tmp = fm_env("TMPDIR");
    snprintf(dir, sizeof dir, "%s/fathom-test-XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(dir) ? 0 : -1;
}

static inline int remove_one(const char *path, const struct stat *s, int type, struct FTW *ftw)
{
    (void)s;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline int remove_run_dir(void **state)
{
    (void)state;
    return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
