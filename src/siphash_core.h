/*
 * siphash_core.h
 *		SipHash-2-4 (Aumasson, Bernstein): a keyed hash that nobody without the key can forge or
 *		aim.  Pure C.
 */
#ifndef TC_SIPHASH_CORE_H
#define TC_SIPHASH_CORE_H

#include <stddef.h>
#include <stdint.h>

#define TC_SIPHASH_KEY 16
#define TC_SIPHASH_TAG 16

/* 64 bits, for tables. */
extern uint64_t tc_siphash64(const uint8_t key[TC_SIPHASH_KEY], const void *data, size_t len);
/* 128 bits, to authenticate. */
extern void tc_siphash128(const uint8_t key[TC_SIPHASH_KEY], const void *data, size_t len,
						  uint8_t tag[TC_SIPHASH_TAG]);

#endif /* TC_SIPHASH_CORE_H */
