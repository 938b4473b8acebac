/* quantization_config of config.json: how the weights were made small, and whether that can be read. */
#ifndef FM_MODEL_QUANT_CONFIG_H
#define FM_MODEL_QUANT_CONFIG_H

#include "model/family.h"

/* Sets cfg->fp8_block.  A method whose tensors mean something else than scales.h says sticks in the reader as an error
 * that names the method, with a hint at what to use instead. */
void fm_quant_read_json(struct fm_reader *r, struct fm_config *cfg);

#endif
