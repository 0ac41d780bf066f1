/*
 * context_core.h
 *		A tenant context and its text form.  Pure C.
 */
#ifndef TC_CONTEXT_CORE_H
#define TC_CONTEXT_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TC_UUID_LEN 16

/* Zero, and the nil UUID, mean "none". */
typedef struct TcContext
{
	int64_t company_id;
	int64_t branch_id;
	uint8_t company_uuid[TC_UUID_LEN];
	uint8_t branch_uuid[TC_UUID_LEN];
} TcContext;

/* Room for two int64, two UUIDs in hex, three separators and the final zero. */
#define TC_CONTEXT_TEXT_LEN (2 * 19 + 2 * 32 + 3 + 1)

extern bool tc_uuid_is_nil(const uint8_t *uuid);
extern bool tc_context_equal(const TcContext *a, const TcContext *b);

/* The same company and branch, as far as ids or UUIDs that both have can tell?  Else they differ.
 */
extern bool tc_context_agrees(const TcContext *a, const TcContext *b);
extern void tc_context_complete(TcContext *context, const TcContext *more);
extern void tc_context_format(const TcContext *context, char text[TC_CONTEXT_TEXT_LEN]);
extern bool tc_context_parse(const char *text, TcContext *context);

#endif /* TC_CONTEXT_CORE_H */
