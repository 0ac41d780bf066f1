/*
 * calcom_elsewhere.c
 *		Bookings that were made in the calendar, and not by us.
 *
 *		event type --> service, branch, credential of the company --> appointment, and a seat
 *
 * They take seats like our own, so that hold_slot() refuses what the calendar has given away; where
 * all seats are taken, one beyond the capacity.
 *
 * Locks: rows of slot_holds.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "act.h"
#include "calcom_elsewhere.h"
#include "holds.h"
#include "time_core.h"
#include "unix_time.h"

/* The service that has the event type; the branch if only one has it so. */
static TcStatement find_service = {
	.sql = "WITH match AS (SELECT o.service_id, o.branch_id FROM @.branch_services AS o "
		   "WHERE o.company_id = $1 AND o.calcom_event_type_id = $2 "
		   "UNION ALL SELECT s.service_id, NULL FROM @.services AS s "
		   "WHERE s.company_id = $1 AND s.calcom_event_type_id = $2), "
		   "one AS (SELECT min(m.service_id) AS service_id, "
		   "CASE WHEN count(*) = 1 THEN min(m.branch_id) END AS branch_id FROM match AS m) "
		   "SELECT one.service_id, one.branch_id, coalesce(b.credential, k.credential, "
		   "(SELECT min(x.credential) FROM @.branches AS x WHERE x.company_id = $1)), "
		   "extract(epoch FROM s.duration)::bigint FROM one "
		   "JOIN @.services AS s ON s.company_id = $1 AND s.service_id = one.service_id "
		   "JOIN @.companies AS k ON k.company_id = $1 "
		   "LEFT JOIN @.branches AS b ON b.company_id = $1 AND b.branch_id = one.branch_id",
	.nparams = 2,
	.types = {INT8OID, INT8OID},
};
static TcStatement read_customer = {
	.sql =
		"SELECT jsonb_strip_nulls(jsonb_build_object('name', a.who -> 'name', 'email', "
		"a.who -> 'email', 'phone', a.who -> 'phoneNumber', 'time_zone', a.who -> 'timeZone')) "
		"FROM (SELECT coalesce($1::jsonb #> '{payload,attendees,0}', $1::jsonb #> '{attendees,0}')) "
		"AS a (who) WHERE jsonb_typeof(a.who) = 'object'",
	.nparams = 1,
	.types = {TEXTOID},
};

/* A time of the webhook; 0 if it has none. */
TimestampTz
tc_told_time(int64 unix_us)
{
	return unix_us == TC_TIME_NONE ? 0 : tc_server_time(unix_us);
}

/* The body as text. */
Datum
tc_told_body(const TcTold *told)
{
	return PointerGetDatum(cstring_to_text_with_len(told->body, told->len));
}

/* Fills what the calendar's own booking is for us; false if the company has no such service. */
bool
tc_elsewhere_fill(const TcTold *told, TcAppointment *row, int64 company_id)
{
	const TcCalcomWebhook *webhook = &told->webhook;
	TcParams params = {0};
	int64 seconds;

	memset(row, 0, sizeof(*row));
	row->company_id = company_id;
	row->event_type_id = webhook->event_type_id;
	row->elsewhere = true;
	row->told_at = tc_told_time(webhook->created_at);
	row->starts_at = tc_told_time(webhook->start);
	row->ends_at = tc_told_time(webhook->end);
	tc_param_int8(&params, company_id);
	tc_param_int8(&params, webhook->event_type_id);
	if (tc_execute(&find_service, &params) == 0)
		return false;
	row->service_id = tc_result_int8(1);
	row->branch_id = tc_result_int8(2);
	row->credential = tc_result_text(3);
	seconds = tc_result_int8(4);
	if (row->ends_at == 0 && row->starts_at != 0)
		row->ends_at = row->starts_at + seconds * USECS_PER_SEC;
	return row->credential != NULL && row->starts_at != 0;
}

/* Fills who comes. */
void
tc_elsewhere_fill_customer(const TcTold *told, TcAppointment *row)
{
	TcParams params = {0};
	bool isnull;
	Datum customer;

	tc_param_datum(&params, tc_told_body(told), false);
	if (tc_execute(&read_customer, &params) == 0)
		return;
	customer = tc_result_datum(1, &isnull);
	if (!isnull)
		row->customer = DatumGetJsonbPCopy(customer);
}

/* Inserts a row for a booking that was made elsewhere; one that stands takes a seat. */
void
tc_elsewhere_insert(TcAppointment *row, const char *uid, const char *status)
{
	TcHold order = {.branch_id = row->branch_id,
					.service_id = row->service_id,
					.credential = row->credential,
					.event_type_id = row->event_type_id,
					.starts_at = row->starts_at,
					.ends_at = row->ends_at,
					.reason = "booked elsewhere"};

	row->uid = pstrdup(uid);
	row->status = pstrdup(status);
	row->hold_id = strcmp(status, "confirmed") == 0 ? tc_hold_occupy(row->company_id, &order) : 0;
	tc_appointment_insert(row, "told by the calendar");
}
