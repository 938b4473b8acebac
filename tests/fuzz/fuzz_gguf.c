/* libFuzzer target: any bytes as a GGUF.  Built with clang by `make fuzz`; seeds from make_seeds.c. */
#include <string.h>

#include "../file_samples.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fm_file *f;
    struct fm_error err;
    if (n < 4 || memcmp(data, "GGUF", 4)) return 0; /* not for this reader */
    if (fm_file_open_memory(data, n, "input", &f, &err)) return 0;
    volatile uint64_t sink = sample_touch(f);
    (void)sink;
    fm_file_close(f);
    return 0;
}
