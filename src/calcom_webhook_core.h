/*
 * calcom_webhook_core.h
 *		Cal.com: the body of a webhook.  Pure C.
 */
#ifndef TC_CALCOM_WEBHOOK_CORE_H
#define TC_CALCOM_WEBHOOK_CORE_H

#include "calcom_booking_core.h"

#define TC_CALCOM_TRIGGER 64 /* bytes of a trigger's name, with the final zero */

typedef enum TcCalcomTrigger
{
	TC_CALCOM_OTHER, /* a trigger that is not known here: kept raw, and no error */
	TC_CALCOM_BOOKING_CREATED,
	TC_CALCOM_BOOKING_REQUESTED,
	TC_CALCOM_BOOKING_RESCHEDULED,
	TC_CALCOM_BOOKING_CANCELLED,
	TC_CALCOM_BOOKING_REJECTED,
	TC_CALCOM_BOOKING_PAID,
	TC_CALCOM_BOOKING_NO_SHOW,
	TC_CALCOM_MEETING_STARTED,
	TC_CALCOM_MEETING_ENDED,
} TcCalcomTrigger;

/* What a webhook says; strings are empty, numbers 0, times TC_TIME_NONE when absent. */
typedef struct TcCalcomWebhook
{
	TcCalcomTrigger trigger;
	char trigger_name[TC_CALCOM_TRIGGER]; /* as the vendor wrote it */
	int64_t created_at;
	int64_t booking_id;
	int64_t event_type_id;
	int64_t start;
	int64_t end;
	int64_t reschedule_start; /* of the booking that was replaced */
	int64_t reschedule_end;
	char uid[TC_CALCOM_UID];			/* uid or bookingUid */
	char reschedule_uid[TC_CALCOM_UID]; /* of the booking that was replaced */
	char status[TC_CALCOM_STATUS];		/* in lower case, as the API writes it */
	char mark[TC_CALCOM_MARK];			/* metadata[key] of the key that was asked for */
} TcCalcomWebhook;

/*
 * Reads {triggerEvent, createdAt, payload: {…}}, or the flat form without payload (MEETING_…).
 * WRONG_SHAPE when there is no trigger, or a member has another type than it should.
 */
extern TcCalcomParse tc_calcom_parse_webhook(const char *body, size_t len, const char *key,
											 TcCalcomWebhook *webhook);

/* Does the trigger change what is free? */
extern bool tc_calcom_moves_slots(TcCalcomTrigger trigger);

#endif /* TC_CALCOM_WEBHOOK_CORE_H */
