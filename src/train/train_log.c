/* See train_log.h. */
#include "train/train_log.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "file/write.h"

static const size_t MAX_LOG = (size_t)1 << 30;

/* ---- writing ---- */

static void add_number(struct fm_buf *b, const char *key, double v)
{
    if (isfinite(v))
        fm_buf_printf(b, ",\"%s\":%.9g", key, v);
    else
        fm_buf_printf(b, ",\"%s\":null", key);
}

static void add_loads(struct fm_buf *b, const struct fm_config *cfg, const int64_t *load)
{
    const int E = cfg->moe.router.E, n = cfg->L + cfg->n_mtp;
    if (!load || !E) {
        fm_buf_str(b, ",\"load\":null");
        return;
    }
    fm_buf_str(b, ",\"load\":[");
    for (int l = 0, first = 1; l < n; l++) {
        const int64_t *x = load + (size_t)l * (size_t)E;
        int64_t total = 0;
        if (!fm_layer_is_moe(cfg, l)) continue;
        for (int e = 0; e < E; e++) total += x[e];
        fm_buf_str(b, first ? "[" : ",[");
        first = 0;
        for (int e = 0; e < E; e++)
            fm_buf_printf(b, e ? ",%.3f" : "%.3f", total ? (double)x[e] * E / (double)total : 0);
        fm_buf_char(b, ']');
    }
    fm_buf_char(b, ']');
}

static enum fm_status append(struct fm_train_log_file *f, const char *p, size_t n, struct fm_error *err)
{
    while (n) {
        const ssize_t k = write(f->fd, p, n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return fm_fail(err, FM_ERR_DISK, "write log: %s: %s", f->path, strerror(k ? errno : ENOSPC));
        p += k;
        n -= (size_t)k;
    }
    return FM_OK;
}

enum fm_status fm_train_log_write(struct fm_train_log_file *f, const struct fm_train_log *l,
                                  const struct fm_config *cfg, const int64_t *load, struct fm_error *err)
{
    struct fm_buf b = {0};
    fm_buf_printf(&b, "{\"step\":%lld,\"steps_total\":%lld,\"tokens\":%lld", (long long)l->step,
                  (long long)l->steps_total, (long long)l->tokens);
    add_number(&b, "loss", l->loss);
    add_number(&b, "mtp_loss", l->mtp_loss);
    add_number(&b, "balance_loss", l->balance_loss);
    add_number(&b, "val_loss", l->val_loss);
    add_number(&b, "val_bpb", l->val_bits_per_byte);
    add_number(&b, "lr", l->lr);
    add_number(&b, "grad_norm", l->grad_norm);
    add_number(&b, "load_max", l->expert_load_max);
    add_number(&b, "load_min", l->expert_load_min);
    add_loads(&b, cfg, load);
    add_number(&b, "seconds", l->seconds);
    add_number(&b, "tokens_per_second", l->tokens_per_second);
    add_number(&b, "flops_per_second", l->flops_per_second);
    if (l->event)
        fm_buf_printf(&b, ",\"event\":\"%s\"}\n", l->event);
    else
        fm_buf_str(&b, ",\"event\":null}\n");
    enum fm_status st = b.failed ? fm_fail_memory(err, "log line", b.len) : append(f, b.data, b.len, err);
    fm_buf_release(&b);
    return st;
}

/* ---- going on with an old log ---- */

static json_t *parse_line(const char *p, size_t n)
{
    json_t *j = NULL;
    if (fm_json_parse(p, n, "log", &j, NULL)) return NULL;
    return j;
}

/* Copy the whole lines of steps up to keep into out. */
static void filter(const struct fm_buf *in, int64_t keep, struct fm_buf *out)
{
    for (size_t at = 0; at < in->len;) {
        const char *p = in->data + at, *end = memchr(p, '\n', in->len - at);
        if (!end) return;
        json_t *j = parse_line(p, (size_t)(end - p));
        if (j && fm_json_int(j, "step", INT64_MAX) <= keep) fm_buf_add(out, p, (size_t)(end - p) + 1);
        json_decref(j);
        at += (size_t)(end - p) + 1;
    }
}

static enum fm_status cut_log(const char *path, int64_t keep, struct fm_error *err)
{
    struct fm_buf in = {0}, out = {0};
    if (access(path, F_OK)) return FM_OK;
    enum fm_status st = fm_buf_read_file(&in, path, MAX_LOG, err);
    if (!st) {
        filter(&in, keep, &out);
        st =
            out.failed ? fm_fail_memory(err, path, in.len) : fm_write_file(path, out.len ? out.data : "", out.len, err);
    }
    fm_buf_release(&in);
    fm_buf_release(&out);
    return st;
}

enum fm_status fm_train_log_open(struct fm_train_log_file *f, const char *path, int64_t keep_step, struct fm_error *err)
{
    *f = (struct fm_train_log_file){.fd = -1};
    if (keep_step >= 0) FM_TRY(cut_log(path, keep_step, err));
    char *copy = fm_strdup(path);
    if (!copy) return fm_fail_memory(err, path, strlen(path));
    const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (keep_step < 0 ? O_TRUNC : 0), 0666);
    if (fd < 0) {
        fm_free(copy);
        return fm_fail(err, FM_ERR_DISK, "write log: %s: %s", path, strerror(errno));
    }
    *f = (struct fm_train_log_file){fd, copy};
    return FM_OK;
}

void fm_train_log_close(struct fm_train_log_file *f)
{
    if (f->path && f->fd >= 0) close(f->fd);
    fm_free(f->path);
    *f = (struct fm_train_log_file){.fd = -1};
}

bool fm_train_log_has_eval(const char *path, int64_t step)
{
    struct fm_buf in = {0};
    bool found = false;
    if (!fm_buf_read_file(&in, path, MAX_LOG, NULL))
        for (char *p = in.data, *end; p && !found && (end = memchr(p, '\n', in.len - (size_t)(p - in.data)));
             p = end + 1) {
            json_t *j = parse_line(p, (size_t)(end - p));
            found = j && fm_json_int(j, "step", -1) == step && strcmp(fm_json_str(j, "event", ""), "eval") == 0;
            json_decref(j);
        }
    fm_buf_release(&in);
    return found;
}

void fm_train_log_loads(const struct fm_config *cfg, const int64_t *load, double *max, double *min)
{
    const int E = cfg->moe.router.E;
    *max = *min = NAN;
    for (int l = 0; E && l < cfg->L + cfg->n_mtp; l++) {
        const int64_t *x = load + (size_t)l * (size_t)E;
        int64_t total = 0;
        for (int e = 0; e < E; e++) total += x[e];
        for (int e = 0; e < E && total; e++) {
            const double r = (double)x[e] * E / (double)total;
            if (!(*max >= r)) *max = r;
            if (!(*min <= r)) *min = r;
        }
    }
}
