/*
 * driver.c
 *		Runs a fuzzer where libFuzzer is missing: the corpus, and random changes to it.
 *
 *		fuzz_NAME [-max_total_time=SECONDS] [-artifact_prefix=PATH] [-...] DIRECTORY...
 *
 * It knows nothing of coverage, so it finds less than libFuzzer; the options are the same as far as
 * they mean something here.  What made the program fail is kept as PATHcrash.
 */
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_INPUTS 10000
#define MAX_LEN 6000

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern void __sanitizer_set_death_callback(void (*callback)(void));

typedef struct Input
{
	uint8_t *data;
	size_t size;
} Input;

static Input inputs[MAX_INPUTS];
static int n_inputs = 0;
static uint8_t current[MAX_LEN];
static size_t current_size = 0;
static const char *artifact_prefix = "";
static uint64_t random_state = 88172645463325252ULL;

/* The next random number (xorshift64). */
static uint64_t
next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* Keeps the input that is being run. */
static void
keep_current(void)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%scrash", artifact_prefix);
	file = fopen(path, "wb");
	if (file == NULL)
		return;
	fwrite(current, 1, current_size, file);
	fclose(file);
	fprintf(stderr, "the input is in %s\n", path);
}

/* A check of the fuzzer's own has failed. */
static void
on_abort(int signal_number)
{
	keep_current();
	_exit(128 + signal_number);
}

/* Reads the files of a directory. */
static void
read_directory(const char *name)
{
	DIR *dir = opendir(name);
	struct dirent *entry;

	while (dir != NULL && n_inputs < MAX_INPUTS && (entry = readdir(dir)) != NULL)
	{
		char path[4096];
		FILE *file;
		Input *input = &inputs[n_inputs];

		snprintf(path, sizeof(path), "%s/%s", name, entry->d_name);
		if (entry->d_name[0] == '.' || (file = fopen(path, "rb")) == NULL)
			continue;
		input->data = malloc(MAX_LEN);
		input->size = fread(input->data, 1, MAX_LEN, file);
		fclose(file);
		n_inputs++;
	}
	if (dir != NULL)
		closedir(dir);
}

/* Changes one thing about the current input. */
static void
mutate(void)
{
	size_t at = current_size > 0 ? next_random() % current_size : 0;
	const Input *other = &inputs[next_random() % n_inputs];
	size_t len;

	switch (next_random() % 5)
	{
		case 0: /* another byte */
			if (current_size > 0)
				current[at] = (uint8_t) next_random();
			break;
		case 1: /* another bit */
			if (current_size > 0)
				current[at] ^= (uint8_t) (1 << next_random() % 8);
			break;
		case 2: /* a byte less */
			if (current_size > 0)
				memmove(current + at, current + at + 1, --current_size - at);
			break;
		case 3: /* a byte more */
			if (current_size < MAX_LEN)
			{
				memmove(current + at + 1, current + at, current_size++ - at);
				current[at] = (uint8_t) next_random();
			}
			break;
		default: /* the rest from another input */
			len = other->size > at ? other->size - at : 0;
			memcpy(current + at, other->data + other->size - len, len);
			current_size = at + len;
	}
}

/* Runs one input. */
static void
run(const Input *input, int mutations)
{
	memcpy(current, input->data, input->size);
	current_size = input->size;
	while (mutations-- > 0)
		mutate();
	(void) LLVMFuzzerTestOneInput(current, current_size);
}

int
main(int argc, char **argv)
{
	long seconds = 0, executed = 0;
	time_t end;

	for (int i = 1; i < argc; i++)
	{
		if (strncmp(argv[i], "-max_total_time=", 16) == 0)
			seconds = atol(argv[i] + 16);
		else if (strncmp(argv[i], "-artifact_prefix=", 17) == 0)
			artifact_prefix = argv[i] + 17;
		else if (argv[i][0] != '-')
			read_directory(argv[i]);
	}
	if (n_inputs == 0)
		inputs[n_inputs++] = (Input){malloc(MAX_LEN), 0};
	signal(SIGABRT, on_abort);
	__sanitizer_set_death_callback(keep_current);
	random_state ^= (uint64_t) time(NULL) * 2654435761u;
	end = time(NULL) + seconds;
	for (int i = 0; i < n_inputs; i++, executed++)
		run(&inputs[i], 0);
	while (time(NULL) < end)
		for (int i = 0; i < 1000; i++, executed++)
			run(&inputs[next_random() % n_inputs], 1 + (int) (next_random() % 8));
	printf("stat::number_of_executed_units: %ld\n", executed);
	return 0;
}
