/*
 * directory.h
 *		Who owns which number, agent and name: answered from memory.
 */
#ifndef TC_DIRECTORY_H
#define TC_DIRECTORY_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "context_core.h"

/* What the library knows of a company. */
typedef struct TcCompany
{
	int64 company_id;
	uint8 uuid[TC_UUID_LEN];
	bool suspended;
	char phone_region[3]; /* empty when unknown */
} TcCompany;

/* To whom a number or an agent belongs. */
typedef struct TcPlace
{
	int64 company_id;
	int64 branch_id;	   /* 0: none */
	int64 phone_number_id; /* 0: not found by number */
} TcPlace;

/* How many numbers, companies and branches each session keeps. */
extern int tc_directory_cache_size;

extern void tc_directory_init(void);

/* The company of an id; false if there is none. */
extern bool tc_directory_company(int64 company_id, TcCompany *company);

/* To whom the number belongs now, and belonged at some time; false: to nobody. */
extern bool tc_directory_number(int64 phone, TcPlace *place);
extern bool tc_directory_number_at(int64 phone, TimestampTz at, TcPlace *place);

/* To whom the provider's agent belongs; false: to nobody. */
extern bool tc_directory_agent(const char *agent, TcPlace *place, TimestampTz *assigned_at);

/*
 * Completes ids from UUIDs and UUIDs from ids.  False when company or branch is unknown.  Where
 * create_tables() has not run there is nothing to ask, and everything is taken as it is.
 */
extern bool tc_directory_fill(TcContext *context);

#endif /* TC_DIRECTORY_H */
