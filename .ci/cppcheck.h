/*
 * The server's macros that change the syntax of what uses them, as cppcheck
 * has to see them; it reads our sources without the server's headers.
 */
#define PG_VERSION_NUM 150000
#define FLEXIBLE_ARRAY_MEMBER
#define INT64_FORMAT "%ld"
#define UINT64_FORMAT "%lu"
#define INT64_MODIFIER "l"

#define PGDLLEXPORT
#define PGDLLIMPORT
#define pg_attribute_printf(a, b)
#define pg_attribute_noreturn() __attribute__((noreturn))
#define pg_noreturn __attribute__((noreturn))
#define PG_MODULE_MAGIC
#define JANITOR_MODULE_MAGIC
#define PG_FUNCTION_INFO_V1(name) extern int name##_info
#define PG_FUNCTION_ARGS FunctionCallInfo fcinfo
#define SIGNAL_ARGS int signal_number

#define PG_TRY() if (try_it()) {
#define PG_CATCH() } else {
#define PG_FINALLY() } {
#define PG_END_TRY() }
#define PG_RE_THROW() abort()

/* these do not return at ERROR */
#define ERROR 21
#define FATAL 22
#define PANIC 23
#define ereport(level, ...) do { if ((level) >= ERROR) abort(); } while (0)
#define elog(level, ...) do { if ((level) >= ERROR) abort(); } while (0)

#define foreach(cell, list) \
	for (cell = list_head(list); cell; cell = lnext(list, cell))
#define forboth(c1, l1, c2, l2) \
	for (c1 = list_head(l1), c2 = list_head(l2); c1 && c2; \
		 c1 = lnext(l1, c1), c2 = lnext(l2, c2))
#define slist_foreach(lhead, iter) while (step(&iter))
#define dlist_foreach(iter, lhead) while (step(&iter))
#define dlist_foreach_modify(iter, lhead) while (step(&iter))
