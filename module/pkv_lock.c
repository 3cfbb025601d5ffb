// SPDX-License-Identifier: GPL-2.0
/* pkv: the lock strategies. */
#include <linux/kernel.h>
#include <linux/rcupdate.h>
#include <linux/string.h>

#include "pkv_lock.h"

static unsigned int pkv_mutex_read_begin(struct pkv_lock *lock)
{
	mutex_lock(&lock->mutex);
	return 0;
}

static bool pkv_mutex_read_retry(struct pkv_lock *lock, unsigned int seq)
{
	mutex_unlock(&lock->mutex);
	return false;
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
	.read_retry = pkv_mutex_read_retry,
	.write_begin = pkv_mutex_write_begin,
	.write_end = pkv_mutex_write_end,
};

static unsigned int pkv_rwsem_read_begin(struct pkv_lock *lock)
{
	down_read(&lock->rwsem);
	return 0;
}

static bool pkv_rwsem_read_retry(struct pkv_lock *lock, unsigned int seq)
{
	up_read(&lock->rwsem);
	return false;
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
	.read_retry = pkv_rwsem_read_retry,
	.write_begin = pkv_rwsem_write_begin,
	.write_end = pkv_rwsem_write_end,
};

/*
 * RCU alone would let a reader see half of a write that stores several keys;
 * the sequence count makes it look again.
 */
static unsigned int pkv_rcu_read_begin(struct pkv_lock *lock)
	__acquires(RCU)
{
	rcu_read_lock();
	return read_seqbegin(&lock->seqlock);
}

static bool pkv_rcu_read_retry(struct pkv_lock *lock, unsigned int seq)
	__releases(RCU)
{
	bool retry = read_seqretry(&lock->seqlock, seq);

	rcu_read_unlock();
	return retry;
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
	.read_retry = pkv_rcu_read_retry,
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
		&pkv_lock_mutex, &pkv_lock_rwsem, &pkv_lock_rcu,
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
	seqlock_init(&lock->seqlock);
}

void pkv_lock_destroy(struct pkv_lock *lock)
{
	mutex_destroy(&lock->mutex);
}
