/*-------------------------------------------------------------------------
 *
 * mask_key.h
 *	  The keys of the masking functions, as these use them.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_MASK_KEY_H
#define JANITOR_MASK_KEY_H

#include "compat.h"

#include "digest.h"

typedef struct JanitorMaskKey JanitorMaskKey;

/*
 * The key of this name, which the current user may use; error if it is not
 * there, forgotten, lost or not for this user.  To be used at once: whatever
 * takes a lock or reads a catalog may wipe it, detoasting included.
 */
extern JanitorMaskKey *janitor_mask_key(const text *name);

/*
 * HMAC-SHA-256, with the key's secret, of one byte that says what the result
 * is for, and the data.
 */
extern void janitor_mask_digest(JanitorMaskKey *key, char purpose,
								const void *data, size_t length,
								uint8 *digest);

/*
 * Writes a tag of some bytes (at most 8) for some bytes of data (at most 31):
 * nobody without the secret can tell which tag belongs to which data.
 */
extern void janitor_mask_tag(const JanitorMaskKey *key, char purpose,
							 const uint8 *data, size_t length,
							 uint8 *tag, size_t tag_length);

#endif							/* JANITOR_MASK_KEY_H */
