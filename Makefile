# The commands of this project. `make help` lists them.

GO       ?= go
KO       ?= $(GO) tool -modfile=$(CURDIR)/test/image/go.mod ko
KNATIVE  ?= knative
LINT     := $(GO) tool -modfile=$(CURDIR)/test/tools/go.mod golangci-lint

# In a checkout that another user owns, as in most CI containers, git refuses to answer and the build fails. Git trusts this
# checkout for the commands of this file, without its file system monitor, which is a program. These settings come after those
# that the environment has already.
safe    := $(or $(GIT_CONFIG_COUNT),0)
monitor := $(shell expr "$(safe)" + 1)
export GIT_CONFIG_COUNT            := $(shell expr "$(safe)" + 2)
export GIT_CONFIG_KEY_$(safe)      := safe.directory
export GIT_CONFIG_VALUE_$(safe)    := $(realpath .)
export GIT_CONFIG_KEY_$(monitor)   := core.fsmonitor
export GIT_CONFIG_VALUE_$(monitor) := false

# The modules of this repository: those whose tests compile little, those that compile the function anew or Knative's, Kubernetes', Kong's or
# Prometheus' first, and those whose tests need real servers or a cluster.
QUICK    := . test/conformance test/devstack
LARGE    := test/func test/kong test/knative test/image test/bench test/dashboard test/observability
SERVERS  := test/e2e test/cluster
MODULES  := $(QUICK) $(LARGE) $(SERVERS)

# run-tests runs the tests of modules, with the race detector and in random order. $(1): the modules, $(2): more flags. Most tests
# that take long wait for a deadline, so four run at a time on any machine. A program with the race detector would wait a second at
# its end, to look for more races.
define run-tests
	@export GORACE="atexit_sleep_ms=50 $$GORACE"; for module in $(1); do \
		echo "== test $$module" && (cd $$module && $(GO) test -vet=all -race -shuffle=on -count=1 -parallel 4 $(2) ./...) || exit 1; \
	done
endef

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# Binaries, not `go run`, which would die of a signal before what it runs has ended.
.PHONY: run
run: bin/function bin/devstack ## Run the function: on the servers that VAULT_ADDR, VAULT_TOKEN or VAULT_ROLE, and ORY_BASE_URL name, else on a platform of its own
	@if [ -n "$$VAULT_ADDR" ] && [ -n "$$VAULT_TOKEN$$VAULT_TOKEN_FILE$$VAULT_ROLE" ] && [ -n "$$ORY_BASE_URL" ]; then \
		echo "on the Vault and Ory of the environment" >&2; exec bin/function; \
	else \
		exec bin/devstack -at-once run -- bin/function; \
	fi

.PHONY: platform
platform: bin/devstack ## Run the platform alone, for a function in a debugger
	@exec bin/devstack platform

.PHONY: bin/function bin/devstack
bin/function:
	@$(GO) build -o $@ ./function
bin/devstack:
	@$(GO) build -C test/devstack -o "$(CURDIR)/$@" ./cmd/devstack

.PHONY: test
test: ## Run the quick tests of the function and of what it is tested with
	$(call run-tests,$(QUICK),-short)

.PHONY: test-all
test-all: ## Run the quick tests of every module
	@echo "make test-all compiles Knative's, Kubernetes', Kong's, ko's and Prometheus' libraries before it tests:"
	@echo "the first time that takes some 20 minutes on two cores, later some 4."
	@$(MAKE) --no-print-directory test test-large

.PHONY: test-large
test-large: ## Run the quick tests that make test leaves out, since they compile large libraries first
	$(call run-tests,$(LARGE),-short)

.PHONY: e2e
e2e: bin/devstack ## Run the tests on real servers: every fault of Vault and Hydra, chaos, Knative's queue-proxy
	@bin/devstack build
	@echo "== attacks on the function" && $(GO) test -count=1 -timeout 20m -run '^Test(Attacks|Floods)$$' ./function
	$(call run-tests,.,-timeout 20m -skip '^Test(Attacks|Floods)$$')
	@echo "== test test/knative/queueproxy" && cd test/knative/queueproxy && $(GO) vet . && $(GO) test -race -shuffle=on -count=1 -timeout 20m
	$(call run-tests,test/image test/devstack test/dashboard test/observability test/e2e,-timeout 20m)
	@echo "== bench-quick" && $(MAKE) --no-print-directory bench-quick

.PHONY: lint
lint: ## Check format, code, and known vulnerabilities
	@for module in $(MODULES); do echo "== lint $$module" && (cd $$module && $(LINT) run ./...) || exit 1; done
	@if command -v shellcheck >/dev/null; then echo "== shellcheck" && shellcheck .ci/run test/tools/vulnerabilities; \
		else echo "skipped: shellcheck is not installed"; fi
	@echo "== known vulnerabilities" && test/tools/vulnerabilities $(MODULES)

.PHONY: image
image: ## Build the image and push it to KO_DOCKER_REPO; prints its name
	@$(KO) build ./function

.PHONY: deploy
deploy: ## Build, push, and apply knative/ to the current cluster; KNATIVE names another folder
	$(KO) apply -f $(KNATIVE)

# The namespace and the Secret are not deploy's, so they are not undeploy's either.
.PHONY: undeploy
undeploy: ## Delete what deploy applied, but for the namespace and the Secret in it
	kubectl delete --ignore-not-found -f knative/400-service.yaml -f knative/300-config.yaml -f knative/200-service-account.yaml

.PHONY: e2e-cluster
e2e-cluster: bin/devstack ## Deploy to the current cluster, in a namespace made for it, and show roll-out, scale from zero, outages
	@bin/devstack build
	@cd test/cluster && $(GO) vet ./... && KO="$(KO)" $(GO) test -race -shuffle=on -count=1 -v -timeout 30m ./...

.PHONY: fuzz
fuzz: ## Send anything at all to POST /, to the Slack routes, to the log and to the settings, a minute each
	$(GO) test -run '^$$' -fuzz FuzzBinary -fuzztime 60s ./handler
	$(GO) test -run '^$$' -fuzz FuzzStructured -fuzztime 60s ./handler
	$(GO) test -run '^$$' -fuzz FuzzEncode -fuzztime 60s ./events/binding
	$(GO) test -run '^$$' -fuzz FuzzJSON -fuzztime 60s ./events/attribute
	$(GO) test -run '^$$' -fuzz FuzzLine -fuzztime 60s ./logging
	$(GO) test -run '^$$' -fuzz FuzzBearer -fuzztime 60s ./handler
	$(GO) test -run '^$$' -fuzz FuzzSigned -fuzztime 60s ./slack
	$(GO) test -run '^$$' -fuzz FuzzForged -fuzztime 60s ./slack
	$(GO) test -run '^$$' -fuzz FuzzLoad -fuzztime 60s .

.PHONY: bench
bench: ## Measure, beside what else one could run, twelve minutes; writes the tables and the picture of docs/performance.md
	@cd test/bench && $(GO) run .

.PHONY: bench-quick
bench-quick: ## See that everything is measured and nothing is far off, a minute or two; writes nothing
	@cd test/bench && $(GO) run . -quick

.PHONY: dashboard
dashboard: ## Make Grafana's dashboard anew, and its pictures from five minutes on real servers
	@cd test/dashboard && $(GO) run . -json ../../observability/dashboard.json -pictures ../../docs/dashboard

.PHONY: fmt
fmt: ## Format the code
	@for module in $(MODULES); do (cd $$module && $(LINT) fmt ./...) || exit 1; done
