/* libFuzzer target: any bytes as a config.json.  What is accepted must survive being written out and read again. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "model/family.h"
#include "model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void read_back(const struct fm_config *cfg)
{
    struct fm_config again;
    struct fm_error err;
    json_t *j = fm_config_to_json(cfg);
    if (!j) return;
    if (fm_config_from_json(j, "written", &again, &err)) abort();
    if (again.V != cfg->V || again.D != cfg->D || again.L != cfg->L || again.H != cfg->H || again.F != cfg->F) abort();
    json_decref(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fm_config cfg;
    struct fm_error err;
    json_t *j;
    if (fm_json_parse((const char *)data, n, "input", &j, &err)) return 0;
    if (!fm_config_from_json(j, "input", &cfg, &err)) read_back(&cfg);
    json_decref(j);
    return 0;
}
