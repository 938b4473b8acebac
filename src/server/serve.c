/* fm_serve: a scheduler and an HTTP server over one engine, until somebody says stop. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "server/cost.h"

enum { DRAIN_SECONDS = 30 };

static bool is_loopback(const char *host)
{
    return !strncmp(host, "127.", 4) || !strcmp(host, "::1") || !strcmp(host, "localhost");
}

static enum fm_status check(const struct fm_serve_options *o, const char *host, struct fm_error *err)
{
    if (o->n_keys || is_loopback(host)) return FM_OK;
    enum fm_status st =
        fm_fail(err, FM_ERR_USAGE, "serve: address %s: everybody who reaches it could use the model", host);
    fm_hint(err, "--api-key KEY lets in those who know it; 127.0.0.1 lets in this machine only");
    return st;
}

static enum fm_status check_format(const char *name, struct fm_error *err)
{
    for (int i = 0; fm_chat_format_at(i); i++)
        if (!strcmp(name, fm_chat_format_at(i))) return FM_OK;
    (void)fm_fail(err, FM_ERR_USAGE, "serve: chat format '%.40s': not known", name);
    fm_hint(err, "fathom chat-encode --format help lists them");
    return FM_ERR_USAGE;
}

/* The name that the file gives itself, if a client can type it; else the file's own without folders and ending. */
static void default_name(const struct fm_model_info *info, char *dst, size_t n)
{
    const char *path = info->name && *info->name && !strchr(info->name, ' ') ? info->name : info->path,
               *slash = strrchr(path, '/');
    (void)snprintf(dst, n, "%s", slash && slash[1] ? slash + 1 : path);
    const size_t len = strlen(dst);
    if (len > 5 && !strcmp(dst + len - 5, ".gguf")) dst[len - 5] = 0;
}

static void wait_for_stop(struct fm_server *s)
{
    const struct timespec tick = {.tv_nsec = 50 * 1000 * 1000};
    while (!*s->o->stop) (void)nanosleep(&tick, NULL);
    if (s->o->on_stopping) s->o->on_stopping(s->o->arg);
    const int seconds = s->o->drain_seconds ? s->o->drain_seconds : DRAIN_SECONDS;
    atomic_store(&s->stopping, true);
    for (int i = 0; i < 20 * seconds && *s->o->stop < 2; i++) {
        if (fm_scheduler_drain(s->scheduler) && !fm_web_active(s->http)) break;
        (void)nanosleep(&tick, NULL);
    }
}

static void last_words(struct fm_server *s)
{
    const struct timespec tick = {.tv_nsec = 10 * 1000 * 1000};
    for (int i = 0; i < 100 && fm_web_active(s->http); i++) (void)nanosleep(&tick, NULL);
}

static void done(void *server, const struct fm_served *r, int key)
{
    struct fm_server *s = server;
    struct fm_served told = *r;
    if (r->status >= 0 && r->status < FM_STATUSES) atomic_fetch_add(&s->statuses[r->status], 1);
    if (key >= 0) {
        fm_keys_leave(s->keys, key, fm_seconds(), r->prompt_tokens + r->answer_tokens);
        told.key = fm_keys_name(s->keys, key);
    }
    if (s->o->on_request) s->o->on_request(s->o->arg, &told);
}

enum fm_status fm_serve(struct fm_engine *e, const struct fm_serve_options *o, struct fm_error *err)
{
    char name[256];
    struct fm_serve_options mine = *o;
    int socket = -1, port = 0;
    enum fm_status st;
    if (!mine.host) mine.host = "127.0.0.1";
    FM_TRY(check(o, mine.host, err));
    struct fm_server s = {
        .o = &mine, .engine = e, .info = fm_engine_info(e), .tok = fm_engine_tokenizer(e), .ledger = -1};
    if (!s.tok) return fm_fail(err, FM_ERR_INPUT, "serve: %s: the model carries no tokenizer", s.info->path);
    default_name(s.info, name, sizeof name);
    s.name = o->name ? o->name : name;
    s.format = o->format ? o->format : s.info->chat_format ? s.info->chat_format : "plain";
    FM_TRY(check_format(s.format, err));
    s.fim = fm_fim_find(s.tok);
    s.thinks = fm_chat_format_thinks(s.format);
    s.started = (long long)time(NULL);
    (void)snprintf(s.fingerprint, sizeof s.fingerprint, "fp_%08llx", (unsigned long long)s.info->file_bytes);
    s.kept = fm_kept_new();
    if (o->n_keys) FM_GOTO(fm_keys_new(o->keys, o->n_keys, &s.keys, err));
    FM_GOTO(fm_ledger_open(o, &s.ledger, err));
    FM_GOTO(fm_web_listen(mine.host, o->port, &socket, &port, err));
    FM_GOTO(fm_scheduler_new(e, &o->scheduler, &s.scheduler, err));
    const struct fm_web_options h = {.done = done,
                                     .socket = socket,
                                     .connections = o->connections,
                                     .per_address = o->per_address,
                                     .idle_seconds = o->idle_seconds,
                                     .body_seconds = o->body_seconds,
                                     .handler = fm_route,
                                     .arg = &s};
    if (o->sandbox) s.no_files = fm_sandbox_files(); /* for the threads that read what strangers send */
    socket = -1;
    FM_GOTO(fm_web_open(&h, &s.http, err));
    if (o->sandbox) s.few_calls = fm_sandbox_calls(o->scheduler.cache_dir);
    if (o->sandbox && !(s.no_files && s.few_calls))
        fm_log(FM_LOG_WARN, "serve: sandbox: this kernel has no %s", s.no_files ? "seccomp" : "Landlock");
    if (o->on_ready) o->on_ready(o->arg, mine.host, port);
    wait_for_stop(&s);
out:
    if (socket >= 0) (void)close(socket);
    if (s.http) fm_web_quiesce(s.http);
    fm_scheduler_free(s.scheduler); /* ends what is under way: every answer gets its last words, … */
    if (s.http) last_words(&s);     /* … and clients that read a moment for them                   */
    fm_web_close(s.http);
    if (s.ledger >= 0) (void)close(s.ledger);
    fm_keys_free(s.keys);
    fm_kept_free(s.kept);
    return st;
}
