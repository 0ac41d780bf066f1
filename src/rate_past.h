#ifndef TC_RATE_PAST_H
#define TC_RATE_PAST_H
#include "rate_table.h"

static inline void
tc_rate_past_add(TcRateEntry *entry)
{
}
#endif
