/*-------------------------------------------------------------------------
 *
 * test_schedule.c
 *	  Vectors for the calendar: what is accepted, what is refused and in
 *	  which words, and the next occurrences of chosen schedules.
 *
 * Prints TAP.  Expected instants are written out by hand, never computed by
 * the code under test; oracle_schedule.c has the random half.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "schedule.h"
#include "zone_system.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define USEC INT64_C(1000000)
#define EPOCH INT64_C(946684800)
#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static int	test_count = 0;
static int	failure_count = 0;

/* A schedule, a zone, an instant in UTC, and the occurrences after it. */
typedef struct Vector
{
	const char *text;
	const char *zone;
	const char *after;
	const char *expected[6];
} Vector;

/* A schedule that is refused, and why. */
typedef struct Failure
{
	const char *text;
	const char *error;
} Failure;

static void
check(bool passed, const char *name, const char *detail)
{
	printf("%sok %d - ", passed ? "" : "not ", ++test_count);
	for (; *name != '\0'; name++)
		putchar(*name == '\n' || *name == '#' || (unsigned char) *name < ' ' ?
				'_' : *name);
	putchar('\n');
	if (!passed)
	{
		failure_count++;
		printf("# %s\n", detail);
	}
}

/*
 * Microseconds since 2000 of "YYYY-MM-DD HH:MM:SS[.uuuuuu]" in UTC.
 */
static int64_t
instant(const char *text)
{
	struct tm	broken;
	const char *rest;

	memset(&broken, 0, sizeof(broken));
	rest = strptime(text, "%Y-%m-%d %H:%M:%S", &broken);
	if (rest == NULL || (*rest != '\0' && strlen(rest) != 7))
	{
		printf("Bail out! bad instant in a vector: %s\n", text);
		exit(2);
	}
	return ((int64_t) timegm(&broken) - EPOCH) * USEC +
		(*rest == '.' ? atoi(rest + 1) : 0);
}

static const char *
instant_text(int64_t usecs, char *buffer)
{
	time_t		t = usecs / USEC + EPOCH;
	struct tm	broken;

	gmtime_r(&t, &broken);
	strftime(buffer, 64, "%Y-%m-%d %H:%M:%S", &broken);
	return buffer;
}

/*
 * A zone by name; the last one is kept, vectors come grouped.
 */
static const JanitorZone *
zone_named(const char *name)
{
	static SystemZone table = {0};
	static JanitorZone zone = {janitor_system_zone_lookup, &table};

	if (table.name == NULL || strcmp(table.name, name) != 0)
		janitor_system_zone_load(&table, name);
	return &zone;
}

static bool
parse(const char *text, JanitorSchedule *schedule, char *detail)
{
	char		error[200];

	if (janitor_schedule_parse(text, schedule, error, sizeof(error)))
		return true;
	snprintf(detail, 300, "refused: %s", error);
	return false;
}

static bool
run_vector(const Vector *vector, char *detail)
{
	JanitorSchedule schedule;
	int64_t		time = instant(vector->after);
	char		buffer[64];
	size_t		i;

	if (!parse(vector->text, &schedule, detail))
		return false;
	for (i = 0; i < LENGTH(vector->expected) && vector->expected[i]; i++)
	{
		if (!janitor_schedule_next(&schedule, zone_named(vector->zone),
								   time, &time))
		{
			snprintf(detail, 300, "no occurrence, expected %s",
					 vector->expected[i]);
			return strcmp(vector->expected[i], "never") == 0;
		}
		if (time != instant(vector->expected[i]))
		{
			snprintf(detail, 300, "got %s, expected %s",
					 instant_text(time, buffer), vector->expected[i]);
			return false;
		}
	}
	return i > 0;
}

static void
test_vectors(const char *group, const Vector *vectors, size_t count)
{
	char		name[200];
	char		detail[300] = "vector without expectation";
	size_t		i;
	bool		passed;

	for (i = 0; i < count; i++)
	{
		passed = run_vector(&vectors[i], detail);
		snprintf(name, sizeof(name), "%s: \"%s\" in %s after %s", group,
				 vectors[i].text, vectors[i].zone, vectors[i].after);
		check(passed, name, detail);
	}
}

#define TEST_VECTORS(group, vectors) \
	test_vectors(group, vectors, LENGTH(vectors))

/*
 * The eight documented examples of a system whose schedules must carry over
 * unchanged (B-31).
 */
static void
test_documented_examples(void)
{
	static const Vector vectors[] = {
		{"0 0 * * * *", "UTC", "2026-03-05 10:20:30",
		{"2026-03-05 11:00:00", "2026-03-05 12:00:00", "2026-03-05 13:00:00"}},
		{"0 30 * * * *", "UTC", "2026-03-05 10:20:30",
		{"2026-03-05 10:30:00", "2026-03-05 11:30:00", "2026-03-05 12:30:00"}},
		{"0 */5 * * * *", "UTC", "2026-03-05 10:50:00",
		{"2026-03-05 10:55:00", "2026-03-05 11:00:00", "2026-03-05 11:05:00"}},
		{"0 45 * * * *", "UTC", "2026-12-31 23:44:59.999999",
		{"2026-12-31 23:45:00", "2027-01-01 00:45:00"}},
		{"0 0 0 * * *", "UTC", "2026-02-27 00:00:00",
		{"2026-02-28 00:00:00", "2026-03-01 00:00:00", "2026-03-02 00:00:00"}},
		{"0 0 0 * * 1", "UTC", "2026-03-05 10:20:30",
		{"2026-03-09 00:00:00", "2026-03-16 00:00:00", "2026-03-23 00:00:00"}},
		{"0 0 3 * * *", "UTC", "2026-03-05 02:59:59",
		{"2026-03-05 03:00:00", "2026-03-06 03:00:00"}},
		{"0 0 0 1 * *", "UTC", "2026-11-30 23:59:59",
		{"2026-12-01 00:00:00", "2027-01-01 00:00:00", "2027-02-01 00:00:00"}}
	};

	TEST_VECTORS("documented", vectors);
}

static void
test_calendar(void)
{
	static const Vector vectors[] = {
		{"0 0 0 31 * *", "UTC", "2026-01-31 00:00:00",
			{"2026-03-31 00:00:00", "2026-05-31 00:00:00", "2026-07-31 00:00:00",
		"2026-08-31 00:00:00"}},
		{"0 0 0 29 2 *", "UTC", "2026-01-01 00:00:00",
		{"2028-02-29 00:00:00", "2032-02-29 00:00:00"}},
		{"0 0 0 29 2 *", "UTC", "2096-02-29 00:00:00",
		{"2104-02-29 00:00:00"}},
		{"0 0 0 29 2 *", "UTC", "1999-12-31 00:00:00",
		{"2000-02-29 00:00:00"}},
		{"59 59 23 31 12 *", "UTC", "2026-12-31 23:59:58",
		{"2026-12-31 23:59:59", "2027-12-31 23:59:59"}},
		{"59 59 23 * * *", "UTC", "2026-12-31 23:59:59",
		{"2027-01-01 23:59:59"}},
		{"* * * * * *", "UTC", "2026-12-31 23:59:58.999999",
		{"2026-12-31 23:59:59", "2027-01-01 00:00:00", "2027-01-01 00:00:01"}},
		{"* * * * * *", "UTC", "1969-06-01 00:00:00",
		{"1970-01-01 00:00:00", "1970-01-01 00:00:01"}},
		{"0 0 0 1 1 *", "UTC", "1960-06-01 00:00:00",
		{"1970-01-01 00:00:00", "1971-01-01 00:00:00"}},
		{"0 0 0 1 1 *", "UTC", "1999-12-31 23:59:59.999999",
		{"2000-01-01 00:00:00", "2001-01-01 00:00:00"}},
		{"0 0 0 1 1 *", "UTC", "9998-06-01 00:00:00",
		{"9999-01-01 00:00:00", "never"}},
		{"59 59 23 31 12 *", "UTC", "9999-12-31 23:59:58",
		{"9999-12-31 23:59:59", "never"}},
		{"* * * * * *", "UTC", "9999-12-31 23:59:59", {"never"}},
		{"* * * * * *", "America/New_York", "9999-12-31 23:59:58",
		{"9999-12-31 23:59:59", "never"}},
		{"* * * * * *", "Asia/Kathmandu", "9999-12-31 18:14:58",
		{"9999-12-31 18:14:59", "never"}},
		{"0 0 12 * * *", "Asia/Kathmandu", "2026-03-05 06:14:59",
		{"2026-03-05 06:15:00"}},
		{"0 0 0 1 1 *", "Africa/Monrovia", "1971-01-01 00:00:00",
		{"1971-01-01 00:44:30", "1972-01-01 00:44:30", "1973-01-01 00:00:00"}}
	};

	TEST_VECTORS("calendar", vectors);
}

static void
test_syntax(void)
{
	static const Vector vectors[] = {
		{"30 4 * * *", "UTC", "2026-03-05 00:00:00", {"2026-03-05 04:30:00"}},
		{"5,10,5 0 0 * * *", "UTC", "2026-03-05 00:00:00",
		{"2026-03-05 00:00:05", "2026-03-05 00:00:10", "2026-03-06 00:00:05"}},
		{"0 0 9-11 * * *", "UTC", "2026-03-05 00:00:00",
			{"2026-03-05 09:00:00", "2026-03-05 10:00:00", "2026-03-05 11:00:00",
		"2026-03-06 09:00:00"}},
		{"0 10-40/15 0 * * *", "UTC", "2026-03-05 00:00:00",
			{"2026-03-05 00:10:00", "2026-03-05 00:25:00", "2026-03-05 00:40:00",
		"2026-03-06 00:10:00"}},
		{"0 20/25 0 * * *", "UTC", "2026-03-05 00:00:00",
		{"2026-03-05 00:20:00", "2026-03-05 00:45:00", "2026-03-06 00:20:00"}},
		{"0 0 */23 * * *", "UTC", "2026-03-05 00:00:00",
		{"2026-03-05 23:00:00", "2026-03-06 00:00:00"}},
		{"0 0 0 */30 * *", "UTC", "2026-03-01 00:00:00",
		{"2026-03-31 00:00:00", "2026-04-01 00:00:00"}},
		{"0 0 0 1 */11 *", "UTC", "2026-03-01 00:00:00",
		{"2026-12-01 00:00:00", "2027-01-01 00:00:00"}},
		{"0 0 0 ? * */6", "UTC", "2026-03-02 00:00:00",
		{"2026-03-07 00:00:00", "2026-03-08 00:00:00"}},
		{"0 0 0 ? * MON/2", "UTC", "2026-03-01 00:00:00",
			{"2026-03-02 00:00:00", "2026-03-04 00:00:00", "2026-03-06 00:00:00",
		"2026-03-09 00:00:00"}},
		{"0 0 0 ? * 7/3", "UTC", "2026-03-01 00:00:00",
		{"2026-03-04 00:00:00", "2026-03-07 00:00:00", "2026-03-08 00:00:00"}},
		{"0 0 0 1 feb,Oct-DEC ?", "UTC", "2026-01-01 00:00:00",
			{"2026-02-01 00:00:00", "2026-10-01 00:00:00", "2026-11-01 00:00:00",
		"2026-12-01 00:00:00", "2027-02-01 00:00:00"}},
		{"0 0 0 ? * 7", "UTC", "2026-03-05 00:00:00", {"2026-03-08 00:00:00"}},
		{"0 0 0 ? * 0", "UTC", "2026-03-05 00:00:00", {"2026-03-08 00:00:00"}},
		{"0 0 0 ? * fri-Sun", "UTC", "2026-03-05 00:00:00",
			{"2026-03-06 00:00:00", "2026-03-07 00:00:00", "2026-03-08 00:00:00",
		"2026-03-13 00:00:00"}},
		{"0 0 0 ? * 5-7", "UTC", "2026-03-07 00:00:00",
		{"2026-03-08 00:00:00", "2026-03-13 00:00:00"}},
		{"0 0 0 ? * 5-0", "UTC", "2026-03-07 00:00:00",
		{"2026-03-08 00:00:00", "2026-03-13 00:00:00"}},
		{"0 0 0 ? * 5-SUN/2", "UTC", "2026-03-05 00:00:00",
		{"2026-03-06 00:00:00", "2026-03-08 00:00:00", "2026-03-13 00:00:00"}},
		{"0 0 0 ? * SUN-MON", "UTC", "2026-03-05 00:00:00",
		{"2026-03-08 00:00:00", "2026-03-09 00:00:00", "2026-03-15 00:00:00"}},
		{"0 0 0 ? * 0-7", "UTC", "2026-03-05 00:00:00",
		{"2026-03-06 00:00:00", "2026-03-07 00:00:00", "2026-03-08 00:00:00"}},
		{"0 0 0 ? * SUN-SUN", "UTC", "2026-03-05 00:00:00",
		{"2026-03-08 00:00:00", "2026-03-15 00:00:00"}},
		{"0 0 0 ? * ?", "UTC", "2026-03-05 00:00:00", {"2026-03-06 00:00:00"}},
		{"0 0 0 L * *", "UTC", "2027-12-31 00:00:00",
			{"2028-01-31 00:00:00", "2028-02-29 00:00:00", "2028-03-31 00:00:00",
		"2028-04-30 00:00:00"}},
		{"0 0 0 l-0,L-2 * *", "UTC", "2027-02-01 00:00:00",
			{"2027-02-26 00:00:00", "2027-02-28 00:00:00", "2027-03-29 00:00:00",
		"2027-03-31 00:00:00"}},
		{"0 0 0 L-30 * *", "UTC", "2027-02-01 00:00:00",
		{"2027-03-01 00:00:00", "2027-05-01 00:00:00"}},
		{"0 0 0 L-28 2 *", "UTC", "2027-01-01 00:00:00",
		{"2028-02-01 00:00:00", "2032-02-01 00:00:00"}},
		/* 15 August 2026 is a Saturday, 15 November a Sunday */
		{"0 0 0 15W * *", "UTC", "2026-08-01 00:00:00",
			{"2026-08-14 00:00:00", "2026-09-15 00:00:00", "2026-10-15 00:00:00",
		"2026-11-16 00:00:00"}},
		/* 1 August 2026 is a Saturday, 1 November a Sunday */
		{"0 0 0 1w * ?", "UTC", "2026-07-31 00:00:00",
			{"2026-08-03 00:00:00", "2026-09-01 00:00:00", "2026-10-01 00:00:00",
		"2026-11-02 00:00:00"}},
		/* 31 May 2026 is a Sunday, 31 October a Saturday */
		{"0 0 0 31W * ?", "UTC", "2026-04-01 00:00:00",
			{"2026-05-29 00:00:00", "2026-07-31 00:00:00", "2026-08-31 00:00:00",
		"2026-10-30 00:00:00"}},
		/* 28 February 2026 is a Saturday, 31 May a Sunday */
		{"0 0 0 LW * ?", "UTC", "2026-02-01 00:00:00",
			{"2026-02-27 00:00:00", "2026-03-31 00:00:00", "2026-04-30 00:00:00",
		"2026-05-29 00:00:00"}},
		{"0 0 0 ? * FRI#2", "UTC", "2026-01-01 00:00:00",
		{"2026-01-09 00:00:00", "2026-02-13 00:00:00", "2026-03-13 00:00:00"}},
		{"0 0 0 ? * 7#1,3#5", "UTC", "2026-01-01 00:00:00",
			{"2026-01-04 00:00:00", "2026-02-01 00:00:00", "2026-03-01 00:00:00",
		"2026-04-05 00:00:00", "2026-04-29 00:00:00"}},
		{"0 0 0 * * 1#5", "UTC", "2026-01-01 00:00:00",
		{"2026-03-30 00:00:00", "2026-06-29 00:00:00"}},
		{"0 0 0 ? * 5L", "UTC", "2026-01-01 00:00:00",
		{"2026-01-30 00:00:00", "2026-02-27 00:00:00", "2026-03-27 00:00:00"}},
		{"0 0 0 ? * friL", "UTC", "2026-01-01 00:00:00",
		{"2026-01-30 00:00:00", "2026-02-27 00:00:00"}},
		{"0 0 0 ? * 7L", "UTC", "2026-01-01 00:00:00",
		{"2026-01-25 00:00:00", "2026-02-22 00:00:00", "2026-03-29 00:00:00"}},
		{"0 0 0 ? 2 MONL", "UTC", "2027-01-01 00:00:00",
		{"2027-02-22 00:00:00", "2028-02-28 00:00:00"}},
		{" \t0\n0  0 *\t * 1 \n", "UTC", "2026-03-05 00:00:00",
		{"2026-03-09 00:00:00"}},
		{"000 00 007 * * *", "UTC", "2026-03-05 00:00:00",
		{"2026-03-05 07:00:00"}},
		{"@hourly", "UTC", "2026-03-05 10:20:30", {"2026-03-05 11:00:00"}},
		{" @DAILY ", "UTC", "2026-03-05 10:20:30", {"2026-03-06 00:00:00"}},
		{"@midnight", "UTC", "2026-03-05 10:20:30", {"2026-03-06 00:00:00"}},
		{"@weekly", "UTC", "2026-03-05 10:20:30", {"2026-03-08 00:00:00"}},
		{"@monthly", "UTC", "2026-03-05 10:20:30", {"2026-04-01 00:00:00"}},
		{"@yearly", "UTC", "2026-03-05 10:20:30", {"2027-01-01 00:00:00"}},
		{"@annually", "UTC", "2026-03-05 10:20:30", {"2027-01-01 00:00:00"}},
		{"@reboot", "UTC", "2026-03-05 10:20:30", {"never"}}
	};

	TEST_VECTORS("syntax", vectors);
}

static void
test_both_days(void)
{
	static const Vector vectors[] = {
		/* either: Fridays, and the 13th */
		{"0 0 0 13 * FRI", "UTC", "2026-03-07 00:00:00",
			{"2026-03-13 00:00:00", "2026-03-20 00:00:00", "2026-03-27 00:00:00",
				"2026-04-03 00:00:00", "2026-04-10 00:00:00",
		"2026-04-13 00:00:00"}},
		{"0 0 0 29 2 1", "UTC", "2028-02-27 00:00:00",
		{"2028-02-28 00:00:00", "2028-02-29 00:00:00", "2029-02-05 00:00:00"}},
		{"0 0 0 L * MON#1", "UTC", "2026-03-01 00:00:00",
		{"2026-03-02 00:00:00", "2026-03-31 00:00:00", "2026-04-06 00:00:00"}},
		/* a star at the start: both; odd days that are Mondays */
		{"0 0 0 */2 * MON", "UTC", "2026-03-01 00:00:00",
		{"2026-03-09 00:00:00", "2026-03-23 00:00:00", "2026-04-13 00:00:00"}},
		{"0 0 0 13 * */2", "UTC", "2026-03-01 00:00:00",
		{"2026-06-13 00:00:00", "2026-08-13 00:00:00"}},
		{"0 0 0 13 * *,FRI", "UTC", "2026-03-01 00:00:00",
		{"2026-03-13 00:00:00", "2026-04-13 00:00:00"}},
		/* a star elsewhere is no star at the start: either, so every day */
		{"0 0 0 13 * FRI,*", "UTC", "2026-03-01 00:00:00",
		{"2026-03-02 00:00:00"}},
		{"0 0 0 ? * FRI", "UTC", "2026-03-07 00:00:00",
		{"2026-03-13 00:00:00", "2026-03-20 00:00:00"}},
		{"0 0 0 13 * ?", "UTC", "2026-03-07 00:00:00",
		{"2026-03-13 00:00:00", "2026-04-13 00:00:00"}},
		/* 29 February, Monday: both, decades apart, and over 2100 */
		{"0 0 0 */28 2 1#5", "UTC", "2026-01-01 00:00:00",
		{"2044-02-29 00:00:00", "2072-02-29 00:00:00", "2112-02-29 00:00:00"}}
	};

	TEST_VECTORS("day fields", vectors);
}

/*
 * Clocks in UTC: New York goes forward at 07:00 on 2026-03-08 and back at
 * 06:00 on 2026-11-01; Berlin at 01:00 on 2026-03-29 and 2026-10-25.
 */
static void
test_daylight_saving(void)
{
	static const Vector vectors[] = {
		{"0 30 2 * * *", "America/New_York", "2026-03-07 00:00:00",
		{"2026-03-07 07:30:00", "2026-03-08 07:00:00", "2026-03-09 06:30:00"}},
		{"0 0,20,40 2 * * *", "America/New_York", "2026-03-08 00:00:00",
		{"2026-03-08 07:00:00", "2026-03-09 06:00:00", "2026-03-09 06:20:00"}},
		{"0 0 2,3 * * *", "America/New_York", "2026-03-08 00:00:00",
		{"2026-03-08 07:00:00", "2026-03-09 06:00:00", "2026-03-09 07:00:00"}},
		{"0 30 2 8 3 *", "America/New_York", "2026-03-08 06:59:59.999999",
		{"2026-03-08 07:00:00", "2027-03-08 07:30:00"}},
		{"0 30 2 8 3 *", "America/New_York", "2026-03-08 07:00:00",
		{"2027-03-08 07:30:00"}},
		{"0 */30 2 8 3 *", "America/New_York", "2026-03-01 00:00:00",
		{"2027-03-08 07:00:00", "2027-03-08 07:30:00"}},
		{"0 */30 * * * *", "America/New_York", "2026-03-08 06:00:00",
		{"2026-03-08 06:30:00", "2026-03-08 07:00:00", "2026-03-08 07:30:00"}},
		{"0 30 1 * * *", "America/New_York", "2026-11-01 00:00:00",
		{"2026-11-01 05:30:00", "2026-11-02 06:30:00"}},
		{"0 30 1 * * *", "America/New_York", "2026-11-01 06:10:00",
		{"2026-11-02 06:30:00"}},
		{"0 0 1,2 * * *", "America/New_York", "2026-11-01 00:00:00",
		{"2026-11-01 05:00:00", "2026-11-01 07:00:00", "2026-11-02 06:00:00"}},
		{"0 30 * * * *", "America/New_York", "2026-11-01 05:00:00",
		{"2026-11-01 05:30:00", "2026-11-01 06:30:00", "2026-11-01 07:30:00"}},
		{"0 */30 1 * * *", "America/New_York", "2026-11-01 00:00:00",
			{"2026-11-01 05:00:00", "2026-11-01 05:30:00", "2026-11-01 06:00:00",
		"2026-11-01 06:30:00", "2026-11-02 06:00:00"}},
		{"*/30 59 1 * * *", "America/New_York", "2026-11-01 00:00:00",
			{"2026-11-01 05:59:00", "2026-11-01 05:59:30", "2026-11-01 06:59:00",
		"2026-11-01 06:59:30", "2026-11-02 06:59:00"}},
		/* minutes of five fields: no second field that could begin with * */
		{"30 1 * * *", "America/New_York", "2026-11-01 05:30:00",
		{"2026-11-02 06:30:00"}},
		{"30 2 * * *", "America/New_York", "2026-03-08 00:00:00",
		{"2026-03-08 07:00:00", "2026-03-09 06:30:00"}},
		{"@daily", "America/New_York", "2026-03-07 05:00:00",
		{"2026-03-08 05:00:00", "2026-03-09 04:00:00"}},
		/* a star that is not at the start does not follow elapsed time */
		{"0 30,* 2 8 3 *", "America/New_York", "2026-03-01 00:00:00",
		{"2026-03-08 07:00:00", "2027-03-08 07:00:00"}},
		{"0 30 2 * * *", "Europe/Berlin", "2026-03-28 12:00:00",
		{"2026-03-29 01:00:00", "2026-03-30 00:30:00"}},
		{"0 30 2 * * *", "Europe/Berlin", "2026-10-24 12:00:00",
		{"2026-10-25 00:30:00", "2026-10-26 01:30:00"}},
		{"0 0 3 L-6 * ?", "Europe/Berlin", "2026-10-01 00:00:00",
		{"2026-10-25 02:00:00", "2026-11-24 02:00:00"}},
		{"0 0 * 29 3 *", "Europe/Berlin", "2026-03-28 23:30:00",
		{"2026-03-29 00:00:00", "2026-03-29 01:00:00", "2026-03-29 02:00:00"}},
		/* 30 minutes: forward at 15:30 on 2026-10-03, back 15:00 on 04-04 */
		{"0 15 2 * * *", "Australia/Lord_Howe", "2026-10-03 00:00:00",
		{"2026-10-03 15:30:00", "2026-10-04 15:15:00"}},
		{"0 45 1 * * *", "Australia/Lord_Howe", "2026-04-04 00:00:00",
		{"2026-04-04 14:45:00", "2026-04-05 15:15:00"}},
		{"0 15,45 * * * *", "Australia/Lord_Howe", "2026-04-04 14:30:00",
		{"2026-04-04 14:45:00", "2026-04-04 15:15:00", "2026-04-04 15:45:00"}},
		/* no 30 December in 2011: from 2011-12-30 10:00 UTC it is the 31st */
		{"0 0 12 * * *", "Pacific/Apia", "2011-12-29 00:00:00",
		{"2011-12-29 22:00:00", "2011-12-30 22:00:00", "2011-12-31 22:00:00"}},
		{"0 0 12 30 12 *", "Pacific/Apia", "2011-12-01 00:00:00",
		{"2012-12-29 22:00:00"}},
		{"0 0 0 * * *", "Pacific/Apia", "2011-12-29 10:00:00",
		{"2011-12-30 10:00:00", "2011-12-31 10:00:00"}},
		{"0 0 */12 * * *", "Pacific/Apia", "2011-12-29 10:00:00",
		{"2011-12-29 22:00:00", "2011-12-30 10:00:00", "2011-12-30 22:00:00"}},
		/* clocks back for Ramadan: 2025-02-23 03:00 to 02:00, on 04-06 again */
		{"0 30 2 * * *", "Africa/Casablanca", "2025-02-22 12:00:00",
		{"2025-02-23 01:30:00", "2025-02-24 02:30:00"}},
		{"0 30 2 * * *", "Africa/Casablanca", "2025-04-05 12:00:00",
		{"2025-04-06 02:00:00", "2025-04-07 01:30:00"}},
		{"0 30 * * * *", "Africa/Casablanca", "2025-02-23 01:00:00",
		{"2025-02-23 01:30:00", "2025-02-23 02:30:00", "2025-02-23 03:30:00"}},
		/* two hours: 2026-03-29 01:00 to 03:00 */
		{"0 0,59 1,2 * * *", "Antarctica/Troll", "2026-03-28 12:00:00",
		{"2026-03-29 01:00:00", "2026-03-29 23:00:00"}}
	};

	TEST_VECTORS("daylight saving", vectors);
}

/*
 * A gap of exactly 3 hours is made up for, one of a second more is not.
 */
static void
test_gap_limit(void)
{
	SystemZone	table;
	JanitorZone zone = {janitor_system_zone_lookup, &table};
	JanitorSchedule schedule;
	int64_t		change = instant("2026-05-10 01:00:00");
	int64_t		next;
	char		detail[300] = "";
	char		buffer[64];
	int			gap;

	for (gap = 10800; gap <= 10801; gap++)
	{
		bool		passed = parse("0 0 2 * * *", &schedule, detail);

		janitor_system_zone_init(&table, "synthetic", 0);
		janitor_system_zone_change(&table, change / USEC + EPOCH, gap);
		passed = passed &&
			janitor_schedule_next(&schedule, &zone, change - 1, &next);
		if (passed)
			snprintf(detail, sizeof(detail), "got %s",
					 instant_text(next, buffer));
		check(passed && next == (gap == 10800 ? change :
								 instant("2026-05-11 02:00:00") - gap * USEC),
			  gap == 10800 ? "a gap of 3 hours is made up for" :
			  "a gap of 3 hours and a second is not", detail);
	}
}

static void
test_errors(void)
{
	static const Failure failures[] = {
		{"", "expected 5 or 6 fields, found 0"},
		{" \t\n", "expected 5 or 6 fields, found 0"},
		{"* * * *", "expected 5 or 6 fields, found 4"},
		{"0 0 0 * * * *", "expected 5 or 6 fields, found 7"},
		{"0 0 0 * * 1 x", "expected 5 or 6 fields, found 7"},
		{"everything", "expected 5 or 6 fields, found 1"},
		{"0 61 * * * *", "minute must be between 0 and 59"},
		{"60 * * * * *", "second must be between 0 and 59"},
		{"0 0 24 * * *", "hour must be between 0 and 23"},
		{"0 0 0 0 * *", "day of month must be between 1 and 31"},
		{"0 0 0 32 * *", "day of month must be between 1 and 31"},
		{"0 0 0 1 0 *", "month must be between 1 and 12"},
		{"0 0 0 1 13 *", "month must be between 1 and 12"},
		{"0 0 0 * * 8", "day of week must be between 0 and 7"},
		{"0 0 0 * * 1-8", "day of week must be between 0 and 7"},
		{"4294967296 * * * *", "minute must be between 0 and 59"},
		{"99999999999999999999999 * * * *", "minute must be between 0 and 59"},
		{"x * * * *", "minute must be a number between 0 and 59"},
		{"-1 * * * *", "minute must be a number between 0 and 59"},
		{"+1 * * * *", "minute must be a number between 0 and 59"},
		{"L * * * *", "minute must be a number between 0 and 59"},
		{"\xc3\xa9 * * * *", "minute must be a number between 0 and 59"},
		{"0 0 1 JNA *", "month must be a number between 1 and 12 or a name from JAN to DEC"},
		{"0 0 * * FOO", "day of week must be a number between 0 and 7 or a name from SUN to SAT"},
		{"0 0 * * JAN", "day of week must be a number between 0 and 7 or a name from SUN to SAT"},
		{"0 0 MON * *", "day of month must be a number between 1 and 31"},
		{"1,,2 * * * *", "minute has an empty item or range"},
		{",1 * * * *", "minute has an empty item or range"},
		{"0 1, * * *", "hour has an empty item or range"},
		{"0 1- * * *", "hour has an empty item or range"},
		{"5x * * * *", "minute must be values, ranges and steps separated by commas"},
		{"1-2-3 * * * *", "minute must be values, ranges and steps separated by commas"},
		{"*5 * * * *", "minute must be values, ranges and steps separated by commas"},
		{"*-5 * * * *", "minute must be values, ranges and steps separated by commas"},
		{"1/2/3 * * * *", "minute must be values, ranges and steps separated by commas"},
		{"5L * * * *", "minute must be values, ranges and steps separated by commas"},
		{"1.5 * * * *", "minute must be values, ranges and steps separated by commas"},
		{"0 0 * JANUARY *", "month must be values, ranges and steps separated by commas"},
		{"0 0 L5 * *", "day of month must be values, ranges and steps separated by commas"},
		{"0 0 WL * *", "day of month must be a number between 1 and 31"},
		{"0 0 L-3W * *", "day of month must be values, ranges and steps separated by commas"},
		{"0 0 1-5W * *", "day of month must be values, ranges and steps separated by commas"},
		{"0 0 15W/2 * *", "day of month must be values, ranges and steps separated by commas"},
		{"0 0 5#2 * *", "day of month must be values, ranges and steps separated by commas"},
		{"0 0 * * 5L/2", "day of week must be values, ranges and steps separated by commas"},
		{"0 0 * * 1-5L", "day of week must be values, ranges and steps separated by commas"},
		{"0 0 * * 5W", "day of week must be values, ranges and steps separated by commas"},
		{"0 0 * * *#2", "day of week must be values, ranges and steps separated by commas"},
		{"0 0 0W * *", "day of month must be between 1 and 31"},
		{"0 0 32W * *", "day of month must be between 1 and 31"},
		{"0 0 L-31 * *", "day of month must have a number between 0 and 30 after L-"},
		{"0 0 L- * *", "day of month must have a number between 0 and 30 after L-"},
		{"0 0 L--1 * *", "day of month must have a number between 0 and 30 after L-"},
		{"0 0 * * L", "day of week must have a day before L, as in 5L or FRIL"},
		{"0 0 * * 5#6", "day of week must have a number between 1 and 5 after #"},
		{"0 0 * * 5#0", "day of week must have a number between 1 and 5 after #"},
		{"0 0 * * FRI#", "day of week must have a number between 1 and 5 after #"},
		{"0 0 * * FRI#10", "day of week must have a number between 1 and 5 after #"},
		{"40-20 * * * *", "minute range must not end before it starts"},
		{"0 22-6 * * *", "hour range must not end before it starts"},
		{"0 0 20-10 * *", "day of month range must not end before it starts"},
		{"0 0 1 NOV-FEB *", "month range must not end before it starts"},
		{"0 0 * * FRI-MON", "day of week range must not end before it starts"},
		{"0 0 * * 7-4", "day of week range must not end before it starts"},
		{"*/60 * * * *", "minute step must be between 1 and 59, a larger one never steps"},
		{"*/60 * * * * *", "second step must be between 1 and 59, a larger one never steps"},
		{"0 */24 * * *", "hour step must be between 1 and 23, a larger one never steps"},
		{"0 0 */31 * *", "day of month step must be between 1 and 30, a larger one never steps"},
		{"0 0 1 */12 *", "month step must be between 1 and 11, a larger one never steps"},
		{"0 0 * * */7", "day of week step must be between 1 and 6, a larger one never steps"},
		{"5-10/999999999999 * * * *", "minute step must be between 1 and 59, a larger one never steps"},
		{"*/0 * * * *", "minute step must be between 1 and 59"},
		{"5/00 * * * *", "minute step must be between 1 and 59"},
		{"*/ * * * *", "minute step must be a number between 1 and 59"},
		{"*/x * * * *", "minute step must be a number between 1 and 59"},
		{"? * * * *", "minute must not be ?, which only day of month and day of week may be"},
		{"0 0 1 ? *", "month must not be ?, which only day of month and day of week may be"},
		{"0 0 ?,3 * *", "day of month must have nothing beside ?"},
		{"0 0 * * ?/2", "day of week must have nothing beside ?"},
		{"0 0 3,? * *", "day of month must be a number between 1 and 31"},
		{"0 0 0 30 2 *", "its date never occurs"},
		{"0 0 0 31 2,4 *", "its date never occurs"},
		{"0 0 0 31 2,4,6,9,11 ?", "its date never occurs"},
		{"0 0 0 30W FEB *", "its date never occurs"},
		{"0 0 0 31W 4 *", "its date never occurs"},
		{"0 0 0 L-29 2 *", "its date never occurs"},
		{"0 0 0 L-30 4 *", "its date never occurs"},
		{"0 0 0 */28 2 1#3", "its date never occurs"},
		{"0 0 0 */6 6 */6", NULL},
		{"0 0 0 30 2 1", NULL},
		{"0 0 0 29 2 1", NULL},
		{"0 0 0 * * 1#5", NULL},
		{"0 0 0 * 2 1#5", NULL},
		{"0 0 0 29W 2 *", NULL},
		{"@", "name must be @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually or @reboot"},
		{"@dail", "name must be @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually or @reboot"},
		{"@dailyx", "name must be @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually or @reboot"},
		{"@daily 5", "expected nothing beside a name such as @daily, found 2 fields"},
		{"0 @daily * * *", "hour must be a number between 0 and 23"},
		{"every", "interval must be amounts and units, such as 90 seconds or 1 hour 30 minutes"},
		{"every -5 minutes", "interval must be amounts and units, such as 90 seconds or 1 hour 30 minutes"},
		{"every 1 hour, 5 minutes", "interval must be amounts and units, such as 90 seconds or 1 hour 30 minutes"},
		{"every 1 hour minutes", "interval must be amounts and units, such as 90 seconds or 1 hour 30 minutes"},
		{"every hour 5 minutes", "interval must have an amount before each unit"},
		{"every 5", "interval unit must be second, minute, hour, day or week"},
		{"every 5 5", "interval unit must be second, minute, hour, day or week"},
		{"every 5 ms", "interval unit must be second, minute, hour, day or week"},
		{"every 5 fortnights", "interval unit must be second, minute, hour, day or week"},
		{"every 1. hours", "interval must have 1 to 6 digits after a decimal point"},
		{"every 1.0000001 hours", "interval must have 1 to 6 digits after a decimal point"},
		{"every month", "interval must not count months or years, whose length varies: use @monthly or @yearly"},
		{"every 2 years", "interval must not count months or years, whose length varies: use @monthly or @yearly"},
		{"every 1 mon", "interval must not count months or years, whose length varies: use @monthly or @yearly"},
		{"every 0 seconds", "interval must be at least 1 second"},
		{"every 0.999999 seconds", "interval must be at least 1 second"},
		{"every 3653 days", "interval must be at most 10 years"},
		{"every 315576000.000001 s", "interval must be at most 10 years"},
		{"every 315576000 s 1 s", "interval must be at most 10 years"},
		{"every 9223372036854775807 weeks", "interval must be at most 10 years"},
		{"every 18446744073709551616 s", "interval must be at most 10 years"}
	};
	JanitorSchedule schedule;
	char		error[200];
	char		name[300];
	char		detail[300];
	size_t		i;
	bool		parsed;
	bool		passed;

	for (i = 0; i < LENGTH(failures); i++)
	{
		parsed = janitor_schedule_parse(failures[i].text, &schedule,
										error, sizeof(error));
		if (failures[i].error == NULL)
			passed = parsed && error[0] == '\0';
		else
			passed = !parsed && strcmp(error, failures[i].error) == 0;
		snprintf(name, sizeof(name), "\"%s\": %s", failures[i].text,
				 failures[i].error ? failures[i].error : "is accepted");
		snprintf(detail, sizeof(detail), "%s \"%s\"",
				 parsed ? "accepted" : "refused", error);
		check(passed, name, detail);
	}
}

static void
test_error_truncation(void)
{
	JanitorSchedule schedule;
	char		error[8] = "XXXXXXX";

	check(!janitor_schedule_parse("*", &schedule, error, 5) &&
		  strcmp(error, "expe") == 0 && strcmp(error + 5, "XX") == 0,
		  "an error is cut at error_size, its NUL included", error);
	check(!janitor_schedule_parse("*", &schedule, error, 1) &&
		  error[0] == '\0', "an error_size of 1 leaves the NUL", error);
	error[0] = 'X';
	check(!janitor_schedule_parse("*", &schedule, error, 0) &&
		  error[0] == 'X', "an error_size of 0 leaves the buffer alone",
		  error);
	check(!janitor_schedule_parse("*", &schedule, NULL, 0),
		  "an error_size of 0 needs no buffer", "accepted");
}

static void
test_intervals(void)
{
	static const struct
	{
		const char *text;
		int64_t		usecs;
	}			intervals[] = {
		{"every second", USEC}, {"EVERY Minute", 60 * USEC},
		{"every hour", 3600 * USEC}, {"every day", 86400 * USEC},
		{"every week", 604800 * USEC},
		{"every 90 seconds", 90 * USEC}, {"every 1 sec", USEC},
		{"every 2 s", 2 * USEC}, {"every 5 min", 300 * USEC},
		{"every 5 m", 300 * USEC}, {"every 1 minute", 60 * USEC},
		{"every 2 hr", 7200 * USEC}, {"every 2 h", 7200 * USEC},
		{"every 3 d", 259200 * USEC}, {"every 2 w", 1209600 * USEC},
		{"every 1 hour 30 minutes", 5400 * USEC},
		{"every 1h30m", 5400 * USEC}, {" every\t1 h\n30m ", 5400 * USEC},
		{"every 1.5 hours", 5400 * USEC}, {"every 1.000001 s", USEC + 1},
		{"every 0.5 minutes 0.25 minutes", 45 * USEC},
		{"every 0 hours 10 seconds", 10 * USEC},
		{"every 0000000000000000060 s", 60 * USEC},
		{"every 3652 days 12 hours", INT64_C(315576000) * USEC},
		{"every 315576000 seconds", INT64_C(315576000) * USEC}
	};
	JanitorSchedule schedule;
	char		detail[300];
	size_t		i;
	bool		passed;

	for (i = 0; i < LENGTH(intervals); i++)
	{
		passed = parse(intervals[i].text, &schedule, detail);
		if (passed)
			snprintf(detail, sizeof(detail), "got %lld microseconds",
					 (long long) schedule.every);
		check(passed && schedule.kind == JANITOR_SCHEDULE_EVERY &&
			  schedule.every == intervals[i].usecs,
			  intervals[i].text, detail);
	}
}

/*
 * One call of janitor_schedule_next_on_grid for "every 90 seconds"; INT64_MIN
 * stands for no occurrence.
 */
static void
check_grid(const char *name, int64_t anchor, int64_t after, int64_t expected)
{
	JanitorSchedule schedule;
	int64_t		next = 0;
	char		detail[300];

	if (!parse("every 90 seconds", &schedule, detail) ||
		!janitor_schedule_next_on_grid(&schedule, NULL, anchor, after, &next))
		next = INT64_MIN;
	snprintf(detail, sizeof(detail), "got %lld", (long long) next);
	check(next == expected, name, detail);
}

static void
test_grid(void)
{
	int64_t		grid = 90 * USEC;
	int64_t		end = instant("9999-12-31 23:59:59") + USEC;
	int64_t		start = instant("1970-01-01 00:00:00");

	check_grid("grid: at the anchor, one interval on", 500, 500, 500 + grid);
	check_grid("grid: just before a grid point, that point",
			   500, 499 + 7 * grid, 500 + 7 * grid);
	check_grid("grid: at a grid point, the next one",
			   500, 500 + 7 * grid, 500 + 8 * grid);
	check_grid("grid: before the anchor, the first one after it",
			   500, -4 * grid, 500 + grid);
	check_grid("grid: a negative anchor keeps its phase",
			   -grid - 1, 0, grid - 1);
	check_grid("grid: the last one before the end of 9999",
			   end - 1, end - grid - 1, INT64_MIN);
	check_grid("grid: up to the end of 9999",
			   end - 1 - grid, 0, end - 1);
	check_grid("grid: nothing after infinity", 0, INT64_MAX, INT64_MIN);
	check_grid("grid: nothing from infinity on", INT64_MAX, 0, INT64_MIN);
	check_grid("grid: from minus infinity, the first after 1970",
			   start, INT64_MIN, start + grid);
	check_grid("grid: an anchor at minus infinity does not overflow",
			   INT64_MIN, 0,
			   grid - (int64_t) (UINT64_C(9223372036854775808) %
								 (uint64_t) grid));
}

static void
test_next_on_grid_of_fields(void)
{
	JanitorSchedule schedule;
	const JanitorZone *zone = zone_named("UTC");
	int64_t		next = 7;
	char		detail[300] = "";

	check(parse("0 0 3 * * *", &schedule, detail) &&
		  schedule.kind == JANITOR_SCHEDULE_CRON &&
		  janitor_schedule_next_on_grid(&schedule, zone, 12345, 0, &next) &&
		  next == 3 * 3600 * USEC, "the anchor is ignored for fields", detail);
	next = 7;
	check(!janitor_schedule_next(&schedule, zone, INT64_MAX, &next) &&
		  next == 7, "no occurrence after infinity, and next is untouched",
		  detail);
	check(janitor_schedule_next(&schedule, zone, INT64_MIN, &next) &&
		  next == instant("1970-01-01 03:00:00"),
		  "after minus infinity comes the first of 1970", detail);
	check(parse("every 90 s", &schedule, detail) &&
		  janitor_schedule_next(&schedule, NULL, 123, &next) &&
		  next == 123 + 90 * USEC, "every counts from after itself", detail);
	check(parse("@reboot", &schedule, detail) &&
		  schedule.kind == JANITOR_SCHEDULE_REBOOT &&
		  !janitor_schedule_next(&schedule, zone, 0, &next) &&
		  !janitor_schedule_next_on_grid(&schedule, zone, 0, 0, &next),
		  "@reboot has no occurrence in time", detail);
}

/*
 * The same set written differently is the same schedule, to the byte.
 */
static void
test_equal_schedules(void)
{
	static const char *const pairs[][2] = {
		{"0 0 0 * * SUN", "0 0 0 ? * 7"},
		{"30 4 1,2,3 * *", "0 30 4 1-3 * *"},
		{"0 0 0 ? * FRI-SUN", "0 0 0 * * 0,5,6"},
		{"@weekly", "0 0 * * SUN"},
		{"0 0 * * 7L,7#2", "0 0 * * SUNL,0#2"},
		{"0 */15 * * * *", "0 */15 */1 * * *"}
	};
	JanitorSchedule schedules[2];
	char		detail[300] = "different bytes";
	size_t		i;

	for (i = 0; i < LENGTH(pairs); i++)
	{
		/* what was there before must not show */
		memset(schedules, i % 2 ? 0xAA : 0x55, sizeof(schedules));
		check(parse(pairs[i][0], &schedules[0], detail) &&
			  parse(pairs[i][1], &schedules[1], detail) &&
			  memcmp(&schedules[0], &schedules[1],
					 sizeof(JanitorSchedule)) == 0,
			  pairs[i][1], detail);
	}
}

static void
test_jitter(void)
{
	int			counts[10] = {0};
	char		name[32];
	char		detail[100] = "";
	int			i;
	int64_t		delay;
	bool		whole = true;
	bool		even = true;

	for (i = 0; i < 1000; i++)
	{
		snprintf(name, sizeof(name), "purge_%d", i);
		delay = janitor_schedule_jitter(name, 600 * USEC + 1);
		whole = whole && delay >= 0 && delay < 600 * USEC && delay % USEC == 0;
		if (whole)
			counts[delay / (60 * USEC)]++;
	}
	for (i = 0; i < 10; i++)
		even = even && counts[i] > 70 && counts[i] < 130;
	check(whole, "jitter is whole seconds below its maximum", detail);
	check(even, "jitter spreads a thousand similar names evenly", detail);
	check(janitor_schedule_jitter("a", 0) == 0 &&
		  janitor_schedule_jitter("a", -5) == 0 &&
		  janitor_schedule_jitter("a", 1) == 0 &&
		  janitor_schedule_jitter("a", USEC) == 0,
		  "jitter is 0 where nothing else fits", detail);
	check(janitor_schedule_jitter("a", 999999) < 999999 &&
		  janitor_schedule_jitter("a", 999999) > 0,
		  "jitter below a second is in microseconds", detail);
	check(janitor_schedule_jitter("x\xff", INT64_MAX) >= 0,
		  "jitter takes any bytes and any maximum", detail);
	delay = janitor_schedule_jitter("purge_students", 3600 * USEC);
	snprintf(detail, sizeof(detail), "got %lld", (long long) delay);
	check(delay == INT64_C(1251000000), "jitter never changes between versions", detail);
}

int
main(void)
{
	test_documented_examples();
	test_calendar();
	test_syntax();
	test_both_days();
	test_daylight_saving();
	test_gap_limit();
	test_errors();
	test_error_truncation();
	test_intervals();
	test_grid();
	test_next_on_grid_of_fields();
	test_equal_schedules();
	test_jitter();
	printf("1..%d\n", test_count);
	return failure_count == 0 ? 0 : 1;
}
