/*
 * rate_ticket.c
 *		Tickets: what a call has spent, and giving it back, once.
 *
 * A ticket names its bucket (by key and birth number), the state that the call left behind, and
 * its number within the bucket.  Giving back follows rate_core.c: never better than if the call
 * had not happened.  What has been refunded of earlier calls since then counts against it; the
 * bucket keeps the sum of all refunds, and the four latest ones, so that those of later calls can
 * be told apart and do not.  A ticket whose number and spending may have come in different orders
 * is "unordered": all refunds count against it, and its own against all.
 *
 * Once only: a bucket keeps a window of 128 ticket numbers that ends at the highest refunded one;
 * older tickets are refused.  So are those of a bucket that was dropped since (it was full, and
 * there is nothing to give back), of another version of the policy, and of another run of the
 * server.
 *
 *		ticket as SQL has it:  header | tickets of up to 16 buckets | SipHash-2-4 tag, 128 bits
 *
 * The key is random, known to this run of the server alone.  All of it under the exclusive lock of
 * the bucket's partition, except for issuing.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "context.h"
#include "errors.h"
#include "node.h"
#include "rate_args.h"
#include "rate_bucket.h"
#include "rate_clock.h"
#include "rate_lock.h"
#include "rate_shared.h"
#include "rate_turn.h"
#include "ready.h"

#define FORMAT 1
#define WINDOW 128 /* ticket numbers */

PG_FUNCTION_INFO_V1(tc_refund);

typedef struct TicketHeader
{
	uint32 format;
	int32 n;
	uint64 company_id;
	uint8 company_uuid[TC_UUID_LEN];
} TicketHeader;

StaticAssertDecl(sizeof(TcRateTicket) == 104 && sizeof(TicketHeader) == 32, "tickets have padding");

/* Tickets to give back if the transaction aborts. */
typedef struct Pending
{
	struct Pending *next;
	int level; /* nesting of the subtransaction */
	TcRateTickets tickets;
} Pending;

static Pending *pending = NULL; /* newest first; in TopTransactionContext */

/* Notes what was spent.  Any lock. */
void
tc_rate_issue(TcRateEntry *entry, int64 after, uint64 seen, const TcRateAsk *ask)
{
	TcRateTicket *ticket = &ask->tickets->item[ask->tickets->n++];
	TcRateRecord *record = tc_rate_record(entry);

	Assert(ask->tickets->n <= TC_RATE_MAX_ITEMS);
	tc_rate_passes(TC_RATE_PLACE_SPEND);
	ticket->key = tc_rate_key_of(entry);
	ticket->after = (TcRateState){entry->base, after};
	ticket->version = record->version;
	ticket->cost = ask->cost;
	ticket->born = record->born;
	ticket->given_back = record->given_back;
	ticket->number = pg_atomic_fetch_add_u64(&record->tickets, 1);
	ticket->unordered = ticket->number != seen;
}

/* Marks a number as refunded; false if it was, or is too old to know. */
static bool
use_number(TcRateRecord *record, uint64 number)
{
	uint64 offset;

	if (number < record->window)
		return false;
	while (number - record->window >= WINDOW)
	{
		uint64 by = number - record->window - (WINDOW - 1);

		if (by >= 64)
		{
			record->used[0] = record->used[1];
			record->used[1] = 0;
			record->window += by >= WINDOW ? by - by % 64 : 64;
			if (by >= WINDOW)
				record->used[0] = 0;
			continue;
		}
		record->used[0] = (record->used[0] >> by) | (record->used[1] << (64 - by));
		record->used[1] >>= by;
		record->window += by;
	}
	offset = number - record->window;
	if (record->used[offset / 64] & (UINT64CONST(1) << (offset % 64)))
		return false;
	record->used[offset / 64] |= UINT64CONST(1) << (offset % 64);
	return true;
}

/* Sub-tokens refunded since the ticket was issued that count against it. */
static int64
earlier_refunds(const TcRateEntry *entry, const TcRateTicket *ticket)
{
	const TcRateRecord *record = tc_rate_record(entry);
	int64 sum = record->given_back - ticket->given_back;

	for (int i = 0; i < TC_RATE_RING && !ticket->unordered; i++)
	{
		uint64 refund = record->ring[i];

		if (refund != 0 && (int32) ((uint32) (refund >> 32) - (uint32) ticket->number) > 0)
			sum -= (int64) (uint32) refund * record->math.unit;
	}
	return Max(sum, 0);
}

/* Keeps a refund's number and its whole tokens, in place of the oldest. */
static void
note_refund(TcRateEntry *entry, const TcRateTicket *ticket, int64 amount)
{
	TcRateRecord *record = tc_rate_record(entry);
	uint64 tokens = Min((uint64) (amount / record->math.unit), PG_UINT32_MAX);

	record->given_back += amount;
	pg_atomic_fetch_add_u64(&record->refunded, tokens);
	if (ticket->unordered)
		return;
	memmove(&record->ring[1], &record->ring[0], sizeof(uint64) * (TC_RATE_RING - 1));
	record->ring[0] = (uint64) (uint32) ticket->number << 32 | tokens;
}

/*
 * Gives back to an entry; returns how many sub-tokens.  Nothing to one that is paused, and will be
 * full when that is over.  Exclusive lock.
 */
static int64
give_back_to(TcRateEntry *entry, const TcRateTicket *ticket)
{
	TcRateState state = tc_rate_state(entry);
	TcRateRecord *record = tc_rate_record(entry);
	TcRateState after = ticket->after;
	int64 next;

	if (record->born != ticket->born || record->version != ticket->version ||
		!use_number(record, ticket->number) || entry->paused)
		return 0;
	tc_rate_passes(TC_RATE_PLACE_REFUND);
	after.s -= earlier_refunds(entry, ticket);
	next = tc_rate_refund(&record->math, state, tc_rate_now(), after, ticket->cost);
	if (next >= state.s)
		return 0;
	pg_atomic_write_u64(&entry->s, (uint64) next);
	note_refund(entry, ticket, state.s - next);
	return state.s - next;
}

/*
 * Gives a ticket back; those whose turn at the bucket is after `turn` move up.  Interrupts are held
 * off, since this is done while an error is handled, too: the wait for the lock is bounded.
 */
TcRateGiven
tc_rate_give_back(const TcRateTicket *ticket, int64 turn)
{
	uint32 hash = tc_rate_hash(&ticket->key);
	TcRateEntry *entry;
	int64 amount = 0;
	bool locked;

	HOLD_INTERRUPTS();
	locked = tc_rate_lock_wait(hash, LW_EXCLUSIVE);
	if (locked)
	{
		entry = tc_rate_find(&ticket->key, hash);
		if (entry != NULL)
			amount = give_back_to(entry, ticket);
		if (amount > 0)
			tc_rate_turn_move(tc_rate_record(entry)->born, turn,
							  tc_rate_duration(&tc_rate_record(entry)->math, amount));
		LWLockRelease(tc_rate_lock(hash));
	}
	RESUME_INTERRUPTS();
	return !locked ? TC_RATE_GIVEN_LATER : amount > 0 ? TC_RATE_GIVEN : TC_RATE_GIVEN_NOTHING;
}

/* Gives tickets back: was any worth something, or could any not be given back now? */
static TcRateGiven
give_back_all(const TcRateTickets *tickets)
{
	TcRateGiven all = TC_RATE_GIVEN_NOTHING;

	for (int i = 0; i < tickets->n; i++)
	{
		TcRateGiven one = tc_rate_give_back(&tickets->item[i], tc_rate_now());

		all = Max(all, one);
	}
	return all;
}

/* Gives back what the subtransactions from a level on have spent, or forgets about it. */
static void
settle(int level, bool give_back)
{
	while (pending != NULL && pending->level >= level)
	{
		Pending *done = pending;

		pending = done->next;
		if (give_back)
			(void) give_back_all(&done->tickets);
	}
}

/* Transaction callback. */
static void
transaction_ends(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_ABORT:
			settle(0, true);
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			settle(0, false);
			break;
		default:
			break;
	}
}

/* Subtransaction callback: what a committed one has spent is its parent's. */
static void
subtransaction_ends(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_ABORT_SUB)
		settle(level, true);
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (Pending *p = pending; p != NULL && p->level >= level; p = p->next)
			p->level = level - 1;
	}
}

/* Has tickets given back if the current (sub)transaction aborts. */
void
tc_rate_give_back_on_abort(const TcRateTickets *tickets)
{
	static bool registered = false;
	Pending *noted;

	if (!registered)
	{
		RegisterXactCallback(transaction_ends, NULL);
		RegisterSubXactCallback(subtransaction_ends, NULL);
		registered = true;
	}
	noted = MemoryContextAlloc(TopTransactionContext, sizeof(Pending));
	noted->level = GetCurrentTransactionNestLevel();
	noted->tickets = *tickets;
	noted->next = pending;
	pending = noted;
}

/* Authenticates everything before the tag. */
static void
make_tag(const char *data, size_t len, uint8 *tag)
{
	tc_siphash128(tc_rate_table_here.shared->ticket_key, data, len, tag);
}

/* The SQL form of tickets. */
bytea *
tc_rate_ticket_encode(const TcRateTickets *tickets, const TcContext *tenant)
{
	TicketHeader header = {FORMAT, tickets->n, (uint64) tenant->company_id, {0}};
	size_t body = sizeof(header) + tickets->n * sizeof(TcRateTicket);
	bytea *result = palloc(VARHDRSZ + body + TC_SIPHASH_TAG);
	char *data = VARDATA(result);

	if (tenant->company_id == 0)
		memcpy(header.company_uuid, tenant->company_uuid, TC_UUID_LEN);
	SET_VARSIZE(result, VARHDRSZ + body + TC_SIPHASH_TAG);
	memcpy(data, &header, sizeof(header));
	memcpy(data + sizeof(header), tickets->item, tickets->n * sizeof(TcRateTicket));
	make_tag(data, body, (uint8 *) data + body);
	return result;
}

/* Takes the SQL form apart; false unless this run of the server has issued it. */
static bool
decode(const char *data, size_t len, TicketHeader *header, TcRateTickets *tickets)
{
	uint8 tag[TC_SIPHASH_TAG];
	uint8 differs = 0;
	size_t body;

	if (len < sizeof(*header) + TC_SIPHASH_TAG ||
		len > sizeof(*header) + sizeof(tickets->item) + TC_SIPHASH_TAG)
		return false;
	body = len - TC_SIPHASH_TAG;
	make_tag(data, body, tag);
	for (int i = 0; i < TC_SIPHASH_TAG; i++)
		differs |= tag[i] ^ (uint8) data[body + i];
	if (differs != 0)
		return false;
	memcpy(header, data, sizeof(*header));
	tickets->n = header->n;
	if (header->format != FORMAT || body != sizeof(*header) + header->n * sizeof(TcRateTicket))
		return false;
	memcpy(tickets->item, data + sizeof(*header), header->n * sizeof(TcRateTicket));
	return true;
}

/* Whose ticket it is: the company entered, or without one who it says; 0: unknown. */
static int64
owner_of(const char *data, size_t len)
{
	const TcContext *tenant = tc_context_current();
	TicketHeader header;

	if (tenant != NULL)
		return tenant->company_id;
	if (len < sizeof(header) || !tc_rate_may("take_for"))
		return 0;
	memcpy(&header, data, sizeof(header));
	return (int64) header.company_id;
}

/* Was the ticket issued to the company entered?  Without a context: may the user act for any? */
static bool
may_use(const TicketHeader *header)
{
	const TcContext *tenant = tc_context_current();

	if (tenant == NULL)
		return tc_rate_may("take_for");
	if (header->company_id != 0)
		return (uint64) tenant->company_id == header->company_id;
	return tenant->company_id == 0 &&
		   memcmp(tenant->company_uuid, header->company_uuid, TC_UUID_LEN) == 0;
}

/* refund(ticket bytea) -> boolean: was anything given back? */
Datum
tc_refund(PG_FUNCTION_ARGS)
{
	TicketHeader header;
	TcRateTickets tickets;
	TcRateGiven given;
	bytea *ticket;
	Datum there;

	tc_require_ready();
	if (PG_ARGISNULL(0))
		tc_rate_raise_null("ticket");
	ticket = PG_GETARG_BYTEA_PP(0);
	if (unlikely(tc_node_citus) &&
		tc_node_elsewhere(fcinfo, owner_of(VARDATA_ANY(ticket), VARSIZE_ANY_EXHDR(ticket)), &there))
		return there;
	if (!decode(VARDATA_ANY(ticket), VARSIZE_ANY_EXHDR(ticket), &header, &tickets) ||
		(tickets.n > 0 && tickets.item[0].key.database != MyDatabaseId) || !may_use(&header))
		ereport(ERROR,
				(errcode(ERRCODE_TC_WRONG_TENANT), errmsg("not a ticket of this company"),
				 errdetail("A ticket is good in its database, for its company, until the server "
						   "is restarted."),
				 errhint("Pass the ticket of take(), unchanged, in the context it was taken in.")));
	given = give_back_all(&tickets);
	if (given == TC_RATE_GIVEN_LATER)
		ereport(ERROR,
				(errcode(ERRCODE_TC_UNAVAILABLE), errmsg("rate limit buckets are not available"),
				 errdetail("Another process has had one locked for longer than "
						   "tenantcall.rate_lock_timeout."),
				 errhint("Pass the ticket again: each bucket gets its tokens back once.")));
	PG_RETURN_BOOL(given == TC_RATE_GIVEN);
}
