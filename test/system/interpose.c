/*
 * interpose.c
 *		Preloaded into a server by tests: names that resolve as wished, and a clock that jumps.
 *
 *		<hex>.addr.test		resolves to the address of those 4 or 16 bytes
 *		<any>.hang.test		is never resolved
 *		wall clock			is ahead by the seconds in the file that $TC_CLOCK names (one int64)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

typedef int (*Resolver)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
typedef int (*Clock)(clockid_t, struct timespec *);

static Clock real_clock = NULL; /* a sanitizer asks for the time before we are prepared */
static const volatile int64_t *ahead = NULL;

__attribute__((constructor)) static void
prepare(void)
{
	const char *file = getenv("TC_CLOCK");
	int fd = file != NULL ? open(file, O_RDONLY) : -1;

	real_clock = (Clock) dlsym(RTLD_NEXT, "clock_gettime");
	if (fd < 0)
		return;
	void *page = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
	if (page != MAP_FAILED)
		ahead = page;
	close(fd);
}

int
clock_gettime(clockid_t id, struct timespec *now)
{
	int result = real_clock != NULL ? real_clock(id, now) : (int) syscall(SYS_clock_gettime, id, now);

	if (id == CLOCK_REALTIME && ahead != NULL)
		now->tv_sec += *ahead;
	return result;
}

int
gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec precise;
	int result = clock_gettime(CLOCK_REALTIME, &precise);

	(void) zone;
	now->tv_sec = precise.tv_sec;
	now->tv_usec = precise.tv_nsec / 1000;
	return result;
}

static int
ends_with(const char *name, const char *end)
{
	size_t len = strlen(name);

	return len > strlen(end) && strcmp(name + len - strlen(end), end) == 0;
}

int
getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
			struct addrinfo **result)
{
	Resolver real = (Resolver) dlsym(RTLD_NEXT, "getaddrinfo");
	struct addrinfo numeric = {0};
	unsigned char bytes[16];
	char text[64];
	size_t n;

	if (name == NULL || (!ends_with(name, ".addr.test") && !ends_with(name, ".hang.test")))
		return real(name, service, hints, result);
	if (ends_with(name, ".hang.test"))
		for (;;)
			pause();
	n = (strlen(name) - strlen(".addr.test")) / 2;
	for (size_t i = 0; i < n && i < sizeof(bytes); i++)
	{
		char digits[3] = {name[2 * i], name[2 * i + 1], '\0'};

		bytes[i] = (unsigned char) strtol(digits, NULL, 16);
	}
	inet_ntop(n == 16 ? AF_INET6 : AF_INET, bytes, text, sizeof(text));
	if (hints != NULL)
		numeric = *hints;
	numeric.ai_flags = AI_NUMERICHOST;
	numeric.ai_family = AF_UNSPEC;
	return real(text, service, &numeric, result);
}
