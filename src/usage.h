/*
 * usage.h
 *		How usage is counted, for what reads it and what rolls it up.
 */
#ifndef TC_USAGE_H
#define TC_USAGE_H

/*
 * When a call began: the day on which it counts.  As told by the platform, but never more than a
 * day after we heard of it, so that calls since a time are found by their created_at.
 */
#define USAGE_BEGAN "least(coalesce(c.started_at, c.created_at), c.created_at + interval '1 day')"

/* A call's began is not marked until it is so old; only older days are rolled up (twice of it). */
#define USAGE_MARKED_AFTER (1 * USECS_PER_DAY)
#define USAGE_LIVE "interval '2 days'"

/* Calls by day, of company $1 in zone k.time_zone, from "first" until before "past". */
#define USAGE_CALLS(first, past)                                                                   \
	"SELECT (" USAGE_BEGAN " AT TIME ZONE k.time_zone)::date AS day, count(*)::bigint AS calls, "  \
	"coalesce(sum(extract(epoch FROM c.duration)), 0) AS seconds, 0::bigint AS function_calls, "   \
	"0::bigint AS refusals, coalesce(sum(c.cost_cents), 0) AS cost_cents "                         \
	"FROM @.calls AS c WHERE c.company_id = $1 AND c.created_at >= " first " - interval '1 day' "  \
	"AND " USAGE_BEGAN " >= " first " AND " USAGE_BEGAN " < " past " GROUP BY 1"

/* The same of what is never told late. */
#define USAGE_OTHERS(first, past)                                                                  \
	"SELECT (f.accepted_at AT TIME ZONE k.time_zone)::date, 0, 0, count(*), 0, 0 "                 \
	"FROM @.function_calls AS f WHERE f.company_id = $1 AND f.accepted_at >= " first               \
	" AND f.accepted_at < " past " GROUP BY 1 "                                                    \
	"UNION ALL SELECT (x.quarter AT TIME ZONE k.time_zone)::date, 0, 0, 0, sum(x.refused), 0 "     \
	"FROM @.refusals AS x WHERE x.company_id = $1 AND x.quarter >= " first                         \
	" AND x.quarter < " past " GROUP BY 1"

/* Midnight of a day. */
#define USAGE_MIDNIGHT(day) "((" day ")::timestamp AT TIME ZONE k.time_zone)"

#endif /* TC_USAGE_H */
