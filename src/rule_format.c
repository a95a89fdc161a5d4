/*-------------------------------------------------------------------------
 *
 * rule_format.c
 *	  Times that are kept as text: their patterns, shapes, and guesses.
 *
 * Text is compared with the cutoff byte by byte.  That is the order of time
 * only if each part of a time has a fixed width and the greater part comes
 * first: year, month, day, hour, minute, second, fraction, each followed by
 * the next, none left out in between.  A pattern that is not so is refused; a
 * value that is not of the pattern's shape is no time, and never expires.
 *
 * Nothing here needs a database.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "rule_internal.h"

#include <ctype.h>

/* Parts of a time, from the greatest down, as to_char() calls them. */
static const struct
{
	const char *word;
	int			digits;
	int			rank;
}			parts[] = {
	{"YYYY", 4, 0},
	{"MM", 2, 1},
	{"DD", 2, 2},
	{"HH24", 2, 3},
	{"MI", 2, 4},
	{"SS", 2, 5},
	{"MS", 3, 6},
	{"US", 6, 6},
	{"FF1", 1, 6},
	{"FF2", 2, 6},
	{"FF3", 3, 6},
	{"FF4", 4, 6},
	{"FF5", 5, 6},
	{"FF6", 6, 6},
};

static void
bad_format(const char *format, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"time_format\": \"%s\"", format),
			 errdetail("%s", why),
			 errhint("Write YYYY, MM, DD, HH24, MI, SS, MS or US in this order, with letters in between in double quotes: YYYY-MM-DD\"T\"HH24:MI:SS\"Z\".")));
}

static void
append_literally(StringInfo shape, char c)
{
	if (!isalnum((unsigned char) c) && !IS_HIGHBIT_SET(c))
		appendStringInfoChar(shape, '\\');
	appendStringInfoChar(shape, c);
}

/* A quoted text; returns what follows it. */
static const char *
read_quoted(const char *at, const char *format, StringInfo shape)
{
	for (at++; *at != '"'; at++)
	{
		if (*at == '\0')
			bad_format(format, "A double quote is not closed.");
		if (*at == '\\')
			bad_format(format, "A backslash cannot be used.");
		append_literally(shape, *at);
	}
	return at + 1;
}

/* One part of a time; returns what follows it. */
static const char *
read_part(const char *at, const char *format, int *rank, StringInfo shape)
{
	for (int i = 0; i < lengthof(parts); i++)
	{
		if (strncmp(at, parts[i].word, strlen(parts[i].word)) != 0)
			continue;
		if (parts[i].rank != *rank)
			bad_format(format, "The parts of a time must follow one another, the year first: only then do texts sort as times do.");
		*rank = parts[i].rank + 1;
		appendStringInfo(shape, "[0-9]{%d}", parts[i].digits);
		return at + strlen(parts[i].word);
	}
	bad_format(format, psprintf("There is no part of a time at \"%s\".", at));
	return NULL;
}

char *
janitor_format_shape(const char *format, bool *utc)
{
	StringInfoData shape;
	int			length = strlen(format);
	const char *at = format;
	int			rank = 0;

	initStringInfo(&shape);
	appendStringInfoChar(&shape, '^');
	while (*at != '\0')
	{
		if (*at == '"')
			at = read_quoted(at, format, &shape);
		else if (isalnum((unsigned char) *at) || *at == '\\' ||
				 IS_HIGHBIT_SET(*at))
			at = read_part(at, format, &rank, &shape);
		else
			append_literally(&shape, *at++);
	}
	if (rank == 0)
		bad_format(format, "It has no year.");
	appendStringInfoChar(&shape, '$');
	*utc = length >= 3 && strcmp(format + length - 3, "\"Z\"") == 0;
	return shape.data;
}

/* --- guessing --- */

/* `count` digits at *at; moves on. */
static bool
take_digits(const char **at, int count)
{
	for (int i = 0; i < count; i++)
		if (!isdigit((unsigned char) (*at)[i]))
			return false;
	*at += count;
	return true;
}

/* The fraction of a second, behind its point. */
static bool
guess_fraction(const char **at, StringInfo format)
{
	int			digits = strspn(*at, "0123456789");

	if (digits < 1 || digits > 6)
		return false;
	*at += digits;
	if (digits == 3)
		appendStringInfoString(format, "MS");
	else if (digits == 6)
		appendStringInfoString(format, "US");
	else
		appendStringInfo(format, "FF%d", digits);
	return true;
}

/* What stands between two parts; returns false at the end of the value. */
static bool
guess_separator(const char **at, StringInfo format)
{
	if (**at == '\0' || (**at == 'Z' && (*at)[1] == '\0'))
		return false;
	if (**at == 'T' || **at == 't')
		appendStringInfo(format, "\"%c\"", *(*at)++);
	else if (strchr("-/:. _", **at) != NULL)
		appendStringInfoChar(format, *(*at)++);
	return true;
}

char *
janitor_format_guess(const char *value)
{
	static const char *const words[] = {"YYYY", "MM", "DD", "HH24", "MI", "SS"};
	const char *at = value;
	StringInfoData format;

	initStringInfo(&format);
	for (int i = 0; i <= lengthof(words); i++)
	{
		if (i > 0 && !guess_separator(&at, &format))
			break;
		if (i == lengthof(words))
		{
			if (!guess_fraction(&at, &format))
				return NULL;
		}
		else if (!take_digits(&at, i == 0 ? 4 : 2))
			return NULL;
		else
			appendStringInfoString(&format, words[i]);
	}
	if (strcmp(at, "Z") == 0)
		appendStringInfoString(&format, "\"Z\"");
	else if (*at != '\0')
		return NULL;
	return format.data;
}
