/*
 * rate_save.c
 *		Buckets across a restart.
 */
#include "postgres.h"

#include "rate_shared.h"

/* Nothing yet. */
void
tc_rate_save_init(void)
{
}

/* Nothing yet. */
void
tc_rate_load(void)
{
}
