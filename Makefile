# pg_janitor: built with PGXS against the server that PG_CONFIG belongs to.
#
#   make, make install     as for any extension
#   make installcheck      against a running server with pg_janitor preloaded
#   make test              everything, in a throwaway copy and cluster; as root
#                          it installs what is missing (SUITES="unit tap" selects)
#   make check-regress     one suite: check-unit, -regress, -isolation, -tap
#   make test-matrix       the same on PostgreSQL 15, 17 and 18 (and 16, where
#                          PG_CONFIG_16 names one); MAJORS="17 18" selects
#   make check-undefined   the same, and behaviour that is not defined is a crash
#   make check-valgrind check-discard-caches
#                          the regression tests on a server built for it, under
#                          Valgrind, or discarding its caches at every chance
#   make torture           kill everything 200 times, then check what is left
#                          (minutes; TORTURE="--seed 7 --kills 400")
#   make soak              500 runs a second for half an hour: nothing may grow
#                          (SOAK="--rate 500 --seconds 300 --rounds 6")
#   make fuzz              SQL functions with random arguments, for ten minutes
#                          (FUZZ="--seed 7 --seconds 3600")
#   make fuzz-inputs       what reads text, by libFuzzer, a minute for each target
#                          (FUZZ_INPUTS="600 masks rule")
#   make demo              see it run
#   make ci                what has to pass before a change goes in
#   make indent typedefs   rewrite the sources' layout, the list it depends on
#   make tmp_install       a private copy of the server with pg_janitor in it
#   make dist              an archive of the last commit; check-dist tries it
#   make check-deb         builds, installs, tries and removes Debian packages

MODULE_big = pg_janitor
PGFILEDESC = "pg_janitor - cleanup jobs inside the database"
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))

EXTENSION = pg_janitor
DATA = $(sort $(wildcard sql/pg_janitor--*.sql))

# Every sql/*.sql that is not an install or upgrade script is a regression
# test, run in the order of the names.  REGRESS="one another" on the command
# line selects; the same for ISOLATION and, as in PGXS, PROVE_TESTS.
REGRESS = $(filter-out pg_janitor--%,$(patsubst sql/%.sql,%,$(sort $(wildcard sql/*.sql))))
ISOLATION = $(patsubst t/isolation/specs/%.spec,%,$(sort $(wildcard t/isolation/specs/*.spec)))
ifneq ($(wildcard t/*.pl),)
TAP_TESTS = 1
endif

# From 16 on expected files are no longer looked for below inputdir.
ISOLATION_OPTS = --inputdir=$(srcdir)/t/isolation \
	$(if $(filter-out 15,$(MAJORVERSION)),--expecteddir=$(srcdir)/t/isolation)

PG_CONFIG ?= pg_config
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))

# The server's headers as system headers: their warnings are not ours.
# Unused parameters are the rule in callbacks, sentinel rows of tables give the
# first field only, and lengthof() compared with an int is the server's idiom.
PG_CPPFLAGS = -isystem $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers

EXTRA_CLEAN = tmp_install .built-for

ifneq ($(PGXS),)
# No bitcode: it would need the very clang the server was built with.
override with_llvm = no
include $(PGXS)
else
all install installcheck:
	@echo 'pg_janitor needs the development files of a PostgreSQL server:' >&2
	@echo 'install postgresql-server-dev-NN, or say PG_CONFIG=/path/to/pg_config' >&2
	@exit 1
clean:
	rm -rf src/*.o $(MODULE_big).so $(EXTRA_CLEAN)
endif

# Any header may concern any object.  .built-for changes when the server
# built against or the flags do: objects for two majors do not mix.
$(OBJS): $(wildcard src/*.h) .built-for

.built-for: FORCE
	@echo '$(VERSION) $(CC) $(CPPFLAGS) $(CFLAGS)' | cmp -s - $@ || \
	echo '$(VERSION) $(CC) $(CPPFLAGS) $(CFLAGS)' >$@

clean: clean-unit
clean-unit:
	@if [ -f t/unit/Makefile ]; then $(MAKE) -s -C t/unit clean; fi

# Tests.  The harness stages and builds everything by itself, hence nothing
# of the above is a prerequisite: this works on a machine with make alone.
SUITES = unit regress isolation tap
FUZZ_INPUTS = 60
FUZZ = --seed $(shell date +%s) --seconds 600
SUITES_ENV = PG_CONFIG='$(PG_CONFIG)' REGRESS='$(REGRESS)' \
	ISOLATION='$(ISOLATION)' PROVE_TESTS='$(PROVE_TESTS)'
RUN_SUITES = $(SUITES_ENV) bash t/harness/run

test:
	@$(RUN_SUITES) $(SUITES)

test-matrix:
	@$(SUITES_ENV) SUITES='$(SUITES)' bash t/harness/matrix $(MAJORS)

check-unit check-regress check-isolation check-tap: check-%:
	@$(RUN_SUITES) $*

# Rarer ways to run them: see t/README.md.
check-undefined:
	@$(SUITES_ENV) JANITOR_CHECK=undefined JANITOR_SUITE_TIMEOUT=3600 \
		bash t/harness/run $(SUITES)

# On a server built from source.  What counts tenths of a second is not for one
# that is thirty times slower.
check-valgrind: REGRESS := $(filter-out rate_limit rearm,$(REGRESS))
check-valgrind check-discard-caches: check-%:
	@$(SUITES_ENV) JANITOR_CHECK=$* JANITOR_SUITE_TIMEOUT=36000 \
		PG_TEST_TIMEOUT_DEFAULT=3600 SUITES=regress \
		bash t/harness/matrix 18

torture:
	@PG_CONFIG='$(PG_CONFIG)' JANITOR_SUITE_TIMEOUT=3600 PROVE_FLAGS=-v \
		PROVE_TESTS='t/torture/full.pl :: $(TORTURE)' bash t/harness/run tap

soak:
	@PG_CONFIG='$(PG_CONFIG)' JANITOR_SUITE_TIMEOUT=36000 \
		PROVE_TESTS='t/torture/soak.pl :: $(SOAK)' bash t/harness/run tap

fuzz:
	@PG_CONFIG='$(PG_CONFIG)' JANITOR_SUITE_TIMEOUT=36000 PROVE_FLAGS=-v \
		PROVE_TESTS='t/043_fuzz.pl :: $(FUZZ)' bash t/harness/run tap

fuzz-inputs:
	@PG_CONFIG='$(PG_CONFIG)' t/fuzz/inputs/run $(FUZZ_INPUTS)

demo:
	@PG_CONFIG='$(PG_CONFIG)' bash examples/demo/run.sh

ci:
	@PG_CONFIG='$(PG_CONFIG)' bash .ci/run

indent:
	.ci/indent --write

typedefs:
	PG_CONFIG='$(PG_CONFIG)' .ci/typedefs --write

tmp_install: all
	bash t/harness/prefix $(PG_CONFIG) $(CURDIR)/tmp_install
	$(MAKE) -s install DESTDIR=$(CURDIR)/tmp_install
	@echo 'installed into tmp_install$(bindir)'

# For PGXN a zip, for others a tar: of what is committed, under one name.
DIST = pg_janitor-$(shell sed -n 's/^   "version": "\(.*\)",$$/\1/p' META.json)

dist:
	git archive --prefix=$(notdir $(DIST))/ -o $(DIST).tar.gz HEAD
	git archive --prefix=$(notdir $(DIST))/ -o $(DIST).zip HEAD

check-dist check-deb: check-%:
	@PG_CONFIG='$(PG_CONFIG)' bash t/harness/package $*

.PHONY: FORCE dist check-dist check-deb test test-matrix check-unit check-regress check-isolation check-tap \
	check-undefined check-valgrind check-discard-caches torture soak fuzz fuzz-inputs \
	demo ci indent typedefs tmp_install clean-unit
