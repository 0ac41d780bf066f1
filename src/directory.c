/*
 * directory.c
 *		Who owns which number, agent and name: answered from memory.
 *
 * Numbers and companies are kept in this process, filled one key at a time and
 * emptied when the relation cache says that phone_numbers or companies changed.  Row triggers
 * (ENABLE ALWAYS) on these tables send that message transactionally: it arrives at COMMIT in
 * every backend, at replay on a standby, at COMMIT PREPARED, and not at all after ROLLBACK, while
 * the changing transaction sees its own work at once.  Each look-up takes in pending messages
 * first, so an answer is never older than the last commit that was acknowledged.
 *
 * An answer read while such a message arrived is used but not kept.  Unknown numbers are kept as
 * well.  Neither holds more than tenantcall.directory_cache_size keys, so that a stream of made-up
 * numbers costs time, not memory: numbers that were not asked for lately make place for others
 * (directory_core.c); the companies, which are few, are forgotten all at once.
 *
 * No shared state, no locks beyond AccessShareLock on the tables while they are read.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "covered.h"
#include "directory.h"
#include "directory_core.h"
#include "inval.h"
#include "phone.h"
#include "stat.h"
#include "telephony.h"

typedef struct CompanyEntry
{
	int64 company_id; /* key */
	bool found;
	TcCompany company;
} CompanyEntry;

/* Room that a session begins with. */
#define FIRST_NUMBERS 512

int tc_directory_cache_size = 50000;
static TcNumberCache numbers;
static MemoryContext numbers_context = NULL;
static HTAB *companies = NULL;
static Oid watched_numbers = InvalidOid; /* the tables that these were filled from */
static Oid watched_companies = InvalidOid;
static uint64 changes = 0;	 /* counts the changes of either */
static uint64 cached_at = 0; /* value of changes at which they were last emptied */

/* Relation cache callback. */
static void
relation_changed(Oid relid)
{
	if (relid == InvalidOid || relid == watched_numbers || relid == watched_companies)
		changes++;
}

/* Defines the setting. */
void
tc_directory_init(void)
{
	DefineCustomIntVariable(
		"tenantcall.directory_cache_size",
		"Phone numbers, companies and branches that each session keeps in memory.",
		"48 bytes a number; those that are asked for are kept.", &tc_directory_cache_size, 50000,
		16, 10000000, PGC_SUSET, 0, NULL, NULL, NULL);
}

/* Makes room for that many numbers, taking over what is known. */
static void
resize_numbers(size_t count)
{
	size_t nsets = tc_number_cache_sets(count);
	MemoryContext context;
	TcNumberCache larger;

	context = AllocSetContextCreate(TopMemoryContext, "tenantcall numbers", ALLOCSET_SMALL_SIZES);
	tc_number_cache_init(&larger, MemoryContextAllocHuge(context, tc_number_cache_bytes(nsets)),
						 nsets);
	if (numbers_context != NULL)
	{
		tc_number_cache_take_over(&larger, &numbers);
		MemoryContextDelete(numbers_context);
	}
	numbers = larger;
	numbers_context = context;
}

/* Empties the numbers; first makes them, or makes them smaller if the setting wants it. */
static void
forget_numbers(void)
{
	if (numbers_context == NULL || numbers.nsets > tc_number_cache_sets(tc_directory_cache_size))
		resize_numbers(Min(tc_directory_cache_size, FIRST_NUMBERS));
	tc_number_cache_clear(&numbers);
}

/* Makes the hash table of companies, anew if it is there. */
static void
forget_companies(void)
{
	HASHCTL control = {.keysize = sizeof(int64),
					   .entrysize = sizeof(CompanyEntry),
					   .hcxt = TopMemoryContext};
	HTAB *old = companies;

	companies = NULL;
	if (old != NULL)
		hash_destroy(old);
	companies =
		hash_create("tenantcall companies", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* The tables of the directory, with what was kept forgotten if these have changed. */
static const TcTelephony *
current_tables(void)
{
	static bool registered = false;
	const TcTelephony *place = tc_telephony();

	if (!registered)
		tc_on_relation_change(relation_changed);
	registered = true;
	if (place == NULL)
		return NULL;
	if (place->phone_numbers != watched_numbers || place->companies != watched_companies)
		changes++;
	if (unlikely(numbers_context == NULL || companies == NULL || cached_at != changes))
	{
		cached_at = changes;
		forget_numbers();
		forget_companies();
		watched_numbers = place->phone_numbers;
		watched_companies = place->companies;
	}
	return place;
}

/* Keeps a company, unless the tables changed while it was read. */
static void
keep_company(const CompanyEntry *entry)
{
	if (cached_at != changes)
		return;
	if (hash_get_num_entries(companies) >= tc_directory_cache_size)
		forget_companies();
	memcpy(hash_search(companies, &entry->company_id, HASH_ENTER, NULL), entry, sizeof(*entry));
}

/* The same of a number; as long as the setting allows it, room is made rather than place. */
static void
keep_number(const TcNumber *number)
{
	size_t room = numbers.nsets * TC_NUMBER_WAYS;

	if (cached_at == changes && tc_number_cache_put(&numbers, number) &&
		room < tc_number_cache_sets(tc_directory_cache_size) * TC_NUMBER_WAYS)
		resize_numbers(Min(2 * room, (size_t) tc_directory_cache_size));
}

/* What is read of a company. */
static TcCovered company_row = {
	.key = "company_id",
	.key_type = INT8OID,
	.columns = {"external_id", "status", "phone_region"},
	.ncolumns = 3,
};

/* Takes it. */
static void
visit_company(const Datum *values, const bool *nulls, void *arg)
{
	CompanyEntry *entry = arg;

	if (!nulls[0])
		memcpy(entry->company.uuid, DatumGetUUIDP(values[0])->data, TC_UUID_LEN);
	entry->company.suspended = nulls[1] || strcmp(TextDatumGetCString(values[1]), "active") != 0;
	if (!nulls[2])
		text_to_cstring_buffer(DatumGetTextPP(values[2]), entry->company.phone_region,
							   sizeof(entry->company.phone_region));
}

/* The company of an id; false if there is none. */
bool
tc_directory_company(int64 company_id, TcCompany *company)
{
	const TcTelephony *place = current_tables();
	CompanyEntry *cached;
	CompanyEntry entry = {.company_id = company_id, .company.company_id = company_id};

	if (place == NULL)
		return false;
	cached = hash_search(companies, &company_id, HASH_FIND, NULL);
	if (cached == NULL)
	{
		entry.found = tc_read_covered(&company_row, place->companies, Int64GetDatum(company_id),
									  visit_company, &entry);
		keep_company(&entry);
		cached = &entry;
	}
	*company = cached->company;
	return cached->found;
}

/* Takes a row's tenant. */
static void
take_place(HeapTuple tuple, TupleDesc desc, TcPlace *place)
{
	place->company_id = tc_row_int8(tuple, desc, "company_id");
	place->branch_id = tc_row_int8(tuple, desc, "branch_id");
	place->phone_number_id = tc_row_int8(tuple, desc, "phone_number_id");
}

/* What is read of a number that is assigned. */
static TcCovered number_row = {
	.key = "number",
	.key_type = TEXTOID,
	.when_null = "released_at",
	.columns = {"company_id", "branch_id", "phone_number_id", "assigned_at"},
	.ncolumns = 4,
};

/* Takes it. */
static void
visit_number(const Datum *values, const bool *nulls, void *arg)
{
	TcNumber *number = arg;

	number->company_id = nulls[0] ? 0 : DatumGetInt64(values[0]);
	number->branch_id = nulls[1] ? 0 : DatumGetInt64(values[1]);
	number->phone_number_id = nulls[2] ? 0 : DatumGetInt64(values[2]);
	number->assigned_at = nulls[3] ? 0 : DatumGetTimestampTz(values[3]);
}

/* The condition that selects a number's rows. */
static TcMatch
match_number(int64 phone)
{
	char text[TC_PHONE_TEXT_LEN];
	TcMatch match = {"number", TEXTOID, (Datum) 0};

	(void) tc_phone_core_format(phone, text);
	match.value = CStringGetTextDatum(text);
	return match;
}

/* The number's present assignment, from memory if possible; no company: none. */
static TcNumber
find_number(const TcTelephony *place, int64 phone)
{
	const TcNumber *kept = tc_number_cache_find(&numbers, phone);
	TcNumber number = {.phone = phone};
	TcMatch match;

	if (likely(kept != NULL))
	{
		tc_stat_count(kept->company_id, TC_STAT_DIRECTORY_HIT);
		return *kept;
	}
	match = match_number(phone);
	(void) tc_read_covered(&number_row, place->phone_numbers, match.value, visit_number, &number);
	keep_number(&number);
	tc_stat_count(number.company_id, TC_STAT_DIRECTORY_MISS);
	return number;
}

/* What is known of a number as a place; false: nobody has it. */
static bool
place_of(const TcNumber *number, TcPlace *place)
{
	*place = (TcPlace){number->company_id, number->branch_id, number->phone_number_id};
	return number->company_id != 0;
}

/* To whom the number belongs now. */
bool
tc_directory_number(int64 phone, TcPlace *place)
{
	const TcTelephony *tables = current_tables();
	TcNumber number;

	if (tables == NULL)
		return false;
	number = find_number(tables, phone);
	return place_of(&number, place);
}

/* What the search of a number's history carries along. */
typedef struct HistorySearch
{
	TimestampTz at;
	bool found;
	TcPlace place;
} HistorySearch;

/* Takes the row whose time from assignment to release covers the moment. */
static bool
visit_history(HeapTuple tuple, TupleDesc desc, void *arg)
{
	HistorySearch *search = arg;
	Datum at;

	if (!tc_row_datum(tuple, desc, "assigned_at", &at) || DatumGetTimestampTz(at) > search->at)
		return true;
	if (tc_row_datum(tuple, desc, "released_at", &at) && DatumGetTimestampTz(at) <= search->at)
		return true;
	search->found = true;
	take_place(tuple, desc, &search->place);
	return false;
}

/* To whom the number belonged at that time. */
bool
tc_directory_number_at(int64 phone, TimestampTz at, TcPlace *place)
{
	const TcTelephony *tables = current_tables();
	HistorySearch search = {.at = at};
	TcNumber number;
	TcMatch match;

	if (tables == NULL)
		return false;
	number = find_number(tables, phone);
	if (place_of(&number, place) && at >= number.assigned_at)
		return true;
	match = match_number(phone);
	tc_read_rows(tables->phone_numbers, &match, 1, visit_history, &search);
	*place = search.place;
	return search.found;
}

/* Takes the tenant of an agent. */
static bool
visit_agent(HeapTuple tuple, TupleDesc desc, void *arg)
{
	HistorySearch *search = arg;
	Datum at;

	search->found = true;
	take_place(tuple, desc, &search->place);
	if (tc_row_datum(tuple, desc, "assigned_at", &at))
		search->at = DatumGetTimestampTz(at);
	return false;
}

/* To whom the provider's agent belongs, and since when. */
bool
tc_directory_agent(const char *agent, TcPlace *place, TimestampTz *assigned_at)
{
	const TcTelephony *tables = current_tables();
	TcMatch match = {"provider_agent_id", TEXTOID, CStringGetTextDatum(agent)};
	HistorySearch search = {0};

	if (tables != NULL)
		tc_read_rows(tables->agents, &match, 1, visit_agent, &search);
	*place = search.place;
	*assigned_at = search.at;
	return search.found;
}
