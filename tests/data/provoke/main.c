// SPDX-License-Identifier: GPL-2.0
/* The device: what is written to it names the kind of report to provoke. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "provoke.h"

#define PROVOKE_NAME_SIZE 64

char __user *prov_user;

static char *init = "";
module_param(init, charp, 0444);
MODULE_PARM_DESC(init, "kind to provoke while the module is loaded");

static char *leave = "";
module_param(leave, charp, 0444);
MODULE_PARM_DESC(leave, "kind to provoke while the module is unloaded");

static const struct provoke_kind *const prov_lists[] = {
#if defined(CONFIG_KCSAN)
	prov_kcsan_kinds,
#elif defined(CONFIG_KMSAN)
	prov_kmsan_kinds,
#else
	prov_kasan_kinds, prov_pages_kinds, prov_ubsan_kinds, prov_fault_kinds,
	prov_warning_kinds, prov_lockdep_kinds, prov_hang_kinds,
#endif
};

static const struct provoke_kind *prov_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(prov_lists); i++)
		for (const struct provoke_kind *kind = prov_lists[i];
		     kind->name; kind++)
			if (!strcmp(kind->name, name))
				return kind;
	return NULL;
}

static ssize_t prov_write(struct file *file, const char __user *buf,
			  size_t count, loff_t *pos)
{
	const struct provoke_kind *kind;
	char name[PROVOKE_NAME_SIZE] = { };

	if (count >= sizeof(name))
		return -EINVAL;
	if (copy_from_user(name, buf, count))
		return -EFAULT;
	kind = prov_find(strreplace(strim(name), '-', '_'));
	if (!kind)
		return -ENOENT;
	prov_user = (char __user *)buf;
	kind->provoke();
	return count;
}

static const struct file_operations prov_fops = {
	.owner = THIS_MODULE,
	.write = prov_write,
	.llseek = noop_llseek,
};

static struct miscdevice prov_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "provoke",
	.fops = &prov_fops,
};

static noinline void prov_stay_quiet(void)
{
	pr_info("nothing is provoked\n");
	pr_err("DEBUG: warnings and KASAN reports are words, a BUG too\n");
}

static int __init prov_init(void)
{
	const struct provoke_kind *kind = prov_find(init);

	if (kind)
		kind->provoke();
	else if (*init)
		prov_stay_quiet();
	return misc_register(&prov_device);
}

static void __exit prov_exit(void)
{
	const struct provoke_kind *kind = prov_find(leave);

	misc_deregister(&prov_device);
	if (kind)
		kind->provoke();
}

module_init(prov_init);
module_exit(prov_exit);
MODULE_DESCRIPTION("Provokes a kernel report of each kind, for tests");
MODULE_LICENSE("GPL");
