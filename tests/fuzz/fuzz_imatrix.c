/* libFuzzer target: any bytes as an importance matrix, GGUF or the older .dat; what is read is looked at and added up. */
#include "model/imatrix.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fm_imatrix m, sum = {0};
    struct fm_imatrix_stats s;
    struct fm_error err;
    if (fm_imatrix_read(&m, data, n, "input", &err)) return 0;
    for (int i = 0; i < m.n; i++) fm_imatrix_measure(&m.entries[i], &s);
    for (int i = 0; i < 2; i++) /* the second time sums and counts grow */
        if (fm_imatrix_merge(&sum, &m, "input", &err)) break;
    fm_imatrix_release(&sum);
    fm_imatrix_release(&m);
    return 0;
}
