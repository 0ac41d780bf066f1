/*
 * lifecycle_audit.c
 *		The audit trail of a table with a lifecycle.
 *
 * Each move becomes a row of the audit table, in the same transaction, written with the rights of
 * the owner of the audited table, as PostgreSQL's own foreign keys do it: whoever may move a row
 * need not be allowed to write the audit table, and cannot.  Row security forced upon that owner
 * is left out for it, since the company is copied from the row itself, which has passed it.
 *
 * Rows are written without a statement where the audit table is fit for it (direct.c).  Statements
 * are prepared once per audit table and type of its company column, and kept.
 *
 * All state is local to the process; no locks beyond those of the INSERT.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/rls.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "direct.h"
#include "lifecycle.h"
#include "lifecycle_audit.h"
#include "node.h"
#include "telephony.h"

#define COMPANY_COLUMN "company_id"

/* Parameters of the INSERT; the company's is the last, since not every table has one. */
enum
{
	PARAM_RELATION,
	PARAM_KEY,
	PARAM_FROM,
	PARAM_TO,
	PARAM_AT,
	PARAM_ROLE,
	PARAM_REASON,
	PARAM_EVENT,
	PARAM_COMPANY,
	N_PARAMS
};

static const char *const param_columns[] = {
	[PARAM_RELATION] = "relation", [PARAM_KEY] = "key",		[PARAM_FROM] = "from_state",
	[PARAM_TO] = "to_state",	   [PARAM_AT] = "at",		[PARAM_ROLE] = "by_role",
	[PARAM_REASON] = "reason",	   [PARAM_EVENT] = "event", [PARAM_COMPANY] = COMPANY_COLUMN,
};

StaticAssertDecl(lengthof(param_columns) == N_PARAMS, "a column for each parameter");

/* What decides the prepared statement. */
typedef struct PlanKey
{
	Oid audit;
	Oid company_type; /* InvalidOid without a company */
} PlanKey;

typedef struct PlanEntry
{
	PlanKey key;
	bool relation_is_oid; /* is parameter relation a regclass, or its name? */
	SPIPlanPtr plan;
	TcColumn column_list[N_PARAMS]; /* the same INSERT without a statement */
	TcColumns columns;
} PlanEntry;

struct TcAudit
{
	const PlanEntry *insert;
	Oid relation;			   /* the table that is tracked, not its partition */
	char *relation_name;	   /* the same, qualified, if that is needed */
	AttrNumber company_column; /* of the row; 0 for none */
	Bitmapset *key_columns;	   /* of the row; offsets as in relcache.h */
	Oid owner;				   /* in whose name it is written */
};

static HTAB *plans = NULL;

/* Raises that the audit table lacks something. */
static void
refuse_audit_table(Relation rel, const char *audit_name, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
			 errmsg("table %s cannot hold the audit trail of \"%s\"", audit_name,
					RelationGetRelationName(rel)),
			 errdetail("%s", detail),
			 errhint("An audit table has the columns relation, key, from_state, to_state, at, "
					 "by_role, reason and event, and company_id if the rows have one.")));
}

/* Oid of the audit table of a qualified name. */
static Oid
find_audit_table(Relation rel, const char *audit_name)
{
	Oid audit = InvalidOid;
	TcNodePart part;
	Oid schema;
	char *schema_name, *table_name;

	/* not RangeVarGetRelid(): whoever moves a row need not have USAGE on the schema */
	DeconstructQualifiedName(tc_qualified_name_list(audit_name), &schema_name, &table_name);
	schema = schema_name == NULL ? InvalidOid : get_namespace_oid(schema_name, true);
	if (OidIsValid(schema))
		audit = get_relname_relid(table_name, schema);
	if (!OidIsValid(audit))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("audit table %s of \"%s\" does not exist", audit_name,
							   RelationGetRelationName(rel)),
						errhint("Call tenantcall.track_lifecycle() again with the audit table's "
								"present name.")));
	/* a shard's moves go to the shard beside it */
	return tc_node_whole(RelationGetRelid(rel)) == RelationGetRelid(rel)
			   ? audit
			   : tc_node_part(audit, &part);
}

/* Raises if the audit table lacks a column. */
static void
check_audit_columns(Relation rel, Oid audit, const char *audit_name)
{
	for (int i = 0; i < PARAM_COMPANY; i++)
		if (get_attnum(audit, param_columns[i]) == InvalidAttrNumber)
			refuse_audit_table(rel, audit_name,
							   psprintf("Column \"%s\" is missing.", param_columns[i]));
}

/* Types of the INSERT's parameters; returns how many there are. */
static int
param_types(const PlanKey *key, bool relation_is_oid, Oid types[N_PARAMS])
{
	for (int i = 0; i < N_PARAMS; i++)
		types[i] = TEXTOID;
	types[PARAM_AT] = TIMESTAMPTZOID;
	types[PARAM_COMPANY] = key->company_type;
	if (relation_is_oid)
		types[PARAM_RELATION] = REGCLASSOID;
	return OidIsValid(key->company_type) ? N_PARAMS : N_PARAMS - 1;
}

/* Prepares the INSERT. */
static SPIPlanPtr
prepare_insert(const PlanKey *key, Oid *types, int n_params)
{
	StringInfoData sql;
	SPIPlanPtr plan;

	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s (",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(key->audit)),
												get_rel_name(key->audit)));
	for (int i = 0; i < n_params; i++)
		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "", param_columns[i]);
	appendStringInfoString(&sql, ") VALUES (");
	for (int i = 0; i < n_params; i++)
		appendStringInfo(&sql, "%s$%d", i > 0 ? ", " : "", i + 1);
	appendStringInfoChar(&sql, ')');
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	plan = SPI_prepare(sql.data, n_params, types);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	SPI_keepplan(plan);
	SPI_finish();
	return plan;
}

/* The prepared INSERT, from the first time on out of memory. */
static const PlanEntry *
find_insert(const PlanKey *key, Relation rel, const char *audit_name)
{
	PlanEntry *entry;

	if (plans == NULL)
	{
		HASHCTL control = {.keysize = sizeof(PlanKey), .entrysize = sizeof(PlanEntry)};

		plans = hash_create("tenantcall audit statements", 8, &control, HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(plans, key, HASH_FIND, NULL);
	if (entry == NULL)
	{
		bool relation_is_oid;
		Oid types[N_PARAMS];
		int n_params;
		SPIPlanPtr plan;

		check_audit_columns(rel, key->audit, audit_name);
		relation_is_oid =
			get_atttype(key->audit, get_attnum(key->audit, "relation")) == REGCLASSOID;
		n_params = param_types(key, relation_is_oid, types);
		plan = prepare_insert(key, types, n_params);
		entry = hash_search(plans, key, HASH_ENTER, NULL);
		entry->plan = plan;
		entry->relation_is_oid = relation_is_oid;
		for (int i = 0; i < n_params; i++)
			entry->column_list[i] = (TcColumn){param_columns[i], types[i]};
		entry->columns = (TcColumns){.list = entry->column_list,
									 .count = n_params,
									 .written = n_params,
									 .inserts_only = true};
	}
	return entry;
}

/* The table that is tracked: of a partition, the topmost of its ancestors. */
static Oid
tracked_table(Relation rel)
{
	List *ancestors;

	if (!rel->rd_rel->relispartition)
		return tc_node_whole(RelationGetRelid(rel));
	ancestors = get_partition_ancestors(RelationGetRelid(rel));
	return llast_oid(ancestors);
}

/* Prepares to write the moves of rel's rows. */
TcAudit *
tc_audit_prepare(Relation rel, const char *audit_name)
{
	TcAudit *audit = palloc0(sizeof(TcAudit));
	Oid audit_table = find_audit_table(rel, audit_name);
	PlanKey key;

	audit->key_columns = RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_PRIMARY_KEY);
	if (bms_is_empty(audit->key_columns))
		ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
						errmsg("table \"%s\" has no primary key", RelationGetRelationName(rel)),
						errdetail("The audit trail names a row by its primary key."),
						errhint("Add a primary key that is not deferrable, or leave out the audit "
								"table.")));
	memset(&key, 0, sizeof(key));
	key.audit = audit_table;
	if (get_attnum(audit_table, COMPANY_COLUMN) != InvalidAttrNumber)
	{
		audit->company_column = get_attnum(RelationGetRelid(rel), COMPANY_COLUMN);
		if (audit->company_column == InvalidAttrNumber)
			refuse_audit_table(rel, audit_name,
							   "It has a column company_id, and the rows have none.");
		key.company_type = get_atttype(RelationGetRelid(rel), audit->company_column);
	}
	audit->insert = find_insert(&key, rel, audit_name);
	audit->relation = tracked_table(rel);
	if (!audit->insert->relation_is_oid)
		audit->relation_name =
			quote_qualified_identifier(get_namespace_name(get_rel_namespace(audit->relation)),
									   get_rel_name(audit->relation));
	audit->owner = tc_node_whole(RelationGetRelid(rel)) == RelationGetRelid(rel)
					   ? rel->rd_rel->relowner
					   : tc_telephony_required()->owner;
	return audit;
}

/* The text of a column. */
static char *
column_text(TupleTableSlot *row, AttrNumber column)
{
	Oid output;
	bool varlena, isnull;
	Datum value = slot_getattr(row, column, &isnull);

	if (isnull)
		return NULL;
	getTypeOutputInfo(TupleDescAttr(row->tts_tupleDescriptor, column - 1)->atttypid, &output,
					  &varlena);
	return OidOutputFunctionCall(output, value);
}

/* The columns of a compound key as a JSON object, with jsonb's order and spacing. */
static char *
compound_key(TupleTableSlot *row, const Bitmapset *columns)
{
	StringInfoData json;
	int member = -1;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	while ((member = bms_next_member(columns, member)) >= 0)
	{
		AttrNumber column = member + FirstLowInvalidHeapAttributeNumber;

		if (json.len > 1)
			appendStringInfoChar(&json, ',');
		escape_json(&json, NameStr(TupleDescAttr(row->tts_tupleDescriptor, column - 1)->attname));
		appendStringInfoChar(&json, ':');
		escape_json(&json, column_text(row, column));
	}
	appendStringInfoChar(&json, '}');
	return DatumGetCString(
		DirectFunctionCall1(jsonb_out, DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data))));
}

/* The primary key of a row: the text of its one column, or JSON; the company is left out. */
static char *
row_key(const TcAudit *audit, TupleTableSlot *row)
{
	Bitmapset *columns = bms_copy(audit->key_columns);
	char *key;

	if (audit->company_column != InvalidAttrNumber && bms_num_members(columns) > 1)
		columns =
			bms_del_member(columns, audit->company_column - FirstLowInvalidHeapAttributeNumber);
	if (bms_num_members(columns) == 1)
		key = column_text(row, bms_singleton_member(columns) + FirstLowInvalidHeapAttributeNumber);
	else
		key = compound_key(row, columns);
	bms_free(columns);
	return key;
}

/* A text or NULL as a value. */
static void
set_text(TcRow *row, int column, const char *text)
{
	row->nulls[column] = text == NULL;
	row->values[column] = text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

/* Fills the values of the INSERT that are the same for all moves. */
static void
fill_row(const TcAudit *audit, TupleTableSlot *moved, TcRow *row)
{
	memset(row, 0, sizeof(*row));
	if (audit->insert->relation_is_oid)
		row->values[PARAM_RELATION] = ObjectIdGetDatum(audit->relation);
	else
		set_text(row, PARAM_RELATION, audit->relation_name);
	set_text(row, PARAM_KEY, row_key(audit, moved));
	row->values[PARAM_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	set_text(row, PARAM_ROLE, GetUserNameFromId(GetOuterUserId(), false));
	set_text(row, PARAM_REASON, tc_lifecycle_reason());
	set_text(row, PARAM_EVENT, tc_lifecycle_event());
	row->nulls[PARAM_COMPANY] = true;
	if (audit->company_column != InvalidAttrNumber)
		row->values[PARAM_COMPANY] =
			slot_getattr(moved, audit->company_column, &row->nulls[PARAM_COMPANY]);
}

/* Writes the row without a statement; false if that cannot be, or if it may not be written. */
static bool
insert_directly(const PlanEntry *insert, TcRow *row)
{
	Oid audit = insert->key.audit;
	TcDirect *table;

	if (pg_class_aclcheck(audit, GetUserId(), ACL_INSERT) != ACLCHECK_OK ||
		check_enable_rls(audit, InvalidOid, true) == RLS_ENABLED)
		return false;
	table = tc_direct_open(audit, &insert->columns, row);
	if (table == NULL)
		return false;
	tc_direct_insert(table, row);
	tc_direct_close(table);
	return true;
}

/* Writes the row by the statement. */
static void
insert_by_statement(const PlanEntry *insert, TcRow *row)
{
	char nulls[N_PARAMS];
	int result;

	for (int i = 0; i < N_PARAMS; i++)
		nulls[i] = row->nulls[i] ? 'n' : ' ';
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	result = SPI_execute_plan(insert->plan, row->values, nulls, false, 0);
	if (result != SPI_OK_INSERT)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(result));
	SPI_finish();
}

/* Writes one move. */
void
tc_audit_write(const TcAudit *audit, TupleTableSlot *moved, const char *from_state,
			   const char *to_state)
{
	TcRow row;
	Oid user;
	int sec_context;

	fill_row(audit, moved, &row);
	set_text(&row, PARAM_FROM, from_state);
	set_text(&row, PARAM_TO, to_state);
	GetUserIdAndSecContext(&user, &sec_context);
	/* an error, or the abort of a subtransaction, gives the identity back as well */
	SetUserIdAndSecContext(audit->owner,
						   sec_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	if (!insert_directly(audit->insert, &row))
		insert_by_statement(audit->insert, &row);
	SetUserIdAndSecContext(user, sec_context);
}
