/* SPDX-License-Identifier: GPL-2.0 */
/*
 * pkv: four ways to keep readers and writers apart, behind one interface.
 *
 * A reader does its work between pkv_read_begin() and pkv_read_end(), and does
 * it again for as long as the latter says that a writer interfered:
 *
 *	unsigned int seq = 0;
 *
 *	do {
 *		pkv_read_begin(lock, &seq);
 *		...
 *	} while (!pkv_read_end(lock, &seq));
 *
 * Neither readers nor writers may sleep, or touch user memory, in between:
 * with some of the strategies they hold a spinlock or are in an RCU read-side
 * critical section.
 */
#ifndef _PKV_LOCK_H
#define _PKV_LOCK_H

#include <linux/lockdep.h>
#include <linux/mutex.h>
#include <linux/rwsem.h>
#include <linux/seqlock.h>
#include <linux/spinlock.h>
#include <linux/types.h>

struct pkv_lock;

/**
 * struct pkv_lock_ops - a lock strategy
 * @name: what the module parameter calls it
 * @read_begin: enter a read-side section; the number is for @read_end
 * @read_end: leave it; false when a writer interfered
 * @write_begin: enter the write-side section, alone
 * @write_end: leave it
 * @free_after_grace_period: readers may still see what a writer removed
 */
struct pkv_lock_ops {
	const char *name;
	void (*read_begin)(struct pkv_lock *lock, unsigned int *seq);
	bool (*read_end)(struct pkv_lock *lock, unsigned int *seq);
	void (*write_begin)(struct pkv_lock *lock);
	void (*write_end)(struct pkv_lock *lock);
	bool free_after_grace_period;
};

/**
 * struct pkv_lock - a lock of some strategy
 * @ops: the strategy; decides which of the other members is used
 * @mutex: of "mutex": one at a time, readers too
 * @rwsem: of "rwsem": many readers or one writer
 * @rwlock: of "rwlock": the same, spinning
 * @seqlock: of "rcu": readers take no lock unless a writer made them look
 *	again, writers one after the other
 */
struct pkv_lock {
	const struct pkv_lock_ops *ops;
	struct mutex mutex;	/* protects the store: see @ops */
	struct rw_semaphore rwsem;
	rwlock_t rwlock;
	seqlock_t seqlock;
};

extern const struct pkv_lock_ops pkv_lock_mutex;
extern const struct pkv_lock_ops pkv_lock_rwsem;
extern const struct pkv_lock_ops pkv_lock_rwlock;
extern const struct pkv_lock_ops pkv_lock_rcu;

const struct pkv_lock_ops *pkv_lock_strategy(const char *name);
void pkv_lock_init(struct pkv_lock *lock, const struct pkv_lock_ops *ops);
void pkv_lock_destroy(struct pkv_lock *lock);

static inline void pkv_read_begin(struct pkv_lock *lock, unsigned int *seq)
{
	lock->ops->read_begin(lock, seq);
}

static inline bool pkv_read_end(struct pkv_lock *lock, unsigned int *seq)
{
	return lock->ops->read_end(lock, seq);
}

static inline void pkv_write_begin(struct pkv_lock *lock)
{
	lock->ops->write_begin(lock);
}

static inline void pkv_write_end(struct pkv_lock *lock)
{
	lock->ops->write_end(lock);
}

/* For lockdep: whether the lock is held, for reading or writing. */
static inline bool pkv_lock_is_held(const struct pkv_lock *lock)
{
	return lockdep_is_held(&lock->mutex) || lockdep_is_held(&lock->rwsem) ||
	       lockdep_is_held(&lock->rwlock) ||
	       lockdep_is_held(&lock->seqlock.lock);
}

/* For lockdep: whether it is held for writing; a mutex always is. */
static inline bool pkv_lock_is_held_to_write(const struct pkv_lock *lock)
{
	return lockdep_is_held(&lock->mutex) ||
	       lockdep_is_held_type(&lock->rwsem, 0) ||
	       lockdep_is_held_type(&lock->rwlock, 0) ||
	       lockdep_is_held(&lock->seqlock.lock);
}

#endif /* _PKV_LOCK_H */
