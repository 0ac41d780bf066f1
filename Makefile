# tenantcall: build, test and demo.  The version stands in tenantcall.control alone.
#
#   make            build                       make install     install into the server of PG_CONFIG
#   make demo       the main job, end to end    make test        every test
#   make check-unit unit tests under sanitizers make matrix      build and test on 15, 17 and 18
#   make fuzz       fuzzers, FUZZ_SECONDS each
#   make format     clang-format                make lint        static checks
#   make bench      the budgets, side by side   make clean
#   make bench-publish  longer: plots and figures for README.md
#
# Options: PG_CONFIG=/path/to/pg_config, CC=clang, with_llvm=no (no bitcode).

# The last line of make test is its summary, also when another make called it.
MAKEFLAGS += --no-print-directory

EXTENSION = tenantcall
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" tenantcall.control)
MODULE_big = tenantcall
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))
TC_HEADERS = $(wildcard src/*.h)

SQL_PARTS = $(sort $(wildcard sql/[0-9][0-9]_*.sql))
SQL_BUILT = sql/tenantcall--$(EXTVERSION).sql
DATA_built = $(SQL_BUILT)

PG_CONFIG ?= pg_config
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))

# The server's headers count as system headers: every warning in our own code is then an error.
# Parameters may stay unused, since callbacks and fmgr functions have fixed signatures.
PG_CPPFLAGS = -isystem $(shell $(PG_CONFIG) --includedir-server) -Isrc \
	-DTENANTCALL_VERSION='"$(EXTVERSION)"'
# The server's own flags and attributes may be gcc's, which clang does not know.
PG_CFLAGS = -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter \
	$(if $(findstring clang,$(CC)),-Wno-ignored-optimization-argument \
	-Wno-ignored-attributes -Wno-unknown-warning-option)

# make installcheck, against a running server that preloads tenantcall; make test needs none.
REGRESS = setup $(filter-out setup,$(sort $(basename $(notdir $(wildcard test/sql/*.sql)))))
REGRESS_OPTS = --inputdir=test
ISOLATION = $(sort $(basename $(notdir $(wildcard test/specs/*.spec))))
ISOLATION_OPTS = --inputdir=test --outputdir=. --load-extension=tenantcall

# libphonenumber, wrapped in a library of its own that is loaded when a number needs it.  Where its
# headers are missing it is left out, and such numbers are refused: with_phonenumber=yes insists.
PHONE_LIB = tenantcall_phone.so
PHONE_OBJS = src/phone_lib/magic.o src/phone_lib/tenantcall_phone.o
PHONE_CXX = $(if $(findstring clang,$(CC)),$(patsubst %clang,%clang++,$(firstword $(CC))),$(CXX))
PHONE_CXXFLAGS = -std=c++17 -O2 -g -fPIC -fvisibility=hidden -fvisibility-inlines-hidden \
	-fstack-protector-strong -Wall -Wextra -Werror -Isrc/phone_lib \
	-DTENANTCALL_VERSION='"$(EXTVERSION)"' $(COPT)
with_phonenumber ?= $(if $(shell printf '#include <phonenumbers/phonenumberutil.h>' | \
	$(PHONE_CXX) -M -x c++ - 2>/dev/null),yes,no)

# libcurl, wrapped likewise: the HTTP worker alone loads it.  with_http=yes insists, as above.
HTTP_LIB = tenantcall_http.so
HTTP_OBJS = src/http_lib/magic.o src/http_lib/http_curl.o src/http_lib/http_curl_request.o
HTTP_CFLAGS = -std=gnu11 -O2 -g -fPIC -fvisibility=hidden -fstack-protector-strong -Wall -Wextra \
	-Werror -Wno-unused-parameter -Isrc/http_lib -DTENANTCALL_VERSION='"$(EXTVERSION)"' $(COPT)
with_http ?= $(if $(shell printf '#include <curl/curl.h>\n\#include <sys/epoll.h>' | \
	$(firstword $(CC)) -M -x c - 2>/dev/null),yes,no)

EXTRA_CLEAN = $(SQL_BUILT) $(PHONE_LIB) $(PHONE_OBJS) $(HTTP_LIB) $(HTTP_OBJS) build results output_iso tmp_check test/unit/bin test/fuzz/bin

# A compiler named on the command line reaches the builds inside of the tests.
TEST_ENV = PG_CONFIG='$(PG_CONFIG)' TC_CC='$(if $(filter command environment,$(origin CC)),$(CC))'
UNIT_CC := $(if $(filter command environment,$(origin CC)),$(CC),gcc)

# These goals bring what they need with them, the server's headers included.
FREE_GOALS = test demo bench bench-publish fuzz matrix check-unit format lint clean distclean META.json unit-programs \
	test/unit/%

ifneq ($(PGXS),)
include $(PGXS)
else
ifneq ($(filter-out $(FREE_GOALS),$(or $(MAKECMDGOALS),all)),)
$(error no PostgreSQL server headers found by "$(PG_CONFIG) --pgxs": install postgresql-server-dev-<version> (on Debian, test/setup/packages does), or name another server with PG_CONFIG=...)
endif
clean:
	rm -rf $(EXTRA_CLEAN) src/*.o src/*.bc tenantcall.so
endif

.PHONY: test demo bench bench-publish fuzz matrix check-unit format lint

# Objects are rebuilt when the server or the compiler is another than last time.
BUILD_STAMP = build/for
BUILD_FOR = $(VERSION) $(CC) $(CFLAGS)
ifneq ($(PGXS),)
ifneq ($(shell cat $(BUILD_STAMP) 2>/dev/null),$(strip $(BUILD_FOR)))
$(shell mkdir -p build && echo '$(strip $(BUILD_FOR))' > $(BUILD_STAMP))
endif
$(OBJS): $(TC_HEADERS) $(BUILD_STAMP) Makefile tenantcall.control
$(OBJS:.o=.bc): $(TC_HEADERS) $(BUILD_STAMP) Makefile tenantcall.control
endif

ifneq ($(PGXS),)
$(PHONE_OBJS): src/phone_lib/phone_lib.h $(BUILD_STAMP) Makefile tenantcall.control

src/phone_lib/tenantcall_phone.o: src/phone_lib/tenantcall_phone.cc
	$(PHONE_CXX) $(PHONE_CXXFLAGS) -c $< -o $@

$(PHONE_LIB): $(PHONE_OBJS) src/phone_lib/exports.map
	$(PHONE_CXX) -shared -o $@ $(PHONE_OBJS) -Wl,--version-script=src/phone_lib/exports.map \
		-Wl,-z,relro -Wl,-z,now $(COPT) -lphonenumber

.PHONY: phone-lib install-phone-lib uninstall-phone-lib
ifeq ($(with_phonenumber),yes)
phone-lib: $(PHONE_LIB)

install-phone-lib: $(PHONE_LIB) | installdirs
	$(INSTALL_SHLIB) $(PHONE_LIB) '$(DESTDIR)$(pkglibdir)/$(PHONE_LIB)'
else
phone-lib install-phone-lib:
	@echo "tenantcall: without $(PHONE_LIB), since libphonenumber-dev (and g++) is not installed"
endif
all: phone-lib
install: install-phone-lib

uninstall-phone-lib:
	rm -f '$(DESTDIR)$(pkglibdir)/$(PHONE_LIB)'
uninstall: uninstall-phone-lib

$(HTTP_OBJS): $(wildcard src/http_lib/*.h) $(BUILD_STAMP) Makefile tenantcall.control

$(filter-out %/magic.o,$(HTTP_OBJS)): %.o: %.c
	$(CC) $(HTTP_CFLAGS) -c $< -o $@

$(HTTP_LIB): $(HTTP_OBJS) src/http_lib/exports.map
	$(CC) -shared -o $@ $(HTTP_OBJS) -Wl,--version-script=src/http_lib/exports.map \
		-Wl,-z,relro -Wl,-z,now $(COPT) -lcurl

.PHONY: http-lib install-http-lib uninstall-http-lib
ifeq ($(with_http),yes)
http-lib: $(HTTP_LIB)

install-http-lib: $(HTTP_LIB) | installdirs
	$(INSTALL_SHLIB) $(HTTP_LIB) '$(DESTDIR)$(pkglibdir)/$(HTTP_LIB)'
else
http-lib install-http-lib:
	@echo "tenantcall: without $(HTTP_LIB), since libcurl4-openssl-dev is not installed"
endif
all: http-lib
install: install-http-lib

uninstall-http-lib:
	rm -f '$(DESTDIR)$(pkglibdir)/$(HTTP_LIB)'
uninstall: uninstall-http-lib
endif

$(SQL_BUILT): $(SQL_PARTS) tenantcall.control
	@{ printf '%s\n' '\echo Use "CREATE EXTENSION tenantcall" to load this file. \quit'; \
	   cat $(SQL_PARTS); } > $@

# PGXN wants the version in its own file: it is copied there from the control file.
META.json: tenantcall.control
	sed -i '/meta-spec/,$$!s/"version": *"[^"]*"/"version": "$(EXTVERSION)"/' $@

test:
	@$(TEST_ENV) test/setup/packages
	@$(TEST_ENV) test/run

demo:
	@$(TEST_ENV) test/setup/packages
	@$(TEST_ENV) test/demo/run

bench:
	@$(TEST_ENV) test/setup/packages bench
	@$(TEST_ENV) test/bench/run

# Of each fuzzer; a minute for all of them together is part of make test.
FUZZ_SECONDS ?= 600
fuzz:
	@test/fuzz/run $(FUZZ_SECONDS)

# Longer; writes the plots in docs and the section "Measured" of README.md.
bench-publish:
	@$(TEST_ENV) test/setup/packages bench
	@$(TEST_ENV) test/bench/curves.py --publish

matrix:
	@test/matrix

format:
	@clang-format -i src/*.[ch] src/phone_lib/*.h src/phone_lib/*.c src/phone_lib/*.cc \
		src/http_lib/*.[ch] test/unit/*.[ch]

lint:
	@$(TEST_ENV) test/lint

# Unit tests: the pure cores alone, with no server, under AddressSanitizer and UBSan.
UNIT_CFLAGS = -std=gnu11 -g -O1 -Wall -Wextra -Werror -Isrc -Itest/unit -fno-omit-frame-pointer \
	-fsanitize=address,undefined -fno-sanitize-recover=all \
	-Wno-unknown-warning-option -Wno-format-truncation $(COPT)
UNIT_DIR = test/unit/bin
UNIT_TESTS = $(patsubst test/unit/%.c,$(UNIT_DIR)/%,$(sort $(wildcard test/unit/test_*.c)))
UNIT_CORES = $(patsubst src/%.c,$(UNIT_DIR)/%.o,$(sort $(wildcard src/*_core.c)))

$(UNIT_DIR):
	@mkdir -p $@

$(UNIT_CORES): $(UNIT_DIR)/%.o: src/%.c $(TC_HEADERS) Makefile | $(UNIT_DIR)
	$(UNIT_CC) $(UNIT_CFLAGS) -c $< -o $@

$(UNIT_TESTS): $(UNIT_DIR)/%: test/unit/%.c $(wildcard test/unit/*.h) $(UNIT_CORES) $(TC_HEADERS)
	$(UNIT_CC) $(UNIT_CFLAGS) $< $(UNIT_CORES) -o $@

.PHONY: unit-programs
unit-programs: $(UNIT_TESTS)

check-unit: unit-programs
	@$(TEST_ENV) test/run --only unit
