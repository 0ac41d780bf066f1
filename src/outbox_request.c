/*
 * outbox_request.c
 *		The request of an order, or of the question what became of it.
 *
 * State of the worker's process only.  No locks.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "calcom_request_core.h"
#include "outbox.h"
#include "outbox_claim.h"
#include "unix_time.h"

/* Writes the path of the question whether the calendar has it; false if it cannot be written. */
static bool
look_path(const TcFlight *flight, char *path, size_t size)
{
	if (flight->kind == TC_ORDER_CREATE)
	{
		TcCalcomListQuery query = {
			.event_type_id = flight->event_type_id,
			.after_start = tc_unix_time(flight->starts_at) - USECS_PER_SEC,
			.before_end = tc_unix_time(flight->ends_at) + USECS_PER_DAY,
			.take = TC_OUTBOX_PAGE,
			.skip = flight->skip,
		};

		return tc_calcom_list_path(&query, path, size) > 0;
	}
	return tc_calcom_booking_path(flight->kind == TC_ORDER_CANCEL ? flight->uid : flight->old_uid,
								  NULL, path, size) > 0;
}

/* Writes the path of the order. */
static bool
send_path(const TcFlight *flight, char *path, size_t size)
{
	switch (flight->kind)
	{
		case TC_ORDER_CREATE:
			return strlcpy(path, TC_CALCOM_BOOKINGS_PATH, size) < size;
		case TC_ORDER_CANCEL:
			return tc_calcom_booking_path(flight->uid, "cancel", path, size) > 0;
		default:
			return tc_calcom_booking_path(flight->old_uid, "reschedule", path, size) > 0;
	}
}

/* Of a cancellation that was erased (forget_caller()) only the reason is missing; false: of others.
 */
static bool
restore_request(TcFlight *flight)
{
	char body[64];

	if (flight->request != NULL)
		return true;
	if (flight->kind != TC_ORDER_CANCEL || tc_calcom_cancel_body(NULL, body, sizeof(body)) == 0)
		return false;
	flight->request = MemoryContextStrdup(flight->memory, body);
	return true;
}

/* Hands the request to the worker; false if it cannot be made. */
bool
tc_outbox_submit(TcFlight *flight, void (*done)(TcHttpJob *, const TcHttpResult *))
{
	TcHttpJob *job = &flight->job;
	bool looks = flight->step == TC_OUTBOX_LOOK;
	char path[1024];

	if (!(looks ? look_path(flight, path, sizeof(path)) : send_path(flight, path, sizeof(path))))
		return false;
	if (!looks && !restore_request(flight))
		return false;
	memset(job, 0, sizeof(*job));
	job->class = TC_HTTP_WRITE;
	job->company_id = flight->company_id;
	strlcpy(job->credential, flight->credential, NAMEDATALEN);
	job->method = looks ? "GET" : "POST";
	job->path = MemoryContextStrdup(flight->memory, path);
	job->api_version = TC_CALCOM_BOOKINGS_VERSION;
	if (!looks)
	{
		job->body = flight->request;
		job->body_len = strlen(flight->request);
	}
	/* within the lease, however long it took to get here; a question harms nobody */
	job->deadline = TimestampTzPlusMilliseconds(looks && flight->skip > 0 ? GetCurrentTimestamp()
																		  : flight->began,
												tc_outbox_timeout);
	job->done = done;
	job->arg = flight;
	tc_http_submit(job);
	return true;
}
