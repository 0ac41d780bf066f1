/*
 * slot_news.h
 *		What changed about calendars on this node of a Citus cluster, for the elected one.
 */
#ifndef TC_SLOT_NEWS_H
#define TC_SLOT_NEWS_H

#include "postgres.h"

extern void tc_slot_news_init(void);

/* A calendar changed, for a company or (0) for all; no credential: anything may have. */
extern void tc_slot_news_at_commit(int64 company_id, const char *credential, int64 event_type_id);

/* In the worker: tells the elected node, by its number; may raise, and tells it then later. */
extern void tc_slot_news_pass_on(int node);

#endif /* TC_SLOT_NEWS_H */
