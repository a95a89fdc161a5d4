/*-------------------------------------------------------------------------
 *
 * siphash.h
 *	  SipHash-2-4: a short keyed hash of a short input.  No server.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_SIPHASH_H
#define JANITOR_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

#define JANITOR_SIPHASH_KEY_LENGTH 16

extern uint64_t janitor_siphash(const uint8_t *key, const uint8_t *data,
								size_t length);

#endif							/* JANITOR_SIPHASH_H */
