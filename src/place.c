/*
 * place.c
 *		Where this server is: what a copy of it does not share.
 *
 * No locks, no state.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "access/xlog.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "place.h"

#define MACHINE_ID_LEN 40

/* The first so many bytes of a file of one line, or zeros. */
void
tc_read_line(const char *path, char *line, size_t len)
{
	FILE *file = AllocateFile(path, "r");

	memset(line, 0, len);
	if (file == NULL)
		return;
	if (fgets(line, (int) len, file) == NULL)
		memset(line, 0, len);
	FreeFile(file);
}

/* A hash of the data directory's path and of the machine, if it has an identity. */
uint64
tc_place(void)
{
	char machine[MACHINE_ID_LEN];
	uint64 path = hash_bytes_extended((const unsigned char *) DataDir, (int) strlen(DataDir), 0);

	tc_read_line("/etc/machine-id", machine, sizeof(machine));
	return hash_bytes_extended((const unsigned char *) machine, sizeof(machine), path);
}

/* A hash of this database on this server, in its present life. */
uint64
tc_place_of_database(void)
{
	struct stat directory;
	uint64 parts[5] = {tc_place(), GetSystemIdentifier(), GetWALInsertionTimeLine(), MyDatabaseId};

	if (stat(DataDir, &directory) == 0)
		parts[4] = directory.st_ino;
	return hash_bytes_extended((const unsigned char *) parts, sizeof(parts), 0);
}
