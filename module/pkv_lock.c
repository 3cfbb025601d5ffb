// SPDX-License-Identifier: GPL-2.0
/* pkv: the lock strategies. */
#include <linux/kernel.h>
#include <linux/rcupdate.h>
#include <linux/string.h>

#include "pkv_lock.h"

static void pkv_mutex_read_begin(struct pkv_lock *lock, unsigned int *seq)
{
	mutex_lock(&lock->mutex);
}

static bool pkv_mutex_read_end(struct pkv_lock *lock, unsigned int *seq)
{
	mutex_unlock(&lock->mutex);
	return true;
}

static void pkv_mutex_write_begin(struct pkv_lock *lock)
{
	mutex_lock(&lock->mutex);
}

static void pkv_mutex_write_end(struct pkv_lock *lock)
{
	mutex_unlock(&lock->mutex);
}

const struct pkv_lock_ops pkv_lock_mutex = {
	.name = "mutex",
	.read_begin = pkv_mutex_read_begin,
	.read_end = pkv_mutex_read_end,
	.write_begin = pkv_mutex_write_begin,
	.write_end = pkv_mutex_write_end,
};

static void pkv_rwsem_read_begin(struct pkv_lock *lock, unsigned int *seq)
{
	down_read(&lock->rwsem);
}

static bool pkv_rwsem_read_end(struct pkv_lock *lock, unsigned int *seq)
{
	up_read(&lock->rwsem);
	return true;
}

static void pkv_rwsem_write_begin(struct pkv_lock *lock)
{
	down_write(&lock->rwsem);
}

static void pkv_rwsem_write_end(struct pkv_lock *lock)
{
	up_write(&lock->rwsem);
}

const struct pkv_lock_ops pkv_lock_rwsem = {
	.name = "rwsem",
	.read_begin = pkv_rwsem_read_begin,
	.read_end = pkv_rwsem_read_end,
	.write_begin = pkv_rwsem_write_begin,
	.write_end = pkv_rwsem_write_end,
};

static void pkv_rwlock_read_begin(struct pkv_lock *lock, unsigned int *seq)
	__acquires(&lock->rwlock)
{
	read_lock(&lock->rwlock);
}

static bool pkv_rwlock_read_end(struct pkv_lock *lock, unsigned int *seq)
	__releases(&lock->rwlock)
{
	read_unlock(&lock->rwlock);
	return true;
}

static void pkv_rwlock_write_begin(struct pkv_lock *lock)
	__acquires(&lock->rwlock)
{
	write_lock(&lock->rwlock);
}

static void pkv_rwlock_write_end(struct pkv_lock *lock)
	__releases(&lock->rwlock)
{
	write_unlock(&lock->rwlock);
}

const struct pkv_lock_ops pkv_lock_rwlock = {
	.name = "rwlock",
	.read_begin = pkv_rwlock_read_begin,
	.read_end = pkv_rwlock_read_end,
	.write_begin = pkv_rwlock_write_begin,
	.write_end = pkv_rwlock_write_end,
};

/*
 * RCU alone would let a reader see half of a write that stores several keys;
 * the sequence count makes it look again. Looking again it takes the lock, so
 * that a steady stream of writers keeps no reader out.
 */
static void pkv_rcu_read_begin(struct pkv_lock *lock, unsigned int *seq)
	__acquires(RCU)
{
	rcu_read_lock();
	if (*seq & 1) {
		read_seqlock_excl(&lock->seqlock);
		/* Sparse cannot follow a lock that is taken now and then. */
		__release(&lock->seqlock.lock);
	} else {
		*seq = read_seqbegin(&lock->seqlock);
	}
}

static bool pkv_rcu_read_end(struct pkv_lock *lock, unsigned int *seq)
	__releases(RCU)
{
	bool whole = true;

	if (*seq & 1) {
		__acquire(&lock->seqlock.lock);
		read_sequnlock_excl(&lock->seqlock);
	} else if (read_seqretry(&lock->seqlock, *seq)) {
		*seq = 1;
		whole = false;
	}
	rcu_read_unlock();
	return whole;
}

static void pkv_rcu_write_begin(struct pkv_lock *lock)
	__acquires(&lock->seqlock.lock)
{
	write_seqlock(&lock->seqlock);
}

static void pkv_rcu_write_end(struct pkv_lock *lock)
	__releases(&lock->seqlock.lock)
{
	write_sequnlock(&lock->seqlock);
}

const struct pkv_lock_ops pkv_lock_rcu = {
	.name = "rcu",
	.read_begin = pkv_rcu_read_begin,
	.read_end = pkv_rcu_read_end,
	.write_begin = pkv_rcu_write_begin,
	.write_end = pkv_rcu_write_end,
	.free_after_grace_period = true,
};

/**
 * pkv_lock_strategy() - find a strategy by its name
 * @name: the name; a newline after it is allowed
 *
 * Return: the strategy, or NULL if there is none of that name.
 */
const struct pkv_lock_ops *pkv_lock_strategy(const char *name)
{
	static const struct pkv_lock_ops * const strategies[] = {
		&pkv_lock_mutex, &pkv_lock_rwsem, &pkv_lock_rwlock,
		&pkv_lock_rcu,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(strategies); i++) {
		if (sysfs_streq(name, strategies[i]->name))
			return strategies[i];
	}
	return NULL;
}

void pkv_lock_init(struct pkv_lock *lock, const struct pkv_lock_ops *ops)
{
	lock->ops = ops;
	mutex_init(&lock->mutex);
	init_rwsem(&lock->rwsem);
	rwlock_init(&lock->rwlock);
	seqlock_init(&lock->seqlock);
}

void pkv_lock_destroy(struct pkv_lock *lock)
{
	mutex_destroy(&lock->mutex);
}
