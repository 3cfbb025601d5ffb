// SPDX-License-Identifier: GPL-2.0
/* The same driver, whose device nobody registers. */
#include "../boards/board.c"
