/* What a run leaves behind so that another goes on from there:
 *
 *   "fmjudge1" | struct fm_judge_key | done u32, 0 u32 | struct fm_tally | kld f64 [n] | p_diff f64 [n] | fingerprint of all that
 *
 * n: positions done, or 0 when nothing is compared.  Little-endian, for the machine that wrote it. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/map.h"
#include "file/replace.h"
#include "run/fingerprint.h"
#include "run/judge.h"

static const char MAGIC[8] = {'f', 'm', 'j', 'u', 'd', 'g', 'e', '1'};

struct front {
    char magic[8];
    struct fm_judge_key key;
    uint32_t done, zero;
    struct fm_tally tally;
};

static uint64_t n_values(const struct fm_judge *j, uint32_t done)
{
    return j->compares ? fm_judge_positions(j, (int)done) : 0;
}

enum fm_status fm_judge_state_save(const struct fm_judge *j, struct fm_error *err)
{
    struct fm_replace r;
    struct front f;
    memset(&f, 0, sizeof f); /* padding, too */
    memcpy(f.magic, MAGIC, sizeof MAGIC);
    f.key = j->key;
    f.done = (uint32_t)j->done;
    f.tally = j->tally;
    const size_t n = n_values(j, f.done) * sizeof(double);
    uint64_t sum = fm_fingerprint(FM_FINGERPRINT_START, &f, sizeof f);
    sum = fm_fingerprint(sum, j->kld, n);
    sum = fm_fingerprint(sum, j->diff, n);
    FM_TRY(fm_replace_open(&r, "write state", j->state_path, err));
    enum fm_status st = fm_replace_write(&r, &f, sizeof f, err);
    if (!st) st = fm_replace_write(&r, j->kld, n, err);
    if (!st) st = fm_replace_write(&r, j->diff, n, err);
    if (!st) st = fm_replace_write(&r, &sum, sizeof sum, err);
    if (!st) return fm_replace_commit(&r, err);
    fm_replace_abort(&r);
    return st;
}

static enum fm_status other(const struct fm_judge *j, const char *what, struct fm_error *err)
{
    (void)fm_fail(err, FM_ERR_INPUT, "go on from state: %s: it belongs to %s", j->state_path, what);
    fm_hint(err, "remove it to begin anew, or name another one");
    return FM_ERR_INPUT;
}

static enum fm_status check_key(const struct fm_judge *j, const struct fm_judge_key *k, struct fm_error *err)
{
    const struct fm_judge_key *mine = &j->key;
    if (k->model != mine->model) return other(j, "another model", err);
    if (k->base != mine->base) return other(j, "another comparison", err);
    if (k->ctx != mine->ctx) return other(j, "windows of another length", err);
    if (k->chunks != mine->chunks) return other(j, "another number of chunks", err);
    if (k->text != mine->text) return other(j, "another text", err);
    if (memcmp(k->settings, mine->settings, sizeof k->settings) != 0) return other(j, "other arithmetic", err);
    return FM_OK;
}

static enum fm_status damaged(const struct fm_judge *j, struct fm_error *err)
{
    (void)fm_fail(err, FM_ERR_INPUT, "go on from state: %s: it is no state file, or damaged", j->state_path);
    fm_hint(err, "remove it to begin anew, or name another one");
    return FM_ERR_INPUT;
}

static enum fm_status take(struct fm_judge *j, const struct fm_map *m, struct fm_error *err)
{
    struct front f;
    uint64_t sum;
    if (m->size < sizeof f + sizeof sum) return damaged(j, err);
    memcpy(&f, m->data, sizeof f);
    memcpy(&sum, m->data + m->size - sizeof sum, sizeof sum);
    if (memcmp(f.magic, MAGIC, sizeof MAGIC) != 0 ||
        sum != fm_fingerprint(FM_FINGERPRINT_START, m->data, m->size - sizeof sum))
        return damaged(j, err);
    FM_TRY(check_key(j, &f.key, err));
    const size_t n = n_values(j, f.done) * sizeof(double);
    if (f.done > (uint32_t)j->total || m->size != sizeof f + 2 * n + sizeof sum ||
        f.tally.n != fm_judge_positions(j, (int)f.done))
        return damaged(j, err);
    if (n) memcpy(j->kld, m->data + sizeof f, n);
    if (n) memcpy(j->diff, m->data + sizeof f + n, n);
    j->tally = f.tally;
    j->done = (int)f.done;
    return FM_OK;
}

enum fm_status fm_judge_state_load(struct fm_judge *j, struct fm_error *err)
{
    struct fm_map m;
    if (access(j->state_path, F_OK) != 0 && errno == ENOENT) return FM_OK;
    FM_TRY(fm_map_open(&m, j->state_path, err));
    enum fm_status st = take(j, &m, err);
    fm_map_close(&m);
    return st;
}
