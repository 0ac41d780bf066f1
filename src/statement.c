/*
 * statement.c
 *		The text of a statement of ours, and the copies of it for shards.
 *
 * "@.calls" stands for the table calls of the tenants, "@@.outbox_due" for one of schema
 * tenantcall.  On one server that is schema.calls.  On Citus it is the part on this node:
 * schema.calls_102008, by the name calls in the statement; what is copied to all nodes is written
 * by the name that Citus knows, so that Citus writes all copies.  "@!.calls", or a name in quotes
 * as in '@.calls'::regclass, is always the whole table's.
 *
 * Each group of shards has statements of its own, prepared when it is first worked for.
 *
 * Process-local; no locks.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "context.h"
#include "node.h"
#include "node_groups.h"
#include "statement.h"
#include "telephony.h"

/* A statement for one group of shards. */
typedef struct CopyKey
{
	TcStatement *original;
	int64 group;
} CopyKey;

typedef struct Copy
{
	CopyKey key;
	TcStatement *statement;
} Copy;

static HTAB *copies = NULL;

/* Is what stands before the name a word that makes the statement write the table? */
static bool
is_written(const char *sql, const char *name)
{
	static const char *const words[] = {"INSERT INTO ", "UPDATE ", "DELETE FROM "};

	for (int i = 0; i < (int) lengthof(words); i++)
	{
		size_t length = strlen(words[i]);

		if ((size_t) (name - sql) < length || strncmp(name - length, words[i], length) != 0)
			continue;
		/* FOR UPDATE OF, ON CONFLICT DO UPDATE SET name no table */
		return true;
	}
	return false;
}

/* Does the statement itself name the table otherwise? */
static bool
has_alias(const char *after)
{
	return strncmp(after, " AS ", 4) == 0;
}

/* Appends a table of the tenants, or of ours; returns the end of its name in the statement. */
static const char *
append_table(StringInfo out, const char *sql, const char *mark)
{
	bool ours = mark[1] == '@';
	const char *name = strchr(mark, '.') + 1;
	const TcTelephony *tables = ours ? NULL : tc_telephony_required();
	Oid schema = ours ? get_namespace_oid("tenantcall", false) : tables->schema;
	size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz_0123456789");
	char *plain = pnstrdup(name, length);
	bool whole = mark[1] == '!' || (mark > sql && mark[-1] == '\'');
	TcNodePart part = TC_PART_WHOLE;
	Oid relid = whole ? InvalidOid : get_relname_relid(plain, schema);

	if (OidIsValid(relid))
		relid = tc_node_part(relid, &part);
	if (part == TC_PART_ELSEWHERE)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("table \"%s\" is not on this node of the cluster", plain),
						errhint("See tenantcall.company_node().")));
	if (part == TC_PART_REFERENCE && is_written(sql, mark))
		part = TC_PART_WHOLE;
	appendStringInfo(out, "%s.", ours ? "tenantcall" : tables->schema_quoted);
	if (part == TC_PART_WHOLE)
		appendStringInfoString(out, plain);
	else
	{
		appendStringInfoString(out, quote_identifier(get_rel_name(relid)));
		if (!has_alias(name + length))
			appendStringInfo(out, " AS %s", plain);
	}
	return name + length;
}

/* Does a table's name begin there? */
static bool
is_mark(const char *in)
{
	return in[0] == '@' && (in[1] == '.' || ((in[1] == '@' || in[1] == '!') && in[2] == '.'));
}

/* The statement's text with "@." made into where the tables are. */
char *
tc_statement_text(const char *sql)
{
	StringInfoData out;
	const char *in = sql;

	initStringInfo(&out);
	while (*in != '\0')
	{
		if (is_mark(in))
			in = append_table(&out, sql, in);
		else
			appendStringInfoChar(&out, *in++);
	}
	return out.data;
}

/* Makes a copy that is not prepared yet. */
static TcStatement *
copy_statement(const TcStatement *original)
{
	TcStatement *copy = MemoryContextAllocZero(TopMemoryContext, sizeof(TcStatement));

	copy->sql = original->sql;
	copy->nparams = original->nparams;
	memcpy(copy->types, original->types, sizeof(copy->types));
	return copy;
}

/* The statement to execute for the company in context. */
TcStatement *
tc_statement_here(TcStatement *statement)
{
	CopyKey key = {.original = statement};
	bool found;
	Copy *copy;

	if (unlikely(tc_node_citus))
		key.group = tc_node_present_group();
	if (likely(key.group == 0))
		return statement;
	if (copies == NULL)
	{
		HASHCTL control = {.keysize = sizeof(CopyKey), .entrysize = sizeof(Copy)};

		copies = hash_create("tenantcall statements", 64, &control, HASH_ELEM | HASH_BLOBS);
	}
	copy = hash_search(copies, &key, HASH_FIND, &found);
	if (copy == NULL)
	{
		TcStatement *made = copy_statement(statement);

		copy = hash_search(copies, &key, HASH_ENTER, NULL);
		copy->statement = made;
	}
	return copy->statement;
}

PG_FUNCTION_INFO_V1(tc_table_here);

/* table_here(name) -> text: where a statement of the caller finds the company's rows */
Datum
tc_table_here(PG_FUNCTION_ARGS)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const TcContext *context = tc_context_current();
	Oid relid;

	(void) tc_telephony_required();
	if (context != NULL && context->company_id != 0)
		tc_node_require_home(context->company_id);
	relid = tc_telephony_table(name);
	if (!OidIsValid(relid))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("the tenants have no table \"%s\" here", name)));
	PG_RETURN_TEXT_P(
		cstring_to_text(quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
												   get_rel_name(relid))));
}
