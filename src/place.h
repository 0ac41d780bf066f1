/*
 * place.h
 *		Where this server is: what a copy of it does not share.
 */
#ifndef TC_PLACE_H
#define TC_PLACE_H

#include "postgres.h"

/* The first so many bytes of a file of one line, or zeros. */
extern void tc_read_line(const char *path, char *line, size_t len);

/* A hash of the data directory's path and of the machine, if it has an identity. */
extern uint64 tc_place(void);

/*
 * A hash of this database on this server, in its present life: another one for a promoted standby,
 * for a backup put back and for a copied data directory.  Not in recovery.
 */
extern uint64 tc_place_of_database(void);

#endif /* TC_PLACE_H */
