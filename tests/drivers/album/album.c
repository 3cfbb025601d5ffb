// SPDX-License-Identifier: GPL-2.0
/*
 * album: pages of memory that user space maps, and a log of those that were
 * brought in by page faults, which read() returns.
 *
 * The lock is taken by page faults, and so never held where user memory is
 * touched: read() copies from a copy of the log.
 */
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "album.h"

#define ALBUM_LOG	64

struct album_entry {
	u64 page;
	u64 nth;
};

/* What is known of an open file. */
struct album {
	struct mutex lock;		/* for what follows */
	struct page *pages[ALBUM_PAGES];
	struct album_entry *log;
	size_t n_entries;
	unsigned long index;		/* a page */
};

/* What is known of a mapping, however many parts it has by now. */
struct album_map {
	refcount_t refs;
	struct album *album;
	pgoff_t first;
	unsigned long n_pages;
	unsigned long n_ordered;
	u8 *order;			/* in which its pages came */
	u8 visited[];			/* of each page */
};

static int album_note(struct album *album, pgoff_t page)
{
	struct album_entry *log;

	if (album->n_entries == ALBUM_LOG)
		album->n_entries = 0;
	log = krealloc(album->log, (album->n_entries + 1) * sizeof(*log),
		       GFP_KERNEL);
	if (!log)
		return -ENOMEM;
	log[album->n_entries].page = page;
	log[album->n_entries].nth = album->n_entries;
	album->n_entries++;
	album->log = log;
	return 0;
}

static struct page *album_page(struct album *album, pgoff_t page)
{
	if (!album->pages[page])
		album->pages[page] = alloc_page(GFP_KERNEL | __GFP_ZERO);
	return album->pages[page];
}

/* A page comes back if it was given up meanwhile, which is no news. */
static void album_order(struct album_map *map, pgoff_t page)
{
	if (!map->visited[page] && map->n_ordered < map->n_pages)
		map->order[map->n_ordered++] = page;
}

static vm_fault_t album_fault(struct vm_fault *vmf)
{
	struct album_map *map = vmf->vma->vm_private_data;
	struct album *album = map->album;
	vm_fault_t ret = VM_FAULT_OOM;
	struct page *page;

	/* There may be more pages by now than there were. */
	if (vmf->pgoff - map->first >= map->n_pages)
		return VM_FAULT_SIGBUS;
	mutex_lock(&album->lock);
	page = album_page(album, vmf->pgoff);
	if (!page || album_note(album, vmf->pgoff))
		goto out;
	album_order(map, vmf->pgoff - map->first);
	map->visited[vmf->pgoff - map->first] = 1;
	get_page(page);
	vmf->page = page;
	ret = 0;
out:
	mutex_unlock(&album->lock);
	return ret;
}

static void album_vm_open(struct vm_area_struct *vma)
{
	struct album_map *map = vma->vm_private_data;

	refcount_inc(&map->refs);
}

static void album_vm_close(struct vm_area_struct *vma)
{
	struct album_map *map = vma->vm_private_data;

	if (refcount_dec_and_test(&map->refs)) {
		kfree(map->order);
		kfree(map);
	}
}

/* What can no longer be read was not visited. */
static int album_vm_mprotect(struct vm_area_struct *vma, unsigned long start,
			     unsigned long end, unsigned long flags)
{
	struct album_map *map = vma->vm_private_data;
	pgoff_t page = linear_page_index(vma, start) - map->first;

	if (flags & VM_READ)
		return 0;
	for (; start < end && page < map->n_pages; start += PAGE_SIZE)
		map->visited[page++] = 0;
	return 0;
}

static const struct vm_operations_struct album_vm_ops = {
	.open = album_vm_open,
	.close = album_vm_close,
	.fault = album_fault,
	.mprotect = album_vm_mprotect,
};

static int album_map_index(struct album *album, struct vm_area_struct *vma)
{
	if (vma_pages(vma) != 1 || vma->vm_flags & VM_WRITE)
		return -EINVAL;
	return remap_pfn_range(vma, vma->vm_start, PHYS_PFN(__pa(album->index)), PAGE_SIZE,
			       vma->vm_page_prot);
}

static int album_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct album *album = file->private_data;
	struct album_map *map;

	if (vma->vm_pgoff == ALBUM_INDEX)
		return album_map_index(album, vma);
	if (vma->vm_pgoff >= ALBUM_PAGES || vma_pages(vma) > ALBUM_PAGES - vma->vm_pgoff)
		return -EINVAL;
	map = kzalloc(struct_size(map, visited, vma_pages(vma)), GFP_KERNEL);
	if (!map)
		return -ENOMEM;
	map->order = kzalloc(vma_pages(vma), GFP_KERNEL);
	if (!map->order) {
		kfree(map);
		return -ENOMEM;
	}
	refcount_set(&map->refs, 1);
	map->album = album;
	map->first = vma->vm_pgoff;
	map->n_pages = vma_pages(vma);
	vma->vm_private_data = map;
	vma->vm_ops = &album_vm_ops;
	return 0;
}

static ssize_t album_copy(struct album *album, char __user *data, size_t size)
{
	struct album_entry *copy;
	size_t n;

	mutex_lock(&album->lock);
	n = min(size / sizeof(*copy), album->n_entries);
	copy = kmemdup(album->log, n * sizeof(*copy), GFP_KERNEL);
	mutex_unlock(&album->lock);
	if (!copy)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (copy_to_user(data + i * sizeof(*copy), copy + i, sizeof(*copy))) {
			kfree(copy);
			return -EFAULT;
		}
	}
	kfree(copy);
	return n * sizeof(*copy);
}

static ssize_t album_read(struct file *file, char __user *data, size_t size, loff_t *at)
{
	return album_copy(file->private_data, data, size);
}

static long album_request(struct album *album, struct album_request __user *argp)
{
	struct album_request arg;

	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;
	return album_copy(album, u64_to_user_ptr(arg.data), arg.size);
}

static long album_visits(struct album *album, struct album_visits __user *argp)
{
	struct album_visits arg;

	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;
	arg.visits = 0;
	mutex_lock(&album->lock);
	for (size_t i = 0; i < album->n_entries; i++)
		arg.visits += album->log[i].page == arg.page;
	mutex_unlock(&album->lock);
	return copy_to_user(argp, &arg, sizeof(arg)) ? -EFAULT : 0;
}

static long album_renew(struct album *album)
{
	mutex_lock(&album->lock);
	clear_page((void *)album->index);
	mutex_unlock(&album->lock);
	return 0;
}

static long album_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct album *album = file->private_data;

	switch (cmd) {
	case ALBUM_IOC_VISITS:
		return album_visits(album, (struct album_visits __user *)arg);
	case ALBUM_IOC_RENEW:
		return album_renew(album);
	case ALBUM_IOC_READ:
		return album_request(album, (struct album_request __user *)arg);
	}
	return -ENOTTY;
}

static int album_open(struct inode *inode, struct file *file)
{
	struct album *album = kzalloc(sizeof(*album), GFP_KERNEL);

	if (!album)
		return -ENOMEM;
	album->index = get_zeroed_page(GFP_KERNEL);
	if (!album->index) {
		kfree(album);
		return -ENOMEM;
	}
	mutex_init(&album->lock);
	file->private_data = album;
	return 0;
}

static int album_release(struct inode *inode, struct file *file)
{
	struct album *album = file->private_data;

	for (int i = 0; i < ALBUM_PAGES; i++)
		if (album->pages[i])
			put_page(album->pages[i]);
	free_page(album->index);
	kfree(album->log);
	kfree(album);
	return 0;
}

static const struct file_operations album_fops = {
	.owner = THIS_MODULE,
	.open = album_open,
	.release = album_release,
	.read = album_read,
	.mmap = album_mmap,
	.unlocked_ioctl = album_ioctl,
};

static struct miscdevice album_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "album",
	.fops = &album_fops,
};
module_misc_device(album_device);

MODULE_DESCRIPTION("An album of pages that are mapped");
MODULE_LICENSE("GPL");
