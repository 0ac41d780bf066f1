/*
 * compat.h
 *		Everything that differs between the supported PostgreSQL versions (15, 17, 18).
 *
 * No other file of the extension may test PG_VERSION_NUM.
 */
#ifndef TC_COMPAT_H
#define TC_COMPAT_H

#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/rel.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#if PG_VERSION_NUM < 150000
#error "tenantcall needs PostgreSQL 15 or later"
#endif

/* Marks a function that does not return; stands before its type. */
#if PG_VERSION_NUM >= 180000
#define TC_NORETURN pg_noreturn
#else
#define TC_NORETURN pg_attribute_noreturn()
#endif

/* The local transaction id of this backend's current transaction. */
#if PG_VERSION_NUM >= 170000
#define TC_LXID_OF(proc) ((proc)->vxid.lxid)
#else
#define TC_LXID_OF(proc) ((proc)->lxid)
#endif
#define TC_MY_LXID TC_LXID_OF(MyProc)

/* The number of this backend's PGPROC: below MaxBackends in an ordinary backend. */
#if PG_VERSION_NUM >= 170000
#define TC_MY_PROC_NUMBER MyProcNumber
#else
#define TC_MY_PROC_NUMBER (MyProc->pgprocno)
#endif

/* A wait event of our own, shown by pg_stat_activity; before 17 it is called "Extension". */
#if PG_VERSION_NUM >= 170000
#define tc_wait_event(name)                                                                        \
	({                                                                                             \
		static uint32 event = 0;                                                                   \
		if (event == 0)                                                                            \
			event = WaitEventExtensionNew(name);                                                   \
		event;                                                                                     \
	})
#else
#define tc_wait_event(name) PG_WAIT_EXTENSION
#endif

/* A set of events to wait for, for as long as the process lives. */
#if PG_VERSION_NUM >= 170000
#define tc_create_wait_event_set(nevents) CreateWaitEventSet(NULL, (nevents))
#else
#define tc_create_wait_event_set(nevents) CreateWaitEventSet(TopMemoryContext, (nevents))
#endif

/* From libpq/libpq.h, which needs Kerberos' headers: is the client still there? */
extern bool pq_check_connection(void);

/* Memory for a setting's value or "extra": freed by the settings machinery itself. */
#if PG_VERSION_NUM >= 160000
#define tc_guc_malloc(size) guc_malloc(LOG, (size))
#define tc_guc_free(pointer) guc_free(pointer)
#else
#define tc_guc_malloc(size) malloc(size)
#define tc_guc_free(pointer) free(pointer)
#endif

/* May the role execute the function? */
#if PG_VERSION_NUM >= 160000
#define tc_may_execute(funcid, roleid)                                                             \
	(object_aclcheck(ProcedureRelationId, (funcid), (roleid), ACL_EXECUTE) == ACLCHECK_OK)
#else
#define tc_may_execute(funcid, roleid)                                                             \
	(pg_proc_aclcheck((funcid), (roleid), ACL_EXECUTE) == ACLCHECK_OK)
#endif

/*
 * An error of an input function: returned to callers that ask for it from 16 on, raised before.
 * Leaves the calling function with "dummy" in the first case.
 */
#if PG_VERSION_NUM >= 160000
#define TC_SOFT_ERROR(escontext, dummy, ...) ereturn((escontext), (dummy), __VA_ARGS__)
#else
#define TC_SOFT_ERROR(escontext, dummy, ...) ereport(ERROR, __VA_ARGS__)
#endif

/* The parts of a qualified name; needs utils/regproc.h. */
#if PG_VERSION_NUM >= 160000
#define tc_qualified_name_list(text) stringToQualifiedNameList((text), NULL)
#else
#define tc_qualified_name_list(text) stringToQualifiedNameList(text)
#endif

/* Does the role own the relation? */
#if PG_VERSION_NUM >= 160000
#define tc_owns_relation(relid, roleid) object_ownercheck(RelationRelationId, (relid), (roleid))
#else
#define tc_owns_relation(relid, roleid) pg_class_ownercheck((relid), (roleid))
#endif

/* Does the role own the database? */
#if PG_VERSION_NUM >= 160000
#define tc_owns_database(database, roleid)                                                         \
	object_ownercheck(DatabaseRelationId, (database), (roleid))
#else
#define tc_owns_database(database, roleid) pg_database_ownercheck((database), (roleid))
#endif

/* May the role connect to the database? */
#if PG_VERSION_NUM >= 160000
#define tc_may_connect(database, roleid)                                                           \
	(object_aclcheck(DatabaseRelationId, (database), (roleid), ACL_CONNECT) == ACLCHECK_OK)
#else
#define tc_may_connect(database, roleid)                                                           \
	(pg_database_aclcheck((database), (roleid), ACL_CONNECT) == ACLCHECK_OK)
#endif

/* Is the column known to hold no NULLs?  (From 18 a NOT NULL constraint may be NOT VALID.) */
#if PG_VERSION_NUM >= 180000
#define tc_column_not_null(rel, attnum)                                                            \
	(TupleDescCompactAttr(RelationGetDescr(rel), (attnum) -1)->attnullability == ATTNULLABLE_VALID)
#else
#define tc_column_not_null(rel, attnum)                                                            \
	(TupleDescAttr(RelationGetDescr(rel), (attnum) -1)->attnotnull)
#endif

/* What ExecutorCheckPerms_hook is given; TcPermission has relid, requiredPerms, checkAsUser. */
#if PG_VERSION_NUM >= 160000
typedef RTEPermissionInfo TcPermission;
#define TC_CHECK_PERMS_PARAMS List *range_table, List *permissions, bool ereport_on_violation
#define TC_CHECK_PERMS_ARGS range_table, permissions, ereport_on_violation
#define TC_CHECK_PERMS_LIST permissions
#else
typedef RangeTblEntry TcPermission;
#define TC_CHECK_PERMS_PARAMS List *range_table, bool ereport_on_violation
#define TC_CHECK_PERMS_ARGS range_table, ereport_on_violation
#define TC_CHECK_PERMS_LIST range_table
#endif

/* Begins the scan of an index; ends it with index_endscan(). */
#if PG_VERSION_NUM >= 180000
#define tc_index_beginscan(rel, index, snapshot, nkeys)                                            \
	index_beginscan((rel), (index), (snapshot), NULL, (nkeys), 0)
#else
#define tc_index_beginscan(rel, index, snapshot, nkeys)                                            \
	index_beginscan((rel), (index), (snapshot), (nkeys), 0)
#endif

/* The state that ExecSimpleRelationUpdate() asks for; rechecks nothing. */
#if PG_VERSION_NUM >= 160000
#define tc_epq_init(epq, estate) EvalPlanQualInit((epq), (estate), NULL, NIL, -1, NIL)
#else
#define tc_epq_init(epq, estate) EvalPlanQualInit((epq), (estate), NULL, NIL, -1)
#endif

/* The module's magic block, with its name and version where the server keeps them. */
#if PG_VERSION_NUM >= 180000
#define TC_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "tenantcall", .version = TENANTCALL_VERSION)
#else
#define TC_MODULE_MAGIC PG_MODULE_MAGIC
#endif

#endif /* TC_COMPAT_H */
