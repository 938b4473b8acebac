/* Lookup grids of the IQ formats: one 16-bit word per entry, element 0 in the lowest bits. */
#ifndef FM_QUANT_IQ_GRIDS_H
#define FM_QUANT_IQ_GRIDS_H

#include <stdint.h>

extern const uint16_t fm_iq2_xxs_grid[256]; /* 8 codes of 2 bits: 0, 1, 2 for 8, 25, 43                        */
extern const uint16_t fm_iq2_xs_grid[512];  /* the same                                                        */
extern const uint16_t fm_iq2_s_grid[1024];  /* the same                                                        */
extern const uint16_t fm_iq3_xxs_grid[256]; /* 4 codes of 4 bits: 0 … 7 for 4, 12, 20, 28, 36, 44, 52, 62      */
extern const uint16_t fm_iq3_s_grid[512];   /* 4 codes of 4 bits: c for 2c + 1                                 */
extern const uint16_t fm_iq1_grid[2048];    /* 8 codes of 2 bits: 0, 1, 2 for −1, 0, 1                         */

#endif
