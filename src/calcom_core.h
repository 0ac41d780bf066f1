/*
 * calcom_core.h
 *		Cal.com: the webhook's signature header.  Pure C.
 */
#ifndef TC_CALCOM_CORE_H
#define TC_CALCOM_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TC_CALCOM_DIGEST_LEN 32

/* Parses the whole header, 64 hex digits; false for all else, "no-secret-provided" included. */
extern bool tc_calcom_signature_parse(const char *header, size_t len,
									  uint8_t digest[TC_CALCOM_DIGEST_LEN]);

#endif /* TC_CALCOM_CORE_H */
