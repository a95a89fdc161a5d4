/*-------------------------------------------------------------------------
 *
 * chain.c
 *	  A chain of records, each with the hash of the one before it.
 *
 * A link's hash is made of everything that it says, the hash before it
 * included, but for its number: that only says where it is to be found.  So a
 * link that was changed is told from one that was put elsewhere: the first is
 * not what its hash was made of, the second is, and follows another one.
 *
 * Nothing here keeps anybody from writing a whole chain anew; a hash of it
 * that was noted elsewhere does.
 *
 * Pure, and compiled without a server by t/unit.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "chain.h"

#include <string.h>

JanitorChainFault
janitor_chain_follow(JanitorChain *chain, const JanitorChainLink *link)
{
	if (link->number <= chain->number)
		return JANITOR_CHAIN_REPEATED;
	if (link->number - 1 > chain->number)
		return JANITOR_CHAIN_GAP;
	if (memcmp(link->hash, link->computed, JANITOR_CHAIN_HASH) != 0)
		return JANITOR_CHAIN_ALTERED;
	if (memcmp(link->previous, chain->hash, JANITOR_CHAIN_HASH) != 0)
		return JANITOR_CHAIN_DETACHED;
	chain->number = link->number;
	memcpy(chain->hash, link->hash, JANITOR_CHAIN_HASH);
	return JANITOR_CHAIN_INTACT;
}
