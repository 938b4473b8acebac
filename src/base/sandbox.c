/* See sandbox.h.  Landlock's structure is written out here: Debian 12's headers are older than the kernels it meets. */
#include "base/sandbox.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* ---- files ---- */

struct ruleset {
    uint64_t files, ports, scopes;
};
enum { VERSION_QUERY = 1, SCOPE_SIGNAL = 2 };
/* Rights of each version of Landlock: bits 0 … n−1. */
enum { FILES_1 = 13, FILES_2 = 14, FILES_3 = 15, FILES_5 = 16 };
static uint64_t bits(int n) { return ((uint64_t)1 << n) - 1; }

bool fm_sandbox_files(void)
{
    const long version = syscall(SYS_landlock_create_ruleset, NULL, 0, VERSION_QUERY);
    if (version < 1) return false;
    const struct ruleset r = {
        .files = bits(version >= 5   ? FILES_5
                      : version >= 3 ? FILES_3
                      : version == 2 ? FILES_2
                                     : FILES_1),
        .ports = bits(2), /* bind, connect */
        .scopes = SCOPE_SIGNAL,
    };
    const size_t size = version >= 6 ? sizeof r : version >= 4 ? offsetof(struct ruleset, scopes) : sizeof r.files;
    const int rules = (int)syscall(SYS_landlock_create_ruleset, &r, size, 0);
    const bool ok =
        rules >= 0 && !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !syscall(SYS_landlock_restrict_self, rules, 0);
    if (rules >= 0) (void)close(rules);
    return ok;
}

/* ---- system calls ---- */

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

/* When a call is denied: always, unless files are needed, or by a look at one of its arguments. */
enum when { ALWAYS, FILES, UNLESS_EQUAL, IF_BITS, UNLESS_BITS };

struct denied {
    int call;
    enum when when;
    int arg;        /* its number, … */
    uint32_t value; /* … and what it is compared with */
    bool leaks;     /* the leak checker of a sanitized build needs it */
};

static const struct denied denied[] = {
    /* programs and processes */
    {SYS_execve, ALWAYS, 0, 0, false},
    {SYS_execveat, ALWAYS, 0, 0, false},
    {SYS_clone, UNLESS_BITS, 0, CLONE_THREAD, true},
    {SYS_unshare, ALWAYS, 0, 0, false},
    {SYS_setns, ALWAYS, 0, 0, false},
    {SYS_kill, ALWAYS, 0, 0, false},
    {SYS_pidfd_open, ALWAYS, 0, 0, false},
    {SYS_pidfd_getfd, ALWAYS, 0, 0, false},
    {SYS_pidfd_send_signal, ALWAYS, 0, 0, false},
    {SYS_ptrace, ALWAYS, 0, 0, true},
    {SYS_process_vm_readv, ALWAYS, 0, 0, false},
    {SYS_process_vm_writev, ALWAYS, 0, 0, false},
    {SYS_kcmp, ALWAYS, 0, 0, false},
    /* the network: what listens goes on, and the service manager has a local socket */
    {SYS_socket, UNLESS_EQUAL, 0, AF_UNIX, false},
    {SYS_connect, ALWAYS, 0, 0, false},
    {SYS_bind, ALWAYS, 0, 0, false},
    {SYS_listen, ALWAYS, 0, 0, false},
    /* code that was not there before */
    {SYS_mmap, IF_BITS, 2, PROT_EXEC, false},
    {SYS_mprotect, IF_BITS, 2, PROT_EXEC, false},
    {SYS_pkey_mprotect, IF_BITS, 2, PROT_EXEC, false},
    {SYS_memfd_create, ALWAYS, 0, 0, false},
    /* doors of the kernel */
    {SYS_io_uring_setup, ALWAYS, 0, 0, false},
    {SYS_io_uring_enter, ALWAYS, 0, 0, false},
    {SYS_io_uring_register, ALWAYS, 0, 0, false},
    {SYS_bpf, ALWAYS, 0, 0, false},
    {SYS_perf_event_open, ALWAYS, 0, 0, false},
    {SYS_userfaultfd, ALWAYS, 0, 0, false},
    {SYS_keyctl, ALWAYS, 0, 0, false},
    {SYS_add_key, ALWAYS, 0, 0, false},
    {SYS_request_key, ALWAYS, 0, 0, false},
    {SYS_mount, ALWAYS, 0, 0, false},
    {SYS_umount2, ALWAYS, 0, 0, false},
    {SYS_pivot_root, ALWAYS, 0, 0, false},
    {SYS_chroot, ALWAYS, 0, 0, false},
    {SYS_open_tree, ALWAYS, 0, 0, false},
    {SYS_move_mount, ALWAYS, 0, 0, false},
    {SYS_fsopen, ALWAYS, 0, 0, false},
    {SYS_open_by_handle_at, ALWAYS, 0, 0, false},
    {SYS_name_to_handle_at, ALWAYS, 0, 0, false},
    {SYS_init_module, ALWAYS, 0, 0, false},
    {SYS_finit_module, ALWAYS, 0, 0, false},
    {SYS_delete_module, ALWAYS, 0, 0, false},
    {SYS_kexec_load, ALWAYS, 0, 0, false},
    {SYS_reboot, ALWAYS, 0, 0, false},
    {SYS_swapon, ALWAYS, 0, 0, false},
    {SYS_swapoff, ALWAYS, 0, 0, false},
    {SYS_acct, ALWAYS, 0, 0, false},
    {SYS_personality, ALWAYS, 0, 0, true},
    {SYS_settimeofday, ALWAYS, 0, 0, false},
    {SYS_clock_settime, ALWAYS, 0, 0, false},
    {SYS_adjtimex, ALWAYS, 0, 0, false},
    /* files */
    {SYS_openat, FILES, 0, 0, true},
    {SYS_openat2, FILES, 0, 0, false},
    {SYS_truncate, FILES, 0, 0, false},
    {SYS_unlinkat, FILES, 0, 0, false},
    {SYS_renameat2, FILES, 0, 0, false},
    {SYS_linkat, FILES, 0, 0, false},
    {SYS_symlinkat, FILES, 0, 0, false},
    {SYS_mkdirat, FILES, 0, 0, false},
    {SYS_mknodat, FILES, 0, 0, false},
    {SYS_fchmodat, FILES, 0, 0, false},
    {SYS_fchownat, FILES, 0, 0, false},
#if defined(__x86_64__) /* what newer architectures do without */
    {SYS_fork, ALWAYS, 0, 0, false},
    {SYS_vfork, ALWAYS, 0, 0, false},
    {SYS_open, FILES, 0, 0, true},
    {SYS_creat, FILES, 0, 0, false},
    {SYS_unlink, FILES, 0, 0, false},
    {SYS_rename, FILES, 0, 0, false},
    {SYS_renameat, FILES, 0, 0, false},
    {SYS_link, FILES, 0, 0, false},
    {SYS_symlink, FILES, 0, 0, false},
    {SYS_mkdir, FILES, 0, 0, false},
    {SYS_rmdir, FILES, 0, 0, false},
    {SYS_mknod, FILES, 0, 0, false},
    {SYS_chmod, FILES, 0, 0, false},
    {SYS_chown, FILES, 0, 0, false},
    {SYS_lchown, FILES, 0, 0, false},
#endif
};
enum { N_DENIED = sizeof denied / sizeof *denied, PROGRAM_MAX = 16 + 4 * N_DENIED };

#ifdef ARCH

enum { X32 = 0x40000000 };

struct program {
    struct sock_filter ops[PROGRAM_MAX];
    unsigned short n;
};

static void add(struct program *p, struct sock_filter op) { p->ops[p->n++] = op; }

#define LOAD(at)                   ((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(at)))
#define SKIP_UNLESS(test, with, n) ((struct sock_filter)BPF_JUMP(BPF_JMP | (test) | BPF_K, (with), 0, (n)))
#define SKIP_IF(test, with, n)     ((struct sock_filter)BPF_JUMP(BPF_JMP | (test) | BPF_K, (with), (n), 0))
#define RETURN(what)               ((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, (what)))
#define DENY                       RETURN(SECCOMP_RET_ERRNO | EPERM)

/* The low half of an argument: both architectures are little-endian. */
static uint32_t argument(int i) { return (uint32_t)(offsetof(struct seccomp_data, args) + 8 * (size_t)i); }

static void deny(struct program *p, const struct denied *d)
{
    const uint32_t call = (uint32_t)d->call;
    if (d->when == ALWAYS || d->when == FILES) {
        add(p, SKIP_UNLESS(BPF_JEQ, call, 1));
        add(p, DENY);
        return;
    }
    add(p, SKIP_UNLESS(BPF_JEQ, call, 4));
    add(p, LOAD(argument(d->arg)));
    add(p, d->when == UNLESS_EQUAL  ? SKIP_IF(BPF_JEQ, d->value, 1)
           : d->when == UNLESS_BITS ? SKIP_IF(BPF_JSET, d->value, 1)
                                    : SKIP_UNLESS(BPF_JSET, d->value, 1));
    add(p, DENY);
    add(p, RETURN(SECCOMP_RET_ALLOW)); /* the call's number is not loaded any more */
}

bool fm_sandbox_calls(bool files)
{
    struct program p = {.n = 0};
    add(&p, LOAD(offsetof(struct seccomp_data, arch)));
    add(&p, SKIP_IF(BPF_JEQ, ARCH, 1));
    add(&p, DENY); /* calls of 32 bits */
    add(&p, LOAD(offsetof(struct seccomp_data, nr)));
#if defined(__x86_64__)
    add(&p, SKIP_UNLESS(BPF_JGE, X32, 1));
    add(&p, DENY);
#endif
    if (!SANITIZED) { /* its flags lie in memory, where no filter sees them: threads begin with clone then */
        add(&p, SKIP_UNLESS(BPF_JEQ, SYS_clone3, 1));
        add(&p, RETURN(SECCOMP_RET_ERRNO | ENOSYS));
    }
    for (int i = 0; i < N_DENIED; i++)
        if (!(files && denied[i].when == FILES) && !(SANITIZED && denied[i].leaks)) deny(&p, &denied[i]);
    add(&p, RETURN(SECCOMP_RET_ALLOW));
    const struct sock_fprog program = {.len = p.n, .filter = p.ops};
    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
           !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

#else

bool fm_sandbox_calls(bool files)
{
    (void)files;
    return false;
}

#endif
