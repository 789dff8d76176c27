# Knarr: what people type. `make` alone builds.
GO      ?= go
BIN     := bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/knarr/knarr/internal/version.Version=$(VERSION)
export CGO_ENABLED = 0

.PHONY: build up down test test-compose crash check bench fmt golden oci-validation conformance
build: ## the three static binaries in bin/, and the example's own beside its Dockerfile
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/knarr ./cmd/knarrd ./cmd/knarr-shim
	$(GO) build -trimpath -ldflags '-s -w' -o examples/web/web ./examples/web

up: build ## build, start a one-node cluster, build the example image, deploy it, show it answering
	@examples/up.sh

down: ## undo all that `up` made
	@if [ -x $(BIN)/knarr ]; then $(BIN)/knarr down --purge; else echo "nothing is built, so nothing runs: make build first"; fi

check: ## under a minute: formatting, vet, staticcheck, house rules and every test that needs neither root nor a kernel object
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt would change:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) test -short ./...

test: build ## every test; needs root
	$(GO) test -timeout 15m ./...

test-compose: build ## the real docker compose and testcontainers-go against the engine; needs root, builds both, minutes the first time
	KNARR_COMPOSE=build KNARR_TESTCONTAINERS=1 $(GO) test -timeout 15m -run 'TestCompose|TestTestcontainers' ./test

bench: build ## medians, with ratios to the bare kernel operation in the same run
	$(GO) test -run '^$$' -bench . -benchtime 20x ./engine/... ./state/... ./scheduler/...
	$(GO) run ./test/bench

fmt:
	gofmt -w $$(git ls-files '*.go')

golden: ## rewrite golden files; review the diff
	$(GO) test ./... -short -update

oci-validation: build ## the OCI runtime validation programs, with crun beside; five minutes
	test/oci-validation.sh

conformance: build ## the Kubernetes conformance tests on two nodes (FOCUS=regex SKIP=regex); needs root, busybox-static, debootstrap and an hour
	cd test/conformance && $(GO) run . $(if $(FOCUS),-focus '$(FOCUS)') $(if $(SKIP),-skip '$(SKIP)')
