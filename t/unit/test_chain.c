/*-------------------------------------------------------------------------
 *
 * test_chain.c
 *	  Chains that somebody has meddled with: the fault is found, at the link
 *	  where it is.
 *
 * cc -Wall -Wextra -Werror -Isrc t/unit/test_chain.c src/chain.c
 *
 * The hash is a toy: what matters is that links with other contents have other
 * hashes.  Prints TAP; exit code 1 if a test fails.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "chain.h"

#define LENGTH 9

typedef struct Link
{
	int64_t		number;
	uint8_t		content;
	uint8_t		previous[JANITOR_CHAIN_HASH];
	uint8_t		hash[JANITOR_CHAIN_HASH];
} Link;

static int	tests = 0;
static int	failures = 0;

static void
report(bool good, const char *what, int where)
{
	tests++;
	if (!good)
		failures++;
	printf("%sok %d - %s %d\n", good ? "" : "not ", tests, what, where);
}

/* Every byte of the result depends on every byte that goes in. */
static void
toy_hash(const Link *link, uint8_t *hash)
{
	uint64_t	state = UINT64_C(14695981039346656037) ^ link->content;

	for (int round = 0; round < 2; round++)
		for (int i = 0; i < JANITOR_CHAIN_HASH; i++)
		{
			state = (state ^ link->previous[i]) * UINT64_C(1099511628211);
			state ^= state >> 29;
			hash[i] = (uint8_t) (state >> 17);
		}
}

static void
forge(Link *links)
{
	memset(links, 0, LENGTH * sizeof(Link));
	for (int i = 0; i < LENGTH; i++)
	{
		links[i].number = i + 1;
		links[i].content = (uint8_t) (i * 7);
		if (i > 0)
			memcpy(links[i].previous, links[i - 1].hash, JANITOR_CHAIN_HASH);
		toy_hash(&links[i], links[i].hash);
	}
}

/* Follows the chain; the number at which it ended, and why. */
static int64_t
follow(const Link *links, int count, JanitorChainFault *fault)
{
	JanitorChain chain = {0};

	*fault = JANITOR_CHAIN_INTACT;
	for (int i = 0; i < count && *fault == JANITOR_CHAIN_INTACT; i++)
	{
		uint8_t		computed[JANITOR_CHAIN_HASH];
		JanitorChainLink link = {links[i].number, links[i].previous,
		links[i].hash, computed};

		toy_hash(&links[i], computed);
		*fault = janitor_chain_follow(&chain, &link);
	}
	return chain.number;
}

static void
expect(const Link *links, int count, JanitorChainFault fault, int64_t after,
	   const char *what, int where)
{
	JanitorChainFault found;
	int64_t		ended = follow(links, count, &found);

	report(found == fault && ended == after, what, where);
}

static void
remove_link(Link *links, int at)
{
	memmove(&links[at], &links[at + 1], (LENGTH - at - 1) * sizeof(Link));
}

static void
swap_contents(Link *links, int at)
{
	Link		link = links[at];

	links[at] = links[at + 1];
	links[at + 1] = link;
	links[at].number--;
	links[at + 1].number++;
}

int
main(void)
{
	Link		links[LENGTH];

	forge(links);
	expect(links, LENGTH, JANITOR_CHAIN_INTACT, LENGTH,
		   "a chain that nobody has touched has links:", LENGTH);
	for (int i = 0; i < LENGTH; i++)
	{
		forge(links);
		links[i].content ^= 1;
		expect(links, LENGTH, JANITOR_CHAIN_ALTERED, i, "altered:", i + 1);

		forge(links);
		links[i].hash[i] ^= 0x80;
		expect(links, LENGTH, JANITOR_CHAIN_ALTERED, i, "its hash altered:", i + 1);

		forge(links);
		links[i].previous[31] ^= 1;
		expect(links, LENGTH, JANITOR_CHAIN_ALTERED, i, "the hash before it altered:", i + 1);
	}
	for (int i = 0; i < LENGTH - 1; i++)
	{
		forge(links);
		links[i].content ^= 1;
		toy_hash(&links[i], links[i].hash);
		expect(links, LENGTH, JANITOR_CHAIN_DETACHED, i + 1,
			   "altered with its hash, seen at the one after:", i + 1);

		forge(links);
		remove_link(links, i);
		expect(links, LENGTH - 1, JANITOR_CHAIN_GAP, i, "missing:", i + 1);

		forge(links);
		remove_link(links, i);
		for (int j = i; j < LENGTH - 1; j++)
			links[j].number--;
		expect(links, LENGTH - 1, JANITOR_CHAIN_DETACHED, i,
			   "missing, and the others renumbered:", i + 1);

		forge(links);
		swap_contents(links, i);
		expect(links, LENGTH, JANITOR_CHAIN_DETACHED, i, "put after the next:", i + 1);

		forge(links);
		links[i + 1] = links[i];
		expect(links, LENGTH, JANITOR_CHAIN_REPEATED, i + 1, "there twice:", i + 1);
	}
	printf("1..%d\n", tests);
	return failures ? 1 : 0;
}
