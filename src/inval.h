/*
 * inval.h
 *		How caches of table contents learn of changes.
 *
 * Each table that some backend caches carries the trigger tenantcall.invalidate_cache_trigger()
 * (AFTER INSERT OR UPDATE OR DELETE, FOR EACH ROW, ENABLE ALWAYS).  It sends a relation cache
 * invalidation for its table, which PostgreSQL delivers like those of DDL: at commit to everybody,
 * standbys included; at the end of the command to the changing transaction itself, and again if
 * that rolls back.  TRUNCATE sends one by itself.
 *
 * A cache registers with tc_on_relation_change() and, since the callback may come in the middle
 * of loading, counts generations instead of clearing:
 *
 *		callback		if (relid == InvalidOid || relid == mine) generation++;
 *		look-up			if (loaded != generation) { now = generation; load; loaded = now; }
 *
 * It loads under GetCatalogSnapshot(), never the transaction's snapshot, which may be older than
 * the message was.
 */
#ifndef TC_INVAL_H
#define TC_INVAL_H

#include "postgres.h"

/*
 * Has the callback called for each message of the relation cache; to be called once per callback
 * and process.  The server has room for ten callbacks of all its extensions: all of ours share one.
 */
extern void tc_on_relation_change(void (*callback)(Oid relid));

/*
 * Oid of a table or view of the extension, or InvalidOid.  It must be a member: hooks run in
 * databases without the extension too, where anybody may make a schema of that name.
 */
extern Oid tc_own_relation(const char *name);

#endif /* TC_INVAL_H */
