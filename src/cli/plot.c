/* See plot.h.  The log becomes rows of numbers, the rows become data blocks of a gnuplot script:
 *
 *   loss, smoothed loss, validation ┐
 *   learning rate                   ├ one panel each over the same axis of steps; a panel without data is left out
 *   gradient norm                   │
 *   expert load, max and min        ┘
 *
 * gnuplot does not notice a full disk: it draws into memory, and the copying is ours. */
#include "cli/plot.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/env.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"
#include "cli/term.h"

enum { LOG_MAX = 1 << 30 }; /* bytes, as the trainer */
enum column { LOSS, SMOOTH, VAL, LR, GRAD, LOAD_MAX, LOAD_MIN, N_COLUMNS };

struct row {
    double step, v[N_COLUMNS]; /* NaN: this line has none */
};

struct rows {
    struct row *row;
    size_t n, room;
    size_t count[N_COLUMNS]; /* values that are numbers */
};

/* ---- reading --------------------------------------------------------------------------------------------------- */

static bool add_row(struct rows *r, const struct row *row)
{
    if (r->n == r->room) {
        size_t room = r->room ? r->room * 2 : 256;
        struct row *p = fm_realloc(r->row, room * sizeof *p);
        if (!p) return false;
        r->row = p;
        r->room = room;
    }
    r->row[r->n++] = *row;
    for (int c = 0; c < N_COLUMNS; c++) r->count[c] += !isnan(row->v[c]);
    return true;
}

static enum fm_status read_line(struct rows *r, const char *path, size_t number, const char *line, size_t n,
                                struct fm_error *err)
{
    static const char *const key[N_COLUMNS] = {"loss", NULL, "val_loss", "lr", "grad_norm", "load_max", "load_min"};
    struct fm_error why;
    json_t *o = NULL;
    if (fm_json_parse(line, n, path, &o, &why)) {
        const char *detail = strrchr(why.message, ':');
        return fm_fail(err, FM_ERR_INPUT, "read log: %s, line %zu:%.200s", path, number,
                       detail ? detail + 1 : " no JSON");
    }
    struct row row = {.step = fm_json_num(o, "step", NAN)};
    bool event =
        json_is_string(json_object_get(o, "event")); /* "eval", "save", …: the numbers of the line before again, … */
    for (int c = 0; c < N_COLUMNS; c++) row.v[c] = key[c] ? fm_json_num(o, key[c], NAN) : NAN;
    json_decref(o);
    if (!(row.step >= 0)) return fm_fail(err, FM_ERR_INPUT, "read log: %s, line %zu: it has no step", path, number);
    for (int c = 0; c < N_COLUMNS && event; c++)
        if (c != VAL) row.v[c] = NAN; /* … and perhaps a validation */
    if (event && isnan(row.v[VAL])) return FM_OK;
    return add_row(r, &row) ? FM_OK : fm_fail_memory(err, path, r->n * sizeof row);
}

static bool is_empty(const char *line, size_t n)
{
    while (n && strchr(" \t\r", line[n - 1])) n--;
    return !n;
}

/* The mean of the losses around each one makes the course visible under the noise.  Over the steep start the window shrinks,
 * so that it stays centred and does not lag; at the flat end it only looks back, else the curve would end in noise. */
static void smooth(struct rows *r)
{
    size_t widest = r->count[LOSS] / 40;
    if (!widest) return;
    for (size_t i = 0; i < r->n; i++) {
        size_t before = i < widest ? i : widest, after = before < r->n - 1 - i ? before : r->n - 1 - i, k = 0;
        double sum = 0;
        if (isnan(r->row[i].v[LOSS])) continue;
        for (size_t j = i - before; j <= i + after; j++)
            if (!isnan(r->row[j].v[LOSS])) {
                sum += r->row[j].v[LOSS];
                k++;
            }
        if (k) r->row[i].v[SMOOTH] = sum / (double)k;
        r->count[SMOOTH] += k > 0;
    }
}

static enum fm_status read_log(struct rows *r, const char *path, struct fm_error *err)
{
    struct fm_buf text = {0};
    enum fm_status st = fm_buf_read_file(&text, path, LOG_MAX, err);
    const char *p = text.data, *end = p ? p + text.len : NULL;
    for (size_t number = 1; !st && p < end; number++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((stop ? stop : end) - p);
        if (!is_empty(p, n)) st = read_line(r, path, number, p, n, err);
        p += n + 1;
    }
    fm_buf_release(&text);
    if (!st && !r->n) st = fm_fail(err, FM_ERR_INPUT, "read log: %s: no losses in it", path);
    smooth(r);
    return st;
}

/* ---- the script ------------------------------------------------------------------------------------------------ */

static const struct curve {
    enum column column;
    const char *title, *colour;
    int width;
} curves[] = {
    {LOSS, "loss", "#b8cbe0", 1},
    {SMOOTH, "smoothed", "#1f5fa8", 2},
    {VAL, "validation", "#d1495b", 2},
    {LR, "learning rate", "#2a7f62", 2},
    {GRAD, "gradient norm", "#8a6d3b", 1},
    {LOAD_MAX, "busiest expert", "#d1495b", 1},
    {LOAD_MIN, "idlest expert", "#1f5fa8", 1},
};
enum { N_CURVES = sizeof curves / sizeof *curves };

static const struct panel {
    const char *label;
    int first, last; /* in curves[] */
    double weight;   /* share of the height */
} panels[] = {
    {"loss (nats per token)", 0, 2, 2},
    {"learning rate", 3, 3, 0.8},
    {"gradient norm", 4, 4, 1},
    {"expert load / mean", 5, 6, 1.2},
};
enum { N_PANELS = sizeof panels / sizeof *panels };

static bool has_data(const struct rows *r, const struct panel *p)
{
    for (int c = p->first; c <= p->last; c++)
        if (r->count[curves[c].column]) return true;
    return false;
}

static void add_data(struct fm_buf *s, const struct rows *r)
{
    for (int c = 0; c < N_CURVES; c++) {
        enum column k = curves[c].column;
        if (!r->count[k]) continue;
        fm_buf_printf(s, "$c%d << EOD\n", c);
        for (size_t i = 0; i < r->n; i++)
            if (!isnan(r->row[i].v[k])) fm_buf_printf(s, "%.15g %.9g\n", r->row[i].step, r->row[i].v[k]);
        fm_buf_str(s, "EOD\n");
    }
}

static void add_terminal(struct fm_buf *s, const char *kind)
{
    if (!strcmp(kind, "svg"))
        fm_buf_str(s, "set terminal svg size 900,1000 dynamic font 'sans-serif,13' background 'white'\n");
    else if (!strcmp(kind, "png"))
        fm_buf_str(s, "set terminal pngcairo size 1350,1500 font 'sans,15' background 'white' linewidth 1.5\n");
    else
        fm_buf_printf(s, "set terminal dumb size %d,60 noenhanced\n", fm_term_width() < 200 ? fm_term_width() : 200);
}

/* Steps of one line may be apart far or near: the axis is that of the whole log. */
static void add_axes(struct fm_buf *s, const struct rows *r)
{
    double low = r->row[0].step, high = low;
    for (size_t i = 0; i < r->n; i++) {
        if (r->row[i].step < low) low = r->row[i].step;
        if (r->row[i].step > high) high = r->row[i].step;
    }
    if (high == low) {
        low -= 0.5;
        high += 0.5;
    }
    fm_buf_printf(s, "set xrange [%.15g:%.15g]\nset xtics %s nomirror\n", low, high, high - low < 8 ? "1" : "autofreq");
    fm_buf_str(s, "set ytics nomirror\nset border 3 lc rgb '#666666'\n");
    fm_buf_str(s, "set tics textcolor rgb '#333333'\n");
}

struct range {
    double low, high;
};

static struct range range_of(const struct rows *r, const struct panel *p)
{
    struct range y = {HUGE_VAL, -HUGE_VAL};
    for (size_t i = 0; i < r->n; i++)
        for (int c = p->first; c <= p->last; c++) {
            double x = r->row[i].v[curves[c].column];
            if (x < y.low) y.low = x;
            if (x > y.high) y.high = x;
        }
    return y;
}

/* A loss fits its axis with a little room; one that falls to less than half, and a gradient with peaks, are on a logarithmic
 * axis with tics that tell more than powers of ten.  Everything else begins at zero. */
static void add_y_axis(struct fm_buf *s, const struct rows *r, const struct panel *p)
{
    static const char losses[] = "0.2,0.3,0.5,0.7,1,1.5,2,2.5,3,4,5,6,8,10,12,15,20";
    static const char norms[] = "0.01,0.02,0.05,0.1,0.2,0.5,1,2,5,10,20,50,100,200,500,1000,2000,5000";
    struct range y = range_of(r, p);
    bool loss = p->first == LOSS;
    double room = y.high > y.low ? 0.05 * (y.high - y.low) : y.high > 0 ? 0.05 * y.high : 1;
    if (y.low > 0 && y.high > (loss ? 2 : 10) * y.low && (loss || curves[p->first].column == GRAD)) {
        fm_buf_printf(s, "set logscale y\nset ytics (%s) nomirror\n", loss ? losses : norms);
        fm_buf_printf(s, "set yrange [%.9g:%.9g]\n", y.low * 0.95, y.high * 1.05);
        return;
    }
    fm_buf_str(s, "unset logscale y\nset ytics autofreq nomirror\n");
    if (loss)
        fm_buf_printf(s, "set yrange [%.9g:%.9g]\n", y.low - room, y.high + room);
    else
        fm_buf_printf(s, "set yrange [%.9g:%.9g]\n", y.low < 0 ? y.low * 1.05 : 0, y.high > 0 ? y.high * 1.05 : 1);
}

struct frame {
    double top, bottom; /* screen coordinates */
    bool last, text;    /* text: characters have no room for a label at the side, the key says it */
};

/* Few losses, which are not smoothed, are drawn as if they were; a single value is a point. */
static void add_curve(struct fm_buf *s, const struct rows *r, int c)
{
    const struct curve *k = &curves[c], *look = k->column == LOSS && !r->count[SMOOTH] ? &curves[1] : k;
    const char *with = k->column == VAL ? "linespoints pt 7 ps 0.5" : "lines";
    if (r->count[k->column] == 1) with = "points pt 7 ps 0.7";
    fm_buf_printf(s, "$c%d using 1:2 title '%s' with %s lc rgb '%s' lw %d", c, k->title, with, look->colour,
                  look->width);
}

static void add_panel(struct fm_buf *s, const struct rows *r, const struct panel *p, struct frame f)
{
    const char *sep = "plot ";
    fm_buf_printf(s, "set tmargin at screen %.4f\nset bmargin at screen %.4f\n", f.top, f.bottom);
    add_y_axis(s, r, p);
    fm_buf_printf(s, "set label 1 '%s' at screen 0.02,%.4f center rotate\n", p->label, (f.top + f.bottom) / 2);
    fm_buf_str(s, f.last ? "set format x '%.0f'\nset xlabel 'step'\n" : "set format x ''\nunset xlabel\n");
    if (p->first == p->last && !f.text)
        fm_buf_str(s, "unset key\n");
    else /* above the panel, where no curve is */
        fm_buf_printf(s, "set key at screen 0.97,%.4f right bottom horizontal noopaque samplen 2\n", f.top + 0.003);
    for (int c = p->first; c <= p->last; c++)
        if (r->count[curves[c].column]) {
            fm_buf_str(s, sep);
            add_curve(s, r, c);
            sep = ", ";
        }
    fm_buf_str(s, "\n");
}

static void add_script(struct fm_buf *s, const struct rows *r, const char *kind)
{
    bool text = !strcmp(kind, "dumb");
    double weight = 0, top = 0.965, bottom = 0.065, room = top - bottom, gap = 0.03;
    int last = -1;
    for (int i = 0; i < N_PANELS; i++)
        if (has_data(r, &panels[i])) {
            weight += panels[i].weight;
            last = i;
        }
    add_terminal(s, kind);
    add_data(s, r);
    add_axes(s, r);
    if (!text) fm_buf_str(s, "set grid lc rgb '#e4e4e4' lt 1\n");
    fm_buf_str(s, "set lmargin at screen 0.11\nset rmargin at screen 0.97\nset multiplot\n");
    for (int i = 0; i <= last; i++) {
        if (!has_data(r, &panels[i])) continue;
        double next = top - room * panels[i].weight / weight;
        add_panel(s, r, &panels[i], (struct frame){top, i == last ? bottom : next + gap, i == last, text});
        top = next;
    }
    fm_buf_str(s, "unset multiplot\n");
}

/* ---- gnuplot --------------------------------------------------------------------------------------------------- */

bool fm_plot_available(void)
{
    const char *path = fm_env("PATH");
    char file[4096];
    while (path) {
        int n = (int)strcspn(path, ":");
        snprintf(file, sizeof file, "%.*s/gnuplot", n, path);
        if (n && access(file, X_OK) == 0) return true;
        path = path[n] ? path + n + 1 : NULL;
    }
    return false;
}

static bool write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

/* Start gnuplot with its input from in_fd and its output to out_fd. */
static enum fm_status start_gnuplot(int in_fd, int out_fd, pid_t *pid, struct fm_error *err)
{
    static char name[] = "gnuplot", option[] = "-d"; /* -d: without the user's settings */
    char *argv[] = {name, option, NULL};
    extern char **environ;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in_fd, 0);
    posix_spawn_file_actions_adddup2(&actions, out_fd, 1);
    int failed = posix_spawnp(pid, "gnuplot", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (!failed) return FM_OK;
    fm_fail(err, FM_ERR_FAILED, "start gnuplot: gnuplot: %s", strerror(failed));
    fm_hint(err, "plots need the program gnuplot (Debian: gnuplot-nox)");
    return FM_ERR_FAILED;
}

static enum fm_status wait_for(pid_t pid, struct fm_error *err)
{
    int how = 0;
    while (waitpid(pid, &how, 0) < 0 && errno == EINTR) continue;
    if (WIFEXITED(how) && WEXITSTATUS(how) == 0) return FM_OK;
    return fm_fail(err, FM_ERR_FAILED, "draw the log: gnuplot: it ended with code %d",
                   WIFEXITED(how) ? WEXITSTATUS(how) : -1);
}

static enum fm_status read_back(int fd, struct fm_buf *picture, struct fm_error *err)
{
    char chunk[65536];
    ssize_t n;
    off_t at = 0;
    for (; (n = pread(fd, chunk, sizeof chunk, at)) > 0; at += n) fm_buf_add(picture, chunk, (size_t)n);
    if (picture->failed) return fm_fail_memory(err, "the plot", (unsigned long long)at);
    return picture->len ? FM_OK : fm_fail(err, FM_ERR_FAILED, "draw the log: gnuplot: it drew nothing");
}

/* The script's drawing into picture. */
static enum fm_status run_gnuplot(const struct fm_buf *script, struct fm_buf *picture, struct fm_error *err)
{
    pid_t pid;
    enum fm_status st = FM_OK;
    int in = memfd_create("script", MFD_CLOEXEC), out = memfd_create("picture", MFD_CLOEXEC);
    if (in < 0 || out < 0 || !write_all(in, script->data, script->len) || lseek(in, 0, SEEK_SET) != 0)
        st = fm_fail(err, FM_ERR_FAILED, "start gnuplot: files in memory: %s", strerror(errno));
    if (!st) st = start_gnuplot(in, out, &pid, err);
    if (!st) st = wait_for(pid, err);
    if (!st) st = read_back(out, picture, err);
    if (in >= 0) close(in);
    if (out >= 0) close(out);
    return st;
}

/* Into a file beside the wanted one, then rename. */
static enum fm_status write_file(const struct fm_buf *picture, const char *path, struct fm_error *err)
{
    struct fm_buf part = {0};
    fm_buf_printf(&part, "%s.part", path);
    if (part.failed) return fm_fail_memory(err, path, strlen(path));
    int fd = open(part.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool done = fd >= 0 && write_all(fd, picture->data, picture->len);
    int why = errno;
    if (fd >= 0) done = close(fd) == 0 && done;
    if (done) {
        done = rename(part.data, path) == 0;
        why = errno;
    }
    if (!done && fd >= 0) unlink(part.data);
    fm_buf_release(&part);
    return done ? FM_OK : fm_fail(err, FM_ERR_DISK, "write the plot: %s: %s", path, strerror(why));
}

enum fm_status fm_plot(const char *log_path, const char *kind, const char *out_path, struct fm_error *err)
{
    struct rows r = {0};
    struct fm_buf script = {0}, picture = {0};
    enum fm_status st;
    FM_GOTO(read_log(&r, log_path, err));
    add_script(&script, &r, kind);
    if (script.failed) FM_GOTO(fm_fail_memory(err, "gnuplot script", script.len));
    FM_GOTO(run_gnuplot(&script, &picture, err));
    if (out_path)
        st = write_file(&picture, out_path, err);
    else
        fm_out(picture.data, picture.len);
out:
    fm_buf_release(&script);
    fm_buf_release(&picture);
    fm_free(r.row);
    return st;
}
