/*
 * customer.h
 *		Who an appointment is for, as book() is told.
 */
#ifndef TC_CUSTOMER_H
#define TC_CUSTOMER_H

#include "postgres.h"

#include "utils/jsonb.h"

typedef struct TcCustomer
{
	char *name;
	char *email; /* or NULL */
	char *phone; /* E.164, or NULL */
	char *time_zone;
	char *language; /* or NULL */
} TcCustomer;

/*
 * Takes {name, email, phone, time_zone, language} apart, or raises and says what is wrong.  Numbers
 * are understood as dialled in the region (NULL: none); the time zone defaults to the given one.
 */
extern void tc_customer_parse(Jsonb *json, const char *region, const char *time_zone,
							  TcCustomer *customer);

/* The same as jsonb, numbers in E.164. */
extern Jsonb *tc_customer_json(const TcCustomer *customer);

#endif /* TC_CUSTOMER_H */
