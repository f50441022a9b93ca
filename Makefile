# One list of verbs; CI runs the same ones. `make help` prints them.
SHELL := /bin/bash
PYTHON ?= python3
# Without bytecode every agent of a test, and every pytest worker, compiles all its modules: half of the start's CPU time.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.run-installed
DEV_STAMP := $(VENV)/.dev-installed
NVML_MOCK := .cache/nvml-mock/libnvidia-ml.so.1
IMAGE ?= gpuvitals/agent:0.1.0
SBOM := dist/gpuvitals-agent.cdx.json
CORES := $(shell getconf _NPROCESSORS_ONLN)
# Two workers for each core: more than half of the tests' time is waiting for the agent's own delays. Long runs compute.
WORKERS ?= $(shell echo $$((2 * $(CORES))))
LONG_WORKERS ?= $(CORES)
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not needs_go and not long"
# These keep a server for all their cases, and the other tests look whether one left a thread or a socket behind.
SHARED_TESTS := tests/contract tests/chart tests/examples
REAL_TESTS := tests/contract tests/chart tests/examples/test_accepted.py tests/examples/test_guide.py tests/cluster

.DEFAULT_GOAL := help
.PHONY: help demo nvml-mock setup test long check fmt lint types contracts generated protos catalog chart chart-check lock image sbom cluster cluster-test cluster-up cluster-down bench gpu-check clean architecture prose

help: ## print this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(RUN_STAMP): requirements/build.txt requirements/run.txt pyproject.toml sim/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "gpuvitals needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	@# A venv that was left half made, by Ctrl-C or by a Python without ensurepip, has no pip.
	@test -f $(VENV)/pyvenv.cfg && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/build.txt -r requirements/run.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e . -e sim
	@touch $@

$(DEV_STAMP): $(RUN_STAMP) requirements/dev.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

demo: $(RUN_STAMP) $(if $(filter mock,$(NVML)),$(NVML_MOCK)) ## play a fault on a small simulated cluster (KEEP=1 leaves it up, SCENARIO=name or file.yaml, NVML=mock)
	@$(BIN)/gpuvitals demo $(if $(KEEP),--keep) $(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(filter mock,$(NVML)),--nvml-library $(dir $(NVML_MOCK)))

nvml-mock: $(NVML_MOCK) ## build a libnvidia-ml.so.1 for machines without a GPU (needs a C compiler; docs/guides/without-gpus.md)
	@echo $(abspath $(dir $(NVML_MOCK)))

$(NVML_MOCK): $(wildcard tools/nvml_mock/*)
	@mkdir -p $(@D)
	$(CC) -shared -fPIC -O1 -Wall -Wextra -Werror -Wl,-soname,$(@F) -o $@ $(filter %.c,$^) -lpthread

setup: $(DEV_STAMP) ## install everything that check and test need into .venv

test: $(DEV_STAMP) ## every test that needs Python only (and a C compiler for the NVML tests)
	$(PYTEST) tests $(addprefix --ignore=,$(SHARED_TESTS))
	$(PYTEST) $(SHARED_TESTS)

long: $(DEV_STAMP) ## the long runs: enumerations, 10,000-example properties, cold starts (SLICE=<commit hash> plays a twentieth of each)
	GPUVITALS_SLICE=$(SLICE) $(BIN)/python -m pytest -n $(LONG_WORKERS) -m long tests $(if $(SLICE),--hypothesis-seed=$(SLICE))

check: lint prose types contracts generated chart-check ## run the checks of CI: lint, prose, types, import contracts, generated files, chart

fmt: $(DEV_STAMP) ## format the code
	$(BIN)/ruff check --fix-only -q .
	$(BIN)/ruff format -q .

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/check_decoders.py

prose: $(DEV_STAMP)
	$(BIN)/python tools/check_prose.py

types: $(DEV_STAMP)
	$(BIN)/mypy

contracts: $(DEV_STAMP)
	$(BIN)/lint-imports

generated: $(DEV_STAMP)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tools/check_generated.py

protos: $(DEV_STAMP) ## regenerate driver/gpuvitals/proto from api/proto
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tools/generate_protos.py

catalog: $(DEV_STAMP) ## regenerate the XID catalogue, the pages of reasons and policy values, and the definitions of the chart
	$(BIN)/python tools/generate_catalog.py
	$(BIN)/python tools/generate_reasons.py
	$(BIN)/python tools/generate_definitions.py

architecture: $(DEV_STAMP) ## draw docs/architecture.svg from the tree's imports
	$(BIN)/python tools/generate_architecture.py

chart: $(DEV_STAMP) ## render the chart's golden files and its table of values anew (needs the helm of make cluster)
	PYTHONPATH=tests $(BIN)/python -m chart.rendering

chart-check: $(DEV_STAMP)
	PYTHONPATH=tests $(BIN)/python -m chart.rendering --check

lock: $(DEV_STAMP) ## resolve requirements/*.txt anew, with hashes and without URLs
	$(BIN)/python tools/lock_requirements.py

image: $(DEV_STAMP) ## build the agent's image, and its SBOM into dist/ (PYTHON_DIGEST=sha256:..., IMAGE=name:tag; needs podman or docker)
	@$(BIN)/python tools/build_image.py --digest "$(PYTHON_DIGEST)" --tag "$(IMAGE)" --output $(SBOM) || { code=$$?; \
	  if [ $$code -eq 3 ]; then $(MAKE) --no-print-directory sbom; fi; exit $$code; }

sbom: $(DEV_STAMP) ## write the SBOM of the agent's lock into dist/: version, hashes and licence of each package (CycloneDX)
	@$(BIN)/python tools/sbom.py --output $(SBOM)

cluster: $(DEV_STAMP) ## build a Kubernetes from Go modules (cached); CLUSTER=1.36 builds that release too
	PYTHONPATH=tests $(BIN)/python -m cluster.build $(if $(CLUSTER),--with kubernetes-$(CLUSTER))

cluster-test: cluster chart-check ## contract, chart and examples on real API servers, the agent on a real cluster (needs Go and root)
	GPUVITALS_REAL=1 GPUVITALS_CLUSTER=$(CLUSTER) $(BIN)/python -m pytest -n 0 $(REAL_TESTS)

cluster-up: $(DEV_STAMP) ## start a real cluster to play with (CLUSTER=1.34, 1.36 or 1.37; GPUS=4 runs the agent too)
	@PYTHONPATH=tests $(BIN)/python -m cluster.build --quiet etcd containerd runc cni kubernetes-1.37/kubectl $(addprefix kubernetes-$(or $(CLUSTER),1.37)/,kube-apiserver kube-controller-manager kube-scheduler kubelet)
	@PYTHONPATH=tests $(BIN)/python -m cluster.up up --release $(or $(CLUSTER),1.37) --gpus $(or $(GPUS),0)

cluster-down: $(DEV_STAMP) ## stop what cluster-up started, and clear up after killed runs
	@PYTHONPATH=tests $(BIN)/python -m cluster.up down $(if $(CLUSTER),--release $(CLUSTER))

gpu-check: $(RUN_STAMP) $(if $(filter mock,$(NVML)),$(NVML_MOCK)) ## record what NVML answers on this machine's GPUs, within 5 minutes (NVML=mock tries it without one)
	@timeout 300 $(BIN)/python -m tools.gpu_check $(if $(filter mock,$(NVML)),--library $(dir $(NVML_MOCK)))

bench: $(DEV_STAMP) ## measure the agent beside a Go peer on a real API server (needs Go; BENCH=B1,B5 and ROUNDS=n choose)
	@PYTHONPATH=tests $(BIN)/python -m cluster.build etcd kubernetes-1.37/kube-apiserver
	@PYTHONPATH=tests:. BENCH=$(BENCH) ROUNDS=$(ROUNDS) $(BIN)/python -m benchmarks

clean: ## remove what builds and tests left here, but not .venv
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build sim/dist sim/build .demo
