/* See keys.h. */
#include "server/keys.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "server/ask.h"

enum { KEY_MAX = 255, NAME_MAX_BYTES = 63, MODELS_MAX = 511 };
enum rate { REQUESTS_MINUTE, TOKENS_MINUTE, TOKENS_DAY, N_RATES };

static const struct {
    const char *name, *unit;
    double seconds;
} rates[N_RATES] = {{"requests-per-minute", "requests per minute", 60},
                    {"tokens-per-minute", "tokens per minute", 60},
                    {"tokens-per-day", "tokens per day", 86400}};

struct bucket {
    double limit, level, at; /* limit 0: none; level as it was at the time at */
};

struct key {
    char text[KEY_MAX + 1]; /* zeros to its end, so that comparing takes the same time for all */
    char name[NAME_MAX_BYTES + 1], models[MODELS_MAX + 1];
    struct bucket rates[N_RATES];
    int concurrent, max_tokens; /* 0: any */
    int running;
};

struct fm_keys {
    pthread_mutex_t lock; /* for what changes: buckets, running */
    int n;
    struct key all[];
};

/* ---- a line ---- */

static enum fm_status wrong(struct fm_error *err, int i, const char *name, const char *why)
{
    return fm_fail(err, FM_ERR_INPUT, "read keys: entry %d: %.40s: %s", i + 1, name, why);
}

static bool whole_number(const char *text, long max, long *out)
{
    char *end;
    *out = strtol(text, &end, 10);
    return *text && !*end && *out >= 1 && *out <= max;
}

static bool copy_word(char *dst, size_t n, const char *text)
{
    return *text && (size_t)snprintf(dst, n, "%s", text) < n;
}

/* It stands in logs. */
static bool is_plain(const char *text)
{
    for (; *text; text++)
        if (*text <= ' ' || *text > '~' || *text == '"' || *text == '\\') return false;
    return true;
}

static enum fm_status read_limit(struct key *k, int i, char *word, struct fm_error *err)
{
    char *value = strchr(word, '=');
    long number;
    if (!value) return wrong(err, i, "a word behind the key", "it is no name=value");
    *value++ = 0;
    if (!strcmp(word, "name"))
        return is_plain(value) && copy_word(k->name, sizeof k->name, value)
                   ? FM_OK
                   : wrong(err, i, word, "it is not 1 to 63 letters, digits and signs but \" and \\");
    if (!strcmp(word, "models"))
        return copy_word(k->models, sizeof k->models, value) ? FM_OK : wrong(err, i, word, "it is not 1 to 511 bytes");
    if (!whole_number(value, 1L << 40, &number)) return wrong(err, i, word, "its value is no whole number from 1 on");
    for (int r = 0; r < N_RATES; r++) {
        if (strcmp(word, rates[r].name) != 0) continue;
        k->rates[r].limit = k->rates[r].level = (double)number;
        return FM_OK;
    }
    int *count = !strcmp(word, "concurrent") ? &k->concurrent : !strcmp(word, "max-tokens") ? &k->max_tokens : NULL;
    if (!count) return wrong(err, i, word, "there is no such limit");
    *count = number > 1 << 30 ? 1 << 30 : (int)number;
    return FM_OK;
}

/* Cuts line into its words. */
static enum fm_status read_line(struct key *k, int i, char *line, struct fm_error *err)
{
    static const char blanks[] = " \t";
    char *rest = NULL, *word = strtok_r(line, blanks, &rest);
    if (!word) return wrong(err, i, "the key", "it is empty");
    if (!copy_word(k->text, sizeof k->text, word)) return wrong(err, i, "the key", "it is longer than 255 bytes");
    (void)snprintf(k->name, sizeof k->name, "key-%d", i + 1);
    while ((word = strtok_r(NULL, blanks, &rest))) FM_TRY(read_limit(k, i, word, err));
    return FM_OK;
}

enum fm_status fm_keys_new(const char *const *lines, int n, struct fm_keys **out, struct fm_error *err)
{
    const size_t bytes = sizeof(struct fm_keys) + (size_t)n * sizeof(struct key);
    struct fm_keys *k = fm_calloc(1, bytes);
    enum fm_status st = FM_OK;
    if (!k) return fm_fail_memory(err, "keys", bytes);
    (void)pthread_mutex_init(&k->lock, NULL);
    for (; !st && k->n < n; k->n++) {
        char *line = fm_strdup(lines[k->n]);
        st = line ? read_line(&k->all[k->n], k->n, line, err) : fm_fail_memory(err, "keys", strlen(lines[k->n]));
        fm_free(line);
    }
    if (st)
        fm_keys_free(k);
    else
        *out = k;
    return st;
}

void fm_keys_free(struct fm_keys *k)
{
    if (!k) return;
    (void)pthread_mutex_destroy(&k->lock);
    fm_free(k);
}

/* ---- who ---- */

int fm_keys_find(const struct fm_keys *k, const char *presented)
{
    char text[KEY_MAX + 1] = "";
    int found = -1;
    if (strlen(presented) > KEY_MAX) return -1;
    (void)snprintf(text, sizeof text, "%s", presented);
    memset(text + strlen(text), 0, sizeof text - strlen(text));
    for (int i = 0; i < k->n; i++) {
        unsigned differ = 0;
        for (int at = 0; at < KEY_MAX; at++) differ |= (unsigned char)text[at] ^ (unsigned char)k->all[i].text[at];
        found = differ ? found : i;
    }
    return found;
}

const char *fm_keys_name(const struct fm_keys *k, int i) { return k->all[i].name; }

int fm_keys_cap(const struct fm_keys *k, int i, int max_tokens)
{
    const int cap = i < 0 ? 0 : k->all[i].max_tokens;
    return cap && (max_tokens < 0 || max_tokens > cap) ? cap : max_tokens;
}

/* ---- how much ---- */

static bool is_listed(const char *models, const char *model)
{
    const size_t n = strlen(model);
    for (const char *at = models; *at; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == n && !memcmp(at, model, n)) return true;
    return false;
}

static void fill(struct bucket *b, double seconds, double now)
{
    if (now <= b->at) return;
    if (b->at > 0) b->level = fmin(b->limit, b->level + (now - b->at) * b->limit / seconds);
    b->at = now;
}

static bool refuse(struct fm_fault *f, int *retry, double seconds, const char *why, double limit)
{
    *retry = (int)fmin(fmax(1, ceil(seconds)), 86400);
    (void)fm_fault_set(f, 429, NULL, "this key's limit of %.15g %s is reached", limit, why);
    f->code = "rate_limit_exceeded";
    return false;
}

static bool enter(struct key *k, double now, struct fm_fault *f, int *retry) /* under the lock */
{
    if (k->concurrent && k->running >= k->concurrent) return refuse(f, retry, 1, "requests at once", k->concurrent);
    for (int r = 0; r < N_RATES; r++) {
        struct bucket *b = &k->rates[r];
        if (b->limit <= 0) continue;
        fill(b, rates[r].seconds, now);
        if (b->level < 1)
            return refuse(f, retry, (1 - b->level) * rates[r].seconds / b->limit, rates[r].unit, b->limit);
    }
    k->rates[REQUESTS_MINUTE].level -= 1;
    return true;
}

bool fm_keys_enter(struct fm_keys *k, int i, const char *model, double now, struct fm_fault *f, int *retry)
{
    struct key *key = &k->all[i];
    const bool wrong_model = *key->models && !is_listed(key->models, model);
    *retry = 0;
    if (wrong_model) {
        (void)fm_fault_set(f, 403, "model", "this key is not for the model %.100s", model);
        f->code = "permission_error";
    }
    (void)pthread_mutex_lock(&k->lock);
    const bool entered = !wrong_model && enter(key, now, f, retry);
    key->running++;
    (void)pthread_mutex_unlock(&k->lock);
    return entered;
}

void fm_keys_leave(struct fm_keys *k, int i, double now, int tokens)
{
    (void)pthread_mutex_lock(&k->lock);
    k->all[i].running--;
    for (int r = TOKENS_MINUTE; r < N_RATES; r++) {
        fill(&k->all[i].rates[r], rates[r].seconds, now);
        k->all[i].rates[r].level -= tokens;
    }
    (void)pthread_mutex_unlock(&k->lock);
}
