/*
 * calcom_read_core.h
 *		Cal.com: reads members of what the vendor sends, for the other cores.  Pure C.
 *
 * A member that is absent or null is read as nothing: an empty string, 0, TC_TIME_NONE.  False
 * means that it is there, and is not what it should be.
 */
#ifndef TC_CALCOM_READ_CORE_H
#define TC_CALCOM_READ_CORE_H

#include "calcom_core.h"
#include "json_walk_core.h"
#include "time_core.h"

/* Parses an answer and finds its data; PARSED only when its status is "success". */
extern TcCalcomParse tc_calcom_open_answer(const char *body, size_t len, TcJsonMember *root,
										   TcJsonMember *data);

/* A string of less than outsize bytes. */
extern bool tc_calcom_read_text(const TcJsonMember *object, const char *name, char *out,
								size_t outsize);

extern bool tc_calcom_read_integer(const TcJsonMember *object, const char *name, int64_t *value);
extern bool tc_calcom_read_time(const TcJsonMember *object, const char *name, int64_t *time);

/* metadata[key]; empty when it is absent, no string, or as long as outsize.  key may be NULL. */
extern void tc_calcom_read_mark(const TcJsonMember *object, const char *key, char *out,
								size_t outsize);

#endif /* TC_CALCOM_READ_CORE_H */
