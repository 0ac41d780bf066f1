/*
 * calendar.h
 *		Which calendar holds the slots of a service in a branch, and under which rules.
 */
#ifndef TC_CALENDAR_H
#define TC_CALENDAR_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "pgtime.h"

#include "context_core.h"
#include "hours_core.h"

typedef struct TcCalendar
{
	int64 company_id;
	int64 branch_id; /* 0: of the company as a whole */
	int64 service_id;
	const char *name;		/* of the service */
	const char *credential; /* of the branch, else of the company; NULL: none */
	int64 event_type_id;	/* of the service in the branch, else in general; 0: none */
	int64 team_id;			/* 0: none */
	int64 duration;			/* µs */
	int64 notice;			/* µs before its start until which a slot can be had */
	int capacity;			/* how many may book one slot */
	bool active;
	bool suspended; /* the company is */
	const char *time_zone_name;
	pg_tz *time_zone; /* of the branch, else of the company */
	TcHours hours;
} TcCalendar;

/*
 * The calendar of a service of the tenant, in its branch if it has one.  Raises PT404 when the
 * service or the branch is unknown.  Kept per process, and right again after every change; valid
 * until the next call.
 */
extern const TcCalendar *tc_calendar(const TcContext *tenant, int64 service_id);

/* The same, and raises unless slots of it can be had. */
extern const TcCalendar *tc_calendar_in_use(const TcContext *tenant, int64 service_id);

/* When a slot that begins then ends; and does the branch's day allow it? */
extern TimestampTz tc_calendar_end(const TcCalendar *calendar, TimestampTz starts_at);
extern bool tc_calendar_open(const TcCalendar *calendar, TimestampTz starts_at);

/* The day (since 2000-01-01) and second that the branch's clocks show. */
extern void tc_calendar_local(const TcCalendar *calendar, TimestampTz at, int32 *day,
							  int32 *second);

/* The first moment at which a slot may begin that is asked for now. */
extern TimestampTz tc_calendar_earliest(const TcCalendar *calendar, TimestampTz now);

#endif /* TC_CALENDAR_H */
