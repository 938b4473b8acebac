/* See fetch.h.  A file is cut into pieces (partial.h); each connection takes the next piece that nobody has.
 *
 *   slot:  idle ─▶ running ─┬▶ piece full ─▶ idle (next piece)
 *                           ├▶ 3xx ─▶ running at the new address, if it is one we follow
 *                           ├▶ connection died, 429, 5xx ─▶ waiting ─▶ running from where it stopped
 *                           ├▶ 200 to a Range ─▶ all stop: once more from the beginning, in one piece
 *                           └▶ 401, 403, 404, 410 from another host ─▶ its signature is too old: ask the hub again */
#include "hub/fetch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "hub/hub_impl.h"
#include "hub/partial.h"

enum { SLOTS_MAX = 16, RESTARTS_MAX = 3, REFRESHES_MAX = 20, ERROR_BODY_MAX = 1 << 16 };
#define SAVE_SECONDS 10.0
#define SHOW_SECONDS 0.1

struct job;
struct slot {
    struct job *job;
    CURL *easy;
    struct fm_http_reply r;
    enum { IDLE, WAITING, RUNNING } state;
    uint32_t piece;
    bool ranged, checked, restart; /* restart: the server ignored the range */
    const char *odd;               /* what is wrong with the reply */
    char *url;
    int hops, failures;
    double until;      /* of waiting */
    uint64_t at_start; /* bytes of the piece when this request began */
    size_t error_body;
};

struct job {
    const struct fm_fetch *f;
    struct fm_partial p;
    CURLM *multi;
    char *location;
    bool *taken; /* per piece: a slot works on it */
    uint32_t next;
    struct slot slots[SLOTS_MAX];
    int n_slots, restarts, refreshes;
    enum fm_status st; /* of writing, inside a callback */
    struct fm_error *err;
    double saved, shown;
};

/* ---- about a file ---------------------------------------------------------------------------------------------- */

static char *resolve_url(const struct fm_fetch *f)
{
    struct fm_buf b = {0};
    fm_buf_printf(&b, "%s/%s/resolve/", f->http->hub->endpoint, f->repo);
    fm_url_escape(&b, f->rev, 0);
    fm_buf_char(&b, '/');
    fm_url_escape(&b, f->file, '/');
    if (!b.failed) return b.data;
    fm_buf_release(&b);
    return NULL;
}

static enum fm_status take_meta(const struct fm_fetch *f, const struct fm_http_reply *r, const char *blob_hint,
                                uint64_t size_hint, const char *url, struct fm_file_meta *out, struct fm_error *err)
{
    struct fm_file_meta m = {.size = size_hint};
    bool redirect = r->status >= 300 && r->status < 400;
    const char *etag = r->linked_etag[0] ? r->linked_etag : redirect ? "" : r->etag;
    int64_t size = r->linked_size >= 0 ? r->linked_size : redirect ? -1 : r->length;
    if (!redirect && (r->status < 200 || r->status > 299))
        return fm_http_refused(f->http->hub, f->repo, f->rev, f->file, r, err);
    strcpy(m.blob, etag[0] ? etag : blob_hint);
    strcpy(m.commit, r->commit);
    if (size >= 0) m.size = (uint64_t)size;
    m.location = fm_strdup(redirect ? r->location.data : url);
    if (!m.location) return fm_fail_memory(err, "an address", strlen(url));
    *out = m;
    return FM_OK;
}

enum fm_status fm_fetch_meta(const struct fm_fetch *f, const char *blob_hint, uint64_t size_hint,
                             struct fm_file_meta *out, struct fm_error *err)
{
    struct fm_http_reply r = {0};
    char *url = resolve_url(f);
    if (!url) return fm_fail_memory(err, "an address", strlen(f->file));
    enum fm_status st = fm_http_ask(f->http, url, true, 0, &r, err);
    if (!st) st = take_meta(f, &r, blob_hint, size_hint, url, out, err);
    const char *why = st || fm_url_same_origin(url, out->location) ? NULL : fm_url_refuse(url, out->location);
    if (why) {
        char shown[160];
        fm_url_display(out->location, shown, sizeof shown);
        fm_free(out->location);
        out->location = NULL;
        st = fm_fail(err, FM_ERR_FAILED, "follow a redirect: %s: to '%s': %s", f->file, shown, why);
    }
    fm_http_reply_release(&r);
    fm_free(url);
    return st;
}

/* ---- bytes ----------------------------------------------------------------------------------------------------- */

/* The first bytes of a body: is the reply what was asked for? */
static void check_reply(struct slot *s)
{
    const struct fm_partial *p = &s->job->p;
    uint64_t begin = fm_partial_begin(p, s->piece) + p->done[s->piece];
    s->checked = true;
    curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &s->r.status);
    if (s->r.status == 206 && s->ranged) {
        if (s->r.range_begin != (int64_t)begin) s->odd = "it sends another part than was asked for";
        if (s->r.range_size != (int64_t)p->size) s->odd = "the file has another size there than the hub says";
    } else if (s->r.status == 200 && s->ranged)
        s->restart = true;
    else if (s->r.status == 200) {
        if (s->r.length >= 0 && (uint64_t)s->r.length != p->size)
            s->odd = "the file has another size there than the hub says";
    } else if (s->r.status == 206)
        s->odd = "it sends a part where the whole was asked for";
}

static size_t on_data(char *data, size_t one, size_t n, void *arg)
{
    struct slot *s = arg;
    struct job *j = s->job;
    if (!s->checked) check_reply(s);
    if (s->odd || s->restart) return 0;
    if (s->r.status != 200 && s->r.status != 206) {
        s->error_body += n * one;
        return s->error_body > ERROR_BODY_MAX ? 0 : n;
    }
    if (n * one > fm_partial_length(&j->p, s->piece) - j->p.done[s->piece]) {
        s->odd = "it sends more bytes than the file has";
        return 0;
    }
    j->st = fm_partial_write(&j->p, s->piece, data, n * one, j->err);
    return j->st ? 0 : n;
}

/* ---- slots ----------------------------------------------------------------------------------------------------- */

static enum fm_status aim(struct slot *s, const char *url, struct fm_error *err)
{
    char *copy = fm_strdup(url);
    if (!copy) return fm_fail_memory(err, "an address", strlen(url));
    fm_free(s->url);
    s->url = copy;
    return FM_OK;
}

static enum fm_status start(struct slot *s, struct fm_error *err)
{
    struct job *j = s->job;
    const struct fm_partial *p = &j->p;
    uint64_t begin = fm_partial_begin(p, s->piece) + p->done[s->piece];
    char range[64];
    if (!s->easy) s->easy = fm_http_handle(j->f->http, s->url, &s->r);
    if (!s->easy) return fm_fail_memory(err, "a connection", 4096);
    fm_http_reply_reset(&s->r);
    fm_http_aim(j->f->http, s->easy, s->url);
    s->ranged = p->n_pieces > 1 || p->done[s->piece];
    snprintf(range, sizeof range, "%" PRIu64 "-%" PRIu64, begin,
             fm_partial_begin(p, s->piece) + fm_partial_length(p, s->piece) - 1);
    curl_easy_setopt(s->easy, CURLOPT_RANGE, s->ranged ? range : NULL);
    curl_easy_setopt(s->easy, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(s->easy, CURLOPT_WRITEDATA, s);
    curl_easy_setopt(s->easy, CURLOPT_PRIVATE, s);
    s->checked = s->restart = false;
    s->odd = NULL;
    s->error_body = 0;
    s->at_start = p->done[s->piece];
    s->state = RUNNING;
    if (curl_multi_add_handle(j->multi, s->easy)) return fm_fail(err, FM_ERR_FAILED, "download: libcurl: cannot start");
    return FM_OK;
}

static void stop(struct slot *s)
{
    if (s->state == RUNNING) curl_multi_remove_handle(s->job->multi, s->easy);
    if (s->state != IDLE) s->job->taken[s->piece] = false;
    s->state = IDLE;
}

/* The next piece that is neither full nor taken; false: none. */
static bool take_piece(struct slot *s)
{
    struct job *j = s->job;
    for (uint32_t i = 0; i < j->p.n_pieces; i++) {
        uint32_t k = (j->next + i) % j->p.n_pieces;
        if (j->taken[k] || j->p.done[k] == fm_partial_length(&j->p, k)) continue;
        j->taken[k] = true;
        j->next = k;
        s->piece = k;
        s->hops = s->failures = 0;
        return true;
    }
    return false;
}

/* Idle slots get work, those that have waited go on. */
static enum fm_status feed(struct job *j)
{
    double now = fm_seconds();
    for (int i = 0; i < j->n_slots; i++) {
        struct slot *s = &j->slots[i];
        if (s->state == RUNNING || (s->state == WAITING && now < s->until)) continue;
        if (s->state == IDLE) {
            if (!take_piece(s)) continue;
            FM_TRY(aim(s, j->location, j->err));
        }
        FM_TRY(start(s, j->err));
    }
    return FM_OK;
}

/* ---- the end of a request -------------------------------------------------------------------------------------- */

static enum fm_status fail_file(const struct job *j, const char *why)
{
    return fm_fail(j->err, FM_ERR_FAILED, "download a file: %s: %s", j->f->file, why);
}

static enum fm_status restart_whole(struct job *j)
{
    for (int i = 0; i < j->n_slots; i++) stop(&j->slots[i]);
    if (++j->restarts > RESTARTS_MAX) return fail_file(j, "the connection breaks, and the server can only begin anew");
    FM_TRY(fm_partial_restart(&j->p, true, j->err));
    j->next = 0;
    return FM_OK;
}

static enum fm_status follow(struct slot *s)
{
    const char *to = NULL, *why;
    char shown[160], text[300];
    curl_easy_getinfo(s->easy, CURLINFO_REDIRECT_URL, &to);
    why = !to ? "it names no address" : s->hops++ == FM_HTTP_HOPS ? "too many of them" : fm_url_refuse(s->url, to);
    if (why) {
        fm_url_display(to ? to : "", shown, sizeof shown);
        snprintf(text, sizeof text, "a redirect to '%s' is not followed: %s", shown, why);
        return fail_file(s->job, text);
    }
    FM_TRY(aim(s, to, s->job->err));
    return start(s, s->job->err);
}

static enum fm_status refresh(struct slot *s)
{
    struct job *j = s->job;
    struct fm_file_meta m = {.location = NULL};
    FM_TRY(fm_fetch_meta(j->f, j->p.blob, j->p.size, &m, j->err));
    bool same = m.size == j->p.size && !strcmp(m.blob, j->p.blob);
    fm_free(j->location);
    j->location = m.location;
    if (!same) return fail_file(j, "the file has changed on the hub meanwhile; pull once more");
    FM_TRY(aim(s, j->location, j->err));
    s->hops = 0;
    return start(s, j->err);
}

static enum fm_status try_again(struct slot *s, CURLcode code)
{
    struct job *j = s->job;
    char why[CURL_ERROR_SIZE + 64];
    if (j->p.done[s->piece] > s->at_start) s->failures = 0;
    if (++s->failures < FM_HTTP_TRIES && s->r.retry_after <= FM_HTTP_WAIT_MAX) {
        s->until = fm_seconds() + fm_http_backoff(s->failures, &s->r);
        s->state = WAITING;
        return aim(s, j->location, j->err);
    }
    if (code)
        snprintf(why, sizeof why, "%s", s->r.why[0] ? s->r.why : curl_easy_strerror(code));
    else
        snprintf(why, sizeof why, "the server replied %ld", s->r.status);
    (void)fail_file(j, why);
    fm_hint(j->err, "what came so far is kept: pull once more to go on");
    return FM_ERR_FAILED;
}

static enum fm_status finish(struct slot *s, CURLcode code)
{
    struct job *j = s->job;
    struct fm_partial *p = &j->p;
    curl_multi_remove_handle(j->multi, s->easy);
    s->state = WAITING; /* still has its piece */
    curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &s->r.status);
    const long status = s->r.status;
    if (j->st) return j->st;
    if (s->odd) return fail_file(j, s->odd);
    if (s->restart) return restart_whole(j);
    if (p->done[s->piece] == fm_partial_length(p, s->piece)) {
        stop(s);
        return FM_OK;
    }
    if (!code && status >= 300 && status < 400) return follow(s);
    bool ours = fm_url_same_origin(s->url, j->f->http->hub->endpoint);
    if ((status == 401 || status == 403 || status == 404 || status == 410) && !ours && j->refreshes++ < REFRESHES_MAX)
        return refresh(s);
    if (code || fm_http_is_passing(status) || status == 200 || status == 206) return try_again(s, code);
    if (ours) return fm_http_refused(j->f->http->hub, j->f->repo, j->f->rev, j->f->file, &s->r, j->err);
    char why[80];
    snprintf(why, sizeof why, "the server that has the bytes replied %ld", status);
    return fail_file(j, why);
}

/* ---- the loop -------------------------------------------------------------------------------------------------- */

static bool all_there(const struct job *j) { return j->p.total == j->p.size; }

static enum fm_status turn(struct job *j)
{
    const struct fm_hub_progress *pr = j->f->http->progress;
    int running;
    bool more;
    FM_TRY(feed(j));
    if (curl_multi_perform(j->multi, &running)) return fail_file(j, "libcurl failed");
    for (CURLMsg *m; (m = curl_multi_info_read(j->multi, &(int){0}));) {
        struct slot *s = NULL;
        CURLcode code = m->data.result;
        if (m->msg != CURLMSG_DONE) continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&s);
        FM_TRY(finish(s, code));
    }
    FM_TRY(fm_partial_hash(&j->p, &more, j->err));
    double now = fm_seconds();
    if (now - j->shown >= SHOW_SECONDS) {
        pr->at(pr->arg, "pull", j->f->file, *j->f->old, j->f->base + j->p.total, j->f->all);
        j->shown = now;
    }
    if (now - j->saved >= SAVE_SECONDS) {
        FM_TRY(fm_partial_save(&j->p, j->err));
        j->saved = fm_seconds();
    }
    if (!all_there(j) && !more) (void)curl_multi_poll(j->multi, NULL, 0, 100, NULL);
    return *pr->stop ? FM_ERR_CANCELLED : FM_OK;
}

static enum fm_status begin(struct job *j, const struct fm_file_meta *meta, const char *partial)
{
    const struct fm_fetch *f = j->f;
    int n = f->connections < 1 ? 1 : f->connections > SLOTS_MAX ? SLOTS_MAX : f->connections;
    FM_TRY(fm_partial_open(&j->p, partial, meta->blob, meta->size, n, f->http->progress, j->err));
    j->multi = curl_multi_init();
    j->location = fm_strdup(meta->location);
    j->taken = fm_calloc(j->p.n_pieces, sizeof *j->taken);
    if (!j->multi || !j->location || !j->taken) return fm_fail_memory(j->err, "a download", j->p.n_pieces);
    j->n_slots = n;
    for (int i = 0; i < n; i++) j->slots[i].job = j;
    j->saved = fm_seconds();
    return fm_partial_save(&j->p, j->err);
}

static void end(struct job *j)
{
    for (int i = 0; i < j->n_slots; i++) {
        struct slot *s = &j->slots[i];
        if (j->multi && j->taken) stop(s);
        curl_easy_cleanup(s->easy);
        fm_http_reply_release(&s->r);
        fm_free(s->url);
    }
    if (j->multi) curl_multi_cleanup(j->multi);
    fm_free(j->location);
    fm_free(j->taken);
    fm_partial_close(&j->p);
}

/* One attempt; *good: the hash is right. */
static enum fm_status attempt(const struct fm_fetch *f, const struct fm_file_meta *meta, const char *partial,
                              const char *path, bool *good, bool *resumed, struct fm_error *err)
{
    struct fm_error own;
    struct job j = {.f = f, .p = {.fd = -1}, .err = err ? err : &own};
    enum fm_status st = begin(&j, meta, partial);
    *resumed = j.p.resumed;
    if (!st) *f->old += j.p.total;
    while (!st && !all_there(&j)) st = turn(&j);
    if (!st)
        st = fm_partial_finish(&j.p, path, good, j.err);
    else if (j.p.fd >= 0 && j.taken) {
        struct fm_error none;
        (void)!fm_partial_save(&j.p, &none); /* as much as the disk allows */
    }
    end(&j);
    return st;
}

enum fm_status fm_fetch_file(const struct fm_fetch *f, const struct fm_file_meta *meta, const char *partial,
                             const char *path, struct fm_error *err)
{
    const struct fm_hub_progress *pr = f->http->progress;
    bool good = false, resumed = false;
    FM_TRY(attempt(f, meta, partial, path, &good, &resumed, err));
    if (!good && resumed) {
        pr->note(pr->arg, "what an earlier attempt left was damaged: once more from the beginning");
        FM_TRY(attempt(f, meta, partial, path, &good, &resumed, err));
    }
    if (good) return FM_OK;
    (void)fm_fail(err, FM_ERR_INPUT, "check a download: %s: its hash is not %.64s: damaged on the way", f->file,
                  meta->blob);
    fm_hint(err, "it was removed; pull once more, and if this comes again, the copy on that server is bad");
    return FM_ERR_INPUT;
}
