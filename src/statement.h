/*
 * statement.h
 *		The text of a statement of ours, and the copies of it for shards.
 */
#ifndef TC_STATEMENT_H
#define TC_STATEMENT_H

#include "act.h"

/* The statement's text with "@." made into where the tables are, for the company in context. */
extern char *tc_statement_text(const char *sql);

/* The statement to execute for the company in context: a copy for its shards, or itself. */
extern TcStatement *tc_statement_here(TcStatement *statement);

#endif /* TC_STATEMENT_H */
