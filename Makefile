# tenantcall: build, test and demo.  The version stands in tenantcall.control alone.
#
#   make            build                       make install     install into the server of PG_CONFIG
#   make demo       the main job, end to end    make test        every test
#   make check-unit unit tests under sanitizers make matrix      build and test on 15, 17 and 18
#   make fuzz       fuzzers, FUZZ_SECONDS each
#   make format     clang-format                make lint        static checks
#   make bench      the budgets, side by side   make clean
#   make bench-publish  longer: plots and figures for README.md
#   make release-script keeps the install script of this version, for the tests of updates
#   make installcheck   against a running server       make uninstall
#   make dist       the archives of a release, from git's HEAD, in build/dist
#   make deb        Debian packages of the sources as they stand, in build/deb; tested as installed
#   make help       this text
#
# Options: PG_CONFIG=/path/to/pg_config, CC=clang, with_llvm=no (no bitcode), WERROR= (warnings are
# no errors; so by default outside of a git work tree), with_phonenumber=yes, with_http=yes (or no).
# A build elsewhere: make -f /path/to/tenantcall/Makefile, in an empty directory.

# The last line of make test is its summary, also when another make called it.
MAKEFLAGS += --no-print-directory

# Where the sources are: "." unless the build is made in another directory.
TOP := $(patsubst %/,%,$(dir $(firstword $(MAKEFILE_LIST))))

EXTENSION = tenantcall
CONTROL = $(TOP)/tenantcall.control
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" $(CONTROL))
MODULE_big = tenantcall
OBJS = $(patsubst $(TOP)/%.c,%.o,$(sort $(wildcard $(TOP)/src/*.c)))
TC_HEADERS = $(wildcard $(TOP)/src/*.h)

SQL_PARTS = $(sort $(wildcard $(TOP)/sql/[0-9][0-9]_*.sql))
SQL_BUILT = sql/tenantcall--$(EXTVERSION).sql
DATA_built = $(SQL_BUILT)

# From older versions: sql/update/tenantcall--OLD--NEW.sql.  test_update.py holds them against fresh
# installations, from each script in sql/released: make release-script keeps the present one there.
DATA = $(patsubst $(TOP)/%,%,$(sort $(wildcard $(TOP)/sql/update/tenantcall--*--*.sql)))

PG_CONFIG ?= pg_config
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))

# The server's headers count as system headers: every warning in our own code is then an error, for
# those who work on it.  Parameters may stay unused, since callbacks and fmgr functions have fixed
# signatures.  The server's own flags and attributes may be gcc's, which clang does not know.
WERROR ?= $(if $(wildcard $(TOP)/.git),-Werror)
WARNINGS = -Wall -Wextra -Wno-unused-parameter $(WERROR) \
	$(if $(findstring clang,$(CC)),-Wno-ignored-optimization-argument \
	-Wno-ignored-attributes -Wno-unknown-warning-option)
PG_CPPFLAGS = -isystem $(shell $(PG_CONFIG) --includedir-server) -I$(TOP)/src \
	-DTENANTCALL_VERSION='"$(EXTVERSION)"'
PG_CFLAGS = -std=gnu11 $(WARNINGS)

# make installcheck, against a running server that preloads tenantcall; make test needs none.
REGRESS = setup $(filter-out setup,$(sort $(basename $(notdir $(wildcard $(TOP)/test/sql/*.sql)))))
REGRESS_OPTS = --inputdir=$(TOP)/test
ISOLATION = isolation_setup $(filter-out isolation_setup,\
	$(sort $(basename $(notdir $(wildcard $(TOP)/test/specs/*.spec)))))
ISOLATION_OPTS = --inputdir=$(TOP)/test --outputdir=. --load-extension=tenantcall

# The two libraries beside tenantcall.so see no server headers.  They are compiled and linked with
# the server's flags, and with what the caller wants hardened (dpkg-buildflags, for one).
CALLERS_CPPFLAGS := $(CPPFLAGS)
LIB_CPPFLAGS = $(or $(CALLERS_CPPFLAGS),$(filter -D_FORTIFY_SOURCE=%,$(CPPFLAGS)))
LIB_LDFLAGS = -shared -Wl,-z,relro -Wl,-z,now $(LDFLAGS)

# libphonenumber, wrapped in a library of its own that is loaded when a number needs it.  Where its
# headers are missing it is left out, and such numbers are refused: with_phonenumber=yes insists.
PHONE_LIB = tenantcall_phone.so
PHONE_OBJS = src/phone_lib/magic.o src/phone_lib/tenantcall_phone.o
PHONE_CXX = $(if $(findstring clang,$(CC)),$(patsubst %clang,%clang++,$(firstword $(CC))),$(CXX))
PHONE_CXXFLAGS = -O2 -g -fstack-protector-strong $(CXXFLAGS) $(COPT) -std=c++17 -fPIC \
	-fvisibility=hidden -fvisibility-inlines-hidden $(WARNINGS) $(LIB_CPPFLAGS) \
	-I$(TOP)/src/phone_lib -DTENANTCALL_VERSION='"$(EXTVERSION)"'
with_phonenumber ?= $(if $(shell printf '#include <phonenumbers/phonenumberutil.h>' | \
	$(PHONE_CXX) -M -x c++ - 2>/dev/null),yes,no)

# libcurl, wrapped likewise: the HTTP worker alone loads it.  with_http=yes insists, as above.
HTTP_LIB = tenantcall_http.so
HTTP_OBJS = src/http_lib/magic.o src/http_lib/http_curl.o src/http_lib/http_curl_request.o
HTTP_CFLAGS = -O2 -g -fstack-protector-strong $(CFLAGS) -fPIC -fvisibility=hidden $(LIB_CPPFLAGS) \
	-I$(TOP)/src/http_lib -DTENANTCALL_VERSION='"$(EXTVERSION)"'
with_http ?= $(if $(shell printf '#include <curl/curl.h>\n\#include <sys/epoll.h>' | \
	$(firstword $(CC)) -M -x c - 2>/dev/null),yes,no)

EXTRA_CLEAN = $(BUILD_LINK) $(SQL_BUILT) $(PHONE_LIB) $(PHONE_OBJS) $(HTTP_LIB) $(HTTP_OBJS) build results output_iso tmp_check test/unit/bin test/fuzz/bin

# A compiler named on the command line reaches the builds inside of the tests.
TEST_ENV = PG_CONFIG='$(PG_CONFIG)' TC_CC='$(if $(filter command environment,$(origin CC)),$(CC))'
UNIT_CC := $(if $(filter command environment,$(origin CC)),$(CC),gcc)

# These goals bring what they need with them, the server's headers included.
FREE_GOALS = test demo bench bench-publish fuzz matrix check-unit format lint clean distclean META.json unit-programs \
	help dist deb \
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

.PHONY: test demo bench bench-publish fuzz matrix check-unit format lint help dist deb

# A build elsewhere has the same directories; pg_regress looks for expected output where it runs.
ifneq ($(TOP),.)
ifneq ($(PGXS),)
$(shell mkdir -p src/phone_lib src/http_lib sql)
BUILD_LINK = $(CURDIR)/expected
$(BUILD_LINK):
	ln -s $(TOP)/expected $@
installcheck: | $(BUILD_LINK)
endif
endif

# Objects are rebuilt when the server or the compiler is another than last time.
BUILD_STAMP = build/for
BUILD_FOR = $(VERSION) $(CC) $(CFLAGS) $(LIB_CPPFLAGS)
ifneq ($(PGXS),)
ifneq ($(shell cat $(BUILD_STAMP) 2>/dev/null),$(strip $(BUILD_FOR)))
$(shell mkdir -p build && echo '$(strip $(BUILD_FOR))' > $(BUILD_STAMP))
endif
$(OBJS): $(TC_HEADERS) $(BUILD_STAMP) $(TOP)/Makefile $(CONTROL)
$(OBJS:.o=.bc): $(TC_HEADERS) $(BUILD_STAMP) $(TOP)/Makefile $(CONTROL)
endif

ifneq ($(PGXS),)
$(PHONE_OBJS): $(TOP)/src/phone_lib/phone_lib.h $(BUILD_STAMP) $(TOP)/Makefile $(CONTROL)

src/phone_lib/tenantcall_phone.o: $(TOP)/src/phone_lib/tenantcall_phone.cc
	$(PHONE_CXX) $(PHONE_CXXFLAGS) -c $< -o $@

$(PHONE_LIB): $(PHONE_OBJS) $(TOP)/src/phone_lib/exports.map
	$(PHONE_CXX) -o $@ $(PHONE_OBJS) $(LIB_LDFLAGS) \
		-Wl,--version-script=$(TOP)/src/phone_lib/exports.map -lphonenumber

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

$(HTTP_OBJS): $(wildcard $(TOP)/src/http_lib/*.h) $(BUILD_STAMP) $(TOP)/Makefile $(CONTROL)

$(filter-out %/magic.o,$(HTTP_OBJS)): %.o: $(TOP)/%.c
	$(CC) $(HTTP_CFLAGS) -c $< -o $@

$(HTTP_LIB): $(HTTP_OBJS) $(TOP)/src/http_lib/exports.map
	$(CC) -o $@ $(HTTP_OBJS) $(LIB_LDFLAGS) \
		-Wl,--version-script=$(TOP)/src/http_lib/exports.map -lcurl

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

$(SQL_BUILT): $(SQL_PARTS) $(CONTROL)
	@{ printf '%s\n' '\echo Use "CREATE EXTENSION tenantcall" to load this file. \quit'; \
	   cat $(SQL_PARTS); } > $@

# PGXN wants the version in its own file: it is copied there from the control file.
META.json: tenantcall.control
	sed -i '/meta-spec/,$$!s/"version": *"[^"]*"/"version": "$(EXTVERSION)"/' $@

# At a release, once and for all.
.PHONY: release-script
release-script: $(SQL_BUILT)
	@mkdir -p $(TOP)/sql/released
	@test ! -e $(TOP)/sql/released/$(notdir $(SQL_BUILT)) || \
		{ echo "version $(EXTVERSION) was released before" >&2; false; }
	cp $(SQL_BUILT) $(TOP)/sql/released/

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' $(TOP)/Makefile

# PGXN takes the zip file.
DIST = $(EXTENSION)-$(EXTVERSION)
DIST_DIR = build/dist
dist:
	@mkdir -p $(DIST_DIR)
	git archive --prefix=$(DIST)/ -o $(DIST_DIR)/$(DIST).zip HEAD
	git archive --prefix=$(DIST)/ -o $(DIST_DIR)/$(DIST).tar.gz HEAD

deb:
	@$(TEST_ENV) test/setup/packages deb
	@test/deb

test:
	@$(TEST_ENV) test/setup/packages clients
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
	-Wno-unknown-warning-option -Wno-format-truncation
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
