/*
 * asan_first.c
 *		Preloaded beside libasan, linked with -z initfirst: AddressSanitizer starts before all else.
 *
 * It would start with the first malloc(), which in Debian's server is that of libgpg-error's
 * constructor, within bindtextdomain(), under a lock that the sanitizer's own start takes as well.
 */
#include <stdlib.h>

__attribute__((constructor)) static void
start(void)
{
	void *volatile memory = malloc(1);

	free(memory);
}
