// SPDX-License-Identifier: GPL-2.0
/*
 * pkv: KUnit tests.
 *
 * Each case runs once for each lock strategy, on a store or device of its own.
 * User memory is that of the test's kthread, so the file operations are called
 * as the VFS calls them.
 */
#include <kunit/test.h>
#include <linux/anon_inodes.h>
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/kdev_t.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

#include "pkv_device.h"

/* Long, but the kernel calls a task hung that waits for longer. */
#define PKV_TEST_PATIENCE_MS 4000
#define PKV_TEST_TICK_MS 20
#define PKV_TEST_TTL_MS 20

struct pkv_strategy_param {
	const char *name;
};

static const struct pkv_strategy_param pkv_strategies[] = {
	{ "mutex" }, { "rwsem" }, { "rwlock" }, { "rcu" },
};

KUNIT_ARRAY_PARAM_DESC(pkv_strategy, pkv_strategies, name);

static const char *pkv_test_strategy(struct kunit *test)
{
	const struct pkv_strategy_param *param = test->param_value;

	return param ? param->name : "mutex";
}

/* Make the nth allocation from here on fail; 0 for none. */
static void pkv_fail_nth(unsigned int nth)
{
#ifdef CONFIG_FAULT_INJECTION
	WRITE_ONCE(current->fail_nth, nth);
#endif
}

/* Whether that allocation came; no other fails. */
static bool pkv_failed_nth(void)
{
	bool failed = false;

#ifdef CONFIG_FAULT_INJECTION
	failed = !READ_ONCE(current->fail_nth);
	WRITE_ONCE(current->fail_nth, 0);
#endif
	return failed;
}

static void pkv_need_faults(struct kunit *test)
{
	void *memory;
	bool failed;

	pkv_fail_nth(1);
	memory = kmalloc(16, GFP_KERNEL);
	failed = pkv_failed_nth() && !memory;
	kfree(memory);
	if (!failed)
		kunit_skip(test, "needs FAILSLAB with ignore-gfp-wait=N");
}

/* The store: what is kept, without files. */

static int pkv_test_store_init(struct kunit *test)
{
	struct pkv_store *store = kunit_kzalloc(test, sizeof(*store), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, store);
	KUNIT_ASSERT_EQ(test, pkv_store_init(store, pkv_lock_strategy(pkv_test_strategy(test))), 0);
	test->priv = store;
	return 0;
}

static void pkv_test_store_exit(struct kunit *test)
{
	if (test->priv)
		pkv_store_destroy(test->priv);
}

static int pkv_test_write(struct kunit *test, const char *records)
{
	return pkv_store_write(test->priv, records, strlen(records));
}

static unsigned int pkv_test_keys(struct kunit *test)
{
	struct pkv_usage usage;

	pkv_store_usage(test->priv, &usage);
	return usage.keys;
}

static void pkv_expect_last(struct kunit *test, const char *value)
{
	char last[PKV_VALUE_MAX];
	u64 generation, same;
	ssize_t len = pkv_store_last(test->priv, last, &generation);

	KUNIT_ASSERT_EQ(test, len, (ssize_t)strlen(value));
	KUNIT_EXPECT_MEMEQ(test, last, value, len);
	KUNIT_EXPECT_EQ(test, pkv_store_last_size(test->priv, &same), len);
	KUNIT_EXPECT_EQ(test, same, generation);
}

static void pkv_expect_no_last(struct kunit *test)
{
	char last[PKV_VALUE_MAX];
	u64 generation;

	KUNIT_EXPECT_EQ(test, pkv_store_last(test->priv, last, &generation), -ENODATA);
	KUNIT_EXPECT_EQ(test, pkv_store_last_size(test->priv, &generation), -ENODATA);
}

/* Write "kN=v\n" for N from @from up to @to, not included, in one go. */
static int pkv_test_write_many(struct kunit *test, unsigned int from,
			       unsigned int to)
{
	size_t room = (to - from) * 16, used = 0;
	char *records = kunit_kzalloc(test, room, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, records);
	for (; from < to; from++)
		used += scnprintf(records + used, room - used, "k%u=v\n", from);
	return pkv_store_write(test->priv, records, used);
}

/* A record with so many bytes of key and value; frees itself after the test. */
static char *pkv_test_record(struct kunit *test, size_t key_len,
			     size_t value_len)
{
	char *record = kunit_kzalloc(test, key_len + value_len + 3, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, record);
	memset(record, 'k', key_len);
	record[key_len] = '=';
	memset(record + key_len + 1, 'v', value_len);
	record[key_len + 1 + value_len] = '\n';
	return record;
}

static void pkv_store_starts_empty(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, pkv_test_keys(test), 0);
	pkv_expect_no_last(test);
}

static void pkv_store_keeps_one_record(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, pkv_test_write(test, "a=1\n"), 0);
	KUNIT_EXPECT_EQ(test, pkv_test_keys(test), 1);
	pkv_expect_last(test, "1");
}

static void pkv_store_keeps_many_records(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, pkv_test_write(test, "a=1\nb=22\nc=333\n"), 0);
	KUNIT_EXPECT_EQ(test, pkv_test_keys(test), 3);
	pkv_expect_last(test, "333");
}

static void pkv_store_value_may_hold_equals(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, pkv_test_write(test, "a=b=c=\n"), 0);
	pkv_expect_last(test, "b=c=");
}

static void pkv_store_value_may_be_empty(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, pkv_test_write(test, "a=\n"), 0);
	pkv_expect_last(test, "");
}

static void pkv_store_keeps_any_byte(struct kunit *test)
{
	static const char record[] = "k\0\xff=\0\x80\t\t\n";
	char last[PKV_VALUE_MAX];
	u64 generation;

	KUNIT_EXPECT_EQ(test, pkv_store_write(test->priv, record,
					      sizeof(record) - 1), 0);
	KUNIT_ASSERT_EQ(test, pkv_store_last(test->priv, last, &generation), 4);
	KUNIT_EXPECT_MEMEQ(test, last, "\0\x80\t\t", 4);
	KUNIT_EXPECT_EQ(test, pkv_store_delete(test->priv, "k", 1), -ENOENT);
	KUNIT_EXPECT_EQ(test, pkv_store_delete(test->priv, "k\0\xff", 3), 0);
}

static void pkv_store_refuses_malformed_records(struct kunit *test)
{
	static const char * const bad[] = {
		"", "\n", "a", "a=1", "a\n", "=1\n", "=\n", "\na=1\n",
		"a=1\nb", "a=1\nb=2", "a=1\n=2\n", "a=1\n\n",
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		KUNIT_EXPECT_EQ_MSG(test, pkv_test_write(test, bad[i]), -EINVAL,
				    "record %u", i);
		KUNIT_EXPECT_EQ_MSG(test, pkv_test_keys(test), 0,
				    "record %u", i);
	}
	pkv_expect_no_last(test);
}

static void pkv_store_limits_keys(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, pkv_test_write(test, pkv_test_record(test, PKV_KEY_MAX, 1)), 0);
	KUNIT_EXPECT_EQ(test, pkv_test_write(test, pkv_test_record(test, PKV_KEY_MAX + 1, 1)),
			-EMSGSIZE);
	KUNIT_EXPECT_EQ(test, pkv_test_keys(test), 1);
}

static void pkv_store_limits_values(struct kunit *test)
{
	u64 generation;

	KUNIT_EXPECT_EQ(test, pkv_test_write(test, pkv_test_record(test, 1, PKV_VALUE_MAX)), 0);
	KUNIT_EXPECT_EQ(test, pkv_test_write(test, pkv_test_record(test, 2, PKV_VALUE_MAX + 1)),
			-EMSGSIZE);
	KUNIT_EXPECT_EQ(test, pkv_test_keys(test), 1);
	KUNIT_EXPECT_EQ(test, pkv_store_last_size(test->priv, &generation), PKV_VALUE_MAX);
}

static void pkv_store_error_stores_nothing(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "a=old\n"), 0);
	KUNIT_EXPECT_EQ(test, pkv_test_write(test, "a=new\nb=2\nbroken\n"), -EINVAL);
	KUNIT_EXPECT_EQ(test, pkv_test_keys(test), 1);
	pkv_expect_last(test, "old");
}

static void pkv_store_overwrites(struct kunit *test)
{
	struct pkv_usage usage;

	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "a=first\nb=2\n"), 0);
	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "a=2nd\n"), 0);
	pkv_expect_last(test, "2nd");
	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "a=\n"), 0);
	pkv_expect_last(test, "");
	pkv_store_usage(test->priv, &usage);
	KUNIT_EXPECT_EQ(test, usage.keys, 2);
	KUNIT_EXPECT_EQ(test, usage.bytes, 1);
}

static void pkv_store_last_record_of_a_key_counts(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, pkv_test_write(test, "a=1\nb=2\na=3\n"), 0);
	KUNIT_EXPECT_EQ(test, pkv_test_keys(test), 2);
	pkv_expect_last(test, "3");
}

static void pkv_store_has_100_slots(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, pkv_test_write_many(test, 0, PKV_SLOTS - 1), 0);
	KUNIT_EXPECT_EQ(test, pkv_test_write(test, "last=1\n"), 0);
	KUNIT_EXPECT_EQ(test, pkv_test_keys(test), PKV_SLOTS);
	KUNIT_EXPECT_EQ(test, pkv_test_write(test, "one more=1\n"), -ENOSPC);
	KUNIT_EXPECT_EQ(test, pkv_test_keys(test), PKV_SLOTS);
	pkv_expect_last(test, "1");
}

static void pkv_store_overwrites_when_full(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, pkv_test_write_many(test, 0, PKV_SLOTS), 0);
	KUNIT_EXPECT_EQ(test, pkv_test_write(test, "k0=new\nk99=newer\n"), 0);
	pkv_expect_last(test, "newer");
	KUNIT_EXPECT_EQ(test, pkv_store_delete(test->priv, "k1", 2), 0);
	KUNIT_EXPECT_EQ(test, pkv_test_write(test, "again=1\n"), 0);
	KUNIT_EXPECT_EQ(test, pkv_test_keys(test), PKV_SLOTS);
}

static void pkv_store_refuses_more_keys_than_slots(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, pkv_test_write_many(test, 0, PKV_SLOTS + 1), -ENOSPC);
	KUNIT_EXPECT_EQ(test, pkv_test_keys(test), 0);
	KUNIT_EXPECT_EQ(test, pkv_test_write_many(test, 0, PKV_SLOTS - 1), 0);
	KUNIT_EXPECT_EQ(test, pkv_test_write(test, "x=1\ny=2\n"), -ENOSPC);
	KUNIT_EXPECT_EQ(test, pkv_test_keys(test), PKV_SLOTS - 1);
}

static void pkv_store_deletes(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "a=1\nab=2\n"), 0);
	KUNIT_EXPECT_EQ(test, pkv_store_delete(test->priv, "a", 1), 0);
	KUNIT_EXPECT_EQ(test, pkv_store_delete(test->priv, "a", 1), -ENOENT);
	KUNIT_EXPECT_EQ(test, pkv_test_keys(test), 1);
	pkv_expect_last(test, "2");
}

static void pkv_store_last_is_gone_when_deleted(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "a=1\n"), 0);
	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "b=2\n"), 0);
	KUNIT_EXPECT_EQ(test, pkv_store_delete(test->priv, "b", 1), 0);
	pkv_expect_no_last(test);
	KUNIT_EXPECT_EQ(test, pkv_test_write(test, "a=3\n"), 0);
	pkv_expect_last(test, "3");
}

static void pkv_store_clears(struct kunit *test)
{
	struct pkv_usage usage;

	pkv_store_clear(test->priv);
	KUNIT_ASSERT_EQ(test, pkv_test_write_many(test, 0, PKV_SLOTS), 0);
	pkv_store_clear(test->priv);
	pkv_store_usage(test->priv, &usage);
	KUNIT_EXPECT_EQ(test, usage.keys, 0);
	KUNIT_EXPECT_EQ(test, usage.bytes, 0);
	pkv_expect_no_last(test);
	KUNIT_EXPECT_EQ(test, pkv_test_write_many(test, 0, PKV_SLOTS), 0);
}

static void pkv_store_lists(struct kunit *test)
{
	struct pkv_entry *entries;
	unsigned int i;

	entries = kunit_kcalloc(test, PKV_SLOTS, sizeof(*entries), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, entries);
	KUNIT_EXPECT_EQ(test, pkv_store_list(test->priv, entries, PKV_SLOTS), 0);

	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "a=1\nbb=22\nccc=333\n"), 0);
	KUNIT_EXPECT_EQ(test, pkv_store_list(test->priv, NULL, 0), 3);
	KUNIT_EXPECT_EQ(test, pkv_store_list(test->priv, entries, 1), 3);
	KUNIT_EXPECT_EQ(test, entries[1].key_len, 0);
	KUNIT_EXPECT_EQ(test, pkv_store_list(test->priv, entries, PKV_SLOTS), 3);
	for (i = 0; i < 3; i++) {
		KUNIT_EXPECT_EQ(test, entries[i].key_len, entries[i].value_len);
		KUNIT_EXPECT_EQ(test, strnlen(entries[i].key, PKV_KEY_MAX),
				entries[i].key_len);
	}
	KUNIT_EXPECT_EQ(test, entries[3].key_len, 0);
}

static void pkv_store_survives_failed_allocations(struct kunit *test)
{
	unsigned int nth;
	int ret;

	pkv_need_faults(test);
	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "old=1\n"), 0);
	for (nth = 1; nth < 100; nth++) {
		pkv_fail_nth(nth);
		ret = pkv_test_write(test, "a=1\nb=2\nc=3\n");
		if (!pkv_failed_nth())
			break;
		KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
		KUNIT_EXPECT_EQ(test, pkv_test_keys(test), 1);
		pkv_expect_last(test, "1");
	}
	KUNIT_EXPECT_EQ(test, ret, 0);
	KUNIT_EXPECT_GE(test, nth, 4);
	KUNIT_EXPECT_EQ(test, pkv_test_keys(test), 4);
}

/* Wait until so many keys are left. */
static void pkv_expect_keys_become(struct kunit *test, unsigned int keys)
{
	unsigned int waited;

	for (waited = 0; waited < PKV_TEST_PATIENCE_MS; waited += PKV_TEST_TICK_MS) {
		if (pkv_test_keys(test) == keys)
			return;
		msleep(PKV_TEST_TICK_MS);
	}
	KUNIT_EXPECT_EQ(test, pkv_test_keys(test), keys);
}

static void pkv_store_expires_keys(struct kunit *test)
{
	struct pkv_store *store = test->priv;
	struct pkv_usage usage;

	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "stays=1\n"), 0);
	store->ttl_ms = PKV_TEST_TTL_MS;
	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "goes=2\ntoo=3\n"), 0);
	pkv_expect_keys_become(test, 1);
	pkv_expect_no_last(test);
	pkv_store_usage(store, &usage);
	KUNIT_EXPECT_EQ(test, usage.expired, 2);
	KUNIT_EXPECT_EQ(test, pkv_store_delete(store, "stays", 5), 0);
}

static void pkv_store_expires_nothing_early(struct kunit *test)
{
	struct pkv_store *store = test->priv;

	store->ttl_ms = 24 * 3600 * 1000;
	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "a=1\n"), 0);
	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "b=1\n"), 0);
	KUNIT_EXPECT_TRUE(test, flush_delayed_work(&store->expiry));
	KUNIT_EXPECT_EQ(test, pkv_test_keys(test), 2);
	KUNIT_EXPECT_TRUE(test, delayed_work_pending(&store->expiry));
}

static void pkv_store_keys_live_at_least_their_time(struct kunit *test)
{
	struct pkv_store *store = test->priv;
	u64 before = get_jiffies_64();

	/* What is left of the current tick is no tick. */
	store->ttl_ms = 24 * 3600 * 1000;
	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "a=1\n"), 0);
	KUNIT_EXPECT_GT(test, store->next_expiry, before + msecs_to_jiffies(store->ttl_ms));
	KUNIT_EXPECT_LE(test, store->next_expiry,
			get_jiffies_64() + msecs_to_jiffies(store->ttl_ms) + 1);
}

static void pkv_store_shorter_ttl_expires_first(struct kunit *test)
{
	struct pkv_store *store = test->priv;

	store->ttl_ms = 24 * 3600 * 1000;
	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "slow=1\n"), 0);
	store->ttl_ms = PKV_TEST_TTL_MS;
	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "quick=1\n"), 0);
	pkv_expect_keys_become(test, 1);
	KUNIT_EXPECT_EQ(test, pkv_store_delete(store, "slow", 4), 0);
}

static void pkv_store_write_renews_a_key(struct kunit *test)
{
	struct pkv_store *store = test->priv;

	store->ttl_ms = PKV_TEST_TTL_MS;
	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "a=1\nb=2\n"), 0);
	store->ttl_ms = 0;
	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "a=for ever\n"), 0);
	pkv_expect_keys_become(test, 1);
	pkv_expect_last(test, "for ever");
}

static void pkv_store_clear_stops_expiry(struct kunit *test)
{
	struct pkv_store *store = test->priv;

	store->ttl_ms = 24 * 3600 * 1000;
	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "a=1\n"), 0);
	pkv_store_clear(store);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&store->expiry));
	KUNIT_ASSERT_EQ(test, pkv_test_write(test, "a=1\n"), 0);
	KUNIT_EXPECT_TRUE(test, delayed_work_pending(&store->expiry));
}

static void pkv_store_stops_with_expiry_queued(struct kunit *test)
{
	struct pkv_store *store = test->priv;

	store->ttl_ms = PKV_TEST_TTL_MS;
	KUNIT_ASSERT_EQ(test, pkv_test_write_many(test, 0, PKV_SLOTS), 0);
	pkv_store_destroy(store);
	test->priv = NULL;
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&store->expiry));
	memset(store, 0xff, sizeof(*store));
	msleep(2 * PKV_TEST_TTL_MS);
}

static int pkv_test_writer(void *data)
{
	static const char * const records[] = {
		"x=\ny=\n", "x=1\ny=1\n", "x=22\ny=22\nz=\n", "y=333\nx=333\n",
	};
	unsigned int i = 0;

	while (!kthread_should_stop()) {
		const char *record = records[i++ % ARRAY_SIZE(records)];

		pkv_store_write(data, record, strlen(record));
		if (i % 8 == 0)
			pkv_store_clear(data);
		if (i % 5 == 0)
			pkv_store_delete(data, "z", 1);
		cond_resched();
	}
	return 0;
}

/* Whether a list has x and y with values of the same size, or neither. */
static bool pkv_test_pair_is_whole(const struct pkv_entry *entries, u32 count)
{
	int size[2] = { -1, -1 };
	u32 i;

	for (i = 0; i < count; i++) {
		if (entries[i].key[0] == 'x' || entries[i].key[0] == 'y')
			size[entries[i].key[0] - 'x'] = entries[i].value_len;
	}
	return size[0] == size[1];
}

static void pkv_store_readers_see_whole_writes(struct kunit *test)
{
	struct task_struct *writers[2];
	unsigned int i, started, broken = 0;
	char last[PKV_VALUE_MAX];
	u64 generation;
	ssize_t len;

	/* No assertion before all are stopped: they use the store. */
	for (started = 0; started < ARRAY_SIZE(writers); started++) {
		writers[started] = kthread_run(pkv_test_writer, test->priv,
					       "pkv_writer/%u", started);
		if (IS_ERR(writers[started]))
			break;
	}
	for (i = 0; i < 3000; i++) {
		struct pkv_entry entries[3] = {};
		u32 count = pkv_store_list(test->priv, entries, 3);

		if (count > 3 || !pkv_test_pair_is_whole(entries, count))
			broken++;
		len = pkv_store_last(test->priv, last, &generation);
		if (len > 1 && last[0] != last[len - 1])
			broken++;
		cond_resched();
	}
	for (i = 0; i < started; i++)
		kthread_stop(writers[i]);
	KUNIT_EXPECT_EQ(test, started, ARRAY_SIZE(writers));
	KUNIT_EXPECT_EQ(test, broken, 0);
}

static struct kunit_case pkv_store_cases[] = {
	KUNIT_CASE_PARAM(pkv_store_starts_empty, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_keeps_one_record, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_keeps_many_records, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_value_may_hold_equals, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_value_may_be_empty, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_keeps_any_byte, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_refuses_malformed_records, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_limits_keys, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_limits_values, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_error_stores_nothing, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_overwrites, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_last_record_of_a_key_counts, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_has_100_slots, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_overwrites_when_full, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_refuses_more_keys_than_slots, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_deletes, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_last_is_gone_when_deleted, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_clears, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_lists, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_survives_failed_allocations, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_expires_keys, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_expires_nothing_early, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_keys_live_at_least_their_time, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_shorter_ttl_expires_first, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_write_renews_a_key, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_clear_stops_expiry, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_stops_with_expiry_queued, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_store_readers_see_whole_writes, pkv_strategy_gen_params),
	{}
};

static struct kunit_suite pkv_store_suite = {
	.name = "pkv_store",
	.init = pkv_test_store_init,
	.exit = pkv_test_store_exit,
	.test_cases = pkv_store_cases,
};

/* The file operations, on a device of the test's own. */

/**
 * struct pkv_test_file - a registered device, an open file, and user memory
 * @pkv: the device
 * @inode: stands for its node
 * @file: open for reading and writing
 * @user: one page of user memory, PROT_READ | PROT_WRITE; none follows it
 */
struct pkv_test_file {
	struct pkv pkv;
	struct inode inode;
	struct file *file;
	unsigned long user;
};

static struct file *pkv_test_open(struct kunit *test, int flags)
{
	struct pkv_test_file *t = test->priv;
	struct file *file = anon_inode_getfile("[pkv_kunit]", &pkv_fops, NULL,
					       flags);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
	KUNIT_ASSERT_EQ(test, pkv_fops.open(&t->inode, file), 0);
	return file;
}

static int pkv_test_file_init(struct kunit *test)
{
	struct pkv_test_file *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	t->user = kunit_vm_mmap(test, NULL, 0, 2 * PAGE_SIZE,
				PROT_READ | PROT_WRITE,
				MAP_ANONYMOUS | MAP_PRIVATE, 0);
	KUNIT_ASSERT_NE(test, t->user, 0);
	KUNIT_ASSERT_LT(test, t->user, TASK_SIZE);
	KUNIT_ASSERT_EQ(test, vm_munmap(t->user + PAGE_SIZE, PAGE_SIZE), 0);
	KUNIT_ASSERT_EQ(test, pkv_register(&t->pkv, "pkv-kunit",
					   pkv_test_strategy(test)), 0);
	t->inode.i_cdev = &t->pkv.cdev;
	test->priv = t;
	t->file = pkv_test_open(test, O_RDWR);
	return 0;
}

static void pkv_test_file_exit(struct kunit *test)
{
	struct pkv_test_file *t = test->priv;

	if (!t)
		return;
	if (t->file)
		__fput_sync(t->file);
	pkv_unregister(&t->pkv);
}

/* User memory of @len bytes, with nothing mapped behind it. */
static void __user *pkv_test_user(struct kunit *test, size_t len)
{
	struct pkv_test_file *t = test->priv;

	return (void __user *)(t->user + PAGE_SIZE - len);
}

/* As read(2): a position moves on success only. */
static ssize_t pkv_test_read(struct file *file, void __user *user, size_t count)
{
	struct iov_iter iter;
	struct kiocb iocb;
	ssize_t ret;

	init_sync_kiocb(&iocb, file);
	iocb.ki_pos = file->f_pos;
	iov_iter_ubuf(&iter, ITER_DEST, user, count);
	ret = pkv_fops.read_iter(&iocb, &iter);
	if (ret >= 0)
		file->f_pos = iocb.ki_pos;
	return ret;
}

static ssize_t pkv_test_write_iter(struct file *file, struct iov_iter *iter)
{
	struct kiocb iocb;
	ssize_t ret;

	init_sync_kiocb(&iocb, file);
	iocb.ki_pos = file->f_pos;
	ret = pkv_fops.write_iter(&iocb, iter);
	if (ret >= 0)
		file->f_pos = iocb.ki_pos;
	return ret;
}

static ssize_t pkv_test_write_to(struct file *file, void __user *user,
				 size_t count)
{
	struct iov_iter iter;

	iov_iter_ubuf(&iter, ITER_SOURCE, user, count);
	return pkv_test_write_iter(file, &iter);
}

static ssize_t pkv_file_write(struct kunit *test, const char *data)
{
	struct pkv_test_file *t = test->priv;
	void __user *user = pkv_test_user(test, strlen(data));

	KUNIT_ASSERT_EQ(test, copy_to_user(user, data, strlen(data)), 0);
	return pkv_test_write_to(t->file, user, strlen(data));
}

/* A write of two segments. */
static ssize_t pkv_file_writev(struct kunit *test, const char *first,
			       const char *second)
{
	size_t len[] = { strlen(first), strlen(second) };
	void __user *user = pkv_test_user(test, len[0] + len[1]);
	struct pkv_test_file *t = test->priv;
	struct iovec segments[] = {
		{ .iov_base = user, .iov_len = len[0] },
		{ .iov_base = user + len[0], .iov_len = len[1] },
	};
	struct iov_iter iter;

	KUNIT_ASSERT_EQ(test, copy_to_user(user, first, len[0]), 0);
	KUNIT_ASSERT_EQ(test, copy_to_user(user + len[0], second, len[1]), 0);
	iov_iter_init(&iter, ITER_SOURCE, segments, 2, len[0] + len[1]);
	return pkv_test_write_iter(t->file, &iter);
}

static ssize_t pkv_file_read(struct kunit *test, size_t count)
{
	struct pkv_test_file *t = test->priv;

	return pkv_test_read(t->file, pkv_test_user(test, count), count);
}

static void pkv_expect_read(struct kunit *test, size_t count, const char *value)
{
	char data[PKV_VALUE_MAX];
	size_t len = strlen(value);

	KUNIT_ASSERT_EQ(test, pkv_file_read(test, count), (ssize_t)len);
	KUNIT_ASSERT_EQ(test, copy_from_user(data, pkv_test_user(test, count), len), 0);
	KUNIT_EXPECT_MEMEQ(test, data, value, len);
}

static long pkv_file_ioctl(struct kunit *test, unsigned int cmd, void *arg,
			   size_t size)
{
	struct pkv_test_file *t = test->priv;
	void __user *user = pkv_test_user(test, size);
	long ret;

	KUNIT_ASSERT_EQ(test, copy_to_user(user, arg, size), 0);
	ret = pkv_fops.unlocked_ioctl(t->file, cmd, (unsigned long)user);
	KUNIT_ASSERT_EQ(test, copy_from_user(arg, user, size), 0);
	return ret;
}

static long pkv_file_delete(struct kunit *test, const char *key, u32 reserved)
{
	struct pkv_delete req = {
		.key_len = strlen(key),
		.reserved = reserved,
	};

	memcpy(req.key, key, min(strlen(key), sizeof(req.key)));
	return pkv_file_ioctl(test, PKV_IOC_DELETE, &req, sizeof(req));
}

static void pkv_file_reads_what_was_written(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, pkv_file_write(test, "a=hello\n"), 8);
	pkv_expect_read(test, 64, "hello");
	pkv_expect_read(test, 64, "");
	KUNIT_EXPECT_EQ(test, pkv_file_write(test, "b=x\n"), 4);
	pkv_expect_read(test, 64, "x");
}

static void pkv_file_reads_in_pieces(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, pkv_file_write(test, "a=hello\n"), 8);
	pkv_expect_read(test, 0, "");
	pkv_expect_read(test, 2, "he");
	pkv_expect_read(test, 2, "ll");
	pkv_expect_read(test, 2, "o");
	pkv_expect_read(test, 2, "");
}

static void pkv_file_has_nothing_to_read(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, pkv_file_read(test, 1), -ENODATA);
	KUNIT_ASSERT_EQ(test, pkv_file_write(test, "a=1\n"), 4);
	KUNIT_ASSERT_EQ(test, pkv_file_delete(test, "a", 0), 0);
	KUNIT_EXPECT_EQ(test, pkv_file_read(test, 1), -ENODATA);
}

static void pkv_file_read_stops_at_bad_memory(struct kunit *test)
{
	struct pkv_test_file *t = test->priv;
	void __user *user = pkv_test_user(test, 2);

	KUNIT_ASSERT_EQ(test, pkv_file_write(test, "a=hello\n"), 8);
	KUNIT_EXPECT_EQ(test, pkv_test_read(t->file, user, 5), 2);
	KUNIT_EXPECT_EQ(test, pkv_test_read(t->file, pkv_test_user(test, 0), 5), -EFAULT);
	pkv_expect_read(test, 64, "llo");
}

static void pkv_file_write_refuses_bad_memory(struct kunit *test)
{
	struct pkv_test_file *t = test->priv;

	KUNIT_ASSERT_EQ(test, pkv_file_write(test, "a=1\n"), 4);
	KUNIT_EXPECT_EQ(test, pkv_test_write_to(t->file, pkv_test_user(test, 4), 5), -EFAULT);
	pkv_expect_read(test, 64, "1");
}

static void pkv_file_write_refuses_bad_records(struct kunit *test)
{
	struct pkv_test_file *t = test->priv;

	KUNIT_EXPECT_EQ(test, pkv_file_write(test, "a"), -EINVAL);
	KUNIT_EXPECT_EQ(test, pkv_file_write(test, ""), -EINVAL);
	KUNIT_EXPECT_EQ(test, pkv_test_write_to(t->file, pkv_test_user(test, 0), PKV_WRITE_MAX + 1),
			-EMSGSIZE);
}

static void pkv_file_write_survives_failed_allocations(struct kunit *test)
{
	unsigned int nth, errors = 0;
	ssize_t ret;

	pkv_need_faults(test);
	KUNIT_ASSERT_EQ(test, pkv_file_write(test, "old=1\n"), 6);
	for (nth = 1; nth < 100; nth++) {
		/* The copy to user memory in pkv_file_write() may fail too. */
		struct pkv_test_file *t = test->priv;
		void __user *user = pkv_test_user(test, 4);

		KUNIT_ASSERT_EQ(test, copy_to_user(user, "a=2\n", 4), 0);
		pkv_fail_nth(nth);
		ret = pkv_test_write_to(t->file, user, 4);
		if (!pkv_failed_nth())
			break;
		errors++;
		KUNIT_EXPECT_TRUE(test, ret == -ENOMEM || ret == -EFAULT);
	}
	KUNIT_EXPECT_EQ(test, ret, 4);
	KUNIT_EXPECT_GE(test, errors, 2);
}

static void pkv_file_seeks(struct kunit *test)
{
	struct pkv_test_file *t = test->priv;

	KUNIT_EXPECT_EQ(test, pkv_fops.llseek(t->file, 0, SEEK_END), 0);
	KUNIT_ASSERT_EQ(test, pkv_file_write(test, "a=hello\n"), 8);
	KUNIT_EXPECT_EQ(test, pkv_fops.llseek(t->file, -2, SEEK_END), 3);
	pkv_expect_read(test, 64, "lo");
	KUNIT_EXPECT_EQ(test, pkv_fops.llseek(t->file, 1, SEEK_SET), 1);
	KUNIT_EXPECT_EQ(test, pkv_fops.llseek(t->file, 1, SEEK_CUR), 2);
	pkv_expect_read(test, 64, "llo");
	KUNIT_EXPECT_EQ(test, pkv_fops.llseek(t->file, 9, SEEK_SET), 9);
	pkv_expect_read(test, 64, "");
	KUNIT_EXPECT_EQ(test, pkv_fops.llseek(t->file, -1, SEEK_SET), -EINVAL);
	KUNIT_EXPECT_EQ(test, pkv_fops.llseek(t->file, 5, SEEK_DATA), -ENXIO);
}

static __poll_t pkv_file_poll(struct kunit *test)
{
	struct pkv_test_file *t = test->priv;

	return pkv_fops.poll(t->file, NULL);
}

static void pkv_file_polls(struct kunit *test)
{
	const __poll_t out = EPOLLOUT | EPOLLWRNORM;
	const __poll_t in = EPOLLIN | EPOLLRDNORM;

	KUNIT_EXPECT_TRUE(test, pkv_file_poll(test) == out);
	KUNIT_ASSERT_EQ(test, pkv_file_write(test, "a=\n"), 3);
	KUNIT_EXPECT_TRUE(test, pkv_file_poll(test) == (in | out));
	KUNIT_ASSERT_EQ(test, pkv_file_delete(test, "a", 0), 0);
	KUNIT_EXPECT_TRUE(test, pkv_file_poll(test) == out);
}

static void pkv_file_is_readable_until_all_was_read(struct kunit *test)
{
	static const char * const values[] = { "a=hello\n", "a=hello\n", "b=world\n" };
	struct pkv_test_file *t = test->priv;
	struct file *writer = pkv_test_open(test, O_WRONLY);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		void __user *user = pkv_test_user(test, 8);

		KUNIT_ASSERT_EQ(test, copy_to_user(user, values[i], 8), 0);
		KUNIT_ASSERT_EQ(test, pkv_test_write_to(writer, user, 8), 8);
		KUNIT_EXPECT_TRUE(test, pkv_file_poll(test) & EPOLLIN);
		KUNIT_ASSERT_EQ(test, pkv_file_read(test, 3), 3);
		KUNIT_EXPECT_TRUE(test, pkv_file_poll(test) & EPOLLIN);
		KUNIT_EXPECT_EQ(test, pkv_test_read(t->file, pkv_test_user(test, 0), 1), -EFAULT);
		KUNIT_EXPECT_TRUE(test, pkv_file_poll(test) & EPOLLIN);
		KUNIT_ASSERT_EQ(test, pkv_file_read(test, 64), 2);
		KUNIT_EXPECT_FALSE(test, pkv_file_poll(test) & EPOLLIN);
		pkv_expect_read(test, 64, "");
		KUNIT_EXPECT_FALSE(test, pkv_file_poll(test) & EPOLLIN);
	}
	__fput_sync(writer);
}

static void pkv_file_reads_one_value_whole(struct kunit *test)
{
	struct pkv_test_file *t = test->priv;
	struct file *writer = pkv_test_open(test, O_RDWR);
	void __user *user = pkv_test_user(test, 4);

	KUNIT_ASSERT_EQ(test, pkv_file_write(test, "a=hello\n"), 8);
	pkv_expect_read(test, 2, "he");
	KUNIT_ASSERT_EQ(test, copy_to_user(user, "b=x\n", 4), 0);
	KUNIT_ASSERT_EQ(test, pkv_test_write_to(writer, user, 4), 4);
	/* What has been begun is ended, then comes what is new. */
	pkv_expect_read(test, 2, "ll");
	KUNIT_ASSERT_EQ(test, pkv_fops.unlocked_ioctl(writer, PKV_IOC_CLEAR, 0), 0);
	pkv_expect_read(test, 64, "o");
	KUNIT_EXPECT_EQ(test, pkv_file_read(test, 64), -ENODATA);
	KUNIT_ASSERT_EQ(test, copy_to_user(user, "c=y\n", 4), 0);
	KUNIT_ASSERT_EQ(test, pkv_test_write_to(writer, user, 4), 4);
	pkv_expect_read(test, 64, "y");
	pkv_expect_read(test, 64, "");
	/* Elsewhere, a read is of what there is. */
	KUNIT_EXPECT_EQ(test, pkv_fops.llseek(t->file, 0, SEEK_SET), 0);
	pkv_expect_read(test, 64, "y");
	__fput_sync(writer);
}

static void pkv_file_writes_segments_as_one(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, pkv_file_writev(test, "", "a=1\n"), 4);
	pkv_expect_read(test, 64, "1");
	KUNIT_EXPECT_EQ(test, pkv_file_writev(test, "a=2\nb", "=3\n"), 8);
	pkv_expect_read(test, 64, "3");
	KUNIT_EXPECT_EQ(test, pkv_file_writev(test, "a=4\n", "b"), -EINVAL);
	pkv_expect_read(test, 64, "");
}

static int pkv_test_woken(struct wait_queue_entry *entry, unsigned int mode,
			  int flags, void *key)
{
	if (key_to_poll(key) & EPOLLIN)
		entry->private = NULL;
	return 0;
}

static void pkv_file_write_wakes_pollers(struct kunit *test)
{
	struct pkv_test_file *t = test->priv;
	struct wait_queue_entry entry;

	init_waitqueue_func_entry(&entry, pkv_test_woken);
	entry.private = test;
	add_wait_queue(&t->pkv.changed, &entry);
	KUNIT_EXPECT_EQ(test, pkv_file_write(test, "a"), -EINVAL);
	KUNIT_EXPECT_NOT_NULL(test, entry.private);
	KUNIT_EXPECT_EQ(test, pkv_file_write(test, "a=1\n"), 4);
	KUNIT_EXPECT_NULL(test, entry.private);
	remove_wait_queue(&t->pkv.changed, &entry);
}

static void pkv_file_lists(struct kunit *test)
{
	struct pkv_test_file *t = test->priv;
	struct pkv_list list = { .buf = t->user, .room = 2, .count = 77 };
	struct pkv_entry entries[2];

	KUNIT_EXPECT_EQ(test, pkv_file_ioctl(test, PKV_IOC_LIST, &list, sizeof(list)), 0);
	KUNIT_EXPECT_EQ(test, list.count, 0);
	KUNIT_ASSERT_EQ(test, pkv_file_write(test, "a=1\nbb=22\nccc=333\n"), 18);
	list.room = 0;
	KUNIT_EXPECT_EQ(test, pkv_file_ioctl(test, PKV_IOC_LIST, &list, sizeof(list)), 0);
	KUNIT_EXPECT_EQ(test, list.count, 3);
	list.room = 2;
	KUNIT_EXPECT_EQ(test, pkv_file_ioctl(test, PKV_IOC_LIST, &list, sizeof(list)), 0);
	KUNIT_EXPECT_EQ(test, list.count, 3);
	KUNIT_ASSERT_EQ(test, copy_from_user(entries, (void __user *)t->user,
					     sizeof(entries)), 0);
	KUNIT_EXPECT_EQ(test, entries[0].key_len, entries[0].value_len);
	KUNIT_EXPECT_NE(test, entries[1].key_len, 0);
	KUNIT_EXPECT_EQ(test, entries[1].reserved[0] | entries[1].reserved[1], 0);
	list.room = U32_MAX;
	KUNIT_EXPECT_EQ(test, pkv_file_ioctl(test, PKV_IOC_LIST, &list, sizeof(list)), 0);
	KUNIT_EXPECT_EQ(test, list.count, 3);
}

static void pkv_file_list_refuses_bad_arguments(struct kunit *test)
{
	struct pkv_list list = { .reserved = 1 };
	struct pkv_test_file *t = test->priv;

	KUNIT_ASSERT_EQ(test, pkv_file_write(test, "a=1\n"), 4);
	KUNIT_EXPECT_EQ(test, pkv_file_ioctl(test, PKV_IOC_LIST, &list, sizeof(list)), -EINVAL);
	list.reserved = 0;
	list.room = 1;
	list.buf = t->user + PAGE_SIZE - 1;
	KUNIT_EXPECT_EQ(test, pkv_file_ioctl(test, PKV_IOC_LIST, &list, sizeof(list)), -EFAULT);
	KUNIT_EXPECT_EQ(test, pkv_fops.unlocked_ioctl(t->file, PKV_IOC_LIST,
						      t->user + PAGE_SIZE - 1), -EFAULT);
}

static void pkv_file_list_survives_failed_allocations(struct kunit *test)
{
	struct pkv_list list = { .room = 1 };
	struct pkv_test_file *t = test->priv;
	void __user *user = pkv_test_user(test, sizeof(list));
	unsigned int nth;
	long ret;

	pkv_need_faults(test);
	list.buf = t->user;
	KUNIT_ASSERT_EQ(test, pkv_file_write(test, "a=1\n"), 4);
	KUNIT_ASSERT_EQ(test, copy_to_user(user, &list, sizeof(list)), 0);
	for (nth = 1; nth < 100; nth++) {
		pkv_fail_nth(nth);
		ret = pkv_fops.unlocked_ioctl(t->file, PKV_IOC_LIST, (unsigned long)user);
		if (!pkv_failed_nth())
			break;
		KUNIT_EXPECT_TRUE(test, ret == -ENOMEM || ret == -EFAULT);
	}
	KUNIT_EXPECT_EQ(test, ret, 0);
	KUNIT_EXPECT_GE(test, nth, 2);
}

static void pkv_file_deletes(struct kunit *test)
{
	struct pkv_test_file *t = test->priv;
	struct pkv_delete req = {};

	KUNIT_ASSERT_EQ(test, pkv_file_write(test, "a=1\nb=2\n"), 8);
	KUNIT_EXPECT_EQ(test, pkv_file_delete(test, "a", 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, pkv_file_delete(test, "", 0), -EINVAL);
	req.key_len = PKV_KEY_MAX + 1;
	KUNIT_EXPECT_EQ(test, pkv_file_ioctl(test, PKV_IOC_DELETE, &req, sizeof(req)), -EINVAL);
	KUNIT_EXPECT_EQ(test, pkv_file_delete(test, "c", 0), -ENOENT);
	KUNIT_EXPECT_EQ(test, pkv_file_delete(test, "a", 0), 0);
	KUNIT_EXPECT_EQ(test, pkv_file_delete(test, "a", 0), -ENOENT);
	KUNIT_EXPECT_EQ(test, pkv_fops.unlocked_ioctl(t->file, PKV_IOC_DELETE,
						      t->user + PAGE_SIZE - 1), -EFAULT);
	pkv_expect_read(test, 64, "2");
}

static void pkv_file_clears(struct kunit *test)
{
	struct pkv_test_file *t = test->priv;

	KUNIT_ASSERT_EQ(test, pkv_file_write(test, "a=1\nb=2\n"), 8);
	KUNIT_EXPECT_EQ(test, pkv_fops.unlocked_ioctl(t->file, PKV_IOC_CLEAR, 0), 0);
	KUNIT_EXPECT_EQ(test, pkv_file_read(test, 1), -ENODATA);
}

static void pkv_file_ioctl_needs_the_right_mode(struct kunit *test)
{
	struct file *reader = pkv_test_open(test, O_RDONLY);
	struct file *writer = pkv_test_open(test, O_WRONLY);

	KUNIT_EXPECT_EQ(test, pkv_fops.unlocked_ioctl(reader, PKV_IOC_DELETE, 0), -EBADF);
	KUNIT_EXPECT_EQ(test, pkv_fops.unlocked_ioctl(reader, PKV_IOC_CLEAR, 0), -EBADF);
	KUNIT_EXPECT_EQ(test, pkv_fops.unlocked_ioctl(reader, PKV_IOC_LIST, 0), -EFAULT);
	KUNIT_EXPECT_EQ(test, pkv_fops.unlocked_ioctl(writer, PKV_IOC_LIST, 0), -EBADF);
	KUNIT_EXPECT_EQ(test, pkv_fops.unlocked_ioctl(writer, PKV_IOC_CLEAR, 0), 0);
	__fput_sync(reader);
	__fput_sync(writer);
}

static void pkv_file_refuses_unknown_ioctls(struct kunit *test)
{
	struct pkv_test_file *t = test->priv;

	KUNIT_EXPECT_EQ(test, pkv_fops.unlocked_ioctl(t->file, 0, 0), -ENOTTY);
	KUNIT_EXPECT_EQ(test, pkv_fops.unlocked_ioctl(t->file, _IO(PKV_IOC_MAGIC, 3), 0),
			-ENOTTY);
}

static void pkv_file_counts_its_use(struct kunit *test)
{
	struct seq_file seq = { .size = PAGE_SIZE };
	struct pkv_test_file *t = test->priv;
	struct file *second;

	seq.private = &t->pkv;
	seq.buf = kunit_kzalloc(test, seq.size, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, seq.buf);
	second = pkv_test_open(test, O_RDWR);
	KUNIT_ASSERT_EQ(test, pkv_file_read(test, 1), -ENODATA);
	KUNIT_ASSERT_EQ(test, pkv_file_write(test, "a=1\nb=22\n"), 9);
	KUNIT_ASSERT_EQ(test, pkv_file_write(test, "a"), -EINVAL);
	KUNIT_ASSERT_EQ(test, pkv_file_delete(test, "c", 0), -ENOENT);

	KUNIT_EXPECT_EQ(test, pkv_proc_show(&seq, NULL), 0);
	KUNIT_EXPECT_NOT_NULL(test, strstr(seq.buf, "ttl_ms: 0\nkeys: 2 of 100\nvalue_bytes: 3\n"));
	KUNIT_EXPECT_NOT_NULL(test, strstr(seq.buf, pkv_test_strategy(test)));
	KUNIT_EXPECT_NOT_NULL(test, strstr(seq.buf, "open_files: 2\n"));
	KUNIT_EXPECT_NOT_NULL(test, strstr(seq.buf, "\nopen 2 0\nread 1 1\nwrite 2 1\n"));
	KUNIT_EXPECT_NOT_NULL(test, strstr(seq.buf, "\ndelete 1 1\nclear 0 0\n"));
	__fput_sync(second);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->pkv.files), 1);
}

static struct kunit_case pkv_file_cases[] = {
	KUNIT_CASE_PARAM(pkv_file_reads_what_was_written, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_reads_in_pieces, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_has_nothing_to_read, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_read_stops_at_bad_memory, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_write_refuses_bad_memory, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_write_refuses_bad_records, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_write_survives_failed_allocations, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_seeks, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_polls, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_is_readable_until_all_was_read, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_reads_one_value_whole, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_writes_segments_as_one, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_write_wakes_pollers, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_lists, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_list_refuses_bad_arguments, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_list_survives_failed_allocations, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_deletes, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_clears, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_ioctl_needs_the_right_mode, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_refuses_unknown_ioctls, pkv_strategy_gen_params),
	KUNIT_CASE_PARAM(pkv_file_counts_its_use, pkv_strategy_gen_params),
	{}
};

static struct kunit_suite pkv_file_suite = {
	.name = "pkv_file",
	.init = pkv_test_file_init,
	.exit = pkv_test_file_exit,
	.test_cases = pkv_file_cases,
};

/* Setting the device up and taking it down. */

static void pkv_device_knows_its_strategies(struct kunit *test)
{
	KUNIT_EXPECT_PTR_EQ(test, pkv_lock_strategy("mutex"), &pkv_lock_mutex);
	KUNIT_EXPECT_PTR_EQ(test, pkv_lock_strategy("rwsem\n"), &pkv_lock_rwsem);
	KUNIT_EXPECT_PTR_EQ(test, pkv_lock_strategy("rwlock"), &pkv_lock_rwlock);
	KUNIT_EXPECT_PTR_EQ(test, pkv_lock_strategy("rcu"), &pkv_lock_rcu);
	KUNIT_EXPECT_NULL(test, pkv_lock_strategy(""));
	KUNIT_EXPECT_NULL(test, pkv_lock_strategy("rcu "));
}

static void pkv_device_refuses_unknown_strategies(struct kunit *test)
{
	struct pkv *pkv = kunit_kzalloc(test, sizeof(*pkv), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, pkv);
	KUNIT_EXPECT_EQ(test, pkv_register(pkv, "pkv-kunit", "spin"), -EINVAL);
}

static void pkv_device_registers_again_and_again(struct kunit *test)
{
	struct pkv *pkv = kunit_kzalloc(test, sizeof(*pkv), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, pkv);
	for (i = 0; i < 10; i++) {
		memset(pkv, 0, sizeof(*pkv));
		KUNIT_ASSERT_EQ(test, pkv_register(pkv, "pkv-kunit", "mutex"), 0);
		KUNIT_EXPECT_NE(test, MAJOR(pkv->devt), 0);
		pkv_unregister(pkv);
	}
}

static void pkv_device_unwinds_each_failure(struct kunit *test)
{
	struct pkv *pkv = kunit_kzalloc(test, sizeof(*pkv), GFP_KERNEL);
	unsigned int nth, errors = 0;
	int ret;

	KUNIT_ASSERT_NOT_NULL(test, pkv);
	pkv_need_faults(test);
	for (nth = 1; nth < 1000; nth++) {
		bool failed;

		memset(pkv, 0, sizeof(*pkv));
		pkv_fail_nth(nth);
		ret = pkv_register(pkv, "pkv-kunit", "mutex");
		failed = pkv_failed_nth();
		/* The kernel can do without some allocations. */
		if (!ret)
			pkv_unregister(pkv);
		else
			errors++;
		if (!failed)
			break;
	}
	KUNIT_EXPECT_EQ(test, ret, 0);
	KUNIT_EXPECT_GE(test, errors, 5);
	kunit_info(test, "%u of %u allocations are needed\n", errors, nth - 1);
}

static struct kunit_case pkv_device_cases[] = {
	KUNIT_CASE(pkv_device_knows_its_strategies),
	KUNIT_CASE(pkv_device_refuses_unknown_strategies),
	KUNIT_CASE(pkv_device_registers_again_and_again),
	KUNIT_CASE(pkv_device_unwinds_each_failure),
	{}
};

static struct kunit_suite pkv_device_suite = {
	.name = "pkv_device",
	.test_cases = pkv_device_cases,
};

kunit_test_suites(&pkv_store_suite, &pkv_file_suite, &pkv_device_suite);
