/*
 * ready.c
 *		Is the library loaded as it must be, and of one version with the SQL objects?
 *
 * Everything that needs shared memory or a trustworthy setting asks here first.  The answer is
 * kept for the session once it is yes.  Locks: AccessShareLock on pg_extension and, for background
 * work, on the extension itself until the end of the transaction (DROP EXTENSION waits).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "ready.h"

bool tc_preloaded = false;

/* Notes whether the server is preloading the library. */
void
tc_ready_init(void)
{
	tc_preloaded = process_shared_preload_libraries_in_progress;
}

/* Returns the version of the SQL objects in this database, or NULL without them. */
static char *
installed_version(void)
{
	Relation rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	char *version = NULL;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("tenantcall"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool isnull;
		Datum datum =
			heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(rel), &isnull);

		if (!isnull)
			version = TextDatumGetCString(datum);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return version;
}

/* Is something wrong with how the library is loaded?  If so, *why says what. */
bool
tc_unready(TcUnready *why)
{
	char *version;

	memset(why, 0, sizeof(*why));
	if (!tc_preloaded)
	{
		why->message = "tenantcall is not loaded by shared_preload_libraries";
		why->detail = "Context, limits and calls need the library in every process from the start "
					  "of the server.";
		why->hint = "Add tenantcall to shared_preload_libraries in postgresql.conf and restart the "
					"server.";
		return true;
	}
	if (creating_extension)
		return false;
	version = installed_version();
	if (version == NULL)
	{
		why->message = "extension \"tenantcall\" is not installed in this database";
		why->hint = "Run CREATE EXTENSION tenantcall.";
	}
	else if (strcmp(version, TENANTCALL_VERSION) != 0)
	{
		why->message = psprintf("tenantcall library %s does not fit the SQL objects of version %s",
								TENANTCALL_VERSION, version);
		why->hint = "Run ALTER EXTENSION tenantcall UPDATE, or restart the server if an older "
					"library is still loaded.";
	}
	return why->message != NULL;
}

/* Refuses to go on unless preloaded and of one version with the SQL objects. */
void
tc_require_ready(void)
{
	static bool checked = false;
	TcUnready why;

	if (likely(checked))
		return;
	if (tc_unready(&why))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg_internal("%s", why.message),
						why.detail != NULL ? errdetail_internal("%s", why.detail) : 0,
						errhint("%s", why.hint)));
	checked = !creating_extension;
}

/*
 * Keeps the extension from being dropped until the transaction ends.  False if it is not there, or
 * somebody is dropping or changing it: background work waits for nobody, and comes again.
 */
bool
tc_hold_extension(void)
{
	Oid extension = get_extension_oid("tenantcall", true);

	return OidIsValid(extension) &&
		   ConditionalLockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock) &&
		   get_extension_oid("tenantcall", true) == extension;
}

PG_FUNCTION_INFO_V1(tc_version);

/* version() -> text: the library's version */
Datum
tc_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(TENANTCALL_VERSION));
}
