/* KV blocks on disk: found again, never trusted, bounded, shared. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "run/kvdir.h"
#include "run/kvstore.h"

enum { BLOCK = 4096, FILE_BYTES = FM_KVFILE_HEAD + BLOCK, MOST = 8 };

static struct fm_error err;
static struct fm_kvpool pool;
static char dir[64];

static void ok(enum fm_status st)
{
    if (st) fail_msg("%s", err.message);
}

/* ---- what the tests do again and again ---- */

static struct fm_kvstore_options options(uint64_t files)
{
    return (struct fm_kvstore_options){
        .dir = dir, .limit = files * FILE_BYTES, .pool = &pool, .origin = {BLOCK, 77, "q8_0", "tier", "", "1.2.3"}};
}

static struct fm_kvstore *opened(uint64_t files)
{
    struct fm_kvstore *s = NULL;
    const struct fm_kvstore_options o = options(files);
    ok(fm_kvstore_open(&o, &s, &err));
    return s;
}

static void timeline(int32_t *ids, uint64_t seed)
{
    struct fm_rng rng;
    fm_rng_init(&rng, seed);
    for (int i = 0; i < MOST * FM_KV_BLOCK; i++) ids[i] = (int32_t)fm_rng_below(&rng, 1000);
}

/* What block i of a timeline holds follows from its tokens. */
static void content(unsigned char *to, const int32_t *ids, int i)
{
    struct fm_rng rng;
    fm_rng_init(&rng, (uint64_t)ids[i * FM_KV_BLOCK] << 8 | (uint64_t)i);
    for (int k = 0; k < BLOCK; k++) to[k] = (unsigned char)fm_rng_below(&rng, 256);
}

static void save(struct fm_kvstore *s, const char *user, const int32_t *ids, int n)
{
    struct fm_kv_block *blocks[MOST];
    ok(fm_kvpool_take(&pool, n, blocks, &err));
    for (int i = 0; i < n; i++) content(blocks[i]->data, ids, i);
    fm_kvstore_save(s, user, ids, n, blocks);
    for (int i = 0; i < n; i++) fm_kvpool_drop(&pool, blocks[i]);
    fm_kvstore_flush(s);
}

/* How many of blocks first … n−1 come back; each must be the right one. */
static int load(struct fm_kvstore *s, const char *user, const int32_t *ids, int first, int n)
{
    struct fm_kv_block *blocks[MOST];
    unsigned char want[BLOCK];
    struct fm_kvload l = {.user = user, .ids = ids, .blocks = blocks, .first = first, .n = n - first};
    if (!fm_kvload_start(s, &l)) return 0;
    while (fm_kvload_busy(s, &l)) usleep(50);
    for (int i = 0; i < l.got; i++) {
        content(want, ids, first + i);
        assert_memory_equal(blocks[i]->data, want, BLOCK);
        fm_kvpool_drop(&pool, blocks[i]);
    }
    return l.got;
}

static struct fm_disk_cache_stats stats(struct fm_kvstore *s)
{
    struct fm_disk_cache_stats st;
    fm_kvstore_stats(s, &st);
    return st;
}

/* Path of block i of a timeline. */
static const char *path_of(const char *user, const int32_t *ids, int i)
{
    static char path[512];
    char name[FM_KVNAME];
    const struct fm_kvstore_options o = options(1);
    struct fm_kvplace p;
    fm_kvplace_root(&p, &o.origin, user);
    for (int k = 0; k <= i; k++) fm_kvplace_next(&p, ids + k * FM_KV_BLOCK);
    fm_kvdir_name(p.key, name);
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static const char *in_dir(const char *name)
{
    static char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void put_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void get_file(const char *path, unsigned char *data)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(data, 1, FILE_BYTES, f), FILE_BYTES);
    assert_int_equal(fgetc(f), EOF);
    (void)fclose(f);
}

/* Removes the folder's files; returns how many there were. */
static int clear(void)
{
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) {
            n++;
            if (remove(in_dir(e->d_name))) fail_msg("%s stays", e->d_name);
        }
    if (d) (void)closedir(d);
    (void)rmdir(dir);
    return n;
}

/* ---- tests ---- */

static void digests_are_the_published_ones(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int times;
        const char *hex;
    } rows[] = {
        {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"aaaaaaaaaa", 100000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fm_sha256 s;
        uint8_t out[FM_SHA256_BYTES];
        char hex[2 * FM_SHA256_BYTES + 1];
        fm_sha256_init(&s);
        for (int k = 0; k < rows[i].times; k++) fm_sha256_add(&s, rows[i].text, strlen(rows[i].text));
        fm_sha256_end(&s, out);
        for (int k = 0; k < FM_SHA256_BYTES; k++) (void)snprintf(hex + 2 * k, 3, "%02x", out[k]);
        assert_string_equal(hex, rows[i].hex);
    }
}

static void blocks_come_back(void **state)
{
    (void)state;
    int32_t ids[MOST * FM_KV_BLOCK], other[MOST * FM_KV_BLOCK];
    struct fm_kvstore *s = opened(100);
    struct stat st;
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    timeline(ids, 1);
    timeline(other, 2);
    assert_int_equal(load(s, "a", ids, 0, 5), 0);
    save(s, "a", ids, 5);
    assert_int_equal(stat(path_of("a", ids, 3), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    for (int restart = 0; restart < 2; restart++) {
        assert_int_equal(load(s, "a", ids, 0, 8), 5);
        assert_int_equal(load(s, "a", ids, 2, 4), 2);
        assert_int_equal(load(s, "a", ids, 5, 8), 0);
        assert_int_equal(load(s, "b", ids, 0, 5), 0);
        assert_int_equal(load(s, "", ids, 0, 5), 0);
        assert_int_equal(load(s, "a", other, 0, 5), 0);
        ids[3 * FM_KV_BLOCK] ^= 1; /* an edit keeps what stands before */
        assert_int_equal(load(s, "a", ids, 0, 5), 3);
        ids[3 * FM_KV_BLOCK] ^= 1;
        assert_int_equal(stats(s).bytes, 5 * FILE_BYTES);
        assert_int_equal(stats(s).files, 5);
        assert_int_equal(stats(s).written, restart ? 0 : 5);
        fm_kvstore_close(s);
        s = opened(100);
    }
    save(s, "a", ids, 6); /* five are there already */
    assert_int_equal(stats(s).written, 1);
    fm_kvstore_close(s);
    /* whatever the bits depend on keeps them apart */
    for (int i = 0; i < 5; i++) {
        struct fm_kvstore_options o = options(100);
        if (i == 0) o.origin.model++;
        if (i == 1) o.origin.type[0] = 'f';
        if (i == 2) o.origin.tier[0] = 'x';
        if (i == 3) o.origin.mode[0] = 'e';
        if (i == 4) o.origin.version[0] = '2';
        ok(fm_kvstore_open(&o, &s, &err));
        assert_int_equal(load(s, "a", ids, 0, 5), 0);
        save(s, "a", ids, 1);
        assert_int_equal(load(s, "a", ids, 0, 5), 1);
        assert_int_equal(stats(s).dropped, 0);
        fm_kvstore_close(s);
    }
    assert_int_equal(clear(), 11);
}

/* One file of three is spoilt: it is dropped, those before it still come back, and it can be written again. */
static void spoilt(struct fm_kvstore *s, const int32_t *ids, const unsigned char *bytes, size_t n, const char *what)
{
    const uint64_t dropped = stats(s).dropped;
    struct stat st;
    put_file(path_of("a", ids, 1), bytes, n);
    const int got = load(s, "a", ids, 0, 3);
    if (got != 1) fail_msg("%s: %d blocks", what, got);
    if (stats(s).dropped != dropped + 1) fail_msg("%s: not counted", what);
    if (!stat(path_of("a", ids, 1), &st)) fail_msg("%s: it stays", what);
    assert_int_equal(stats(s).files, 2);
    save(s, "a", ids, 3);
    assert_int_equal(stats(s).files, 3);
}

static void spoilt_files_are_dropped(void **state)
{
    (void)state;
    int32_t ids[MOST * FM_KV_BLOCK];
    unsigned char good[FILE_BYTES + 1], bad[FILE_BYTES + 1];
    char what[64];
    struct fm_rng rng;
    struct fm_kvstore *s = opened(100);
    fm_rng_init(&rng, 3);
    timeline(ids, 1);
    save(s, "a", ids, 3);
    get_file(path_of("a", ids, 1), good);
    good[FILE_BYTES] = 0;
    for (size_t at = 0; at < FILE_BYTES; at += at < FM_KVFILE_HEAD ? 1 : 1 + fm_rng_below(&rng, 60)) {
        memcpy(bad, good, sizeof bad);
        bad[at] ^= (unsigned char)(1 + fm_rng_below(&rng, 255));
        (void)snprintf(what, sizeof what, "byte %zu", at);
        spoilt(s, ids, bad, FILE_BYTES, what);
    }
    for (size_t n = 0; n < FILE_BYTES; n += 1 + fm_rng_below(&rng, n < FM_KVFILE_HEAD ? 20 : 400)) {
        (void)snprintf(what, sizeof what, "cut at %zu", n);
        spoilt(s, ids, good, n, what);
    }
    spoilt(s, ids, good, FILE_BYTES + 1, "a byte more");
    get_file(path_of("a", ids, 2), bad);
    spoilt(s, ids, bad, FILE_BYTES, "another block");
    save(s, "b", ids, 3);
    get_file(path_of("b", ids, 1), bad);
    (void)unlink(path_of("b", ids, 0));
    (void)unlink(path_of("b", ids, 1));
    (void)unlink(path_of("b", ids, 2));
    assert_int_equal(load(s, "b", ids, 0, 3), 0); /* what others removed is no fault */
    fm_kvstore_close(s);
    s = opened(100);
    spoilt(s, ids, bad, FILE_BYTES, "another user's block");

    (void)unlink(path_of("a", ids, 1));
    assert_int_equal(symlink("/etc/passwd", path_of("a", ids, 1)), 0);
    assert_int_equal(load(s, "a", ids, 0, 3), 1);
    save(s, "a", ids, 3);
    (void)unlink(path_of("a", ids, 1));
    assert_int_equal(mkdir(path_of("a", ids, 1), 0700), 0);
    assert_int_equal(load(s, "a", ids, 0, 3), 1);
    fm_kvstore_close(s);
    s = opened(100);
    assert_int_equal(load(s, "a", ids, 0, 3), 1);
    fm_kvstore_close(s);
    assert_int_equal(clear(), 3);
}

static void only_own_names_are_touched(void **state)
{
    (void)state;
    static const char *const gone[] = {"tmp-0123456789abcdef",
                                       "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff.kv1",
                                       "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff.kv17"};
    static const char *const kept[] = {"tmp-0123456789abcdeF",
                                       "tmp-0123456789abcdef0",
                                       "notes.txt",
                                       "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
                                       "00112233445566778899aabbccddeeff00112233445566778899aabbccddeef.kv2",
                                       "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff.kv0",
                                       "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff.kv2~",
                                       "00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff.kv2"};
    enum { N_GONE = sizeof gone / sizeof *gone, N_KEPT = sizeof kept / sizeof *kept };
    struct stat st;
    assert_int_equal(mkdir(dir, 0700), 0);
    for (int i = 0; i < N_GONE; i++) put_file(in_dir(gone[i]), "x", 1);
    for (int i = 0; i < N_KEPT; i++) put_file(in_dir(kept[i]), "x", 1);
    put_file(in_dir("tmp-fedcba9876543210"), "x", 1);
    const int writer = open(in_dir("tmp-fedcba9876543210"), O_RDONLY); /* it is alive */
    assert_int_equal(flock(writer, LOCK_EX), 0);
    struct fm_kvstore *s = opened(1);
    assert_int_equal(stats(s).files, 0);
    fm_kvstore_close(s);
    for (int i = 0; i < N_GONE; i++)
        if (!stat(in_dir(gone[i]), &st)) fail_msg("%s stays", gone[i]);
    for (int i = 0; i < N_KEPT; i++)
        if (stat(in_dir(kept[i]), &st)) fail_msg("%s is gone", kept[i]);
    (void)close(writer);
    assert_int_equal(clear(), N_KEPT + 1);
}

static int have(const char *user, const int32_t *ids)
{
    struct stat st;
    int n = 0;
    for (int i = 0; i < MOST; i++) n += !stat(path_of(user, ids, i), &st);
    return n;
}

static void the_least_recently_used_goes_first(void **state)
{
    (void)state;
    int32_t a[MOST * FM_KV_BLOCK], b[MOST * FM_KV_BLOCK], c[MOST * FM_KV_BLOCK];
    struct fm_kvstore *s = opened(6);
    timeline(a, 1);
    timeline(b, 2);
    timeline(c, 3);
    save(s, "", a, 3);
    save(s, "", b, 3);
    assert_int_equal(load(s, "", a, 0, 3), 3); /* so b is the older one */
    save(s, "", c, 2);
    assert_int_equal(have("", a), 3);
    assert_int_equal(have("", b), 1); /* its end went, its beginning is of use */
    assert_int_equal(have("", c), 2);
    assert_int_equal(load(s, "", b, 0, 3), 1);
    assert_int_equal(stats(s).evicted, 2);
    assert_int_equal(stats(s).bytes, 6 * FILE_BYTES);
    save(s, "", a, 1); /* a is used again, but for its end */
    fm_kvstore_close(s);
    s = opened(3); /* the order survives a restart: a's end, c, b, a */
    assert_int_equal(stats(s).evicted, 3);
    assert_int_equal(have("", a), 1);
    assert_int_equal(have("", b), 1);
    assert_int_equal(have("", c), 1);
    save(s, "", b, 5); /* more than there is room for: as much as fits */
    assert_int_equal(load(s, "", b, 0, 5), 3);
    assert_int_equal(stats(s).bytes, 3 * FILE_BYTES);
    fm_kvstore_close(s);
    assert_int_equal(clear(), 3);
}

static void a_full_disk_loses_what_does_not_fit(void **state)
{
    (void)state;
    int32_t ids[MOST * FM_KV_BLOCK];
    struct fm_kvstore *s = opened(100);
    struct rlimit old, tiny;
    (void)signal(SIGXFSZ, SIG_IGN);
    timeline(ids, 1);
    save(s, "a", ids, 2);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tiny = old;
    for (rlim_t room = 0; room < FILE_BYTES; room += 700) {
        const uint64_t failed = stats(s).failed;
        tiny.rlim_cur = room;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
        save(s, "a", ids, 5);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(stats(s).failed, failed + 1); /* and those behind it are not tried */
        assert_int_equal(load(s, "a", ids, 0, 5), 2);
    }
    assert_int_equal(have("a", ids), 2);
    save(s, "a", ids, 5);
    assert_int_equal(load(s, "a", ids, 0, 5), 5);
    fm_kvstore_close(s);
    assert_int_equal(clear(), 5); /* no rests */
}

static void two_servers_share_a_folder(void **state)
{
    (void)state;
    int32_t ids[MOST * FM_KV_BLOCK];
    struct fm_kvstore *a = opened(9), *b = opened(9), *c;
    for (uint64_t i = 0; i < 40; i++) {
        timeline(ids, i % 7);
        save(a, "", ids, 1 + (int)i % 4);
        save(b, "", ids, 1 + (int)(i + 2) % 5); /* the same names, written twice or evicted by the other */
        assert_in_range(load(a, "", ids, 0, 5), 0, 5);
        assert_in_range(load(b, "", ids, 0, 5), 0, 5);
    }
    assert_int_equal(stats(a).dropped + stats(b).dropped, 0);
    timeline(ids, 99);
    save(a, "", ids, 3);
    c = opened(9); /* a third one sees what the others left, and keeps to its limit */
    assert_int_equal(load(c, "", ids, 0, 5), 3);
    assert_in_range(stats(c).bytes, 3 * FILE_BYTES, 9 * FILE_BYTES);
    fm_kvstore_close(a);
    fm_kvstore_close(b);
    fm_kvstore_close(c);
    assert_in_range(clear(), 3, 9);
}

static void loads_can_be_stopped(void **state)
{
    (void)state;
    int32_t ids[MOST * FM_KV_BLOCK];
    struct fm_kv_block *blocks[4][MOST];
    struct fm_kvstore *s = opened(100);
    timeline(ids, 1);
    save(s, "a", ids, MOST);
    for (int round = 0; round < 200; round++) {
        struct fm_kvload l[4];
        for (int i = 0; i < 4; i++) {
            l[i] = (struct fm_kvload){.user = "a", .ids = ids, .blocks = blocks[i], .n = MOST};
            assert_true(fm_kvload_start(s, &l[i]));
        }
        if (round % 3) usleep((useconds_t)round);
        for (int i = 3; i >= 0; i--) {
            fm_kvload_stop(s, &l[i]);
            assert_false(fm_kvload_busy(s, &l[i]));
            while (l[i].got) fm_kvpool_drop(&pool, blocks[i][--l[i].got]);
        }
    }
    fm_kvstore_close(s);
    assert_int_equal(clear(), MOST);
}

static void closing_writes_what_waits(void **state)
{
    (void)state;
    int32_t ids[MOST * FM_KV_BLOCK];
    struct fm_kv_block *blocks[MOST];
    struct fm_kvstore *s = opened(400);
    for (uint64_t i = 0; i < 40; i++) {
        timeline(ids, i);
        ok(fm_kvpool_take(&pool, MOST, blocks, &err));
        for (int k = 0; k < MOST; k++) content(blocks[k]->data, ids, k);
        fm_kvstore_save(s, "a", ids, MOST, blocks);
        for (int k = 0; k < MOST; k++) fm_kvpool_drop(&pool, blocks[k]);
    }
    fm_kvstore_close(s);
    s = opened(400);
    for (uint64_t i = 0; i < 40; i++) {
        timeline(ids, i);
        assert_int_equal(load(s, "a", ids, 0, MOST), MOST);
    }
    fm_kvstore_close(s);
    assert_int_equal(clear(), 40 * MOST);
}

/* Writes until it is killed: timeline after timeline. */
static void write_for_ever(void)
{
    int32_t ids[MOST * FM_KV_BLOCK];
    struct fm_kvstore *s = opened(100000);
    for (uint64_t i = 0;; i++) {
        timeline(ids, i);
        save(s, "a", ids, MOST);
    }
}

/* Rests of a dead writer in the folder. */
static int rests(void)
{
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) n += !strncmp(e->d_name, "tmp-", 4);
    if (d) (void)closedir(d);
    return n;
}

static void a_killed_writer_loses_one_block(void **state)
{
    (void)state;
    int32_t ids[MOST * FM_KV_BLOCK];
    int in_the_middle = 0, rounds = 0;
    for (; rounds < 2000 && in_the_middle < 3; rounds++) {
        const pid_t child = fork();
        if (!child) {
            write_for_ever();
            _exit(1);
        }
        usleep((useconds_t)(20000 + rounds * 77 % 1000));
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        assert_in_range(rests(), 0, 1);
        in_the_middle += rests();
        struct fm_kvstore *s = opened(100000);
        assert_int_equal(rests(), 0);
        int whole = 0, missing = 0;
        for (uint64_t i = 0; whole < (int)stats(s).files;
             i++) { /* what is there is right, and nothing is missing between */
            timeline(ids, i);
            const int got = load(s, "a", ids, 0, MOST);
            assert_int_equal(got, have("a", ids));
            if (got < MOST) missing++;
            assert_in_range(missing, 0, 1);
            whole += got;
        }
        assert_int_equal(stats(s).dropped, 0);
        fm_kvstore_close(s);
        (void)clear();
    }
    assert_int_equal(in_the_middle, 3);
}

static void bad_folders_are_refused(void **state)
{
    (void)state;
    struct fm_kvstore *s = NULL;
    struct fm_kvstore_options o = options(100);
    o.dir = "/proc/nowhere/at/all";
    assert_int_equal(fm_kvstore_open(&o, &s, &err), FM_ERR_USAGE);
    assert_non_null(strstr(err.message, o.dir));
    put_file(dir, "x", 1);
    o.dir = dir;
    assert_int_equal(fm_kvstore_open(&o, &s, &err), FM_ERR_USAGE);
    (void)unlink(dir);
    o.limit = FILE_BYTES - 1;
    assert_int_equal(fm_kvstore_open(&o, &s, &err), FM_ERR_USAGE);
    assert_non_null(strstr(err.message, "4607 bytes"));
    struct stat st;
    assert_int_not_equal(stat(dir, &st), 0);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    int32_t ids[MOST * FM_KV_BLOCK];
    struct fm_kv_block *blocks[MOST];
    const struct fm_kvstore_options o = options(100);
    timeline(ids, 1);
    ok(fm_kvpool_take(&pool, MOST, blocks, &err));
    for (int i = 0; i < MOST; i++) content(blocks[i]->data, ids, i);
    for (long at = 1; at < 40; at++) {
        struct fm_kvstore *s = NULL;
        fm_mem_fail_at(at);
        const enum fm_status st = fm_kvstore_open(&o, &s, &err);
        if (!st) {
            fm_kvstore_save(s, "a", ids, MOST, blocks);
            fm_kvstore_flush(s);
            (void)load(s, "a", ids, 0, MOST);
        }
        fm_mem_fail_at(0);
        if (st) assert_int_equal(st, FM_ERR_MEMORY);
        fm_kvstore_close(s);
        (void)clear();
    }
    for (int i = 0; i < MOST; i++) fm_kvpool_drop(&pool, blocks[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_are_the_published_ones),
        cmocka_unit_test(blocks_come_back),
        cmocka_unit_test(spoilt_files_are_dropped),
        cmocka_unit_test(only_own_names_are_touched),
        cmocka_unit_test(the_least_recently_used_goes_first),
        cmocka_unit_test(a_full_disk_loses_what_does_not_fit),
        cmocka_unit_test(two_servers_share_a_folder),
        cmocka_unit_test(loads_can_be_stopped),
        cmocka_unit_test(closing_writes_what_waits),
        cmocka_unit_test(a_killed_writer_loses_one_block),
        cmocka_unit_test(bad_folders_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };
    (void)snprintf(dir, sizeof dir, "/tmp/fathom-test-%d-kv", (int)getpid());
    if (fm_kvpool_init(&pool, BLOCK, &err)) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (!failed) fm_kvpool_release(&pool); /* every block came back */
    return failed;
}
