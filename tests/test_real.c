/* Two trained models end to end: what they say, byte for byte.
 *
 *   stories260K              greedy text as its model card prints it (FATHOM_SHARED/data, default ../shared/data)
 *   SmolLM2-135M-Instruct    ids, float32 logits and greedy texts of tests/oracle/smollm2, and the same bits for any number
 *                            of threads and any chunk size.  Fetched by tests/fetch_smollm2.sh; not with --quick.
 * What cannot be had is skipped with a reason; with CI=true a missing SmolLM2 is a failure. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/env.h"
#include "base/json.h"
#include "base/str.h"
#include "fathom.h"

static const double TOLERANCE = 1e-4; /* of the largest logit: an exact float32 path against PyTorch's */
static const char ORACLE[] = "tests/oracle/smollm2";

static int n_failed;

static void check(bool ok, const char *what)
{
    if (ok) return;
    n_failed++;
    printf("FAILED %s\n", what);
}

static void must(enum fm_status st, const struct fm_error *err)
{
    if (!st) return;
    printf("FAILED %s\n", err->message);
    exit(1);
}

static bool exists(const char *path)
{
    struct stat st;
    return !stat(path, &st);
}

static bool collect(void *arg, const char *text, size_t n)
{
    fm_buf_add(arg, text, n);
    return true;
}

static struct fm_engine *engine(const char *model, struct fm_engine_options o)
{
    struct fm_error err;
    struct fm_engine *e = NULL;
    o.model = model;
    must(fm_engine_open(&o, &e, &err), &err);
    return e;
}

/* Greedy continuation of ids as text; *seconds of it. */
static struct fm_buf continuation(struct fm_engine *e, const int32_t *ids, int n, int max_tokens,
                                  struct fm_generation_stats *stats)
{
    struct fm_error err;
    struct fm_session *s;
    struct fm_buf text = {0};
    struct fm_generation g = {
        .sampling = fm_sampling_default(), .max_tokens = max_tokens, .on_text = collect, .arg = &text};
    g.sampling.temp = 0;
    must(fm_session_new(e, 0, &s, &err), &err);
    must(fm_session_feed(s, ids, n, NULL, &err), &err);
    must(fm_session_generate(s, &g, stats, &err), &err);
    fm_session_free(s);
    fm_buf_str(&text, "");
    return text;
}

/* ---- stories260K ---- */

/* The greedy story between the command line that made it and the end of its code block. */
static bool story(const char *card, struct fm_buf *out)
{
    static const char command[] = "tok512.bin -t 0.0\n";
    struct fm_buf b = {0};
    struct fm_error err;
    must(fm_buf_read_file(&b, card, 1 << 20, &err), &err);
    const char *from = strstr(b.data, command), *to = from ? strstr(from, "\n```") : NULL;
    if (to) fm_buf_add(out, from + sizeof command - 1, (size_t)(to - from) - (sizeof command - 1));
    fm_buf_release(&b);
    return to != NULL;
}

static void test_stories(void)
{
    const char *shared = fm_env("FATHOM_SHARED");
    char model[1024], card[1024];
    struct fm_buf want = {0};
    (void)snprintf(model, sizeof model, "%s/data/4-models/stories260K/stories260K.gguf", shared ? shared : "../shared");
    (void)snprintf(card, sizeof card, "%s/data/4-models/stories260K/stories260K.md", shared ? shared : "../shared");
    if (!exists(model) || !exists(card)) {
        printf("SKIP stories260K: %s is not here\n", model);
        return;
    }
    if (!story(card, &want)) {
        check(false, "stories260K: the model card holds no story");
        return;
    }
    static const struct fm_engine_options ways[] = {{.exact = true, .threads = 1},
                                                    {.threads = 1, .kv_type = "f32"},
                                                    {.threads = 2, .chunk = 1, .kv_type = "f32"},
                                                    {.deterministic = true, .threads = 2, .kv_type = "f32"}};
    for (int i = 0; i < 4; i++) {
        struct fm_engine *e = engine(model, ways[i]);
        struct fm_generation_stats stats;
        struct fm_buf text = continuation(e, (int32_t[]){1}, 1, 256, &stats);
        check(text.len == want.len && !memcmp(text.data, want.data, want.len), "stories260K: greedy text");
        printf("stories260K          %s, %d threads: %d tokens, %.0f a second\n", ways[i].exact ? "exact" : "fast",
               ways[i].threads, stats.answer_tokens, stats.answer_tokens / stats.answer_seconds);
        fm_buf_release(&text);
        fm_engine_close(e);
    }
    fm_buf_release(&want);
}

/* ---- SmolLM2: tokens ---- */

static int32_t *ids_of(const json_t *list, int *n)
{
    *n = (int)json_array_size(list);
    int32_t *ids = malloc((size_t)(*n ? *n : 1) * sizeof *ids);
    for (int i = 0; ids && i < *n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    if (!ids) exit(1);
    return ids;
}

static void check_line(const struct fm_tokenizer *t, const char *line, size_t n, int number)
{
    struct fm_error err;
    json_t *j = NULL;
    int n_want;
    int32_t *got;
    size_t n_got;
    char what[64];
    must(fm_json_parse(line, n, "tokens.jsonl", &j, &err), &err);
    const json_t *text = json_object_get(j, "text");
    int32_t *want = ids_of(json_object_get(j, "ids"), &n_want);
    must(fm_text_encode(t, json_string_value(text), json_string_length(text), FM_TEXT_SPECIAL, &got, &n_got, &err),
         &err);
    (void)snprintf(what, sizeof what, "SmolLM2: ids of text %d", number);
    check(n_got == (size_t)n_want && !memcmp(got, want, n_got * sizeof *got), what);
    fm_text_free(got);
    free(want);
    json_decref(j);
}

static void test_tokens(const struct fm_engine *e)
{
    struct fm_buf b = {0};
    struct fm_error err;
    char path[256];
    int lines = 0;
    (void)snprintf(path, sizeof path, "%s/tokens.jsonl", ORACLE);
    must(fm_buf_read_file(&b, path, 1 << 24, &err), &err);
    for (const char *p = b.data, *end; p && (end = strchr(p, '\n')); p = end + 1)
        check_line(fm_engine_tokenizer(e), p, (size_t)(end - p), ++lines);
    check(lines > 0, "SmolLM2: tokens.jsonl is empty");
    printf("SmolLM2 tokens       %d texts\n", lines);
    fm_buf_release(&b);
}

/* ---- SmolLM2: logits and greedy texts ---- */

/* max|logits − the committed ones| / max|logit| after the last id */
static double last_error(const float *logits, const json_t *c, int V)
{
    struct fm_buf b = {0};
    struct fm_error err;
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", ORACLE, fm_json_str(c, "last_logits", "?"));
    must(fm_buf_read_file(&b, path, 1 << 24, &err), &err);
    double worst = 0, top = 0;
    check(b.len == (size_t)V * sizeof(float), "SmolLM2: size of the committed logits");
    for (int i = 0; i < V && b.len == (size_t)V * sizeof(float); i++) {
        float want;
        memcpy(&want, b.data + (size_t)i * sizeof want, sizeof want);
        worst = fmax(worst, fabs((double)logits[i] - (double)want));
        top = fmax(top, fabs((double)want));
    }
    fm_buf_release(&b);
    return worst / top;
}

/* The same over the twenty best of some positions. */
static double top_error(const float *logits, const json_t *c, int V)
{
    const json_t *tops = json_object_get(c, "top");
    double worst = 0;
    for (size_t k = 0; k < json_array_size(tops); k++) {
        const json_t *t = json_array_get(tops, k), *ids = json_object_get(t, "ids"),
                     *want = json_object_get(t, "logits");
        const float *row = logits + (size_t)fm_json_int(t, "position", 0) * (size_t)V;
        double scale = fabs(json_number_value(json_array_get(want, 0)));
        for (size_t i = 0; i < json_array_size(ids); i++) {
            double d =
                (double)row[json_integer_value(json_array_get(ids, i))] - json_number_value(json_array_get(want, i));
            worst = fmax(worst, fabs(d) / scale);
        }
    }
    return worst;
}

static int leading_same(const char *a, const char *b)
{
    int n = 0;
    while (a[n] && a[n] == b[n]) n++;
    return n;
}

static void test_case(struct fm_engine *e, const json_t *c, int number, bool exact)
{
    struct fm_error err;
    struct fm_session *s;
    struct fm_generation_stats stats;
    const json_t *greedy = json_object_get(c, "greedy");
    const char *want = fm_json_str(greedy, "text", "");
    int n, V = fm_engine_info(e)->vocab, n_greedy = (int)json_array_size(json_object_get(greedy, "ids"));
    int32_t *ids = ids_of(json_object_get(c, "ids"), &n);
    float *logits = malloc((size_t)n * (size_t)V * sizeof *logits);
    if (!logits) exit(1);
    must(fm_session_new(e, n, &s, &err), &err);
    must(fm_session_feed(s, ids, n, logits, &err), &err);
    double last = last_error(logits + (size_t)(n - 1) * (size_t)V, c, V), top = top_error(logits, c, V);
    check(!memcmp(fm_session_logits(s), logits + (size_t)(n - 1) * (size_t)V, (size_t)V * sizeof *logits),
          "SmolLM2: last logits");
    struct fm_buf text = continuation(e, ids, n, n_greedy, &stats);
    int same = leading_same(text.data, want);
    if (exact) {
        check(last <= TOLERANCE && top <= TOLERANCE, "SmolLM2: exact logits");
        check(!strcmp(text.data, want), "SmolLM2: exact greedy text");
        check((stats.finish == FM_FINISH_STOP) == fm_json_bool(greedy, "ended", false),
              "SmolLM2: end of the greedy text");
    }
    printf("SmolLM2 %-6s chat %d logits %.1e (top %.1e), greedy text same for %d of %zu bytes, %.1f tokens a second\n",
           exact ? "exact" : "fast", number, last, top, same, strlen(want), stats.answer_tokens / stats.answer_seconds);
    fm_buf_release(&text);
    fm_session_free(s);
    free(logits);
    free(ids);
}

static void test_cases(const char *model, const json_t *cases, bool exact)
{
    struct fm_engine *e = engine(model, (struct fm_engine_options){.exact = exact, .threads = 2, .ctx = 512});
    if (exact) test_tokens(e);
    for (size_t i = 0; i < json_array_size(cases); i++) test_case(e, json_array_get(cases, i), (int)i, exact);
    check(json_array_size(cases) > 0, "SmolLM2: logits.json holds no cases");
    fm_engine_close(e);
}

/* ---- SmolLM2: the same bits ---- */

static float *logits_with(const char *model, struct fm_engine_options o, const int32_t *ids, int n)
{
    struct fm_error err;
    struct fm_session *s;
    o.ctx = 512;
    struct fm_engine *e = engine(model, o);
    size_t V = (size_t)fm_engine_info(e)->vocab;
    float *logits = malloc((size_t)n * V * sizeof *logits);
    if (!logits) exit(1);
    must(fm_session_new(e, 0, &s, &err), &err);
    must(fm_session_feed(s, ids, n, logits, &err), &err);
    fm_session_free(s);
    fm_engine_close(e);
    return logits;
}

static void test_bits(const char *model, const json_t *c, int V)
{
    static const struct fm_engine_options ways[] = {{.threads = 1, .chunk = 512},
                                                    {.threads = 2, .chunk = 512},
                                                    {.threads = 2, .chunk = 7},
                                                    {.threads = 1, .chunk = 64},
                                                    {.threads = 2, .chunk = 1}};
    int n;
    int32_t *ids = ids_of(json_object_get(c, "ids"), &n);
    for (int exact = 0; exact <= 1; exact++) {
        float *first = NULL;
        for (int i = 0; i < 5; i++) {
            struct fm_engine_options o = ways[i];
            o.exact = exact;
            float *logits = logits_with(model, o, ids, n);
            if (first)
                check(!memcmp(first, logits, (size_t)n * (size_t)V * sizeof *logits),
                      "SmolLM2: bits differ by threads or chunks");
            if (first)
                free(logits);
            else
                first = logits;
        }
        free(first);
    }
    printf("SmolLM2 bits         the same for 1 and 2 threads, chunks of 1, 7, 64 and all\n");
    free(ids);
}

/* ---- SmolLM2: memory ---- */

static void add_up(void *arg, const char *item, uint64_t bytes, bool file_backed)
{
    (void)item, (void)file_backed;
    *(uint64_t *)arg += bytes;
}

/* Bytes of a line like "VmRSS:  1234 kB" of /proc/self/status; 0 where there is no such thing. */
static double status_bytes(const char *key)
{
    char line[256];
    unsigned long kb = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key))) (void)sscanf(line + strlen(key), " %lu", &kb);
    if (f) (void)fclose(f);
    return 1024.0 * (double)kb;
}

/* In a process of its own: what a full context makes resident against the plan. */
static int use_a_full_context(const char *model)
{
    struct fm_error err;
    struct fm_session *s;
    struct fm_engine_options o = {.threads = 2, .ctx = 512};
    static int32_t ids[512];
    uint64_t plan = 0;
    double before = status_bytes("VmRSS:");
    o.model = model;
    must(fm_memory_plan(&o, add_up, &plan, &err), &err);
    struct fm_engine *e = engine(model, o);
    must(fm_session_new(e, 0, &s, &err), &err);
    for (int i = 0; i < 512; i++) ids[i] = 100 + 89 * i % 40000;
    must(fm_session_feed(s, ids, 512, NULL, &err), &err);
    double now = status_bytes("VmRSS:") - before, peak = status_bytes("VmHWM:") - before,
           room = 0.05 * (double)plan + 16 * 1048576.0;
    printf("SmolLM2 memory       planned %.1f MB, resident %.1f, at most %.1f\n", (double)plan * 1e-6, now * 1e-6,
           peak * 1e-6);
    check(fabs(now - (double)plan) <= room && fabs(peak - (double)plan) <= room, "SmolLM2: memory plan");
    fm_session_free(s);
    fm_engine_close(e);
    return n_failed > 0;
}

static void test_memory(const char *model)
{
    int rc = -1;
    (void)fflush(stdout);
    pid_t child = fork();
    if (!child) {
        rc = use_a_full_context(model);
        (void)fflush(stdout);
        _exit(rc);
    }
    check(child > 0 && waitpid(child, &rc, 0) == child && rc == 0, "SmolLM2: memory of a full context");
}

/* The file, fetched when it is not here; NULL when it cannot be had. */
static const char *smollm2(void)
{
    static char path[1024];
    FILE *p = popen("tests/fetch_smollm2.sh 2>/dev/null", "r");
    char *line = p ? fgets(path, sizeof path, p) : NULL;
    int rc = p ? pclose(p) : -1;
    if (rc || !line) return NULL;
    path[strcspn(path, "\n")] = 0;
    return path;
}

static void test_smollm2(void)
{
    struct fm_error err;
    json_t *j = NULL;
    char path[256];
    const char *model = smollm2(), *ci = fm_env("CI");
    if (!model) {
        printf("SKIP SmolLM2: tests/fetch_smollm2.sh could not bring the model (no network?)\n");
        check(!ci || strcmp(ci, "true"), "SmolLM2: must be here in CI");
        return;
    }
    (void)snprintf(path, sizeof path, "%s/logits.json", ORACLE);
    must(fm_json_read(path, &j, &err), &err);
    const json_t *cases = json_object_get(j, "cases");
    test_memory(model);
    test_cases(model, cases, true);
    test_cases(model, cases, false);
    test_bits(model, json_array_get(cases, 0), (int)fm_json_int(j, "vocab", 0));
    json_decref(j);
}

int main(int argc, char **argv)
{
    bool quick = argc > 1 && !strcmp(argv[1], "--quick");
    test_stories();
    if (quick)
        printf("SKIP SmolLM2: --quick\n");
    else
        test_smollm2();
    printf("%d failures\n", n_failed);
    return n_failed > 0;
}
