# tenantcall: build, test and demo.  The version stands in tenantcall.control alone.
#
#   make            build                       make install     install into the server of PG_CONFIG
#   make demo       the main job, end to end    make test        every test
#   make check-unit unit tests under sanitizers make matrix      build and test on 15, 17 and 18
#   make format     clang-format                make lint        static checks
#   make bench      the budgets, side by side   make clean

EXTENSION = tenantcall
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" tenantcall.control)
MODULE_big = tenantcall
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))
TC_HEADERS = $(wildcard src/*.h)

SQL_PARTS = $(sort $(wildcard sql/[0-9][0-9]_*.sql))
SQL_BUILT = sql/tenantcall--$(EXTVERSION).sql
DATA_built = $(SQL_BUILT)

PG_CPPFLAGS = -Isrc -DTENANTCALL_VERSION='"$(EXTVERSION)"'
PG_CFLAGS = -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-cast-function-type
EXTRA_CLEAN = $(SQL_BUILT) build results output_iso tmp_check test/unit/bin test/fuzz/bin

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

# Targets that must work before the server's headers are there: they install what is missing first.
NO_PGXS_GOALS = demo test check-unit matrix format lint bench fuzz
ifneq ($(PGXS),)
include $(PGXS)
endif

$(OBJS): $(TC_HEADERS) tenantcall.control

$(SQL_BUILT): $(SQL_PARTS) tenantcall.control
	@{ echo '\echo Use "CREATE EXTENSION tenantcall" to load this file. \quit'; \
	   cat $(SQL_PARTS); } > $@

