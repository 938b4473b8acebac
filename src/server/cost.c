/* See cost.h. */
#include "server/cost.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

void fm_put_cost(const struct fm_server *s, struct fm_buf *b, const struct fm_answer_tokens *t)
{
    const struct fm_prices *p = &s->o->prices;
    if (p->set)
        fm_buf_printf(b, ",\"cost\":%.9g",
                      1e-6 * ((t->prompt - t->cached) * p->in + t->cached * p->hit + t->answer * p->out));
    if (fm_scheduler_has_joules(s->scheduler)) fm_buf_printf(b, ",\"joules\":%.6g", t->joules);
}

enum fm_status fm_ledger_open(const struct fm_serve_options *o, int *fd, struct fm_error *err)
{
    *fd = -1;
    if (!o->ledger) return FM_OK;
    *fd = open(o->ledger, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    return *fd >= 0 ? FM_OK : fm_fail(err, FM_ERR_DISK, "open ledger: %s: %m", o->ledger);
}

void fm_ledger_note(struct fm_server *s, const struct fm_web_request *r, const struct fm_answer_tokens *t)
{
    const int key = fm_web_mark(r);
    const time_t now = time(NULL);
    struct fm_buf b = {0};
    struct tm tm;
    char at[32];
    if (s->ledger < 0) return;
    (void)gmtime_r(&now, &tm);
    (void)strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%SZ", &tm);
    fm_buf_printf(&b, "{\"time\":\"%s\",\"id\":\"%s\",\"key\":", at, fm_web_id(r));
    fm_put_str(&b, key >= 0 ? fm_keys_name(s->keys, key) : "");
    fm_buf_str(&b, ",\"path\":");
    fm_put_str(&b, fm_web_path(r));
    fm_buf_str(&b, ",\"model\":");
    fm_put_str(&b, s->name);
    fm_buf_printf(&b, ",\"prompt_tokens\":%d,\"cached_tokens\":%d,\"answer_tokens\":%d,\"seconds\":%.3f", t->prompt,
                  t->cached, t->answer, fm_seconds() - fm_web_started(r));
    fm_put_cost(s, &b, t);
    fm_buf_str(&b, "}\n");
    if (b.failed || write(s->ledger, b.data, b.len) != (ssize_t)b.len)
        fm_log(FM_LOG_ERROR, "serve: ledger: a line is missing: %m");
    fm_buf_release(&b);
}
