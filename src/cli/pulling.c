/* See pulling.h. */
#include "cli/pulling.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/signals.h"
#include "cli/term.h"

/* ---- questions ------------------------------------------------------------------------------------------------- */

bool fm_can_ask(void) { return isatty(0) && isatty(2); }

bool fm_ask(const char *question)
{
    char line[64] = "";
    fprintf(stderr, "%s [y/N] ", question);
    fflush(stderr);
    size_t n = 0;
    for (char c; read(0, &c, 1) == 1 && c != '\n';) /* not a byte more: the rest may be for a chat */
        if (n + 1 < sizeof line) line[n++] = c;
    line[n] = 0;
    return !strcasecmp(line, "y") || !strcasecmp(line, "yes");
}

/* ---- downloading ----------------------------------------------------------------------------------------------- */

struct show {
    struct fm_bar bar;
    bool hidden;
};

static void show_at(void *arg, const char *what, const char *file, uint64_t old, uint64_t done, uint64_t total)
{
    struct show *s = arg;
    const char *slash = strrchr(file, '/');
    if (!s->bar.what || strcmp(s->bar.what, what) != 0) s->bar.start = fm_clock();
    s->bar.what = what;
    s->bar.unit = "B";
    s->bar.done0 = old;
    s->bar.total = total;
    if (!s->hidden) fm_progress_bar(&s->bar, done, slash ? slash + 1 : file);
}

static void show_note(void *arg, const char *line)
{
    (void)arg;
    fm_note("%s", line);
}

enum fm_status fm_pull_shown(const struct fm_hub *h, const struct fm_hub_ref *ref, const struct fm_pull_options *o,
                             char **path, struct fm_error *err)
{
    struct show show = {.hidden = h->no_bars};
    signal(SIGXFSZ, SIG_IGN); /* a file that may grow no more is an error of write, as a full disk is */
    fm_signals_init();
    const struct fm_hub_progress p = {.at = show_at, .note = show_note, .arg = &show, .stop = fm_signals_flag()};
    enum fm_status st = fm_hub_pull(h, ref, o, &p, path, err);
    (void)fm_signals_done();
    fm_progress_end();
    if (st == FM_ERR_CANCELLED) fm_note("stopped; what came so far is kept: pull once more to go on");
    return st;
}

/* ---- names as models ------------------------------------------------------------------------------------------- */

/* ORG/REPO[:FILE] or a short name, and no path that somebody mistyped. */
static bool is_name(const char *text)
{
    struct fm_hub_ref ref;
    struct fm_error none;
    const char *end = strchr(text, ':');
    size_t n = end ? (size_t)(end - text) : strlen(text);
    static const char *const files[] = {".gguf", ".safetensors", ".json", ".model", ".bin", ".tiktoken"};
    for (size_t i = 0; !end && i < sizeof files / sizeof *files; i++)
        if (n > strlen(files[i]) && !strcasecmp(text + n - strlen(files[i]), files[i])) return false;
    return !fm_hub_ref_parse(text, &ref, &none);
}

static enum fm_status offer(const struct fm_hub *h, const struct fm_hub_ref *ref, const char *name, char **path,
                            struct fm_error *err)
{
    const struct fm_hub_name *row = fm_hub_name_find(name);
    char question[512];
    if (!h->offline && fm_can_ask()) {
        snprintf(question, sizeof question, "%s is not here yet. Download %s%s%.100s%s%s?", name, ref->repo,
                 *ref->file ? ":" : "", ref->file, row ? ", " : "", row ? row->size : "");
        const struct fm_pull_options o = {.connections = 4};
        if (fm_ask(question)) return fm_pull_shown(h, ref, &o, path, err);
    }
    (void)fm_fail(err, FM_ERR_INPUT, "find the model: %.200s: no such file or folder, and it is not in the cache",
                  name);
    fm_hint(err, "fathom pull %.200s", name);
    return FM_ERR_INPUT;
}

enum fm_status fm_model_locate(const char **model, struct fm_error *err)
{
    static char found[PATH_MAX];
    struct fm_hub h;
    struct fm_hub_ref ref;
    char *path = NULL;
    if (access(*model, F_OK) == 0 || !is_name(*model)) return FM_OK;
    enum fm_status st = fm_hub_ref_parse(*model, &ref, err);
    if (!st) st = fm_hub_init(&h, err);
    if (st) return st;
    st = fm_cache_find(&h, &ref, NULL, &path, err);
    if (st == FM_ERR_INPUT) st = offer(&h, &ref, *model, &path, err);
    if (!st && snprintf(found, sizeof found, "%s", path) >= (int)sizeof found)
        st = fm_fail(err, FM_ERR_INPUT, "find the model: %.200s: its path is too long", *model);
    if (!st) *model = found;
    fm_free(path);
    fm_hub_release(&h);
    return st;
}

bool fm_is_model_name(const char *word)
{
    struct fm_hub h;
    struct fm_hub_ref ref;
    struct fm_error none;
    char *path = NULL;
    if (!is_name(word) || fm_hub_ref_parse(word, &ref, &none)) return false;
    if (!strchr(word, '/') && word[strcspn(word, "-0123456789")]) return true;
    if (fm_hub_init(&h, &none)) return false;
    bool there = !fm_cache_find(&h, &ref, NULL, &path, &none);
    fm_free(path);
    fm_hub_release(&h);
    return there;
}
