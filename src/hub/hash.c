/* See hash.h. */
#include "hub/hash.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "hub/hub_impl.h"

enum fm_status fm_hash_init(struct fm_hash *h, const char *blob, uint64_t size, struct fm_error *err)
{
    const EVP_MD *md = fm_hub_is_hex(blob, 64) ? EVP_sha256() : fm_hub_is_hex(blob, 40) ? EVP_sha1() : NULL;
    char header[32];
    *h = (struct fm_hash){NULL};
    if (!md) return FM_OK;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    bool ok = c && EVP_DigestInit_ex(c, md, NULL) == 1;
    int n = snprintf(header, sizeof header, "blob %llu", (unsigned long long)size) + 1; /* with its NUL */
    if (ok && strlen(blob) == 40) ok = EVP_DigestUpdate(c, header, (size_t)n) == 1;
    if (ok) {
        h->ctx = c;
        return FM_OK;
    }
    EVP_MD_CTX_free(c);
    return fm_fail(err, FM_ERR_FAILED, "compute a hash: libcrypto: it offers no %s here", EVP_MD_get0_name(md));
}

void fm_hash_release(struct fm_hash *h)
{
    EVP_MD_CTX_free(h->ctx);
    h->ctx = NULL;
}

bool fm_hash_add(struct fm_hash *h, const void *data, size_t n)
{
    return !h->ctx || EVP_DigestUpdate(h->ctx, data, n) == 1;
}

bool fm_hash_text(const struct fm_hash *h, char out[65])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    out[0] = 0;
    if (!h->ctx) return true;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    bool ok = c && EVP_MD_CTX_copy_ex(c, h->ctx) == 1 && EVP_DigestFinal_ex(c, digest, &n) == 1 && n <= 32;
    EVP_MD_CTX_free(c);
    for (unsigned i = 0; ok && i < n; i++) snprintf(out + 2 * i, 3, "%02x", digest[i]);
    return ok;
}
