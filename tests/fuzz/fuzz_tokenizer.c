/* libFuzzer target: any bytes as a tokenizer.json.  What loads must take any text apart and give it back: the input itself
 * is encoded, with and without its special tokens, and decoded again. */
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void round_trip(const struct fm_tokenizer *t, const char *text, size_t n, unsigned flags)
{
    struct fm_error err;
    struct fm_ids ids = {0};
    struct fm_buf back = {0};
    if (!fm_tokenizer_encode(t, text, n, flags, &ids, &err))
        if (fm_tokenizer_decode(t, ids.data, ids.n, &back, &err)) abort(); /* it refuses its own ids */
    fm_buf_release(&back);
    fm_ids_release(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fm_tokenizer *t;
    struct fm_error err;
    if (fm_tokenizer_load_json((const char *)data, n, "input", &t, &err)) return 0;
    size_t k = n < 256 ? n : 256; /* pre-tokenizers may be slow, and the beginning is as good as all of it */
    round_trip(t, (const char *)data, k, FM_ENCODE_SPECIAL | FM_ENCODE_BOS | FM_ENCODE_EOS);
    round_trip(t, (const char *)data + n - k, k, 0);
    fm_tokenizer_close(t);
    return 0;
}
