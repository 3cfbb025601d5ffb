// SPDX-License-Identifier: GPL-2.0
/* What the allocators report without KASAN: bad pages, caches, leaks, no memory. */
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "provoke.h"

static void *prov_kept;

static noinline void prov_bad_page(void)
{
	struct page *page = alloc_page(GFP_KERNEL);

	if (!page)
		return;
	page->mapping = (void *)0x10;
	__free_page(page);
}

static noinline void prov_cache_busy(void)
{
	struct kmem_cache *cache = kmem_cache_create("provoked", 64, 0, SLAB_NO_MERGE, NULL);

	if (!cache)
		return;
	prov_kept = kmem_cache_alloc(cache, GFP_KERNEL);
	kmem_cache_destroy(cache);
}

static noinline void prov_cache_wrong(void)
{
	struct kmem_cache *cache = kmem_cache_create("provoked", 64, 0, SLAB_NO_MERGE, NULL);
	void *object = kmalloc(64, GFP_KERNEL);

	OPTIMIZER_HIDE_VAR(object);
	kmem_cache_free(cache, object);
}

/* By a function that KASAN does not check, as a device might write there. */
static noinline __no_sanitize_address void prov_scribble(char *at, size_t count)
{
	for (size_t i = 0; i < count; i++)
		WRITE_ONCE(at[i], 0x77);
}

static struct kmem_cache *prov_checked_cache(void)
{
	return kmem_cache_create("provoked", 64, 0,
				 SLAB_NO_MERGE | SLAB_CONSISTENCY_CHECKS |
				 SLAB_RED_ZONE | SLAB_POISON, NULL);
}

/* KASAN keeps what is freed for a while; its cache is looked at when that ends. */
static noinline void prov_redzone(void)
{
	struct kmem_cache *cache = prov_checked_cache();
	char *object = cache ? kmem_cache_alloc(cache, GFP_KERNEL) : NULL;

	if (!object)
		return;
	OPTIMIZER_HIDE_VAR(object);
	prov_scribble(object + 64, 4);
	kmem_cache_free(cache, object);
	kmem_cache_destroy(cache);
}

static noinline void prov_poison(void)
{
	struct kmem_cache *cache = prov_checked_cache();
	char *object = cache ? kmem_cache_alloc(cache, GFP_KERNEL) : NULL;

	if (!object)
		return;
	prov_kept = kmem_cache_alloc(cache, GFP_KERNEL);
	kmem_cache_free(cache, object);
	kmem_cache_shrink(cache);
	OPTIMIZER_HIDE_VAR(object);
	prov_scribble(object + 16, 4);
	prov_kept = kmem_cache_alloc(cache, GFP_KERNEL);
}

static noinline void prov_vfree_twice(void)
{
	void *area = vmalloc(PAGE_SIZE);

	vfree(area);
	OPTIMIZER_HIDE_VAR(area);
	vfree(area);
}

static noinline void prov_rss_counter(void)
{
	percpu_counter_add(&current->mm->rss_stat[MM_ANONPAGES], 3);
}

static noinline void prov_huge_kmalloc(void)
{
	size_t size = 64 << 20;

	OPTIMIZER_HIDE_VAR(size);
	kfree(kmalloc(size, GFP_KERNEL));
}

/* Fails without being a fault of the driver's: not so large, but not there. */
static noinline void prov_failed_allocation(void)
{
	void **block = (void **)__get_free_pages(GFP_KERNEL | __GFP_NORETRY, 9);

	while (block) {
		*block = prov_kept;
		prov_kept = block;
		block = (void **)__get_free_pages(GFP_KERNEL | __GFP_NORETRY, 9);
	}
	while (prov_kept) {
		block = prov_kept;
		prov_kept = *block;
		free_pages((unsigned long)block, 9);
	}
}

static noinline void prov_leak(void)
{
	for (int i = 0; i < 4; i++) {
		void *object = kmalloc(96, GFP_KERNEL);

		OPTIMIZER_HIDE_VAR(object);
	}
}

/* All memory is taken, and killing processes does not give it back. */
static noinline void prov_out_of_memory(void)
{
	for (;;) {
		void **page = (void **)__get_free_page(GFP_KERNEL);

		if (!page)
			continue;
		*page = prov_kept;
		prov_kept = page;
	}
}

const struct provoke_kind prov_pages_kinds[] = {
	PROVOKE_KIND(bad_page),
	PROVOKE_KIND(cache_busy),
	PROVOKE_KIND(cache_wrong),
	PROVOKE_KIND(redzone),
	PROVOKE_KIND(poison),
	PROVOKE_KIND(vfree_twice),
	PROVOKE_KIND(rss_counter),
	PROVOKE_KIND(huge_kmalloc),
	PROVOKE_KIND(failed_allocation),
	PROVOKE_KIND(leak),
	PROVOKE_KIND(out_of_memory),
	{ }
};
