/*
 * calendar.c
 *		Which calendar holds the slots of a service in a branch, and under which rules.
 *
 *		companies, branches, services, branch_services, opening_hours, holidays
 *			--> one TcCalendar per (company, branch, service), kept per process
 *
 * The tables are read directly (telephony.h), each by a key that begins with the company, so that
 * nothing of another company can get in.  They carry the trigger of inval.h: any change of one of
 * them empties the cache of every process at commit.  AccessShareLock only.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "node.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "calendar.h"
#include "errors.h"
#include "inval.h"
#include "telephony.h"

#define MAX_LOADED 1024 /* then all are forgotten, and read again when needed */
#define MAX_OPENINGS 1000

typedef struct Key
{
	int64 company_id;
	int64 branch_id;
	int64 service_id;
} Key;

typedef struct Entry
{
	Key key;
	TcCalendar calendar;
} Entry;

enum
{
	COMPANIES,
	BRANCHES,
	SERVICES,
	BRANCH_SERVICES,
	OPENING_HOURS,
	HOLIDAYS,
	N_TABLES
};

static const char *const table_names[N_TABLES] = {
	"companies", "branches", "services", "branch_services", "opening_hours", "holidays",
};

static Oid tables[N_TABLES];
static HTAB *parts = NULL;		/* Oids of their parts on a node of Citus that were read */
static uint64 changes = 1;		/* of any of the tables */
static uint64 kept_since = 0;	/* value of changes when the cache was empty */
static uint64 tables_since = 0; /* tc_telephony_generation() when the tables were looked up */
static MemoryContext cache_context = NULL;
static HTAB *cache = NULL;
static int loaded = 0; /* since the cache was empty */

/* Relation cache callback. */
static void
relation_changed(Oid relid)
{
	bool mine = relid == InvalidOid;

	for (int i = 0; i < N_TABLES && !mine; i++)
		mine = relid == tables[i];
	if (!mine && unlikely(parts != NULL))
		mine = hash_search(parts, &relid, HASH_FIND, NULL) != NULL;
	if (mine)
		changes++;
}

/* Looks up the tables' Oids where they may have changed. */
static void
find_tables(const TcTelephony *place)
{
	static bool registered = false;

	if (!registered)
		tc_on_relation_change(relation_changed);
	registered = true;
	if (tables_since == tc_telephony_generation())
		return;
	for (int i = 0; i < N_TABLES; i++)
	{
		tables[i] = get_relname_relid(table_names[i], place->schema);
		if (!OidIsValid(tables[i]))
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
							errmsg("table \"%s\" of tenantcall is missing", table_names[i]),
							errhint("Run SELECT tenantcall.create_tables() as a superuser.")));
	}
	changes++;
	tables_since = tc_telephony_generation();
}

/* The table, or its part on this node for the company in context, whose changes count from now on.
 */
static Oid
table_here(int table)
{
	HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(Oid)};
	TcNodePart part;
	Oid here = tables[table];

	if (likely(!tc_node_distributed()))
		return here;
	here = tc_node_part(here, &part);
	if (part == TC_PART_ELSEWHERE)
		elog(ERROR, "table \"%s\" is not on this node", table_names[table]);
	if (parts == NULL)
		parts = hash_create("tenantcall calendar parts", 64, &control, HASH_ELEM | HASH_BLOBS);
	(void) hash_search(parts, &here, HASH_ENTER, NULL);
	return here;
}

/* Forgets everything that was kept. */
static void
empty_cache(void)
{
	HASHCTL control = {.keysize = sizeof(Key), .entrysize = sizeof(Entry)};

	if (cache_context == NULL)
		cache_context =
			AllocSetContextCreate(TopMemoryContext, "tenantcall calendars", ALLOCSET_SMALL_SIZES);
	cache = NULL;
	loaded = 0;
	MemoryContextReset(cache_context);
	control.hcxt = cache_context;
	cache =
		hash_create("tenantcall calendars", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* An interval as a fixed time; a month has 30 days, as in comparisons of intervals. */
static int64
fixed_time(HeapTuple tuple, TupleDesc desc, const char *column)
{
	Datum value;
	Interval *interval;

	if (!tc_row_datum(tuple, desc, column, &value))
		return 0;
	interval = DatumGetIntervalP(value);
	return interval->time + ((int64) interval->day + (int64) interval->month * 30) * USECS_PER_DAY;
}

/* A boolean column; false for NULL. */
static bool
row_bool(HeapTuple tuple, TupleDesc desc, const char *column)
{
	Datum value;

	return tc_row_datum(tuple, desc, column, &value) && DatumGetBool(value);
}

/* What overrides, if it is there. */
static void
override_text(const char **value, HeapTuple tuple, TupleDesc desc, const char *column)
{
	char *text = tc_row_text(tuple, desc, column);

	if (text != NULL)
		*value = text;
}

/* The same of an id. */
static void
override_id(int64 *value, HeapTuple tuple, TupleDesc desc, const char *column)
{
	int64 id = tc_row_int8(tuple, desc, column);

	if (id != 0)
		*value = id;
}

/* A row of companies. */
static bool
visit_company(HeapTuple tuple, TupleDesc desc, void *arg)
{
	TcCalendar *calendar = arg;
	char *status = tc_row_text(tuple, desc, "status");

	calendar->suspended = status == NULL || strcmp(status, "active") != 0;
	override_text(&calendar->credential, tuple, desc, "credential");
	override_text(&calendar->time_zone_name, tuple, desc, "time_zone");
	return false;
}

/* A row of branches. */
static bool
visit_branch(HeapTuple tuple, TupleDesc desc, void *arg)
{
	TcCalendar *calendar = arg;

	calendar->branch_id = tc_row_int8(tuple, desc, "branch_id");
	override_text(&calendar->credential, tuple, desc, "credential");
	override_text(&calendar->time_zone_name, tuple, desc, "time_zone");
	return false;
}

/* A row of services. */
static bool
visit_service(HeapTuple tuple, TupleDesc desc, void *arg)
{
	TcCalendar *calendar = arg;
	Datum value;

	calendar->service_id = tc_row_int8(tuple, desc, "service_id");
	calendar->name = tc_row_text(tuple, desc, "name");
	calendar->duration = fixed_time(tuple, desc, "duration");
	calendar->notice = fixed_time(tuple, desc, "min_notice");
	calendar->capacity = tc_row_datum(tuple, desc, "capacity", &value) ? DatumGetInt32(value) : 1;
	calendar->active = row_bool(tuple, desc, "is_active");
	override_id(&calendar->event_type_id, tuple, desc, "calcom_event_type_id");
	override_id(&calendar->team_id, tuple, desc, "calcom_team_id");
	return false;
}

/* A row of branch_services. */
static bool
visit_branch_service(HeapTuple tuple, TupleDesc desc, void *arg)
{
	TcCalendar *calendar = arg;

	calendar->active = calendar->active && row_bool(tuple, desc, "is_active");
	override_id(&calendar->event_type_id, tuple, desc, "calcom_event_type_id");
	override_id(&calendar->team_id, tuple, desc, "calcom_team_id");
	return false;
}

/* Openings that are being collected. */
typedef struct Openings
{
	int64 branch_id;
	TcOpening *item;
	int count;
} Openings;

/* Adds one. */
static void
add_opening(Openings *openings, int32 day, int32 opens, int32 closes)
{
	if (openings->count == MAX_OPENINGS)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("branch " INT64_FORMAT " has more than %d opening hours or holidays",
							   openings->branch_id, MAX_OPENINGS),
						errhint("Delete past rows of holidays.")));
	openings->item[openings->count++] = (TcOpening){day, opens, closes};
}

/* A time column in seconds. */
static int32
row_seconds(HeapTuple tuple, TupleDesc desc, const char *column)
{
	Datum value;

	return tc_row_datum(tuple, desc, column, &value)
			   ? (int32) (DatumGetTimeADT(value) / USECS_PER_SEC)
			   : 0;
}

/* A row of opening_hours. */
static bool
visit_opening(HeapTuple tuple, TupleDesc desc, void *arg)
{
	Datum value;

	if (tc_row_datum(tuple, desc, "weekday", &value))
		add_opening(arg, DatumGetInt16(value), row_seconds(tuple, desc, "opens"),
					row_seconds(tuple, desc, "closes"));
	return true;
}

/* A row of holidays: of this branch, or of all. */
static bool
visit_holiday(HeapTuple tuple, TupleDesc desc, void *arg)
{
	Openings *holidays = arg;
	int64 branch_id = tc_row_int8(tuple, desc, "branch_id");
	Datum value;

	if ((branch_id == 0 || branch_id == holidays->branch_id) &&
		tc_row_datum(tuple, desc, "day", &value))
		add_opening(holidays, DatumGetDateADT(value), row_seconds(tuple, desc, "opens"),
					row_seconds(tuple, desc, "closes"));
	return true;
}

/* Reads when the branch is open. */
static void
load_hours(const TcMatch *keys, TcCalendar *calendar)
{
	Openings week = {calendar->branch_id, palloc(MAX_OPENINGS * sizeof(TcOpening)), 0};
	Openings holidays = {calendar->branch_id, palloc(MAX_OPENINGS * sizeof(TcOpening)), 0};

	if (calendar->branch_id != 0)
		tc_read_rows(table_here(OPENING_HOURS), keys, 2, visit_opening, &week);
	tc_read_rows(table_here(HOLIDAYS), keys, 1, visit_holiday, &holidays);
	calendar->hours.week = repalloc(week.item, Max(week.count, 1) * sizeof(TcOpening));
	calendar->hours.nweek = week.count;
	calendar->hours.holidays = repalloc(holidays.item, Max(holidays.count, 1) * sizeof(TcOpening));
	calendar->hours.nholidays = holidays.count;
}

/* Reads a calendar's rows; what is unknown stays 0. */
static void
load(const Key *key, TcCalendar *calendar)
{
	TcMatch branch[3] = {{"company_id", INT8OID, Int64GetDatum(key->company_id)},
						 {"branch_id", INT8OID, Int64GetDatum(key->branch_id)},
						 {"service_id", INT8OID, Int64GetDatum(key->service_id)}};
	TcMatch service[2] = {branch[0], branch[2]};

	memset(calendar, 0, sizeof(*calendar));
	calendar->company_id = key->company_id;
	tc_read_rows(table_here(COMPANIES), branch, 1, visit_company, calendar);
	if (key->branch_id != 0)
		tc_read_rows(table_here(BRANCHES), branch, 2, visit_branch, calendar);
	tc_read_rows(table_here(SERVICES), service, 2, visit_service, calendar);
	if (key->branch_id != 0)
		tc_read_rows(table_here(BRANCH_SERVICES), branch, 3, visit_branch_service, calendar);
	load_hours(branch, calendar);
	calendar->time_zone =
		calendar->time_zone_name != NULL ? pg_tzset(calendar->time_zone_name) : NULL;
	if (calendar->time_zone == NULL)
	{
		calendar->time_zone_name = "UTC";
		calendar->time_zone = pg_tzset("UTC");
	}
}

/* Keeps a calendar, unless something changed while it was read. */
static const TcCalendar *
load_and_keep(const Key *key)
{
	static TcCalendar unkept;
	uint64 before = changes;
	MemoryContext caller = MemoryContextSwitchTo(cache_context);
	Entry *entry;

	loaded++;
	load(key, &unkept);
	MemoryContextSwitchTo(caller);
	if (changes != before || unkept.service_id == 0)
		return &unkept;
	entry = hash_search(cache, key, HASH_ENTER, NULL);
	entry->calendar = unkept;
	return &entry->calendar;
}

/* The calendar of a service. */
const TcCalendar *
tc_calendar(const TcContext *tenant, int64 service_id)
{
	Key key = {tenant->company_id, tenant->branch_id, service_id};
	const TcCalendar *calendar;
	Entry *entry;

	if (unlikely(tc_node_citus))
		tc_node_require_home(tenant->company_id);
	find_tables(tc_telephony_required());
	if (kept_since != changes || loaded >= MAX_LOADED || cache == NULL)
	{
		empty_cache();
		kept_since = changes;
	}
	entry = hash_search(cache, &key, HASH_FIND, NULL);
	calendar = entry != NULL ? &entry->calendar : load_and_keep(&key);
	if (calendar->branch_id != tenant->branch_id)
		ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN),
						errmsg("company " INT64_FORMAT " has no branch " INT64_FORMAT,
							   (int64) tenant->company_id, (int64) tenant->branch_id),
						errhint("Table branches lists the branches of the company.")));
	if (calendar->service_id == 0)
		ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN),
						errmsg("company " INT64_FORMAT " has no service " INT64_FORMAT,
							   (int64) tenant->company_id, service_id),
						errhint("Call tenantcall.select_service() to choose one.")));
	return calendar;
}

/* The same, and raises unless slots of it can be had. */
const TcCalendar *
tc_calendar_in_use(const TcContext *tenant, int64 service_id)
{
	const TcCalendar *calendar = tc_calendar(tenant, service_id);

	if (!calendar->active || calendar->event_type_id == 0)
		ereport(ERROR, (errcode(ERRCODE_TC_UNKNOWN),
						errmsg("service " INT64_FORMAT " cannot be booked", service_id),
						calendar->active ? errdetail("It has no event type in the calendar.")
										 : errdetail("It is not active here."),
						errhint("See tables services and branch_services: is_active, "
								"calcom_event_type_id.")));
	if (calendar->credential == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("company " INT64_FORMAT " has no calendar account",
							   (int64) tenant->company_id),
						errhint("An administrator gives it one: tenantcall.set_credential(), "
								"tenantcall.assign_credential().")));
	return calendar;
}

/* When a slot that begins then ends. */
TimestampTz
tc_calendar_end(const TcCalendar *calendar, TimestampTz starts_at)
{
	return starts_at + calendar->duration;
}

/* The first moment at which a slot may begin. */
TimestampTz
tc_calendar_earliest(const TcCalendar *calendar, TimestampTz now)
{
	return now + calendar->notice;
}

/* Day and second as the branch's clocks show them. */
void
tc_calendar_local(const TcCalendar *calendar, TimestampTz at, int32 *day, int32 *second)
{
	struct pg_tm tm;
	fsec_t fraction;
	int tz;

	if (timestamp2tm(at, &tz, &tm, &fraction, NULL, calendar->time_zone) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
	*day = date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE;
	*second = (tm.tm_hour * MINS_PER_HOUR + tm.tm_min) * SECS_PER_MINUTE + tm.tm_sec;
}

/* Is the branch open while the slot lasts? */
bool
tc_calendar_open(const TcCalendar *calendar, TimestampTz starts_at)
{
	TcLocalSpan span;

	if (calendar->hours.nweek == 0 && calendar->hours.nholidays == 0)
		return true;
	tc_calendar_local(calendar, starts_at, &span.from_day, &span.from_second);
	tc_calendar_local(calendar, tc_calendar_end(calendar, starts_at), &span.to_day,
					  &span.to_second);
	return tc_hours_open(&calendar->hours, &span);
}
