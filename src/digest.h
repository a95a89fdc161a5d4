/*-------------------------------------------------------------------------
 *
 * digest.h
 *	  SHA-256, plain and keyed, by the server's own code.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_DIGEST_H
#define JANITOR_DIGEST_H

#include "compat.h"

#define JANITOR_DIGEST_LENGTH 32
#define JANITOR_SECRET_LENGTH 32

/* SHA-256 of what the calls in between add. */
extern void janitor_digest_begin(void);
extern void janitor_digest_add(const void *data, size_t length);
extern void janitor_digest_end(uint8 *digest);

/*
 * HMAC-SHA-256, with a secret of JANITOR_SECRET_LENGTH bytes, of one byte that
 * says what the result is for, and the data.
 */
extern void janitor_keyed_digest(const uint8 *secret, char purpose,
								 const void *data, size_t length,
								 uint8 *digest);

#endif							/* JANITOR_DIGEST_H */
