# List the recipes.
default:
    @just --list

# Install everything into .venv.
setup:
    uv sync

# Format the code.
fmt:
    uv run ruff format .
    uv run ruff check --fix .

# Lint: format, rules, import arrows.
lint:
    uv run ruff format --check .
    uv run ruff check .
    uv run lint-imports

# Types, strictly.
type:
    uv run mypy
    uv run pyright -p protocol

# The tests on two cores.
test *ARGS:
    uv run pytest -n 2 --dist loadfile {{ARGS}}

# The tests, and the coverage of all processes they start: half as long again.
coverage *ARGS:
    uv run coverage erase
    uv run coverage run -m pytest -n 2 --dist loadfile {{ARGS}}
    uv run coverage combine -q
    uv run coverage report

# Fuzz every target for so many seconds: only known errors may come out of the protocol's readers.
fuzz SECONDS="30" *ARGS:
    uv run --isolated --group fuzz python tests/fuzz/run_fuzz.py --seconds {{SECONDS}} {{ARGS}}

# What CI runs.
check: lint type test

# The live tests, and the main job, on real bitcoind and lightningd from PATH (regtest, loopback).
live *ARGS:
    uv run pytest -m live -ra {{ARGS}}
    uv run lnstore demo README.md --lightning core

# Kill -9 of client, node and both real lightningds, so many times in all; the figures are printed.
live-kills KILLS="120" *ARGS:
    LNSTORE_KILLS={{KILLS}} uv run pytest -m live -s tests/live/test_live_kills.py {{ARGS}}

# The machines that kill everybody on the simulated network and at any write to the books, for so many sequences each.
soak SEQUENCES="300" *ARGS:
    LNSTORE_SOAK={{SEQUENCES}} uv run pytest tests/stateful tests/client/test_budgets.py tests/node/test_node_rent_again.py --hypothesis-show-statistics {{ARGS}}

# Ten node processes that break in every phase of a client's life, for so many rounds; a seed repeats a run.
grid ROUNDS="20" SEED="":
    LNSTORE_GRID={{ROUNDS}} LNSTORE_GRID_SEED={{SEED}} uv run pytest -s tests/grid -k rounds

# The main job on a file of yours.
demo FILE *ARGS:
    uv run lnstore demo {{FILE}} {{ARGS}}

# Measure: `just bench --quick --peer tahoe --compare`; the recorded run is `just bench --peer tahoe --record`.
bench *ARGS:
    uv run python -m bench {{ARGS}}

# Measure with real bitcoind and lightningd from PATH; `--record` remakes docs/benchmarks-lightning.md.
bench-lightning *ARGS:
    uv run python -m bench.lightning {{ARGS}}

# Where the time of a transfer goes: `just profile put FILE`, `just profile get 256MiB --coding 3-of-10`.
profile WORK FILE *ARGS:
    uv run --group profile python -m bench.profile {{WORK}} {{FILE}} {{ARGS}}
