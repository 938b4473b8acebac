/* See line.h.  Line editing is libedit's; reading characters is ours, so that a signal ends the wait on every system
 * and UTF-8 works in any locale. */
#include "cli/line.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "base/env.h"
#include "base/mem.h"
#include "base/status.h"
#include "cli/signals.h"

enum { HISTORY_ENTRIES = 1000 };

struct fm_line {
    EditLine *edit; /* NULL: plain lines */
    HistoryW *history;
    char *history_path; /* NULL: no place for it */
    wchar_t prompt[16];
    bool interrupted, leave;
};

/* ---- history --------------------------------------------------------------------------------------------------- */

/* $XDG_STATE_HOME/fathom/history with its folders made; NULL when there is no home. */
static char *history_place(void)
{
    const char *state = fm_env("XDG_STATE_HOME"), *home = fm_env("HOME");
    if (!state && !home) return NULL;
    struct fm_buf b = {0};
    fm_buf_printf(&b, "%s%s/fathom", state ? state : home, state ? "" : "/.local/state");
    for (char *p = b.data ? strchr(b.data + 1, '/') : NULL; p; p = strchr(p + 1, '/')) {
        *p = 0;
        mkdir(b.data, 0700); /* exists already, or the file will fail to open */
        *p = '/';
    }
    if (b.data) mkdir(b.data, 0700);
    fm_buf_str(&b, "/history");
    if (!b.failed) return b.data;
    fm_buf_release(&b);
    return NULL;
}

static void history_start(struct fm_line *l)
{
    HistEventW ev;
    l->history = history_winit();
    if (!l->history) return;
    history_w(l->history, &ev, H_SETSIZE, HISTORY_ENTRIES);
    history_w(l->history, &ev, H_SETUNIQUE, 1);
    el_wset(l->edit, EL_HIST, history_w, l->history);
    l->history_path = history_place();
    if (!l->history_path) return;
    int fd = open(l->history_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && fchmod(fd, 0600) == 0) history_w(l->history, &ev, H_LOAD, l->history_path);
    if (fd >= 0) close(fd);
}

static void history_add(struct fm_line *l, const wchar_t *line, size_t n)
{
    HistEventW ev;
    wchar_t *entry = l->history && n ? fm_malloc((n + 1) * sizeof *entry) : NULL;
    if (!entry) return;
    wmemcpy(entry, line, n);
    entry[n] = 0;
    history_w(l->history, &ev, H_ENTER, entry);
    if (l->history_path) history_w(l->history, &ev, H_SAVE, l->history_path); /* keeps the file's mode */
    fm_free(entry);
}

/* ---- editing --------------------------------------------------------------------------------------------------- */

static wchar_t *show_prompt(EditLine *edit)
{
    struct fm_line *l;
    el_wget(edit, EL_CLIENTDATA, &l);
    return l->prompt;
}

static bool line_is_empty(EditLine *edit)
{
    const LineInfoW *info = el_wline(edit);
    return info->lastchar == info->buffer;
}

/* A byte from the signal handler. False: stop reading this line. */
static bool on_wake(struct fm_line *l, char what)
{
    if (what == 'w') el_resize(l->edit);
    if (what == 'c') {
        el_set(l->edit, EL_PREP_TERM, 0); /* else libedit believes the terminal still raw; the shell has changed it */
        el_set(l->edit, EL_PREP_TERM, 1);
        el_set(l->edit, EL_REFRESH);
    }
    if (what == 'i') l->leave = line_is_empty(l->edit);
    if (what == 'l') l->leave = true;
    if (what == 'i' || what == 'l') l->interrupted = true;
    return !l->interrupted;
}

/* Wait for a byte of input while answering signals: 1 read, 0 end of input, -1 interrupted or failed. */
static int read_byte(struct fm_line *l, int wake, char *byte)
{
    for (;;) {
        struct pollfd p[2] = {{.fd = 0, .events = POLLIN}, {.fd = wake, .events = POLLIN}};
        if (poll(p, 2, -1) < 0 && errno != EINTR) return -1;
        char what;
        if (wake >= 0 && (p[1].revents & POLLIN) && read(wake, &what, 1) == 1 && !on_wake(l, what)) return -1;
        if (!p[0].revents) continue;
        ssize_t n = read(0, byte, 1);
        if (n >= 0) return (int)n;
        if (errno != EINTR && errno != EAGAIN) return -1;
    }
}

/* libedit's character source: one code point of UTF-8. */
static int read_char(EditLine *edit, wchar_t *out)
{
    struct fm_line *l;
    el_wget(edit, EL_CLIENTDATA, &l);
    int wake = fm_signals_prompt(), got;
    char s[4];
    int n = 0, used = 1;
    int32_t c = -1;
    do {
        got = read_byte(l, wake, &s[n]);
        if (got == 1) c = fm_utf8_decode(s, (size_t)++n, &used);
    } while (got == 1 && c < 0 && n < 4 && (unsigned char)s[0] >= 0xC2);
    fm_signals_prompt_done();
    if (got == 1) *out = c < 0 ? 0xFFFD : (wchar_t)c;
    return got;
}

static enum fm_line_end read_edited(struct fm_line *l, const char *prompt, struct fm_buf *text)
{
    int n = 0;
    swprintf(l->prompt, sizeof l->prompt / sizeof *l->prompt, L"%s", prompt);
    for (;;) {
        l->interrupted = l->leave = false;
        const wchar_t *line = el_wgets(l->edit, &n);
        if (l->interrupted) {
            el_reset(l->edit);
            fputc('\n', stderr);
            if (l->leave) return FM_LINE_INTERRUPT;
            continue;
        }
        if (!line || n <= 0) return FM_LINE_EOF;
        if (line[n - 1] == L'\n') n--;
        history_add(l, line, (size_t)n);
        for (int i = 0; i < n; i++) fm_buf_utf8(text, (uint32_t)line[i]);
        return FM_LINE_READ;
    }
}

static bool edit_start(struct fm_line *l)
{
    l->edit = el_init("fathom", stdin, stderr, stderr);
    if (!l->edit) return false;
    el_wset(l->edit, EL_CLIENTDATA, l);
    el_wset(l->edit, EL_PROMPT, show_prompt);
    el_wset(l->edit, EL_EDITOR, L"emacs");
    el_wset(l->edit, EL_SIGNAL, 0);
    el_wset(l->edit, EL_GETCFN, read_char);
    el_wset(l->edit, EL_BIND, L"^R", L"em-inc-search-prev", NULL);
    el_source(l->edit, NULL); /* the user's ~/.editrc */
    history_start(l);
    return true;
}

/* ---- both ------------------------------------------------------------------------------------------------------ */

enum fm_status fm_line_new(struct fm_line **out, struct fm_error *err)
{
    struct fm_line *l = fm_calloc(1, sizeof *l);
    if (!l) return fm_fail_memory(err, "line editor", sizeof *l);
    if (isatty(0) && isatty(2) && !edit_start(l)) {
        fm_free(l);
        return fm_fail(err, FM_ERR_FAILED, "start the line editor: terminal: libedit refuses it");
    }
    *out = l;
    return FM_OK;
}

void fm_line_free(struct fm_line *l)
{
    if (!l) return;
    if (l->edit) el_end(l->edit);
    if (l->history) history_wend(l->history);
    fm_free(l->history_path);
    fm_free(l);
}

bool fm_line_is_terminal(const struct fm_line *l) { return l->edit != NULL; }

static enum fm_line_end read_plain(struct fm_buf *text)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n = getline(&line, &room, stdin);
    if (n > 0 && line[n - 1] == '\n') n--;
    if (n > 0) fm_buf_add(text, line, (size_t)n);
    free(line);
    return n < 0 ? FM_LINE_EOF : FM_LINE_READ;
}

enum fm_line_end fm_line_read(struct fm_line *l, const char *prompt, struct fm_buf *text)
{
    fm_buf_clear(text);
    return l->edit ? read_edited(l, prompt, text) : read_plain(text);
}
