/*-------------------------------------------------------------------------
 *
 * zone_system.h
 *	  Zones for the tests of the calendar, from the system's tzdata.
 *
 * A zone is read once, through glibc's localtime_r, into a table of the
 * changes of its offset from 1970 to 2200; before and after that the first
 * and the last offset go on for ever.  Synthetic zones are made by adding
 * changes to an empty table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_ZONE_SYSTEM_H
#define JANITOR_ZONE_SYSTEM_H

#include "schedule.h"

#define SYSTEM_ZONE_CHANGES 1024

/* from[0] is INT64_MIN; the offset offsets[i] is in force from from[i] on */
typedef struct SystemZone
{
	const char *name;
	int			count;
	int64_t		from[SYSTEM_ZONE_CHANGES];
	int32_t		offsets[SYSTEM_ZONE_CHANGES];
} SystemZone;

extern void janitor_system_zone_init(SystemZone *zone, const char *name,
									 int32_t offset);
extern void janitor_system_zone_change(SystemZone *zone, int64_t unix_time,
									   int32_t offset);
extern void janitor_system_zone_load(SystemZone *zone, const char *name);
extern void janitor_system_zone_lookup(const void *arg, int64_t unix_time,
									   int32_t *gmtoff, int64_t *until);

#endif							/* JANITOR_ZONE_SYSTEM_H */
