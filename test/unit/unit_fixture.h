/*
 * unit_fixture.h
 *		Messages of vendors for unit tests; the tests run in the repository's directory.
 */
#ifndef TC_UNIT_FIXTURE_H
#define TC_UNIT_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Fixture
{
	char text[8192];
	size_t len;
} Fixture;

/* Reads test/fixtures/<name>; ends the program if it is not there. */
static inline const Fixture *
fixture(const char *name)
{
	static Fixture fixture;
	char path[256];
	FILE *file;

	(void) snprintf(path, sizeof(path), "test/fixtures/%s", name);
	file = fopen(path, "rb");
	if (file == NULL)
	{
		printf("cannot read %s\n", path);
		exit(1);
	}
	fixture.len = fread(fixture.text, 1, sizeof(fixture.text), file);
	(void) fclose(file);
	return &fixture;
}

#endif /* TC_UNIT_FIXTURE_H */
