/*
 * appointments.h
 *		Appointments: their rows, and how they move.
 *
 * For all of it the caller acts for the company (act.h).
 */
#ifndef TC_APPOINTMENTS_H
#define TC_APPOINTMENTS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

typedef struct TcAppointment
{
	int64 company_id;
	int64 appointment_id;
	int64 branch_id; /* this and the following ids: 0 for none */
	int64 service_id;
	int64 hold_id;
	int64 call_id;
	int64 customer_id;
	int64 rescheduled_from;
	char *credential;
	int64 event_type_id;
	TimestampTz starts_at;
	TimestampTz ends_at;
	TimestampTz told_at; /* 0: never */
	char *time_zone;	 /* or NULL */
	char *status;
	char *uid;		 /* or NULL */
	char *reason;	 /* or NULL */
	Jsonb *customer; /* or NULL */
	bool elsewhere;
} TcAppointment;

/* Lock a row until the end of the transaction and read it; false if there is none. */
extern bool tc_appointment_lock(int64 company_id, int64 appointment_id, TcAppointment *row);
extern bool tc_appointment_lock_uid(int64 company_id, const char *uid, TcAppointment *row);

/* The first with the row that it is to replace, if any (else its id is 0). */
extern bool tc_appointment_lock_with_origin(int64 company_id, int64 appointment_id,
											TcAppointment *row, TcAppointment *origin);

/* The same by hold, without locking. */
extern bool tc_appointment_of_hold(int64 company_id, int64 hold_id, TcAppointment *row);

/* The appointment that replaces this one, unless it was refused or cancelled; 0: none. */
extern int64 tc_appointment_successor(const TcAppointment *row);

/* Inserts a row, and fills its appointment_id; the reason goes into row and audit trail. */
extern void tc_appointment_insert(TcAppointment *row, const char *reason);

/*
 * Moves the status (NULL: it stays), notes the calendar's uid (NULL: it stays) and the reason.
 * One that is over gives up its hold.  Who waits for it is woken at commit.
 */
extern void tc_appointment_move(TcAppointment *row, const char *status, const char *uid,
								const char *reason);

/* Gives it another uid, or none (NULL). */
extern void tc_appointment_rename(TcAppointment *row, const char *uid);

/* Notes what else the calendar told: the time of that, and whether somebody came (-1: not said). */
extern void tc_appointment_told(TcAppointment *row, TimestampTz told_at, int no_show);

/* Another time, as the calendar says: its hold goes with it. */
extern void tc_appointment_shift(TcAppointment *row, TimestampTz starts_at, TimestampTz ends_at);

/* Is it over (refused, cancelled, rescheduled)? */
extern bool tc_appointment_over(const char *status);

#endif /* TC_APPOINTMENTS_H */
