/*
 * test_lease_core.c
 *		How many calls at once: the drawing of lease_core.c, for all small numbers.
 */
#include "lease_core.h"

#include "unit.h"

/* Every policy and use up to 6, against the rules said in words. */
static void
all_small(void)
{
	for (int max = 0; max <= 6; max++)
		for (int reserved = 0; reserved <= max; reserved++)
			for (int burst = 0; burst <= 3; burst++)
				for (int in = 0; in <= 10; in++)
					for (int out = 0; out <= 10; out++)
					{
						TcLeasePolicy policy = {true, max, reserved, burst};
						TcLeaseUse use = {in, out};

						CHECK((tc_lease_judge(&policy, &use, false) == TC_LEASE_FREE) ==
							  (in + out + 1 <= max + burst));
						CHECK((tc_lease_judge(&policy, &use, true) == TC_LEASE_FREE) ==
							  (in + out + 1 <= max && out + 1 <= max - reserved));
						CHECK(tc_lease_judge(&policy, &use, false) != TC_LEASE_RESERVED);
					}
}

/* However calls are admitted, the reserve stays for inbound ones. */
static void
reserve_holds(void)
{
	TcLeasePolicy policy = {true, 10, 4, 0};
	TcLeaseUse use = {0, 0};

	while (tc_lease_judge(&policy, &use, true) == TC_LEASE_FREE)
		use.outbound++;
	CHECK_INT(use.outbound, 6);
	CHECK_INT(tc_lease_judge(&policy, &use, true), TC_LEASE_RESERVED);
	while (tc_lease_judge(&policy, &use, false) == TC_LEASE_FREE)
		use.inbound++;
	CHECK_INT(use.inbound, 4);
	CHECK_INT(tc_lease_judge(&policy, &use, true), TC_LEASE_FULL);
}

/* A policy that is switched off admits everything; one of 0 nothing. */
static void
extremes(void)
{
	TcLeasePolicy off = {false, 0, 0, 0};
	TcLeasePolicy none = {true, 0, 0, 0};
	TcLeaseUse many = {2000000000, 2000000000};
	TcLeaseUse nothing = {0, 0};

	CHECK_INT(tc_lease_judge(&off, &many, true), TC_LEASE_FREE);
	CHECK_INT(tc_lease_judge(&off, &many, false), TC_LEASE_FREE);
	CHECK_INT(tc_lease_judge(&none, &nothing, true), TC_LEASE_FULL);
	CHECK_INT(tc_lease_judge(&none, &nothing, false), TC_LEASE_FULL);
	CHECK_INT(tc_lease_limit(&(TcLeasePolicy){true, 20, 5, 40}, false), 60);
	CHECK_INT(tc_lease_limit(&(TcLeasePolicy){true, 20, 5, 40}, true), 20);
}

int
main(void)
{
	RUN(all_small);
	RUN(reserve_holds);
	RUN(extremes);
	return unit_summary();
}
