/* fathom list, rm, verify: what the cache of downloaded models holds. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/mem.h"
#include "base/status.h"
#include "cli/input.h"
#include "cli/pulling.h"
#include "cli/setup.h"
#include "cli/signals.h"
#include "cli/term.h"

/* ---- list ------------------------------------------------------------------------------------------------------ */

static bool is_gguf(const char *path)
{
    size_t n = strlen(path);
    return n > 5 && !strcasecmp(path + n - 5, ".gguf");
}

static void print_row(const char *repo, const char *file, uint64_t bytes, time_t used)
{
    char size[16], day[16] = "-";
    struct tm tm;
    if (used && localtime_r(&used, &tm)) strftime(day, sizeof day, "%Y-%m-%d", &tm);
    printf("%-42s %-44s %8s  %s\n", repo, file, fm_bytes_text(bytes, size), day);
}

/* A GGUF file has its own row; all other files of a model share one. */
static void print_repo(const struct fm_cached_repo *r)
{
    uint64_t rest = 0;
    size_t n_rest = 0;
    time_t used = 0;
    char text[64];
    for (size_t i = 0; i < r->n_files; i++) {
        const struct fm_cached_file *f = &r->files[i];
        if (is_gguf(f->path)) {
            if (!f->shared || f->missing) print_row(r->repo, f->path, f->size, f->used);
            continue;
        }
        n_rest++;
        if (!f->shared) rest += f->size;
        if (f->used > used) used = f->used;
    }
    snprintf(text, sizeof text, "(%zu file%s)", n_rest, n_rest == 1 ? "" : "s");
    if (n_rest) print_row(r->repo, text, rest, used);
    if (r->partial_bytes) print_row(r->repo, "(download not finished)", r->partial_bytes, 0);
}

static void add_repo(struct fm_buf *b, const struct fm_cached_repo *r)
{
    fm_buf_str(b, b->len > 1 ? ",{\"repo\":" : "{\"repo\":");
    fm_json_text(b, r->repo, strlen(r->repo));
    fm_buf_printf(b, ",\"bytes\":%" PRIu64 ",\"partial_bytes\":%" PRIu64 ",\"used\":%lld,\"files\":[", r->bytes,
                  r->partial_bytes, (long long)r->used);
    for (size_t i = 0; i < r->n_files; i++) {
        const struct fm_cached_file *f = &r->files[i];
        fm_buf_str(b, i ? ",{\"path\":" : "{\"path\":");
        fm_json_text(b, f->path, strlen(f->path));
        fm_buf_printf(b, ",\"bytes\":%" PRIu64 ",\"used\":%lld,\"blob\":", f->size, (long long)f->used);
        if (f->blob)
            fm_json_text(b, f->blob, strlen(f->blob));
        else
            fm_buf_str(b, "null");
        fm_buf_printf(b, ",\"missing\":%s}", f->missing ? "true" : "false");
    }
    fm_buf_str(b, "]}");
}

static enum fm_status print_json(const struct fm_cache_list *l, struct fm_error *err)
{
    struct fm_buf b = {0};
    fm_buf_char(&b, '[');
    for (size_t i = 0; i < l->n; i++) add_repo(&b, &l->repos[i]);
    fm_buf_str(&b, "]\n");
    bool failed = b.failed;
    if (!failed) fm_out(b.data, b.len);
    fm_buf_release(&b);
    return failed ? fm_fail_memory(err, "the list of models", 4096) : FM_OK;
}

static void print_list(const struct fm_cache_list *l, const char *cache)
{
    uint64_t bytes = 0;
    size_t n = 0;
    char size[16];
    for (size_t i = 0; i < l->n; i++) {
        const struct fm_cached_repo *r = &l->repos[i];
        if (!r->n_files && !r->partial_bytes) continue;
        if (!n++) printf("%-42s %-44s %8s  %s\n", "MODEL", "FILE", "SIZE", "USED");
        print_repo(r);
        bytes += r->bytes + r->partial_bytes;
    }
    fm_note("%zu model%s, %s in %s", n, n == 1 ? "" : "s", fm_bytes_text(bytes, size), cache);
}

enum fm_status fm_cmd_list(struct fm_cli *cli, struct fm_error *err)
{
    struct fm_setup s = {0};
    const struct fm_opt_set sets[] = {{fm_json_row, &s}, {fm_log_rows, &s}, {0}};
    struct fm_words words;
    struct fm_hub h;
    struct fm_cache_list l = {0};
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&s, err));
    FM_TRY(fm_words_expect(cli, &words, 0, 0, "", err));
    FM_TRY(fm_hub_init(&h, err));
    enum fm_status st = fm_cache_scan(&h, &l, err);
    if (!st && s.json)
        st = print_json(&l, err);
    else if (!st)
        print_list(&l, h.cache);
    fm_cache_list_release(&l);
    fm_hub_release(&h);
    return st;
}

/* ---- names of what is there ------------------------------------------------------------------------------------ */

static const struct fm_cached_repo *find_repo(const struct fm_cache_list *l, const char *repo)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->repos[i].repo, repo)) return &l->repos[i];
    return NULL;
}

/* A name as the list shows it, which may be older than organisations, or as pull takes it. */
static enum fm_status read_ref(const struct fm_cache_list *l, const char *text, struct fm_hub_ref *ref,
                               struct fm_error *err)
{
    *ref = (struct fm_hub_ref){{0}, {0}};
    if (find_repo(l, text)) {
        snprintf(ref->repo, sizeof ref->repo, "%s", text);
        return FM_OK;
    }
    return fm_hub_ref_parse(text, ref, err);
}

/* ---- rm -------------------------------------------------------------------------------------------------------- */

struct removal {
    struct fm_setup setup;
    bool yes;
};

static const struct fm_opt rm_rows[] = {
    {'y', "yes", FM_OPT_FLAG, offsetof(struct removal, yes), 0, 0, NULL, "do not ask"},
    {0},
};

static enum fm_status remove_one(const struct fm_hub *h, const struct fm_cache_list *l, const char *text, bool yes,
                                 struct fm_error *err)
{
    struct fm_hub_ref ref;
    uint64_t bytes;
    size_t n;
    char size[16], question[512];
    FM_TRY(read_ref(l, text, &ref, err));
    FM_TRY(fm_cache_remove(h, &ref, true, &bytes, &n, err));
    snprintf(question, sizeof question, "Remove %s%s%.200s (%zu file%s, %s)?", ref.repo, *ref.file ? ":" : "", ref.file,
             n, n == 1 ? "" : "s", fm_bytes_text(bytes, size));
    if (!yes && !fm_can_ask()) {
        (void)fm_fail(err, FM_ERR_USAGE, "remove a model: %s: nobody is there to confirm it", ref.repo);
        fm_hint(err, "--yes removes without asking");
        return FM_ERR_USAGE;
    }
    if (!yes && !fm_ask(question)) return FM_OK;
    FM_TRY(fm_cache_remove(h, &ref, false, &bytes, &n, err));
    fm_note("removed %s%s%s, %s", ref.repo, *ref.file ? ":" : "", ref.file, fm_bytes_text(bytes, size));
    return FM_OK;
}

enum fm_status fm_cmd_rm(struct fm_cli *cli, struct fm_error *err)
{
    struct removal j = {.yes = false};
    const struct fm_opt_set sets[] = {{rm_rows, &j}, {fm_log_rows, &j.setup}, {0}};
    struct fm_words words;
    struct fm_hub h;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&j.setup, err));
    FM_TRY(fm_words_expect(cli, &words, 1, 1000, "NAME", err));
    FM_TRY(fm_hub_init(&h, err));
    enum fm_status st = FM_OK;
    for (int i = 0; !st && i < words.n; i++) {
        struct fm_cache_list l = {0}; /* anew for each: the one before may have taken files along */
        st = fm_cache_scan(&h, &l, err);
        if (!st) st = remove_one(&h, &l, words.v[i], j.yes, err);
        fm_cache_list_release(&l);
    }
    fm_hub_release(&h);
    return st;
}

/* ---- verify ---------------------------------------------------------------------------------------------------- */

struct check {
    const struct fm_hub *hub;
    struct fm_bar bar;
    uint64_t done;
    const char *file;
    size_t n, n_bad, n_unknown;
    const volatile int *stop;
    bool hidden;
};

static void add_bytes(void *arg, uint64_t n)
{
    struct check *c = arg;
    c->done += n;
    if (!c->hidden) fm_progress_bar(&c->bar, c->done < c->bar.total ? c->done : c->bar.total, c->file);
}

static enum fm_status check_file(struct check *c, const struct fm_cached_repo *r, const struct fm_cached_file *f,
                                 struct fm_error *err)
{
    enum fm_blob_state state = f->missing ? FM_BLOB_DAMAGED : FM_BLOB_UNKNOWN;
    if (f->shared && !f->missing) return FM_OK;
    c->file = f->path;
    c->n++;
    if (f->blob && !f->missing) FM_TRY(fm_blob_verify(c->hub, r->repo, f->blob, add_bytes, c, c->stop, &state, err));
    c->n_unknown += state == FM_BLOB_UNKNOWN;
    if (state != FM_BLOB_DAMAGED) return FM_OK;
    c->n_bad++;
    fm_progress_end();
    printf("%s  %s:%s\n", f->missing ? "missing" : "damaged", r->repo, f->path);
    return FM_OK;
}

static bool is_wanted(const struct fm_cached_file *f, const char *want)
{
    return !*want || !strcmp(f->path, want) || strcasestr(f->path, want);
}

/* The models of the words, or all.  count: only add up the bytes. */
static enum fm_status check_all(struct check *c, const struct fm_cache_list *l, const struct fm_words *w, bool count,
                                struct fm_error *err)
{
    for (int k = 0; k < (w->n ? w->n : 1); k++) {
        struct fm_hub_ref ref = {{0}, {0}};
        if (w->n) FM_TRY(read_ref(l, w->v[k], &ref, err));
        if (w->n && !find_repo(l, ref.repo))
            return fm_fail(err, FM_ERR_INPUT, "verify a model: %s: it is not in the cache", ref.repo);
        for (size_t i = 0; i < l->n; i++) {
            const struct fm_cached_repo *r = &l->repos[i];
            if (w->n && strcmp(r->repo, ref.repo) != 0) continue;
            for (size_t n = 0; n < r->n_files; n++) {
                const struct fm_cached_file *f = &r->files[n];
                if (!is_wanted(f, ref.file)) continue;
                if (!count)
                    FM_TRY(check_file(c, r, f, err));
                else if (!f->shared && f->blob)
                    c->bar.total += f->size;
            }
        }
    }
    return FM_OK;
}

static enum fm_status report(const struct check *c, struct fm_error *err)
{
    char size[16];
    if (c->n_unknown) fm_note("%zu of them have no hash for a name: nothing to compare with", c->n_unknown);
    if (!c->n_bad) {
        printf("%zu file%s, %s: no damage\n", c->n, c->n == 1 ? "" : "s", fm_bytes_text(c->done, size));
        return FM_OK;
    }
    (void)fm_fail(err, FM_ERR_INPUT, "verify the cache: %.300s: %zu of %zu files are damaged or missing", c->hub->cache,
                  c->n_bad, c->n);
    fm_hint(err, "fathom rm ORG/REPO:FILE, then pull it again");
    return FM_ERR_INPUT;
}

enum fm_status fm_cmd_verify(struct fm_cli *cli, struct fm_error *err)
{
    struct fm_setup s = {0};
    const struct fm_opt_set sets[] = {{fm_log_rows, &s}, {0}};
    struct fm_words words;
    struct fm_hub h;
    struct fm_cache_list l = {0};
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&s, err));
    FM_TRY(fm_hub_init(&h, err));
    fm_signals_init();
    struct check c = {.hub = &h, .stop = fm_signals_flag(), .hidden = h.no_bars};
    c.bar = (struct fm_bar){.what = "verify", .unit = "B", .start = fm_clock()};
    enum fm_status st = fm_cache_scan(&h, &l, err);
    if (!st) st = check_all(&c, &l, &words, true, err);
    if (!st) st = check_all(&c, &l, &words, false, err);
    fm_progress_end();
    if (!st) st = report(&c, err);
    fm_cache_list_release(&l);
    fm_hub_release(&h);
    return st;
}
