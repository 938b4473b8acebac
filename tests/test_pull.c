/* Downloads: files in the making, and whole models from a small server inside this program, with every allocation failing
 * once.  What servers and users do wrong is in tests/cli/hub.sh. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifndef FM_WITH_CURL
int main(void)
{
    puts("SKIP built without libcurl and libcrypto");
    return 77;
}
#else
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "hub/hub_impl.h"
#include "hub/partial.h"

static struct fm_error err;
#define OK(expr) assert_int_equal((expr), FM_OK)
#define COMMIT   "0123456789abcdef0123456789abcdef01234567"

static char root[] = "/tmp/fathom-pull-XXXXXX";
static char path[64], final[64];
static volatile int stop;

static void at(void *arg, const char *what, const char *file, uint64_t old, uint64_t done, uint64_t total)
{
    (void)arg, (void)what, (void)file;
    assert_true(old <= done && done <= total);
}

static void note(void *arg, const char *line) { (void)arg, (void)line; }

static const struct fm_hub_progress progress = {.at = at, .note = note, .stop = &stop};

static void remove_all(void)
{
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s/* %s/.locks", root, root);
    assert_int_equal(system(command), 0);
}

/* ---- a file in the making -------------------------------------------------------------------------------------- */

enum { BIG = (6 << 20) + 17 };
static unsigned char bytes[BIG];
static char name[65]; /* sha256 of bytes */

static void make_bytes(void)
{
    struct fm_hash h;
    uint32_t x = 1;
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)((x = x * 1664525 + 1013904223) >> 24);
    memset(name, '0', 64);
    OK(fm_hash_init(&h, name, BIG, &err));
    assert_true(fm_hash_add(&h, bytes, BIG) && fm_hash_text(&h, name));
    fm_hash_release(&h);
}

static void test_hash(void **state)
{
    static const char *const known[][2] = {
        {"0000000000000000000000000000000000000000000000000000000000000000",
         "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}, /* FIPS 180-2, B.1: "abc" */
        {"0000000000000000000000000000000000000000", "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f"}, /* git hash-object */
        {"unnamed", ""}};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct fm_hash h;
        char text[65];
        OK(fm_hash_init(&h, known[i][0], 3, &err));
        assert_true(fm_hash_add(&h, "a", 1) && fm_hash_text(&h, text)); /* looking does not disturb */
        assert_true(fm_hash_add(&h, "bc", 2) && fm_hash_text(&h, text));
        assert_string_equal(text, known[i][1]);
        fm_hash_release(&h);
    }
}

static void open_big(struct fm_partial *p) { OK(fm_partial_open(p, path, name, BIG, 4, &progress, &err)); }

static void write_piece(struct fm_partial *p, uint32_t piece, size_t n)
{
    OK(fm_partial_write(p, piece, bytes + fm_partial_begin(p, piece) + p->done[piece], n, &err));
}

static void assert_final(void)
{
    static unsigned char back[BIG];
    int fd = open(final, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, back, BIG), BIG);
    assert_memory_equal(back, bytes, BIG);
    close(fd);
}

static void test_partial(void **state)
{
    struct fm_partial p;
    bool more, good;
    (void)state;
    open_big(&p);
    assert_int_equal(p.n_pieces, 7);
    assert_int_equal(fm_partial_length(&p, 6), 17);
    write_piece(&p, 2, 1 << 20);
    write_piece(&p, 0, 1 << 20);
    write_piece(&p, 1, 1000);
    OK(fm_partial_hash(&p, &more, &err));
    assert_int_equal(p.hashed, (1 << 20) + 1000); /* the third lies behind a gap */
    OK(fm_partial_save(&p, &err));
    fm_partial_close(&p);
    assert_int_equal(fm_partial_peek(path, name, BIG), (2 << 20) + 1000);
    assert_int_equal(fm_partial_peek(path, name, BIG - 1), 0);

    open_big(&p); /* goes on */
    assert_true(p.resumed && p.total == (2 << 20) + 1000 && p.hashed == (1 << 20) + 1000);
    for (uint32_t i = p.n_pieces; i-- > 0;) write_piece(&p, i, (size_t)(fm_partial_length(&p, i) - p.done[i]));
    OK(fm_partial_finish(&p, final, &good, &err));
    assert_true(good);
    fm_partial_close(&p);
    assert_final();
    assert_true(access(path, F_OK) && fm_partial_peek(path, name, BIG) == 0);
}

static void damage(const char *file, off_t where)
{
    int fd = open(file, O_RDWR);
    assert_true(fd >= 0);
    unsigned char c = (unsigned char)(bytes[where] ^ 1);
    assert_int_equal(pwrite(fd, &c, 1, where), 1);
    close(fd);
}

static void test_partial_damaged(void **state)
{
    struct fm_partial p;
    bool more, good;
    (void)state;
    open_big(&p);
    write_piece(&p, 0, 5000);
    OK(fm_partial_hash(&p, &more, &err));
    OK(fm_partial_save(&p, &err));
    fm_partial_close(&p);
    damage(path, 100);
    open_big(&p); /* found before anything is fetched */
    assert_true(!p.resumed && !p.total);

    for (uint32_t i = 0; i < p.n_pieces; i++) write_piece(&p, i, (size_t)fm_partial_length(&p, i));
    damage(path, BIG - 1); /* behind what is hashed: found at the end */
    OK(fm_partial_finish(&p, final, &good, &err));
    assert_false(good);
    fm_partial_close(&p);
    assert_true(access(path, F_OK) && access(final, F_OK));
}

/* A state that makes no sense, or is of other bytes, is no state. */
static void test_partial_state(void **state)
{
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "{\"blob\":\"%s\",\"size\":6291473,\"piece\":0,\"done\":[]}",
        "{\"blob\":\"%s\",\"size\":6291473,\"piece\":1048576,\"done\":[1,2]}",
        "{\"blob\":\"%s\",\"size\":6291473,\"piece\":1048576,\"done\":[1,0,0,0,0,0,99]}",
        "{\"blob\":\"%s\",\"size\":6291473,\"piece\":1048576,\"done\":[-1,0,0,0,0,0,0]}",
        "{\"blob\":\"%s\",\"size\":6291473,\"piece\":1048576,\"done\":[0,0,0,0,0,0,17]}", /* the file is shorter */
        "{\"blob\":\"%s\",\"size\":6291473,\"piece\":99999999,\"done\":[1]}",
        "{\"blob\":\"%s\",\"size\":6291473,\"piece\":1048576,\"hashed\":9,\"digest\":\"\",\"done\":[1,0,0,0,0,0,0]}",
        "{\"blob\":\"x%s\",\"size\":6291473,\"piece\":1048576,\"hashed\":0,\"digest\":\"\",\"done\":[1,0,0,0,0,0,0]}"};
    char other[96];
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fm_partial p;
        FILE *f = fopen(path, "wb");
        assert_int_equal(fwrite(bytes, 1, 100, f), 100);
        fclose(f);
        snprintf(other, sizeof other, "%.*s.state.incomplete", (int)strlen(path) - 11, path);
        f = fopen(other, "wb");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
        fprintf(f, bad[i], name);
#pragma GCC diagnostic pop
        fclose(f);
        open_big(&p);
        if (p.resumed || p.total) fail_msg("'%s' was taken for a state", bad[i]);
        fm_partial_close(&p);
    }
}

/* ---- a hub ----------------------------------------------------------------------------------------------------- */

enum { SMALL = 5000 };
static int listener;
static char small_name[65], url[64];

/* One request per connection.  The bytes come by a redirect to the same server. */
static void answer(int fd)
{
    char request[4096], reply[1024];
    size_t n = 0;
    for (ssize_t k = 1; k > 0 && n < sizeof request - 1 && (!n || !strstr(request, "\r\n\r\n"));) {
        k = read(fd, request + n, sizeof request - 1 - n);
        if (k > 0) n += (size_t)k;
        request[n] = 0;
    }
    bool head = !strncmp(request, "HEAD", 4), body = false;
    char list[512] = "";
    if (strstr(request, "/tree/"))
        snprintf(list, sizeof list,
                 "[{\"type\":\"file\",\"path\":\"m-Q4_0.gguf\",\"size\":%d,\"lfs\":{\"oid\":\"%s\",\"size\":%d}}]",
                 SMALL, small_name, SMALL);
    if (strstr(request, "/resolve/"))
        snprintf(reply, sizeof reply, "HTTP/1.1 302 Found\r\nLocation: /bytes\r\nX-Repo-Commit: %s\r\n", COMMIT);
    else {
        body = !*list && !head;
        snprintf(reply, sizeof reply, "HTTP/1.1 200 OK\r\nX-Repo-Commit: %s\r\nETag: \"%s\"\r\n", COMMIT, small_name);
    }
    size_t length = *list ? strlen(list) : strstr(request, "/bytes") ? SMALL : 0;
    size_t used = strlen(reply);
    snprintf(reply + used, sizeof reply - used, "Content-Length: %zu\r\nConnection: close\r\n\r\n%s", length, list);
    bool ok = write(fd, reply, strlen(reply)) == (ssize_t)strlen(reply);
    if (ok && body && length) ok = write(fd, bytes, length) == (ssize_t)length;
    close(fd);
}

static void *serve(void *arg)
{
    (void)arg;
    for (int fd; (fd = accept(listener, NULL, NULL)) >= 0;) answer(fd);
    return NULL;
}

static void start_server(pthread_t *thread)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    struct fm_hash h;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(listener, 16), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &n), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%d", ntohs(a.sin_port));
    OK(fm_hash_init(&h, name, SMALL, &err));
    assert_true(fm_hash_add(&h, bytes, SMALL) && fm_hash_text(&h, small_name));
    fm_hash_release(&h);
    assert_int_equal(pthread_create(thread, NULL, serve, NULL), 0);
}

static enum fm_status pull_once(const char *dir)
{
    static char token[] = "hf_x";
    const struct fm_hub hub = {
        .endpoint = url, .cache = root, .token = token, .download_timeout = 5, .etag_timeout = 5};
    const struct fm_hub_ref ref = {"o/r", ""};
    const struct fm_pull_options o = {.connections = 2, .dir = dir};
    char *where = NULL;
    enum fm_status st = fm_hub_pull(&hub, &ref, &o, &progress, &where, &err);
    struct stat s;
    if (!st) assert_true(stat(where, &s) == 0 && s.st_size == SMALL);
    fm_free(where);
    return st;
}

static void test_pull_torture(void **state)
{
    pthread_t thread;
    char dir[64];
    (void)state;
    start_server(&thread);
    if (pull_once(NULL)) fail_msg("%s", err.message);
    snprintf(dir, sizeof dir, "%s/plain", root);
    for (int plain = 0; plain < 2; plain++) {
        int failures = 0;
        for (long n = 1, good = 0; good < 10; n++) { /* some allocations may fail without harm */
            remove_all();
            fm_mem_fail_at(n);
            enum fm_status st = pull_once(plain ? dir : NULL);
            fm_mem_fail_at(0);
            if (st && st != FM_ERR_MEMORY) fail_msg("allocation %ld: %d: %s", n, st, err.message);
            good = st ? 0 : good + 1;
            failures += st != FM_OK;
            assert_true(n < 2000);
        }
        assert_true(failures > 30);
    }
    OK(pull_once(NULL));
    stop = 1;
    remove_all();
    assert_int_equal(pull_once(NULL), FM_ERR_CANCELLED);
    stop = 0;
    shutdown(listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(listener);
}

static int clean(void **state)
{
    (void)state;
    remove_all();
    return 0;
}

static int remove_root(void **state)
{
    (void)state;
    remove_all();
    return rmdir(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hash),
        cmocka_unit_test_teardown(test_partial, clean),
        cmocka_unit_test_teardown(test_partial_damaged, clean),
        cmocka_unit_test_teardown(test_partial_state, clean),
        cmocka_unit_test_teardown(test_pull_torture, clean),
    };
    if (!mkdtemp(root)) return 1;
    snprintf(path, sizeof path, "%s/x.incomplete", root);
    snprintf(final, sizeof final, "%s/x", root);
    make_bytes();
    return cmocka_run_group_tests(tests, NULL, remove_root);
}
#endif
