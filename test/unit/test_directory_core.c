/*
 * test_directory_core.c
 *		The cache of numbers: what it keeps, what it gives up, what it forgets.
 */
#include "directory_core.h"

#include <stdlib.h>

#include "unit.h"

/* A number whose other columns follow from it. */
static TcNumber
number(int64_t phone)
{
	return (TcNumber){phone, phone + 1, phone + 2, phone + 3, phone + 4};
}

/* A cache with room for that many; the memory is the caller's to free. */
static TcNumberCache
make(size_t numbers)
{
	TcNumberCache cache;
	size_t nsets = tc_number_cache_sets(numbers);

	tc_number_cache_init(&cache, malloc(tc_number_cache_bytes(nsets)), nsets);
	return cache;
}

/* How many of the first n numbers are known; what is known is right. */
static int
count_known(TcNumberCache *cache, int n)
{
	int known = 0;

	for (int i = 0; i < n; i++)
	{
		const TcNumber *found = tc_number_cache_find(cache, i);

		if (found == NULL)
			continue;
		known++;
		CHECK(found->phone == i && found->company_id == i + 1 && found->branch_id == i + 2);
		CHECK(found->phone_number_id == i + 3 && found->assigned_at == i + 4);
	}
	return known;
}

/* What was put is found, what was not is not; 0 and negative numbers are no special case. */
static void
keeps(void)
{
	TcNumberCache cache = make(1000);

	CHECK(tc_number_cache_find(&cache, 0) == NULL);
	for (int i = 0; i < 100; i++)
	{
		TcNumber one = number(i);

		CHECK(!tc_number_cache_put(&cache, &one));
		CHECK(!tc_number_cache_put(&cache, &one));
	}
	CHECK_INT(count_known(&cache, 1000), 100);
	CHECK(tc_number_cache_find(&cache, -1) == NULL);
	free(cache.slots);
}

/* A number put again replaces itself. */
static void
replaces(void)
{
	TcNumberCache cache = make(8);
	TcNumber one = number(5);

	tc_number_cache_put(&cache, &one);
	one.company_id = 0;
	CHECK(!tc_number_cache_put(&cache, &one));
	CHECK(tc_number_cache_find(&cache, 5)->company_id == 0);
	free(cache.slots);
}

/* However many are put, memory stays: as many are known as there are slots, and those are right. */
static void
bounded(void)
{
	TcNumberCache cache = make(64);
	bool evicted = false;

	for (int i = 0; i < 10000; i++)
	{
		TcNumber one = number(i);

		evicted |= tc_number_cache_put(&cache, &one);
	}
	CHECK(evicted);
	CHECK_INT(count_known(&cache, 10000), 64);
	free(cache.slots);
}

/* What is looked up all the time stays, whatever else passes by. */
static void
keeps_what_is_used(void)
{
	TcNumberCache cache = make(8);
	TcNumber used = number(1);

	tc_number_cache_put(&cache, &used);
	for (int i = 2; i < 1000; i++)
	{
		TcNumber one = number(i);

		CHECK(tc_number_cache_find(&cache, 1) != NULL);
		tc_number_cache_put(&cache, &one);
	}
	free(cache.slots);
}

/* After clear() nothing is known, also when the generations begin anew. */
static void
forgets(void)
{
	TcNumberCache cache = make(100);
	TcNumber one = number(1);

	tc_number_cache_put(&cache, &one);
	tc_number_cache_clear(&cache);
	CHECK(tc_number_cache_find(&cache, 1) == NULL);
	tc_number_cache_put(&cache, &one);
	CHECK(tc_number_cache_find(&cache, 1) != NULL);
	cache.generation = UINT32_MAX;
	tc_number_cache_clear(&cache);
	CHECK(tc_number_cache_find(&cache, 1) == NULL);
	CHECK(tc_number_cache_find(&cache, 0) == NULL);
	free(cache.slots);
}

/* A larger cache takes over what a smaller one knows, and not what that has forgotten. */
static void
takes_over(void)
{
	TcNumberCache small = make(64);
	TcNumberCache large = make(4096);

	for (int i = 0; i < 20; i++)
	{
		TcNumber one = number(i);

		if (i == 5)
			tc_number_cache_clear(&small);
		tc_number_cache_put(&small, &one);
	}
	tc_number_cache_take_over(&large, &small);
	CHECK_INT(count_known(&large, 20), 15);
	free(small.slots);
	free(large.slots);
}

/* Runs all. */
int
main(void)
{
	RUN(keeps);
	RUN(replaces);
	RUN(bounded);
	RUN(keeps_what_is_used);
	RUN(forgets);
	RUN(takes_over);
	return unit_summary();
}
