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

#include "compat.h"
#include "phone.h"

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
	[TC_PHONE_URI] = "The text is a URI.",
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

/* Parses an international number with separators, or a tel: URI, without raising. */
bool
tc_phone_parse_loose(const char *text, int len, int64 *phone)
{
	int64_t value;

	if (tc_phone_core_parse_loose(text, len, &value) != TC_PHONE_OK)
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

/* Refuses a region that is no ISO 3166 country code of two letters. */
static void
check_region(const text *region)
{
	const char *data = VARDATA_ANY(region);
	int len = VARSIZE_ANY_EXHDR(region);

	if (len != 2 || !isalpha((unsigned char) data[0]) || !isalpha((unsigned char) data[1]))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid region: \"%s\"", shown(data, len)),
						errhint("Use the two letters of the country, such as DE.")));
}

/*
 * Raises for a number that the plain parser cannot read.
 *
 * Numbers that need a numbering plan (national formats, extensions, sip: URIs) are for a library
 * of their own, to be loaded here and only here, so that canonical input never pays for it.
 */
static void
refuse_number(const char *number, TcPhoneStatus status, bool has_region)
{
	bool needs_plan = status == TC_PHONE_NATIONAL || status == TC_PHONE_NO_PLUS ||
					  status == TC_PHONE_TRUNK_ZERO || status == TC_PHONE_EXTENSION ||
					  status == TC_PHONE_URI;
	bool needs_region = status == TC_PHONE_NATIONAL || status == TC_PHONE_NO_PLUS;

	if (needs_plan && (has_region || !needs_region))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("this form of phone number is not supported yet: \"%s\"", number),
						errdetail("%s", status_details[status]),
						errhint("Write the number in international format, such as +4930123456.")));
	ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
					errmsg("invalid phone number: \"%s\"", number),
					errdetail("%s", status_details[status]),
					needs_region ? errhint("Pass the region of the number, such as DE, or write it "
										   "in international format, such as +4930123456.")
								 : errhint("Write the number in international format, such as "
										   "+4930123456.")));
}

/* Parses what people write, or raises; region may be NULL. */
int64
tc_phone_require(const char *number, const char *region)
{
	size_t len = strlen(number);
	int64_t phone;
	TcPhoneStatus status = tc_phone_core_parse(number, len, &phone);

	if (unlikely(status != TC_PHONE_OK))
		status = tc_phone_core_parse_loose(number, len, &phone);
	if (status != TC_PHONE_OK)
		refuse_number(shown(number, len), status, region != NULL);
	return phone;
}

/* parse_phone(number text, region text) -> phone */
Datum
tc_parse_phone(PG_FUNCTION_ARGS)
{
	char *region = NULL;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("the phone number must not be null"),
						errhint("Leave the call out for a caller without a number.")));
	if (!PG_ARGISNULL(1))
	{
		check_region(PG_GETARG_TEXT_PP(1));
		region = text_to_cstring(PG_GETARG_TEXT_PP(1));
	}
	PG_RETURN_PHONE(tc_phone_require(text_to_cstring(PG_GETARG_TEXT_PP(0)), region));
}
