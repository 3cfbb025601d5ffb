// SPDX-License-Identifier: GPL-2.0
/*
 * pkv: an in-kernel key/value store behind /dev/pkv.
 *
 * README.md describes what it does, pkv.h is its user space interface. Here
 * are the module, its parameters and its device; pkv_file.c has the file
 * operations, pkv_store.c the store, pkv_lock.c the lock strategies.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/device.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/limits.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/printk.h>

#include "pkv_device.h"

static struct pkv pkv_device;

static char *pkv_strategy = "mutex";
module_param_named(lock, pkv_strategy, charp, 0444);
MODULE_PARM_DESC(lock, "How readers and writers are kept apart: mutex, rwsem, rwlock or rcu (default mutex)");

/* Above INT_MAX, msecs_to_jiffies() would mean for ever. */
static int pkv_ttl_set(const char *text, const struct kernel_param *param)
{
	return param_set_uint_minmax(text, param, 0, INT_MAX);
}

static const struct kernel_param_ops pkv_ttl_ops = {
	.set = pkv_ttl_set,
	.get = param_get_uint,
};

module_param_cb(ttl_ms, &pkv_ttl_ops, &pkv_device.store.ttl_ms, 0644);
__MODULE_PARM_TYPE(ttl_ms, "uint");
MODULE_PARM_DESC(ttl_ms, "Milliseconds that a key written from now on lives, at most INT_MAX; 0 for ever (default 0)");

/**
 * pkv_register() - set up a store and its device
 * @pkv: zeroed, but for the store's ttl_ms
 * @name: of the device, its class and its file in /proc
 * @strategy: name of the lock strategy
 *
 * Return: 0 or a negative errno; -EINVAL if there is no such strategy.
 */
int pkv_register(struct pkv *pkv, const char *name, const char *strategy)
{
	const struct pkv_lock_ops *ops = pkv_lock_strategy(strategy);
	struct device *dev;
	int ret;

	if (!ops) {
		pr_err("lock=%s: not one of mutex, rwsem, rwlock, rcu\n", strategy);
		return -EINVAL;
	}

	pkv->counts = alloc_percpu(struct pkv_counts);
	if (!pkv->counts)
		return -ENOMEM;

	ret = pkv_store_init(&pkv->store, ops);
	if (ret)
		goto err_counts;
	init_waitqueue_head(&pkv->changed);

	ret = alloc_chrdev_region(&pkv->devt, 0, 1, name);
	if (ret)
		goto err_store;

	pkv->class.name = name;
	ret = class_register(&pkv->class);
	if (ret)
		goto err_region;

	ret = pkv_proc_create(pkv, name);
	if (ret)
		goto err_class;

	dev = device_create(&pkv->class, NULL, pkv->devt, NULL, "%s", name);
	if (IS_ERR(dev)) {
		ret = PTR_ERR(dev);
		goto err_proc;
	}

	/*
	 * Last: from here on a file may be open, through this node or another
	 * one of the same number, and what it uses can not be taken away. Who
	 * opens the node before that gets -ENXIO.
	 */
	cdev_init(&pkv->cdev, &pkv_fops);
	pkv->cdev.owner = THIS_MODULE;
	ret = cdev_add(&pkv->cdev, pkv->devt, 1);
	if (ret)
		goto err_device;
	return 0;

err_device:
	device_destroy(&pkv->class, pkv->devt);
err_proc:
	pkv_proc_remove(pkv);
err_class:
	class_unregister(&pkv->class);
err_region:
	unregister_chrdev_region(pkv->devt, 1);
err_store:
	pkv_store_destroy(&pkv->store);
err_counts:
	free_percpu(pkv->counts);
	return ret;
}

/* Undo pkv_register(); no file may be open. */
void pkv_unregister(struct pkv *pkv)
{
	cdev_del(&pkv->cdev);
	device_destroy(&pkv->class, pkv->devt);
	pkv_proc_remove(pkv);
	class_unregister(&pkv->class);
	unregister_chrdev_region(pkv->devt, 1);
	pkv_store_destroy(&pkv->store);
	free_percpu(pkv->counts);
}

static int __init pkv_init(void)
{
	return pkv_register(&pkv_device, KBUILD_MODNAME, pkv_strategy);
}
module_init(pkv_init);

static void __exit pkv_exit(void)
{
	pkv_unregister(&pkv_device);
}
module_exit(pkv_exit);

MODULE_DESCRIPTION("In-kernel key/value store behind a character device");
MODULE_AUTHOR("The pkvfuzz authors");
MODULE_LICENSE("GPL");
