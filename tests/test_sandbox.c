/* What a process cannot do any more once it is in the sandbox, and what it still can; each in a child of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sandbox.h"

static char folder[64];

enum { NO_SANDBOX = 77 };

#define MUST(condition)                                                                           \
    do {                                                                                          \
        if (!(condition)) {                                                                       \
            fprintf(stderr, "line %d: not so: %s (%s)\n", __LINE__, #condition, strerror(errno)); \
            return 1;                                                                             \
        }                                                                                         \
    } while (0)
#define DENIED(call) MUST((errno = 0, (call) < 0) && (errno == EPERM || errno == EACCES))

/* Leaves without the leak checker's look around: it would be denied, too. */
static void in_child(int (*run)(void))
{
    int status;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (!child) _exit(run());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NO_SANDBOX) {
        print_message("SKIP  this kernel has no such sandbox\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void *open_something(void *arg)
{
    *(int *)arg = open("/etc/passwd", O_RDONLY) < 0 ? errno : 0;
    return NULL;
}

static int opens_in_thread(void)
{
    pthread_t t;
    int error = -1;
    if (pthread_create(&t, NULL, open_something, &error)) return -1;
    (void)pthread_join(t, NULL);
    return error;
}

static int try_to_connect(void)
{
    const int s = socket(AF_INET, SOCK_STREAM, 0);
    const struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = 1, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return s < 0 ? s : connect(s, (const struct sockaddr *)&to, sizeof to);
}

/* ---- files ---- */

static int files(void)
{
    const int before = open("/etc/passwd", O_RDONLY);
    char byte;
    if (!fm_sandbox_files()) return NO_SANDBOX;
    MUST(read(before, &byte, 1) == 1);
    DENIED(open("/etc/passwd", O_RDONLY));
    DENIED(open("/tmp", O_RDONLY));
    DENIED(open("/tmp/fathom-sandbox-outside", O_WRONLY | O_CREAT, 0600));
    DENIED(mkfifo("/tmp/fathom-sandbox-outside", 0600));
    DENIED(mkdir("/tmp/fathom-sandbox-outside", 0700));
    DENIED(rmdir(folder));
    MUST(opens_in_thread() == EACCES);
    return 0;
}

static void test_files(void **state)
{
    (void)state;
    in_child(files);
}

/* ---- calls ---- */

static int everywhere(void)
{
    char *const words[] = {(char *)"true", NULL};
    DENIED(execv("/bin/true", words));
    DENIED(socket(AF_INET, SOCK_STREAM, 0));
    DENIED(socket(AF_NETLINK, SOCK_RAW, 0));
    DENIED(kill(getppid(), 0));
    MUST(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EPERM);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(page != MAP_FAILED);
    DENIED(mprotect(page, 4096, PROT_READ | PROT_EXEC));
    MUST(!mprotect(page, 4096, PROT_READ) && !munmap(page, 4096));
    const int local = socket(AF_UNIX, SOCK_DGRAM, 0);
    MUST(local >= 0);
    const struct sockaddr none = {.sa_family = AF_UNIX};
    DENIED(connect(local, &none, sizeof none));
    return 0;
}

static int calls(void)
{
    const int before = open("/etc/passwd", O_RDONLY);
    char byte;
    if (!fm_sandbox_calls(false)) return NO_SANDBOX;
    MUST(read(before, &byte, 1) == 1);
    MUST(!everywhere());
    DENIED(unlink("/tmp/fathom-sandbox-outside"));
    DENIED(mkdir("/tmp/fathom-sandbox-outside", 0700));
    MUST(opens_in_thread() >= 0);                         /* threads can begin */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__clang__) /* what a sanitized build's leak checker needs stays */
    DENIED(open("/etc/passwd", O_RDONLY));
    MUST(opens_in_thread() == EPERM);
    DENIED(fork());
    DENIED((int)ptrace(PTRACE_TRACEME, 0, NULL, NULL));
#endif
    return 0;
}

static void test_calls(void **state)
{
    (void)state;
    in_child(calls);
}

static int calls_with_files(void)
{
    if (!fm_sandbox_calls(true)) return NO_SANDBOX;
    MUST(open("/etc/passwd", O_RDONLY) >= 0);
    MUST(!opens_in_thread());
    return everywhere();
}

static void test_calls_with_files(void **state)
{
    (void)state;
    in_child(calls_with_files);
}

/* ---- threads that were there before ---- */

static pthread_barrier_t barrier;

static void *wait_then_connect(void *arg)
{
    (void)pthread_barrier_wait(&barrier);
    (void)pthread_barrier_wait(&barrier);
    *(int *)arg = try_to_connect() < 0 ? errno : 0;
    return NULL;
}

static int older_threads(void)
{
    pthread_t t;
    int error = 0;
    MUST(!pthread_barrier_init(&barrier, NULL, 2) && !pthread_create(&t, NULL, wait_then_connect, &error));
    (void)pthread_barrier_wait(&barrier);
    if (!fm_sandbox_calls(false)) return NO_SANDBOX;
    (void)pthread_barrier_wait(&barrier);
    (void)pthread_join(t, NULL);
    MUST(error == EPERM);
    return 0;
}

static void test_older_threads(void **state)
{
    (void)state;
    in_child(older_threads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_files), cmocka_unit_test(test_calls),
                                       cmocka_unit_test(test_calls_with_files), cmocka_unit_test(test_older_threads)};
    snprintf(folder, sizeof folder, "/tmp/fathom-sandbox-XXXXXX");
    if (!mkdtemp(folder)) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)rmdir(folder);
    return failed;
}
