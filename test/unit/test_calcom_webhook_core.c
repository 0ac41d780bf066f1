/*
 * test_calcom_webhook_core.c
 *		Webhooks in their several forms.
 */
#include "calcom_webhook_core.h"
#include "time_core.h"
#include "unit.h"
#include "unit_fixture.h"

static TcCalcomWebhook webhook;

static TcCalcomParse
parse(const char *body)
{
	return tc_calcom_parse_webhook(body, strlen(body), "tenantcall_key", &webhook);
}

static TcCalcomParse
parse_fixture(const char *name)
{
	const Fixture *body = fixture(name);

	return tc_calcom_parse_webhook(body->text, body->len, "tenantcall_key", &webhook);
}

static const char *
printed(int64_t time)
{
	static char text[TC_TIME_ISO_LEN + 1];

	(void) tc_time_print_iso(time, text);
	return text;
}

static void
created(void)
{
	CHECK_INT(parse_fixture("calcom/webhook_booking_created.json"), TC_CALCOM_PARSED);
	CHECK_INT(webhook.trigger, TC_CALCOM_BOOKING_CREATED);
	CHECK_STR(webhook.trigger_name, "BOOKING_CREATED");
	CHECK_STR(webhook.uid, "unique-booking-id");
	CHECK_STR(webhook.reschedule_uid, "");
	CHECK_INT(webhook.booking_id, 200);
	CHECK_INT(webhook.event_type_id, 100);
	CHECK_STR(webhook.status, "accepted");
	CHECK_STR(webhook.mark, "");
	CHECK_STR(printed(webhook.created_at), "2024-01-01T00:00:00.000Z");
	CHECK_STR(printed(webhook.start), "2024-01-05T14:30:00.000Z");
	CHECK_STR(printed(webhook.end), "2024-01-05T14:45:00.000Z");
	CHECK_INT(webhook.reschedule_start, TC_TIME_NONE);
}

static void
rescheduled(void)
{
	CHECK_INT(parse_fixture("calcom/webhook_booking_rescheduled.json"), TC_CALCOM_PARSED);
	CHECK_INT(webhook.trigger, TC_CALCOM_BOOKING_RESCHEDULED);
	CHECK_STR(webhook.uid, "new-booking-unique-id");
	CHECK_STR(webhook.reschedule_uid, "previous-booking-unique-id");
	CHECK_STR(printed(webhook.start), "2024-01-10T14:30:00.000Z");
	CHECK_STR(printed(webhook.reschedule_start), "2024-01-05T14:30:00.000Z");
	CHECK_STR(printed(webhook.reschedule_end), "2024-01-05T14:45:00.000Z");
}

static void
other_forms(void)
{
	CHECK_INT(
		parse("{\"triggerEvent\":\"MEETING_STARTED\",\"createdAt\":\"2024-01-01T00:00:00.000Z\","
			  "\"uid\":\"u1\",\"eventTypeId\":5,\"startTime\":\"2024-01-05T14:30:00+00:00\","
			  "\"status\":\"ACCEPTED\",\"metadata\":{\"tenantcall_key\":\"k1\"}}"),
		TC_CALCOM_PARSED);
	CHECK_INT(webhook.trigger, TC_CALCOM_MEETING_STARTED);
	CHECK_STR(webhook.uid, "u1");
	CHECK_STR(webhook.mark, "k1");
	CHECK_STR(printed(webhook.start), "2024-01-05T14:30:00.000Z");
	CHECK_INT(
		parse("{\"triggerEvent\":\"BOOKING_NO_SHOW_UPDATED\",\"payload\":{\"bookingUid\":\"u2\"}}"),
		TC_CALCOM_PARSED);
	CHECK_INT(webhook.trigger, TC_CALCOM_BOOKING_NO_SHOW);
	CHECK_STR(webhook.uid, "u2");
	CHECK_INT(webhook.created_at, TC_TIME_NONE);
	CHECK(tc_calcom_moves_slots(TC_CALCOM_BOOKING_CANCELLED));
	CHECK(!tc_calcom_moves_slots(TC_CALCOM_MEETING_STARTED));
	CHECK(!tc_calcom_moves_slots(TC_CALCOM_OTHER));
}

/* A trigger that is not known is kept whatever its payload; one that is must be readable. */
static void
unknown_triggers(void)
{
	CHECK_INT(parse("{\"triggerEvent\":\"OOO_CREATED\",\"payload\":[1,2]}"), TC_CALCOM_PARSED);
	CHECK_INT(webhook.trigger, TC_CALCOM_OTHER);
	CHECK_STR(webhook.trigger_name, "OOO_CREATED");
	CHECK_INT(parse(
				  "{\"triggerEvent\":\"FORM_SUBMITTED\",\"payload\":{\"uid\":\"u\",\"status\":7}}"),
			  TC_CALCOM_PARSED);
	CHECK_STR(webhook.uid, "");
	CHECK_INT(parse("{\"triggerEvent\":\"BOOKING_CREATED\",\"payload\":[1,2]}"),
			  TC_CALCOM_WRONG_SHAPE);
	CHECK_INT(parse("{\"triggerEvent\":\"BOOKING_CREATED\",\"payload\":{\"startTime\":\"x\"}}"),
			  TC_CALCOM_WRONG_SHAPE);
}

static void
no_webhook(void)
{
	CHECK_INT(parse(""), TC_CALCOM_NOT_JSON);
	CHECK_INT(parse("{}"), TC_CALCOM_WRONG_SHAPE);
	CHECK_INT(parse("[]"), TC_CALCOM_WRONG_SHAPE);
	CHECK_INT(parse("{\"triggerEvent\":1}"), TC_CALCOM_WRONG_SHAPE);
	CHECK_INT(parse("{\"triggerEvent\":\"\"}"), TC_CALCOM_WRONG_SHAPE);
	CHECK_INT(parse("{\"triggerEvent\":\"BOOKING_CREATED\",\"payload\":{\"uid\":1}}"),
			  TC_CALCOM_WRONG_SHAPE);
	CHECK_INT(parse("{\"triggerEvent\":\"BOOKING_CREATED\",\"createdAt\":\"now\"}"),
			  TC_CALCOM_WRONG_SHAPE);
	CHECK_STR(webhook.trigger_name, "");
}

int
main(void)
{
	RUN(created);
	RUN(rescheduled);
	RUN(other_forms);
	RUN(unknown_triggers);
	RUN(no_webhook);
	return unit_summary();
}
