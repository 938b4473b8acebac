# fathom.  make [CC=…] [BUILD=dir] [SAN=1] [WERROR=1]; targets: all check quick bench fuzz lint format install clean
ifeq ($(origin CC),default)
CC      := gcc
endif
BUILD   ?= build
PREFIX  ?= /usr/local
VERSION := 0.1.0
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

PKGS    := jansson libpcre2-8 libutf8proc libedit libzstd libmicrohttpd
PKGCF   := $(shell pkg-config --cflags $(PKGS))
PKGLIB  := $(shell pkg-config --libs $(PKGS)) -lm -lpthread

# the hub needs libcurl and libcrypto; without them (or with WITH_CURL=) its commands say so
HUBPKGS := libcurl libcrypto
WITH_CURL ?= $(shell pkg-config --exists $(HUBPKGS) && echo 1)
HUBLIB  := $(if $(WITH_CURL),$(shell pkg-config --libs $(HUBPKGS)))

# no -march=native, no -ffast-math; a*b+c is fused only where the source says fma
CFLAGS  ?= -O2 -g
FM_CF   := -std=c11 -D_GNU_SOURCE -ffp-contract=off -fno-math-errno -fvisibility=hidden \
           -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wno-psabi $(if $(WERROR),-Werror) -Iinclude -Isrc $(PKGCF) -MMD -MP
ifdef SAN
FM_CF   += -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1
LDFLAGS += -fsanitize=address,undefined
endif

# instruction set flags by file name suffix: only kernel/ may use them
ISA_avx2 := -mavx2 -mfma -mf16c
ISA_avx512 := $(ISA_avx2) -mavx512f -mavx512bw -mavx512vl -mavx512vnni
ISA_dotprod := -march=armv8.2-a+dotprod
ISA_i8mm := $(ISA_dotprod)+i8mm
isa_flags = $(if $(filter %_avx2.c,$1),$(ISA_avx2))$(if $(filter %_avx512.c,$1),$(ISA_avx512))$(if $(filter %_dotprod.c,$1),$(ISA_dotprod))$(if $(filter %_i8mm.c,$1),$(ISA_i8mm))

LIB_SRC := $(sort $(wildcard src/base/*.c src/quant/*.c src/kernel/*.c src/kernel/scalar/*.c src/file/*.c \
             src/op/*.c src/op/ref/*.c src/op/cpu/*.c src/nn/*.c src/model/*.c src/text/*.c src/run/*.c src/train/*.c src/server/*.c))
ifneq ($(filter x86_64 i686,$(shell $(CC) -dumpmachine | cut -d- -f1)),)
LIB_SRC += $(sort $(wildcard src/kernel/x86/*.c))
endif
ifneq ($(filter aarch64,$(shell $(CC) -dumpmachine | cut -d- -f1)),)
LIB_SRC += $(sort $(wildcard src/kernel/arm/*.c))
endif
CLI_SRC := $(sort $(wildcard src/cli/*.c))
HUB_NET := $(addprefix src/hub/,check_blob.c fetch.c hash.c http.c partial.c pull.c)
HUB_SRC := $(filter-out $(if $(WITH_CURL),src/hub/no_network.c,$(HUB_NET)),$(sort $(wildcard src/hub/*.c)))
HUB_OBJ := $(HUB_SRC:%.c=$(BUILD)/%.o)
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/%.o)
CLI_OBJ := $(CLI_SRC:%.c=$(BUILD)/%.o)
TESTS   := $(patsubst tests/%.c,$(BUILD)/tests/%,$(sort $(wildcard tests/check_*.c tests/test_*.c)))

# the layers once more, in double over the reference ops: the referee of every gradient (tests/check_grad.c)
F64_SRC := $(sort $(wildcard src/nn/*.c src/op/ref/*.c src/op/*.c) \
             $(filter-out src/model/recode.c src/model/recipe.c src/model/tensor_list.c src/model/bind.c src/model/convert.c src/model/count.c src/model/config.c,$(wildcard src/model/*.c)))
F64_OBJ := $(F64_SRC:%.c=$(BUILD)/f64/%.o)

all: $(BUILD)/fathom $(BUILD)/libfathom.a

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(FM_CF) $(CFLAGS) $(call isa_flags,$<) -DFM_VERSION='"$(VERSION)"' -c $< -o $@

$(BUILD)/f64/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(FM_CF) $(CFLAGS) -DFM_REAL_DOUBLE -c $< -o $@

# the commit is compiled into one small file, so that a new commit rebuilds only that
$(BUILD)/commit.h: FORCE
	@mkdir -p $(@D)
	@echo '#define FM_COMMIT "$(COMMIT)"' | cmp -s - $@ || echo '#define FM_COMMIT "$(COMMIT)"' > $@
$(BUILD)/src/cli/cmd_version.o: FM_CF += -I$(BUILD)
$(BUILD)/src/cli/cmd_version.o: $(BUILD)/commit.h

$(BUILD)/libfathom.a: $(LIB_OBJ)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/fathom: $(CLI_OBJ) $(HUB_OBJ) $(BUILD)/libfathom.a
	$(CC) $(LDFLAGS) $^ $(HUBLIB) $(PKGLIB) -o $@

$(BUILD)/tests/check_grad: tests/check_grad.c $(F64_OBJ) $(BUILD)/libfathom.a
	@mkdir -p $(@D)
	$(CC) $(FM_CF) $(CFLAGS) -DFM_REAL_DOUBLE $< $(F64_OBJ) $(BUILD)/libfathom.a $(LDFLAGS) $(PKGLIB) -o $@

$(BUILD)/tests/test_hub $(BUILD)/tests/test_pull: $(BUILD)/tests/%: tests/%.c $(HUB_OBJ) $(BUILD)/libfathom.a
	@mkdir -p $(@D)
	$(CC) $(FM_CF) $(CFLAGS) $(if $(WITH_CURL),-DFM_WITH_CURL) $< $(HUB_OBJ) $(BUILD)/libfathom.a $(LDFLAGS) $(HUBLIB) $(PKGLIB) -lcmocka -o $@

$(BUILD)/tests/%: tests/%.c $(BUILD)/libfathom.a
	@mkdir -p $(@D)
	$(CC) $(FM_CF) $(CFLAGS) $< $(BUILD)/libfathom.a $(LDFLAGS) $(PKGLIB) -lcmocka -o $@

# one program per file in bench/; `make bench` measures this machine's limits, products, training and decoding
BENCHES := $(patsubst bench/%.c,$(BUILD)/bench/%,$(sort $(wildcard bench/*.c)))
$(BUILD)/bench/%: bench/%.c $(BUILD)/libfathom.a
	@mkdir -p $(@D)
	$(CC) $(FM_CF) $(CFLAGS) $< $(BUILD)/libfathom.a $(LDFLAGS) $(PKGLIB) -o $@

bench: all $(BENCHES)
	$(BUILD)/bench/bench_kernel
	$(BUILD)/bench/bench_train d128 d256 d256-l6 tiny default
	$(BUILD)/fathom bench models/default.gguf

# what became slower than the recorded figures: BENCH_MODELS once more, three turns
SPEED        ?= bench/results/speed-epyc-zen4.csv
BENCH_MODELS ?= models/default.gguf
bench-compare: $(BUILD)/fathom
	rm -f $(BUILD)/speed.csv
	python3 bench/peers.py $(BENCH_MODELS) --fathom $(BUILD)/fathom --turns 3 --csv $(BUILD)/speed.csv
	python3 bench/compare.py $(SPEED) $(BUILD)/speed.csv

# instructions of the hot kernels under callgrind against the recorded ones; the machine may be busy
count: $(BUILD)/bench/count_kernel
	python3 bench/count.py $< --compare bench/results/instructions.csv

# load on a server: tokens per second, waiting times, fairness; LLAMA_SERVER=… measures that one in the same run
SERVE_MODEL ?= models/default.gguf
bench-serve: $(BUILD)/fathom
	BIN=$(BUILD)/fathom bench/serve.sh $(SERVE_MODEL)

tests: $(TESTS) $(BENCHES)

check: all tests
	tests/run_all.sh $(BUILD)

quick: all tests
	tests/run_all.sh $(BUILD) --quick

BINDIR     ?= $(PREFIX)/bin
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DATADIR    ?= $(PREFIX)/share/fathom

pkg-config: $(BUILD)/fathom.pc
$(BUILD)/fathom.pc: fathom.pc.in FORCE
	@mkdir -p $(@D)
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|' \
	    -e 's|@VERSION@|$(VERSION)|; s|@PKGS@|jansson libpcre2-8 libutf8proc libzstd libmicrohttpd|' $< > $@

install: all pkg-config
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR)
	install $(BUILD)/fathom $(DESTDIR)$(BINDIR)
	install -m 644 $(BUILD)/libfathom.a $(DESTDIR)$(LIBDIR)
	install -m 644 include/*.h $(DESTDIR)$(INCLUDEDIR)
	install -m 644 $(BUILD)/fathom.pc $(DESTDIR)$(LIBDIR)/pkgconfig
	for f in $(wildcard models/default.gguf models/*.md); do \
	    install -D -m 644 $$f $(DESTDIR)$(DATADIR)/models/$${f#models/}; done

# clang's libFuzzer over all that reads what strangers wrote, two targets at a time, FUZZ_SECONDS each; logs and crashes
# stay in $(BUILD)/fuzz.  What the targets need of the library is compiled once for all.
FUZZ_SECONDS ?= 60
FUZZERS  := $(patsubst tests/fuzz/fuzz_%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
FUZZ_SRC := $(filter-out src/train/% src/run/% src/server/%,$(LIB_SRC)) src/run/chatapi.c src/run/kvfile.c src/run/textapi.c \
             $(filter-out $(HUB_NET),$(sort $(wildcard src/hub/*.c)))
FUZZ_OBJ := $(FUZZ_SRC:%.c=$(BUILD)/fuzz/%.o)
FUZZ_CC  := clang $(FM_CF) -O1 -g -fno-omit-frame-pointer -DFM_VERSION='"$(VERSION)"'
FUZZ_SAN := address,undefined -fno-sanitize-recover=undefined

$(BUILD)/fuzz/%.o: %.c
	@mkdir -p $(@D)
	$(FUZZ_CC) $(call isa_flags,$<) -fsanitize=fuzzer-no-link,$(FUZZ_SAN) -c $< -o $@

# the server without its network; the target itself stands for that and for the scheduler
FUZZ_SERVER_OBJ := $(patsubst %.c,$(BUILD)/fuzz/%.o,$(filter-out src/server/web.c src/server/serve.c,$(filter src/server/%,$(LIB_SRC))))
$(BUILD)/fuzz/fuzz_request: $(FUZZ_SERVER_OBJ)

$(BUILD)/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $(FUZZ_OBJ)
	@mkdir -p $(@D)
	$(FUZZ_CC) -fsanitize=fuzzer,$(FUZZ_SAN) $(filter %.c %.o,$^) $(PKGLIB) -o $@

$(BUILD)/fuzz/make_seeds: tests/fuzz/make_seeds.c $(FUZZ_OBJ)
	@mkdir -p $(@D)
	$(FUZZ_CC) -fsanitize=fuzzer-no-link,$(FUZZ_SAN) $< $(FUZZ_OBJ) $(PKGLIB) -o $@

fuzz: $(FUZZERS:%=$(BUILD)/fuzz/fuzz_%) $(BUILD)/fuzz/make_seeds
	$(BUILD)/fuzz/make_seeds $(BUILD)/fuzz/seeds
	@cd $(BUILD)/fuzz && mkdir -p $(FUZZERS:%=corpus/%) && printf '%s\n' $(FUZZERS) | xargs -P 2 -I NAME sh -c \
	    './fuzz_NAME -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -dict=$(CURDIR)/tests/fuzz/words.dict -timeout=10 -rss_limit_mb=2048 \
	    -artifact_prefix=NAME- corpus/NAME seeds/NAME > NAME.log 2>&1; rc=$$?; tail -n 1 NAME.log; \
	    [ $$rc = 0 ] || { cat NAME.log; exit 1; }'

# base, quant and kernel for aarch64, and check_kernel in an emulator: what this machine cannot run by itself.
# (The test itself is not vectorised: gcc 12 for aarch64 fails on one of its loops.)
ARM_CC  ?= aarch64-linux-gnu-gcc
ARM_RUN ?= qemu-aarch64 -cpu max
ARM_SRC := $(filter-out src/kernel/x86/% src/base/json.c,$(filter src/base/% src/quant/% src/kernel/%,$(LIB_SRC))) $(sort $(wildcard src/kernel/arm/*.c))
ARM_OBJ := $(ARM_SRC:%.c=$(BUILD)/arm/%.o)

$(BUILD)/arm/%.o: %.c
	@mkdir -p $(@D)
	$(ARM_CC) $(filter-out $(PKGCF),$(FM_CF)) $(CFLAGS) $(call isa_flags,$<) -DFM_VERSION='"$(VERSION)"' -c $< -o $@

$(BUILD)/arm/check_kernel: tests/check_kernel.c $(ARM_OBJ)
	@mkdir -p $(@D)
	$(ARM_CC) $(filter-out $(PKGCF),$(FM_CF)) $(CFLAGS) -fno-tree-vectorize -static $^ -lm -lpthread -o $@

# the tier that each processor gets; then all tiers
ARM_BEST := cortex-a72:neon neoverse-n1:dotprod max:i8mm
check-arm: $(BUILD)/arm/check_kernel
	@for b in $(ARM_BEST); do [ "$$($(ARM_RUN) -cpu $${b%:*} $< --best)" = $${b#*:} ] || { echo "$$b is not what it gets"; exit 1; }; done
	$(ARM_RUN) $< --quick

lint:
	python3 tools/lint.py

format:
	clang-format -i $(shell git ls-files '*.c' '*.h')

clean:
	rm -rf $(BUILD)

FORCE:
.PHONY: all tests bench bench-compare bench-serve count check check-arm quick pkg-config install fuzz lint format clean FORCE
.SECONDARY:
-include $(HUB_OBJ:.o=.d) $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(F64_OBJ:.o=.d) $(TESTS:=.d) $(BENCHES:=.d) $(FUZZ_OBJ:.o=.d) $(FUZZ_SERVER_OBJ:.o=.d) $(FUZZERS:%=$(BUILD)/fuzz/fuzz_%.d)
