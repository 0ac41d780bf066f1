/*
 * slot_fetch.h
 *		Asks calendars for free slots: a source of the HTTP worker.
 */
#ifndef TC_SLOT_FETCH_H
#define TC_SLOT_FETCH_H

extern void tc_slot_fetch_init(void);

#endif /* TC_SLOT_FETCH_H */
