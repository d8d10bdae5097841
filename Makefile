# What a person runs is what CI runs. Needs only Python 3.11 or newer with venv, and make.
PYTHON ?= $(firstword $(foreach p,python3 python3.12 python3.11 python3.13,$(shell \
  $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $(p))))
BIN := .venv/bin

.PHONY: setup demo test test-slow coverage test-label-studio test-postgres test-ray check bench clean

setup: .venv/.ready

.venv/.ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or say make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[vision,pretrained,web,label-studio,dev]'
	@touch $@

demo: setup
	$(BIN)/mcdal run digits --strategy random --seed 0 --out demo
	$(BIN)/mcdal run digits --strategy random --seed 1 --out demo
	$(BIN)/mcdal run digits --strategy mcdal --seed 0 --out demo
	$(BIN)/mcdal run digits --strategy mcdal --seed 1 --out demo
	@echo "The report:"
	@$(BIN)/mcdal report --out demo

test: setup
	scripts/test

test-slow: setup
	scripts/test -m slow

# Which lines the tests reach; counting them takes longer than the tests alone.
coverage: setup
	scripts/test --cov --cov-report=term:skip-covered -m 'not slow and not label_studio and not ray'

# A Label Studio of its own, 1 GB, in a virtual environment of its own; the tests start it offline on a free port.
test-label-studio: setup .venv-label-studio/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m label_studio tests/label_studio

.venv-label-studio/.ready:
	$(PYTHON) -m venv .venv-label-studio
	.venv-label-studio/bin/python -m pip install --quiet 'label-studio>=1.23'
	@touch $@

# Of all that a store and a campaign do, on a PostgreSQL server that is started for it (and installed, for root).
test-postgres: setup
	$(BIN)/python -m pip install --quiet --editable '.[postgres]'
	scripts/postgres scripts/test tests/test_store.py tests/test_migrations.py tests/test_loop.py tests/test_kill.py \
	  tests/test_status.py tests/test_postgres.py tests/campaign -m 'not slow'

# A Ray cluster of two nodes on this machine, whose nodes, workers and drivers are killed. Ray is 600 MB.
test-ray: setup
	$(BIN)/python -m pip install --quiet --editable '.[ray]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m ray tests/passes tests/compare tests/ray_training
	$(BIN)/python -m pip install --quiet --editable '.[postgres]'
	OMP_NUM_THREADS=1 scripts/postgres $(BIN)/python -m pytest -m 'ray and postgres' tests/compare

check: setup
	scripts/check

bench: setup
	$(BIN)/python -m pip install --quiet --editable '.[vision,dev,bench]'
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench

clean:
	rm -rf .venv .venv-label-studio demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage htmlcov
