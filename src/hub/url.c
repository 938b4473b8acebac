/* Addresses: escaping, origins, and where a redirect may lead.
 *
 * The reader is stricter than any browser's: an address with a user name, a backslash, a blank or a control character is
 * refused, so that the origin seen here is the one that the transfer library connects to. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "hub/hub_impl.h"

void fm_url_escape(struct fm_buf *b, const char *text, char keep)
{
    for (const unsigned char *s = (const unsigned char *)text; *s; s++)
        if (isalnum(*s) || strchr("-._~", *s) || *s == (unsigned char)keep)
            fm_buf_char(b, (char)*s);
        else
            fm_buf_printf(b, "%%%02X", *s);
}

/* scheme://host[:port] of an address */
struct origin {
    bool https;
    const char *host;
    size_t host_n;
    long port;
};

static size_t host_length(const char *s)
{
    if (*s != '[') return strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");
    size_t n = 1 + strspn(s + 1, "0123456789abcdefABCDEF:.");
    return s[n] == ']' ? n + 1 : 0;
}

static bool read_origin(const char *url, struct origin *o)
{
    for (const unsigned char *s = (const unsigned char *)url; *s; s++)
        if (*s <= ' ' || *s >= 0x7F || *s == '\\') return false;
    o->https = !strncasecmp(url, "https://", 8);
    if (!o->https && strncasecmp(url, "http://", 7) != 0) return false;
    o->host = url + (o->https ? 8 : 7);
    o->host_n = host_length(o->host);
    if (!o->host_n || o->host_n > 255) return false;
    const char *s = o->host + o->host_n;
    o->port = o->https ? 443 : 80;
    if (*s == ':') {
        o->port = 0;
        for (s++; isdigit((unsigned char)*s) && o->port < 65536; s++) o->port = o->port * 10 + (*s - '0');
        if (o->port < 1 || o->port > 65535) return false;
    }
    return !*s || strchr("/?#", *s);
}

bool fm_url_ok(const char *url)
{
    struct origin o;
    return strlen(url) <= 8192 && read_origin(url, &o);
}

bool fm_url_same_origin(const char *a, const char *b)
{
    struct origin x, y;
    return read_origin(a, &x) && read_origin(b, &y) && x.https == y.https && x.port == y.port && x.host_n == y.host_n &&
           !strncasecmp(x.host, y.host, x.host_n);
}

bool fm_url_is_https(const char *url)
{
    struct origin o;
    return read_origin(url, &o) && o.https;
}

bool fm_url_is_local(const char *url)
{
    static const char *const local[] = {"localhost", "127.0.0.1", "[::1]"};
    struct origin o;
    if (!read_origin(url, &o)) return false;
    for (int i = 0; i < 3; i++)
        if (o.host_n == strlen(local[i]) && !strncasecmp(o.host, local[i], o.host_n)) return true;
    return false;
}

const char *fm_url_refuse(const char *from, const char *to)
{
    if (!fm_url_ok(to)) return "it is no plain http or https address";
    if (fm_url_is_https(from) && !fm_url_is_https(to) && !fm_url_is_local(to)) return "it gives up encryption";
    return NULL;
}

void fm_url_display(const char *url, char *out, size_t n) { snprintf(out, n, "%.*s", (int)strcspn(url, "?#"), url); }

bool fm_link_next(const char *value, struct fm_buf *out)
{
    while ((value = strchr(value, '<'))) {
        const char *end = strchr(++value, '>');
        if (!end) return false;
        size_t rest = strcspn(end, ",<");
        const char *rel = memmem(end, rest, "rel=\"next\"", 10);
        if (!rel) rel = memmem(end, rest, "rel=next", 8);
        if (rel) {
            fm_buf_add(out, value, (size_t)(end - value));
            return true;
        }
        value = end;
    }
    return false;
}
