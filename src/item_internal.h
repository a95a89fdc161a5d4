/*-------------------------------------------------------------------------
 *
 * item_internal.h
 *	  What item.c and item_sql.c share.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_ITEM_INTERNAL_H
#define JANITOR_ITEM_INTERNAL_H

#include "item.h"

#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"

/*
 * Writes the statements; `tables`: what is locked, as range table indexes;
 * due NULL: the query has no such column.
 */
extern void janitor_items_write_out(JanitorItemsQuery *result,
									const Query *query,
									const TargetEntry *key,
									const TargetEntry *due, List *tables);

#endif							/* JANITOR_ITEM_INTERNAL_H */
