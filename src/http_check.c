/*
 * http_check.c
 *		SQL functions that have the HTTP worker ask a calendar.
 *
 * The backend waits without holding anything but its transaction; cancelling it takes effect at
 * once.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "args.h"
#include "http_probe.h"
#include "rate_args.h"
#include "ready.h"

#define CHECK_PATH "/v2/me"
#define NS_PER_US INT64CONST(1000)
#define N_CHECK_COLUMNS 3
#define N_TEST_COLUMNS 10

PG_FUNCTION_INFO_V1(tc_check_credential);
PG_FUNCTION_INFO_V1(tc_http_test_requests);

/* Copies a text argument; raises if it does not fit. */
static void
copy_text(char *to, size_t room, const char *from, const char *name)
{
	if (strlcpy(to, from, room) >= room)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"%s\" is too long", name),
						errdetail("At most %zu bytes are possible.", room - 1)));
}

/* An order for one GET. */
static TcHttpProbeOrder
make_order(const char *credential, int64 wait)
{
	TcHttpProbeOrder order = {.class = TC_HTTP_LIVE, .requests = 1, .at_once = 1};

	copy_text(order.credential, sizeof(order.credential), credential, "credential");
	strcpy(order.method, "GET");
	strcpy(order.path, CHECK_PATH);
	order.deadline = GetCurrentTimestamp() + wait;
	return order;
}

/* What an administrator wants to know of an answer. */
static const char *
verdict(const TcHttpProbeSum *sum)
{
	if (sum->status == 0)
		return sum->reason;
	if (sum->status == 401 || sum->status == 403)
		return "denied";
	if (sum->status == 429)
		return "rate_limited";
	return sum->status < 300 ? "ok" : "unexpected_status";
}

/* check_credential(name, max_wait) -> (status, reason, latency) */
Datum
tc_check_credential(PG_FUNCTION_ARGS)
{
	char *name = tc_arg_text(fcinfo, 0, "name");
	TcHttpProbeOrder order = make_order(name, tc_arg_span(fcinfo, 1, "max_wait"));
	Datum values[N_CHECK_COLUMNS];
	bool nulls[N_CHECK_COLUMNS] = {false};
	TcHttpProbeSum sum;

	tc_require_ready();
	tc_http_probe(&order, &sum);
	values[0] = Int32GetDatum(sum.status);
	nulls[0] = nulls[2] = sum.status == 0;
	values[1] = CStringGetTextDatum(verdict(&sum));
	values[2] = tc_rate_interval(sum.latency_sum * NS_PER_US);
	return tc_return_row(fcinfo, values, nulls);
}

/* The class of a name. */
static TcHttpClass
class_of(const char *name)
{
	if (strcmp(name, "live") == 0)
		return TC_HTTP_LIVE;
	if (strcmp(name, "write") == 0)
		return TC_HTTP_WRITE;
	if (strcmp(name, "refresh") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"class\" must be live, write or refresh")));
	return TC_HTTP_REFRESH;
}

/* The order of the arguments; see the SQL declaration. */
static TcHttpProbeOrder
test_order(FunctionCallInfo fcinfo)
{
	char *credential = tc_arg_text(fcinfo, 0, "credential");
	TcHttpProbeOrder order = make_order(credential, tc_arg_span(fcinfo, 7, "max_wait"));

	order.requests = tc_arg_id(fcinfo, 1, "requests");
	order.at_once = tc_arg_id(fcinfo, 2, "at_once");
	order.class = class_of(tc_arg_text(fcinfo, 3, "class"));
	order.company_id = tc_arg_optional_id(fcinfo, 4, "company_id");
	copy_text(order.method, sizeof(order.method), tc_arg_text(fcinfo, 5, "method"), "method");
	copy_text(order.path, sizeof(order.path), tc_arg_text(fcinfo, 6, "path"), "path");
	if (!PG_ARGISNULL(8))
		copy_text(order.body, sizeof(order.body), tc_arg_optional_text(fcinfo, 8), "body");
	return order;
}

/* http_test_requests(...) -> row: for tests, superusers only */
Datum
tc_http_test_requests(PG_FUNCTION_ARGS)
{
	TcHttpProbeOrder order = test_order(fcinfo);
	Datum values[N_TEST_COLUMNS];
	bool nulls[N_TEST_COLUMNS] = {false};
	TcHttpProbeSum sum;
	int64 answers;

	tc_require_ready();
	if (!superuser())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for function http_test_requests"),
						errdetail("It sends requests of any kind.")));
	tc_http_probe(&order, &sum);
	answers = sum.status != 0 ? Max(1, sum.answered) : 1;
	values[0] = Int64GetDatum(sum.answered);
	values[1] = Int64GetDatum(sum.refused);
	values[2] = Int64GetDatum(sum.failed);
	values[3] = Int32GetDatum(sum.status);
	nulls[3] = sum.status == 0;
	values[4] = CStringGetTextDatum(sum.reason);
	nulls[4] = sum.reason[0] == '\0';
	values[5] = BoolGetDatum(sum.sent);
	values[6] = Int64GetDatum(sum.len);
	values[7] = tc_rate_interval(sum.latency_sum * NS_PER_US / answers);
	values[8] = tc_rate_interval(sum.latency_max * NS_PER_US);
	values[9] = Int64GetDatum(sum.retry_after_ms);
	nulls[9] = sum.retry_after_ms < 0;
	return tc_return_row(fcinfo, values, nulls);
}
