/*
 * inbound_request.h
 *		The inbound webhook's requests, and which call each became.
 */
#ifndef TC_INBOUND_REQUEST_H
#define TC_INBOUND_REQUEST_H

#include "postgres.h"

#include "calls.h"
#include "codec_core.h"
#include "delivery.h"
#include "key.h"

#define TC_TOKEN_PREFIX "tc1_"
#define TC_TOKEN_LEN (sizeof(TC_TOKEN_PREFIX) - 1 + 32)

/* The member of the call's metadata that carries the token. */
#define TC_TOKEN_MEMBER "tenantcall"

/* What identifies a request. */
typedef struct TcInboundId
{
	char token[TC_TOKEN_LEN + 1];		   /* handed out in the answer, never stored */
	char correlation[2 * TC_HMAC_LEN + 1]; /* stored: SHA-256 of the token, in hex */
} TcInboundId;

/* A request that was answered before. */
typedef struct TcInboundRequest
{
	char *outcome;
	Datum answer; /* jsonb, without the token; (Datum) 0: none was kept */
} TcInboundRequest;

/* The same delivery, byte for byte, is the same request. */
extern void tc_inbound_identify(const TcDelivery *delivery, const char *signature, TcInboundId *id);

/* The company's request of that id, as of now; false if there is none. */
extern bool tc_inbound_find(int64 company_id, const TcInboundId *id, TcInboundRequest *request);

/* Keeps what was answered; acting for the company. */
extern void tc_inbound_keep(const TcDelivery *delivery, const TcPlacement *placement,
							const TcInboundId *id, const TcInboundRequest *request,
							int64 decision_id);

/*
 * Finds out which request became the call of an event that was merged, if this event tells, and
 * records it.  The correlation of a request that was matched now, or NULL; what is wrong with the
 * event's token becomes the reason of *merged.  Acting for the company, holding the call's row.
 */
extern const char *tc_inbound_match(const TcDelivery *delivery, const TcPlacement *placement,
									TcMergeResult *merged);

#endif /* TC_INBOUND_REQUEST_H */
