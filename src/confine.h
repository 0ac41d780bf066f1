/*
 * confine.h
 *		What application roles may not do, beside what row security hides.
 */
#ifndef TC_CONFINE_H
#define TC_CONFINE_H

extern void tc_confine_init(void);

#endif /* TC_CONFINE_H */
