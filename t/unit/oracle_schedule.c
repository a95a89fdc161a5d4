/*-------------------------------------------------------------------------
 *
 * oracle_schedule.c
 *	  Property test of the calendar against a brute-force oracle.
 *
 * Usage: oracle_schedule [triples [seed]]
 *
 * Random (schedule, zone, start) triples.  The generator writes each schedule
 * twice: as text, which the code under test parses, and as a Model of plain
 * arrays, which the oracle reads.  The oracle shares no idea with the code
 * under test: it has a table of days made by counting them one after the
 * other, asks of each second whether it matches (only passing over days,
 * hours and minutes that do not), decides "the month's second Friday" by
 * counting Fridays, and decides whether a local time was shown before, or
 * never, by asking each stretch of the zone.
 *
 * Prints TAP, one test per zone and some for what all have to have met.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "schedule.h"
#include "zone_system.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define USEC INT64_C(1000000)
#define EPOCH INT64_C(946684800)
#define DAY INT64_C(86400)
#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#define DEFAULT_TRIPLES 56000
#define SUCCESSORS 4

/* the table of days: from 1969-12-22 on, more than 400 years */
#define FIRST_DAY (-10)
#define DAY_COUNT (146097 + 400)

/* occurrences are searched up to here: 2190-01-01 */
#define HORIZON INT64_C(6942585600)

/* how far apart two showings of one local time can be */
#define AROUND (3 * DAY)

typedef struct Day
{
	int			month;
	int			day;
	int			length;			/* of its month */
	int			weekday;
} Day;

/* A schedule as the oracle sees it. */
typedef struct Model
{
	char		text[400];
	bool		second[60];
	bool		minute[60];
	bool		hour[24];
	bool		month[13];
	bool		day[32];
	bool		from_end[31];
	bool		near[32];		/* nW */
	bool		last_workday;	/* LW */
	bool		weekday[8];
	bool		last[7];		/* nL */
	bool		nth[7][6];		/* n#k */
	bool		either;
	bool		elapsed;
} Model;

static Day	days[DAY_COUNT];
static uint64_t random_state;
static int	test_count = 0;
static int	failure_count = 0;

/* what the triples have met, for nothing is shown by cases that never came */
static long made_up = 0;
static long suppressed = 0;
static long shown_twice = 0;
static long not_made_up = 0;
static long never_occurring = 0;
static long beyond_horizon = 0;
static long compared = 0;

static void
check(bool passed, const char *name)
{
	printf("%sok %d - %s\n", passed ? "" : "not ", ++test_count, name);
	if (!passed)
		failure_count++;
}

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t
random_bits(void)
{
	uint64_t	z = (random_state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* low to high, both included */
static int64_t
pick(int64_t low, int64_t high)
{
	return low + (int64_t) (random_bits() % (uint64_t) (high - low + 1));
}

static bool
one_in(int n)
{
	return pick(1, n) == 1;
}


/*
 * The oracle's calendar.
 */

static int
length_of_month(int year, int month)
{
	static const int lengths[] = {
		31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31
	};

	if (month == 2 && ((year % 4 == 0 && year % 100 != 0) || year % 400 == 0))
		return 29;
	return lengths[month - 1];
}

static void
count_days(void)
{
	int			year = 1969;
	Day			day = {12, 22, 31, 1};	/* a Monday */
	int			i;

	for (i = 0; i < DAY_COUNT; i++)
	{
		days[i] = day;
		day.weekday = (day.weekday + 1) % 7;
		if (++day.day > day.length)
		{
			day.day = 1;
			if (++day.month > 12)
			{
				day.month = 1;
				year++;
			}
			day.length = length_of_month(year, day.month);
		}
	}
}

/* the weekday of another day of the same month */
static int
weekday_in_month(const Day *day, int other)
{
	return (day->weekday + (other - day->day) + 70) % 7;
}

static bool
is_workday(const Day *day, int other)
{
	int			weekday = weekday_in_month(day, other);

	return weekday >= 1 && weekday <= 5;
}

/* of all workdays of the month, is this the one with the least distance? */
static bool
is_nearest_workday(const Day *day, int wanted)
{
	int			other;

	if (wanted > day->length || !is_workday(day, day->day))
		return false;
	for (other = 1; other <= day->length; other++)
	{
		if (is_workday(day, other) &&
			abs(other - wanted) < abs(day->day - wanted))
			return false;
	}
	return true;
}

static bool
is_last_workday(const Day *day)
{
	int			other;

	for (other = day->day + 1; other <= day->length; other++)
	{
		if (is_workday(day, other))
			return false;
	}
	return is_workday(day, day->day);
}

static bool
date_matches(const Model *model, const Day *day)
{
	int			n;

	if (model->day[day->day] || model->from_end[day->length - day->day])
		return true;
	for (n = 1; n <= 31; n++)
	{
		if (model->near[n] && is_nearest_workday(day, n))
			return true;
	}
	return model->last_workday && is_last_workday(day);
}

static bool
weekday_matches(const Model *model, const Day *day)
{
	int			nth = 0;
	int			other;

	for (other = 1; other <= day->day; other++)
		nth += weekday_in_month(day, other) == day->weekday;
	if (model->weekday[day->weekday] || model->nth[day->weekday][nth])
		return true;
	if (model->weekday[7] && day->weekday == 0)
		return true;
	return model->last[day->weekday] && day->day + 7 > day->length;
}

static bool
day_matches(const Model *model, int64_t number)
{
	const Day  *day = &days[number - FIRST_DAY];
	bool		by_date;
	bool		by_weekday;

	if (!model->month[day->month])
		return false;
	by_date = date_matches(model, day);
	by_weekday = weekday_matches(model, day);
	return model->either ? by_date || by_weekday : by_date && by_weekday;
}

/*
 * If this local second does not match, the next one that might; else itself.
 */
static int64_t
skip_mismatch(const Model *model, int64_t local)
{
	int64_t		day = local >= 0 ? local / DAY : -((DAY - 1 - local) / DAY);
	int64_t		second = local - day * DAY;

	if (!day_matches(model, day))
		return local - second + DAY;
	if (!model->hour[second / 3600])
		return local - second % 3600 + 3600;
	if (!model->minute[second / 60 % 60])
		return local - second % 60 + 60;
	if (!model->second[second % 60])
		return local + 1;
	return local;
}

/* the first matching local time in [from, until), or until */
static int64_t
first_match(const Model *model, int64_t from, int64_t until)
{
	int64_t		next;

	for (; from < until; from = next)
	{
		next = skip_mismatch(model, from);
		if (next == from)
			return from;
	}
	return until;
}


/*
 * The oracle's zones.
 */

static int64_t
stretch_end(const SystemZone *zone, int i)
{
	return i + 1 < zone->count ? zone->from[i + 1] : INT64_MAX;
}

/*
 * Does the wall clock show `local` at an instant in [from, until)?
 */
static bool
is_shown(const SystemZone *zone, int64_t local, int64_t from, int64_t until)
{
	int			i;

	for (i = zone->count - 1; i >= 0 && stretch_end(zone, i) > from; i--)
	{
		int64_t		instant = local - zone->offsets[i];

		if (instant >= zone->from[i] && instant < stretch_end(zone, i) &&
			instant >= from && instant < until)
			return true;
	}
	return false;
}

/*
 * Does something that this change of offset swallows have to be made up for?
 */
static bool
swallows(const Model *model, const SystemZone *zone, int i)
{
	int64_t		local = zone->from[i] + zone->offsets[i - 1];
	int64_t		end = zone->from[i] + zone->offsets[i];

	if (model->elapsed)
		return false;
	for (; (local = first_match(model, local, end)) < end; local++)
	{
		if (is_shown(zone, local, zone->from[i] - AROUND,
					 zone->from[i] + AROUND))
			continue;
		if (zone->offsets[i] - zone->offsets[i - 1] <= 3 * 3600)
			return true;
		not_made_up++;
		return false;
	}
	return false;
}

/*
 * The first occurrence in one stretch from `instant` on, or the stretch's end.
 */
static int64_t
scan_stretch(const Model *model, const SystemZone *zone, int i,
			 int64_t instant)
{
	int64_t		offset = zone->offsets[i];
	int64_t		end = stretch_end(zone, i);

	if (end > HORIZON + AROUND)
		end = HORIZON + AROUND;
	if (instant == zone->from[i] && i > 0 && swallows(model, zone, i))
	{
		made_up++;
		return instant;
	}
	for (; instant < end; instant++)
	{
		bool		shown_before;

		instant = first_match(model, instant + offset, end + offset) - offset;
		if (instant == end)
			break;
		shown_before = is_shown(zone, instant + offset, instant - AROUND,
								instant);
		if (!shown_before || model->elapsed)
		{
			shown_twice += shown_before;
			return instant;
		}
		suppressed++;
	}
	return end;
}

/*
 * The first occurrence after `after`, in unix time; at least HORIZON if there
 * is none before.
 */
static int64_t
oracle_next(const Model *model, const SystemZone *zone, int64_t after)
{
	int64_t		instant = after + 1;
	int64_t		found;
	int			i;

	for (i = 0; instant < HORIZON; i++)
	{
		if (stretch_end(zone, i) <= instant)
			continue;
		if (instant < zone->from[i])
			instant = zone->from[i];
		found = scan_stretch(model, zone, i, instant);
		if (found < stretch_end(zone, i))
			return found;
		instant = found;
	}
	return HORIZON;
}


/*
 * Making up schedules.
 */

static void
add(Model *model, const char *format,...)
{
	va_list		args;
	size_t		used = strlen(model->text);

	va_start(args, format);
	vsnprintf(model->text + used, sizeof(model->text) - used, format, args);
	va_end(args);
}

/*
 * Write a value as a number or, where there are names, as one of them.
 */
static void
add_value(Model *model, int value, const char *names, int first)
{
	char		name[4] = "";
	int			i;

	if (names == NULL || one_in(2))
	{
		add(model, one_in(10) ? "%02d" : "%d", value);
		return;
	}
	memcpy(name, names + (value - first) * 3, 3);
	for (i = 0; i < 3; i++)
	{
		if (one_in(2))
			name[i] += 'a' - 'A';
	}
	add(model, "%s", name);
}

static const char month_names[] = "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC";
static const char weekday_names[] = "SUNMONTUEWEDTHUFRISATSUN";

/*
 * Write an item of plain values from first to last, of a field that ends at
 * `end`, and mark them.
 */
static void
add_plain_item(Model *model, bool *set, int first, int end,
			   const char *names)
{
	int			low = pick(first, end);
	int			high = pick(low, end);
	int			step = pick(1, one_in(2) ? end - first : 1 + (end - first) / 4);
	int			value;

	switch (pick(1, 6))
	{
		case 1:
			add_value(model, low, names, first);
			add(model, "-");
			add_value(model, high, names, first);
			step = 1;
			break;
		case 2:
			add_value(model, low, names, first);
			add(model, "-");
			add_value(model, high, names, first);
			add(model, "/%d", step);
			break;
		case 3:
			add_value(model, low, names, first);
			add(model, "/%d", step);
			high = end;
			break;
		default:
			add_value(model, low, names, first);
			high = low;
	}
	for (value = low; value <= high; value += step)
		set[value] = true;
}

/*
 * A star, with a step perhaps.
 */
static void
add_star(Model *model, bool *set, int first, int end)
{
	int			step = one_in(2) ? 1 : pick(1, end - first);
	int			value;

	add(model, step == 1 ? "*" : "*/%d", step);
	for (value = first; value <= end; value += step)
		set[value] = true;
}

/*
 * Write a whole field of plain values.  Returns whether it begins with *.
 */
static bool
add_field(Model *model, bool *set, int first, int end, const char *names,
		  int star_percent)
{
	bool		star = pick(1, 100) <= star_percent;
	int			more = one_in(3) ? pick(1, 4) : 0;

	if (star)
		add_star(model, set, first, end);
	else
		add_plain_item(model, set, first, end, names);
	while (more-- > 0)
	{
		add(model, ",");
		add_plain_item(model, set, first, end, names);
	}
	add(model, one_in(20) ? " \t" : " ");
	return star;
}

static void
add_date_item(Model *model)
{
	int			n = pick(1, 31);

	switch (pick(1, 10))
	{
		case 1:
			add(model, one_in(2) ? "L" : "l");
			model->from_end[0] = true;
			break;
		case 2:
			add(model, "L-%d", n - 1);
			model->from_end[n - 1] = true;
			break;
		case 3:
			add(model, "%dW", n);
			model->near[n] = true;
			break;
		case 4:
			add(model, "lw");
			model->last_workday = true;
			break;
		default:
			add_plain_item(model, model->day, 1, 31, NULL);
	}
}

static void
add_weekday_item(Model *model)
{
	int			n = pick(0, 7);
	int			k = pick(1, 5);
	int			value;

	switch (pick(1, 10))
	{
		case 1:
		case 2:
			add_value(model, n, weekday_names, 0);
			add(model, "#%d", k);
			model->nth[n % 7][k] = true;
			break;
		case 3:
			add_value(model, n, weekday_names, 0);
			add(model, one_in(2) ? "L" : "l");
			model->last[n % 7] = true;
			break;
		case 4:
			/* a range that ends on Sunday */
			n = pick(1, 6);
			add_value(model, n, weekday_names, 0);
			add(model, one_in(2) ? "-0" : one_in(2) ? "-Sun" : "-7");
			for (value = n; value <= 7; value++)
				model->weekday[value] = true;
			break;
		default:
			add_plain_item(model, model->weekday, 0, 6, weekday_names);
	}
}

/*
 * Write one of the day fields.  Returns whether it begins with * or ?.
 */
static bool
add_day_field(Model *model, bool *set, int first, int end,
			  void (*add_item) (Model *))
{
	bool		star = one_in(2);
	int			more = one_in(3) ? pick(1, 3) : 0;
	int			value;

	if (star && one_in(4))
	{
		add(model, "? ");
		for (value = first; value <= end; value++)
			set[value] = true;
		return true;
	}
	if (star)
		add_star(model, set, first, end);
	else
		add_item(model);
	while (more-- > 0)
	{
		add(model, ",");
		add_item(model);
	}
	add(model, " ");
	return star;
}

/*
 * A schedule of every day, or nearly, in the hours when clocks are changed.
 */
static void
make_night_schedule(Model *model)
{
	int			low = pick(0, 4);
	int			high = pick(low, 4);
	int			hour;

	memset(model, 0, sizeof(*model));
	model->second[0] = true;
	if (add_field(model, model->minute, 0, 59, NULL, 5))
		model->elapsed = true;
	for (hour = low; hour <= high; hour++)
		model->hour[hour] = true;
	add(model, "%d-%d ", low, high);
	add_star(model, model->day, 1, 31);
	add(model, " * ");
	memset(model->month, true, sizeof(model->month));
	add_field(model, model->weekday, 0, 6, weekday_names, 50);
}

static void
make_schedule(Model *model)
{
	bool		date_star;
	bool		weekday_star;

	memset(model, 0, sizeof(*model));
	if (one_in(3))
		model->second[0] = true;
	else if (add_field(model, model->second, 0, 59, NULL, 10))
		model->elapsed = true;
	if (add_field(model, model->minute, 0, 59, NULL, 15))
		model->elapsed = true;
	if (add_field(model, model->hour, 0, 23, NULL, 25))
		model->elapsed = true;
	date_star = add_day_field(model, model->day, 1, 31, add_date_item);
	add_field(model, model->month, 1, 12, month_names, 60);
	weekday_star = add_day_field(model, model->weekday, 0, 6,
								 add_weekday_item);
	model->either = !date_star && !weekday_star;
}

/*
 * Is there a matching day in the 400 years of the calendar?
 */
static bool
ever_matches(const Model *model)
{
	int64_t		day;

	for (day = 0; day < 146097; day++)
	{
		if (day_matches(model, day))
			return true;
	}
	return false;
}


/*
 * Comparing.
 */

static bool
complain(const Model *model, const SystemZone *zone, int64_t after,
		 const char *format,...)
{
	va_list		args;

	printf("# \"%s\" in %s after %lld: ", model->text, zone->name,
		   (long long) after);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	return false;
}

/*
 * Compare one occurrence; after and *next are in microseconds since 2000.
 */
static bool
compare_next(const Model *model, const JanitorSchedule *schedule,
			 const SystemZone *table, int64_t after, int64_t *next)
{
	JanitorZone zone = {janitor_system_zone_lookup, table};
	int64_t		unix_after = (after + EPOCH * USEC) / USEC;
	int64_t		expected = oracle_next(model, table, unix_after);
	int64_t		between;
	int64_t		again;

	compared++;
	if (!janitor_schedule_next(schedule, &zone, after, next))
		*next = INT64_MAX;
	if (expected >= HORIZON)
	{
		beyond_horizon++;
		if (*next < (HORIZON - EPOCH) * USEC)
			return complain(model, table, after, "got %lld, not before 2190",
							(long long) *next);
		*next = INT64_MAX;
		return true;
	}
	if (*next != (expected - EPOCH) * USEC)
		return complain(model, table, after, "got %lld, expected unix %lld",
						(long long) *next, (long long) expected);
	if (*next <= after)
		return complain(model, table, after, "not later");
	between = pick(after, *next - 1);
	if (!janitor_schedule_next(schedule, &zone, between, &again) ||
		again != *next)
		return complain(model, table, between, "another one than from %lld",
						(long long) after);
	return true;
}

/*
 * A start between 1970 and 2150, often shortly before a change of offset.
 */
static int64_t
pick_start(const SystemZone *zone)
{
	int64_t		unix_time = pick(0, INT64_C(180) * 31556952);
	int			i;

	if (zone->count > 1 && !one_in(3))
	{
		i = pick(1, zone->count - 1);
		unix_time = zone->from[i] + pick(-2 * DAY, DAY);
		if (one_in(3))
			unix_time = zone->from[i] + pick(-2, 2);
	}
	if (unix_time < 0)
		unix_time = 0;
	return (unix_time - EPOCH) * USEC + (one_in(2) ? 0 : pick(0, USEC - 1));
}

static bool
test_triple(const SystemZone *zone)
{
	Model		model;
	JanitorSchedule schedule;
	char		error[200];
	int64_t		time;
	int			i;
	bool		parsed;

	for (;;)
	{
		if (one_in(3))
			make_night_schedule(&model);
		else
			make_schedule(&model);
		parsed = janitor_schedule_parse(model.text, &schedule,
										error, sizeof(error));
		if (parsed != ever_matches(&model))
			return complain(&model, zone, 0, "%s",
							parsed ? "accepted, but never occurs" : error);
		if (parsed)
			break;
		never_occurring++;
	}
	time = pick_start(zone);
	for (i = 0; i < SUCCESSORS && time != INT64_MAX; i++)
	{
		if (!compare_next(&model, &schedule, zone, time, &time))
			return false;
	}
	return true;
}

/*
 * A zone with changes of all sizes, up to a day, in both directions, some of
 * no size; five days apart at least.
 */
static void
make_synthetic_zone(SystemZone *zone)
{
	int64_t		unix_time = pick(-20, 20) * DAY;
	int32_t		grain = one_in(2) ? 900 : 1;

	janitor_system_zone_init(zone, "a synthetic zone", pick(-43200, 43200));
	while (zone->count < SYSTEM_ZONE_CHANGES)
	{
		int32_t		offset = zone->offsets[zone->count - 1];

		unix_time += pick(5 * DAY, 120 * DAY);
		switch (pick(1, 4))
		{
			case 1:
				offset = pick(-43200 / grain, 43200 / grain) * grain;
				break;
			case 2:
				break;
			default:
				offset += pick(-4, 4) * (one_in(3) ? 1800 : 3600);
		}
		if (offset >= -50400 && offset <= 50400)
			janitor_system_zone_change(zone, unix_time, offset);
	}
}

static void
test_zone(const SystemZone *zone, int triples)
{
	char		name[100];
	int			i;
	bool		passed = true;

	for (i = 0; i < triples && passed; i++)
		passed = test_triple(zone);
	snprintf(name, sizeof(name), "%d random schedules in %s, %d changes",
			 i, zone->name, zone->count - 1);
	check(passed && triples > 0, name);
}

int
main(int argc, char **argv)
{
	static const char *const names[] = {
		"America/New_York", "Europe/Berlin", "Australia/Lord_Howe",
		"Pacific/Apia", "Africa/Casablanca", "Antarctica/Troll",
		"Africa/Monrovia", "Asia/Kathmandu", "America/Sao_Paulo",
		"Pacific/Kwajalein", "Europe/Dublin", "America/Caracas"
	};
	static SystemZone zone;
	int			triples = argc > 1 ? atoi(argv[1]) : DEFAULT_TRIPLES;
	int			zones = LENGTH(names) + 2;
	size_t		i;

	random_state = argc > 2 ? strtoull(argv[2], NULL, 0) :
		(uint64_t) time(NULL) ^ (uint64_t) getpid() << 32;
	printf("# seed %llu\n", (unsigned long long) random_state);
	count_days();
	for (i = 0; i < LENGTH(names); i++)
	{
		janitor_system_zone_load(&zone, names[i]);
		test_zone(&zone, triples / zones);
	}
	for (i = 0; i < 2; i++)
	{
		make_synthetic_zone(&zone);
		test_zone(&zone, triples / zones);
	}
	printf("# %ld occurrences, %ld made up for, %ld not, %ld local times "
		   "suppressed, %ld shown twice, %ld beyond 2190, %ld schedules that "
		   "never occur\n", compared, made_up, not_made_up, suppressed,
		   shown_twice, beyond_horizon, never_occurring);
	check(made_up > 100, "local times swallowed were met");
	check(not_made_up > 10, "and such as are not made up for");
	check(suppressed > 100, "local times shown a second time were met");
	check(shown_twice > 100, "and elapsed schedules that take them");
	check(never_occurring > 10, "schedules that never occur were met");
	printf("1..%d\n", test_count);
	return failure_count == 0 ? 0 : 1;
}
