/*-------------------------------------------------------------------------
 *
 * chain.h
 *	  A chain of records, each with the hash of the one before it.
 *
 * Pure: no server state, no allocation; compiles and is tested without a
 * server.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_CHAIN_H
#define JANITOR_CHAIN_H

#include <stdint.h>

#define JANITOR_CHAIN_HASH 32	/* bytes */

/* How far a chain has been followed; all zero: not begun. */
typedef struct JanitorChain
{
	int64_t		number;			/* of the last link */
	uint8_t		hash[JANITOR_CHAIN_HASH];	/* its hash */
} JanitorChain;

/* A link as it is found. */
typedef struct JanitorChainLink
{
	int64_t		number;
	const uint8_t *previous;	/* what it says the hash before it is */
	const uint8_t *hash;		/* what it says its own is */
	const uint8_t *computed;	/* what its own is, of all it says but its
								 * number */
} JanitorChainLink;

typedef enum JanitorChainFault
{
	JANITOR_CHAIN_INTACT,
	JANITOR_CHAIN_GAP,			/* numbers are left out before it */
	JANITOR_CHAIN_REPEATED,		/* its number was there already */
	JANITOR_CHAIN_ALTERED,		/* it is not what its hash was made of */
	JANITOR_CHAIN_DETACHED		/* it does not follow the one before it */
} JanitorChainFault;

/*
 * Goes on to the next link, in the order of their numbers.  The chain stays
 * where it is if there is a fault.
 */
extern JanitorChainFault janitor_chain_follow(JanitorChain *chain,
											  const JanitorChainLink *link);

#endif							/* JANITOR_CHAIN_H */
