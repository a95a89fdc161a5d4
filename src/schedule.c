/*-------------------------------------------------------------------------
 *
 * schedule.c
 *	  The calendar: finding the next occurrence of a schedule.
 *
 * Pure functions of their arguments; see schedule.h for what that promises.
 * How a schedule is written is the business of schedule_parse.c.
 *
 * What the occurrences of a fixed-time schedule are.  Let M be the local
 * times (readings of the wall clock, without a zone) that its fields match.
 * A member of M occurs at the first instant at which the wall clock reads it
 * or has been moved past it.  From this one rule follow the three that users
 * know: an ordinary local time occurs when the clock shows it; local times
 * swallowed when the clock is put forward occur, together and once, at the
 * first instant after the gap; and when the clock is put back the times it
 * shows again do not occur again.  One exception: what a gap of more than
 * MAX_MADE_UP_GAP swallows does not occur at all, since a day that a country
 * skips at the date line is no reason to run yesterday's job today.
 *
 * A schedule whose second, minute or hour field begins with `*` (`every ten
 * minutes`) means elapsed time: it occurs at every instant whose wall clock
 * reading is in M, and at no other.
 *
 * Both are sets of instants that depend on nothing but schedule and zone, and
 * janitor_schedule_next() is the smallest member after its argument.
 *
 * How it is found.  The smallest member of M from a given local time on is
 * found field by field: a month's matching days are computed as one bit set
 * (month_days), the time of day is a matter of three shifts.  No schedule
 * makes that look at more than 40 months: it is the longest that 29 February
 * takes to fall on a given weekday again, around 2100.  Then the zone is
 * walked, stretch of constant offset by stretch, to the one in which that
 * local time is reached.  Nearly always the first stretch asked for holds
 * both `after` and the answer, and the zone is asked once; a far occurrence
 * costs one or two calls more, not one for every change of offset on the way.
 *
 * Occurrences exist from 1970-01-01 00:00:00 UTC to the end of 9999, in UTC
 * and in local time.
 *
 *-------------------------------------------------------------------------
 */
#include "schedule.h"

#include <string.h>

#define SECONDS_PER_DAY			INT64_C(86400)
#define USECS_PER_SECOND		INT64_C(1000000)

/* 2000-01-01 00:00:00 UTC in unix time */
#define EPOCH_UNIX				INT64_C(946684800)

/* days from 0000-03-01 to 1970-01-01 */
#define DAYS_BEFORE_1970		719468

/* first year without occurrences, and its first instant in unix time */
#define END_YEAR				10000
#define END_UNIX				INT64_C(253402300800)

/* gaps up to here are made up for: 3 hours, as cron daemons do */
#define MAX_MADE_UP_GAP			(3 * 3600)

/* offsets of one zone a few days apart differ by less than this: 2 days */
#define MAX_OFFSET_SPREAD		(2 * SECONDS_PER_DAY)

/* A stretch of time over which a zone's offset is constant. */
typedef struct Stretch
{
	int64_t		from;			/* unix time from which we look at it */
	int64_t		until;			/* unix time at which the next one starts */
	int32_t		offset;			/* seconds east of UTC */
	int32_t		offset_before;	/* just before `from` */
} Stretch;


/*
 * The days of a month.
 */

static uint32_t
bit(int n)
{
	return UINT32_C(1) << n;
}

/*
 * Position of the lowest bit of a set that is not empty.
 */
static int
lowest(uint64_t set)
{
#if defined(__GNUC__)
	return __builtin_ctzll(set);
#else
	int			n = 0;

	while ((set >> n & 1) == 0)
		n++;
	return n;
#endif
}

/*
 * The members of a set above n, moved down so that n + 1 becomes bit 0.
 */
static uint64_t
above(uint64_t set, int n)
{
	return set >> n >> 1;
}

static int
month_length(int year, int month)
{
	bool		leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	if (month == 2)
		return leap ? 29 : 28;
	return 30 + ((month + month / 8) & 1);
}

/*
 * The day of the month, 1 to `length`, that is the one from Monday to Friday
 * nearest to `day`; a month's first Saturday has its nearest weekday on the
 * far side of Sunday, and a Sunday that ends it before Saturday.
 */
static int
nearest_weekday(int day, int length, int first_weekday)
{
	switch ((first_weekday + day - 1) % 7)
	{
		case 0:
			return day < length ? day + 1 : day - 2;
		case 6:
			return day > 1 ? day - 1 : day + 2;
		default:
			return day;
	}
}

/*
 * The days, bits 1 to 31, that nW and LW mean in a month.
 */
static uint32_t
near_days(const JanitorSchedule *schedule, int length, int first_weekday)
{
	uint32_t	days = 0;
	uint32_t	left = schedule->near_days;
	int			day;

	for (; left != 0; left &= left - 1)
	{
		day = lowest(left);
		if (day == 0)
			day = length;
		if (day <= length)
			days |= bit(nearest_weekday(day, length, first_weekday));
	}
	return days;
}

/*
 * The days, bits 1 to 31, that fall on one of these weekdays if day 1 falls
 * on first_weekday.
 */
static uint32_t
days_on(uint32_t weekdays, int first_weekday)
{
	uint64_t	week = weekdays;

	/* six weeks side by side, the first one beginning on Sunday */
	week |= week << 7;
	week |= week << 14 | week << 28;
	return (uint32_t) (week >> first_weekday << 1);
}

/*
 * The days, bits 1 to 31, that n#k and nL mean in a month of these days.
 */
static uint32_t
ordinal_days(const JanitorSchedule *schedule, uint32_t all, int first_weekday)
{
	uint32_t	days = days_on(schedule->last_weekdays, first_weekday) &
	~(all >> 7);
	int			k;

	for (k = 0; k < 5; k++)
		days |= days_on(schedule->nth_weekdays[k], first_weekday) &
			(UINT32_C(0xFE) << (7 * k));
	return days;
}

/*
 * The days, bits 1 to `length`, on which the schedule's two day fields match
 * in a month of that length whose first day is first_weekday.
 */
static uint32_t
month_days(const JanitorSchedule *schedule, int length, int first_weekday)
{
	uint32_t	all = (UINT32_C(0xFFFFFFFF) >> (31 - length)) & ~UINT32_C(1);
	uint32_t	by_date = schedule->days;
	uint32_t	by_weekday = days_on(schedule->weekdays, first_weekday);

	by_date |= schedule->days_from_end >> (31 - length);
	if (schedule->near_days != 0)
		by_date |= near_days(schedule, length, first_weekday);
	if (schedule->has_ordinals)
		by_weekday |= ordinal_days(schedule, all, first_weekday);
	return all & (schedule->either_day ? by_date | by_weekday :
				  by_date & by_weekday);
}

/*
 * Is there any month with a matching day?  Every month occurs with its first
 * day on each of the seven weekdays, and so does February in leap years (in
 * the 400 years after which the calendar repeats, 29 February falls on each
 * weekday at least 13 times), so that this small search is exact.
 */
bool
janitor_schedule_date_occurs(const JanitorSchedule *schedule)
{
	uint32_t	months = schedule->months;
	int			first_weekday;
	int			month;

	for (; months != 0; months &= months - 1)
	{
		month = lowest(months);
		for (first_weekday = 0; first_weekday < 7; first_weekday++)
		{
			/* in a leap year, or in another; W and L depend on it too */
			if (month_days(schedule, month_length(2000, month),
						   first_weekday) != 0 ||
				month_days(schedule, month_length(2001, month),
						   first_weekday) != 0)
				return true;
		}
	}
	return false;
}


/*
 * Finding the next local time that matches.  A local time is counted in
 * seconds like unix time, as if the wall clock showed UTC.
 */

/*
 * Days from 1970-01-01 to the first of a month of the Gregorian calendar.
 *
 * This and month_of_day() follow days_from_civil and civil_from_days in
 * Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms"
 * (https://howardhinnant.github.io/date_algorithms.html), for years from 0
 * on: years begin in March, so that the leap day comes last.
 */
static int64_t
first_day_of_month(int year, int month)
{
	int			y = year - (month <= 2);
	int			era = y / 400;
	int			year_of_era = y % 400;
	int			day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5;

	return INT64_C(146097) * era + year_of_era * 365 + year_of_era / 4 -
		year_of_era / 100 + day_of_year - DAYS_BEFORE_1970;
}

/*
 * The year and month of a day counted from 1970-01-01.
 */
static void
month_of_day(int64_t day, int *year, int *month)
{
	uint32_t	n = (uint32_t) (day + DAYS_BEFORE_1970);
	uint32_t	era = n / 146097;
	uint32_t	day_of_era = n % 146097;
	uint32_t	year_of_era = (day_of_era - day_of_era / 1460 +
							   day_of_era / 36524 - day_of_era / 146096) / 365;
	uint32_t	day_of_year = day_of_era + year_of_era / 100 -
	(365 * year_of_era + year_of_era / 4);
	uint32_t	march_month = (5 * day_of_year + 2) / 153;

	*month = (int) (march_month < 10 ? march_month + 3 : march_month - 9);
	*year = (int) (year_of_era + era * 400) + (*month <= 2);
}

/*
 * The weekday, 0 for Sunday, of a day counted from 1970-01-01.
 */
static int
weekday_of(int64_t day)
{
	/* 0000-03-01 was a Wednesday */
	return (int) ((day + DAYS_BEFORE_1970 + 3) % 7);
}

/*
 * The first day, counted from 1970-01-01, from `day` on that matches.  False
 * if there is none before END_YEAR.
 */
static bool
find_day(const JanitorSchedule *schedule, int64_t day, int64_t *found)
{
	int			year;
	int			month;
	int			skip;			/* days of the first month that are over */
	int64_t		first;
	uint64_t	later;

	month_of_day(day, &year, &month);
	first = first_day_of_month(year, month);
	skip = (int) (day - first);
	while (year < END_YEAR)
	{
		if (schedule->months >> month & 1)
		{
			later = above(month_days(schedule, month_length(year, month),
									 weekday_of(first)), skip);
			if (later != 0)
			{
				*found = first + skip + lowest(later);
				return true;
			}
		}
		skip = 0;
		later = above(schedule->months, month);
		if (later != 0)
			month += 1 + lowest(later);
		else
		{
			year++;
			month = lowest(schedule->months);
		}
		first = first_day_of_month(year, month);
	}
	return false;
}

/*
 * The first time of day, in seconds, from `second` (0 to 86399) on that
 * matches.  False if there is none before midnight.
 */
static bool
find_time(const JanitorSchedule *schedule, int second, int *found)
{
	int			hour = second / 3600;
	int			minute = second / 60 % 60;
	uint64_t	later;

	second %= 60;
	if (schedule->hours >> hour & 1)
	{
		later = schedule->seconds >> second;
		if ((schedule->minutes >> minute & 1) && later != 0)
		{
			*found = hour * 3600 + minute * 60 + second + lowest(later);
			return true;
		}
		later = above(schedule->minutes, minute);
		if (later != 0)
		{
			*found = hour * 3600 + (minute + 1 + lowest(later)) * 60 +
				lowest(schedule->seconds);
			return true;
		}
	}
	later = above(schedule->hours, hour);
	if (later == 0)
		return false;
	*found = (hour + 1 + lowest(later)) * 3600 +
		lowest(schedule->minutes) * 60 + lowest(schedule->seconds);
	return true;
}

/*
 * The first local time from `local` on that matches.  False if there is none
 * before END_YEAR.
 */
static bool
find_local(const JanitorSchedule *schedule, int64_t local, int64_t *found)
{
	/* days round down: local times just before 1970 are negative */
	int64_t		day = (local + DAYS_BEFORE_1970 * SECONDS_PER_DAY) /
	SECONDS_PER_DAY - DAYS_BEFORE_1970;
	int			second = (int) (local - day * SECONDS_PER_DAY);
	int64_t		match;

	if (!find_day(schedule, day, &match))
		return false;
	if (match == day && !find_time(schedule, second, &second))
	{
		if (!find_day(schedule, day + 1, &match))
			return false;
	}
	if (match != day)
		find_time(schedule, 0, &second);
	*found = match * SECONDS_PER_DAY + second;
	return true;
}


/*
 * Walking a zone.
 */

/*
 * The stretch of constant offset that holds an instant, as if it began there.
 */
static Stretch
stretch_at(const JanitorZone *zone, int64_t instant)
{
	Stretch		stretch;

	stretch.from = instant;
	zone->lookup(zone->arg, instant, &stretch.offset, &stretch.until);
	stretch.offset_before = stretch.offset;
	return stretch;
}

/*
 * The stretch that follows, or a later one that holds `not_before`.
 */
static Stretch
stretch_after(const JanitorZone *zone, const Stretch *previous,
			  int64_t not_before)
{
	Stretch		stretch;

	if (not_before > previous->until)
		return stretch_at(zone, not_before);
	stretch = stretch_at(zone, previous->until);
	stretch.offset_before = previous->offset;
	return stretch;
}

/*
 * The stretch that holds an instant, and the latest local time that the wall
 * clock has shown up to then.  What it showed two days ago and more is
 * earlier than what it shows now, however the offset has changed.
 */
static Stretch
stretch_reached(const JanitorZone *zone, int64_t instant, int64_t *reached)
{
	Stretch		stretch = stretch_at(zone, instant - MAX_OFFSET_SPREAD);

	*reached = INT64_MIN;
	while (stretch.until <= instant)
	{
		if (stretch.until - 1 + stretch.offset > *reached)
			*reached = stretch.until - 1 + stretch.offset;
		stretch = stretch_after(zone, &stretch, stretch.until);
	}
	if (instant + stretch.offset > *reached)
		*reached = instant + stretch.offset;
	return stretch;
}

/*
 * The first instant after `after`, in unix time, at which a schedule that
 * follows elapsed time occurs: at which the wall clock shows what it matches.
 */
static bool
next_elapsed(const JanitorSchedule *schedule, const JanitorZone *zone,
			 int64_t after, int64_t *next)
{
	Stretch		stretch = stretch_at(zone, after + 1);
	int64_t		local;
	int64_t		not_before;

	while (find_local(schedule, stretch.from + stretch.offset, &local))
	{
		if (local - stretch.offset < stretch.until)
		{
			*next = local - stretch.offset;
			return true;
		}

		/*
		 * Nothing matches up to `local`, so the zone need not be looked at
		 * before that comes near, unless what was passed before the search
		 * began could be shown again.
		 */
		not_before = stretch.until;
		if (stretch.from <= stretch.until - MAX_OFFSET_SPREAD)
			not_before = local - stretch.offset - MAX_OFFSET_SPREAD;
		stretch = stretch_after(zone, &stretch, not_before);
	}
	return false;
}

/*
 * The first instant after `after`, in unix time, at which a schedule of fixed
 * local times occurs: at which the wall clock first shows one or passes it.
 */
static bool
next_fixed(const JanitorSchedule *schedule, const JanitorZone *zone,
		   int64_t after, int64_t *next)
{
	int64_t		local;
	Stretch		stretch = stretch_reached(zone, after, &local);
	bool		found = find_local(schedule, local + 1, &local);

	while (found && local - stretch.offset >= stretch.until)
	{
		stretch = stretch_after(zone, &stretch, local - stretch.offset -
								MAX_OFFSET_SPREAD);
		if (local >= stretch.from + stretch.offset)
			continue;

		/* the clock was put forward, past this local time */
		if (stretch.offset - stretch.offset_before <= MAX_MADE_UP_GAP)
		{
			*next = stretch.from;
			return true;
		}
		found = find_local(schedule, stretch.from + stretch.offset, &local);
	}
	if (found)
		*next = local - stretch.offset;
	return found;
}

/*
 * Unix time of a TimestampTz, rounded down.
 */
static int64_t
unix_time_of(int64_t usecs)
{
	int64_t		seconds = usecs / USECS_PER_SECOND;

	if (usecs % USECS_PER_SECOND < 0)
		seconds--;
	return seconds + EPOCH_UNIX;
}

static int64_t
usecs_of(int64_t unix_time)
{
	return (unix_time - EPOCH_UNIX) * USECS_PER_SECOND;
}

static bool
next_cron(const JanitorSchedule *schedule, const JanitorZone *zone,
		  int64_t after, int64_t *next)
{
	int64_t		unix_after = unix_time_of(after);
	int64_t		unix_next = 0;
	bool		found;

	if (unix_after >= END_UNIX)
		return false;
	if (unix_after < -1)
		unix_after = -1;
	if (schedule->elapsed)
		found = next_elapsed(schedule, zone, unix_after, &unix_next);
	else
		found = next_fixed(schedule, zone, unix_after, &unix_next);
	if (!found || unix_next >= END_UNIX)
		return false;
	*next = usecs_of(unix_next);
	return true;
}

/*
 * The first occurrence strictly after `after`.
 *
 * Times are microseconds since 2000-01-01 00:00:00 UTC; any value may be
 * passed, the infinities of the server too.  For fields it is a whole second,
 * and no other occurrence lies between.  For an interval it is after + every
 * (or, if that is before 1970, after + k * every, the first that is not).
 * False, and *next untouched, if there is none in the years 1970 to 9999, and
 * always for @reboot.  The zone is used for fields only.
 */
bool
janitor_schedule_next(const JanitorSchedule *schedule, const JanitorZone *zone,
					  int64_t after, int64_t *next)
{
	return janitor_schedule_next_on_grid(schedule, zone, after, after, next);
}

/*
 * As janitor_schedule_next(), but an interval is counted from `anchor`: the
 * first of anchor + every, anchor + 2 * every, ... that is later than `after`
 * (and not before 1970).
 */
bool
janitor_schedule_next_on_grid(const JanitorSchedule *schedule,
							  const JanitorZone *zone,
							  int64_t anchor, int64_t after, int64_t *next)
{
	uint64_t	since_anchor;
	int64_t		every = schedule->every;

	if (schedule->kind == JANITOR_SCHEDULE_CRON)
		return next_cron(schedule, zone, after, next);
	if (schedule->kind != JANITOR_SCHEDULE_EVERY)
		return false;
	if (after < usecs_of(0) - 1)
		after = usecs_of(0) - 1;
	if (after < anchor)
		after = anchor;
	if (after >= usecs_of(END_UNIX) - every)
		return false;

	/* unsigned, for the two may be further apart than INT64_MAX */
	since_anchor = (uint64_t) after - (uint64_t) anchor;
	*next = after + every - (int64_t) (since_anchor % (uint64_t) every);
	return true;
}

/*
 * The fixed delay of a job, from 0 to less than `max`, in microseconds, and
 * whole seconds if max is at least one; 0 if max is not positive.
 *
 * It depends on the name alone and must never change between versions:
 * FNV-1a, 64 bits (Fowler, Noll, Vo; draft-eastlake-fnv), then the finalizer
 * of MurmurHash3 (Appleby), since the low bits of FNV alone spread names that
 * differ in their last character badly over small ranges.
 */
int64_t
janitor_schedule_jitter(const char *job_name, int64_t max)
{
	uint64_t	hash = UINT64_C(14695981039346656037);
	int64_t		unit = max >= USECS_PER_SECOND ? USECS_PER_SECOND : 1;

	if (max <= 0)
		return 0;
	for (; *job_name != '\0'; job_name++)
		hash = (hash ^ (unsigned char) *job_name) * UINT64_C(1099511628211);
	hash = (hash ^ hash >> 33) * UINT64_C(0xff51afd7ed558ccd);
	hash = (hash ^ hash >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	hash ^= hash >> 33;
	return (int64_t) (hash % (uint64_t) (max / unit)) * unit;
}
