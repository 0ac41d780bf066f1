/*
 * slots.h
 *		Times at which a service can be had in a branch.
 */
#ifndef TC_SLOTS_H
#define TC_SLOTS_H

#include "postgres.h"

#include "calendar.h"
#include "slot_cache.h"

/* What is wanted, and how patiently. */
typedef struct TcSlotWish
{
	TimestampTz from;
	TimestampTz to;	  /* at most TC_SLOT_MAX_DAYS later */
	int64 max_wait;	  /* µs */
	int64 max_age;	  /* µs, or TC_SLOT_ANY_AGE */
	bool ignore_hold; /* of this call: what it holds counts as free to it */
	int64 call_id;
} TcSlotWish;

/*
 * Starts of free slots in [from, to), in order, palloc'd: what the calendar says, within the
 * branch's hours and the service's notice, less what is held and booked here.  Raises PT503 when
 * the calendar's answer is not known in time.
 */
extern TimestampTz *tc_slots_free(const TcCalendar *calendar, const TcSlotWish *asked, int *count);

/* For functions that have to do with slots: the tenant (raises PT403 without). */
extern const TcContext *tc_slots_tenant(void);

/* What clocks in the zone show then. */
extern Timestamp tc_local_time(TimestampTz at, pg_tz *zone);

#endif /* TC_SLOTS_H */
