/* libFuzzer target: what a hub may send.  The first byte tells what the rest is: a page of the list of files, a shard
 * index for a fixed list, a Link header, two addresses, a model's name. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "hub/hub_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_path(const char *path)
{
    if (path[0] == '/' || strstr(path, "//") || strstr(path, "/../") || !strncmp(path, "../", 3) || strchr(path, '\\'))
        abort();
}

static void listing(const char *text, size_t n)
{
    static const char *const wants[] = {"", "Q4_K_M", "safetensors", "a.gguf"};
    struct fm_hub_listing l = {0};
    struct fm_error err;
    if (!fm_listing_parse(&l, text, n, "input", &err)) {
        fm_listing_sort(&l);
        for (size_t i = 0; i < l.n; i++) check_path(l.files[i].path);
        for (int i = 0; i < 4; i++) {
            struct fm_pick p = {0};
            if (fm_pick_files(&l, "a/b", wants[i], &p, &err)) continue;
            for (size_t k = 0; k < p.n; k++)
                if (p.files[k] < l.files || p.files[k] >= l.files + l.n) abort();
            fm_pick_release(&p);
        }
    }
    fm_listing_release(&l);
}

static void shards(const char *text, size_t n)
{
    struct fm_hub_listing l = {0};
    struct fm_pick p = {0};
    struct fm_error err;
    if (!fm_listing_add(&l, "a.safetensors", 1, NULL, &err) && !fm_listing_add(&l, "b.safetensors", 1, NULL, &err) &&
        !fm_pick_shards(&l, text, n, &p, &err) && p.n > 2)
        abort();
    fm_pick_release(&p);
    fm_listing_release(&l);
}

static void names(const char *text)
{
    struct fm_hub_ref ref;
    struct fm_error err;
    char folder[FM_HUB_REPO_MAX + 16], back[FM_HUB_REPO_MAX + 1];
    if (!fm_hub_ref_parse(text, &ref, &err)) {
        if (*ref.file) check_path(ref.file);
        fm_hub_folder(ref.repo, folder);
        if (strchr(folder, '/') || strstr(folder, "..") || !fm_cache_repo(folder, back) || strcmp(back, ref.repo) != 0)
            abort();
    }
    (void)fm_cache_repo(text, back);
    (void)fm_hub_etag_ok(text);
}

static void addresses(const char *text)
{
    struct fm_buf next = {0};
    char shown[64];
    const char *second = strchr(text, '\n');
    char *first = fm_hub_text("%.*s", second ? (int)(second - text) : 0, text);
    if (first && second && !fm_url_refuse(first, second + 1) && fm_url_is_https(first) &&
        !fm_url_is_https(second + 1) && !fm_url_is_local(second + 1))
        abort();
    fm_url_display(text, shown, sizeof shown);
    (void)fm_link_next(text, &next);
    fm_buf_clear(&next);
    fm_url_escape(&next, text, '/');
    fm_buf_release(&next);
    fm_free(first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (!n) return 0;
    char *text = fm_hub_text("%.*s", (int)(n - 1), (const char *)data + 1);
    if (!text) return 0;
    switch (data[0] % 4) {
    case 0: listing((const char *)data + 1, n - 1); break;
    case 1: shards((const char *)data + 1, n - 1); break;
    case 2: names(text); break;
    default: addresses(text); break;
    }
    fm_free(text);
    return 0;
}
