/*
 * calcom_webhook_core.c
 *		Cal.com: the body of a webhook.
 */
#include "calcom_webhook_core.h"

#include <string.h>

#include "calcom_read_core.h"

static const char *const trigger_names[] = {
	[TC_CALCOM_OTHER] = "",
	[TC_CALCOM_BOOKING_CREATED] = "BOOKING_CREATED",
	[TC_CALCOM_BOOKING_REQUESTED] = "BOOKING_REQUESTED",
	[TC_CALCOM_BOOKING_RESCHEDULED] = "BOOKING_RESCHEDULED",
	[TC_CALCOM_BOOKING_CANCELLED] = "BOOKING_CANCELLED",
	[TC_CALCOM_BOOKING_REJECTED] = "BOOKING_REJECTED",
	[TC_CALCOM_BOOKING_PAID] = "BOOKING_PAID",
	[TC_CALCOM_BOOKING_NO_SHOW] = "BOOKING_NO_SHOW_UPDATED",
	[TC_CALCOM_MEETING_STARTED] = "MEETING_STARTED",
	[TC_CALCOM_MEETING_ENDED] = "MEETING_ENDED",
};

#define N_TRIGGERS ((int) (sizeof(trigger_names) / sizeof(trigger_names[0])))

_Static_assert(N_TRIGGERS == TC_CALCOM_MEETING_ENDED + 1, "every trigger has a name");

/* The trigger of that name. */
static TcCalcomTrigger
trigger_of(const char *name)
{
	for (int i = TC_CALCOM_OTHER + 1; i < N_TRIGGERS; i++)
		if (strcmp(name, trigger_names[i]) == 0)
			return (TcCalcomTrigger) i;
	return TC_CALCOM_OTHER;
}

/* Reads the uid, which one trigger names otherwise. */
static bool
read_uid(const TcJsonMember *payload, TcCalcomWebhook *webhook)
{
	if (!tc_calcom_read_text(payload, "uid", webhook->uid, sizeof(webhook->uid)))
		return false;
	return webhook->uid[0] != '\0' ||
		   tc_calcom_read_text(payload, "bookingUid", webhook->uid, sizeof(webhook->uid));
}

/* Reads the status into lower case, as the API's answers have it. */
static bool
read_status(const TcJsonMember *payload, TcCalcomWebhook *webhook)
{
	if (!tc_calcom_read_text(payload, "status", webhook->status, sizeof(webhook->status)))
		return false;
	for (char *c = webhook->status; *c != '\0'; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c += 'a' - 'A';
	return true;
}

/* Reads what the webhook says of the booking. */
static bool
read_payload(const TcJsonMember *payload, TcCalcomWebhook *webhook)
{
	return read_uid(payload, webhook) && read_status(payload, webhook) &&
		   tc_calcom_read_integer(payload, "bookingId", &webhook->booking_id) &&
		   tc_calcom_read_integer(payload, "eventTypeId", &webhook->event_type_id) &&
		   tc_calcom_read_time(payload, "startTime", &webhook->start) &&
		   tc_calcom_read_time(payload, "endTime", &webhook->end) &&
		   tc_calcom_read_text(payload, "rescheduleUid", webhook->reschedule_uid,
							   sizeof(webhook->reschedule_uid)) &&
		   tc_calcom_read_time(payload, "rescheduleStartTime", &webhook->reschedule_start) &&
		   tc_calcom_read_time(payload, "rescheduleEndTime", &webhook->reschedule_end);
}

/* Nothing said yet. */
static void
clear(TcCalcomWebhook *webhook)
{
	memset(webhook, 0, sizeof(*webhook));
	webhook->created_at = webhook->start = webhook->end = TC_TIME_NONE;
	webhook->reschedule_start = webhook->reschedule_end = TC_TIME_NONE;
}

/* Reads the trigger and the time; the rest is nothing yet. */
static bool
read_head(const TcJsonMember *root, TcCalcomWebhook *webhook)
{
	clear(webhook);
	if (!tc_calcom_read_text(root, "triggerEvent", webhook->trigger_name,
							 sizeof(webhook->trigger_name)) ||
		webhook->trigger_name[0] == '\0' ||
		!tc_calcom_read_time(root, "createdAt", &webhook->created_at))
	{
		clear(webhook);
		return false;
	}
	webhook->trigger = trigger_of(webhook->trigger_name);
	return true;
}

/* Reads a webhook; of a trigger that is not known, the payload may be anything. */
TcCalcomParse
tc_calcom_parse_webhook(const char *body, size_t len, const char *key, TcCalcomWebhook *webhook)
{
	TcJsonMember root;
	TcJsonMember payload;

	clear(webhook);
	if (!tc_json_value(body, len, &root))
		return TC_CALCOM_NOT_JSON;
	if (!read_head(&root, webhook))
		return TC_CALCOM_WRONG_SHAPE;
	if (!tc_json_get(&root, "payload", &payload))
		payload = root;
	if (payload.kind == TC_JSON_OBJECT && read_payload(&payload, webhook))
	{
		tc_calcom_read_mark(&payload, key, webhook->mark, sizeof(webhook->mark));
		return TC_CALCOM_PARSED;
	}
	(void) read_head(&root, webhook);
	return webhook->trigger == TC_CALCOM_OTHER ? TC_CALCOM_PARSED : TC_CALCOM_WRONG_SHAPE;
}

/* Does the trigger change what is free? */
bool
tc_calcom_moves_slots(TcCalcomTrigger trigger)
{
	switch (trigger)
	{
		case TC_CALCOM_BOOKING_CREATED:
		case TC_CALCOM_BOOKING_REQUESTED:
		case TC_CALCOM_BOOKING_RESCHEDULED:
		case TC_CALCOM_BOOKING_CANCELLED:
		case TC_CALCOM_BOOKING_REJECTED:
			return true;
		default:
			return false;
	}
}
