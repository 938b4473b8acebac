/* JSON as it goes out: texts escaped, numbers printed, nothing ever parsed again. */
#include "base/pyjson.h"
#include "server/server.h"

void fm_put_text(struct fm_buf *b, const char *s, size_t n) { fm_py_write_string(b, (struct fm_span){s, n}); }

void fm_reply_json(struct fm_web_request *r, int status, struct fm_buf *b)
{
    static const char short_of_memory[] = "{\"error\":{\"message\":\"memory is short\",\"type\":\"server_error\","
                                          "\"param\":null,\"code\":\"server_error\"}}";
    if (b->failed)
        fm_web_reply(r, 503, "application/json", short_of_memory, sizeof short_of_memory - 1);
    else
        fm_web_reply(r, status, "application/json", b->data, b->len);
    fm_buf_release(b);
}
