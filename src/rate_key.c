/*
 * rate_key.c
 *		What names a bucket: the levels, as SQL calls them.
 */
#include "postgres.h"

#include "rate_key.h"

static const char *const level_names[] = {
	[TC_RATE_UNKNOWN] = "unknown",	 [TC_RATE_COMPANY] = "company", [TC_RATE_GLOBAL] = "global",
	[TC_RATE_BRANCH] = "branch",	 [TC_RATE_NUMBER] = "number",	[TC_RATE_CALL] = "call",
	[TC_RATE_FUNCTION] = "function",
};

StaticAssertDecl(lengthof(level_names) == TC_RATE_FUNCTION + 1, "a level has no name");

/* The name of a bucket's level. */
const char *
tc_rate_level_name(uint32 level)
{
	return level_names[level & ~TC_RATE_BY_UUID];
}

/* The level of a name; false for those that no policy may have. */
bool
tc_rate_level_parse(const char *name, TcRateLevel *level)
{
	for (size_t i = TC_RATE_COMPANY; i < lengthof(level_names); i++)
	{
		if (strcmp(level_names[i], name) != 0)
			continue;
		*level = (TcRateLevel) i;
		return true;
	}
	return false;
}
