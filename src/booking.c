/*
 * booking.c
 *		Bookings, as the caller orders, cancels and moves them.
 *
 *		hold --book()--> appointment (pending) + order in the outbox --commit--> worker
 *		appointment --cancel_booking()--> cancelling + order, or cancelled at once if nothing was
 *sent appointment + hold --reschedule_booking()--> a second appointment (pending) + order
 *
 * Nothing here speaks to the calendar: the order is written in the transaction of the appointment,
 * and the HTTP worker sends it after the commit.  Everything is idempotent: a hold has one
 * appointment, whoever books it again gets the same.
 *
 * Locks, in this order: rows of outbox_due, appointments, slot_holds, outbox.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "act.h"
#include "appointments.h"
#include "args.h"
#include "calcom_request_core.h"
#include "calendar.h"
#include "calls.h"
#include "customer.h"
#include "directory.h"
#include "errors.h"
#include "holds.h"
#include "lifecycle.h"
#include "node.h"
#include "outbox.h"
#include "unix_time.h"

PG_FUNCTION_INFO_V1(tc_book);
PG_FUNCTION_INFO_V1(tc_cancel_booking);
PG_FUNCTION_INFO_V1(tc_reschedule_booking);

#define MAX_REQUEST 8192
#define MAX_REASON 500

/* The body of the order's request: what the calendar is to book. */
static char *
booking_request(const TcHold *hold, const TcCustomer *customer, const char *key)
{
	char *provider_call_id = tc_calls_provider_id(hold->call_id);
	TcCalcomPair metadata[] = {{TC_OUTBOX_MARK, key}, {"call_id", provider_call_id}};
	TcCalcomBookingRequest request = {
		.event_type_id = hold->event_type_id,
		.start = tc_unix_time(hold->starts_at),
		.name = customer->name,
		.email = customer->email,
		.phone = customer->phone,
		.time_zone = customer->time_zone,
		.language = customer->language,
		.metadata = metadata,
		.nmetadata = provider_call_id != NULL ? 2 : 1,
	};
	char *body = palloc(MAX_REQUEST);

	if (tc_calcom_booking_body(&request, body, MAX_REQUEST) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the customer's data cannot be sent to the calendar"),
						errhint("Shorten the name, and leave out unusual characters.")));
	return body;
}

/* The appointment that the hold becomes; inserted. */
static void
insert_from_hold(const TcHold *hold, TcAppointment *appointment, const char *reason)
{
	appointment->branch_id = hold->branch_id;
	appointment->service_id = hold->service_id;
	appointment->hold_id = hold->hold_id;
	appointment->call_id = hold->call_id;
	appointment->credential = hold->credential;
	appointment->event_type_id = hold->event_type_id;
	appointment->starts_at = hold->starts_at;
	appointment->ends_at = hold->ends_at;
	appointment->status = "pending";
	tc_hold_book(appointment->company_id, hold->hold_id);
	tc_appointment_insert(appointment, reason);
}

/* Raises when the slot has begun meanwhile. */
static void
require_future(const TcHold *hold)
{
	if (hold->starts_at <= GetCurrentTimestamp())
		ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT), errmsg("the slot is in the past"),
						errdetail("It began at %s.", timestamptz_to_str(hold->starts_at)),
						errhint("Hold another one: tenantcall.hold_slot().")));
}

/* Region and time zone to understand the customer's data by. */
static void
parse_customer(const TcContext *tenant, const TcHold *hold, Jsonb *json, TcCustomer *customer)
{
	TcContext branch = {.company_id = tenant->company_id, .branch_id = hold->branch_id};
	const TcCalendar *calendar = tc_calendar(&branch, hold->service_id);
	TcCompany company;

	if (!tc_directory_company(tenant->company_id, &company))
		elog(ERROR, "company " INT64_FORMAT " has vanished", (int64) tenant->company_id);
	tc_customer_parse(json, company.phone_region[0] == '\0' ? NULL : company.phone_region,
					  calendar->time_zone_name, customer);
}

/* Books a hold that is locked and has no appointment; its id. */
static int64
book_hold(const TcContext *tenant, const TcHold *hold, Jsonb *json)
{
	TcAppointment appointment = {.company_id = tenant->company_id};
	TcCustomer customer;
	TcOrder order = {.kind = "create", .key = tc_outbox_new_key()};

	tc_hold_require_usable(hold);
	require_future(hold);
	parse_customer(tenant, hold, json, &customer);
	appointment.customer = tc_customer_json(&customer);
	appointment.time_zone = customer.time_zone;
	insert_from_hold(hold, &appointment, NULL);
	order.request = booking_request(hold, &customer, order.key);
	tc_outbox_put(&appointment, &order);
	return appointment.appointment_id;
}

/* book(hold_id, customer jsonb) -> appointment_id */
Datum
tc_book(PG_FUNCTION_ARGS)
{
	int64 hold_id = tc_arg_id(fcinfo, 0, "hold_id");
	TcContext tenant = *tc_entered_tenant();
	TcAppointment same;
	int64 appointment_id;
	TcHold hold;
	Datum result;
	TcAct act;

	if (tc_node_elsewhere(fcinfo, tenant.company_id, &result))
		return result;
	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"customer\" must not be NULL"),
						errhint("Pass an object with name, and email or phone.")));
	tc_require_active(&tenant, "book");
	tc_act_begin(&act, TC_AS_OWNER, NULL);
	tc_lifecycle_set_event("book");
	tc_hold_lock(tenant.company_id, hold_id, &hold);
	if (tc_appointment_of_hold(tenant.company_id, hold_id, &same))
		appointment_id = same.appointment_id;
	else
		appointment_id = book_hold(&tenant, &hold, PG_GETARG_JSONB_P(1));
	tc_act_end(&act);
	PG_RETURN_INT64(appointment_id);
}

/* Locks an appointment of the company, or raises PT404. */
static void
lock_required(int64 company_id, int64 appointment_id, TcAppointment *row)
{
	if (!tc_appointment_lock(company_id, appointment_id, row))
		ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN),
						errmsg("company " INT64_FORMAT " has no appointment " INT64_FORMAT,
							   company_id, appointment_id),
						errhint("Pass the appointment_id that tenantcall.book() returned.")));
}

/* Raises if the appointment is, or is being, replaced by another one. */
static void
refuse_replaced(const TcAppointment *row)
{
	int64 successor = tc_appointment_successor(row);

	if (successor != 0)
		ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT),
						errmsg("appointment " INT64_FORMAT " was moved to another time",
							   row->appointment_id),
						errdetail("Appointment " INT64_FORMAT " takes its place.", successor),
						errhint("Use that one.")));
}

/* The reason of a cancellation or move, not too long for the calendar. */
static char *
reason_argument(FunctionCallInfo fcinfo, int arg)
{
	char *reason = tc_arg_optional_text(fcinfo, arg);

	if (reason != NULL && strlen(reason) > MAX_REASON)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"reason\" is too long"),
						errdetail("It may have %d bytes.", MAX_REASON)));
	return reason;
}

/* Orders the cancellation of a booking that the calendar has, or may have. */
static void
order_cancellation(TcAppointment *row, const char *reason, bool waits)
{
	char body[MAX_REQUEST];
	TcOrder order = {.kind = "cancel", .key = tc_outbox_new_key(), .request = body, .waits = waits};

	if (tc_calcom_cancel_body(reason, body, sizeof(body)) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the reason cannot be sent to the calendar"),
						errhint("Shorten it, and leave out unusual characters.")));
	tc_appointment_move(row, "cancelling", NULL, reason);
	tc_outbox_put(row, &order);
}

/* Cancels an appointment that is locked, and whose first open order is. */
static void
cancel(TcAppointment *row, const TcOpenOrder *open, const char *reason)
{
	if (strcmp(row->status, "cancelled") == 0 || strcmp(row->status, "cancelling") == 0)
		return;
	if (strcmp(row->status, "rescheduled") == 0 || strcmp(row->status, "confirmed") == 0)
		refuse_replaced(row);
	if (tc_appointment_over(row->status))
		ereport(ERROR,
				(errcode(ERRCODE_TC_CONFLICT),
				 errmsg("appointment " INT64_FORMAT " is %s", row->appointment_id, row->status),
				 errhint("There is nothing to cancel.")));
	if (open->outbox_id != 0 && open->untouched && row->uid == NULL)
	{
		tc_outbox_drop(row->company_id, open->outbox_id, "cancelled before it was sent");
		tc_appointment_move(row, "cancelled", NULL, reason);
	}
	else
		order_cancellation(row, reason, open->outbox_id != 0);
}

/* cancel_booking(appointment_id, reason) -> status */
Datum
tc_cancel_booking(PG_FUNCTION_ARGS)
{
	int64 appointment_id = tc_arg_id(fcinfo, 0, "appointment_id");
	char *reason = reason_argument(fcinfo, 1);
	int64 company_id = tc_entered_tenant()->company_id;
	MemoryContext caller = CurrentMemoryContext;
	TcAppointment row;
	TcOpenOrder open;
	char *status;
	Datum result;
	TcAct act;

	if (tc_node_elsewhere(fcinfo, company_id, &result))
		return result;
	tc_act_begin(&act, TC_AS_OWNER, NULL);
	tc_lifecycle_set_event("cancel_booking");
	tc_outbox_lock_open(company_id, appointment_id, &open);
	lock_required(company_id, appointment_id, &row);
	cancel(&row, &open, reason);
	status = MemoryContextStrdup(caller, row.status);
	tc_act_end(&act);
	PG_RETURN_TEXT_P(cstring_to_text(status));
}

/* Raises unless the appointment can be moved into the hold. */
static void
check_move(const TcAppointment *row, const TcHold *hold)
{
	refuse_replaced(row);
	if (strcmp(row->status, "confirmed") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_TC_CONFLICT),
				 errmsg("appointment " INT64_FORMAT " is %s", row->appointment_id, row->status),
				 errdetail("Only a confirmed one can be moved."),
				 errhint("See tenantcall.booking_result(), or book anew.")));
	tc_hold_require_usable(hold);
	require_future(hold);
	if (strcmp(row->credential, hold->credential) != 0 || row->event_type_id != hold->event_type_id)
		ereport(ERROR, (errcode(ERRCODE_TC_CONFLICT), errmsg("the hold is of another calendar"),
						errdetail("An appointment keeps its event type when it is moved."),
						errhint("Book the hold, and cancel the appointment.")));
}

/* Orders the move; the id of the new appointment. */
static int64
order_move(const TcAppointment *old, const TcHold *hold)
{
	char body[MAX_REQUEST];
	TcAppointment row = {.company_id = old->company_id,
						 .customer_id = old->customer_id,
						 .rescheduled_from = old->appointment_id,
						 .time_zone = old->time_zone,
						 .customer = old->customer};
	TcOrder order = {.kind = "reschedule", .key = tc_outbox_new_key(), .request = body};

	if (tc_calcom_reschedule_body(tc_unix_time(hold->starts_at), NULL, body, sizeof(body)) == 0)
		elog(ERROR, "could not write the request");
	insert_from_hold(hold, &row, NULL);
	tc_outbox_put(&row, &order);
	return row.appointment_id;
}

/* reschedule_booking(appointment_id, hold_id) -> appointment_id of the new one */
Datum
tc_reschedule_booking(PG_FUNCTION_ARGS)
{
	int64 appointment_id = tc_arg_id(fcinfo, 0, "appointment_id");
	int64 hold_id = tc_arg_id(fcinfo, 1, "hold_id");
	TcContext tenant = *tc_entered_tenant();
	TcAppointment row;
	TcAppointment same;
	TcHold hold;
	Datum result;
	TcAct act;

	if (tc_node_elsewhere(fcinfo, tenant.company_id, &result))
		return result;
	tc_require_active(&tenant, "book");
	tc_act_begin(&act, TC_AS_OWNER, NULL);
	tc_lifecycle_set_event("reschedule_booking");
	lock_required(tenant.company_id, appointment_id, &row);
	tc_hold_lock(tenant.company_id, hold_id, &hold);
	if (!tc_appointment_of_hold(tenant.company_id, hold_id, &same) ||
		same.rescheduled_from != appointment_id)
	{
		check_move(&row, &hold);
		same.appointment_id = order_move(&row, &hold);
	}
	tc_act_end(&act);
	PG_RETURN_INT64(same.appointment_id);
}
