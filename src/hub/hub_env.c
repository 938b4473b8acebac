/* The hub's settings from the environment, with the names and defaults that huggingface_hub documents:
 *
 *   HF_ENDPOINT                       another hub or a mirror of it
 *   HF_HOME, HF_HUB_CACHE             where the cache lies (also XDG_CACHE_HOME, and the old HUGGINGFACE_HUB_CACHE)
 *   HF_TOKEN, HF_TOKEN_PATH           who asks (also the old HUGGING_FACE_HUB_TOKEN; default: the file HF_HOME/token)
 *   HF_HUB_OFFLINE                    send nothing
 *   HF_HUB_DISABLE_PROGRESS_BARS
 *   HF_HUB_DOWNLOAD_TIMEOUT, HF_HUB_ETAG_TIMEOUT      seconds
 *
 * HF_HUB_DISABLE_TELEMETRY and DO_NOT_TRACK have nothing to switch off here.  Proxies (https_proxy, no_proxy) are
 * libcurl's own. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/env.h"
#include "base/mem.h"
#include "hub/hub_impl.h"

char *fm_hub_text(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *s = n < 0 ? NULL : fm_malloc((size_t)n + 1);
    if (!s) return NULL;
    va_start(ap, fmt);
    vsnprintf(s, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return s;
}

static bool is_true(const char *name)
{
    static const char *const yes[] = {"1", "on", "yes", "true"};
    const char *v = fm_env(name);
    for (int i = 0; v && i < 4; i++)
        if (!strcasecmp(v, yes[i])) return true;
    return false;
}

/* A path from the environment: a leading ~ is the home folder. */
static char *folder(const char *path, const char *tail)
{
    const char *home = fm_env("HOME");
    bool tilde = path[0] == '~' && (path[1] == '/' || !path[1]) && home;
    return fm_hub_text("%s%s%s", tilde ? home : "", tilde ? path + 1 : path, tail);
}

static char *home_folder(struct fm_error *err)
{
    const char *v;
    char *s = NULL;
    if ((v = fm_env("HF_HOME")))
        s = folder(v, "");
    else if ((v = fm_env("XDG_CACHE_HOME")))
        s = folder(v, "/huggingface");
    else if ((v = fm_env("HOME")))
        s = folder(v, "/.cache/huggingface");
    else {
        (void)fm_fail(err, FM_ERR_USAGE,
                      "find the model cache: HOME: neither it nor HF_HOME nor XDG_CACHE_HOME is set");
        return NULL;
    }
    if (!s) (void)fm_fail_memory(err, "the name of the cache", strlen(v) + 32);
    return s;
}

static char *cache_folder(const char *home)
{
    const char *v = fm_env("HF_HUB_CACHE");
    if (!v) v = fm_env("HUGGINGFACE_HUB_CACHE");
    return v ? folder(v, "") : fm_hub_text("%s/hub", home);
}

static enum fm_status read_seconds(const char *name, int *out, struct fm_error *err)
{
    const char *v = fm_env(name);
    *out = 10;
    if (!v) return FM_OK;
    char *end;
    long s = strtol(v, &end, 10);
    if (*end || !isdigit((unsigned char)*v) || s < 1 || s > 86400)
        return fm_fail(err, FM_ERR_USAGE, "read the environment: %s: '%.40s' is not a number of seconds", name, v);
    *out = (int)s;
    return FM_OK;
}

/* Keep the token in one line: what is behind a newline would become a header of its own. */
static enum fm_status take_token(struct fm_hub *h, const char *text, size_t n, const char *where, struct fm_error *err)
{
    while (n && isspace((unsigned char)*text)) text++, n--;
    while (n && isspace((unsigned char)text[n - 1])) n--;
    for (size_t i = 0; i < n; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return fm_fail(err, FM_ERR_USAGE,
                           "read the access token: %s: it holds a blank or a character that no token has", where);
    if (!n) return FM_OK;
    h->token = fm_hub_text("%.*s", (int)n, text);
    return h->token ? FM_OK : fm_fail_memory(err, "the access token", n);
}

static enum fm_status find_token(struct fm_hub *h, const char *home, struct fm_error *err)
{
    const char *v = fm_env("HF_TOKEN");
    if (v) return take_token(h, v, strlen(v), "HF_TOKEN", err);
    if ((v = fm_env("HUGGING_FACE_HUB_TOKEN"))) return take_token(h, v, strlen(v), "HUGGING_FACE_HUB_TOKEN", err);
    v = fm_env("HF_TOKEN_PATH");
    char *path = v ? folder(v, "") : fm_hub_text("%s/token", home);
    if (!path) return fm_fail_memory(err, "the name of the token's file", strlen(home) + 8);
    struct fm_buf b = {0};
    struct fm_error none;
    enum fm_status st = FM_OK;
    if (!fm_buf_read_file(&b, path, 4096, &none) && b.data) st = take_token(h, b.data, b.len, path, err);
    fm_buf_release(&b);
    fm_free(path);
    return st;
}

static enum fm_status find_endpoint(struct fm_hub *h, struct fm_error *err)
{
    const char *v = fm_env("HF_ENDPOINT");
    h->endpoint = fm_hub_text("%s", v ? v : "https://huggingface.co");
    if (!h->endpoint) return fm_fail_memory(err, "the hub's address", v ? strlen(v) : 32);
    for (size_t n = strlen(h->endpoint); n && h->endpoint[n - 1] == '/';) h->endpoint[--n] = 0;
    if (fm_url_ok(h->endpoint) && !strpbrk(h->endpoint, "?#")) return FM_OK;
    return fm_fail(err, FM_ERR_USAGE, "read the environment: HF_ENDPOINT: '%.80s' is not an address like https://HOST",
                   h->endpoint);
}

enum fm_status fm_hub_init(struct fm_hub *h, struct fm_error *err)
{
    *h = (struct fm_hub){.offline = is_true("HF_HUB_OFFLINE"), .no_bars = is_true("HF_HUB_DISABLE_PROGRESS_BARS")};
    enum fm_status st;
    char *home = home_folder(err);
    if (!home) return err->code;
    h->cache = cache_folder(home);
    st = h->cache ? find_endpoint(h, err) : fm_fail_memory(err, "the name of the cache", strlen(home) + 8);
    if (!st) st = read_seconds("HF_HUB_DOWNLOAD_TIMEOUT", &h->download_timeout, err);
    if (!st) st = read_seconds("HF_HUB_ETAG_TIMEOUT", &h->etag_timeout, err);
    if (!st) st = find_token(h, home, err);
    fm_free(home);
    if (st) fm_hub_release(h);
    return st;
}

void fm_hub_release(struct fm_hub *h)
{
    fm_free(h->endpoint);
    fm_free(h->cache);
    if (h->token) explicit_bzero(h->token, strlen(h->token));
    fm_free(h->token);
    *h = (struct fm_hub){0};
}
