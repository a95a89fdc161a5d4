/*-------------------------------------------------------------------------
 *
 * zone_system.c
 *	  Zones for the tests of the calendar, from the system's tzdata.
 *
 * localtime_r knows the zone through the environment variable TZ, which is
 * slow to change: a zone is loaded into a table in one go.  A missing zone,
 * which glibc would silently take for UTC, ends the program.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "zone_system.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define PROBE_STEP		INT64_C(43200)
#define LAST_PROBE		INT64_C(7258118400) /* 2200-01-01 */

static void
fail(const char *name, const char *what)
{
	printf("Bail out! time zone %s: %s\n", name, what);
	exit(2);
}

static int32_t
system_offset(int64_t unix_time)
{
	time_t		t = unix_time;
	struct tm	broken;

	if (localtime_r(&t, &broken) == NULL)
		fail(getenv("TZ"), "localtime_r failed");
	return broken.tm_gmtoff;
}

/*
 * glibc takes an unknown zone for UTC, so look for the file.
 */
static void
check_tzdata(const char *name)
{
	const char *directory = getenv("TZDIR");
	char		path[512];

	snprintf(path, sizeof(path), "%s/%s",
			 directory ? directory : "/usr/share/zoneinfo", name);
	if (access(path, R_OK) != 0)
		fail(name, "not found, the tests need the system's tzdata");
}

/*
 * A zone with one offset for ever, to which changes can be added.
 */
void
janitor_system_zone_init(SystemZone *zone, const char *name, int32_t offset)
{
	zone->name = name;
	zone->count = 1;
	zone->from[0] = INT64_MIN;
	zone->offsets[0] = offset;
}

/*
 * Add a change of offset, later than those before.
 */
void
janitor_system_zone_change(SystemZone *zone, int64_t unix_time,
						   int32_t offset)
{
	if (zone->count == SYSTEM_ZONE_CHANGES)
		fail(zone->name, "too many changes of offset");
	if (unix_time <= zone->from[zone->count - 1])
		fail(zone->name, "changes of offset out of order");
	zone->from[zone->count] = unix_time;
	zone->offsets[zone->count] = offset;
	zone->count++;
}

/*
 * Find the change between two instants whose offsets differ, by bisection.
 */
static int64_t
bisect(int64_t low, int64_t high)
{
	int32_t		offset = system_offset(low);
	int64_t		middle;

	while (high - low > 1)
	{
		middle = low + (high - low) / 2;
		if (system_offset(middle) == offset)
			low = middle;
		else
			high = middle;
	}
	return high;
}

/*
 * Load a zone by its IANA name.  Leaves TZ set to it.
 */
void
janitor_system_zone_load(SystemZone *zone, const char *name)
{
	int64_t		probe;
	int64_t		change;
	int32_t		offset;

	check_tzdata(name);
	setenv("TZ", name, 1);
	tzset();
	janitor_system_zone_init(zone, name, system_offset(0));
	for (probe = 0; probe < LAST_PROBE; probe += PROBE_STEP)
	{
		while (system_offset(probe + PROBE_STEP) !=
			   zone->offsets[zone->count - 1])
		{
			change = bisect(zone->count > 1 &&
							zone->from[zone->count - 1] > probe ?
							zone->from[zone->count - 1] : probe,
							probe + PROBE_STEP);
			offset = system_offset(change);
			janitor_system_zone_change(zone, change, offset);
		}
	}
}

/*
 * The lookup of JanitorZone; arg is a SystemZone.
 */
void
janitor_system_zone_lookup(const void *arg, int64_t unix_time,
						   int32_t *gmtoff, int64_t *until)
{
	const SystemZone *zone = arg;
	int			low = 0;
	int			high = zone->count;
	int			middle;

	while (high - low > 1)
	{
		middle = (low + high) / 2;
		if (zone->from[middle] <= unix_time)
			low = middle;
		else
			high = middle;
	}
	*gmtoff = zone->offsets[low];
	*until = low + 1 < zone->count ? zone->from[low + 1] : INT64_MAX;
}
