/*
 * owner_guard.h
 *		The tenants' tables are changed by superusers only, not by members of their owner.
 */
#ifndef TC_OWNER_GUARD_H
#define TC_OWNER_GUARD_H

extern void tc_owner_guard_init(void);

/*
 * Lets the next utility statement pass: set right before a statement of the extension's own, and
 * false again after it.  The statement's start takes it back.
 */
extern bool tc_owner_guard_own_statement;

#endif /* TC_OWNER_GUARD_H */
