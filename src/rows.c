/*
 * rows.c
 *		Single rows of the tenants' tables: directly where possible, by statements elsewhere.
 *
 *		row --direct.c--> table        unfit, or a higher isolation level: --act.c--> statement
 *
 * Both ways do the same.  The statements are made from the list of columns.
 *
 * Locks: those of the rows.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "context.h"
#include "rows.h"
#include "telephony.h"

bool tc_rows_repeatable = false;

/* Opens the table for direct work; NULL: by statement. */
static TcDirect *
open_directly(const TcTable *table, const TcRow *row)
{
	const TcContext *context = tc_context_current();
	Oid relid;

	if (context == NULL || context->company_id != DatumGetInt64(row->values[0]))
		elog(ERROR, "a row of \"%s\" is not of the company that is acted for", table->name);
	relid = tc_telephony_table(table->name);
	return OidIsValid(relid) ? tc_direct_open(relid, &table->columns, row) : NULL;
}

/* Appends columns, each by its name and number, between separators. */
static void
append_columns(StringInfo sql, const TcTable *table, int from, int to, const char *format)
{
	const char *separator = strstr(format, "AND") != NULL ? " AND " : ", ";

	for (int i = from; i < to; i++)
	{
		appendStringInfoString(sql, i > from ? separator : "");
		if (format[0] == '$')
			appendStringInfo(sql, "$%d", i + 1);
		else if (strchr(format, '=') != NULL)
			appendStringInfo(sql, "%s = $%d", table->columns.list[i].name, i + 1);
		else
			appendStringInfoString(sql, table->columns.list[i].name);
	}
}

/* Completes a statement over the first columns. */
static void
finish_statement(const TcTable *table, TcStatement *statement, const char *sql, int nparams)
{
	for (int i = 0; i < nparams; i++)
		statement->types[i] = table->columns.list[i].type;
	statement->nparams = nparams;
	statement->sql = MemoryContextStrdup(TopMemoryContext, sql);
}

/* Executes a statement over the first columns. */
static uint64
execute(TcStatement *statement, const TcRow *row)
{
	TcParams params = {0};

	for (int i = 0; i < statement->nparams; i++)
		tc_param_datum(&params, row->values[i], row->nulls[i]);
	return tc_execute(statement, &params);
}

/* Takes the columns of the result from the first one on. */
static void
take_result(const TcTable *table, int first, TcRow *row)
{
	for (int i = first; i < table->columns.count; i++)
		row->values[i] = tc_result_datum(i - first + 1, &row->nulls[i]);
}

/* Locks the row of its key, and fills in the other columns; false: none. */
bool
tc_row_lock(TcTable *table, TcRow *row)
{
	const TcColumns *columns = &table->columns;
	TcDirect *direct = open_directly(table, row);
	StringInfoData sql;
	bool found;

	if (direct != NULL)
	{
		found = tc_direct_lock(direct, row);
		row->absent = !found;
		tc_direct_close(direct);
		return found;
	}
	if (table->lock.sql == NULL)
	{
		initStringInfo(&sql);
		appendStringInfoString(&sql, "SELECT ");
		append_columns(&sql, table, columns->keys, columns->count, "name");
		appendStringInfo(&sql, " FROM @.%s WHERE ", table->name);
		append_columns(&sql, table, 0, columns->keys, "name = $ AND");
		appendStringInfoString(&sql, " FOR UPDATE");
		finish_statement(table, &table->lock, sql.data, columns->keys);
	}
	found = execute(&table->lock, row) > 0;
	if (found)
		take_result(table, columns->keys, row);
	return found;
}

/* Makes the statement that inserts. */
static void
prepare_insert(TcTable *table)
{
	const TcColumns *columns = &table->columns;
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO @.%s (", table->name);
	append_columns(&sql, table, 0, columns->written, "name");
	appendStringInfoString(&sql, ") VALUES (");
	append_columns(&sql, table, 0, columns->written, "$");
	appendStringInfoChar(&sql, ')');
	if (columns->keys > 0)
	{
		appendStringInfoString(&sql, " ON CONFLICT ");
		if (!table->other_keys)
		{
			appendStringInfoChar(&sql, '(');
			append_columns(&sql, table, 0, columns->keys, "name");
			appendStringInfoString(&sql, ") ");
		}
		appendStringInfoString(&sql, "DO NOTHING");
	}
	if (columns->count > columns->written)
	{
		appendStringInfoString(&sql, " RETURNING ");
		append_columns(&sql, table, columns->written, columns->count, "name");
	}
	finish_statement(table, &table->insert, sql.data, columns->written);
}

/* Inserts the row, and fills in what the database did; false: there is one of that key. */
bool
tc_row_insert(TcTable *table, TcRow *row)
{
	bool direct_fits = table->columns.keys == 0 || tc_rows_repeatable;
	TcDirect *direct = direct_fits ? open_directly(table, row) : NULL;
	bool done;

	if (direct != NULL)
	{
		done = table->columns.keys == 0 || row->absent || !tc_direct_exists(direct, row);
		if (done)
			tc_direct_insert(direct, row);
		tc_direct_close(direct);
		return done;
	}
	if (table->insert.sql == NULL)
		prepare_insert(table);
	if (execute(&table->insert, row) == 0)
		return false;
	if (table->columns.count > table->columns.written)
		take_result(table, table->columns.written, row);
	return true;
}

/* Writes the columns of a row that was locked or inserted. */
void
tc_row_update(TcTable *table, TcRow *row)
{
	const TcColumns *columns = &table->columns;
	TcDirect *direct = ItemPointerIsValid(&row->tid) ? open_directly(table, row) : NULL;
	StringInfoData sql;

	if (direct != NULL)
	{
		tc_direct_update(direct, row);
		tc_direct_close(direct);
		return;
	}
	if (table->update.sql == NULL)
	{
		initStringInfo(&sql);
		appendStringInfo(&sql, "UPDATE @.%s SET ", table->name);
		append_columns(&sql, table, columns->keys, columns->written, "name = $");
		appendStringInfoString(&sql, " WHERE ");
		append_columns(&sql, table, 0, columns->keys, "name = $ AND");
		finish_statement(table, &table->update, sql.data, columns->written);
	}
	execute(&table->update, row);
	ItemPointerSetInvalid(&row->tid);
}
