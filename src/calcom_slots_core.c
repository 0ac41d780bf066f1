/*
 * calcom_slots_core.c
 *		Cal.com: asking for free slots, and the answer.
 *
 * The parser must not take for "nothing is free" what merely looks different: the members of data
 * are dates with lists of slots, each with a time, or the answer has the wrong shape.
 */
#include "calcom_slots_core.h"

#include <string.h>

#include "calcom_read_core.h"
#include "json_write_core.h"

/* Where slots are collected. */
typedef struct Slots
{
	int64_t *starts;
	int max;
	int n;
	const char *time_name; /* of the member with the time */
} Slots;

/* Writes path and query. */
size_t
tc_calcom_slots_path(const TcCalcomSlotsQuery *query, char *out, size_t size)
{
	char start[TC_TIME_ISO_LEN + 1];
	char end[TC_TIME_ISO_LEN + 1];
	TcWriter writer;

	tc_write_begin(&writer, out, size);
	if (query->event_type_id <= 0 || query->start >= query->end || query->duration < 0 ||
		!tc_time_print_iso(query->start, start) || !tc_time_print_iso(query->end, end))
		writer.failed = true;
	else
	{
		tc_write_raw(&writer, "/v2/slots?eventTypeId=");
		tc_write_integer(&writer, query->event_type_id);
		tc_write_raw(&writer, "&start=");
		tc_write_url(&writer, start);
		tc_write_raw(&writer, "&end=");
		tc_write_url(&writer, end);
	}
	if (query->time_zone != NULL)
	{
		tc_write_raw(&writer, "&timeZone=");
		tc_write_url(&writer, query->time_zone);
	}
	if (query->duration > 0)
	{
		tc_write_raw(&writer, "&duration=");
		tc_write_integer(&writer, query->duration);
	}
	if (query->moved_uid != NULL)
	{
		tc_write_raw(&writer, "&bookingUidToReschedule=");
		tc_write_url(&writer, query->moved_uid);
	}
	return tc_write_end(&writer);
}

/* Takes the slots of one date. */
static TcCalcomParse
take_date(const TcJsonMember *date, Slots *slots)
{
	TcJsonMember slot;
	TcJsonWalk walk;

	if (date->kind != TC_JSON_ARRAY || !tc_time_is_date(date->name.start, date->name.len) ||
		!tc_json_walk(date, &walk))
		return TC_CALCOM_WRONG_SHAPE;
	while (tc_json_next(&walk, &slot))
	{
		int64_t start;

		if (!tc_calcom_read_time(&slot, slots->time_name, &start) || start == TC_TIME_NONE)
			return TC_CALCOM_WRONG_SHAPE;
		if (slots->n == slots->max)
			return TC_CALCOM_TOO_MANY;
		slots->starts[slots->n++] = start;
	}
	return TC_CALCOM_PARSED;
}

/* Lets the value at i sink to its place in a heap of n. */
static void
sift_down(int64_t *values, int i, int n)
{
	int64_t value = values[i];

	for (;;)
	{
		int child = 2 * i + 1;

		if (child >= n)
			break;
		if (child + 1 < n && values[child + 1] > values[child])
			child++;
		if (values[child] <= value)
			break;
		values[i] = values[child];
		i = child;
	}
	values[i] = value;
}

/* Sorts, unless they are in order already, as they usually come. */
static void
sort(int64_t *values, int n)
{
	int sorted = 1;

	while (sorted < n && values[sorted - 1] <= values[sorted])
		sorted++;
	if (sorted >= n)
		return;
	for (int i = n / 2 - 1; i >= 0; i--)
		sift_down(values, i, n);
	for (int end = n - 1; end > 0; end--)
	{
		int64_t largest = values[0];

		values[0] = values[end];
		values[end] = largest;
		sift_down(values, 0, end);
	}
}

/* Leaves each of the sorted values once; returns their number. */
static int
unique(int64_t *values, int n)
{
	int kept = 0;

	for (int i = 0; i < n; i++)
		if (i == 0 || values[i] != values[kept - 1])
			values[kept++] = values[i];
	return kept;
}

/* Reads the starts of all slots. */
TcCalcomParse
tc_calcom_parse_slots(const char *body, size_t len, int64_t *starts, int max, int *n)
{
	Slots slots = {starts, max, 0, "start"};
	TcJsonMember root;
	TcJsonMember data;
	TcJsonMember member;
	TcJsonWalk walk;
	TcCalcomParse parse = tc_calcom_open_answer(body, len, &root, &data);

	*n = 0;
	if (parse != TC_CALCOM_PARSED)
		return parse;
	if (tc_json_get(&data, "slots", &member))
	{
		slots.time_name = "time";
		data = member;
	}
	if (data.kind != TC_JSON_OBJECT || !tc_json_walk(&data, &walk))
		return TC_CALCOM_WRONG_SHAPE;
	while (tc_json_next(&walk, &member))
	{
		parse = take_date(&member, &slots);
		if (parse != TC_CALCOM_PARSED)
			return parse;
	}
	sort(slots.starts, slots.n);
	*n = unique(slots.starts, slots.n);
	return TC_CALCOM_PARSED;
}
