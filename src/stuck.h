/*
 * stuck.h
 *		Calls whose end was never told.
 */
#ifndef TC_STUCK_H
#define TC_STUCK_H

extern void tc_stuck_init(void);

#endif /* TC_STUCK_H */
