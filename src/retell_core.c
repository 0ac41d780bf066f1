/*
 * retell_core.c
 *		Retell AI: the signature header, its time window, and the names of events.
 *
 * x-retell-signature: v=<unix ms>,d=<64 hex>.  The header is matched as a whole.  The time is
 * signed as text, so its digits are kept as they came; a leading zero or sign is no number that
 * the vendor writes.  Hex is accepted in either case (the vendor writes lower case, proxies and
 * other signers may not): it is the decoded digest that is compared.
 */
#include "retell_core.h"

#include <string.h>

#include "codec_core.h"

static const char *const event_names[] = {
	[TC_RETELL_OTHER] = "other",
	[TC_RETELL_CALL_INBOUND] = "call_inbound",
	[TC_RETELL_CALL_STARTED] = "call_started",
	[TC_RETELL_CALL_ENDED] = "call_ended",
	[TC_RETELL_CALL_ANALYZED] = "call_analyzed",
	[TC_RETELL_TRANSCRIPT_UPDATED] = "transcript_updated",
	[TC_RETELL_TRANSFER_STARTED] = "transfer_started",
	[TC_RETELL_TRANSFER_BRIDGED] = "transfer_bridged",
	[TC_RETELL_TRANSFER_CANCELLED] = "transfer_cancelled",
	[TC_RETELL_TRANSFER_ENDED] = "transfer_ended",
};

#define N_EVENTS (sizeof(event_names) / sizeof(event_names[0]))

_Static_assert(N_EVENTS == TC_RETELL_TRANSFER_ENDED + 1, "every event has a name");

/* Reads the decimal stamp at the start of text; returns its length, 0 when there is none. */
static size_t
parse_stamp(const char *text, size_t len, int64_t *value)
{
	int64_t stamp = 0;
	size_t n = 0;

	while (n < len && text[n] >= '0' && text[n] <= '9')
	{
		int digit = text[n] - '0';

		if (n > 0 && stamp == 0)
			return 0;
		if (__builtin_mul_overflow(stamp, 10, &stamp) ||
			__builtin_add_overflow(stamp, digit, &stamp))
			return 0;
		n++;
	}
	*value = stamp;
	return n;
}

/* Parses the whole header. */
bool
tc_retell_signature_parse(const char *header, size_t len, TcRetellSignature *sig)
{
	const char *end = header + len;

	memset(sig, 0, sizeof(*sig));
	if (len < 2 || memcmp(header, "v=", 2) != 0)
		return false;
	header += 2;
	sig->stamplen = parse_stamp(header, end - header, &sig->stamp_ms);
	if (sig->stamplen == 0)
		return false;
	memcpy(sig->stamp, header, sig->stamplen);
	header += sig->stamplen;
	if (end - header < 3 || memcmp(header, ",d=", 3) != 0)
		return false;
	header += 3;
	return tc_hex_decode(header, end - header, sig->digest, TC_RETELL_DIGEST_LEN);
}

/* Was it made within the window around the time of receipt? */
bool
tc_retell_fresh(const TcRetellSignature *sig, int64_t received_ms)
{
	int64_t age;

	if (__builtin_sub_overflow(received_ms, sig->stamp_ms, &age))
		return false;
	return age >= -TC_RETELL_WINDOW_MS && age <= TC_RETELL_WINDOW_MS;
}

/* The event of that name; an unknown name is "other". */
TcRetellEvent
tc_retell_event(const char *name, size_t len)
{
	for (size_t i = TC_RETELL_OTHER + 1; i < N_EVENTS; i++)
		if (strlen(event_names[i]) == len && memcmp(event_names[i], name, len) == 0)
			return (TcRetellEvent) i;
	return TC_RETELL_OTHER;
}

/* The event's name as the vendor writes it. */
const char *
tc_retell_event_name(TcRetellEvent event)
{
	return event_names[event];
}
