/* fathom serve: the model behind HTTP. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"
#include "cli/notify.h"
#include "cli/setup.h"
#include "cli/signals.h"
#include "cli/term.h"
#include "fathom_serve.h"

struct settings {
    struct fm_setup setup;
    struct fm_serve_options serve;
    struct fm_opt_list keys, hosts, origins;
    const char *key_file;
    double cache_gb;
    bool log_json, no_sandbox;
};

#define AT(field) offsetof(struct settings, field)

static const struct fm_opt serve_rows[] = {
    {0, "host", FM_OPT_TEXT, AT(serve.host), 0, 0, "ADDRESS", "where to listen (default: 127.0.0.1)"},
    {0, "port", FM_OPT_INT, AT(serve.port), 0, 65535, "N", "(default: 8080); 0: any that is free"},
    {0, "api-key", FM_OPT_LIST, AT(keys), 0, 0, "KEY", "who knows it may ask; may be repeated (default: no key)"},
    {0, "api-key-file", FM_OPT_TEXT, AT(key_file), 0, 0, "FILE", "keys, one a line, each with its limits"},
    {0, "allowed-host", FM_OPT_LIST, AT(hosts), 0, 0, "NAME",
     "names of this server that requests may use, beside localhost; may be repeated"},
    {0, "cors-origin", FM_OPT_LIST, AT(origins), 0, 0, "URL",
     "web pages that may ask, beside this machine's; may be repeated"},
    {0, "served-model-name", FM_OPT_TEXT, AT(serve.name), 0, 0, "NAME", "what clients see (default: from the file)"},
    {0, "chat-format", FM_OPT_TEXT, AT(serve.format), 0, 0, "NAME", "(default: the model's)"},
    {0, "strict-model", FM_OPT_FLAG, AT(serve.strict_model), 0, 0, NULL, "refuse requests for another model name"},
    {0, "slots", FM_OPT_INT, AT(serve.scheduler.slots), 1, 256, "N", "requests computed together (default: 8)"},
    {0, "queue", FM_OPT_INT, AT(serve.scheduler.queue), 1, 65536, "N", "requests that may wait (default: 64)"},
    {0, "cache-gb", FM_OPT_DOUBLE, AT(cache_gb), 0, 1e6, "X", "memory for prefixes of earlier requests; 0: none"},
    {0, "cache-dir", FM_OPT_TEXT, AT(serve.scheduler.cache_dir), 0, 0, "DIR",
     "keep prefixes on disk, too, for the next start (default: in memory only)"},
    {0, "cache-bytes", FM_OPT_INT64, AT(serve.scheduler.cache_dir_bytes), 1, 9e18, "N",
     "room for the files there (default: 4294967296)"},
    {0, "request-tokens", FM_OPT_INT, AT(serve.tokens_max), 1, 1 << 30, "N",
     "longest answer to one request (default: any)"},
    {0, "request-seconds", FM_OPT_DOUBLE, AT(serve.seconds_max), 0, 1e7, "X",
     "longest time for one request (default: any)"},
    {0, "drain-seconds", FM_OPT_INT, AT(serve.drain_seconds), 1, 86400, "N",
     "for answers under way when the server stops (default: 30)"},
    {0, "connections", FM_OPT_INT, AT(serve.connections), 1, 65536, "N", "open at once (default: 4096)"},
    {0, "connections-per-address", FM_OPT_INT, AT(serve.per_address), 1, 65536, "N",
     "of them from one address (default: half)"},
    {0, "idle-seconds", FM_OPT_INT, AT(serve.idle_seconds), 1, 86400, "N",
     "a connection without a request is closed after (default: 75)"},
    {0, "body-seconds", FM_OPT_INT, AT(serve.body_seconds), 1, 86400, "N",
     "for a request's body, and 1 s more for each 64 KiB that came (default: 30)"},
    {0, "no-sandbox", FM_OPT_FLAG, AT(no_sandbox), 0, 0, NULL, "keep the right to open files, start programs, connect"},
    {0, "price-in", FM_OPT_DOUBLE, AT(serve.prices.in), 0, 1e9, "X",
     "of a million prompt tokens, for usage and ledger"},
    {0, "price-hit", FM_OPT_DOUBLE, AT(serve.prices.hit), 0, 1e9, "X",
     "of those found in the cache (default: as others)"},
    {0, "price-out", FM_OPT_DOUBLE, AT(serve.prices.out), 0, 1e9, "X", "of a million tokens of answers"},
    {0, "ledger", FM_OPT_TEXT, AT(serve.ledger), 0, 0, "FILE", "append what each answer took: see fathom cost"},
    {0, "log-json", FM_OPT_FLAG, AT(log_json), 0, 0, NULL, "the line per request as a JSON object"},
    {0},
};

/* A line per request.  Texts of r are safe inside quotes. */
static void log_json(const struct fm_served *r)
{
    const time_t now = time(NULL);
    struct tm tm;
    char at[32];
    (void)gmtime_r(&now, &tm);
    (void)strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%SZ", &tm);
    fm_note(
        "{\"time\":\"%s\",\"method\":\"%s\",\"path\":\"%s\",\"status\":%d,\"prompt_tokens\":%d,\"cached_tokens\":%d,"
        "\"answer_tokens\":%d,\"seconds\":%.3f,\"left\":%s,\"key\":\"%s\",\"id\":\"%s\"}",
        at, r->method, r->path, r->status, r->prompt_tokens, r->cached_tokens, r->answer_tokens, r->seconds,
        r->left ? "true" : "false", r->key ? r->key : "", r->id);
}

static void log_request(void *arg, const struct fm_served *r)
{
    const struct settings *s = arg;
    char tokens[96] = "";
    if (s->log_json) {
        log_json(r);
        return;
    }
    if (r->prompt_tokens)
        (void)snprintf(tokens, sizeof tokens, " %d prompt tokens (%d cached), %d answered", r->prompt_tokens,
                       r->cached_tokens, r->answer_tokens);
    fm_note("%s %s %d%s in %.3f s%s%s%s, %s", r->method, r->path, r->status, tokens, r->seconds,
            r->left ? ", the client left" : "", r->key ? ", " : "", r->key ? r->key : "", r->id);
}

/* Requests are told unless somebody asked for warnings or errors only. */
static bool tells_requests(const struct fm_setup *s)
{
    return !s->quiet && !(s->log_level && (!strcmp(s->log_level, "error") || !strcmp(s->log_level, "warn")));
}

static void stopping(void *arg)
{
    (void)arg;
    fm_notify("STOPPING=1");
}

/* With --quiet, too: it is what was asked for, and with --port 0 the only way to know the port. */
static void ready(void *arg, const char *host, int port)
{
    (void)arg;
    fm_notify("READY=1");
    fprintf(stderr, "listening on http://%s%s%s:%d/v1\n", strchr(host, ':') ? "[" : "", host,
            strchr(host, ':') ? "]" : "", port);
}

/* Keys of a file, a line each; # begins a comment.  The texts point into b. */
static enum fm_status read_keys(struct settings *s, struct fm_buf *b, const char ***keys, struct fm_error *err)
{
    size_t n = (size_t)s->keys.n, lines = 1;
    if (s->key_file) FM_TRY(fm_buf_read_file(b, s->key_file, 1 << 20, err));
    for (size_t i = 0; i < b->len; i++) lines += b->data[i] == '\n';
    const char **list = fm_calloc(n + lines, sizeof *list);
    if (!list) return fm_fail_memory(err, "keys", (n + lines) * sizeof *list);
    for (int i = 0; i < s->keys.n; i++) list[i] = s->keys.v[i];
    for (char *rest = b->data, *line; rest && (line = strsep(&rest, "\r\n"));)
        if (*line && *line != '#') list[n++] = line;
    s->serve.keys = *keys = list;
    s->serve.n_keys = (int)n;
    if (!s->key_file || n > (size_t)s->keys.n) return FM_OK;
    return fm_fail(err, FM_ERR_INPUT, "read keys: %s: it holds none", s->key_file);
}

/* One that was not given: nothing, but found tokens cost as others. */
static void set_prices(struct fm_prices *p)
{
    p->set = p->in >= 0 || p->hit >= 0 || p->out >= 0;
    if (p->in < 0) p->in = 0;
    if (p->hit < 0) p->hit = p->in;
    if (p->out < 0) p->out = 0;
}

static enum fm_status serve(struct settings *s, struct fm_error *err)
{
    struct fm_engine *e = NULL;
    struct fm_buf file = {0};
    const char **keys = NULL;
    if (s->serve.scheduler.cache_dir_bytes && !s->serve.scheduler.cache_dir)
        return fm_fail(err, FM_ERR_USAGE, "serve: --cache-bytes: it needs --cache-dir");
    enum fm_status st = read_keys(s, &file, &keys, err);
    if (!st) st = fm_setup_open(&s->setup, &e, err);
    s->serve.hosts = s->hosts.v;
    s->serve.n_hosts = s->hosts.n;
    s->serve.origins = s->origins.v;
    s->serve.n_origins = s->origins.n;
    s->serve.scheduler.no_cache = s->cache_gb == 0;
    if (s->cache_gb > 0) s->serve.scheduler.cache_bytes = (uint64_t)(s->cache_gb * 1e9);
    s->serve.sandbox = !s->no_sandbox;
    set_prices(&s->serve.prices);
    s->serve.stop = fm_signals_flag();
    s->serve.on_ready = ready;
    s->serve.on_stopping = stopping;
    if (tells_requests(&s->setup)) s->serve.on_request = log_request;
    s->serve.arg = s;
    if (!st) st = fm_serve(e, &s->serve, err);
    fm_engine_close(e);
    fm_free(keys);
    fm_buf_release(&file);
    return st;
}

enum fm_status fm_cmd_serve(struct fm_cli *cli, struct fm_error *err)
{
    struct settings s = {.serve = {.port = 8080, .prices = {.in = -1, .hit = -1, .out = -1}}, .cache_gb = -1};
    const struct fm_opt_set sets[] = {
        {fm_model_row, &s.setup}, {serve_rows, &s}, {fm_engine_rows, &s.setup}, {fm_log_rows, &s.setup}, {0}};
    struct fm_words words;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&s.setup, err));
    FM_TRY(fm_words_expect(cli, &words, 0, 1, "MODEL", err));
    FM_TRY(words.n ? fm_setup_model_word(&s.setup, &words, err) : fm_setup_model(&s.setup, err));
    fm_signals_init();
    return serve(&s, err);
}
