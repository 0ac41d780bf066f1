/*
 * slot_remote.c
 *		Free slots by way of the elected node of a Citus cluster.
 *
 *		company's node: question --> slot_answer() on the elected node --> its cache, its worker
 *			--> answer as text --> reduced here by what is held and booked
 *
 * The answers of calendars are kept on the elected node alone: one question is asked once, whatever
 * the number of nodes, and its requests are counted in one place.  What is taken here the company's
 * node knows.
 *
 * No locks while waiting.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "elected.h"
#include "node.h"
#include "node_groups.h"
#include "ready.h"
#include "slot_remote.h"

PG_FUNCTION_INFO_V1(tc_slot_answer);

/*
 * slot_answer(company_id, event_type_id, team_id, duration, from, to, credential, time_zone,
 * max_wait, max_age) -> text: numbers for the node that asks
 */
Datum
tc_slot_answer(PG_FUNCTION_ARGS)
{
	TcSlotQuestion question;
	TcSlotAnswer answer;
	StringInfoData out;

	tc_require_ready();
	memset(&question, 0, sizeof(question));
	question.database = MyDatabaseId;
	question.company_id = PG_GETARG_INT64(0);
	question.event_type_id = PG_GETARG_INT64(1);
	question.team_id = PG_GETARG_INT64(2);
	question.duration = PG_GETARG_INT32(3);
	question.from = PG_GETARG_INT64(4);
	question.to = PG_GETARG_INT64(5);
	text_to_cstring_buffer(PG_GETARG_TEXT_PP(6), question.credential, sizeof(question.credential));
	text_to_cstring_buffer(PG_GETARG_TEXT_PP(7), question.time_zone, sizeof(question.time_zone));
	tc_slot_cache_get(&question, PG_GETARG_INT64(8), PG_GETARG_INT64(9), &answer);
	initStringInfo(&out);
	appendStringInfo(&out, "%d " INT64_FORMAT " ", (int) answer.source, answer.retry_after);
	if (answer.source == TC_SLOTS_FAILED)
		appendStringInfoString(&out, answer.reason);
	else
	{
		appendStringInfo(&out, INT64_FORMAT " %d", answer.age, answer.count);
		for (int i = 0; i < answer.count; i++)
			appendStringInfo(&out, " " INT64_FORMAT, answer.starts[i]);
	}
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

/* Gives a failure of our own. */
static void
fail(TcSlotAnswer *answer, const char *reason)
{
	answer->source = TC_SLOTS_FAILED;
	answer->count = 0;
	answer->retry_after = -1;
	strlcpy(answer->reason, reason, sizeof(answer->reason));
}

/* Takes the elected node's answer apart. */
static void
take_answer(char *text, TcSlotAnswer *answer)
{
	char *at = text;

	answer->source = (TcSlotSource) strtol(at, &at, 10);
	answer->retry_after = strtoll(at, &at, 10);
	if (answer->source == TC_SLOTS_FAILED)
	{
		strlcpy(answer->reason, *at == ' ' ? at + 1 : at, sizeof(answer->reason));
		return;
	}
	answer->age = strtoll(at, &at, 10);
	answer->count = (int) strtol(at, &at, 10);
	if (answer->count < 0 || answer->count > TC_SLOT_MAX_STARTS)
		elog(ERROR, "the elected node has answered %d slots", answer->count);
	for (int i = 0; i < answer->count; i++)
		answer->starts[i] = strtoll(at, &at, 10);
}

/* Asks the elected node, which may be this one. */
void
tc_slot_ask(TcSlotQuestion *question, int64 max_wait, int64 max_age, TcSlotAnswer *answer)
{
	TcElected elected;
	char *error;
	char *text;

	if (likely(!tc_node_citus) || !tc_elected_elsewhere(&elected))
	{
		tc_slot_cache_get(question, max_wait, max_age, answer);
		return;
	}
	memset(answer, 0, offsetof(TcSlotAnswer, taken));
	answer->ntaken = -1;
	answer->starts = palloc(sizeof(TimestampTz) * TC_SLOT_MAX_STARTS);
	text = tc_node_run(elected.node,
					   psprintf("SELECT tenantcall.slot_answer(" INT64_FORMAT ", " INT64_FORMAT
								", " INT64_FORMAT ", %d, " INT64_FORMAT ", " INT64_FORMAT
								", %s, %s, " INT64_FORMAT ", " INT64_FORMAT ")",
								question->company_id, question->event_type_id, question->team_id,
								question->duration, question->from, question->to,
								quote_literal_cstr(question->credential),
								quote_literal_cstr(question->time_zone), max_wait, max_age),
					   &error);
	if (text != NULL)
		take_answer(text, answer);
	else
	{
		ereport(LOG, (errmsg("the elected node does not answer for a calendar: %s", error)));
		fail(answer, "no_elected_node");
	}
}
