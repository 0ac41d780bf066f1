/*
 * tenantcall.c
 *		Loading of the library: each module sets itself up, nothing else happens here.
 *
 * _PG_init never raises, so that dump, restore and pg_upgrade work on a server that does not
 * preload the library.  What needs shared memory or a trustworthy setting calls
 * tc_require_ready() (ready.c) first.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/guc.h"

#include "booking_wait.h"
#include "calls.h"
#include "compat.h"
#include "confine.h"
#include "context.h"
#include "directory.h"
#include "elected.h"
#include "holds.h"
#include "http.h"
#include "key.h"
#include "lifecycle.h"
#include "maintenance.h"
#include "node.h"
#include "node_move.h"
#include "node_peer.h"
#include "outbox.h"
#include "outbox_flight.h"
#include "owner_guard.h"
#include "rate.h"
#include "ready.h"
#include "scope.h"
#include "slot_cache.h"
#include "slot_fetch.h"
#include "slot_generation.h"
#include "slot_news.h"
#include "stat.h"
#include "stuck.h"
#include "token.h"

TC_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

/* Sets up every module. */
void
_PG_init(void)
{
	tc_ready_init();
	tc_stat_init();
	tc_context_init();
	tc_confine_init();
	tc_owner_guard_init();
	tc_directory_init();
	tc_key_init();
	tc_node_init();
	tc_node_peer_init();
	tc_node_move_init();
	tc_rate_init();
	tc_token_init();
	tc_token_setting_init();
	tc_scope_init();
	tc_lifecycle_init();
	tc_calls_init();
	tc_slot_generation_init();
	tc_slot_news_init();
	tc_slot_cache_init();
	tc_http_init();
	tc_slot_fetch_init();
	tc_holds_init();
	tc_booking_wait_init();
	tc_outbox_init();
	tc_outbox_send_init();
	tc_elected_init();
	tc_stuck_init();
	tc_maintenance_init();
	MarkGUCPrefixReserved("tenantcall");
}
