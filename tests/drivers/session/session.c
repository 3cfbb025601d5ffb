// SPDX-License-Identifier: GPL-2.0
/*
 * session: jobs that are done in the background, for each open file its own.
 *
 * A job is kept by the session's list and by the work that does it; whichever
 * lets go last frees it. A session is kept by its file and by its jobs, so that
 * work that is still going on when the file is closed has one to look at.
 */
#include <linux/ctype.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/minmax.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/time64.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "session.h"

/**
 * struct session - an open file
 * @ref: by the file and each job
 * @n_jobs: on the list
 * @last_id: of the last job that was submitted
 * @jobs: in the order in which they were submitted
 * @wait: woken when a job is done or gone
 * @lock: protects all but @ref and @wait, and the jobs' @done
 */
struct session {
	struct kref ref;
	unsigned int n_jobs;
	u32 last_id;
	struct list_head jobs;
	wait_queue_head_t wait;
	spinlock_t lock;	/* protects n_jobs, last_id, jobs, job->done */
};

/**
 * struct session_job - a job
 * @ref: by the list and the work
 * @session: the one it belongs to
 * @link: in the session's list
 * @work: does it
 * @id: what it is called
 * @op: what to do
 * @delay_ms: how long that takes
 * @done: whether it is done; until then the bytes are the work's
 * @length: bytes
 * @data: these
 */
struct session_job {
	struct kref ref;
	struct session *session;
	struct list_head link;
	struct work_struct work;
	u32 id;
	u32 op;
	u32 delay_ms;
	bool done;
	u32 length;
	u8 data[];
};

static struct workqueue_struct *session_queue;

static void session_free(struct kref *ref)
{
	kfree(container_of(ref, struct session, ref));
}

static void session_put(struct session *session)
{
	kref_put(&session->ref, session_free);
}

static void session_job_free(struct kref *ref)
{
	struct session_job *job = container_of(ref, struct session_job, ref);

	session_put(job->session);
	kfree(job);
}

static void session_job_put(struct session_job *job)
{
	kref_put(&job->ref, session_job_free);
}

static void session_do(struct session_job *job)
{
	switch (job->op) {
	case SESSION_UPPER:
		for (u32 i = 0; i < job->length; i++)
			job->data[i] = toupper(job->data[i]);
		break;
	case SESSION_REVERSE:
		for (u32 i = 0; i < job->length / 2; i++)
			swap(job->data[i], job->data[job->length - 1 - i]);
		break;
	}
}

static void session_work(struct work_struct *work)
{
	struct session_job *job = container_of(work, struct session_job, work);
	struct session *session = job->session;

	if (job->delay_ms)
		fsleep(job->delay_ms * USEC_PER_MSEC);
	session_do(job);
	spin_lock(&session->lock);
	job->done = true;
	spin_unlock(&session->lock);
	wake_up_interruptible(&session->wait);
	session_job_put(job);
}

/* Make a job of so many bytes. It belongs to the caller. */
static struct session_job *session_job_new(struct session *session,
					   const void __user *data, u32 length)
{
	struct session_job *job;

	if (!length || length > SESSION_LENGTH_MAX)
		return ERR_PTR(-EMSGSIZE);
	job = kzalloc(struct_size(job, data, length), GFP_KERNEL);
	if (!job)
		return ERR_PTR(-ENOMEM);
	job->length = length;
	if (copy_from_user(job->data, data, length)) {
		kfree(job);
		return ERR_PTR(-EFAULT);
	}

	kref_init(&job->ref);
	INIT_WORK(&job->work, session_work);
	kref_get(&session->ref);
	job->session = session;
	return job;
}

/* Have a job done that is the caller's no more. Returns its id. */
static int session_start(struct session *session, struct session_job *job)
{
	u32 id;

	spin_lock(&session->lock);
	if (session->n_jobs >= SESSION_JOBS_MAX) {
		spin_unlock(&session->lock);
		session_job_put(job);
		return -ENOSPC;
	}
	/* From here on it may be cancelled: the work has a reference before. */
	kref_get(&job->ref);
	id = ++session->last_id;
	job->id = id;
	list_add_tail(&job->link, &session->jobs);
	session->n_jobs++;
	spin_unlock(&session->lock);

	queue_work(session_queue, &job->work);
	return id;
}

/* Find a job; the lock is held. */
static struct session_job *session_find(struct session *session, u32 id)
{
	struct session_job *job;

	list_for_each_entry(job, &session->jobs, link)
		if (job->id == id)
			return job;
	return NULL;
}

/* Take a job off the list, whose reference is the caller's now; locked. */
static void session_take(struct session *session, struct session_job *job)
{
	list_del(&job->link);
	session->n_jobs--;
}

/* Let go of a job that is off the list, and have it not begun any more. */
static void session_drop(struct session_job *job)
{
	if (cancel_work(&job->work))
		session_job_put(job);
	session_job_put(job);
}

/* Find the first job that is done; locked. -ENODATA if there are none at all. */
static struct session_job *session_first(struct session *session)
{
	struct session_job *job;

	list_for_each_entry(job, &session->jobs, link)
		if (job->done)
			return job;
	return ERR_PTR(list_empty(&session->jobs) ? -ENODATA : -EAGAIN);
}

/* Take the first job that is done off the list; not locked. */
static struct session_job *session_take_first(struct session *session)
{
	struct session_job *job;

	spin_lock(&session->lock);
	job = session_first(session);
	if (!IS_ERR(job))
		session_take(session, job);
	spin_unlock(&session->lock);
	return job;
}

static ssize_t session_read(struct file *file, char __user *buf, size_t count,
			    loff_t *ppos)
{
	struct session *session = file->private_data;
	struct session_job *job;
	ssize_t ret;

	job = session_take_first(session);
	if (job == ERR_PTR(-EAGAIN) && !(file->f_flags & O_NONBLOCK)) {
		ret = wait_event_interruptible(session->wait,
					       (job = session_take_first(session)) !=
					       ERR_PTR(-EAGAIN));
		if (ret)
			return ret;
	}
	if (IS_ERR(job))
		return PTR_ERR(job);

	ret = min_t(size_t, count, job->length);
	if (copy_to_user(buf, job->data, ret))
		ret = -EFAULT;
	session_job_put(job);
	return ret;
}

static ssize_t session_write(struct file *file, const char __user *buf,
			     size_t count, loff_t *ppos)
{
	struct session *session = file->private_data;
	struct session_job *job;
	int ret;

	job = session_job_new(session, buf, min_t(size_t, count, U32_MAX));
	if (IS_ERR(job))
		return PTR_ERR(job);
	job->op = SESSION_UPPER;
	ret = session_start(session, job);
	return ret < 0 ? ret : count;
}

static __poll_t session_poll(struct file *file, poll_table *wait)
{
	struct session *session = file->private_data;
	__poll_t events = 0;

	poll_wait(file, &session->wait, wait);
	spin_lock(&session->lock);
	if (session->n_jobs < SESSION_JOBS_MAX)
		events |= EPOLLOUT | EPOLLWRNORM;
	if (!IS_ERR(session_first(session)))
		events |= EPOLLIN | EPOLLRDNORM;
	spin_unlock(&session->lock);
	return events;
}

static long session_submit(struct session *session,
			   struct session_submit __user *argp)
{
	struct session_submit arg;
	struct session_job *job;
	int ret;

	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;
	if (arg.op != SESSION_UPPER && arg.op != SESSION_REVERSE)
		return -EINVAL;
	if (arg.delay_ms > SESSION_DELAY_MAX)
		return -EINVAL;
	job = session_job_new(session, u64_to_user_ptr(arg.data), arg.length);
	if (IS_ERR(job))
		return PTR_ERR(job);
	job->op = arg.op;
	job->delay_ms = arg.delay_ms;
	ret = session_start(session, job);
	if (ret < 0)
		return ret;
	return put_user((u32)ret, &argp->id);
}

/* Whether there is nothing to wait for: 0 if it is done, an error if gone. */
static int session_look(struct session *session, u32 id)
{
	struct session_job *job;
	int ret = -ENOENT;

	spin_lock(&session->lock);
	job = session_find(session, id);
	if (job)
		ret = job->done ? 0 : -EAGAIN;
	spin_unlock(&session->lock);
	return ret;
}

static long session_wait(struct session *session,
			 const struct session_wait __user *argp)
{
	struct session_wait arg;
	long left;
	int ret;

	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;
	if (arg.timeout_ms > SESSION_TIMEOUT_MAX)
		return -EINVAL;
	left = wait_event_interruptible_timeout(session->wait,
						(ret = session_look(session, arg.id)) != -EAGAIN,
						msecs_to_jiffies(arg.timeout_ms));
	if (left < 0)
		return left;
	return left ? ret : -ETIME;
}

static long session_cancel(struct session *session, u32 id)
{
	struct session_job *job;

	spin_lock(&session->lock);
	job = session_find(session, id);
	if (job)
		session_take(session, job);
	spin_unlock(&session->lock);
	if (!job)
		return -ENOENT;
	session_drop(job);
	wake_up_interruptible(&session->wait);
	return 0;
}

static long session_ioctl(struct file *file, unsigned int cmd,
			  unsigned long arg)
{
	struct session *session = file->private_data;

	switch (cmd) {
	case SESSION_IOC_SUBMIT:
		return session_submit(session, (void __user *)arg);
	case SESSION_IOC_WAIT:
		return session_wait(session, (void __user *)arg);
	case SESSION_IOC_CANCEL:
		return session_cancel(session, arg);
	default:
		return -ENOTTY;
	}
}

static int session_open(struct inode *inode, struct file *file)
{
	struct session *session = kzalloc(sizeof(*session), GFP_KERNEL);

	if (!session)
		return -ENOMEM;
	kref_init(&session->ref);
	spin_lock_init(&session->lock);
	INIT_LIST_HEAD(&session->jobs);
	init_waitqueue_head(&session->wait);
	file->private_data = session;
	return 0;
}

static int session_release(struct inode *inode, struct file *file)
{
	struct session *session = file->private_data;
	struct session_job *job, *next;
	LIST_HEAD(jobs);

	spin_lock(&session->lock);
	list_splice_init(&session->jobs, &jobs);
	spin_unlock(&session->lock);
	list_for_each_entry_safe(job, next, &jobs, link)
		session_drop(job);
	session_put(session);
	return 0;
}

static const struct file_operations session_fops = {
	.owner = THIS_MODULE,
	.open = session_open,
	.release = session_release,
	.read = session_read,
	.write = session_write,
	.poll = session_poll,
	.unlocked_ioctl = session_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice session_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME,
	.fops = &session_fops,
	.mode = 0600,
};

static int __init session_init(void)
{
	int ret;

	session_queue = alloc_workqueue("%s", WQ_UNBOUND, 4, KBUILD_MODNAME);
	if (!session_queue)
		return -ENOMEM;
	ret = misc_register(&session_device);
	if (ret)
		destroy_workqueue(session_queue);
	return ret;
}
module_init(session_init);

static void __exit session_exit(void)
{
	misc_deregister(&session_device);
	/* Work of files that were closed since may still go on. */
	destroy_workqueue(session_queue);
}
module_exit(session_exit);

MODULE_DESCRIPTION("Jobs in the background, by open file");
MODULE_AUTHOR("The pkvfuzz authors");
MODULE_LICENSE("GPL");
