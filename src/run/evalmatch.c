/* Whether a generated answer counts as right.
 *
 *   exact      the same bytes, blanks around them aside
 *   text       the same words: ASCII letters in either case, blanks counted once, punctuation around it left out
 *   starts     begins with those words;  contains: holds them somewhere
 *   number     the number behind the last ####, else the last number, is the same: 1,234.50 is 1234.5
 *   auto       number where the right answer is one, else text
 *
 * What a model thinks aloud, up to </think>, is no part of its answer. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "run/evalset.h"

const char *const fm_match_names[FM_MATCH_COUNT + 1] = {"auto", "exact", "text", "starts", "contains", "number", NULL};

enum fm_match fm_match_find(const char *name)
{
    int i = 0;
    while (i < FM_MATCH_COUNT && strcmp(fm_match_names[i], name) != 0) i++;
    return (enum fm_match)i;
}

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_punct(char c) { return c && strchr(".,;:!?\"'`*()[]{}$", c); }

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

/* One number at s[0 … n): digits with commas between groups of three, perhaps a fraction.  Returns its length, 0: none. */
static size_t number_at(const char *s, size_t n, double *x)
{
    char plain[64];
    size_t i = 0, k = 0;
    if (i < n && s[i] == '-') plain[k++] = s[i++];
    const size_t first = i;
    while (i < n && k < sizeof plain - 1) {
        const bool group = s[i] == ',' && i > first && i + 3 < n && is_digit(s[i + 1]) && is_digit(s[i + 2]) &&
                           is_digit(s[i + 3]) && (i + 4 == n || !is_digit(s[i + 4]));
        if (!is_digit(s[i]) && !group) break;
        if (!group) plain[k++] = s[i];
        i++;
    }
    if (i == first && !(i + 1 < n && s[i] == '.' && is_digit(s[i + 1]))) return 0;
    if (i + 1 < n && s[i] == '.' && is_digit(s[i + 1])) do
            plain[k++] = s[i++];
        while (i < n && is_digit(s[i]) && k < sizeof plain - 1);
    plain[k] = 0;
    *x = strtod(plain, NULL);
    return i;
}

/* A minus belongs to a number unless it stands behind one: 5-3 ends in 3. */
static bool begins_number(const char *s, size_t i)
{
    const bool behind = i > 0 && (is_digit(s[i - 1]) || s[i - 1] == ')');
    return is_digit(s[i]) || s[i] == '.' || (s[i] == '-' && !behind);
}

static bool last_number(const char *s, size_t n, bool first, double *x, struct fm_buf *found)
{
    bool any = false;
    for (size_t i = 0; i < n;) {
        const size_t len = begins_number(s, i) ? number_at(s + i, n - i, x) : 0;
        if (len) {
            fm_buf_clear(found);
            fm_buf_add(found, s + i, len);
            any = true;
            if (first) return true;
        }
        i += len ? len : 1;
    }
    if (any) (void)number_at(found->data, found->len, x);
    return any;
}

static bool is_number(const char *s, double *x)
{
    size_t n = strlen(s), at = *s == '$';
    while (n > at && (is_blank(s[n - 1]) || s[n - 1] == '.')) n--;
    return n > at && number_at(s + at, n - at, x) == n - at;
}

static bool same_number(const struct fm_eval_item *it, const char *s, size_t n, struct fm_buf *found)
{
    const char *mark = NULL;
    double have, want;
    for (size_t i = 0; i + 4 <= n; i++)
        if (!memcmp(s + i, "####", 4)) mark = s + i + 4;
    if (mark && last_number(mark, (size_t)(s + n - mark), true, &have, found))
        ;
    else if (!last_number(s, n, false, &have, found))
        return false;
    for (int i = 0; i < it->n_answers; i++)
        if (is_number(fm_eval_answer(it, i), &want) && fabs(have - want) <= 1e-9 * fabs(want)) return true;
    return false;
}

static void add_words(struct fm_buf *out, const char *s, size_t n)
{
    while (n && (is_blank(s[n - 1]) || is_punct(s[n - 1]))) n--;
    while (n && (is_blank(*s) || is_punct(*s))) s++, n--;
    for (size_t i = 0; i < n; i++) {
        if (!is_blank(s[i]))
            fm_buf_char(out, lower(s[i]));
        else if (!is_blank(s[i - 1]))
            fm_buf_char(out, ' ');
    }
    fm_buf_add(out, "", 0);
}

static bool is_word(char c) { return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z') || c < 0; }

/* want stands in have at its begin or, unless starts, anywhere, as whole words. */
static bool holds(const char *have, const char *want, bool starts)
{
    const size_t n = strlen(want);
    for (const char *p = have; n && (p = strstr(p, want)); p++) {
        const bool left = p == have || !is_word(p[-1]) || !is_word(*want);
        const bool right = !is_word(p[n]) || !is_word(want[n - 1]);
        if (left && right && (!starts || p == have)) return true;
        if (starts) return false;
    }
    return false;
}

static bool same_words(const struct fm_eval_item *it, enum fm_match match, struct fm_buf *found)
{
    bool same = false;
    struct fm_buf have = {0}, want = {0};
    add_words(&have, found->data, found->len);
    for (int i = 0; i < it->n_answers && !same && !have.failed; i++) {
        const char *a = fm_eval_answer(it, i);
        fm_buf_clear(&want);
        add_words(&want, a, strlen(a));
        if (want.failed) break;
        same = match == FM_MATCH_TEXT ? !strcmp(have.data, want.data)
                                      : holds(have.data, want.data, match == FM_MATCH_STARTS);
    }
    found->failed |= have.failed | want.failed;
    fm_buf_release(&have);
    fm_buf_release(&want);
    return same;
}

static bool same_bytes(const struct fm_eval_item *it, const struct fm_buf *found)
{
    for (int i = 0; i < it->n_answers; i++) {
        const char *a = fm_eval_answer(it, i);
        size_t n = strlen(a);
        while (n && is_blank(a[n - 1])) n--;
        while (n && is_blank(*a)) a++, n--;
        if (n == found->len && !memcmp(a, found->data, n)) return true;
    }
    return false;
}

static enum fm_match choose(const struct fm_eval_item *it, enum fm_match match)
{
    double x;
    if (match == FM_MATCH_AUTO) match = it->match;
    if (match != FM_MATCH_AUTO) return match;
    return is_number(fm_eval_answer(it, 0), &x) ? FM_MATCH_NUMBER : FM_MATCH_TEXT;
}

bool fm_match_answer(const struct fm_eval_item *it, enum fm_match match, const char *text, size_t n,
                     struct fm_buf *found)
{
    static const char close[] = "</think>";
    for (size_t i = n; i-- > 0;)
        if (n - i >= sizeof close - 1 && !memcmp(text + i, close, sizeof close - 1)) {
            text += i + sizeof close - 1;
            n -= i + sizeof close - 1;
            break;
        }
    while (n && is_blank(text[n - 1])) n--;
    while (n && is_blank(*text)) text++, n--;
    match = choose(it, match);
    fm_buf_clear(found);
    if (match == FM_MATCH_NUMBER) return same_number(it, text, n, found);
    fm_buf_add(found, text, n);
    if (found->failed) return false;
    return match == FM_MATCH_EXACT ? same_bytes(it, found) : same_words(it, match, found);
}
