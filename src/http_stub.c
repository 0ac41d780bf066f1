/*
 * http_stub.c
 *		Stands in for the HTTP worker until it is there.
 */
#include "postgres.h"

#include "http.h"

/* nothing yet */
void
tc_http_init(void)
{
}

/* nothing yet */
void
tc_http_submit(TcHttpJob *job)
{
}

/* nothing yet */
void
tc_http_report(const TcHttpJob *job, bool failure)
{
}

/* nothing yet */
void
tc_http_report_denied(const TcHttpJob *job)
{
}

/* nothing yet */
void
tc_http_wake(void)
{
}

/* nothing yet */
void
tc_http_wake_at_commit(void)
{
}

/* nothing yet */
bool
tc_http_worker_alive(void)
{
	return false;
}
