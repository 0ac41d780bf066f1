/*
 * errors.h
 *		SQLSTATEs of tenantcall.
 *
 * Class PT is the one that PostgREST turns into the HTTP status of the same number.
 */
#ifndef TC_ERRORS_H
#define TC_ERRORS_H

#include "utils/elog.h"

/* the token is missing, malformed, expired or signed by an unknown key */
#define ERRCODE_TC_BAD_TOKEN MAKE_SQLSTATE('P', 'T', '4', '0', '1')
/* wrong tenant, second tenant, or no tenant where one is required */
#define ERRCODE_TC_WRONG_TENANT MAKE_SQLSTATE('P', 'T', '4', '0', '3')
/* unknown company, branch, number, agent, policy or lifecycle */
#define ERRCODE_TC_UNKNOWN MAKE_SQLSTATE('P', 'T', '4', '0', '4')
/* illegal transition, or a conflict with what is recorded */
#define ERRCODE_TC_CONFLICT MAKE_SQLSTATE('P', 'T', '4', '0', '9')
/* refused by a rate limit */
#define ERRCODE_TC_LIMITED MAKE_SQLSTATE('P', 'T', '4', '2', '9')
/* an upstream service is unavailable, or its answer unknown */
#define ERRCODE_TC_UNAVAILABLE MAKE_SQLSTATE('P', 'T', '5', '0', '3')

#endif /* TC_ERRORS_H */
