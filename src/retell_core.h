/*
 * retell_core.h
 *		Retell AI: the signature header, its time window, and the names of events.  Pure C.
 */
#ifndef TC_RETELL_CORE_H
#define TC_RETELL_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TC_RETELL_DIGEST_LEN 32
#define TC_RETELL_WINDOW_MS 300000 /* the edge is still inside */
#define TC_RETELL_STAMP_MAX 19	   /* digits of an int64 */

/* What the header "v=<unix ms>,d=<64 hex>" says. */
typedef struct TcRetellSignature
{
	int64_t stamp_ms;
	char stamp[TC_RETELL_STAMP_MAX + 1]; /* the digits as they were signed */
	size_t stamplen;
	uint8_t digest[TC_RETELL_DIGEST_LEN];
} TcRetellSignature;

typedef enum TcRetellEvent
{
	TC_RETELL_OTHER,
	TC_RETELL_CALL_INBOUND,
	TC_RETELL_CALL_STARTED,
	TC_RETELL_CALL_ENDED,
	TC_RETELL_CALL_ANALYZED,
	TC_RETELL_TRANSCRIPT_UPDATED,
	TC_RETELL_TRANSFER_STARTED,
	TC_RETELL_TRANSFER_BRIDGED,
	TC_RETELL_TRANSFER_CANCELLED,
	TC_RETELL_TRANSFER_ENDED,
} TcRetellEvent;

/* Parses the whole header, of len bytes; false unless it is exactly of that form. */
extern bool tc_retell_signature_parse(const char *header, size_t len, TcRetellSignature *sig);

/* Was it made within the window around the time of receipt? */
extern bool tc_retell_fresh(const TcRetellSignature *sig, int64_t received_ms);

extern TcRetellEvent tc_retell_event(const char *name, size_t len);
extern const char *tc_retell_event_name(TcRetellEvent event);

#endif /* TC_RETELL_CORE_H */
