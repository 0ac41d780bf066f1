/*
 * cppcheck.h
 *		What cppcheck needs to know of the server, whose headers it does not read.
 */
#define PG_VERSION_NUM 150000
#define INT64_FORMAT "%ld"
#define UINT64_FORMAT "%lu"
#define PG_FUNCTION_INFO_V1(name)
#define ERROR 21
#define ereport(level, rest)                                                                       \
	do                                                                                             \
	{                                                                                              \
		if ((level) >= ERROR)                                                                      \
			abort();                                                                               \
	} while (0)
#define elog(level, ...) ereport(level, 0)
