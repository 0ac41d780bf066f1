/*
 * siphash_core.c
 *		SipHash-2-4 as its authors specify it, with 64 and 128 bits of output.
 */
#include "siphash_core.h"

#include <string.h>

typedef struct State
{
	uint64_t v0, v1, v2, v3;
} State;

/* The word rotated left. */
static inline uint64_t
rotated(uint64_t word, int by)
{
	return (word << by) | (word >> (64 - by));
}

/* So many rounds of mixing. */
static inline void
mix(State *s, int rounds)
{
	while (rounds-- > 0)
	{
		s->v0 += s->v1;
		s->v1 = rotated(s->v1, 13) ^ s->v0;
		s->v0 = rotated(s->v0, 32);
		s->v2 += s->v3;
		s->v3 = rotated(s->v3, 16) ^ s->v2;
		s->v0 += s->v3;
		s->v3 = rotated(s->v3, 21) ^ s->v0;
		s->v2 += s->v1;
		s->v1 = rotated(s->v1, 17) ^ s->v2;
		s->v2 = rotated(s->v2, 32);
	}
}

/* Up to eight bytes as a little-endian word. */
static inline uint64_t
word_of(const uint8_t *bytes, size_t len)
{
	uint64_t word = 0;

	while (len-- > 0)
		word = (word << 8) | bytes[len];
	return word;
}

/* Writes a little-endian word. */
static inline void
put_word(uint64_t word, uint8_t *bytes)
{
	int i;

	for (i = 0; i < 8; i++)
		bytes[i] = (uint8_t) (word >> (8 * i));
}

/* Takes the key and all data in. */
static void
absorb(State *s, const uint8_t *key, const uint8_t *data, size_t len)
{
	uint64_t k0 = word_of(key, 8);
	uint64_t k1 = word_of(key + 8, 8);
	uint64_t word = 0;
	size_t done;

	s->v0 ^= k0 ^ UINT64_C(0x736f6d6570736575);
	s->v1 ^= k1 ^ UINT64_C(0x646f72616e646f6d);
	s->v2 ^= k0 ^ UINT64_C(0x6c7967656e657261);
	s->v3 ^= k1 ^ UINT64_C(0x7465646279746573);
	for (done = 0; done <= len; done += 8)
	{
		size_t left = len - done;

		word = left >= 8 ? word_of(data + done, 8)
						 : (left > 0 ? word_of(data + done, left) : 0) | (uint64_t) len << 56;
		s->v3 ^= word;
		mix(s, 2);
		s->v0 ^= word;
	}
}

/* 64 bits, for tables. */
uint64_t
tc_siphash64(const uint8_t key[TC_SIPHASH_KEY], const void *data, size_t len)
{
	State s = {0, 0, 0, 0};

	absorb(&s, key, data, len);
	s.v2 ^= 0xff;
	mix(&s, 4);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

/* 128 bits, to authenticate. */
void
tc_siphash128(const uint8_t key[TC_SIPHASH_KEY], const void *data, size_t len,
			  uint8_t tag[TC_SIPHASH_TAG])
{
	State s = {0, 0xee, 0, 0};

	absorb(&s, key, data, len);
	s.v2 ^= 0xee;
	mix(&s, 4);
	put_word(s.v0 ^ s.v1 ^ s.v2 ^ s.v3, tag);
	s.v1 ^= 0xdd;
	mix(&s, 4);
	put_word(s.v0 ^ s.v1 ^ s.v2 ^ s.v3, tag + 8);
}
