/*
 * calcom_slots_core.h
 *		Cal.com: asking for free slots, and the answer.  Pure C.
 */
#ifndef TC_CALCOM_SLOTS_CORE_H
#define TC_CALCOM_SLOTS_CORE_H

#include "calcom_core.h"

/* GET /v2/slots */
typedef struct TcCalcomSlotsQuery
{
	int64_t event_type_id;
	int64_t start; /* times of time_core.h */
	int64_t end;
	const char *time_zone; /* of the answer, or NULL: UTC */
	int duration;		   /* minutes, or 0: the event type's own */
	const char *moved_uid; /* a booking that is about to be moved frees its own time, or NULL */
} TcCalcomSlotsQuery;

/* Writes path and query; returns the length, or 0 when out is too small or the request wrong. */
extern size_t tc_calcom_slots_path(const TcCalcomSlotsQuery *query, char *out, size_t size);

/*
 * Reads the starts of all slots into starts[max], sorted, each once; *n is their number, 0 unless
 * PARSED.  Takes {data: {date: [{start}]}}, with or without end (format=range), and the older
 * {data: {slots: {date: [{time}]}}}.  PARSED with none means that the calendar says none.
 */
extern TcCalcomParse tc_calcom_parse_slots(const char *body, size_t len, int64_t *starts, int max,
										   int *n);

#endif /* TC_CALCOM_SLOTS_CORE_H */
