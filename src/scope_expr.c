/*
 * scope_expr.c
 *		The expressions of scoping: company = current company, old company <> new company.
 *
 * They are built exactly as the parser builds them from the DDL in scope_ddl.c, so that equal()
 * tells whether a policy or trigger is ours, and so that the planner drops the duplicates among
 * the policy, its restrictive twin and the hook (scope_hook.c).
 *
 * No locks; the results are allocated in the caller's context.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "rewrite/prs2lock.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "scope.h"

/* The types a company column may have, and the function each is compared with. */
static const struct
{
	Oid type;
	Oid function_type;
	const char *function;
} supported[] = {
	{INT4OID, INT8OID, "current_company_id"},
	{INT8OID, INT8OID, "current_company_id"},
	{UUIDOID, UUIDOID, "current_company_uuid"},
};

StaticAssertDecl(lengthof(supported) == 3, "the CHECK of scope_registry names three types");

/* Index of the type in the table above, or -1. */
static int
find_type(Oid type)
{
	for (int i = 0; i < (int) lengthof(supported); i++)
	{
		if (supported[i].type == type)
			return i;
	}
	return -1;
}

/* May a company column have this type? */
bool
tc_scope_type_supported(Oid type)
{
	return find_type(type) >= 0;
}

/* Name of the function that a column of this type is compared with. */
const char *
tc_scope_function_name(Oid type)
{
	int i = find_type(type);

	if (i < 0)
		elog(ERROR, "unsupported type of company column: %u", type);
	return supported[i].function;
}

/* The operator pg_catalog.= of two types. */
static Oid
equality(Oid left, Oid right)
{
	Oid eq = GetSysCacheOid4(OPERNAMENSP, Anum_pg_operator_oid, CStringGetDatum("="),
							 ObjectIdGetDatum(left), ObjectIdGetDatum(right),
							 ObjectIdGetDatum(PG_CATALOG_NAMESPACE));

	if (!OidIsValid(eq))
		elog(ERROR, "no equality operator for types %u and %u", left, right);
	return eq;
}

/* left = right, of the given node tag's flavour. */
static Expr *
compare(Expr *left, Expr *right, NodeTag tag)
{
	Oid eq = equality(exprType((Node *) left), exprType((Node *) right));
	OpExpr *result =
		(OpExpr *) make_opclause(eq, BOOLOID, false, left, right, InvalidOid, InvalidOid);

	result->opfuncid = get_opcode(eq);
	NodeSetTag(result, tag);
	return (Expr *) result;
}

/* What a policy of ours says: column = tenantcall.current_company_…() */
Expr *
tc_scope_policy_expr(AttrNumber attnum, Oid type)
{
	int i = find_type(type);
	Oid function;

	if (i < 0)
		elog(ERROR, "unsupported type of company column: %u", type);
	function = tc_scope_function(supported[i].function, InvalidOid);
	if (!OidIsValid(function))
		elog(ERROR, "function tenantcall.%s() does not exist", supported[i].function);
	return compare((Expr *) makeVar(1, attnum, type, -1, InvalidOid, 0),
				   (Expr *) makeFuncExpr(function, supported[i].function_type, NIL, InvalidOid,
										 InvalidOid, COERCE_EXPLICIT_CALL),
				   T_OpExpr);
}

/* Condition of the freezing trigger: OLD.column IS DISTINCT FROM NEW.column */
Node *
tc_scope_freeze_expr(AttrNumber attnum, Oid type)
{
	return (Node *) compare((Expr *) makeVar(PRS2_OLD_VARNO, attnum, type, -1, InvalidOid, 0),
							(Expr *) makeVar(PRS2_NEW_VARNO, attnum, type, -1, InvalidOid, 0),
							T_DistinctExpr);
}

/* A constraint that makes SET NOT NULL free of a scan: CHECK (column IS NOT NULL) */
Node *
tc_scope_not_null_expr(AttrNumber attnum, Oid type)
{
	NullTest *test = makeNode(NullTest);

	test->arg = (Expr *) makeVar(1, attnum, type, -1, InvalidOid, 0);
	test->nulltesttype = IS_NOT_NULL;
	test->argisrow = false;
	test->location = -1;
	return (Node *) test;
}
