/*
 * http_source.c
 *		The modules that give the HTTP worker its work.
 *
 * Every process keeps the list, since every process loads the modules; the worker alone uses it.
 */
#include "postgres.h"

#include "http.h"
#include "http_source.h"

static const TcHttpSource *sources[TC_HTTP_MAX_SOURCES];
static int nsources = 0;

/* Adds a source; called while libraries are loaded, so it does not raise. */
void
tc_http_add_source(const TcHttpSource *source)
{
	Assert(nsources < TC_HTTP_MAX_SOURCES);
	if (nsources < TC_HTTP_MAX_SOURCES)
		sources[nsources++] = source;
}

/* How many there are. */
int
tc_http_source_count(void)
{
	return nsources;
}

/* One of them. */
const TcHttpSource *
tc_http_source(int number)
{
	return sources[number];
}
