/* fathom ps: what a running server is doing. */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/status.h"
#include "base/str.h"
#include "cli/setup.h"
#include "cli/term.h"

enum { SECONDS = 10, REPLY_MAX = 4 << 20 };

struct job {
    struct fm_setup setup;
    const char *url, *key;
    bool json;
};

static const struct fm_opt ps_rows[] = {
    {0, "url", FM_OPT_TEXT, offsetof(struct job, url), 0, 0, "URL", "of the server (default: http://127.0.0.1:8080)"},
    {0, "api-key", FM_OPT_TEXT, offsetof(struct job, key), 0, 0, "KEY", "if it wants one"},
    {0, "json", FM_OPT_FLAG, offsetof(struct job, json), 0, 0, NULL, "what the server says, as it is"},
    {0},
};

/* ---- a question over HTTP/1.0: plain, to its end ---- */

struct address {
    char host[256], port[8];
};

/* http://HOST:PORT/…, HOST:PORT or HOST; HOST may be [an address of version 6]. */
static enum fm_status read_url(const char *url, struct address *a, struct fm_error *err)
{
    const char *at = strncmp(url, "http://", 7) ? url : url + 7;
    const bool bracket = *at == '[';
    at += bracket;
    const size_t host = strcspn(at, bracket ? "]" : ":/");
    const char *rest = at + host + (bracket && at[host]);
    const size_t port = *rest == ':' ? strspn(rest + 1, "0123456789") : 0;
    const char end = rest[*rest == ':' ? port + 1 : 0];
    if (!host || host >= sizeof a->host || port >= sizeof a->port || (*rest == ':' && !port) || (end && end != '/'))
        return fm_fail(err, FM_ERR_USAGE, "read options: --url: '%.100s' is not http://HOST:PORT", url);
    (void)snprintf(a->host, sizeof a->host, "%.*s", (int)host, at);
    (void)snprintf(a->port, sizeof a->port, "%.*s", (int)port, rest + 1);
    if (!port) (void)snprintf(a->port, sizeof a->port, "80");
    return FM_OK;
}

static enum fm_status connect_to(const struct address *a, int *fd, struct fm_error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    const int rc = getaddrinfo(a->host, a->port, &hints, &found);
    if (rc) return fm_fail(err, FM_ERR_FAILED, "ask the server: %s port %s: %s", a->host, a->port, gai_strerror(rc));
    const struct timeval limit = {.tv_sec = SECONDS};
    *fd = -1;
    for (const struct addrinfo *i = found; i && *fd < 0; i = i->ai_next) {
        *fd = socket(i->ai_family, i->ai_socktype, i->ai_protocol);
        if (*fd < 0) continue;
        (void)setsockopt(*fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        (void)setsockopt(*fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        if (!connect(*fd, i->ai_addr, i->ai_addrlen)) break;
        (void)close(*fd);
        *fd = -1;
    }
    freeaddrinfo(found);
    if (*fd >= 0) return FM_OK;
    (void)fm_fail(err, FM_ERR_FAILED, "ask the server: %s port %s: %m", a->host, a->port);
    fm_hint(err, "fathom serve starts one; --url says where another one is");
    return FM_ERR_FAILED;
}

static bool send_all(int fd, const char *bytes, size_t n)
{
    while (n) {
        const ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        bytes += sent;
        n -= (size_t)sent;
    }
    return true;
}

static bool receive_all(int fd, struct fm_buf *reply)
{
    char bytes[16384];
    for (ssize_t n; (n = recv(fd, bytes, sizeof bytes, 0));) {
        if (n < 0 || reply->len > REPLY_MAX) return false;
        fm_buf_add(reply, bytes, (size_t)n);
    }
    return !reply->failed;
}

/* The body of a 200 as JSON. */
static enum fm_status read_reply(struct fm_buf *reply, const char *path, json_t **out, struct fm_error *err)
{
    int status = 0;
    fm_buf_char(reply, 0);
    if (reply->failed) return fm_fail_memory(err, "the server's answer", reply->len);
    char *body = strstr(reply->data, "\r\n\r\n");
    if (sscanf(reply->data, "HTTP/%*d.%*d %d", &status) != 1 || !body)
        return fm_fail(err, FM_ERR_FAILED, "ask the server: %s: it does not speak HTTP", path);
    if (status == 401) {
        (void)fm_fail(err, FM_ERR_FAILED, "ask the server: %s: it wants a key", path);
        fm_hint(err, "--api-key KEY");
        return FM_ERR_FAILED;
    }
    if (status != 200) return fm_fail(err, FM_ERR_FAILED, "ask the server: %s: it says %d", path, status);
    return fm_json_parse(body + 4, strlen(body + 4), path, out, err);
}

static enum fm_status get(const struct job *j, const struct address *a, const char *path, json_t **out,
                          struct fm_error *err)
{
    struct fm_buf ask = {0}, reply = {0};
    int fd = -1;
    FM_TRY(connect_to(a, &fd, err));
    fm_buf_printf(&ask, "GET %s HTTP/1.0\r\nHost: %s:%s\r\n", path, a->host, a->port);
    if (j->key) fm_buf_printf(&ask, "Authorization: Bearer %s\r\n", j->key);
    fm_buf_str(&ask, "\r\n");
    enum fm_status st = !ask.failed && send_all(fd, ask.data, ask.len) && receive_all(fd, &reply)
                            ? read_reply(&reply, path, out, err)
                            : fm_fail(err, FM_ERR_FAILED, "ask the server: %s port %s: %m", a->host, a->port);
    (void)close(fd);
    fm_buf_release(&ask);
    fm_buf_release(&reply);
    return st;
}

/* ---- the table ---- */

static void print_slot(const json_t *slot)
{
    const long long prompt = fm_json_int(slot, "prompt_tokens", 0), done = fm_json_int(slot, "prompt_done", 0),
                    answer = fm_json_int(slot, "answer_tokens", 0);
    const double answering = fm_json_num(slot, "answer_seconds", 0);
    char of[48], rate[24] = "-";
    if (!fm_json_bool(slot, "is_processing", false)) {
        printf("%4lld  idle\n", (long long)fm_json_int(slot, "id", 0));
        return;
    }
    (void)snprintf(of, sizeof of, "%lld/%lld", done, prompt);
    if (answer > 1 && answering > 0) (void)snprintf(rate, sizeof rate, "%.1f", (double)(answer - 1) / answering);
    printf("%4lld  %-6s %13s %8lld %8lld %9s %9.1f\n", (long long)fm_json_int(slot, "id", 0),
           answer ? "answer" : "prompt", of, (long long)fm_json_int(slot, "cached_tokens", 0), answer, rate,
           fm_json_num(slot, "seconds", 0));
}

static void print(const json_t *props, const json_t *slots)
{
    const json_t *slot;
    size_t i;
    printf("%s: %lld of %lld slots busy, %lld waiting, context %lld\n", fm_json_str(props, "model", "?"),
           (long long)fm_json_int(props, "busy_slots", 0), (long long)fm_json_int(props, "total_slots", 0),
           (long long)fm_json_int(props, "waiting", 0), (long long)fm_json_int(props, "n_ctx", 0));
    printf("%4s  %-6s %13s %8s %8s %9s %9s\n", "SLOT", "STATE", "PROMPT", "CACHED", "ANSWER", "TOKENS/S", "SECONDS");
    json_array_foreach(slots, i, slot) print_slot(slot);
}

static enum fm_status tell(const struct job *j, const json_t *props, const json_t *slots, struct fm_error *err)
{
    if (!j->json) {
        print(props, slots);
        return FM_OK;
    }
    json_t *both = json_pack("{s:O, s:O}", "server", props, "slots", slots);
    char *text = both ? json_dumps(both, JSON_COMPACT) : NULL;
    if (text) puts(text);
    json_decref(both);
    free(text);
    return text ? FM_OK : fm_fail_memory(err, "the server's answer", 0);
}

enum fm_status fm_cmd_ps(struct fm_cli *cli, struct fm_error *err)
{
    struct job j = {.url = "http://127.0.0.1:8080"};
    const struct fm_opt_set sets[] = {{ps_rows, &j}, {fm_log_rows, &j.setup}, {0}};
    struct fm_words words;
    struct address a;
    json_t *props = NULL, *slots = NULL;
    enum fm_status st = FM_OK;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&j.setup, err));
    FM_TRY(fm_words_expect(cli, &words, 0, 0, "", err));
    FM_TRY(read_url(j.url, &a, err));
    FM_GOTO(get(&j, &a, "/props", &props, err));
    FM_GOTO(get(&j, &a, "/slots", &slots, err));
    FM_GOTO(tell(&j, props, slots, err));
    st = fm_out_finish(err);
out:
    json_decref(props);
    json_decref(slots);
    return st;
}
