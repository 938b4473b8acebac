/* See signals.h.  The state is static because a handler has no argument. */
#include "cli/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

enum mode { MODE_IDLE, MODE_BUSY, MODE_PROMPT, MODE_FLAG };

static struct {
    volatile sig_atomic_t mode, pending, leaving, count;
    void (*volatile cancel)(void *);
    void *volatile arg;
    volatile int flag;
    struct timespec last;
    int pipe[2];
} sig;

static bool within_a_second(void)
{
    struct timespec now, last = sig.last;
    clock_gettime(CLOCK_MONOTONIC, &now); /* safe in a handler */
    sig.last = now;
    return last.tv_sec && (double)(now.tv_sec - last.tv_sec) + 1e-9 * (double)(now.tv_nsec - last.tv_nsec) < 1;
}

static void wake_prompt(char what)
{
    ssize_t n = write(sig.pipe[1], &what, 1); /* full: the prompt is awake anyway */
    (void)n;
}

static void on_stop_signal(int number)
{
    int saved = errno;
    bool again = within_a_second();
    sig.count = sig.count + 1;
    if (sig.mode == MODE_IDLE || (sig.mode != MODE_PROMPT && sig.count >= 3)) _exit(130);
    if (number != SIGINT || (again && sig.mode == MODE_BUSY)) sig.leaving = 1;
    sig.pending = 1;
    sig.flag = (int)sig.count;
    if (sig.mode == MODE_BUSY) sig.cancel(sig.arg);
    if (sig.mode == MODE_PROMPT) wake_prompt(number == SIGINT ? 'i' : 'l');
    errno = saved;
}

static void on_terminal_signal(int number)
{
    int saved = errno;
    /* a program may be stopped between two keys: the next wait for one must still put the terminal right */
    if (number == SIGCONT) wake_prompt('c');
    if (number == SIGWINCH && sig.mode == MODE_PROMPT) wake_prompt('w');
    errno = saved;
}

static void take(int number, void (*handler)(int), int flags)
{
    struct sigaction now, a = {.sa_handler = handler, .sa_flags = flags};
    sigemptyset(&a.sa_mask);
    if (sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_IGN && number != SIGPIPE)
        return; /* as with nohup */
    sigaction(number, &a, NULL);
}

void fm_signals_init(void)
{
    if (pipe2(sig.pipe, O_CLOEXEC | O_NONBLOCK) != 0) sig.pipe[0] = sig.pipe[1] = -1;
    take(SIGINT, on_stop_signal, SA_RESTART);
    take(SIGTERM, on_stop_signal, SA_RESTART);
    take(SIGHUP, on_stop_signal, SA_RESTART);
    take(SIGWINCH, on_terminal_signal, SA_RESTART);
    take(SIGCONT, on_terminal_signal, SA_RESTART);
}

bool fm_signals_busy(void (*cancel)(void *), void *arg)
{
    sig.cancel = cancel;
    sig.arg = arg;
    sig.pending = 0;
    sig.count = 0;
    sig.mode = MODE_BUSY;
    return !sig.leaving;
}

bool fm_signals_done(void)
{
    sig.mode = MODE_IDLE;
    return sig.pending;
}

bool fm_signals_pending(void) { return sig.pending; }

int fm_signals_prompt(void)
{
    sig.mode = MODE_PROMPT;
    return sig.pipe[0];
}

void fm_signals_prompt_done(void) { sig.mode = MODE_IDLE; }

bool fm_signals_leaving(void) { return sig.leaving; }

const volatile int *fm_signals_flag(void)
{
    sig.count = 0;
    sig.mode = MODE_FLAG;
    return &sig.flag;
}
