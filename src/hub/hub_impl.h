/* What the files of this folder share. */
#ifndef FM_HUB_IMPL_H
#define FM_HUB_IMPL_H

#include "base/str.h"
#include "hub/hub.h"

/* ---- text ------------------------------------------------------------------------------------------------------ */

char *fm_hub_text(const char *fmt, ...) FM_PRINTF(1, 2); /* on the heap; NULL without memory */
bool fm_hub_is_hex(const char *s, size_t n);             /* exactly n digits, lower case */
/* A branch, tag or commit: what may stand in an address and below refs/. */
bool fm_hub_rev_ok(const char *rev);
/* The name of a blob as servers give it: letters, digits, . _ - and no dot in front. */
bool fm_hub_etag_ok(const char *etag);

/* ---- listing.c: what a repository holds ------------------------------------------------------------------------ */

enum { FM_HUB_FILES_MAX = 100000 };
#define FM_HUB_SIZE_MAX ((uint64_t)1 << 50) /* bytes of a file; more is a lie */

struct fm_hub_file {
    char *path;
    uint64_t size;
    char oid[65]; /* sha256 of a large file, git's blob hash of a small one; empty: unknown */
};
struct fm_hub_listing {
    struct fm_hub_file *files;
    size_t n, cap;
};
/* A path from a server that is safe below a folder: relative, no empty, "." or ".." part, no backslash, no control
 * character, UTF-8, parts of at most 255 bytes. */
bool fm_hub_path_ok(const char *path);
enum fm_status fm_listing_add(struct fm_hub_listing *l, const char *path, uint64_t size, const char *oid,
                              struct fm_error *err) FM_MUST_USE;
/* Append the files of one answer of the tree API (a JSON array).  Hostile input is an error that names the entry. */
enum fm_status fm_listing_parse(struct fm_hub_listing *l, const char *text, size_t n, const char *where,
                                struct fm_error *err) FM_MUST_USE;
void fm_listing_sort(struct fm_hub_listing *l); /* by path */
void fm_listing_release(struct fm_hub_listing *l);
const struct fm_hub_file *fm_listing_find(const struct fm_hub_listing *l, const char *path); /* of a sorted one */

/* ---- pick.c: which of them make the model ---------------------------------------------------------------------- */

enum fm_pick_kind { FM_PICK_GGUF, FM_PICK_FOLDER, FM_PICK_FILE };
struct fm_pick {
    enum fm_pick_kind kind;
    const struct fm_hub_file **files; /* into the listing */
    size_t n;
    const struct fm_hub_file *index; /* of a folder whose weights are in shards: not picked yet, the index names them */
};
/* want: a path, a quantisation ("Q4_K_M"), "safetensors", or empty. */
enum fm_status fm_pick_files(const struct fm_hub_listing *l, const char *repo, const char *want, struct fm_pick *out,
                             struct fm_error *err) FM_MUST_USE;
/* Add the shards that model.safetensors.index.json names: text of n bytes. */
enum fm_status fm_pick_shards(const struct fm_hub_listing *l, const char *text, size_t n, struct fm_pick *pick,
                              struct fm_error *err) FM_MUST_USE;
void fm_pick_release(struct fm_pick *p);

/* ---- cache.c: folders ------------------------------------------------------------------------------------------ */

/* "models--ORG--REPO" of a repository, and back: false when the folder is no model's. */
void fm_hub_folder(const char *repo, char out[FM_HUB_REPO_MAX + 16]);
bool fm_cache_repo(const char *folder, char out[FM_HUB_REPO_MAX + 1]);

enum fm_status fm_make_folders(char *path, bool last, struct fm_error *err) FM_MUST_USE; /* as mkdir -p; last: itself */
/* snapshots/COMMIT/PATH → blobs/BLOB; an older link goes. */
enum fm_status fm_cache_link(const struct fm_hub *h, const char *repo, const char *commit, const char *path,
                             const char *blob, struct fm_error *err) FM_MUST_USE;
enum fm_status fm_cache_write_ref(const struct fm_hub *h, const char *repo, const char *rev, const char *commit,
                                  struct fm_error *err) FM_MUST_USE;
/* Walk a snapshot: the files below it as a listing, paths relative to it. */
enum fm_status fm_cache_walk(const char *snapshot, struct fm_hub_listing *out, struct fm_error *err) FM_MUST_USE;
/* FM_ERR_DISK with errno's text, and a hint when the disk is full. */
enum fm_status fm_hub_disk(struct fm_error *err, const char *what, const char *path);

/* ---- url.c ----------------------------------------------------------------------------------------------------- */

/* Append text as a part of an address: all but letters, digits and -._~ escaped; keep: a character that stays. */
void fm_url_escape(struct fm_buf *b, const char *text, char keep);
/* http or https, a host, no user name, nothing that two readers could read differently. */
bool fm_url_ok(const char *url);
bool fm_url_same_origin(const char *a, const char *b); /* scheme, host and port */
bool fm_url_is_https(const char *url);
bool fm_url_is_local(const char *url); /* localhost, 127.0.0.1, [::1] */
/* May a reply from one address lead to another?  NULL, or why not. */
const char *fm_url_refuse(const char *from, const char *to);
void fm_url_display(const char *url, char *out, size_t n); /* without the query, which may hold a signature */
/* The address of rel="next" in a Link header's value; false: none. */
bool fm_link_next(const char *value, struct fm_buf *out);

#endif
