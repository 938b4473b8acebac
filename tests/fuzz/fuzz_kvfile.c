/* libFuzzer target: any bytes as a file of the cache of keys and values.  The first byte picks whose it should be.  What
 * is accepted must be, byte for byte, what would have been written for that place and body. */
#include <stdlib.h>
#include <string.h>

#include "kvfile_samples.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t file[FM_KVFILE_HEAD + KVFILE_BODY] = {0}, head[FM_KVFILE_HEAD];
    struct fm_kvplace p;
    if (n < 1) return 0;
    memcpy(file, data + 1, n - 1 < sizeof file ? n - 1 : sizeof file);
    kvfile_place(&p, data[0] % KVFILE_PLACES);
    if (fm_kvfile_check(&kvfile_origin, &p, file, file + FM_KVFILE_HEAD)) return 0;
    fm_kvfile_head(&kvfile_origin, &p, file + FM_KVFILE_HEAD, head);
    if (memcmp(head, file, sizeof head) != 0) abort();
    return 0;
}
