/*
 * clock_shim.c
 *		For test_rate_clock.py: another wall clock, time since boot, and boot id for a server.
 *
 * Loaded with LD_PRELOAD.  The file that TC_CLOCK_FILE names holds two numbers, which are added as
 * they are at that moment: to the wall clock (microseconds), and to the time since boot
 * (nanoseconds).  If there is a file of that name and ".boot_id", it is read as the kernel's.
 */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offsets;

/* Maps the file of offsets. */
__attribute__((constructor)) static void
map_offsets(void)
{
	static int64_t none[2];
	const char *name = getenv("TC_CLOCK_FILE");
	int fd = name == NULL ? -1 : open(name, O_RDONLY);
	void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, 16, PROT_READ, MAP_SHARED, fd, 0);

	offsets = mapped == MAP_FAILED ? none : mapped;
	if (fd >= 0)
		close(fd);
}

int
gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec real;

	(void) zone;
	clock_gettime(CLOCK_REALTIME, &real);
	now->tv_sec = real.tv_sec;
	now->tv_usec = real.tv_nsec / 1000;
	return 0;
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
	static int (*next)(clockid_t, struct timespec *);
	int64_t ns;
	int result;

	if (next == NULL)
		next = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
	result = next(clock, now);
	if (clock != CLOCK_REALTIME && clock != CLOCK_BOOTTIME)
		return result;
	ns = clock == CLOCK_REALTIME ? offsets[0] % 1000000 * 1000 : offsets[1] % 1000000000;
	ns += now->tv_nsec + 1000000000;
	now->tv_sec += (clock == CLOCK_REALTIME ? offsets[0] / 1000000 : offsets[1] / 1000000000) - 1 +
				   ns / 1000000000;
	now->tv_nsec = ns % 1000000000;
	return result;
}

FILE *
fopen(const char *restrict path, const char *restrict mode)
{
	static FILE *(*next)(const char *, const char *);
	char other[1000];

	if (next == NULL)
		next = (FILE * (*) (const char *, const char *) ) dlsym(RTLD_NEXT, "fopen");
	if (strcmp(path, "/proc/sys/kernel/random/boot_id") == 0 && getenv("TC_CLOCK_FILE") != NULL)
	{
		snprintf(other, sizeof(other), "%s.boot_id", getenv("TC_CLOCK_FILE"));
		if (access(other, R_OK) == 0)
			path = other;
	}
	return next(path, mode);
}

FILE *
fopen64(const char *restrict path, const char *restrict mode)
{
	return fopen(path, mode);
}
