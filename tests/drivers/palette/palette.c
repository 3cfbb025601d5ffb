// SPDX-License-Identifier: GPL-2.0
/*
 * palette: rows of colours at /dev/palette, with ids and descriptors that are handed out.
 * palette.h has the interface.
 */
#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/kref.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "palette.h"

/**
 * struct palette - a palette
 * @ref: by its id and each view
 * @lock: for what follows
 * @size: colours
 * @gammas: PALETTE_GAMMAS of them
 * @name: with a NUL
 * @colours: a byte each
 */
struct palette {
	struct kref ref;
	struct mutex lock;
	u32 size;
	u8 *gammas;
	char name[16];
	u8 colours[];
};

/**
 * struct palette_file - an open file
 * @lock: for the palettes
 * @palettes: by id
 */
struct palette_file {
	struct mutex lock;
	struct idr palettes;
};

static void palette_release(struct kref *ref)
{
	struct palette *palette = container_of(ref, struct palette, ref);

	kfree(palette->gammas);
	kfree(palette);
}

static void palette_put(struct palette *palette)
{
	kref_put(&palette->ref, palette_release);
}

/* Return the palette with a reference, or NULL. */
static struct palette *palette_get(struct palette_file *file, u32 id)
{
	struct palette *palette;

	mutex_lock(&file->lock);
	palette = idr_find(&file->palettes, id);
	if (palette)
		kref_get(&palette->ref);
	mutex_unlock(&file->lock);
	return palette;
}

static struct palette *palette_alloc(u32 size)
{
	struct palette *palette = kzalloc(struct_size(palette, colours, size), GFP_KERNEL);

	if (!palette)
		return NULL;
	palette->gammas = kmalloc(PALETTE_GAMMAS, GFP_KERNEL);
	if (!palette->gammas) {
		kfree(palette);
		return NULL;
	}
	for (int i = 0; i < PALETTE_GAMMAS; i++)
		palette->gammas[i] = i;
	kref_init(&palette->ref);
	mutex_init(&palette->lock);
	palette->size = size;
	return palette;
}

static long palette_new(struct palette_file *file, void __user *argument)
{
	struct palette *palette;
	struct palette_new new;
	int ret;

	if (copy_from_user(&new, argument, sizeof(new)))
		return -EFAULT;
	if (!new.size || new.size > PALETTE_SIZE_MAX)
		return -EINVAL;
	palette = palette_alloc(new.size);
	if (!palette)
		return -ENOMEM;
	new.id = get_random_u32() | 0x10000;
	mutex_lock(&file->lock);
	ret = idr_alloc_u32(&file->palettes, palette, &new.id, U32_MAX, GFP_KERNEL);
	mutex_unlock(&file->lock);
	if (ret) {
		palette_put(palette);
		return ret;
	}
	/* Who could not be told the id has a palette that nobody frees before the file. */
	return copy_to_user(argument, &new, sizeof(new)) ? -EFAULT : 0;
}

static long palette_free(struct palette_file *file, u32 id)
{
	struct palette *palette;

	mutex_lock(&file->lock);
	palette = idr_remove(&file->palettes, id);
	mutex_unlock(&file->lock);
	if (!palette)
		return -ENOENT;
	palette_put(palette);
	return 0;
}

static u8 palette_colour(const struct palette *palette, const struct palette_draw *draw, u32 colour)
{
	colour += draw->level;
	return draw->smooth ? colour + palette->gammas[draw->gamma] : colour;
}

static int palette_draw_one(struct palette *palette, const struct palette_draw *draw)
{
	u32 i;

	if (draw->smooth && draw->gamma >= PALETTE_GAMMAS)
		return -EINVAL;
	switch (draw->kind) {
	case PALETTE_DOT:
		if (draw->u.dot.at >= palette->size)
			return -ERANGE;
		i = draw->u.dot.at;
		palette->colours[i] = palette_colour(palette, draw, draw->u.dot.colour);
		return 0;
	case PALETTE_LINE:
		if (draw->u.line.to > palette->size)
			return -ERANGE;
		for (i = draw->u.line.from; i < draw->u.line.to; i++)
			palette->colours[i] = palette_colour(palette, draw, draw->u.line.colour);
		return 0;
	case PALETTE_NAME:
		strscpy(palette->name, draw->u.name, sizeof(palette->name));
		return 0;
	default:
		return -EINVAL;
	}
}

static long palette_draw(struct palette_file *file, const void __user *argument)
{
	struct palette *palette;
	struct palette_draw draw;
	int ret;

	if (copy_from_user(&draw, argument, sizeof(draw)))
		return -EFAULT;
	palette = palette_get(file, draw.id);
	if (!palette)
		return -ENOENT;
	mutex_lock(&palette->lock);
	ret = palette_draw_one(palette, &draw);
	mutex_unlock(&palette->lock);
	palette_put(palette);
	return ret;
}

static int palette_fill_runs(struct palette *palette, const struct palette_fill *fill)
{
	u32 at = 0;

	for (u32 i = 0; i < fill->n_runs; i++) {
		const struct palette_run *run = &fill->runs[i];

		if (run->n > PALETTE_RUN_MAX || at + run->n > palette->size)
			return -ERANGE;
		memcpy(palette->colours + at, run->colours, run->n);
		at += run->n;
	}
	return 0;
}

static long palette_fill(struct palette_file *file, const void __user *argument)
{
	struct palette *palette;
	struct palette_fill fill;
	int ret;

	if (copy_from_user(&fill, argument, sizeof(fill)))
		return -EFAULT;
	if (fill.n_runs > PALETTE_RUNS_MAX)
		return -EINVAL;
	palette = palette_get(file, fill.id);
	if (!palette)
		return -ENOENT;
	mutex_lock(&palette->lock);
	ret = palette_fill_runs(palette, &fill);
	mutex_unlock(&palette->lock);
	palette_put(palette);
	return ret;
}

static ssize_t palette_view_read(struct file *view, char __user *to, size_t n, loff_t *at)
{
	struct palette *palette = view->private_data;
	ssize_t ret;

	mutex_lock(&palette->lock);
	ret = simple_read_from_buffer(to, n, at, palette->colours, palette->size);
	mutex_unlock(&palette->lock);
	return ret;
}

static long palette_view_ioctl(struct file *view, unsigned int command, unsigned long argument)
{
	struct palette *palette = view->private_data;
	u8 first;

	if (command != PALETTE_IOC_ROTATE)
		return -ENOTTY;
	if (argument > PALETTE_SIZE_MAX)
		return -EINVAL;
	mutex_lock(&palette->lock);
	while (argument--) {
		first = palette->colours[0];
		memmove(palette->colours, palette->colours + 1, palette->size - 1);
		palette->colours[palette->size - 1] = first;
	}
	mutex_unlock(&palette->lock);
	return 0;
}

static int palette_view_release(struct inode *inode, struct file *view)
{
	palette_put(view->private_data);
	return 0;
}

static const struct file_operations palette_view_fops = {
	.owner = THIS_MODULE,
	.read = palette_view_read,
	.unlocked_ioctl = palette_view_ioctl,
	.release = palette_view_release,
};

static long palette_view(struct palette_file *file, u32 id)
{
	struct palette *palette = palette_get(file, id);
	int ret;

	if (!palette)
		return -ENOENT;
	ret = anon_inode_getfd("palette", &palette_view_fops, palette, O_RDWR | O_CLOEXEC);
	if (ret < 0)
		palette_put(palette);
	return ret;
}

static long palette_ioctl(struct file *opened, unsigned int command, unsigned long argument)
{
	struct palette_file *file = opened->private_data;

	switch (command) {
	case PALETTE_IOC_NEW:
		return palette_new(file, (void __user *)argument);
	case PALETTE_IOC_FREE:
		return palette_free(file, argument);
	case PALETTE_IOC_DRAW:
		return palette_draw(file, (const void __user *)argument);
	case PALETTE_IOC_FILL:
		return palette_fill(file, (const void __user *)argument);
	case PALETTE_IOC_VIEW:
		return palette_view(file, argument);
	default:
		return -ENOTTY;
	}
}

static int palette_open(struct inode *inode, struct file *opened)
{
	struct palette_file *file = kzalloc(sizeof(*file), GFP_KERNEL);

	if (!file)
		return -ENOMEM;
	mutex_init(&file->lock);
	idr_init(&file->palettes);
	opened->private_data = file;
	return 0;
}

static int palette_close(struct inode *inode, struct file *opened)
{
	struct palette_file *file = opened->private_data;
	struct palette *palette;
	unsigned long next, id;

	idr_for_each_entry_ul(&file->palettes, palette, next, id)
		palette_put(palette);
	idr_destroy(&file->palettes);
	kfree(file);
	return 0;
}

static const struct file_operations palette_fops = {
	.owner = THIS_MODULE,
	.open = palette_open,
	.release = palette_close,
	.unlocked_ioctl = palette_ioctl,
};

static struct miscdevice palette_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "palette",
	.fops = &palette_fops,
	.mode = 0666,
};
module_misc_device(palette_device);

MODULE_DESCRIPTION("Palettes with ids and views, to try a fuzzer on");
MODULE_LICENSE("GPL");
