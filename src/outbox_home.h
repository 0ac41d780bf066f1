/*
 * outbox_home.h
 *		Orders that came with a copy of the database.
 */
#ifndef TC_OUTBOX_HOME_H
#define TC_OUTBOX_HOME_H

/*
 * In the worker, within a transaction, before it claims anything for the first time: where this is
 * a copy, the calendar is asked about the orders that are queued before they are sent.
 */
extern void tc_outbox_move_in(void);

#endif /* TC_OUTBOX_HOME_H */
