/*
 * magic.c
 *		Makes tenantcall_http.so loadable by the server that it was built for, and by no other.
 *
 * The only file of that library that knows PostgreSQL.
 */
#include "postgres.h"

#include "compat.h"

TC_MODULE_MAGIC;
