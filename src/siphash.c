/*-------------------------------------------------------------------------
 *
 * siphash.c
 *	  SipHash-2-4: a short keyed hash of a short input.  No server.
 *
 * The algorithm, with its constants, is that of J.-P. Aumasson and D. J.
 * Bernstein, "SipHash: a fast short-input PRF" (2012), with a 128-bit key and
 * a 64-bit result; t/unit/test_siphash.c holds it to the vectors published
 * with it.  It is a pseudorandom function: without the key nobody can tell
 * the result for an input, however many others are known.  It costs some 20
 * ns where an HMAC of the server costs a microsecond.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "siphash.h"

typedef struct SipState
{
	uint64_t	v0;
	uint64_t	v1;
	uint64_t	v2;
	uint64_t	v3;
} SipState;

static uint64_t
rotate(uint64_t word, int bits)
{
	return (word << bits) | (word >> (64 - bits));
}

/* Up to eight bytes, the first one lowest. */
static uint64_t
load(const uint8_t *bytes, size_t length)
{
	uint64_t	word = 0;

	for (size_t i = 0; i < length; i++)
		word |= (uint64_t) bytes[i] << (8 * i);
	return word;
}

static void
rounds(SipState *state, int count)
{
	while (count-- > 0)
	{
		state->v0 += state->v1;
		state->v1 = rotate(state->v1, 13) ^ state->v0;
		state->v0 = rotate(state->v0, 32);
		state->v2 += state->v3;
		state->v3 = rotate(state->v3, 16) ^ state->v2;
		state->v0 += state->v3;
		state->v3 = rotate(state->v3, 21) ^ state->v0;
		state->v2 += state->v1;
		state->v1 = rotate(state->v1, 17) ^ state->v2;
		state->v2 = rotate(state->v2, 32);
	}
}

static void
take_word(SipState *state, uint64_t word)
{
	state->v3 ^= word;
	rounds(state, 2);
	state->v0 ^= word;
}

uint64_t
janitor_siphash(const uint8_t *key, const uint8_t *data, size_t length)
{
	uint64_t	k0 = load(key, 8);
	uint64_t	k1 = load(key + 8, 8);
	SipState	state = {
		k0 ^ UINT64_C(0x736f6d6570736575),
		k1 ^ UINT64_C(0x646f72616e646f6d),
		k0 ^ UINT64_C(0x6c7967656e657261),
		k1 ^ UINT64_C(0x7465646279746573)
	};
	size_t		rest = length % 8;

	for (size_t at = 0; at + 8 <= length; at += 8)
		take_word(&state, load(data + at, 8));
	take_word(&state, (uint64_t) length << 56 |
			  load(data + length - rest, rest));
	state.v2 ^= 0xff;
	rounds(&state, 4);
	return state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
}
