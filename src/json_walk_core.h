/*
 * json_walk_core.h
 *		Walks through JSON of any size: what a vendor answers.  Pure C.
 *
 * tc_json_value() checks the whole text once (strict RFC 8259, no NUL, no lone surrogate, valid
 * UTF-8, at most TC_JSON_WALK_DEPTH levels); the walks below then only move.  Nothing is allocated
 * and nothing copied.  Unlike tc_json_scan() it takes any number of members and a member twice, of
 * which the last counts, as in jsonb: for input that informs, not for input that decides on access.
 */
#ifndef TC_JSON_WALK_CORE_H
#define TC_JSON_WALK_CORE_H

#include "json_core.h"

#define TC_JSON_WALK_DEPTH 64

/* A place between the members of an object, or the elements of an array. */
typedef struct TcJsonWalk
{
	const char *at;
	const char *end;
	bool named; /* an object */
} TcJsonWalk;

/* The whole text as one value of any kind; false when it is not JSON. */
extern bool tc_json_value(const char *text, size_t len, TcJsonMember *value);

/* Begins a walk through an object or array; false for any other kind. */
extern bool tc_json_walk(const TcJsonMember *value, TcJsonWalk *walk);

/* The next member or element (whose name is then empty); false at the end. */
extern bool tc_json_next(TcJsonWalk *walk, TcJsonMember *member);

/* The object's member of that (plain ASCII) name; false when there is none, or it is no object. */
extern bool tc_json_get(const TcJsonMember *object, const char *name, TcJsonMember *member);

/* tc_json_get() along a path of names with dots between them. */
extern bool tc_json_get_path(const TcJsonMember *object, const char *path, TcJsonMember *member);

/*
 * The string as text of at most outsize - 1 bytes, cut between characters, with control characters
 * turned into spaces; a number as it is written.  Empty, and false, for any other kind.
 */
extern bool tc_json_clip(const TcJsonMember *member, char *out, size_t outsize);

#endif /* TC_JSON_WALK_CORE_H */
