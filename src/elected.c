/*
 * elected.c
 *		The one node of a Citus cluster that speaks to calendars.
 *
 *		elect_node() --> tenantcall.elected_nodes (one row on each node, told to all)
 *			--> its worker takes orders on all nodes, and sends them
 *			--> the others' workers send nothing; they tell it when there is work
 *
 * So there is one sender, and one place where the requests of an account are counted.  What holds
 * when another node is elected, or the elected one is cut off:
 *
 * - An order is taken on the node of its company, in a transaction of that node, by one: this alone
 *   keeps it from being sent twice.
 * - That node compares generation and place with its row: whoever is not elected any more gets none
 *   from the moment on at which the node was told.  Nodes that could not be told learn of it from
 *   the elected one, and an elected one that was cut off from the others when it asks them.
 * - What was taken before is leased, and sent before the lease ends or not at all: its deadline
 *   counts from before it was asked for (outbox_send.c).
 * - The successor begins when the predecessor says that nothing is under way any more, or cannot
 *   say so until its leases have ended.  What it then finds taken, it asks the calendar about.
 *
 * State of the worker's process, and its duty in shared memory (http_database.c).  No locks.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "act.h"
#include "elected.h"
#include "errors.h"
#include "http.h"
#include "http_database.h"
#include "http_shmem.h"
#include "http_worker.h"
#include "inval.h"
#include "node.h"
#include "node_groups.h"
#include "outbox.h"
#include "outbox_claim.h"
#include "place.h"
#include "ready.h"
#include "slot_generation.h"
#include "slot_news.h"
#include "telephony.h"

#define NS_PER_MS INT64CONST(1000000)
#define LOOK_MS 250						 /* while it waits for its predecessor */
#define LONG_AGO (10 * USECS_PER_MINUTE) /* an election whose predecessor has surely ended */

static TcStatement note_election = {
	.sql = "SELECT tenantcall.note_election($1, $2, $3, $4, $5)",
	.nparams = 5,
	.types = {INT4OID, INT4OID, INT8OID, INT8OID, TIMESTAMPTZOID},
};

static TcDuty duty = TC_DUTY_UNKNOWN;
static int64 taking_over = 0; /* generation that this worker waits to begin, or began, with */
static int64 waits_since = 0; /* ns of tc_http_now(); 0: it has begun */
static int64 retired = 0;	  /* election that was won by another node */

static const char *const duty_names[] = {
	"no worker has looked yet", "alone", "idle", "copy", "takes over", "elected",
};

/* Name of a duty. */
const char *
tc_duty_name(TcDuty which)
{
	return duty_names[which];
}

/* Takes the row. */
static bool
visit_elected(HeapTuple tuple, TupleDesc desc, void *arg)
{
	TcElected *elected = arg;
	Datum value;

	elected->node = tc_row_datum(tuple, desc, "node", &value) ? DatumGetInt32(value) : 0;
	elected->previous = tc_row_datum(tuple, desc, "previous", &value) ? DatumGetInt32(value) : -1;
	elected->place = tc_row_int8(tuple, desc, "place");
	elected->generation = tc_row_int8(tuple, desc, "generation");
	elected->since = tc_row_datum(tuple, desc, "since", &value) ? DatumGetTimestampTz(value) : 0;
	return false;
}

/* Who is elected. */
bool
tc_elected(TcElected *elected)
{
	Oid relid;

	if (likely(!tc_node_distributed()))
		return false;
	memset(elected, 0, sizeof(*elected));
	relid = tc_own_relation("elected_nodes");
	if (OidIsValid(relid))
		tc_read_rows(relid, NULL, 0, visit_elected, elected);
	return elected->generation != 0;
}

/* Is it another node? */
bool
tc_elected_elsewhere(TcElected *elected)
{
	return unlikely(tc_node_citus) && tc_elected(elected) && elected->node != tc_node_number();
}

/* This node hears of an election. */
void
tc_elected_note(int node, int64 place, int64 generation)
{
	TcElected before;
	TcParams params = {0};
	bool any = tc_elected(&before);
	TcAct act;

	if (any && before.generation >= generation)
		return;
	tc_param_datum(&params, Int32GetDatum(node), false);
	tc_param_datum(&params, Int32GetDatum(before.node), !any);
	tc_param_datum(&params, Int64GetDatum(place), false);
	tc_param_int8(&params, generation);
	tc_param_datum(&params, TimestampTzGetDatum(GetCurrentTimestamp()), false);
	tc_act_begin(&act, TC_AS_SYSTEM, NULL);
	(void) tc_execute(&note_election, &params);
	tc_act_end(&act);
}

/* The same of what another node knows: "generation node place", or nothing. */
void
tc_elected_hear(const char *newest)
{
	char *at;
	int64 generation;
	int node;

	if (newest == NULL || newest[0] == '\0')
		return;
	generation = strtoll(newest, &at, 10);
	node = (int) strtol(at, &at, 10);
	tc_elected_note(node, strtoll(at, NULL, 10), generation);
}

/* Hears of elections that were held while this node could not be told. */
static void
ask_others(void)
{
	TcNodeReply *replies;
	int count;

	replies = tc_node_run_all("SELECT tenantcall.newest_election()", NULL, 0, &count);
	for (int i = 0; i < count; i++)
	{
		if (replies[i].ok)
			tc_elected_hear(replies[i].text);
	}
}

/* Raises if it is another node. */
void
tc_require_elected(void)
{
	TcElected elected;

	if (tc_elected_elsewhere(&elected))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("another node of the cluster speaks to calendars"),
						errhint("Connect to that node: tenantcall.elected_node() names it.")));
}

/* Has the predecessor's last request ended? */
static bool
predecessor_ended(const TcElected *elected)
{
	int64 longest = (tc_outbox_timeout + TC_LEASE_MARGIN_MS) * NS_PER_MS;
	char *error;
	char *answer;

	if (tc_http_now() - waits_since >= longest || elected->previous < 0 ||
		GetCurrentTimestamp() - elected->since > LONG_AGO)
		return true;
	if (elected->previous == elected->node)
		return false; /* another copy of this node: it cannot be asked */
	answer = tc_node_run(elected->previous,
						 psprintf("SELECT tenantcall.worker_has_retired(" INT64_FORMAT ")",
								  elected->generation),
						 &error);
	return answer != NULL && strcmp(answer, "t") == 0;
}

/* What this worker is to do. */
static TcDuty
find_duty(void)
{
	TcElected elected;

	if (likely(!tc_elected(&elected)))
		return tc_node_distributed() ? TC_DUTY_IDLE : TC_DUTY_ALONE;
	if (elected.node == tc_node_number() && elected.place == (int64) tc_place_of_database())
	{
		if (taking_over != elected.generation)
		{
			taking_over = elected.generation;
			waits_since = tc_http_now();
			ask_others();
			return TC_DUTY_TAKES_OVER;
		}
		if (waits_since != 0 && !predecessor_ended(&elected))
			return TC_DUTY_TAKES_OVER;
		waits_since = 0;
		return TC_DUTY_ELECTED;
	}
	taking_over = 0;
	retired = elected.generation;
	return elected.node == tc_node_number() ? TC_DUTY_COPY : TC_DUTY_IDLE;
}

/* Finds out whether this worker is to speak. */
void
tc_elected_look(void)
{
	TcDuty before = duty;
	int under_way;

	retired = 0;
	duty = find_duty();
	if (!tc_elected_speaks())
		tc_http_refuse_all();
	else if (duty == TC_DUTY_ELECTED && before != duty)
		tc_slot_raise_now(0, NULL, 0); /* what calendars said before another node was elected */
	tc_http_database_set_duty(duty, tc_http_busy(&under_way) ? 0 : retired);
	if (duty == before || (duty == TC_DUTY_ALONE && before == TC_DUTY_UNKNOWN))
		return;
	ereport(LOG,
			(errmsg("HTTP worker: %s",
					duty == TC_DUTY_ELECTED		 ? "this node is elected to speak to calendars"
					: duty == TC_DUTY_TAKES_OVER ? "waits until the node elected before has ended"
					: duty == TC_DUTY_COPY
						? "this is a copy of the elected node, or its successor: "
						  "see tenantcall.elect_node()"
					: duty == TC_DUTY_IDLE ? "another node is elected to speak to calendars"
										   : "this server speaks to calendars by itself")));
}

/* May this worker speak to calendars? */
bool
tc_elected_speaks(void)
{
	return likely(!tc_node_citus) || duty == TC_DUTY_ALONE || duty == TC_DUTY_ELECTED;
}

/* Is the election still the one that this worker began with? */
bool
tc_elected_still(void)
{
	TcElected elected;

	return likely(!tc_node_distributed()) ||
		   (tc_elected(&elected) && elected.node == tc_node_number() &&
			elected.generation == taking_over);
}

/* When to look again. */
long
tc_elected_wish(void)
{
	return duty == TC_DUTY_TAKES_OVER ? LOOK_MS : -1;
}

/* Tells the elected node what came up here: that there are orders, and what changed. */
static void
pass_on(void)
{
	TcElected elected;
	TimestampTz due;
	char *error;

	if (duty != TC_DUTY_IDLE || tc_telephony() == NULL || !tc_elected_elsewhere(&elected))
		return;
	tc_slot_news_pass_on(elected.node);
	due = tc_outbox_next_due();
	if (due == 0 || due > GetCurrentTimestamp() || tc_outbox_paused())
		return;
	if (tc_node_run(elected.node, "SELECT tenantcall.wake_worker()", &error) == NULL)
		ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
						errmsg("the elected node cannot be told of orders: %s", error)));
}

/* TcHttpSource.poll */
static void
poll_cluster(void)
{
	if (likely(!tc_node_citus))
		return;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (tc_hold_extension())
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		pass_on();
		PopActiveSnapshot();
	}
	CommitTransactionCommand();
}

/* Registers the source. */
void
tc_elected_init(void)
{
	static const TcHttpSource source = {.name = "cluster",
										.poll = poll_cluster,
										.wants_extension = true,
										.everywhere = true};

	tc_http_add_source(&source);
}
