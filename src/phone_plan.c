/*
 * phone_plan.c
 *		Telephone numbers that need a numbering plan, and what a plan says of a number.
 *
 *		phone.c --number, region--> tenantcall_phone.so (libphonenumber) --E.164--> phone.c
 *
 * The library is loaded at first use and stays for the life of the process.  Numbers in canonical
 * form, and everything else that phone_core.c can read, never come here.
 *
 * No locks, no state besides the addresses of the library's functions.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "args.h"
#include "phone.h"
#include "phone_lib/phone_lib.h"
#include "phone_plan.h"

#define LIBRARY "$libdir/tenantcall_phone"

typedef const char *(*VersionFunction)(void);
typedef TcPhoneLibStatus (*ParseFunction)(const char *, const char *, char *);
typedef TcPhoneLibStatus (*DescribeFunction)(const char *, TcPhoneLibFacts *);

/* The library's functions; all NULL until it is loaded. */
static struct
{
	ParseFunction parse;
	DescribeFunction describe;
} library;

/* A sentence for each thing that the library may say of a number. */
static const char *const status_details[] = {
	[TC_PHONELIB_OK] = "",
	[TC_PHONELIB_UNKNOWN_REGION] = "The region has no numbering plan.",
	[TC_PHONELIB_UNKNOWN_COUNTRY] = "The country code is not known.",
	[TC_PHONELIB_NOT_A_NUMBER] = "The text is no telephone number.",
	[TC_PHONELIB_TOO_SHORT] = "The number is too short for its country.",
	[TC_PHONELIB_TOO_LONG] = "The number is too long for its country.",
	[TC_PHONELIB_BAD_LENGTH] = "No number of its country has this length.",
	[TC_PHONELIB_NO_AREA_CODE] = "The area code is missing.",
	[TC_PHONELIB_FAILED] = "The phone library failed.",
};

StaticAssertDecl(lengthof(status_details) == TC_PHONELIB_N_STATUS, "a detail for each status");
StaticAssertDecl((int) TC_PHONELIB_TEXT_LEN >= (int) TC_PHONE_PLAN_LEN, "texts fit both ways");

/* Raises: the library could not be used.  The reason is the server's, or our own. */
static void
refuse_library(const char *reason)
{
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("numbering plans are not available on this server"),
					errdetail_internal("%s", reason),
					errhint("Build and install tenantcall with libphonenumber (Debian package "
							"libphonenumber-dev; at run time libphonenumber8), or write numbers in "
							"international format, such as +4930123456.")));
}

/* Finds a function of the library, loading this if need be; any failure is raised as ours. */
static void *
find_function(const char *name)
{
	MemoryContext caller = CurrentMemoryContext;
	void *volatile function = NULL;

	PG_TRY();
	{
		function = load_external_function(LIBRARY, name, true, NULL);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			error->sqlerrcode == ERRCODE_OUT_OF_MEMORY)
			PG_RE_THROW();
		FlushErrorState();
		refuse_library(psprintf("%s.", error->message));
	}
	PG_END_TRY();
	return function;
}

/* Loads the library, unless it is there. */
static void
load_library(void)
{
	VersionFunction version;

	if (likely(library.describe != NULL))
		return;
	version = (VersionFunction) find_function("tc_phonelib_version");
	if (strcmp(version(), TENANTCALL_VERSION) != 0)
		refuse_library(psprintf("The phone library is of version %s, tenantcall of %s.", version(),
								TENANTCALL_VERSION));
	library.parse = (ParseFunction) find_function("tc_phonelib_parse");
	library.describe = (DescribeFunction) find_function("tc_phonelib_describe");
}

/* Reads a number by the plan of a region. */
bool
tc_phone_plan_parse(const char *number, const char *region, int64 *phone, const char **detail)
{
	char text[TC_PHONE_PLAN_LEN];
	char e164[TC_PHONELIB_TEXT_LEN];
	TcPhoneLibStatus status = TC_PHONELIB_TOO_LONG;

	load_library();
	if (tc_phone_core_plan_text(number, strlen(number), text))
		status = library.parse(text, region, e164);
	if (status == TC_PHONELIB_FAILED)
		elog(ERROR, "phone library failed to read a number");
	if (status == TC_PHONELIB_OK && !tc_phone_parse(e164, (int) strlen(e164), phone))
		status = strlen(e164) < TC_PHONE_TEXT_LEN ? TC_PHONELIB_TOO_SHORT : TC_PHONELIB_TOO_LONG;
	*detail = status_details[status];
	return status == TC_PHONELIB_OK;
}

/* What the plans know of a number; false if they do not know its country. */
static bool
describe(int64 phone, TcPhoneLibFacts *facts)
{
	char e164[TC_PHONE_TEXT_LEN];
	TcPhoneLibStatus status;

	load_library();
	(void) tc_phone_core_format(phone, e164);
	status = library.describe(e164, facts);
	if (status == TC_PHONELIB_FAILED)
		elog(ERROR, "phone library failed to describe a number");
	return status == TC_PHONELIB_OK;
}

PG_FUNCTION_INFO_V1(tc_phone_region);
PG_FUNCTION_INFO_V1(tc_phone_national);
PG_FUNCTION_INFO_V1(tc_phone_is_valid);

/* phone_region(phone) -> text */
Datum
tc_phone_region(PG_FUNCTION_ARGS)
{
	TcPhoneLibFacts facts;

	if (!describe(PG_GETARG_INT64(0), &facts) || facts.region[0] == '\0')
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(facts.region));
}

/* phone_national(phone) -> text */
Datum
tc_phone_national(PG_FUNCTION_ARGS)
{
	TcPhoneLibFacts facts;

	if (!describe(PG_GETARG_INT64(0), &facts) || facts.national[0] == '\0')
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(facts.national));
}

/* phone_is_valid(phone) -> boolean */
Datum
tc_phone_is_valid(PG_FUNCTION_ARGS)
{
	TcPhoneLibFacts facts;

	PG_RETURN_BOOL(describe(PG_GETARG_INT64(0), &facts) && facts.valid);
}
