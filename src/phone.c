/*
 * phone.c
 *		The type phone: E.164 numbers, eight bytes by value.
 *
 * A Datum of the type is the int64 of phone_core.h, so that comparison, hashing and sorting are
 * those of bigint (see 20_phone.sql, as contrib/isn does).  Only the ways in and out are here.
 * Every way in checks the value: whatever is stored can be written and read again.
 *
 * No state, no locks.
 */
#include "postgres.h"

#include "fmgr.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "args.h"
#include "compat.h"
#include "phone.h"
#include "phone_plan.h"

/* how much of a wrong text an error shows, in bytes */
#define TC_PHONE_SHOWN_LEN 64

#define PG_GETARG_PHONE(n) PG_GETARG_INT64(n)
#define PG_RETURN_PHONE(x) PG_RETURN_INT64(x)

/* A sentence for each thing that can be wrong with a number. */
static const char *const status_details[] = {
	[TC_PHONE_OK] = "",
	[TC_PHONE_EMPTY] = "The number is empty.",
	[TC_PHONE_NO_PLUS] = "The plus sign and country code are missing.",
	[TC_PHONE_NATIONAL] = "The number is in national format: it begins with zero.",
	[TC_PHONE_LEADING_ZERO] = "A country code does not begin with zero.",
	[TC_PHONE_BAD_CHAR] = "The number contains something that is no digit.",
	[TC_PHONE_SEPARATOR] = "The number contains separators.",
	[TC_PHONE_TOO_SHORT] = "A number has at least 7 digits.",
	[TC_PHONE_TOO_LONG] = "A number has at most 15 digits.",
	[TC_PHONE_TRUNK_ZERO] = "The zero in parentheses is dialled inside the country only.",
	[TC_PHONE_EXTENSION] = "An extension or parameter follows the number.",
	[TC_PHONE_URI] = "The text is a URI that names no number.",
	[TC_PHONE_CONTEXT] = "The number is local to its context.",
};

StaticAssertDecl(lengthof(status_details) == TC_PHONE_N_STATUS, "a detail for each status");
StaticAssertDecl(TC_PHONE_MAX < PG_INT64_MAX / 10, "a number fits into an int64");

/* Parses a canonical number without raising. */
bool
tc_phone_parse(const char *text, int len, int64 *phone)
{
	int64_t value;

	if (tc_phone_core_parse(text, len, &value) != TC_PHONE_OK)
		return false;
	*phone = value;
	return true;
}

/* The canonical text of a number, palloc'd. */
char *
tc_phone_format(int64 phone)
{
	char *text = palloc(TC_PHONE_TEXT_LEN);

	(void) tc_phone_core_format(phone, text);
	return text;
}

/* A text fit for an error message: no longer than a number can sensibly be. */
static char *
shown(const char *text, size_t len)
{
	int clipped = pg_mbcliplen(text, (int) len, TC_PHONE_SHOWN_LEN);

	return clipped < (int) len ? psprintf("%.*s...", clipped, text) : pnstrdup(text, len);
}

PG_FUNCTION_INFO_V1(tc_phone_in);
PG_FUNCTION_INFO_V1(tc_phone_out);
PG_FUNCTION_INFO_V1(tc_phone_recv);
PG_FUNCTION_INFO_V1(tc_phone_send);
PG_FUNCTION_INFO_V1(tc_parse_phone);
PG_FUNCTION_INFO_V1(tc_caller_number);

/* phone_in(cstring) -> phone */
Datum
tc_phone_in(PG_FUNCTION_ARGS)
{
	char *text = PG_GETARG_CSTRING(0);
	int64_t phone;
	TcPhoneStatus status = tc_phone_core_parse(text, strlen(text), &phone);

	if (unlikely(status != TC_PHONE_OK))
		TC_SOFT_ERROR(fcinfo->context, (Datum) 0,
					  (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
					   errmsg("invalid phone number: \"%s\"", shown(text, strlen(text))),
					   errdetail("%s", status_details[status]),
					   errhint("Write the number in international format, such as +4930123456, or "
							   "call tenantcall.parse_phone(number, region).")));
	PG_RETURN_PHONE(phone);
}

/* phone_out(phone) -> cstring */
Datum
tc_phone_out(PG_FUNCTION_ARGS)
{
	PG_RETURN_CSTRING(tc_phone_format(PG_GETARG_PHONE(0)));
}

/* phone_recv(internal) -> phone */
Datum
tc_phone_recv(PG_FUNCTION_ARGS)
{
	StringInfo buf = (StringInfo) PG_GETARG_POINTER(0);
	int64 phone = pq_getmsgint64(buf);

	if (!tc_phone_core_valid(phone))
		ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
						errmsg("invalid phone number in external binary form"),
						errdetail("A number has 7 to 15 digits and does not begin with zero."),
						errhint("Send the digits of the number, without the plus sign, as a 64-bit "
								"integer.")));
	PG_RETURN_PHONE(phone);
}

/* phone_send(phone) -> bytea */
Datum
tc_phone_send(PG_FUNCTION_ARGS)
{
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendint64(&buf, PG_GETARG_PHONE(0));
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

/* A region argument in capitals; raises unless it is a country code of two letters. */
static char *
region_argument(FunctionCallInfo fcinfo, int arg)
{
	char *region;

	if (PG_ARGISNULL(arg))
		return NULL;
	region = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	if (strlen(region) != 2 || !isalpha((unsigned char) region[0]) ||
		!isalpha((unsigned char) region[1]))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid region: \"%s\"", shown(region, strlen(region))),
						errhint("Use the two letters of the country, such as DE.")));
	region[0] = (char) pg_ascii_toupper((unsigned char) region[0]);
	region[1] = (char) pg_ascii_toupper((unsigned char) region[1]);
	return region;
}

/* Raises for a number that cannot be read. */
static void
refuse_number(const char *number, const char *detail, bool needs_region)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
					errmsg("invalid phone number: \"%s\"", shown(number, strlen(number))),
					errdetail("%s", detail),
					needs_region ? errhint("Pass the region of the number, such as DE, or write it "
										   "in international format, such as +4930123456.")
								 : errhint("Write the number in international format, such as "
										   "+4930123456.")));
}

/* Is it the region that is missing? */
static bool
lacks_region(const char *number, const char *region)
{
	int64_t value;
	TcPhoneStatus status = tc_phone_core_parse_loose(number, strlen(number), &value);

	return region == NULL && (status == TC_PHONE_NATIONAL || status == TC_PHONE_NO_PLUS);
}

/* Reads what people write; false with a sentence that says why not.  region may be NULL. */
static bool
read_number(const char *number, const char *region, int64 *phone, const char **detail)
{
	size_t len = strlen(number);
	int64_t value;
	TcPhoneStatus status = tc_phone_core_parse(number, len, &value);

	if (unlikely(status != TC_PHONE_OK))
		status = tc_phone_core_parse_loose(number, len, &value);
	*detail = status_details[status];
	switch (status)
	{
		case TC_PHONE_OK:
			*phone = value;
			return true;
		case TC_PHONE_NATIONAL:
		case TC_PHONE_NO_PLUS:
			return region != NULL && tc_phone_plan_parse(number, region, phone, detail);
		case TC_PHONE_TRUNK_ZERO:
		case TC_PHONE_CONTEXT:
			return tc_phone_plan_parse(number, region, phone, detail);
		default:
			return false;
	}
}

/* Parses what people write, or raises; region may be NULL. */
int64
tc_phone_require(const char *number, const char *region)
{
	const char *detail;
	int64 phone;

	if (!read_number(number, region, &phone, &detail))
		refuse_number(number, detail, lacks_region(number, region));
	return phone;
}

/* parse_phone(number text, region text) -> phone */
Datum
tc_parse_phone(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("the phone number must not be null"),
						errhint("For a caller, whose number may be missing, use "
								"tenantcall.caller_number().")));
	PG_RETURN_PHONE(
		tc_phone_require(text_to_cstring(PG_GETARG_TEXT_PP(0)), region_argument(fcinfo, 1)));
}

/* Why a caller has no number, or NULL if the text reads as one. */
static const char *
caller_reason(const char *text, const char *region, int64 *phone)
{
	const char *detail;

	switch (tc_phone_core_caller(text, strlen(text)))
	{
		case TC_CALLER_MISSING:
			return "missing";
		case TC_CALLER_WITHHELD:
			return "withheld";
		case TC_CALLER_UNAVAILABLE:
			return "unavailable";
		case TC_CALLER_SHOWN:
			break;
	}
	return read_number(text, region, phone, &detail) ? NULL : "not_a_number";
}

/* caller_number(number text, region text) -> (number phone, reason text) */
Datum
tc_caller_number(PG_FUNCTION_ARGS)
{
	char *caller = PG_ARGISNULL(0) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(0));
	int64 phone = 0;
	const char *reason = caller_reason(caller, region_argument(fcinfo, 1), &phone);
	Datum values[2] = {Int64GetDatum(phone), (Datum) 0};
	bool nulls[2] = {reason != NULL, reason == NULL};

	if (reason != NULL)
		values[1] = CStringGetTextDatum(reason);
	return tc_return_row(fcinfo, values, nulls);
}
