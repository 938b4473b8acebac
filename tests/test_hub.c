/* The hub without a network: names, addresses, lists of files, choices, the cache on disk.  Transfers: tests/cli/hub.sh. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "hub/hub_impl.h"

static struct fm_error err;
#define OK(expr) assert_int_equal((expr), FM_OK)
#define COMMIT   "0123456789abcdef0123456789abcdef01234567"
#define OTHER    "1123456789abcdef0123456789abcdef01234567"

/* ---- names ----------------------------------------------------------------------------------------------------- */

static void test_ref(void **state)
{
    static const char *const good[][3] = {
        {"org/repo", "org/repo", ""},
        {"_org/_repo", "_org/_repo", ""},
        {"org/repo:Q4_K_M", "org/repo", "Q4_K_M"},
        {"org/repo:a/b.gguf", "org/repo", "a/b.gguf"},
        {"O-r_g.1/R.e-p_o", "O-r_g.1/R.e-p_o", ""},
        {"https://huggingface.co/org/repo/", "org/repo", ""},
        {"hf.co/org/repo:Q8_0", "org/repo", "Q8_0"},
        {"QWEN3-0.6B", "Qwen/Qwen3-0.6B-GGUF", "Q8_0"},
        {"qwen3-0.6b:F16", "Qwen/Qwen3-0.6B-GGUF", "F16"},
    };
    static const char *const bad[] = {
        "",
        "org",
        "org/",
        "/repo",
        "org/repo/x",
        "../repo",
        "org/_x/y",
        "org/_/../../x",
        "_a/../b",
        "org/..",
        "org/repo:",
        "a b/c",
        "org/re--po",
        "org/repo:../x",
        "org/repo:/x",
        "org/-repo",
        "org/repo.",
        "o..g/repo",
        "org\\x/y",
        "org/re\npo",
        "org/repo:a\x1b",
        "nothing-of-ours",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/b"};
    struct fm_hub_ref ref;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        OK(fm_hub_ref_parse(good[i][0], &ref, &err));
        assert_string_equal(ref.repo, good[i][1]);
        assert_string_equal(ref.file, good[i][2]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (fm_hub_ref_parse(bad[i], &ref, &err) != FM_ERR_USAGE) fail_msg("'%s' was taken for a name", bad[i]);
}

/* Every row of the table is a name that its own parser takes, and no row hides another. */
static void test_table(void **state)
{
    (void)state;
    for (int i = 0; fm_hub_name_at(i); i++) {
        struct fm_hub_ref ref;
        const struct fm_hub_name *n = fm_hub_name_at(i);
        OK(fm_hub_ref_parse(n->repo, &ref, &err));
        OK(fm_hub_ref_parse(n->name, &ref, &err));
        assert_string_equal(ref.repo, n->repo);
        assert_ptr_equal(fm_hub_name_find(n->name), n);
        assert_true(*n->size && *n->licence && *n->memory);
    }
    assert_null(fm_hub_name_find("org/repo"));
}

static void test_folder(void **state)
{
    static const char *const repos[] = {"org/repo", "gpt2", "a-b/c.d_e"};
    char folder[FM_HUB_REPO_MAX + 16], back[FM_HUB_REPO_MAX + 1];
    (void)state;
    for (int i = 0; i < 3; i++) {
        fm_hub_folder(repos[i], folder);
        assert_true(fm_cache_repo(folder, back));
        assert_string_equal(back, repos[i]);
    }
    char longest[FM_HUB_REPO_MAX + 1];
    snprintf(longest, sizeof longest, "org/%0*d", FM_HUB_REPO_MAX - 4, 1);
    fm_hub_folder(longest, folder);
    assert_true(fm_cache_repo(folder, back));
    assert_string_equal(back, longest);
    fm_hub_folder("org/repo", folder);
    assert_string_equal(folder, "models--org--repo");
    assert_false(fm_cache_repo("datasets--org--repo", back));
    assert_false(fm_cache_repo("models--", back));
    assert_true(fm_hub_etag_ok("abc123") && fm_hub_etag_ok("a.b-c_d"));
    assert_false(fm_hub_etag_ok("") || fm_hub_etag_ok("a/b") || fm_hub_etag_ok(".a") || fm_hub_etag_ok("a b"));
}

static void test_path(void **state)
{
    static const char *const good[] = {"a", "a.gguf", "a/b/c.json", ".gitattributes", "a..b", "...", "\303\244.gguf"};
    static const char *const bad[] = {"",     "/a",  "a/",   "a//b", ".",     "..",     "../a",      "a/../b",
                                      "a/..", "./a", "a\\b", "a\nb", "a\x7f", "a\x01b", "\xff.gguf", "a/./b"};
    char part[300];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_true(fm_hub_path_ok(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (fm_hub_path_ok(bad[i])) fail_msg("'%s' was taken for a path", bad[i]);
    memset(part, 'a', sizeof part);
    part[255] = 0;
    assert_true(fm_hub_path_ok(part));
    part[255] = 'a', part[256] = 0;
    assert_false(fm_hub_path_ok(part));
}

/* ---- addresses ------------------------------------------------------------------------------------------------- */

static void test_url(void **state)
{
    static const char *const bad[] = {"",
                                      "ftp://a",
                                      "http://",
                                      "http:/a",
                                      "https://a b",
                                      "http://u@h",
                                      "http://h\\x",
                                      "http://h:0/",
                                      "http://h:99999",
                                      "http://h:8x/",
                                      "http://[::1",
                                      "http://[x]/",
                                      "https://h\n",
                                      "//h/x",
                                      "http://h@evil/",
                                      "http://h\xc3\xa4/"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (fm_url_ok(bad[i])) fail_msg("'%s' was taken for an address", bad[i]);
    assert_true(fm_url_ok("https://a.b-c/x?y#z") && fm_url_ok("http://[::1]:80/") && fm_url_ok("HTTPS://A"));
    assert_true(fm_url_same_origin("https://a/x", "https://A:443/y?z"));
    assert_false(fm_url_same_origin("https://a/", "http://a/"));
    assert_false(fm_url_same_origin("https://a/", "https://a:444/"));
    assert_false(fm_url_same_origin("https://a/", "https://a.evil/"));
    assert_false(fm_url_same_origin("https://a/", "https://a@evil/"));
    assert_true(fm_url_is_local("http://localhost:8/x") && fm_url_is_local("http://[::1]/"));
    assert_false(fm_url_is_local("http://localhost.evil/") || fm_url_is_local("http://127.0.0.1.evil/"));
}

static void test_redirect(void **state)
{
    (void)state;
    assert_null(fm_url_refuse("https://a/", "https://b/"));
    assert_null(fm_url_refuse("http://a/", "http://b/"));
    assert_null(fm_url_refuse("http://a/", "https://b/"));
    assert_null(fm_url_refuse("https://a/", "http://localhost:1/"));
    assert_non_null(fm_url_refuse("https://a/", "http://b/"));
    assert_non_null(fm_url_refuse("https://a/", "file:///etc/passwd"));
    assert_non_null(fm_url_refuse("https://a/", "https://user@b/"));
    struct fm_buf b = {0};
    fm_url_escape(&b, "a b/\303\244?", '/');
    assert_string_equal(b.data, "a%20b/%C3%A4%3F");
    fm_buf_clear(&b);
    fm_url_escape(&b, "refs/pr/1", 0);
    assert_string_equal(b.data, "refs%2Fpr%2F1");
    fm_buf_clear(&b);
    assert_true(fm_link_next("<https://a/1>; rel=\"prev\", <https://a/2>; rel=\"next\"", &b));
    assert_string_equal(b.data, "https://a/2");
    assert_false(fm_link_next("<https://a/1>; rel=\"last\"", &b) || fm_link_next("<x", &b) || fm_link_next("", &b));
    fm_buf_release(&b);
}

/* ---- lists and choices ----------------------------------------------------------------------------------------- */

static struct fm_hub_listing list_of(const char *const *paths)
{
    struct fm_hub_listing l = {0};
    for (; *paths; paths++) OK(fm_listing_add(&l, *paths, 1, NULL, &err));
    fm_listing_sort(&l);
    return l;
}

/* want picks these paths, in this order; NULL first: it fails with the code. */
static void assert_picks(const struct fm_hub_listing *l, const char *want, enum fm_status code,
                         const char *const *paths)
{
    struct fm_pick p = {0};
    size_t n = 0;
    enum fm_status st = fm_pick_files(l, "a/b", want, &p, &err);
    if (st != code) fail_msg("%s: %d, not %d: %s", want, st, code, err.message);
    for (; !st && paths[n]; n++) {
        assert_true(n < p.n);
        assert_string_equal(p.files[n]->path, paths[n]);
    }
    assert_int_equal(p.n, n);
    fm_pick_release(&p);
}
#define PICKS(want, ...)  assert_picks(&l, want, FM_OK, (const char *const[]){__VA_ARGS__, NULL})
#define FAILS(want, code) assert_picks(&l, want, code, (const char *const[]){NULL})

static void test_pick_gguf(void **state)
{
    struct fm_hub_listing l =
        list_of((const char *const[]){"README.md", "m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-UD-Q4_K_M.gguf",
                                      "m-Q5_K_M-00001-of-00002.gguf", "m-Q5_K_M-00002-of-00002.gguf",
                                      "Q8_0/m-Q8_0-00001-of-00002.gguf", "mmproj-Q4_K_M.gguf", "m.imatrix.gguf", NULL});
    (void)state;
    PICKS("", "m-Q4_K_M.gguf");
    PICKS("q4_k_m", "m-Q4_K_M.gguf");
    PICKS("UD-Q4_K_M", "m-UD-Q4_K_M.gguf");
    PICKS("Q2_K", "m-Q2_K.gguf");
    PICKS("Q5_K_M", "m-Q5_K_M-00001-of-00002.gguf", "m-Q5_K_M-00002-of-00002.gguf");
    PICKS("m-Q5_K_M-00002-of-00002.gguf", "m-Q5_K_M-00001-of-00002.gguf", "m-Q5_K_M-00002-of-00002.gguf");
    PICKS("README.md", "README.md");
    PICKS("mmproj-Q4_K_M.gguf", "mmproj-Q4_K_M.gguf");
    FAILS("Q8_0", FM_ERR_INPUT); /* its second part is missing */
    FAILS("Q3_K", FM_ERR_INPUT);
    FAILS("K_M", FM_ERR_USAGE); /* several end in it */
    FAILS("safetensors", FM_ERR_INPUT);
    assert_non_null(strstr(err.hint, "Q2_K") ? err.hint : "x");
    fm_listing_release(&l);
    l = list_of((const char *const[]){"a-Q4_K_M.gguf", "b-Q4_K_M.gguf", "b-Q2_K.gguf", NULL});
    FAILS("", FM_ERR_USAGE);
    FAILS("Q4_K_M", FM_ERR_USAGE);
    PICKS("a-Q4_K_M", "a-Q4_K_M.gguf");
    PICKS("Q2_K", "b-Q2_K.gguf");
    fm_listing_release(&l);
    l = list_of((const char *const[]){"only.gguf", NULL});
    PICKS("", "only.gguf");
    fm_listing_release(&l);
    FAILS("", FM_ERR_INPUT); /* nothing at all */
}

static void test_pick_folder(void **state)
{
    static const char index[] = "{\"weight_map\":{\"a\":\"model-2.safetensors\",\"b\":\"model-1.safetensors\"}}";
    static const char outside[] = "{\"weight_map\":{\"a\":\"../x\"}}", none[] = "{\"weight_map\":{\"a\":7}}";
    struct fm_hub_listing l = list_of((const char *const[]){"config.json", "model-1.safetensors", "model-2.safetensors",
                                                            "model.safetensors.index.json", "x.gguf", "x.bin", NULL});
    struct fm_pick p;
    (void)state;
    PICKS("", "x.gguf");
    OK(fm_pick_files(&l, "a/b", "safetensors", &p, &err));
    assert_int_equal(p.n, 2);
    assert_non_null(p.index);
    assert_int_equal(fm_pick_shards(&l, outside, sizeof outside - 1, &p, &err), FM_ERR_INPUT);
    assert_int_equal(fm_pick_shards(&l, none, sizeof none - 1, &p, &err), FM_ERR_INPUT);
    assert_int_equal(fm_pick_shards(&l, "[]", 2, &p, &err), FM_ERR_INPUT);
    OK(fm_pick_shards(&l, index, sizeof index - 1, &p, &err));
    assert_int_equal(p.n, 4);
    fm_pick_release(&p);
    fm_listing_release(&l);
    l = list_of((const char *const[]){"config.json", "model.safetensors", "sub/model.safetensors", "y.py", NULL});
    PICKS("", "config.json", "model.safetensors");
    fm_listing_release(&l);
}

static enum fm_status parse(const char *text)
{
    struct fm_hub_listing l = {0};
    enum fm_status st = fm_listing_parse(&l, text, strlen(text), "x", &err);
    fm_listing_release(&l);
    return st;
}

#define FILE_OF(path, size) "[{\"type\":\"file\",\"path\":\"" path "\",\"size\":" size "}]"
static void test_listing(void **state)
{
    static const char *const bad[] = {"{}",
                                      "",
                                      "[1]",
                                      "[{}]",
                                      "[{\"type\":\"file\"}]",
                                      "[{\"type\":\"link\",\"path\":\"a\",\"size\":1}]",
                                      FILE_OF("../a", "1"),
                                      FILE_OF("a\\\\b", "1"),
                                      FILE_OF("a\\u0000b", "1"),
                                      FILE_OF("a\\nb", "1"),
                                      FILE_OF("a", "-1"),
                                      FILE_OF("a", "\"1\""),
                                      FILE_OF("a", "1.5"),
                                      FILE_OF("a", "1125899906842625"),
                                      FILE_OF("a", "99999999999999999999"),
                                      FILE_OF("/a", "1"),
                                      FILE_OF("\\ud800", "1")};
    (void)state;
    OK(parse("[]"));
    OK(parse(FILE_OF("a", "0")));
    OK(parse("[{\"type\":\"directory\",\"path\":\"../x\"}]")); /* folders are of no interest */
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (parse(bad[i]) != FM_ERR_INPUT) fail_msg("'%s' was taken for a list", bad[i]);
    struct fm_hub_listing l = {0};
    static const char lfs[] = "[{\"type\":\"file\",\"path\":\"a\",\"size\":1,\"oid\":\"" COMMIT "\",\"lfs\":{\"oid\":\""
                              "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\",\"size\":77}},"
                              "{\"type\":\"file\",\"path\":\"b\",\"size\":5,\"oid\":\"../x\"}]";
    OK(fm_listing_parse(&l, lfs, sizeof lfs - 1, "x", &err));
    assert_int_equal(l.files[0].size, 77);
    assert_int_equal(strlen(l.files[0].oid), 64);
    assert_string_equal(l.files[1].oid, "");
    fm_listing_release(&l);
}

/* ---- the cache ------------------------------------------------------------------------------------------------- */

static char root[] = "/tmp/fathom-hub-XXXXXX";
static struct fm_hub hub = {.cache = root, .endpoint = root};

static char *at(const char *path)
{
    static char full[512];
    snprintf(full, sizeof full, "%s/%s", root, path);
    return full;
}

static void put(const char *path, const char *text)
{
    char *full = at(path);
    OK(fm_make_folders(full, false, &err));
    FILE *f = fopen(full, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

static bool is_there(const char *path) { return access(at(path), F_OK) == 0; }

#define MODEL "models--org--repo/"
static void make_cache(void)
{
    put(MODEL "blobs/aaa", "12345");
    put(MODEL "blobs/bbb", "123");
    put(MODEL "blobs/ccc.01234567.incomplete", "1");
    OK(fm_cache_link(&hub, "org/repo", COMMIT, "m-Q4_0.gguf", "aaa", &err));
    OK(fm_cache_link(&hub, "org/repo", COMMIT, "sub/m-Q8_0.gguf", "bbb", &err));
    OK(fm_cache_link(&hub, "org/repo", OTHER, "m-Q4_0.gguf", "aaa", &err));
    OK(fm_cache_link(&hub, "org/repo", OTHER, "lost.gguf", "zzz", &err));
    OK(fm_cache_write_ref(&hub, "org/repo", "main", COMMIT, &err));
    OK(fm_cache_write_ref(&hub, "org/repo", COMMIT, COMMIT, &err)); /* nothing to write */
    put("models--gpt2/snapshots/" COMMIT "/config.json", "{}");
    put("datasets--org--repo/blobs/x", "x");
}

static enum fm_status find(const char *file, const char *rev, const char *want)
{
    struct fm_hub_ref ref = {"org/repo", ""};
    char *path = NULL;
    strcpy(ref.file, file);
    enum fm_status st = fm_cache_find(&hub, &ref, rev, &path, &err);
    if (!st) assert_string_equal(path + strlen(root), want);
    fm_free(path);
    return st;
}

static void test_cache_find(void **state)
{
    (void)state;
    make_cache();
    OK(find("Q4_0", NULL, "/" MODEL "snapshots/" COMMIT "/m-Q4_0.gguf"));
    OK(find("", NULL, "/" MODEL "snapshots/" COMMIT "/m-Q4_0.gguf"));
    OK(find("sub/m-Q8_0.gguf", NULL, "/" MODEL "snapshots/" COMMIT "/sub/m-Q8_0.gguf"));
    OK(find("", OTHER, "/" MODEL "snapshots/" OTHER "/m-Q4_0.gguf")); /* the lost one does not count */
    assert_int_equal(find("Q2_K", NULL, ""), FM_ERR_INPUT);
    assert_string_equal(err.hint, "fathom pull org/repo:Q2_K");
    assert_int_equal(find("", "v1", ""), FM_ERR_INPUT);
    put(MODEL "refs/main", "../../../etc");
    assert_int_equal(find("", NULL, ""), FM_ERR_INPUT);
}

static void test_cache_scan(void **state)
{
    struct fm_cache_list l;
    (void)state;
    make_cache();
    OK(fm_cache_scan(&hub, &l, &err));
    assert_int_equal(l.n, 2);
    assert_string_equal(l.repos[0].repo, "gpt2");
    assert_null(l.repos[0].files[0].blob);
    const struct fm_cached_repo *r = &l.repos[1];
    assert_string_equal(r->repo, "org/repo");
    assert_int_equal(r->n_files, 4);
    assert_int_equal(r->bytes, 8);
    assert_true(r->partial_bytes > 0);
    assert_string_equal(r->files[0].path, "lost.gguf");
    assert_true(r->files[0].missing);
    assert_true(!r->files[1].shared && r->files[2].shared);
    assert_string_equal(r->files[3].path, "sub/m-Q8_0.gguf");
    fm_cache_list_release(&l);
}

static enum fm_status drop(const char *file, bool dry, uint64_t *bytes)
{
    struct fm_hub_ref ref = {"org/repo", ""};
    size_t n;
    strcpy(ref.file, file);
    return fm_cache_remove(&hub, &ref, dry, bytes, &n, &err);
}

static void test_cache_remove(void **state)
{
    uint64_t bytes;
    (void)state;
    make_cache();
    OK(drop("Q8_0", true, &bytes));
    assert_int_equal(bytes, 3);
    assert_true(is_there(MODEL "blobs/bbb"));
    OK(drop("Q8_0", false, &bytes));
    assert_int_equal(bytes, 3);
    assert_false(is_there(MODEL "blobs/bbb") || is_there(MODEL "snapshots/" COMMIT "/sub"));
    assert_true(is_there(MODEL "blobs/aaa"));
    OK(drop("Q4_0", false, &bytes)); /* in two snapshots: counted once */
    assert_int_equal(bytes, 5);
    assert_false(is_there(MODEL "blobs/aaa") || is_there(MODEL "snapshots/" COMMIT));
    assert_int_equal(drop("Q4_0", false, &bytes), FM_ERR_INPUT);
    OK(drop("lost.gguf", false, &bytes)); /* the last one: all goes */
    assert_false(is_there("models--org--repo"));
    assert_int_equal(drop("", false, &bytes), FM_ERR_INPUT);
    assert_true(is_there("models--gpt2/snapshots/" COMMIT "/config.json"));
}

/* A link that leads out of the cache is a link to us: it goes, what it shows stays. */
static void test_links_out(void **state)
{
    uint64_t bytes;
    char target[600];
    (void)state;
    make_cache();
    put("outside/precious.gguf", "gold");
    snprintf(target, sizeof target, "%s/outside", root);
    char *link = at(MODEL "snapshots/" COMMIT "/dir");
    assert_int_equal(symlink(target, link), 0);
    OK(drop("", false, &bytes));
    assert_false(is_there("models--org--repo"));
    assert_true(is_there("outside/precious.gguf"));
}

/* With the n-th allocation failing: a clean failure, and success in the end. */
static void test_torture(void **state)
{
    static const char text[] = FILE_OF("m-Q4_0-00001-of-00001.gguf", "1");
    (void)state;
    make_cache();
    int failures = 0;
    for (long n = 1;; n++) {
        struct fm_hub_listing l = {0};
        struct fm_cache_list c = {0};
        struct fm_pick p = {0};
        struct fm_hub_ref ref;
        char *path = NULL;
        uint64_t bytes;
        size_t files;
        fm_mem_fail_at(n);
        enum fm_status st = fm_listing_parse(&l, text, sizeof text - 1, "x", &err);
        if (!st) st = fm_pick_files(&l, "a/b", "Q4_0", &p, &err);
        if (!st) st = fm_hub_ref_parse("org/repo:Q4_0", &ref, &err);
        if (!st) st = fm_cache_find(&hub, &ref, NULL, &path, &err);
        if (!st) st = fm_cache_scan(&hub, &c, &err);
        if (!st) st = fm_cache_remove(&hub, &ref, true, &bytes, &files, &err);
        if (!st) st = fm_cache_link(&hub, "org/repo", COMMIT, "x/y", "aaa", &err);
        fm_mem_fail_at(0);
        fm_pick_release(&p);
        fm_listing_release(&l);
        fm_cache_list_release(&c);
        fm_free(path);
        if (!st) break;
        assert_int_equal(st, FM_ERR_MEMORY);
        failures++;
        assert_true(n < 10000);
    }
    assert_true(failures > 20);
}

static void test_settings(void **state)
{
    struct fm_hub h;
    (void)state;
    setenv("HF_HOME", "~/x", 1);
    setenv("HOME", root, 1);
    unsetenv("HF_HUB_CACHE");
    unsetenv("HUGGINGFACE_HUB_CACHE");
    unsetenv("HF_TOKEN_PATH");
    unsetenv("HUGGING_FACE_HUB_TOKEN");
    setenv("HF_ENDPOINT", "https://hub.example///", 1);
    setenv("HF_TOKEN", " hf_abc\n", 1);
    setenv("HF_HUB_OFFLINE", "yes", 1);
    setenv("HF_HUB_ETAG_TIMEOUT", "3", 1);
    OK(fm_hub_init(&h, &err));
    assert_string_equal(h.endpoint, "https://hub.example");
    assert_string_equal(h.cache + strlen(root), "/x/hub");
    assert_string_equal(h.token, "hf_abc");
    assert_true(h.offline && h.etag_timeout == 3 && h.download_timeout == 10);
    fm_hub_release(&h);
    setenv("HF_TOKEN", "a\nb", 1);
    assert_int_equal(fm_hub_init(&h, &err), FM_ERR_USAGE);
    assert_null(strstr(err.message, "a?b"));
    unsetenv("HF_TOKEN");
    setenv("HF_HUB_OFFLINE", "0", 1);
    setenv("HF_HUB_CACHE", "/elsewhere", 1);
    OK(fm_hub_init(&h, &err));
    assert_string_equal(h.cache, "/elsewhere");
    assert_true(!h.offline && !h.token);
    fm_hub_release(&h);
    setenv("HF_ENDPOINT", "https://user@hub.example", 1);
    assert_int_equal(fm_hub_init(&h, &err), FM_ERR_USAGE);
}

static int clean(void **state)
{
    char command[64];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s/*", root);
    return system(command) ? -1 : 0;
}

static int remove_root(void **state)
{
    (void)clean(state);
    return rmdir(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ref),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_folder),
        cmocka_unit_test(test_path),
        cmocka_unit_test(test_url),
        cmocka_unit_test(test_redirect),
        cmocka_unit_test(test_pick_gguf),
        cmocka_unit_test(test_pick_folder),
        cmocka_unit_test(test_listing),
        cmocka_unit_test_teardown(test_cache_find, clean),
        cmocka_unit_test_teardown(test_cache_scan, clean),
        cmocka_unit_test_teardown(test_cache_remove, clean),
        cmocka_unit_test_teardown(test_links_out, clean),
        cmocka_unit_test_teardown(test_torture, clean),
        cmocka_unit_test(test_settings),
    };
    if (!mkdtemp(root)) return 1;
    return cmocka_run_group_tests(tests, NULL, remove_root);
}
