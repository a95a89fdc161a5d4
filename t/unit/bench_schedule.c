/*-------------------------------------------------------------------------
 *
 * bench_schedule.c
 *	  How long janitor_schedule_next() takes.
 *
 * Prints the median and the 99th percentile in nanoseconds, over random
 * schedules and for a few chosen ones, with a zone of little cost, in memory,
 * that changes its clocks twice a year.  One sample is one call between two
 * readings of the clock, less the median of two readings with nothing
 * between; the number of lookups is told with it.
 *
 * Exits with 1 if the 99th percentile over random schedules is above one
 * microsecond.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "schedule.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define USEC INT64_C(1000000)
#define SCHEDULES 2000
#define SAMPLES 100000
#define CHANGES 500
#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static int64_t changes[CHANGES];
static long lookups = 0;
static int32_t samples[SAMPLES];
static JanitorSchedule schedules[SCHEDULES];
static uint64_t random_state = 42;

/* xorshift64* (Vigna 2016) */
static int
pick(int low, int high)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return low + (int) ((random_state * UINT64_C(2685821657736338717) >> 33) %
						(uint64_t) (high - low + 1));
}

/*
 * An hour back or forward each half of a year, found without searching.
 */
static void
lookup(const void *arg, int64_t unix_time, int32_t *gmtoff, int64_t *until)
{
	const int64_t *table = arg;
	int64_t		i = unix_time / 15778476;

	lookups++;
	if (i < 0)
		i = 0;
	if (i >= CHANGES)
	{
		*gmtoff = 0;
		*until = INT64_MAX;
		return;
	}
	*gmtoff = (i & 1) ? 7200 : 3600;
	*until = table[i];
}

static int64_t
nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int
compare(const void *a, const void *b)
{
	return *(const int32_t *) a - *(const int32_t *) b;
}

static void
write_field(char *text, int first, int end)
{
	int			low = pick(first, end);
	int			high = pick(low, end);

	switch (pick(1, 7))
	{
		case 1:
			sprintf(text, "%d-%d", low, high);
			break;
		case 2:
			sprintf(text, "*/%d", pick(1, end - first));
			break;
		case 3:
			sprintf(text, "%d,%d", low, high);
			break;
		case 4:
		case 5:
			sprintf(text, "*");
			break;
		default:
			sprintf(text, "%d", low);
	}
}

static void
write_date(char *text)
{
	static const char *const formats[] = {"L", "L-%d", "%dW", "LW", "%d"};

	if (pick(1, 2) == 1)
		write_field(text, 1, 31);
	else
		sprintf(text, formats[pick(0, 4)], pick(1, 30));
}

static void
write_weekday(char *text)
{
	static const char *const formats[] = {"%d#%d", "%dL", "MON-FRI", "?"};

	if (pick(1, 2) == 1)
		write_field(text, 0, 6);
	else
		sprintf(text, formats[pick(0, 3)], pick(0, 6), pick(1, 5));
}

static void
make_schedules(void)
{
	char		fields[6][32];
	char		text[256];
	char		error[200];
	int			n = 0;

	while (n < SCHEDULES)
	{
		write_field(fields[0], 0, 59);
		write_field(fields[1], 0, 59);
		write_field(fields[2], 0, 23);
		write_date(fields[3]);
		write_field(fields[4], 1, 12);
		write_weekday(fields[5]);
		snprintf(text, sizeof(text), "%s %s %s %s %s %s", fields[0],
				 fields[1], fields[2], fields[3], fields[4], fields[5]);
		n += janitor_schedule_parse(text, &schedules[n],
									error, sizeof(error));
	}
}

/*
 * Time calls for schedules[0 .. count - 1] in turn; NULL: for nothing at all.
 * Returns the 99th percentile, less `overhead`; *median likewise.
 */
static int32_t
measure(const JanitorSchedule *list, int count, int32_t overhead,
		int32_t *median)
{
	JanitorZone zone = {lookup, changes};
	int64_t		next = 0;
	int64_t		before;
	int64_t		after;
	int			i;

	lookups = 0;
	for (i = 0; i < SAMPLES; i++)
	{
		/* from 2010 to 2110 */
		after = (INT64_C(315576000) + pick(0, INT32_MAX - 1)) * USEC;
		after += (int64_t) pick(0, 1) * 1000000000 * USEC;
		before = nanoseconds();
		if (list != NULL)
			janitor_schedule_next(&list[i % count], &zone, after, &next);
		samples[i] = (int32_t) (nanoseconds() - before) - overhead;
	}
	qsort(samples, SAMPLES, sizeof(samples[0]), compare);
	*median = samples[SAMPLES / 2];
	return samples[SAMPLES / 100 * 99];
}

static void
report(const char *name, int32_t median, int32_t p99)
{
	printf("%-32s p50 %5d ns   p99 %5d ns   max %7d ns   %.2f lookups\n", name,
		   median, p99, samples[SAMPLES - 1], (double) lookups / SAMPLES);
}

int
main(void)
{
	static const char *const chosen[] = {
		"0 0 0 29 2 1", "0 0 0 */28 2 1#5", "0 0 0 */28 2 */3", "* * * * * *",
		"0 */5 * * * *", "0 0 3 * * *", "@yearly", "0 0 0 LW * ?"
	};
	JanitorSchedule schedule;
	char		error[200];
	int32_t		median;
	int32_t		overhead;
	int32_t		p99;
	int32_t		p99_random;
	size_t		i;

	for (i = 0; i < CHANGES; i++)
		changes[i] = (int64_t) (i + 1) * 15778476;
	make_schedules();
	measure(NULL, 0, 0, &overhead);
	p99_random = measure(schedules, SCHEDULES, overhead, &median);
	report("random schedules", median, p99_random);
	for (i = 0; i < LENGTH(chosen); i++)
	{
		if (!janitor_schedule_parse(chosen[i], &schedule,
									error, sizeof(error)))
		{
			printf("%s: %s\n", chosen[i], error);
			return 2;
		}
		p99 = measure(&schedule, 1, overhead, &median);
		report(chosen[i], median, p99);
	}
	return p99_random <= 1000 ? 0 : 1;
}
