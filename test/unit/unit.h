/*
 * unit.h
 *		What a unit test of a core needs: checks that count and print, and a summary.
 *
 * A test program has one function per test, runs each with RUN() and returns unit_summary().
 * A failed check prints what it saw and the test goes on.
 */
#ifndef TC_UNIT_H
#define TC_UNIT_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int unit_passed, unit_failed; /* test functions */
static int unit_bad_checks;			 /* failed checks in the current function */

/* Counts and prints a failed check. */
static inline bool
unit_fail(const char *file, int line, const char *what)
{
	printf("%s:%d: check failed: %s\n", file, line, what);
	unit_bad_checks++;
	return false;
}

/* Compares integers. */
static inline bool
unit_int(int64_t actual, int64_t expected, const char *what, const char *file, int line)
{
	if (actual == expected)
		return true;
	printf("got %" PRId64 ", expected %" PRId64 "\n", actual, expected);
	return unit_fail(file, line, what);
}

/* Compares strings; NULL equals NULL alone. */
static inline bool
unit_str(const char *actual, const char *expected, const char *what, const char *file, int line)
{
	if (actual != NULL && expected != NULL ? strcmp(actual, expected) == 0 : actual == expected)
		return true;
	printf("got \"%s\", expected \"%s\"\n", actual ? actual : "(null)",
		   expected ? expected : "(null)");
	return unit_fail(file, line, what);
}

#define CHECK(condition) ((condition) ? true : unit_fail(__FILE__, __LINE__, #condition))
#define CHECK_INT(actual, expected)                                                                \
	unit_int((int64_t) (actual), (int64_t) (expected), #actual, __FILE__, __LINE__)
#define CHECK_STR(actual, expected) unit_str((actual), (expected), #actual, __FILE__, __LINE__)
#define CHECK_MEM(actual, expected, size)                                                          \
	(memcmp((actual), (expected), (size)) == 0                                                     \
		 ? true                                                                                    \
		 : unit_fail(__FILE__, __LINE__, #actual " differs"))

/* Runs one test function and prints its result. */
#define RUN(test) unit_run(test, #test)

static inline void
unit_run(void (*test)(void), const char *name)
{
	unit_bad_checks = 0;
	test();
	if (unit_bad_checks == 0)
		unit_passed++;
	else
		unit_failed++;
	printf("%s %s\n", unit_bad_checks == 0 ? "ok" : "FAILED", name);
	fflush(stdout);
}

/* Prints the sum; returns the program's exit code. */
static inline int
unit_summary(void)
{
	printf("%d passed, %d failed\n", unit_passed, unit_failed);
	return unit_failed == 0 && unit_passed > 0 ? 0 : 1;
}

#endif /* TC_UNIT_H */
