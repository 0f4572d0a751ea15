# The commands of this project. `make help` lists them.

GO      ?= go
TOOL    := $(GO) tool -modfile=test/tools/go.mod
MODULES := . test/func

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.PHONY: run
run: ## Run the function on port 8080, with the settings of the environment
	@echo "Not ready until VAULT_ADDR, VAULT_TOKEN and ORY_BASE_URL are set; the README lists all settings." >&2
	$(GO) run ./function

.PHONY: test
test: ## Run the tests, with the race detector and in random order
	@for module in $(MODULES); do \
		echo "== test $$module" && (cd $$module && $(GO) vet ./... && $(GO) test -race -shuffle=on -count=1 ./...) || exit 1; \
	done

.PHONY: lint
lint: ## Check format and code; the linter is built the first time (minutes)
	@echo "== lint"
	@for module in $(MODULES); do (cd $$module && $(GO) tool -modfile=$(CURDIR)/test/tools/go.mod golangci-lint run ./...) || exit 1; done
	@echo "== known vulnerabilities"
	@test/tools/vulnerabilities $(MODULES)

.PHONY: fuzz
fuzz: ## Send anything at all to POST / and to the settings, a minute each
	$(GO) test -run '^$$' -fuzz FuzzPost -fuzztime 60s ./handler
	$(GO) test -run '^$$' -fuzz FuzzLoad -fuzztime 60s .

.PHONY: bench
bench: ## Measure; docs/performance.md says how to read it
	$(GO) test -run '^$$' -bench . -benchtime 3s ./handler ./function

.PHONY: fmt
fmt: ## Format the code
	$(TOOL) golangci-lint fmt ./...
