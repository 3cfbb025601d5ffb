/* SPDX-License-Identifier: GPL-2.0 */
#define OUTSIDE_MOST	7
