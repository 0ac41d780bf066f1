/*
 * scope.h
 *		Scoped tables: whose rows are visible to the company in context only.
 */
#ifndef TC_SCOPE_H
#define TC_SCOPE_H

#include "postgres.h"

#include "access/attnum.h"
#include "nodes/primnodes.h"
#include "utils/relcache.h"

#define TC_POLICY "tenantcall_tenant"
#define TC_POLICY_RESTRICTIVE "tenantcall_tenant_restrictive"

/* A row of the registry. */
typedef struct TcScoped
{
	Oid relid; /* key of the cache's hash table */
	Oid type;  /* INT4OID, INT8OID or UUIDOID */
	NameData column;
} TcScoped;

/* A table being scoped.  The names are quoted; the table's is qualified. */
typedef struct TcScopeTarget
{
	Oid relid;
	Oid owner;
	Oid type;
	AttrNumber attnum;
	char relkind;
	const char *column; /* as stored, unquoted */
	const char *table_sql;
	const char *column_sql;
} TcScopeTarget;

extern void tc_scope_init(void);

/* scope_registry.c: the registry and this backend's copy of it */
extern const TcScoped *tc_scope_lookup(Oid relid);	 /* NULL: not scoped */
extern const TcScoped *tc_scope_in_force(Oid relid); /* the same, also of a shard */
extern bool tc_scope_any(void);						 /* is any table scoped? */
extern Oid tc_scope_registry_owner(void);
extern Oid tc_scope_function(const char *name, Oid argtype); /* InvalidOid: none */

/* scope.c */
extern void tc_scope_relation(Oid relid, const char *column);
extern char *tc_scope_parent_column(Oid relid); /* NULL: no parent is scoped */
extern void tc_scope_rename(Oid relid, const char *column);
extern void tc_scope_forget_dropped(void);

/* scope_ddl.c: each makes one thing as it must be, and changes nothing if it is so already */
extern void tc_scope_declare(const TcScopeTarget *target);
extern void tc_scope_enforce(const TcScopeTarget *target);
extern void tc_scope_run(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* scope_expr.c */
extern bool tc_scope_type_supported(Oid type);
extern const char *tc_scope_function_name(Oid type);
extern Expr *tc_scope_policy_expr(AttrNumber attnum, Oid type);
extern Node *tc_scope_freeze_expr(AttrNumber attnum, Oid type);
extern Node *tc_scope_not_null_expr(AttrNumber attnum, Oid type);

/* scope_hook.c */
extern void tc_scope_hook_init(void);

#endif /* TC_SCOPE_H */
