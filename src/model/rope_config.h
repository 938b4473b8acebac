/* Reading and writing RoPE settings; see rope_config.c.  rope_dim and ctx_train are set before. */
#ifndef FM_MODEL_ROPE_CONFIG_H
#define FM_MODEL_ROPE_CONFIG_H

#include <stdio.h>

#include "model/family.h"
#include "model/model.h"

void fm_rope_read_json(struct fm_reader *r, struct fm_config *cfg);
void fm_rope_read_gguf(struct fm_reader *r, struct fm_config *cfg);
/* Softmax scales, YaRN's amplitude included; after the family has read its widths. */
void fm_rope_amplitudes(struct fm_reader *r, struct fm_config *cfg);
void fm_rope_write_json(const struct fm_config *cfg, json_t *j);
void fm_rope_write_gguf(const struct fm_config *cfg, struct fm_writer *w, const char *arch);
/* GGUF has no keys for Llama 3's scaling: tensor rope_freqs.weight [rope_dim/2] then holds what divides each frequency
 * that follows from the keys.  False when memory is short. */
bool fm_rope_needs_divisors(const struct fm_config *cfg);
bool fm_rope_divisors(const struct fm_config *cfg, float *divisors);
/* The way back, for config.json: the divisors of cfg as Llama 3's scaling.  False, cfg untouched, when they are none. */
bool fm_rope_from_divisors(struct fm_config *cfg);

#endif
