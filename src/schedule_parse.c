/*-------------------------------------------------------------------------
 *
 * schedule_parse.c
 *	  The calendar: reading a schedule.
 *
 * Pure functions of their arguments; see schedule.h for what that promises.
 *
 * A schedule has four written forms: six fields `second minute hour
 * day-of-month month day-of-week`, five fields (second 0), a shorthand such
 * as @daily, and `every 1 hour 30 minutes`.  Fields become bit sets.
 *
 *-------------------------------------------------------------------------
 */
#include "schedule.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define USECS_PER_SECOND		INT64_C(1000000)

/* limits of an interval: 1 second and 10 years of 365.25 days */
#define MIN_EVERY				USECS_PER_SECOND
#define MAX_EVERY				(INT64_C(315576000) * USECS_PER_SECOND)

#if defined(__GNUC__)
#define PRINTF_LIKE(f, a)		__attribute__((format(printf, f, a)))
#else
#define PRINTF_LIKE(f, a)
#endif

/* What is left to read, and where to put the complaint. */
typedef struct Reader
{
	const char *at;
	char	   *error;
	size_t		error_size;
} Reader;

typedef enum FieldNumber
{
	SECOND, MINUTE, HOUR, DAY_OF_MONTH, MONTH, DAY_OF_WEEK, FIELD_COUNT
} FieldNumber;

/* What a field may hold. */
typedef struct FieldRule
{
	const char *name;
	int			min;
	int			max;			/* largest number accepted */
	int			end;			/* where `*` and `a/n` end */
	const char *words;			/* three letters each, the first means min */
	const char *words_hint;
} FieldRule;

static const FieldRule field_rules[FIELD_COUNT] = {
	{"second", 0, 59, 59, "", ""},
	{"minute", 0, 59, 59, "", ""},
	{"hour", 0, 23, 23, "", ""},
	{"day of month", 1, 31, 31, "", ""},
	{"month", 1, 12, 12, "janfebmaraprmayjunjulaugsepoctnovdec",
	" or a name from JAN to DEC"},
	{"day of week", 0, 7, 6, "sunmontuewedthufrisat",
	" or a name from SUN to SAT"}
};

/* The sequence of values that one item of a field's list stands for. */
typedef struct ValueRange
{
	int			first;
	int			last;
	int			step;
} ValueRange;


static uint32_t
bit(int n)
{
	return UINT32_C(1) << n;
}


/*
 * Reading characters.  ASCII only, whatever the locale or encoding.
 */

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static char
to_lower(char c)
{
	return (c >= 'A' && c <= 'Z') ? (char) (c - 'A' + 'a') : c;
}

static bool
is_letter(char c)
{
	c = to_lower(c);
	return c >= 'a' && c <= 'z';
}

static bool
at_word_end(const Reader *reader)
{
	return *reader->at == '\0' || is_blank(*reader->at);
}

static bool
at_item_end(const Reader *reader)
{
	return *reader->at == ',' || at_word_end(reader);
}

static void
skip_blanks(Reader *reader)
{
	while (is_blank(*reader->at))
		reader->at++;
}

/*
 * Does the text go on with these (lower case) characters?  If so, skip them.
 */
static bool
accept(Reader *reader, const char *expected)
{
	size_t		n = 0;

	for (; expected[n] != '\0'; n++)
	{
		if (to_lower(reader->at[n]) != expected[n])
			return false;
	}
	reader->at += n;
	return true;
}

/*
 * As accept(), but the whole word up to a blank or the end has to be it.
 */
static bool
accept_word(Reader *reader, const char *expected)
{
	const char *start = reader->at;

	if (accept(reader, expected) && at_word_end(reader))
		return true;
	reader->at = start;
	return false;
}

/*
 * Record what is wrong; returns false, for the caller to return.  Messages
 * never repeat the input: the caller of the parser quotes all of it, and a
 * part might be cut within a multibyte character.
 */
static bool
PRINTF_LIKE(2, 3)
reject(Reader *reader, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	if (reader->error_size > 0)
		vsnprintf(reader->error, reader->error_size, format, args);
	va_end(args);
	return false;
}

/*
 * Read digits as a number; any that is above `limit` becomes some number
 * above it.  False, and nothing skipped, if there are none.
 */
static bool
accept_number(Reader *reader, int limit, int *number)
{
	int			digit;

	if (!is_digit(*reader->at))
		return false;
	for (*number = 0; is_digit(*reader->at); reader->at++)
	{
		digit = *reader->at - '0';
		if (*number > (limit - digit) / 10)
			*number = limit + 1;
		else
			*number = *number * 10 + digit;
	}
	return true;
}


/*
 * Reading fields.
 */

static bool
parse_name(Reader *reader, const FieldRule *rule, int *value)
{
	int			n;
	char		word[4] = "";

	for (n = 0; rule->words[n * 3] != '\0'; n++)
	{
		memcpy(word, rule->words + n * 3, 3);
		if (accept(reader, word))
		{
			*value = rule->min + n;
			return true;
		}
	}
	return false;
}

/*
 * Read one value of a field: a number, or a name where the field has names.
 */
static bool
parse_value(Reader *reader, const FieldRule *rule, int *value)
{
	if (parse_name(reader, rule, value))
		return true;
	if (rule == &field_rules[DAY_OF_WEEK] && accept(reader, "l"))
		return reject(reader, "%s must have a day before L, as in 5L or FRIL",
					  rule->name);
	if (at_item_end(reader))
		return reject(reader, "%s has an empty item or range", rule->name);
	if (!accept_number(reader, rule->max, value))
		return reject(reader, "%s must be a number between %d and %d%s",
					  rule->name, rule->min, rule->max, rule->words_hint);
	if (*value < rule->min || *value > rule->max)
		return reject(reader, "%s must be between %d and %d",
					  rule->name, rule->min, rule->max);
	return true;
}

/*
 * An item must end here.  Complains about whatever follows instead.
 */
static bool
expect_item_end(Reader *reader, const FieldRule *rule)
{
	if (at_item_end(reader))
		return true;
	return reject(reader, "%s must be values, ranges and steps separated by commas",
				  rule->name);
}

/*
 * Read what follows the first value of an item, up to a step: `-b` or nothing.
 * A value alone that a step follows reaches to the field's end.
 */
static bool
parse_range_end(Reader *reader, const FieldRule *rule, ValueRange *range)
{
	bool		is_weekday = rule == &field_rules[DAY_OF_WEEK];

	if (*reader->at != '-')
	{
		if (*reader->at == '/' && is_weekday)
			range->first %= 7;
		range->last = *reader->at == '/' ? rule->end : range->first;
		return true;
	}
	reader->at++;
	if (!parse_value(reader, rule, &range->last))
		return false;

	/* a range may end on Sunday by whatever name: FRI-SUN, 5-0 */
	if (is_weekday && range->last == 0 && range->first > 0)
		range->last = 7;
	if (range->last < range->first)
		return reject(reader, "%s range must not end before it starts",
					  rule->name);
	return true;
}

static bool
parse_step(Reader *reader, const FieldRule *rule, ValueRange *range)
{
	int			span = rule->end - rule->min;

	if (*reader->at != '/')
		return true;
	reader->at++;
	if (!accept_number(reader, span, &range->step))
		return reject(reader, "%s step must be a number between 1 and %d",
					  rule->name, span);
	if (range->step > span)
		return reject(reader, "%s step must be between 1 and %d, a larger one never steps",
					  rule->name, span);
	if (range->step == 0)
		return reject(reader, "%s step must be between 1 and %d",
					  rule->name, span);
	return true;
}

/*
 * Read `L`, `L-n` or `LW`, the L being behind us.
 */
static bool
parse_month_end(Reader *reader, JanitorSchedule *schedule)
{
	const FieldRule *rule = &field_rules[DAY_OF_MONTH];
	int			back = 0;

	if (accept(reader, "w"))
		schedule->near_days |= bit(0);
	else if (accept(reader, "-"))
	{
		if (!accept_number(reader, 30, &back) || back > 30)
			return reject(reader, "%s must have a number between 0 and 30 after L-",
						  rule->name);
		schedule->days_from_end |= bit(31 - back);
	}
	else
		schedule->days_from_end |= bit(31);
	return expect_item_end(reader, rule);
}

/*
 * Read `n#k`, the # being behind us.
 */
static bool
parse_nth_weekday(Reader *reader, int weekday, JanitorSchedule *schedule)
{
	const FieldRule *rule = &field_rules[DAY_OF_WEEK];
	int			nth;

	if (!accept_number(reader, 5, &nth) || nth < 1 || nth > 5)
		return reject(reader, "%s must have a number between 1 and 5 after #",
					  rule->name);
	schedule->nth_weekdays[nth - 1] |= bit(weekday);
	schedule->has_ordinals = true;
	return expect_item_end(reader, rule);
}

/*
 * Read what only a day field may have, if it is there; *done tells whether it
 * was, and range->first is the value before it.
 */
static bool
parse_day_suffix(Reader *reader, FieldNumber field, const ValueRange *range,
				 JanitorSchedule *schedule, bool *done)
{
	*done = true;
	if (field == DAY_OF_MONTH && accept(reader, "w"))
		schedule->near_days |= bit(range->first);
	else if (field == DAY_OF_WEEK && accept(reader, "l"))
	{
		schedule->last_weekdays |= bit(range->first % 7);
		schedule->has_ordinals = true;
	}
	else if (field == DAY_OF_WEEK && accept(reader, "#"))
		return parse_nth_weekday(reader, range->first % 7, schedule);
	else
	{
		*done = false;
		return true;
	}
	return expect_item_end(reader, &field_rules[field]);
}

/*
 * Read one item of a field's list.  Plain values are added to the set, what
 * is more than a value goes straight into the schedule.
 */
static bool
parse_item(Reader *reader, FieldNumber field, JanitorSchedule *schedule,
		   uint64_t *set)
{
	const FieldRule *rule = &field_rules[field];
	ValueRange	range = {rule->min, rule->end, 1};
	int			value;
	bool		done;

	if (field == DAY_OF_MONTH && accept(reader, "l"))
		return parse_month_end(reader, schedule);
	if (!accept(reader, "*"))
	{
		if (!parse_value(reader, rule, &range.first) ||
			!parse_day_suffix(reader, field, &range, schedule, &done))
			return false;
		if (done)
			return true;
		if (!parse_range_end(reader, rule, &range))
			return false;
	}
	if (!parse_step(reader, rule, &range) || !expect_item_end(reader, rule))
		return false;
	for (value = range.first; value <= range.last; value += range.step)
		*set |= UINT64_C(1) << value;
	return true;
}

/*
 * Read `?`, which stands for a whole day field and has to be all of it.
 */
static bool
parse_any_day(Reader *reader, FieldNumber field, uint64_t *set)
{
	const FieldRule *rule = &field_rules[field];

	if (field != DAY_OF_MONTH && field != DAY_OF_WEEK)
		return reject(reader, "%s must not be ?, which only day of month and day of week may be",
					  rule->name);
	if (!at_word_end(reader))
		return reject(reader, "%s must have nothing beside ?", rule->name);
	*set = (UINT64_C(2) << rule->end) - (UINT64_C(1) << rule->min);
	return true;
}

/*
 * Read one field up to the blank or end behind it.
 */
static bool
parse_field(Reader *reader, FieldNumber field, JanitorSchedule *schedule,
			uint64_t *set)
{
	*set = 0;
	if (accept(reader, "?"))
		return parse_any_day(reader, field, set);
	do
	{
		if (!parse_item(reader, field, schedule, set))
			return false;
	} while (accept(reader, ","));
	return true;
}

static int
count_words(const char *text)
{
	Reader		reader = {text, NULL, 0};
	int			count = 0;

	for (skip_blanks(&reader); *reader.at != '\0'; skip_blanks(&reader))
	{
		count++;
		while (!at_word_end(&reader))
			reader.at++;
	}
	return count;
}

/*
 * Read five or six fields.
 */
static bool
parse_fields(Reader *reader, JanitorSchedule *schedule)
{
	uint64_t	sets[FIELD_COUNT] = {1};	/* second 0 unless given */
	bool		starred[FIELD_COUNT] = {false};
	uint64_t	weekdays;
	int			count = count_words(reader->at);
	int			field;

	if (count != 5 && count != 6)
		return reject(reader, "expected 5 or 6 fields, found %d", count);
	for (field = FIELD_COUNT - count; field < FIELD_COUNT; field++)
	{
		skip_blanks(reader);
		starred[field] = *reader->at == '*' || *reader->at == '?';
		if (!parse_field(reader, field, schedule, &sets[field]))
			return false;
	}
	weekdays = sets[DAY_OF_WEEK];
	schedule->seconds = sets[SECOND];
	schedule->minutes = sets[MINUTE];
	schedule->hours = (uint32_t) sets[HOUR];
	schedule->days = (uint32_t) sets[DAY_OF_MONTH];
	schedule->months = (uint32_t) sets[MONTH];
	/* Sunday may have come as 7 */
	schedule->weekdays = (uint8_t) ((weekdays | weekdays >> 7) & 0x7F);
	schedule->either_day = !starred[DAY_OF_MONTH] && !starred[DAY_OF_WEEK];
	schedule->elapsed = starred[SECOND] || starred[MINUTE] || starred[HOUR];
	if (!janitor_schedule_date_occurs(schedule))
		return reject(reader, "its date never occurs");
	return true;
}


/*
 * Reading the other forms.
 */

/*
 * Read a shorthand such as @daily.
 */
static bool
parse_shorthand(Reader *reader, JanitorSchedule *schedule)
{
	static const char *const shorthands[][2] = {
		{"@hourly", "0 * * * *"},
		{"@daily", "0 0 * * *"},
		{"@midnight", "0 0 * * *"},
		{"@weekly", "0 0 * * 0"},
		{"@monthly", "0 0 1 * *"},
		{"@yearly", "0 0 1 1 *"},
		{"@annually", "0 0 1 1 *"},
		{"@reboot", NULL}
	};
	int			count = count_words(reader->at);
	size_t		i;

	if (count != 1)
		return reject(reader, "expected nothing beside a name such as @daily, found %d fields",
					  count);
	for (i = 0; i < sizeof(shorthands) / sizeof(shorthands[0]); i++)
	{
		if (!accept_word(reader, shorthands[i][0]))
			continue;
		if (shorthands[i][1] != NULL)
		{
			reader->at = shorthands[i][1];
			return parse_fields(reader, schedule);
		}
		schedule->kind = JANITOR_SCHEDULE_REBOOT;
		return true;
	}
	return reject(reader, "name must be @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually or @reboot");
}

/*
 * Read a decimal number with at most six digits after the point, as millionths.
 * What is larger than any interval may be stays so.
 */
static bool
parse_amount(Reader *reader, int64_t *millionths)
{
	int			whole;
	int64_t		unit = USECS_PER_SECOND;

	if (!accept_number(reader, MAX_EVERY / USECS_PER_SECOND, &whole))
		return reject(reader, "interval must be amounts and units, such as 90 seconds or 1 hour 30 minutes");
	*millionths = whole * unit;
	if (!accept(reader, "."))
		return true;
	for (; is_digit(*reader->at) && unit > 1; reader->at++)
	{
		unit /= 10;
		*millionths += unit * (*reader->at - '0');
	}
	if (unit == USECS_PER_SECOND || is_digit(*reader->at))
		return reject(reader, "interval must have 1 to 6 digits after a decimal point");
	return true;
}

/*
 * Read the name of a unit; *seconds is its length, 0 if it has no fixed one.
 */
static bool
parse_unit(Reader *reader, int *seconds)
{
	static const struct
	{
		const char *name;
		int			seconds;
	}			units[] = {
		{"s", 1}, {"sec", 1}, {"secs", 1}, {"second", 1}, {"seconds", 1},
		{"m", 60}, {"min", 60}, {"mins", 60}, {"minute", 60}, {"minutes", 60},
		{"h", 3600}, {"hr", 3600}, {"hrs", 3600}, {"hour", 3600}, {"hours", 3600},
		{"d", 86400}, {"day", 86400}, {"days", 86400},
		{"w", 604800}, {"week", 604800}, {"weeks", 604800},
		{"mon", 0}, {"mons", 0}, {"month", 0}, {"months", 0},
		{"y", 0}, {"yr", 0}, {"yrs", 0}, {"year", 0}, {"years", 0}
	};
	const char *start = reader->at;
	size_t		i;

	for (i = 0; i < sizeof(units) / sizeof(units[0]); i++)
	{
		reader->at = start;
		if (accept(reader, units[i].name) && !is_letter(*reader->at))
		{
			*seconds = units[i].seconds;
			return true;
		}
	}
	return reject(reader, "interval unit must be second, minute, hour, day or week");
}

/*
 * Read an amount and its unit, and add them to the interval.
 */
static bool
parse_interval_part(Reader *reader, bool amount_given, int64_t *interval)
{
	int64_t		millionths = USECS_PER_SECOND;
	int			seconds = 0;

	if (amount_given && !parse_amount(reader, &millionths))
		return false;
	skip_blanks(reader);
	if (!parse_unit(reader, &seconds))
		return false;
	if (seconds == 0)
		return reject(reader, "interval must not count months or years, whose length varies: use @monthly or @yearly");

	/* no overflow: millionths of units, times seconds, are microseconds */
	if (millionths > (MAX_EVERY - *interval) / seconds)
		return reject(reader, "interval must be at most 10 years");
	*interval += millionths * seconds;
	return true;
}

/*
 * Read the interval of an `every`, which is behind us.
 */
static bool
parse_every(Reader *reader, JanitorSchedule *schedule)
{
	bool		amount_given;

	schedule->kind = JANITOR_SCHEDULE_EVERY;
	skip_blanks(reader);

	/* `every hour`: one unit and nothing else */
	amount_given = !is_letter(*reader->at);
	do
	{
		if (!parse_interval_part(reader, amount_given, &schedule->every))
			return false;
		skip_blanks(reader);
	} while (amount_given && *reader->at != '\0');
	if (*reader->at != '\0')
		return reject(reader, "interval must have an amount before each unit");
	if (schedule->every < MIN_EVERY)
		return reject(reader, "interval must be at least 1 second");
	return true;
}

/*
 * Read a schedule.
 *
 * text may hold any bytes before its NUL.  If it is valid, fills *schedule and
 * returns true, with an empty error.  Otherwise returns false, *schedule is
 * not to be used, and error says what is wrong: one ASCII phrase, lower case,
 * no period, to be put behind `invalid schedule "...": `.  It is truncated at
 * error_size bytes including its NUL; 200 are enough for any.
 */
bool
janitor_schedule_parse(const char *text, JanitorSchedule *schedule,
					   char *error, size_t error_size)
{
	Reader		reader = {text, error, error_size};

	/* padding too, so that equal schedules have equal bytes */
	memset(schedule, 0, sizeof(*schedule));
	schedule->kind = JANITOR_SCHEDULE_CRON;
	if (error_size > 0)
		error[0] = '\0';
	skip_blanks(&reader);
	if (*reader.at == '@')
		return parse_shorthand(&reader, schedule);
	if (accept_word(&reader, "every"))
		return parse_every(&reader, schedule);
	return parse_fields(&reader, schedule);
}
