/*
 * slot_taken.h
 *		What of a calendar's time is held or booked here.
 */
#ifndef TC_SLOT_TAKEN_H
#define TC_SLOT_TAKEN_H

#include "postgres.h"

#include "slots.h"

/* What is taken, as far as the wish is concerned, palloc'd or of the answer. */
extern TcSlotTaken *tc_slot_taken(const TcCalendar *calendar, const TcSlotWish *wish,
								  const TcSlotQuestion *question, TcSlotAnswer *answer, int *count);

/* Are all seats of a slot taken? */
extern bool tc_slot_full(const TcCalendar *calendar, TimestampTz starts_at,
						 const TcSlotTaken *taken, int count);

#endif /* TC_SLOT_TAKEN_H */
