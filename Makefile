# `make` lists the targets. Everything here works from a fresh clone with Go;
# `make run` also wants python3, `make test` also Java and Maven.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION   := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS   := -s -w -X main.version=$(VERSION)
PLATFORMS := linux/amd64 linux/arm64 darwin/arm64
DATA      ?= ./data
FUZZTIME  ?= 5m
TIMEOUT   ?= 25m

# Modules beside the root one, each with its own go.mod; the tools' has no tests.
MODULES = $(shell find . -name go.mod -not -path './go.mod' -not -path './internal/tools/*' -not -path './data/*' -exec dirname {} \; | sort)

# `make test CI=true` and `CI=true make test` mean the same: no test may skip.
ifdef CI
export CI
endif

##@ Use

.PHONY: run
run: build python ## build, fetch the engines that are missing, start with the sample shop (DATA=./data ARGS="--http 127.0.0.1:8081 …")
	bin/tributary setup
	bin/tributary serve --sample --data $(DATA) $(ARGS)

.PHONY: setup
setup: build python ## fetch the engines the embedded default needs, into the user's cache
	bin/tributary setup

.PHONY: build
build: ## bin/tributary for this machine
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

.PHONY: cross
cross: ## dist/<os>-<arch>/ for every platform that is supported
	for platform in $(PLATFORMS); do \
	  echo "cross $$platform"; \
	  CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/} \
	    go build -trimpath -ldflags '$(LDFLAGS)' -o "dist/$${platform/\//-}/" ./cmd/...; \
	done

##@ Check

.PHONY: test
test: ## every test of every module; what a machine lacks is skipped aloud (CI=true: fails)
	go test -timeout $(TIMEOUT) ./...
	for module in $(MODULES); do echo "module $$module"; (cd "$$module" && go test -timeout $(TIMEOUT) ./...); done

.PHONY: race
race: ## the tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race -timeout $(TIMEOUT) ./...

.PHONY: lint
lint: bin/golangci-lint bin/buf ## gofmt, vet, golangci-lint, buf lint and the rules of internal/lint
	internal/tools/fmt-check.sh
	go vet ./...
	bin/golangci-lint run --allow-parallel-runners ./...
	bin/buf lint
	go test ./internal/lint/

.PHONY: bench
bench: ## the Go benchmarks, with memory figures
	go test -run '^$$' -bench . -benchmem -timeout 60m ./...

.PHONY: performance
performance: build ## measure what docs/performance.md shows of the event store (a quiet machine, half an hour), and write it (ARGS="-only append-64")
	go run ./internal/bench/figures measure $(ARGS)

.PHONY: bench-peers
bench-peers: build ## the same work on NATS, PostgreSQL, etcd, Redis and UmaDB, as far as the machine has them (ARGS="-duration 2s -peers redis"; ARGS=-lag: between sites, beside MirrorMaker 2)
	cd internal/bench/peers && go run . $(ARGS)

# What the reliability tests of a night print; see docs/reliability.md.
SEEN ?= $(CURDIR)/dist/reliability.jsonl

.PHONY: night
night: race ## the long form: race detector, reliability tests, planted bugs, long end-to-end tests (INPUTS='DIR/*.csv.gz': with real months), every fuzz target for FUZZTIME
	mkdir -p $(dir $(SEEN)) && rm -f $(SEEN)
	TRIBUTARY_RELIABILITY=$(SEEN) go test -timeout 4h -count=1 -v ./eventstore/pebblestore ./eventstore/kafkalog -long
	TRIBUTARY_RELIABILITY=$(SEEN) go test -timeout 90m -count=1 ./node/e2e -long $(if $(INPUTS),-demo.inputs '$(INPUTS)')
	TRIBUTARY_RELIABILITY=$(SEEN) go test -timeout 4h -count=1 ./replication ./commands/escrow -long
	TRIBUTARY_RELIABILITY=$(SEEN) $(MAKE) planted
	$(MAKE) drill ARGS=
	TRIBUTARY_RELIABILITY=$(SEEN) go test -timeout 8h -count=1 -v ./internal/reliability -run '^TestFuzzTargets$$' -long -fuzz.each $(FUZZTIME)
	go test -count=1 ./internal/reliability -update -results $(SEEN)

.PHONY: drill
drill: build python ## three sites, each with a real Kafka, Redis and ClickHouse: one is cut off, one killed whole, all are compared; three times (ARGS="--input FILE")
	bin/tributary setup all
	sites=(bj sh sz); hows=(silent reset deaf); for seed in 1 2 3; do \
	  bin/tributary demo --sites bj,sh,sz --real --once --seed $$seed --how $${hows[seed % 3]} --kill $${sites[seed % 3]} $(ARGS); \
	done

.PHONY: planted
planted: ## plants bugs, one at a time, and wants the reliability tests of the store and the simulation of sites to notice each
	go test -timeout 90m -count=1 -v ./internal/reliability -run '^TestPlanted$$' -planted
	go test -timeout 90m -count=1 -v ./replication -run '^TestPlanted$$' -planted

.PHONY: vulncheck
vulncheck: bin/govulncheck ## known vulnerabilities in what the binary really calls (needs the Go vulnerability database)
	bin/govulncheck ./...

##@ Schemas

.PHONY: generate
generate: tools-proto ## schemas/gen from schemas/**/*.proto
	bin/buf lint
	internal/tools/generate.sh

.PHONY: generate-check
generate-check: tools-proto ## fail if schemas/gen is out of date, a proto is unclean, or the baseline is broken
	bin/buf lint
	internal/tools/generate.sh --check
	bin/buf breaking --against schemas/baseline.binpb

.PHONY: baseline
baseline: tools-proto ## make the present schemas the ones that later changes must stay compatible with
	bin/buf breaking --against schemas/baseline.binpb || echo "the new baseline breaks the old one, as shown above" >&2
	bin/buf build --exclude-source-info -o schemas/baseline.binpb

##@ House

.PHONY: tools
tools: tools-proto bin/golangci-lint bin/gofumpt bin/govulncheck ## build every developer tool into ./bin at its pinned version

.PHONY: tools-proto
tools-proto: bin/buf bin/protoc-gen-go bin/protoc-gen-go-grpc bin/protoc-gen-comments

.PHONY: fmt
fmt: bin/gofumpt ## format all Go files, generated ones apart
	git ls-files -co --exclude-standard '*.go' ':!schemas/gen' | xargs bin/gofumpt -w

.PHONY: clean
clean: ## remove what was built; data and caches stay
	rm -rf bin dist

.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z][a-z-]*:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: python
python:
	@internal/tools/python-check.sh

# Tools are rebuilt when their pinned versions change. The generator of message
# code is built from the product's own go.mod, so that the generated code and
# the protobuf runtime it needs can never be of different versions.
bin/buf: internal/tools/go.mod
	cd internal/tools && go build -o ../../bin/ github.com/bufbuild/buf/cmd/buf
	@touch $@

bin/protoc-gen-go-grpc: internal/tools/go.mod
	cd internal/tools && go build -o ../../bin/ google.golang.org/grpc/cmd/protoc-gen-go-grpc
	@touch $@

bin/protoc-gen-go: go.mod
	go build -o bin/ google.golang.org/protobuf/cmd/protoc-gen-go
	@touch $@

bin/protoc-gen-comments: internal/tools/go.mod $(wildcard internal/tools/protoc-gen-comments/*.go)
	cd internal/tools && go build -o ../../bin/ ./protoc-gen-comments
	@touch $@

bin/golangci-lint: internal/tools/go.mod
	cd internal/tools && go build -o ../../bin/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

bin/gofumpt: internal/tools/go.mod
	cd internal/tools && go build -o ../../bin/ mvdan.cc/gofumpt
	@touch $@

bin/govulncheck: internal/tools/go.mod
	cd internal/tools && go build -o ../../bin/ golang.org/x/vuln/cmd/govulncheck
	@touch $@
