// SPDX-License-Identifier: GPL-2.0
/*
 * digest: needs options that the kernels here do not have. CRYPTO and a hash
 * are needed to link it, CRYPTO_MD5 when it is called.
 */
#include <crypto/hash.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>

static ssize_t digest_read(struct file *file, char __user *buffer, size_t count,
			   loff_t *position)
{
	struct crypto_shash *hash = crypto_alloc_shash("md5", 0, 0);
	unsigned int size;

	if (IS_ERR(hash))
		return PTR_ERR(hash);
	size = crypto_shash_digestsize(hash);
	crypto_free_shash(hash);
	return size;
}

static const struct file_operations digest_fops = {
	.owner = THIS_MODULE,
	.read = digest_read,
};

static struct miscdevice digest_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "digest",
	.fops = &digest_fops,
};
module_misc_device(digest_device);

MODULE_DESCRIPTION("Needs options of the kernel");
MODULE_LICENSE("GPL");
