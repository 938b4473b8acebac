/* See regex.h. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <pcre2.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/str.h"

enum {
    PATTERN_BYTES_MAX = 1 << 16,
    MATCH_LIMIT = 10 * 1000 * 1000, /* backtracks of one match: a run of white space costs one per character */
    HEAP_LIMIT_KIB = 64 * 1024,
    CLOCK_EVERY = 64,         /* matches between two looks at the clock */
    SLOW_SECONDS = 10,        /* the clock stops patterns that are slow without reaching MATCH_LIMIT: */
    SLOW_BYTES_PER_S = 50000, /* a thousand times slower than the published ones */
};

/* Unicode White_Space, and everything else. */
#define SPACE_LIST \
    "\\x09-\\x0d\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NOT_SPACE_LIST                                                                                          \
    "\\x00-\\x08\\x0e-\\x1f\\x21-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}" \
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
#define WORD_LIST "\\p{L}\\p{M}\\p{Nd}\\p{Pc}"

struct fm_regex {
    pcre2_code *code;
    pcre2_match_context *limits;
    bool jit;
};

struct fm_regex_run {
    pcre2_match_data *data;
    unsigned n_matches;
    time_t start;
    size_t bytes; /* of text matched since start */
};

static atomic_bool jit_forbidden;
void fm_regex_allow_jit(bool allow) { atomic_store(&jit_forbidden, !allow); }

static void *pcre_malloc(size_t n, void *arg)
{
    (void)arg;
    return fm_malloc(n);
}

static void pcre_free(void *p, void *arg)
{
    (void)arg;
    fm_free(p);
}

/* ---- rewriting ---- */

/* PCRE2 since 10.40 reads \p{Han} as the script's extensions. */
static const char *const scripts[] = {"Han",      "Hiragana", "Katakana", "Hangul", "Latin",     "Greek",
                                      "Cyrillic", "Arabic",   "Hebrew",   "Thai",   "Devanagari"};

static bool is_script(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++)
        if (strlen(scripts[i]) == n && !memcmp(scripts[i], name, n)) return true;
    return false;
}

/* Copy \p{NAME} at s; returns the bytes read, 0 when it is not of that shape. */
static size_t write_property(struct fm_buf *out, const char *s)
{
    const char *close = s[2] == '{' ? strchr(s, '}') : NULL;
    if (!close) return 0;
    size_t n = (size_t)(close - s) - 3;
    fm_buf_add(out, s, 3);
#if PCRE2_MAJOR > 10 || PCRE2_MINOR >= 40
    if (is_script(s + 3, n)) fm_buf_str(out, "sc:");
#endif
    fm_buf_add(out, s + 3, n + 1);
    return n + 4;
}

/* Write the escape at s (s[0] is the backslash); returns the bytes read. */
static size_t write_escape(struct fm_buf *out, const char *s, bool in_class)
{
    static const struct {
        char letter;
        const char *outside, *inside;
    } rows[] = {{'s', "[" SPACE_LIST "]", SPACE_LIST},
                {'S', "[^" SPACE_LIST "]", NOT_SPACE_LIST},
                {'w', "[" WORD_LIST "]", WORD_LIST},
                {'W', "[^" WORD_LIST "]", NULL}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *text = in_class ? rows[i].inside : rows[i].outside;
        if (s[1] != rows[i].letter || !text) continue;
        fm_buf_str(out, text);
        return 2;
    }
    size_t n = s[1] == 'p' || s[1] == 'P' ? write_property(out, s) : 0;
    if (n) return n;
    n = s[1] ? 2 : 1;
    fm_buf_add(out, s, n);
    return n;
}

static size_t write_class(struct fm_buf *out, const char *s);

/* Members of a class from s up to its closing bracket or "&&"; returns the bytes read. */
static size_t write_members(struct fm_buf *out, const char *s)
{
    size_t i = 0;
    while (s[i] && s[i] != ']' && !(s[i] == '&' && s[i + 1] == '&')) {
        if (s[i] == '\\')
            i += write_escape(out, s + i, true);
        else if (s[i] == '[' && s[i + 1] != ':') {
            fm_buf_str(out, "\\["); /* a bracket in a class is itself */
            i++;
        } else
            fm_buf_char(out, s[i++]);
    }
    return i;
}

/* The class at s (s[0] is '['); returns the bytes read. */
static size_t write_class(struct fm_buf *out, const char *s)
{
    struct fm_buf left = {0};
    size_t i = 1;
    fm_buf_char(&left, '[');
    if (s[i] == '^') fm_buf_char(&left, s[i++]);
    if (s[i] == ']') { /* first in a class it is itself */
        fm_buf_str(&left, "\\]");
        i++;
    }
    i += write_members(&left, s + i);
    if (s[i]) fm_buf_char(&left, ']'); /* else it is never closed, which PCRE2 must see */
    bool intersection = !strncmp(s + i, "&&[^", 4);
    if (intersection) {
        fm_buf_str(out, "(?:(?![");
        i += 4;
        i += write_members(out, s + i);
        if (s[i] == ']') i++;
        fm_buf_str(out, "])");
    }
    fm_buf_add(out, left.data, left.len);
    out->failed |= left.failed;
    fm_buf_release(&left);
    if (intersection) fm_buf_char(out, ')');
    return s[i] == ']' ? i + 1 : i;
}

static void rewrite(struct fm_buf *out, const char *s)
{
    for (size_t i = 0; s[i];) {
        if (s[i] == '\\')
            i += write_escape(out, s + i, false);
        else if (s[i] == '[')
            i += write_class(out, s + i);
        else
            fm_buf_char(out, s[i++]);
    }
}

/* ---- compiling ---- */

static enum fm_status compile(struct fm_regex *r, pcre2_general_context *memory, const struct fm_buf *text,
                              const char *pattern, const char *where, struct fm_error *err)
{
    pcre2_compile_context *cc = pcre2_compile_context_create(memory);
    r->limits = pcre2_match_context_create(memory);
    if (!cc || !r->limits) {
        pcre2_compile_context_free(cc);
        return fm_fail_memory(err, "regular expression", text->len);
    }
    pcre2_set_newline(cc, PCRE2_NEWLINE_LF);
    pcre2_set_match_limit(r->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(r->limits, HEAP_LIMIT_KIB);
    int code;
    PCRE2_SIZE offset;
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C;
    r->code = pcre2_compile((PCRE2_SPTR)text->data, text->len, options, &code, &offset, cc);
    pcre2_compile_context_free(cc);
    if (r->code) return FM_OK;
    if (code == PCRE2_ERROR_HEAP_FAILED || code == PCRE2_ERROR_NOMEMORY)
        return fm_fail_memory(err, "regular expression", text->len);
    unsigned char why[160];
    pcre2_get_error_message(code, why, sizeof why);
    return fm_fail(err, FM_ERR_INPUT, "compile pre-tokenizer pattern: %s: %s: \"%.120s\"", where, (char *)why, pattern);
}

enum fm_status fm_regex_new(const char *pattern, const char *where, struct fm_regex **out, struct fm_error *err)
{
    if (strlen(pattern) > PATTERN_BYTES_MAX)
        return fm_fail(err, FM_ERR_INPUT, "compile pre-tokenizer pattern: %s: longer than %d bytes", where,
                       PATTERN_BYTES_MAX);
    enum fm_status st;
    struct fm_buf text = {0};
    struct fm_regex *r = fm_calloc(1, sizeof *r);
    pcre2_general_context *memory = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);
    rewrite(&text, pattern);
    if (!r || !memory || text.failed) {
        st = fm_fail_memory(err, "regular expression", strlen(pattern));
        goto out;
    }
    if (!text.data) fm_buf_str(&text, "");
    FM_GOTO(compile(r, memory, &text, pattern, where, err));
    r->jit = !atomic_load(&jit_forbidden) && pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE) == 0;
    *out = r;
    r = NULL;
out:
    fm_regex_free(r);
    pcre2_general_context_free(memory);
    fm_buf_release(&text);
    return st;
}

void fm_regex_free(struct fm_regex *r)
{
    if (!r) return;
    pcre2_code_free(r->code);
    pcre2_match_context_free(r->limits);
    fm_free(r);
}

/* ---- matching ---- */

enum fm_status fm_regex_run_new(struct fm_regex_run **out, struct fm_error *err)
{
    struct fm_regex_run *run = fm_calloc(1, sizeof *run);
    pcre2_general_context *memory = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);
    if (run && memory) run->data = pcre2_match_data_create(1, memory);
    pcre2_general_context_free(memory);
    if (!run || !run->data) {
        fm_free(run);
        return fm_fail_memory(err, "regular expression", sizeof *run);
    }
    *out = run;
    return FM_OK;
}

void fm_regex_run_free(struct fm_regex_run *run)
{
    if (!run) return;
    pcre2_match_data_free(run->data);
    fm_free(run);
}

static enum fm_status match_failure(int rc, struct fm_error *err)
{
    if (rc == PCRE2_ERROR_NOMEMORY) return fm_fail_memory(err, "regular expression", HEAP_LIMIT_KIB * 1024ull);
    unsigned char why[160];
    pcre2_get_error_message(rc, why, sizeof why);
    return fm_fail(err, FM_ERR_INPUT, "split text: pre-tokenizer pattern: %s", (char *)why);
}

/* Far beyond what any sane pattern needs: the file is hostile or broken. */
static bool too_slow(struct fm_regex_run *run)
{
    if (run->n_matches++ % CLOCK_EVERY) return false;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!run->start) run->start = now.tv_sec;
    return now.tv_sec - run->start > SLOW_SECONDS + (time_t)(run->bytes / SLOW_BYTES_PER_S);
}

enum fm_status fm_regex_next(const struct fm_regex *r, struct fm_regex_run *run, const char *text, size_t n,
                             size_t from, bool *found, size_t *begin, size_t *end, struct fm_error *err)
{
    if (too_slow(run)) return fm_fail(err, FM_ERR_INPUT, "split text: pre-tokenizer pattern: is too slow for any use");
    uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    PCRE2_SPTR s = (PCRE2_SPTR)text;
    if (r->jit) rc = pcre2_jit_match(r->code, s, n, from, options, run->data, r->limits);
    /* the interpreter keeps its frames on the heap: it can go deeper than the machine code */
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(r->code, s, n, from, options | PCRE2_NO_JIT, run->data, r->limits);
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) return match_failure(rc, err);
    *found = rc >= 0;
    if (*found) {
        const PCRE2_SIZE *o = pcre2_get_ovector_pointer(run->data);
        *begin = o[0];
        *end = o[1];
    }
    run->bytes += (*found ? *end : n) - from;
    return FM_OK;
}
