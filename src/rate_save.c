/*
 * rate_save.c
 *		Buckets across a restart: a file of those that are not full.
 *
 *		postmaster, at start		file --> table; then the file stays until it is replaced
 *		background worker			every rate_save_interval seconds: table --> file
 *		postmaster, at shutdown		table --> file
 *
 * A worker of its own, since nothing else runs when nobody calls: it needs no database, runs on a
 * standby too, and keeps the writing out of requests.  After a crash of a backend or of the server
 * what was spent since the last save is forgotten: at most what was admitted in one interval.
 *
 * The file is written beside and renamed durably.  Within one boot of the machine the buckets'
 * clock goes on, and nothing has to be converted, whatever the wall clock did.  After another boot
 * the wall clock says how much time has passed, between 0 and a year.
 *
 * A file is taken over only from where it was written, so that neither a backup put back nor a
 * copied data directory replays what somebody else has spent: it knows its own inode and that of
 * the data directory, and, since a copy of a whole volume has the same ones, the path of the data
 * directory, the machine (/etc/machine-id) and, within one boot, the device; further the system
 * identifier, its format and a checksum.  Anything else is refused with a WARNING, and all buckets
 * start full.
 *
 * Locks: reading goes through rate_read.c; loading comes before anybody else is there.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "access/xlog.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_crc32c.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "place.h"
#include "rate_args.h"
#include "rate_clock.h"
#include "rate_save.h"
#include "rate_shared.h"
#include "rate_stat.h"
#include "stat.h"

#define FILE_NAME "pg_stat/tenantcall_rate"
#define TMP_NAME FILE_NAME ".tmp"
#define MAGIC UINT64CONST(0x7463726174650002)
#define BOOT_ID_LEN 40
#define END_MARK UINT64CONST(0x656e646f66626b74)

typedef struct FileHead
{
	uint64 magic;
	uint64 record_size;
	uint64 system;
	uint64 file_inode;
	uint64 directory_inode;
	uint64 device;
	uint64 place; /* a hash of path and machine */
	TimestampTz wall;
	int64 clock;
	char boot_id[BOOT_ID_LEN];
	uint8 detail_key[TC_SIPHASH_KEY];
} FileHead;

typedef struct FileEnd
{
	uint64 mark;
	uint64 count;
	uint64 crc;
} FileEnd;

PGDLLEXPORT void tc_rate_saver_main(Datum arg);

static int save_interval = 10; /* setting: seconds; 0: only at shutdown */

/* The machine's boot, or nothing where the system does not tell. */
static void
read_boot_id(char boot_id[BOOT_ID_LEN])
{
	tc_read_line("/proc/sys/kernel/random/boot_id", boot_id, BOOT_ID_LEN);
}

/* A number for this boot of the machine. */
int64
tc_rate_boot(void)
{
	static int64 boot = -1;
	char boot_id[BOOT_ID_LEN];

	if (boot == -1)
	{
		read_boot_id(boot_id);
		boot = boot_id[0] == '\0'
				   ? 0
				   : (int64) (hash_bytes_extended((const unsigned char *) boot_id, BOOT_ID_LEN, 0) &
							  PG_INT64_MAX);
	}
	return boot;
}

/* What a file written now, as this open file, begins with. */
static bool
make_head(FILE *file, FileHead *head)
{
	struct stat own;
	struct stat directory;

	memset(head, 0, sizeof(*head));
	if (fstat(fileno(file), &own) != 0 || stat(DataDir, &directory) != 0)
		return false;
	head->magic = MAGIC;
	head->record_size = sizeof(TcRateBucket);
	head->system = GetSystemIdentifier();
	head->file_inode = own.st_ino;
	head->directory_inode = directory.st_ino;
	head->device = own.st_dev;
	head->place = tc_place();
	head->wall = GetCurrentTimestamp();
	head->clock = tc_rate_now();
	read_boot_id(head->boot_id);
	memcpy(head->detail_key, tc_rate_table_here.shared->detail_key, TC_SIPHASH_KEY);
	return true;
}

/* Writes bytes and adds them to the checksum. */
static bool
put(FILE *file, const void *data, size_t len, pg_crc32c *crc)
{
	COMP_CRC32C(*crc, data, len);
	return fwrite(data, 1, len, file) == len;
}

/* Writes all buckets that are not full. */
static bool
write_buckets(FILE *file, int64 now, FileEnd *end, pg_crc32c *crc)
{
	TcRateBucket *buckets = palloc0(sizeof(TcRateBucket) * TC_RATE_READ_AT_ONCE);
	uint64 position = 0;
	bool ok = true;
	int n;

	while (ok && (n = tc_rate_read(&position, InvalidOid, buckets)) >= 0)
	{
		for (int i = 0; ok && i < n; i++)
		{
			if (buckets[i].key.private_version != 0 ||
				tc_rate_is_full(&buckets[i].math, buckets[i].state, now))
				continue;
			ok = put(file, &buckets[i], sizeof(TcRateBucket), crc);
			end->count++;
		}
	}
	pfree(buckets);
	return ok;
}

/* Writes the whole file. */
static bool
write_file(FILE *file)
{
	FileHead head;
	FileEnd end = {END_MARK, 0, 0};
	pg_crc32c crc;

	INIT_CRC32C(crc);
	if (!make_head(file, &head) || !put(file, &head, sizeof(head), &crc) ||
		!write_buckets(file, head.clock, &end, &crc))
		return false;
	COMP_CRC32C(crc, &end.count, sizeof(end.count));
	FIN_CRC32C(crc);
	end.crc = crc;
	return fwrite(&end, sizeof(end), 1, file) == 1 && fflush(file) == 0;
}

/* Saves the buckets; failure is logged and changes nothing. */
static void
save(void)
{
	FILE *file = AllocateFile(TMP_NAME, PG_BINARY_W);
	bool ok = file != NULL && write_file(file);

	if (file != NULL && FreeFile(file) != 0)
		ok = false;
	if (!ok)
	{
		ereport(LOG, (errcode_for_file_access(),
					  errmsg("could not save rate limit buckets to file \"%s\": %m", TMP_NAME)));
		(void) unlink(TMP_NAME);
	}
	else
		ok = durable_rename(TMP_NAME, FILE_NAME, LOG) == 0;
	if (ok)
		tc_stat_note_over(TC_STAT_SAVE_FAILED);
	else
		tc_stat_note(TC_STAT_SAVE_FAILED, "see the server log");
}

/* Was the file written in this boot of the machine, as far as one can tell? */
static bool
same_boot(const FileHead *head)
{
	char boot_id[BOOT_ID_LEN];

	read_boot_id(boot_id);
	return boot_id[0] != '\0' && memcmp(boot_id, head->boot_id, BOOT_ID_LEN) == 0;
}

/* Does the file come from here?  If not, says why. */
static const char *
check_head(FILE *file, const FileHead *head)
{
	struct stat own;
	struct stat directory;

	if (head->magic != MAGIC || head->record_size != sizeof(TcRateBucket))
		return "It has another format.";
	if (head->system != GetSystemIdentifier())
		return "It is of another database system.";
	if (fstat(fileno(file), &own) != 0 || stat(DataDir, &directory) != 0)
		return "It cannot be examined.";
	if (head->file_inode != own.st_ino || head->directory_inode != directory.st_ino)
		return "It is a copy.";
	if (head->place != tc_place() || (same_boot(head) && head->device != own.st_dev))
		return "The data directory is on another machine, or at another place, than it was.";
	return NULL;
}

/* Reads the file through once for its checksum; returns why it is refused, or NULL. */
static const char *
check_file(FILE *file, FileHead *head, FileEnd *end)
{
	TcRateBucket bucket;
	const char *reason;
	pg_crc32c crc;
	struct stat st;

	INIT_CRC32C(crc);
	if (fread(head, sizeof(*head), 1, file) != 1 || fstat(fileno(file), &st) != 0)
		return "It is too short.";
	reason = check_head(file, head);
	if (reason != NULL)
		return reason;
	COMP_CRC32C(crc, head, sizeof(*head));
	end->count = (st.st_size - sizeof(*head)) / sizeof(bucket);
	if ((uint64) st.st_size != sizeof(*head) + end->count * sizeof(bucket) + sizeof(*end))
		return "Its length is wrong.";
	for (uint64 i = 0; i < end->count; i++)
	{
		if (fread(&bucket, sizeof(bucket), 1, file) != 1)
			return "It cannot be read.";
		COMP_CRC32C(crc, &bucket, sizeof(bucket));
	}
	COMP_CRC32C(crc, &end->count, sizeof(end->count));
	FIN_CRC32C(crc);
	if (fread(end, sizeof(*end), 1, file) != 1 || end->mark != END_MARK || end->crc != crc)
		return "Its checksum is wrong.";
	return NULL;
}

/* How far the buckets' clock is from what it was for the same instant in the file. */
static int64
clock_shift(const FileHead *head)
{
	int64 elapsed = GetCurrentTimestamp() - head->wall;

	if (same_boot(head))
		return 0;
	elapsed = Max(0, Min(elapsed, TC_RATE_MAX_PERIOD / 1000)) * 1000;
	return tc_rate_now() - elapsed - head->clock;
}

/* Makes a bucket of the table; there is nobody else yet. */
static void
restore(const TcRateBucket *bucket, int64 shift)
{
	TcRateEntry *entry = NULL;
	TcRateRecord *record;

	if (tc_rate_reserve_place())
	{
		entry = tc_rate_link(&bucket->key, tc_rate_hash(&bucket->key));
		if (entry == NULL)
			tc_rate_release_place();
	}
	if (entry == NULL)
	{
		pg_atomic_fetch_add_u64(&tc_rate_table_here.shared->forced, 1);
		return;
	}
	record = tc_rate_record(entry);
	entry->shadow = bucket->shadow;
	entry->paused = bucket->paused;
	tc_rate_set_math(entry, bucket->version, &bucket->math);
	entry->base = bucket->state.base + shift;
	pg_atomic_write_u64(&entry->s, (uint64) bucket->state.s);
	pg_atomic_write_u64(&entry->allowed, bucket->allowed);
	pg_atomic_write_u64(&record->denied, bucket->denied);
	pg_atomic_write_u64(&record->would_deny, bucket->would_deny);
	pg_atomic_write_u64(&record->last_denied_at, bucket->last_denied_at);
	pg_atomic_write_u64(&record->waited, bucket->waited);
	pg_atomic_write_u64(&record->refunded, bucket->refunded);
	pg_atomic_write_u64(&record->forgiven, bucket->forgiven);
}

/* Loads the file into the empty table, if it is whole and ours.  Never raises. */
void
tc_rate_load(void)
{
	FILE *file = AllocateFile(FILE_NAME, PG_BINARY_R);
	FileHead head;
	FileEnd end;
	const char *reason;
	int64 shift;

	if (file == NULL)
	{
		if (errno != ENOENT)
			ereport(WARNING, (errcode_for_file_access(),
							  errmsg("could not read file \"%s\": %m", FILE_NAME)));
		return;
	}
	reason = check_file(file, &head, &end);
	if (reason != NULL)
	{
		ereport(WARNING, (errcode(ERRCODE_DATA_CORRUPTED),
						  errmsg("saved rate limit buckets are not taken over"),
						  errdetail("File \"%s\": %s All buckets start full.", FILE_NAME, reason)));
		tc_stat_note(TC_STAT_LOAD_REFUSED, reason);
	}
	else if (fseeko(file, sizeof(head), SEEK_SET) == 0)
	{
		shift = clock_shift(&head);
		memcpy(tc_rate_table_here.shared->detail_key, head.detail_key, TC_SIPHASH_KEY);
		for (uint64 i = 0; i < end.count; i++)
		{
			TcRateBucket bucket;

			if (fread(&bucket, sizeof(bucket), 1, file) != 1)
				break;
			restore(&bucket, shift);
		}
	}
	FreeFile(file);
}

/* on_shmem_exit callback of the postmaster: not after a crash. */
void
tc_rate_save_at_exit(int code, Datum arg)
{
	if (code == 0)
		save();
}

/* The background worker: saves from time to time. */
void
tc_rate_saver_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	while (!ShutdownRequestPending)
	{
		int seconds = save_interval > 0 ? save_interval : 3600;

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, seconds * 1000L,
						 tc_wait_event("TenantcallRateSave"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (save_interval > 0 && !ShutdownRequestPending)
			save();
	}
}

/* While preloaded, defines the setting and registers the worker. */
void
tc_rate_save_init(void)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS,
		.bgw_start_time = BgWorkerStart_PostmasterStart,
		.bgw_restart_time = 10,
		.bgw_name = "tenantcall rate limit saver",
		.bgw_type = "tenantcall rate limit saver",
		.bgw_library_name = "tenantcall",
		.bgw_function_name = "tc_rate_saver_main",
	};

	DefineCustomIntVariable("tenantcall.rate_save_interval",
							"Seconds between saves of rate limit buckets; 0: only at shutdown.",
							"So much is forgotten after a crash of the server.", &save_interval, 10,
							0, 3600, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	if (!IsBinaryUpgrade)
		RegisterBackgroundWorker(&worker);
}
