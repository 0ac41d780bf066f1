/*
 * time_zone.h
 *		Names of time zones.
 */
#ifndef TC_TIME_ZONE_H
#define TC_TIME_ZONE_H

/* Raises unless it is a name of pg_timezone_names, such as Europe/Berlin, written as there. */
extern void tc_time_zone_check(const char *name);

#endif /* TC_TIME_ZONE_H */
