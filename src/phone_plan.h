/*
 * phone_plan.h
 *		Telephone numbers that need a numbering plan.
 */
#ifndef TC_PHONE_PLAN_H
#define TC_PHONE_PLAN_H

#include "postgres.h"

/*
 * Reads a number by the plan of a region (two capitals, or NULL).  False with the reason in
 * *detail, a sentence, when it is none; raises when the library is not there.
 */
extern bool tc_phone_plan_parse(const char *number, const char *region, int64 *phone,
								const char **detail);

#endif /* TC_PHONE_PLAN_H */
