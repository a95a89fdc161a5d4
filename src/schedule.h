/*-------------------------------------------------------------------------
 *
 * schedule.h
 *	  The calendar: reading a schedule, and finding its next occurrence.
 *
 * This header and schedule.c use nothing of the server, so that the same
 * code is tested, fuzzed and timed outside it.  Nothing here allocates,
 * keeps state between calls, reads the clock or depends on the locale; every
 * function may be called from any number of threads or processes at once.
 *
 * Instants that cross this interface are microseconds since 2000-01-01
 * 00:00:00 UTC, the server's TimestampTz; a zone is asked in unix seconds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_SCHEDULE_H
#define JANITOR_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * How the calendar asks for UTC offsets.
 *
 * lookup sets *gmtoff to the offset east of UTC, in seconds, in force at
 * unix_time, and *until to the first later unix time at which a (possibly)
 * different offset starts, INT64_MAX if none.  *until must be later than
 * unix_time.  It is called for instants from two days before 1970 on, and the
 * offsets of one zone within a few days of each other must lie less than two
 * days apart (in the IANA database: 24 hours, at a change of the date line).
 */
typedef struct JanitorZone
{
	void		(*lookup) (const void *arg, int64_t unix_time,
						   int32_t *gmtoff, int64_t *until);
	const void *arg;
} JanitorZone;

typedef enum JanitorScheduleKind
{
	JANITOR_SCHEDULE_CRON,		/* fields, or a shorthand for fields */
	JANITOR_SCHEDULE_EVERY,		/* a fixed interval */
	JANITOR_SCHEDULE_REBOOT		/* when the server starts, never by time */
} JanitorScheduleKind;

/*
 * A schedule that has been read.  Plain data: it may be copied, and two
 * schedules that mean the same set of fields compare equal with memcmp().
 * Bit n of a set stands for the value n, unless said otherwise.
 */
typedef struct JanitorSchedule
{
	JanitorScheduleKind kind;
	int64_t		every;			/* EVERY: the interval in microseconds, or 0 */

	/* CRON; all zero for the other kinds */
	uint64_t	seconds;		/* 0 to 59 */
	uint64_t	minutes;		/* 0 to 59 */
	uint32_t	hours;			/* 0 to 23 */
	uint32_t	months;			/* 1 to 12 */
	uint32_t	days;			/* 1 to 31 */
	uint32_t	days_from_end;	/* L and L-n: bit 31 - n */
	uint32_t	near_days;		/* nW, and bit 0 for LW */
	uint8_t		weekdays;		/* 0 to 6, 0 is Sunday */
	uint8_t		last_weekdays;	/* nL: weekdays, the last of the month */
	uint8_t		nth_weekdays[5];	/* n#k: weekdays, at k - 1 */
	bool		has_ordinals;	/* last_weekdays or nth_weekdays is not empty */
	bool		either_day;		/* both day fields restrict: one is enough */
	bool		elapsed;		/* follows elapsed time through DST changes */
} JanitorSchedule;

extern bool janitor_schedule_parse(const char *text,
								   JanitorSchedule *schedule,
								   char *error, size_t error_size);
extern bool janitor_schedule_next(const JanitorSchedule *schedule,
								  const JanitorZone *zone,
								  int64_t after, int64_t *next);
extern bool janitor_schedule_next_on_grid(const JanitorSchedule *schedule,
										  const JanitorZone *zone,
										  int64_t anchor, int64_t after,
										  int64_t *next);

/* Is there any date that the day and month fields match?  For the parser. */
extern bool janitor_schedule_date_occurs(const JanitorSchedule *schedule);
extern int64_t janitor_schedule_jitter(const char *job_name, int64_t max);

#endif							/* JANITOR_SCHEDULE_H */
