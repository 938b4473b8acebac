/* Results of an evaluation, a JSON line per item behind one that says what they are results of:
 *
 *   {"fathom_eval":1,"model":"…","set":"…","settings":"…"}
 *   {"item":3,"gold":1,"picked":1,"picked_norm":0,"loglik":[…],"right":true,"right_norm":false}
 *   {"item":4,"answer":"…","found":"18","gold":["18"],"tokens":52,"cut":false,"right":true}
 *
 * A line is written at once when its item is done; half a line at the end, of a run that was killed, is cut off. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/map.h"
#include "run/evaluate.h"
#include "run/fingerprint.h"

static enum fm_status disk(const struct fm_eval *v, struct fm_error *err)
{
    return fm_fail(err, FM_ERR_DISK, "write results: %s: %s", v->o.out, strerror(errno));
}

/* Everything that decides an item's result: texts as fingerprints. */
static void head_line(struct fm_eval *v)
{
    uint64_t texts = FM_FINGERPRINT_START;
    texts = fm_fingerprint_str(texts, v->o.pattern ? v->o.pattern : "");
    for (int i = 0; i < v->o.n_stop; i++) texts = fm_fingerprint_str(texts, v->o.stop[i]);
    fm_buf_clear(&v->line);
    fm_buf_printf(&v->line, "{\"fathom_eval\":1,\"model\":\"%016" PRIx64 "\",\"set\":\"%016" PRIx64 "\",",
                  fm_fingerprint_weights(v->e->file), v->set.fingerprint);
    fm_buf_printf(&v->line,
                  "\"settings\":\"%s %s, shots %d from %016" PRIx64 " seed %" PRIu64 ", %s %s %016" PRIx64
                  ", %d tokens\"}",
                  fm_engine_tier(v->e),
                  v->e->plan.exact           ? "exact"
                  : v->e->plan.deterministic ? "deterministic"
                                             : "fast",
                  v->o.shots, v->examples.fingerprint, v->o.shots ? v->o.seed : 0, v->chat ? "chat" : "raw",
                  fm_match_names[v->match], texts, v->o.max_tokens);
}

enum fm_status fm_eval_out_add(struct fm_eval *v, struct fm_error *err)
{
    fm_buf_char(&v->line, '\n');
    if (v->line.failed) return fm_fail_memory(err, "a result", v->line.len);
    if (v->fd < 0) return FM_OK;
    for (size_t at = 0; at < v->line.len;) {
        const ssize_t k = write(v->fd, v->line.data + at, v->line.len - at);
        if (k < 0 && errno == EINTR) continue;
        if (k == 0) errno = ENOSPC;
        if (k <= 0) return disk(v, err);
        at += (size_t)k;
    }
    return FM_OK;
}

static enum fm_status take_row(struct fm_eval *v, const char *text, size_t n, int line, struct fm_error *err)
{
    json_t *j = NULL;
    FM_TRY(fm_json_parse(text, n, v->o.out, &j, err));
    const int64_t item = fm_json_int(j, "item", 0);
    const bool known = item >= 1 && item <= v->set.n && json_is_boolean(json_object_get(j, "right"));
    if (known)
        v->rows[item - 1] = (struct fm_eval_row){.done = true,
                                                 .right = fm_json_bool(j, "right", false),
                                                 .right_norm = fm_json_bool(j, "right_norm", false),
                                                 .cut = fm_json_bool(j, "cut", false)};
    json_decref(j);
    if (known) return FM_OK;
    return fm_fail(err, FM_ERR_INPUT, "go on from results: %s:%d: it is no result of this set", v->o.out, line);
}

/* The whole lines of m; *used: where they end. */
static enum fm_status take_lines(struct fm_eval *v, const struct fm_map *m, size_t *used, struct fm_error *err)
{
    const char *text = (const char *)m->data;
    int line = 0;
    for (*used = 0; *used < m->size;) {
        const char *nl = memchr(text + *used, '\n', m->size - *used);
        if (!nl) break;
        const size_t n = (size_t)(nl - text) - *used;
        if (++line > 1)
            FM_TRY(take_row(v, text + *used, n, line, err));
        else if (n != v->line.len || memcmp(text, v->line.data, n) != 0) {
            (void)fm_fail(err, FM_ERR_INPUT, "go on from results: %s: they are of another model, set or setting",
                          v->o.out);
            fm_hint(err, "remove it to begin anew, or name another one");
            return FM_ERR_INPUT;
        }
        *used += n + 1;
    }
    return FM_OK;
}

enum fm_status fm_eval_out_open(struct fm_eval *v, struct fm_error *err)
{
    struct fm_map m;
    struct stat s;
    size_t used = 0;
    v->fd = open(v->o.out, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (v->fd < 0 || fstat(v->fd, &s)) return disk(v, err);
    if (!S_ISREG(s.st_mode)) return fm_fail(err, FM_ERR_USAGE, "write results: %s: it is no plain file", v->o.out);
    if (flock(v->fd, LOCK_EX | LOCK_NB))
        return fm_fail(err, FM_ERR_FAILED, "write results: %s: another evaluation is writing it", v->o.out);
    head_line(v);
    if (v->line.failed) return fm_fail_memory(err, "a result", v->line.len);
    if (s.st_size) {
        FM_TRY(fm_map_open(&m, v->o.out, err));
        const enum fm_status st = take_lines(v, &m, &used, err);
        fm_map_close(&m);
        if (st) return st;
    }
    if ((size_t)s.st_size > used && ftruncate(v->fd, (off_t)used)) return disk(v, err);
    return used ? FM_OK : fm_eval_out_add(v, err);
}
