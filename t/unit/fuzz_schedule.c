/*-------------------------------------------------------------------------
 *
 * fuzz_schedule.c
 *	  Fuzzing of the calendar: any bytes as a schedule.
 *
 * With clang this is a libFuzzer target.  With -DFUZZ_STANDALONE it has a
 * main() of its own, for machines with gcc only:
 *
 *		fuzz_schedule [seconds [seed [file ...]]]
 *
 * replays the files, and for so many seconds mutates them at random.
 *
 * The first byte of an input chooses where to start, the rest is the text.
 * A schedule that is accepted must step forward, strictly and to whole
 * seconds, and must not step over an occurrence it finds from in between;
 * one that is refused must come with a proper message.
 *
 *-------------------------------------------------------------------------
 */
#include "schedule.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define USEC INT64_C(1000000)
#define EPOCH INT64_C(946684800)
#define MAX_TEXT 1000
#define REQUIRE(condition) \
	do { if (!(condition)) die(#condition); } while (0)

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
die(const char *what)
{
	fprintf(stderr, "violated: %s\n", what);
	abort();
}

/*
 * A zone whose offset changes every *arg seconds: an hour forward, an hour
 * back, a day forward, a day back.
 */
static void
lookup(const void *arg, int64_t unix_time, int32_t *gmtoff, int64_t *until)
{
	static const int32_t offsets[] = {-3600, 0, -3600, 82800};
	int64_t		length = *(const int64_t *) arg;
	int64_t		number = unix_time / length - (unix_time % length < 0);

	*gmtoff = offsets[number & 3];
	*until = (number + 1) * length;
}

static void
check_message(const char *error)
{
	size_t		length = strlen(error);
	size_t		i;

	REQUIRE(length > 0 && length < 199);
	REQUIRE(error[0] < 'A' || error[0] > 'Z');
	REQUIRE(error[length - 1] != '.');
	for (i = 0; i < length; i++)
		REQUIRE(error[i] >= ' ' && error[i] <= '~');
}

static void
check_steps(const JanitorSchedule *schedule, int64_t after, int64_t length)
{
	JanitorZone zone = {lookup, &length};
	int64_t		next;
	int64_t		again;
	int			i;

	for (i = 0; i < 6; i++)
	{
		if (!janitor_schedule_next(schedule, &zone, after, &next))
			return;
		REQUIRE(next > after);
		REQUIRE(next >= -EPOCH * USEC);
		REQUIRE(janitor_schedule_next_on_grid(schedule, &zone, after,
											  next - 1, &again));
		REQUIRE(again == next);
		if (schedule->kind == JANITOR_SCHEDULE_CRON)
			REQUIRE(next % USEC == 0);
		after = next;
	}
}

static void
check_text(const char *text, int64_t after)
{
	JanitorSchedule schedule;
	JanitorSchedule again;
	char		error[200];
	char		small[2] = {'x', 'y'};
	bool		valid;

	valid = janitor_schedule_parse(text, &schedule, error, sizeof(error));
	REQUIRE(janitor_schedule_parse(text, &again, small, 1) == valid);
	REQUIRE(small[0] == '\0' && small[1] == 'y');
	if (!valid)
	{
		check_message(error);
		return;
	}
	REQUIRE(error[0] == '\0');
	REQUIRE(memcmp(&schedule, &again, sizeof(schedule)) == 0);
	REQUIRE(schedule.kind != JANITOR_SCHEDULE_EVERY ||
			schedule.every >= USEC);

	/* changes every 91 days, and far more often than in any country */
	check_steps(&schedule, after, 7862400 + 1800);
	check_steps(&schedule, after, 5 * 3600 + 1800);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int64_t starts[] = {
		INT64_MIN, INT64_MAX, 0, -1, -EPOCH * USEC, INT64_C(3124202400) * USEC
	};
	char	   *text;
	int64_t		after;
	int64_t		jitter;

	if (size < 1 || size > MAX_TEXT)
		return 0;
	after = data[0] < 6 ? starts[data[0]] :
		(data[0] * INT64_C(7862400) - EPOCH / 2) * USEC - data[0] % 3;

	/* of exactly this size, so that a read past the NUL is seen */
	text = malloc(size);
	if (text == NULL)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	check_text(text, after);
	jitter = janitor_schedule_jitter(text, after);
	REQUIRE(jitter >= 0 && (jitter < after || jitter == 0));
	free(text);
	return 0;
}

#ifdef FUZZ_STANDALONE

#define MAX_SEEDS 256

typedef struct Input
{
	uint8_t		bytes[MAX_TEXT];
	size_t		size;
} Input;

static Input seeds[MAX_SEEDS];
static int	seed_count = 0;
static uint64_t random_state = 1;

/* xorshift64* (Vigna 2016) */
static size_t
random_below(size_t n)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (size_t) ((random_state * UINT64_C(2685821657736338717)) >> 33) % n;
}

static void
read_seed(const char *path)
{
	FILE	   *file = fopen(path, "rb");

	if (file == NULL || seed_count == MAX_SEEDS)
	{
		fprintf(stderr, "cannot use \"%s\"\n", path);
		exit(2);
	}
	seeds[seed_count].size = fread(seeds[seed_count].bytes, 1, MAX_TEXT, file);
	fclose(file);
	LLVMFuzzerTestOneInput(seeds[seed_count].bytes, seeds[seed_count].size);
	seed_count++;
}

/*
 * Change, insert or remove a byte, or go on with the rest of another input.
 */
static void
mutate(Input *input)
{
	static const char usual[] = "0123456789*/-,?LW#@ \teveryhmFRIMONJAN.";
	size_t		at = random_below(input->size + 1);
	const Input *other = &seeds[random_below(seed_count)];
	size_t		from = random_below(other->size + 1);
	uint8_t		byte = random_below(8) ?
	(uint8_t) usual[random_below(sizeof(usual) - 1)] :
	(uint8_t) random_below(256);

	switch (random_below(4))
	{
		case 0:
			if (at + other->size - from > MAX_TEXT)
				return;
			memcpy(input->bytes + at, other->bytes + from, other->size - from);
			input->size = at + other->size - from;
			return;
		case 1:
			if (input->size == MAX_TEXT)
				return;
			memmove(input->bytes + at + 1, input->bytes + at,
					input->size - at);
			input->bytes[at] = byte;
			input->size++;
			return;
		case 2:
			if (at == input->size)
				return;
			memmove(input->bytes + at, input->bytes + at + 1,
					input->size - at - 1);
			input->size--;
			return;
		default:
			if (at < input->size)
				input->bytes[at] = byte;
	}
}

int
main(int argc, char **argv)
{
	time_t		end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 10);
	long		count = 0;
	int			i;

	random_state = argc > 2 ? strtoull(argv[2], NULL, 0) | 1 : 1;
	for (i = 3; i < argc; i++)
		read_seed(argv[i]);
	if (seed_count == 0)
	{
		fprintf(stderr, "usage: %s seconds seed file...\n", argv[0]);
		return 2;
	}
	while (time(NULL) < end)
	{
		for (i = 0; i < 1000; i++, count++)
		{
			Input		input = seeds[random_below(seed_count)];
			size_t		mutations = 1 + random_below(6);

			while (mutations-- > 0)
				mutate(&input);
			LLVMFuzzerTestOneInput(input.bytes, input.size);
		}
	}
	printf("# %d seeds and %ld mutations survived\n", seed_count, count);
	return 0;
}

#endif							/* FUZZ_STANDALONE */
