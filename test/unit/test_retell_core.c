/*
 * test_retell_core.c
 *		Retell AI's signature header, its window, and the names of events.
 */
#include "retell_core.h"
#include "unit.h"

#define D "07024cabe7dd8f6d1c6e4a8324ca92c812e6ad4a7ee506c04f7e462e3321823e"

static TcRetellSignature sig;

static bool
parse(const char *header)
{
	return tc_retell_signature_parse(header, strlen(header), &sig);
}

/* The vendor's own vector (test/fixtures/retell/signature_vectors.json). */
static void
vector(void)
{
	CHECK(parse("v=1700000000000,d=" D));
	CHECK_INT(sig.stamp_ms, INT64_C(1700000000000));
	CHECK_STR(sig.stamp, "1700000000000");
	CHECK_INT(sig.stamplen, 13);
	CHECK_INT(sig.digest[0], 0x07);
	CHECK_INT(sig.digest[31], 0x3e);
	CHECK(parse(
		"v=1760000000123,d=b0a7a719611db4e0d8f91a1c5a8456c849f62f620634c0369310b4e9bffd63d9"));
	CHECK(parse(
		"v=1700000000000,d=07024CABE7DD8F6D1C6E4A8324CA92C812E6AD4A7EE506C04F7E462E3321823E"));
	CHECK_INT(sig.digest[31], 0x3e);
}

static void
stamps(void)
{
	CHECK(parse("v=0,d=" D));
	CHECK(parse("v=9223372036854775807,d=" D));
	CHECK_INT(sig.stamplen, TC_RETELL_STAMP_MAX);
	CHECK(!parse("v=9223372036854775808,d=" D));
	CHECK(!parse("v=99999999999999999999999999,d=" D));
	CHECK(!parse("v=-1,d=" D));
	CHECK(!parse("v=+1,d=" D));
	CHECK(!parse("v=01,d=" D));
	CHECK(!parse("v=00,d=" D));
	CHECK(!parse("v=1.0,d=" D));
	CHECK(!parse("v=,d=" D));
}

static void
refuses_anything_around(void)
{
	CHECK(!parse(""));
	CHECK(!parse("v"));
	CHECK(!parse("v=1"));
	CHECK(!parse("v=1,d"));
	CHECK(!parse("v=1,d="));
	CHECK(!parse(" v=1,d=" D));
	CHECK(!parse("v=1,d=" D " "));
	CHECK(!parse("v=1,d=" D "\n"));
	CHECK(!parse("v=1, d=" D));
	CHECK(!parse("V=1,d=" D));
	CHECK(!parse("d=" D ",v=1"));
	CHECK(!parse("v=1,d=" D ",v=2"));
	CHECK(!parse("v=1,d=" D "00"));
	CHECK(!parse("v=1,d=7024cabe7dd8f6d1c6e4a8324ca92c812e6ad4a7ee506c04f7e462e3321823e"));
	CHECK(!parse("v=1,d=g7024cabe7dd8f6d1c6e4a8324ca92c812e6ad4a7ee506c04f7e462e3321823e"));
	CHECK(!tc_retell_signature_parse("v=1,d=" D, 6 + 63, &sig));
}

static bool
fresh(int64_t stamp, int64_t received)
{
	sig.stamp_ms = stamp;
	return tc_retell_fresh(&sig, received);
}

/* The edge is inside, on both sides, and nothing overflows. */
static void
window(void)
{
	CHECK(fresh(1000000, 1000000));
	CHECK(fresh(1000000, 1300000));
	CHECK(!fresh(1000000, 1300001));
	CHECK(fresh(1000000, 700000));
	CHECK(!fresh(1000000, 699999));
	CHECK(!fresh(INT64_MAX, INT64_MIN));
	CHECK(!fresh(INT64_MAX, -2));
	CHECK(!fresh(0, INT64_MIN));
	CHECK(fresh(INT64_MAX, INT64_MAX));
}

static void
events(void)
{
	for (int i = TC_RETELL_OTHER; i <= TC_RETELL_TRANSFER_ENDED; i++)
	{
		const char *name = tc_retell_event_name((TcRetellEvent) i);

		CHECK_INT(tc_retell_event(name, strlen(name)), i);
	}
	CHECK_STR(tc_retell_event_name(TC_RETELL_CALL_ANALYZED), "call_analyzed");
	CHECK_INT(tc_retell_event("call_start", 10), TC_RETELL_OTHER);
	CHECK_INT(tc_retell_event("Call_started", 12), TC_RETELL_OTHER);
	CHECK_INT(tc_retell_event("call_started ", 13), TC_RETELL_OTHER);
	CHECK_INT(tc_retell_event("", 0), TC_RETELL_OTHER);
}

int
main(void)
{
	RUN(vector);
	RUN(stamps);
	RUN(refuses_anything_around);
	RUN(window);
	RUN(events);
	return unit_summary();
}
