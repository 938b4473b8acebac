/* The x86 tiers: one fill function per file.  Private to this folder. */
#ifndef FM_KERNEL_X86_H
#define FM_KERNEL_X86_H

#include "kernel/kernel.h"

#endif
