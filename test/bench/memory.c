/*
 * memory.c
 *		What memory costs on this machine: random accesses, and copying.
 *
 *		memory MEGABYTES      prints "name nanoseconds" or "name GB/s" a line
 *
 * Random accesses depend on each other, as those of requests that come one after the other do:
 * each reads a cache line whose number follows from what was read before.  Pages are shared between
 * processes, as a server's are.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1; unknown elsewhere, and then refused */
#endif

#define LINE 64
#define HUGE ((size_t) 2 << 20)
#define ACCESSES 2000000
#define COPIES 5

/* Where the processor is found busy: time of others on it does not count. */
static double
cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

/* A number that follows from another one, spread over all 64 bits. */
static inline uint64_t
mix(uint64_t n)
{
	n = (n ^ (n >> 31)) * UINT64_C(0x9e3779b97f4a7c15);
	n = (n ^ (n >> 29)) * UINT64_C(0xc6a4a7935bd1e995);
	return n ^ (n >> 32);
}

/* Nanoseconds of an access: reading some neighbouring lines, or adding to one atomically. */
static double
accesses(unsigned char *memory, size_t lines, int neighbours, int adds)
{
	static uint64_t seed = 0;
	uint64_t read = 0;
	double begin = cpu_ns();

	for (int i = 0; i < ACCESSES; i++)
	{
		size_t line = (size_t) (((unsigned __int128) mix(++seed + read) * (lines - 1)) >> 64);
		volatile uint64_t *word = (volatile uint64_t *) (memory + line * LINE);

		if (adds)
			read = __atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST) >> 63;
		else
			read = *word >> 63;
		if (neighbours)
			read += word[LINE / sizeof(uint64_t)] >> 63;
	}
	return (cpu_ns() - begin) / ACCESSES;
}

/* Shared memory at a huge page's border; NULL if there is none. */
static unsigned char *
allocate(size_t size)
{
	unsigned char *space =
		mmap(NULL, size + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *start;

	if (space == MAP_FAILED)
		return NULL;
	start = (unsigned char *) (((uintptr_t) space + HUGE - 1) & ~(HUGE - 1));
	start = mmap(start, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (start == MAP_FAILED)
		return NULL;
	memset(start, 0, size);
	return start;
}

/* Prints what random accesses cost in so much memory. */
static void
measure(const char *pages, unsigned char *memory, size_t size)
{
	printf("%s, one line %.1f\n", pages, accesses(memory, size / LINE, 0, 0));
	printf("%s, two neighbouring lines %.1f\n", pages, accesses(memory, size / LINE, 1, 0));
	printf("%s, atomic addition %.1f\n", pages, accesses(memory, size / LINE, 0, 1));
}

int
main(int argc, char **argv)
{
	size_t size = (argc > 1 ? strtoul(argv[1], NULL, 10) : 110) << 20;
	unsigned char *memory = allocate(size);
	double begin;

	if (memory == NULL || size < HUGE)
		return 1;
	measure("cached", memory, 16384);
	measure("pages of 4 kB", memory, size);
	if (madvise(memory, size, MADV_COLLAPSE) == 0)
		measure("huge pages", memory, size);
	begin = cpu_ns();
	for (int i = 0; i < COPIES; i++)
		memcpy(memory, memory + size / 2, size / 2);
	printf("copying %.1f\n", (double) size / 2 * COPIES / (cpu_ns() - begin));
	return 0;
}
