/* Unit test of confine_core.c. */
#include "confine_core.h"
#include "unit.h"

/* Names that are refused, and near misses. */
static void
test_names(void)
{
	CHECK(tc_confine_function("pg_notify") != NULL);
	CHECK(tc_confine_function("pg_notify2") == NULL);
	CHECK(tc_confine_function("pg_notif") == NULL);
	CHECK(tc_confine_function("pg_advisory_lock") != NULL);
	CHECK(tc_confine_function("pg_try_advisory_xact_lock_shared") != NULL);
	CHECK(tc_confine_function("lo_put") != NULL);
	CHECK(tc_confine_function("log") == NULL);
	CHECK(tc_confine_function("lower") == NULL);
	CHECK(tc_confine_function("pg_stat_get_activity") != NULL);
	CHECK(tc_confine_function("pg_sleep") == NULL);
	CHECK(tc_confine_function("") == NULL);
}

int
main(void)
{
	RUN(test_names);
	return unit_summary();
}
