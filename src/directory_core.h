/*
 * directory_core.h
 *		A cache of phone numbers with bounded memory.  Pure C: memory is the caller's.
 */
#ifndef TC_DIRECTORY_CORE_H
#define TC_DIRECTORY_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is known of a number; also that nobody has it. */
typedef struct TcNumber
{
	int64_t phone;
	int64_t company_id;
	int64_t branch_id;
	int64_t phone_number_id;
	int64_t assigned_at;
} TcNumber;

typedef struct TcNumberSlot
{
	TcNumber number;	 /* company_id 0: nobody has it */
	uint32_t generation; /* 0: free; other than the cache's: forgotten */
	bool referenced;	 /* looked up since the hand passed */
} TcNumberSlot;

#define TC_NUMBER_WAYS 8

/* Numbers that hash alike share a set of slots; in each the least recently used makes place. */
typedef struct TcNumberCache
{
	TcNumberSlot *slots; /* nsets times TC_NUMBER_WAYS */
	size_t nsets;
	uint32_t generation;
	uint32_t hand;
} TcNumberCache;

/* How many sets hold that many numbers at least, and how many bytes they take. */
extern size_t tc_number_cache_sets(size_t numbers);
extern size_t tc_number_cache_bytes(size_t nsets);

/* Makes an empty cache in memory of that many bytes. */
extern void tc_number_cache_init(TcNumberCache *cache, void *memory, size_t nsets);

/* Forgets all. */
extern void tc_number_cache_clear(TcNumberCache *cache);

/* NULL: not known.  The result is good until the next put. */
extern const TcNumber *tc_number_cache_find(TcNumberCache *cache, int64_t phone);

/* Keeps what is known of a number; true if another one had to make place. */
extern bool tc_number_cache_put(TcNumberCache *cache, const TcNumber *number);

/* Keeps what another cache knows. */
extern void tc_number_cache_take_over(TcNumberCache *cache, const TcNumberCache *from);

#endif /* TC_DIRECTORY_CORE_H */
