/* SPDX-License-Identifier: GPL-2.0 */
/*
 * provoke: makes the kernel print a report of each kind, one at a time, so
 * that the parser of reports can be checked on what kernels really print.
 */
#ifndef PROVOKE_H
#define PROVOKE_H

#include <linux/types.h>

/**
 * struct provoke_kind - a kind of report
 * @name: what is written to the device to have it
 * @provoke: does what the kernel reports
 */
struct provoke_kind {
	const char *name;
	void (*provoke)(void);
};

#define PROVOKE_KIND(name) { #name, prov_##name }

/* Where calls that are given user memory find some: what was written. */
extern char __user *prov_user;

/* Each list ends with an entry that has no name. */
extern const struct provoke_kind prov_kasan_kinds[];
extern const struct provoke_kind prov_pages_kinds[];
extern const struct provoke_kind prov_ubsan_kinds[];
extern const struct provoke_kind prov_fault_kinds[];
extern const struct provoke_kind prov_warning_kinds[];
extern const struct provoke_kind prov_lockdep_kinds[];
extern const struct provoke_kind prov_hang_kinds[];
/* On the kernels for data races and for unset memory, which have no other checks. */
extern const struct provoke_kind prov_kcsan_kinds[];
extern const struct provoke_kind prov_kmsan_kinds[];

#endif
