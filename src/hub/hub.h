/* The model hub: names of models, the cache that other programs share, downloads.
 *
 *   "qwen3-0.6b"  ──names.c──▶  ORG/REPO[:FILE]  ──pull.c──▶  listing.c ─▶ pick.c ─▶ fetch.c ─▶ cache.c
 *                                      └───────────────cache.c: there already?───────────────────▲
 *
 * Source of the protocol and of the layout on disk: the documentation of huggingface_hub, and its behaviour. */
#ifndef FM_HUB_HUB_H
#define FM_HUB_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/status.h"

/* ---- settings -------------------------------------------------------------------------------------------------- */

/* What the environment says; see hub_env.c for the variables. */
struct fm_hub {
    char *endpoint;       /* "https://huggingface.co": no slash at the end                       */
    char *cache;          /* the folder that holds models--ORG--REPO                             */
    char *token;          /* NULL: none.  Goes to the endpoint's origin only, and into no message */
    bool offline;         /* HF_HUB_OFFLINE: nothing is sent                                     */
    bool no_bars;         /* HF_HUB_DISABLE_PROGRESS_BARS                                        */
    int download_timeout; /* seconds of silence in a download                                    */
    int etag_timeout;     /* seconds for a question about a file                                 */
};
enum fm_status fm_hub_init(struct fm_hub *h, struct fm_error *err) FM_MUST_USE;
void fm_hub_release(struct fm_hub *h);

/* ---- names ----------------------------------------------------------------------------------------------------- */

enum { FM_HUB_REPO_MAX = 96, FM_HUB_FILE_MAX = 512 };

struct fm_hub_ref {
    char repo[FM_HUB_REPO_MAX + 1]; /* "ORG/REPO"                                         */
    char file[FM_HUB_FILE_MAX + 1]; /* a path or a quantisation's name; empty: the default */
};

/* A row of the table of short names.  Sizes are of the file that is picked. */
struct fm_hub_name {
    const char *name, *repo, *file;
    const char *size;    /* "105 MB"; "~" in front: of a file of that type and shape, not this one's own */
    const char *licence; /* of the weights */
    const char *memory;  /* to run it with a context of 4096 */
};
const struct fm_hub_name *fm_hub_name_at(int i); /* NULL behind the last */
const struct fm_hub_name *fm_hub_name_find(const char *name);

/* A short name, or ORG/REPO, each with :FILE behind if wanted; an address of the hub's web page is understood as well.
 * FM_ERR_USAGE says what is wrong with it. */
enum fm_status fm_hub_ref_parse(const char *text, struct fm_hub_ref *out, struct fm_error *err) FM_MUST_USE;

/* ---- the cache ------------------------------------------------------------------------------------------------- */

/* Where the cache has a model: *path is a GGUF file (the first of several) or a folder, on the heap.  rev NULL: main.
 * FM_ERR_INPUT when it is not there, or not all of it; the hint says how to get it. */
enum fm_status fm_cache_find(const struct fm_hub *h, const struct fm_hub_ref *ref, const char *rev, char **path,
                             struct fm_error *err) FM_MUST_USE;

struct fm_cached_file {
    char *path;    /* in the repository                       */
    char *blob;    /* name in blobs/; NULL: a plain file      */
    uint64_t size; /* bytes                                   */
    time_t used;   /* last read or written                    */
    bool missing;  /* the link leads nowhere                  */
    bool shared;   /* another entry before has the same blob  */
};
struct fm_cached_repo {
    char *repo;
    struct fm_cached_file *files;
    size_t n_files;
    uint64_t bytes;         /* on disk: each blob once */
    uint64_t partial_bytes; /* of downloads that have not ended */
    time_t used;
};
struct fm_cache_list {
    struct fm_cached_repo *repos;
    size_t n;
};
/* All models in the cache, whoever put them there, in the order of their names.  No folder: an empty list. */
enum fm_status fm_cache_scan(const struct fm_hub *h, struct fm_cache_list *out, struct fm_error *err) FM_MUST_USE;
void fm_cache_list_release(struct fm_cache_list *l);

/* Remove a whole model, or one file (or one quantisation) of it in all snapshots; blobs go when no link is left.
 * dry: only count.  *bytes and *n_files: what went.  FM_ERR_INPUT when there is no such thing, FM_ERR_FAILED when it is
 * being downloaded. */
enum fm_status fm_cache_remove(const struct fm_hub *h, const struct fm_hub_ref *ref, bool dry, uint64_t *bytes,
                               size_t *n_files, struct fm_error *err) FM_MUST_USE;

/* ---- the network ----------------------------------------------------------------------------------------------- */

struct fm_hub_progress {
    /* done of total bytes, old of them not by this run; file: what is worked on.  Called a few times a second. */
    void (*at)(void *arg, const char *what, const char *file, uint64_t old, uint64_t done, uint64_t total);
    void (*note)(void *arg, const char *line); /* "another process downloads …: waiting" */
    void *arg;
    const volatile int *stop; /* not 0: stop, FM_ERR_CANCELLED, what came is kept */
};

struct fm_pull_options {
    const char *rev; /* NULL: main */
    const char *dir; /* NULL: into the cache; else plain files in this folder */
    int connections; /* at once, for one large file: 1 … 16 */
};
/* Download what ref names.  *path: as fm_cache_find, on the heap. */
enum fm_status fm_hub_pull(const struct fm_hub *h, const struct fm_hub_ref *ref, const struct fm_pull_options *o,
                           const struct fm_hub_progress *p, char **path, struct fm_error *err) FM_MUST_USE;

/* Hash a blob and compare with its name. */
enum fm_blob_state { FM_BLOB_GOOD, FM_BLOB_DAMAGED, FM_BLOB_UNKNOWN /* its name is no hash */ };
enum fm_status fm_blob_verify(const struct fm_hub *h, const char *repo, const char *blob,
                              void (*at)(void *arg, uint64_t bytes), void *arg, const volatile int *stop,
                              enum fm_blob_state *out, struct fm_error *err) FM_MUST_USE;

#endif
