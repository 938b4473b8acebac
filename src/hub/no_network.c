/* In place of the files that need libcurl and libcrypto, where the build found none. */
#include "hub/hub_impl.h"

static enum fm_status missing(const char *what, struct fm_error *err)
{
    (void)fm_fail(err, FM_ERR_FAILED, "%s: this fathom: it was built without libcurl and libcrypto", what);
    fm_hint(err, "install libcurl4-openssl-dev and libssl-dev, and build again");
    return FM_ERR_FAILED;
}

enum fm_status fm_hub_pull(const struct fm_hub *h, const struct fm_hub_ref *ref, const struct fm_pull_options *o,
                           const struct fm_hub_progress *p, char **path, struct fm_error *err)
{
    (void)p;
    return o->dir || fm_cache_find(h, ref, o->rev, path, err) ? missing("download a model", err) : FM_OK;
}

enum fm_status fm_blob_verify(const struct fm_hub *h, const char *repo, const char *blob,
                              void (*at)(void *arg, uint64_t bytes), void *arg, const volatile int *stop,
                              enum fm_blob_state *out, struct fm_error *err)
{
    (void)h, (void)repo, (void)blob, (void)at, (void)arg, (void)stop, (void)out;
    return missing("verify a model", err);
}
