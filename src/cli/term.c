/* See term.h. */
#include "cli/term.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/env.h"
#include "base/status.h"

static struct {
    bool quiet;
    bool line_open;    /* a progress line stands on the terminal, the cursor at its end */
    double next_plain; /* when the next progress line may go to a file */
    int write_errno;   /* first failure on standard output */
} term;

double fm_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- standard output ------------------------------------------------------------------------------------------- */

static bool remember_failure(void)
{
    if (!term.write_errno) term.write_errno = errno ? errno : EIO;
    return false;
}

bool fm_out(const void *bytes, size_t n)
{
    if (term.write_errno) return false;
    if (!n) return true;
    return fwrite(bytes, 1, n, stdout) == n ? true : remember_failure();
}

bool fm_out_flush(void)
{
    if (term.write_errno) return false;
    return fflush(stdout) == 0 ? true : remember_failure();
}

bool fm_out_closed(void) { return term.write_errno == EPIPE; }

enum fm_status fm_out_finish(struct fm_error *err)
{
    if (fm_out_flush() || fm_out_closed()) return FM_OK;
    return fm_fail(err, FM_ERR_DISK, "write the result: standard output: %s", strerror(term.write_errno));
}

/* ---- standard error -------------------------------------------------------------------------------------------- */

static bool is_smart(int fd)
{
    const char *name = fm_env("TERM");
    return isatty(fd) && name && strcmp(name, "dumb") != 0;
}

static bool colours(void) { return is_smart(2) && !fm_env("NO_COLOR"); }

const char *fm_dim(void) { return colours() ? "\033[2m" : ""; }

const char *fm_plain(void) { return colours() ? "\033[0m" : ""; }

int fm_term_width(void)
{
    struct winsize w;
    return ioctl(2, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

void fm_term_quiet(bool quiet) { term.quiet = quiet; }

bool fm_term_is_quiet(void) { return term.quiet; }

static void clear_line(void)
{
    if (term.line_open) fputs("\r\033[K", stderr);
    term.line_open = false;
}

void fm_note(const char *fmt, ...)
{
    if (term.quiet) return;
    va_list ap;
    va_start(ap, fmt);
    flockfile(stderr); /* a server's threads: lines stay whole */
    clear_line();
    fputs(fm_dim(), stderr);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "%s\n", fm_plain());
    funlockfile(stderr);
    va_end(ap);
}

bool fm_show_reasoning(const char *text, size_t n)
{
    if (!term.quiet) fprintf(stderr, "%s%.*s%s", fm_dim(), (int)n, text, fm_plain());
    return !term.quiet;
}

void fm_progress(const char *fmt, ...)
{
    bool smart = is_smart(2);
    if (term.quiet || (!smart && fm_clock() < term.next_plain)) return;
    term.next_plain = fm_clock() + 10;
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (!smart) {
        fprintf(stderr, "%s\n", line);
        return;
    }
    fprintf(stderr, "\r%.*s\033[K", fm_term_width() - 1, line);
    term.line_open = true;
}

void fm_progress_end(void)
{
    if (term.line_open) fputc('\n', stderr);
    term.line_open = false;
}

/* with_unit: bytes always have theirs */
static const char *count_text(const struct fm_bar *b, double n, bool with_unit, char buf[32])
{
    char bytes[16];
    if (!strcmp(b->unit, "B"))
        snprintf(buf, 32, "%s", fm_bytes_text((unsigned long long)n, bytes));
    else
        snprintf(buf, 32, n < 100 && n != (double)(long long)n ? "%.2f%s%s" : "%.0f%s%s", n, with_unit ? " " : "",
                 with_unit ? b->unit : "");
    return buf;
}

void fm_progress_bar(const struct fm_bar *b, unsigned long long done, const char *note)
{
    enum { WIDTH = 20 };
    static const char full[] = "####################", empty[] = "....................";
    const double seconds = fm_clock() - b->start, part = b->total ? (double)done / (double)b->total : 0;
    const double rate = seconds > 0 ? (double)(done - b->done0) / seconds : 0;
    const int n = part < 1 ? (int)(part * WIDTH) : WIDTH;
    char have[32], all[32], speed[32], eta[24], when[80] = "";
    if (rate > 0)
        snprintf(when, sizeof when, "  %s/s  ETA %s", count_text(b, rate, true, speed),
                 fm_time_text((double)(b->total - done) / rate, eta));
    fm_progress("%s [%.*s%.*s] %s of %s%s%s%s", b->what, n, full, WIDTH - n, empty,
                count_text(b, (double)done, false, have), count_text(b, (double)b->total, true, all), when,
                *note ? "  " : "", note);
}

void fm_print_failure(const struct fm_error *err)
{
    clear_line();
    fprintf(stderr, "fathom: %s\n", err->message);
    if (err->hint[0]) fprintf(stderr, "hint: %s\n", err->hint);
}

/* ---- texts ----------------------------------------------------------------------------------------------------- */

const char *fm_bytes_text(unsigned long long bytes, char buf[16])
{
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double x = (double)bytes;
    int u = 0;
    while (x >= 999.5 && u < 6) {
        x /= 1000;
        u++;
    }
    snprintf(buf, 16, "%.*f %s", u == 0 || x >= 99.95 ? 0 : x >= 9.995 ? 1 : 2, x, unit[u]);
    return buf;
}

const char *fm_time_text(double seconds, char buf[24])
{
    long long s = seconds > 0 && seconds < 1e12 ? (long long)(seconds + 0.5) : 0;
    if (s >= 3600)
        snprintf(buf, 24, "%lld:%02d:%02d", s / 3600, (int)(s / 60 % 60), (int)(s % 60));
    else
        snprintf(buf, 24, "%d:%02d", (int)(s / 60), (int)(s % 60));
    return buf;
}
