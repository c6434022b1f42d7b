# mtl_rnn needs no build: it is one header. This file builds the examples and runs the tests.
# `make help` lists the targets. What a target needs is checked for and, on Debian, installed (.ci/setup.sh).

CFLAGS ?= -O2
LDLIBS ?= -lm
PREFIX ?= /usr/local
STB ?= /usr/include/stb
TORCH ?= torch==2.13.0
TORCHJD ?= torchjd[quadprog-projector,cagrad]==0.18.0
PEERS ?= python:$(TORCH) python:onnxruntime,onnx python:jax,optax onednn_omp:onednn-cpu-gomp,onednn-devel-cpu-gomp onednn:onednn,onednn-devel
BUILD := build

# tcc knows no options for dependency files: with it, `make clean` after a change
DEPENDENCIES = $(if $(findstring tcc,$(CC)),,-MMD -MP -MT $@ -MF $@.d)
COMPILE = $(CC) -std=c99 -Wall -Wextra $(CFLAGS) $(CPPFLAGS) -pthread -I. $(DEPENDENCIES)
EXAMPLES := $(patsubst examples/%.c,$(BUILD)/%,$(wildcard examples/*.c))
BENCH := $(BUILD)/bench
COMMAND := $(patsubst examples/mtl/%.c,$(BUILD)/command/%.o,$(wildcard examples/mtl/*.c))
CPP := $(BUILD)/cpp17 $(BUILD)/cpp20
TESTS := $(BUILD)/tests/test_float $(BUILD)/tests/test_double
TEST_AUTO := $(BUILD)/tests/test_auto
TEST_EXAMPLES := $(BUILD)/npc $(BUILD)/machine_health $(BUILD)/personalise $(BUILD)/sensor $(BUILD)/image_rows

export CC CXX STB TORCH

all: $(BUILD)/mtl $(EXAMPLES) $(BENCH)  ## build the command build/mtl, every other example and the benchmark (what plain `make` does)

cpp: $(CPP)  ## build the C++ examples with CXX and run them
	@for program in $(CPP); do echo $$program; $$program || exit; done

demo: all  ## train on the data of examples/data, show the scores, predict, load the model from C
	@bash examples/demo.sh

demo-seeds: all  ## does the demo show the same with seeds 1 to 5? (8 minutes; SEEDS="1 2")
	@mkdir -p $(BUILD)/demo
	@tests/demo_seeds.sh

test: $(TESTS) $(TEST_AUTO) $(BUILD)/mtl $(TEST_EXAMPLES)  ## run the tests; MTL_TEST_QUICK=1 for a tenth of the random cases
	@.ci/venv.sh numpy safetensors >$(BUILD)/tests/venv.log 2>&1 \
	    || echo "note: no Python with numpy and safetensors ($(BUILD)/tests/venv.log says why): their tests are skipped"
	@.ci/test.sh $(TESTS) $(TEST_AUTO) tests/test_command.sh tests/test_examples.sh

plain: $(BUILD)/plain $(TESTS)  ## train examples/plain.c, then run it beside the header: how far apart they are
	@$(BUILD)/plain
	@for program in $(TESTS); do MTL_TEST_ONLY=plain $$program || exit; done

matrix:  ## run the tests under every compiler, standard and option; ONLY="tcc aarch64" picks some
	@.ci/matrix.sh $(ONLY)

lint:  ## check the shape of the code: contents, order, lengths, repeats, warnings, size, names and code on the pages
	@.ci/setup.sh lint
	@python3 .ci/lint.py

map:  ## draw which section of the header uses which into docs/architecture.md; fails when an arrow leads upwards
	@python3 .ci/map.py

same-bits: $(BUILD)/mtl $(BUILD)/mtl_rnn.o  ## does this tree train to the same bits as REV=COMMIT? ONLY="lstm frames" picks some
	@.ci/setup.sh revision
	@CFLAGS='$(CFLAGS)' tests/same_bits.py '$(REV)' $(ONLY)

bench: $(BENCH)  ## measure the machine and every kernel against it: tables in build/bench_tables, a summary here (3 minutes)
	@bash tests/bench/run.sh $(BENCH) $(BUILD)/bench_tables

bench-guard: $(BENCH)  ## compare each instruction set with scalar code in one process; fails when a kernel has become slow
	@$(BENCH) guard

bench-against: $(BENCH) $(BUILD)/mtl  ## is this tree as fast as REV=COMMIT? builds by turns (5 minutes; QUICK=1: one)
	@.ci/setup.sh revision
	@CFLAGS='$(CFLAGS)' tests/bench/against.py '$(REV)' $(if $(QUICK),--quick)

mutants:  ## apply each deliberate defect of tests/mutants and name the test that finds it
	@.ci/setup.sh mutants
	@tests/mutants/run.sh $(ONLY)

parity: $(BUILD)/mtl  ## compare training step by step with PyTorch, which is installed into build/venv
	@.ci/venv.sh numpy safetensors $(TORCH)
	@$(BUILD)/venv/bin/python tests/parity.py

pytorch: $(BUILD)/mtl $(BUILD)/fine_tune  ## run docs/pytorch.md and import every kind of network of PyTorch, which is installed into build/venv
	@.ci/venv.sh numpy safetensors $(TORCH)
	@build/venv/bin/python tests/pytorch_page.py $(BUILD)
	@build/venv/bin/python tests/pytorch_import.py $(BUILD)

surgery-peers:  ## compare what trainer.surgery makes of gradients with TorchJD, which is installed into build/venv
	@.ci/venv.sh numpy safetensors $(TORCH) '$(TORCHJD)'
	@$(BUILD)/venv/bin/python tests/surgery_peers.py

bench-peers: $(BUILD)/bench $(BUILD)/mtl  ## compare with PyTorch, ONNX Runtime, oneDNN and JAX, which are installed; ARGS=--quick
	@.ci/setup.sh peers
	@mkdir -p $(BUILD)/peers
	@for peer in $(PEERS); do VENV=$(BUILD)/peers/$${peer%%:*} .ci/venv.sh $$(echo "$${peer#*:}" | tr , ' ') \
	    || echo "note: $${peer#*:} cannot be installed: the comparison goes on without"; done
	@tests/bench/peers/compare.py --rounds $(or $(ROUNDS),0) --budget-ms $(or $(BUDGET_MS),0) $(ARGS)

bench-best: $(BUILD)/mtl  ## an epoch of the most accurate recipe beside PyTorch, in turns; DATA=FILE.tsv (intent:class, text, slots:tags), ARGS="--turns 5"
	@.ci/venv.sh numpy safetensors $(TORCH) || echo "note: $(TORCH) cannot be installed: mtl train is measured alone"
	@PATH="$(BUILD)/venv/bin:$$PATH" python3 tests/bench/best.py $(if $(DATA),--data '$(DATA)') $(ARGS)

board:  ## run an exported model on a Cortex-M4 and on aarch64 in QEMU: answers and sizes
	@.ci/setup.sh matrix
	@tests/board/run.sh

resume-test: $(BUILD)/mtl  ## does training that is stopped, or killed, and resumed end with the same file? ARGS="--seed 2"
	@tests/resume.py $(ARGS)

study-sharing: $(BUILD)/mtl  ## train every preset of --share beside single-task models on real data; resumes (SETS, SHARES, SEEDS)
	@tests/bench/study_sharing.py $(ARGS)

study-gradients: $(BUILD)/study_gradients  ## how far back do gradients reach? copy and adding tasks over 10 to 400 steps, four cells; resumes
study-overfitting: $(BUILD)/mtl  ## does sharing hold overfitting back? 1 to 100 % of the data, joint and single, dropout, decay; resumes
study-transfer: $(BUILD)/mtl  ## which tasks help which? every pair of three data sets; do gradients foretell it? resumes
study-balance: $(BUILD)/mtl  ## does balancing help? six methods beside static weights that were tuned as long; resumes
study-regimes: $(BUILD)/mtl  ## data sets in turn or together, and a map over two weights; resumes
study-gradients study-overfitting study-transfer study-balance study-regimes:
	@tests/bench/study_$(@:study-%=%).py $(ARGS)

study-ablation: $(BUILD)/mtl  ## what is each part of the preset best worth? one off at a time; resumes (SETS, SEEDS, SENTENCES)
study-curves: $(BUILD)/mtl  ## the preset best at 5 to 100 % of the data, joint and single; resumes
study-crf: $(BUILD)/mtl  ## tags each for itself or as one choice; resumes
study-characters: $(BUILD)/mtl  ## what is read of words beside themselves; resumes
study-attention: $(BUILD)/mtl  ## pools by attention, last, mean, max, with and without self-attention; resumes
study-ablation study-curves study-crf study-characters study-attention:
	@tests/bench/study_parts.py $(@:study-%=%) $(ARGS)

gain: $(BUILD)/mtl  ## does learning together pay? single-task models against shared ones on real data; resumes (ARGS=--cut: few labels; SETS, SEEDS)
	@tests/bench/gain.py $(ARGS)

accuracy: $(BUILD)/mtl  ## what does the preset best reach on each set, whole? means over seeds; resumes (SETS="snips; atis", SEEDS)
	@tests/bench/accuracy.py $(ARGS)

reference: $(BUILD)/mtl  ## write docs/reference.md from the field tables
	mkdir -p docs && $(BUILD)/mtl reference >$(BUILD)/reference.md
	mv $(BUILD)/reference.md docs/reference.md

install: $(BUILD)/mtl  ## copy the header, the command and a pkg-config file to PREFIX (/usr/local)
	install -d $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/pkgconfig
	install -m 644 mtl_rnn.h $(DESTDIR)$(PREFIX)/include/mtl_rnn.h
	install -m 755 $(BUILD)/mtl $(DESTDIR)$(PREFIX)/bin/mtl
	{ echo 'Name: mtl_rnn'; echo 'Description: trains and runs multi-task recurrent networks; one C header'; \
	  sed -n 's/^#define MTL_RNN_VERSION *"\(.*\)".*/Version: \1/p' mtl_rnn.h; \
	  echo 'Cflags: -I$(PREFIX)/include'; echo 'Libs: -lm -pthread'; } >$(DESTDIR)$(PREFIX)/share/pkgconfig/mtl_rnn.pc

clean:  ## remove build/
	rm -rf $(BUILD)

help:  ## list these targets
	@sed -n 's/^\([a-z][a-z-]*\):.*  ## /  make \1	/p' Makefile | expand -t 28

# The implementation is compiled once and linked with every example, which only include the interface.
$(BUILD)/mtl_rnn.c: | setup-build
	@mkdir -p $(@D)
	@echo '#include "mtl_rnn.h"' >$@

$(BUILD)/mtl_rnn.o: $(BUILD)/mtl_rnn.c mtl_rnn.h
	$(COMPILE) -DMTL_RNN_IMPLEMENTATION -c -o $@ $<

$(EXAMPLES): $(BUILD)/%: examples/%.c $(BUILD)/mtl_rnn.o | setup-build
	$(COMPILE) -isystem $(STB) -o $@ $< $(SOURCES) $(BUILD)/mtl_rnn.o $(LDFLAGS) $(LDLIBS)

# The weights of this one are made while it is built, and linked in.
$(BUILD)/sensor_net.c: $(BUILD)/sensor_train
	$(BUILD)/sensor_train $(BUILD)/sensor_net.h $@ >$(BUILD)/sensor_train.log

$(BUILD)/sensor: $(BUILD)/sensor_net.c
$(BUILD)/sensor: private SOURCES = $(BUILD)/sensor_net.c -I$(BUILD)

# C++ is no part of `all`, which a machine without a C++ compiler builds, too.
$(CPP): $(BUILD)/cpp%: examples/cpp%.cpp $(BUILD)/mtl_rnn.o | setup-cpp
	$(CXX) -std=c++$* -Wall -Wextra -Wno-missing-field-initializers $(CFLAGS) $(CPPFLAGS) -pthread -I. -o $@ $< \
	    $(if $(findstring 20,$*),$(BUILD)/mtl_rnn.o) $(LDFLAGS) $(LDLIBS)

$(COMMAND): $(BUILD)/command/%.o: examples/mtl/%.c | setup-build
	@mkdir -p $(@D)
	$(COMPILE) -isystem $(STB) -c -o $@ $<

$(BUILD)/mtl: $(COMMAND) $(BUILD)/mtl_rnn.o
	$(CC) $(CFLAGS) -pthread -o $@ $^ $(LDFLAGS) $(LDLIBS)

# The benchmark too sees the implementation itself; its figures are those of the flags that programs are built with.
$(BENCH): tests/bench/bench.c $(wildcard tests/bench/*.h) mtl_rnn.h | setup-build
	@mkdir -p $(@D)
	$(COMPILE) -o $@ $< $(LDFLAGS) $(LDLIBS)

$(BUILD)/study_gradients: tests/bench/study_gradients.c $(BUILD)/mtl_rnn.o | setup-build
	$(COMPILE) -o $@ $< $(BUILD)/mtl_rnn.o $(LDFLAGS) $(LDLIBS)

# Tests see the implementation itself, with its assertions on.
$(TESTS): tests/main.c mtl_rnn.h | setup-test
	@mkdir -p $(@D)
	$(COMPILE) -g -DMTL_DEBUG $(REAL) -o $@ $< $(LDFLAGS) -lcmocka $(LDLIBS)
$(BUILD)/tests/test_double: REAL = -DMTL_REAL=double

# The command's file with the rule of --share auto is included by its test, and linked with the others.
OTHERS := $(filter-out %/auto.o %/main.o,$(COMMAND)) $(BUILD)/mtl_rnn.o
$(TEST_AUTO): tests/test_auto.c $(OTHERS) | setup-test
	@mkdir -p $(@D)
	$(COMPILE) -g -isystem $(STB) -o $@ $< $(OTHERS) $(LDFLAGS) -lcmocka $(LDLIBS)

setup-build setup-test setup-cpp: setup-%:
	@.ci/setup.sh $*

-include $(addsuffix .d,$(EXAMPLES) $(COMMAND) $(BENCH) $(TESTS) $(TEST_AUTO) $(BUILD)/mtl_rnn.o)

.PHONY: all cpp demo demo-seeds test plain matrix lint map same-bits bench bench-guard bench-against bench-peers bench-best accuracy mutants parity pytorch \
    surgery-peers board \
    study-sharing study-gradients study-overfitting study-transfer study-balance study-regimes study-ablation study-curves study-crf study-characters \
    study-attention gain resume-test \
    reference install clean help setup-build setup-test setup-cpp
.DELETE_ON_ERROR:
