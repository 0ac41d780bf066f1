/*
 * http_source.h
 *		The list of sources, for the worker.
 */
#ifndef TC_HTTP_SOURCE_H
#define TC_HTTP_SOURCE_H

#include "http.h"

#define TC_HTTP_MAX_SOURCES 8

extern int tc_http_source_count(void);
extern const TcHttpSource *tc_http_source(int number);

#endif /* TC_HTTP_SOURCE_H */
