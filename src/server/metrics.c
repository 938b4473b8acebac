/* What Prometheus fetches: text format 0.0.4.  Numbers only; nothing of any request's text. */
#include "server/server.h"

static void put_head(struct fm_buf *b, const char *name, const char *type, const char *help)
{
    fm_buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_ends(struct fm_buf *b, const struct fm_scheduler_stats *st)
{
    static const char *const ends[FM_END_COUNT] = {"stop", "length", "cancelled", "deadline", "failed", "shutdown"};
    put_head(b, "fathom_requests_ended_total", "counter", "generations by how they ended");
    for (int i = 0; i < FM_END_COUNT; i++)
        fm_buf_printf(b, "fathom_requests_ended_total{reason=\"%s\"} %llu\n", ends[i], (unsigned long long)st->ends[i]);
}

/* Codes that went out; 0: the client left before there was one. */
static void put_statuses(struct fm_buf *b, struct fm_server *s)
{
    put_head(b, "fathom_http_responses_total", "counter", "HTTP answers by status");
    for (int i = 0; i < FM_STATUSES; i++) {
        const unsigned long long n = atomic_load(&s->statuses[i]);
        if (n) fm_buf_printf(b, "fathom_http_responses_total{status=\"%d\"} %llu\n", i, n);
    }
}

static void put_histogram(struct fm_buf *b, const char *name, const char *help, const struct fm_histogram *h)
{
    unsigned long long sum = 0;
    put_head(b, name, "histogram", help);
    for (int i = 0; i < FM_HISTOGRAM_BOUNDS; i++)
        fm_buf_printf(b, "%s_bucket{le=\"%g\"} %llu\n", name, fm_histogram_bounds[i], sum += h->bins[i]);
    fm_buf_printf(b, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9g\n%s_count %llu\n", name, (unsigned long long)h->n, name,
                  h->sum, name, (unsigned long long)h->n);
}

void fm_api_metrics(struct fm_server *s, struct fm_web_request *r)
{
    struct fm_scheduler_stats st;
    struct fm_buf b = {0};
    fm_scheduler_stats(s->scheduler, &st);
    const struct {
        const char *name, *type, *help;
        double value;
    } rows[] = {
        {"fathom_http_requests_total", "counter", "HTTP requests", (double)atomic_load(&s->requests)},
        {"fathom_http_requests_open", "gauge", "HTTP requests not answered to their end", fm_web_active(s->http)},
        {"fathom_requests_total", "counter", "generations accepted", (double)st.requests},
        {"fathom_requests_refused_total", "counter", "generations refused because the queue was full",
         (double)st.refused},
        {"fathom_requests_running", "gauge", "requests with a slot", st.busy},
        {"fathom_requests_waiting", "gauge", "requests in the queue", st.waiting},
        {"fathom_slots", "gauge", "requests that can run together", st.slots},
        {"fathom_prompt_tokens_total", "counter", "prompt tokens computed", (double)st.prompt_tokens},
        {"fathom_cached_tokens_total", "counter", "prompt tokens found in the cache", (double)st.cached_tokens},
        {"fathom_answer_tokens_total", "counter", "tokens generated", (double)st.answer_tokens},
        {"fathom_prompt_seconds_total", "counter", "time computing prompts", st.prompt_seconds},
        {"fathom_answer_seconds_total", "counter", "time computing answers", st.answer_seconds},
        {"fathom_steps_total", "counter", "forward passes", (double)st.steps},
        {"fathom_rows_total", "counter", "rows of all forward passes", (double)st.rows},
        {"fathom_kv_bytes", "gauge", "memory reserved for keys and values", (double)st.kv_bytes},
        {"fathom_prefix_cache_bytes", "gauge", "of it held by the prefix cache", (double)st.cache_bytes},
        {"fathom_prefix_cache_limit_bytes", "gauge", "what the prefix cache may hold", (double)st.cache_limit},
        {"fathom_prefix_cache_evicted_total", "counter", "blocks dropped from the prefix cache",
         (double)st.cache_evicted},
        {"fathom_disk_cached_tokens_total", "counter", "of the cached prompt tokens: came from disk",
         (double)st.disk_tokens},
        {"fathom_disk_cache_bytes", "gauge", "files of the cache on disk", (double)st.disk.bytes},
        {"fathom_disk_cache_limit_bytes", "gauge", "what they may take; 0: there is none", (double)st.disk.limit},
        {"fathom_disk_cache_blocks", "gauge", "their number, each 64 tokens", (double)st.disk.files},
        {"fathom_disk_cache_read_total", "counter", "blocks read from disk", (double)st.disk.read},
        {"fathom_disk_cache_written_total", "counter", "blocks written", (double)st.disk.written},
        {"fathom_disk_cache_evicted_total", "counter", "blocks removed for lack of room", (double)st.disk.evicted},
        {"fathom_disk_cache_dropped_total", "counter", "files that were not what they should be",
         (double)st.disk.dropped},
        {"fathom_disk_cache_failed_total", "counter", "blocks that the disk refused", (double)st.disk.failed},
        {"fathom_disk_cache_skipped_total", "counter", "blocks not written because too many waited",
         (double)st.disk.skipped},
        {"fathom_joules_total", "counter", "energy of all steps, where the machine counts it", st.joules},
        {"fathom_wait_seconds", "gauge", "about how long a new request waits for a slot", st.wait_seconds},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_head(&b, rows[i].name, rows[i].type, rows[i].help);
        fm_buf_printf(&b, "%s %.17g\n", rows[i].name, rows[i].value);
    }
    put_ends(&b, &st);
    put_statuses(&b, s);
    put_histogram(&b, "fathom_queue_seconds", "time from a request to its slot", &st.queued);
    put_histogram(&b, "fathom_time_to_first_token_seconds", "time from a request to its first token", &st.first_token);
    put_histogram(&b, "fathom_inter_token_seconds", "time between two tokens of an answer", &st.next_token);
    if (b.failed)
        fm_web_reply(r, 503, "text/plain", "memory is short\n", 16);
    else
        fm_web_reply(r, 200, "text/plain; version=0.0.4", b.data, b.len);
    fm_buf_release(&b);
}
