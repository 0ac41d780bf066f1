/*
 * directory_core.c
 *		A cache of phone numbers with bounded memory.
 *
 *		set 0: | slot | slot | ... 8 |     a number is in the set that its hash says, in any slot
 *		set 1: | slot | slot | ... 8 |
 *		...
 *
 * A set is full sooner or later; then the hand goes round it, passes over slots that were looked
 * up since it came by last (clearing the mark), and takes the first other one.  Memory is what the
 * sets take, however many numbers are asked for.  Forgetting all is one new generation.
 */
#include "directory_core.h"

#include <string.h>

/* Mixes all bits of the number into all bits of the result (the finalizer of MurmurHash3). */
static uint64_t
mix(uint64_t value)
{
	value ^= value >> 33;
	value *= UINT64_C(0xff51afd7ed558ccd);
	value ^= value >> 33;
	value *= UINT64_C(0xc4ceb9fe1a85ec53);
	return value ^ (value >> 33);
}

/* The set of a number. */
static TcNumberSlot *
set_of(const TcNumberCache *cache, int64_t phone)
{
	return &cache->slots[(mix((uint64_t) phone) % cache->nsets) * TC_NUMBER_WAYS];
}

/* How many sets hold that many numbers at least. */
size_t
tc_number_cache_sets(size_t numbers)
{
	return (numbers + TC_NUMBER_WAYS - 1) / TC_NUMBER_WAYS;
}

/* How many bytes they take. */
size_t
tc_number_cache_bytes(size_t nsets)
{
	return nsets * TC_NUMBER_WAYS * sizeof(TcNumberSlot);
}

/* Makes an empty cache. */
void
tc_number_cache_init(TcNumberCache *cache, void *memory, size_t nsets)
{
	memset(memory, 0, tc_number_cache_bytes(nsets));
	cache->slots = memory;
	cache->nsets = nsets;
	cache->generation = 1;
	cache->hand = 0;
}

/* Forgets all. */
void
tc_number_cache_clear(TcNumberCache *cache)
{
	cache->generation++;
	if (cache->generation == 0)
		tc_number_cache_init(cache, cache->slots, cache->nsets);
}

/* What is known of a number. */
const TcNumber *
tc_number_cache_find(TcNumberCache *cache, int64_t phone)
{
	TcNumberSlot *set = set_of(cache, phone);

	for (int i = 0; i < TC_NUMBER_WAYS; i++)
	{
		if (set[i].number.phone == phone && set[i].generation == cache->generation)
		{
			set[i].referenced = true;
			return &set[i].number;
		}
	}
	return NULL;
}

/* The slot of a set that is free, or is to make place. */
static TcNumberSlot *
make_place(TcNumberCache *cache, TcNumberSlot *set)
{
	TcNumberSlot *slot;

	for (int i = 0; i < TC_NUMBER_WAYS; i++)
	{
		if (set[i].generation != cache->generation)
			return &set[i];
	}
	do
	{
		slot = &set[cache->hand++ % TC_NUMBER_WAYS];
		if (!slot->referenced)
			return slot;
		slot->referenced = false;
	} while (true);
}

/* Keeps what is known of a number. */
bool
tc_number_cache_put(TcNumberCache *cache, const TcNumber *number)
{
	TcNumberSlot *set = set_of(cache, number->phone);
	TcNumberSlot *slot = NULL;
	bool evicts;

	for (int i = 0; i < TC_NUMBER_WAYS && slot == NULL; i++)
	{
		if (set[i].number.phone == number->phone)
			slot = &set[i];
	}
	if (slot == NULL)
		slot = make_place(cache, set);
	evicts = slot->generation == cache->generation && slot->number.phone != number->phone;
	slot->number = *number;
	slot->generation = cache->generation;
	slot->referenced = false;
	return evicts;
}

/* Keeps what another cache knows. */
void
tc_number_cache_take_over(TcNumberCache *cache, const TcNumberCache *from)
{
	for (size_t i = 0; i < from->nsets * TC_NUMBER_WAYS; i++)
	{
		if (from->slots[i].generation == from->generation)
			(void) tc_number_cache_put(cache, &from->slots[i].number);
	}
}
