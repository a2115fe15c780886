"""Coverage-guided fuzzing of the protocol package with atheris: each target in a process of its own, then the counts.

    just fuzz 60                                       # a minute for each target
    … tests/fuzz/run_fuzz.py --runs 1000000 heads      # a million inputs for one

What was found interesting is kept in a folder and is where the next run begins; an input that makes a target fail is
left in that folder as crash-…, and belongs into the corpus of fuzz_targets.py once the fault is found, where the short
test tries it for ever.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MAX_INPUT_BYTES = 1024
SHORTER_BYTES = {"frames": 160, "connection": 300, "handshake": 160, "texts": 160, "answers": 300}
"""Where length adds time and nothing to find."""


def child(name: str, arguments: list[str]) -> None:
    """Fuzz one target in this process; never returns."""
    import atheris  # noqa: PLC0415 - of the dependency group fuzz, which only this needs

    with atheris.instrument_imports(include=["lnstore_protocol"]):
        from fuzz_targets import TARGETS  # noqa: PLC0415 - instrumented as it is imported
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


def run(name: str, folder: Path, limit: str) -> tuple[int, int, float, bool]:
    """Fuzz one target in a process: inputs tried, inputs kept, seconds, and whether nothing was found."""
    from fuzz_targets import corpus  # noqa: PLC0415 - the child must import it under instrumentation

    kept = folder / name
    kept.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(corpus(name)):
        (kept / f"seed-{number:04}").write_bytes(seed)
    began = time.monotonic()
    command = [
        sys.executable,
        __file__,
        "--child",
        name,
        str(kept),
        limit,
        f"-max_len={SHORTER_BYTES.get(name, MAX_INPUT_BYTES)}",
    ]
    command += ["-seed=1", "-timeout=20", "-rss_limit_mb=1024", "-print_final_stats=1", f"-artifact_prefix={kept}/"]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    tried = re.search(r"stat::number_of_executed_units: (\d+)", result.stderr)
    if result.returncode:
        sys.stderr.write(result.stdout[-4000:] + result.stderr[-4000:])
    inputs = int(tried[1]) if tried else 0
    return inputs, sum(1 for _ in kept.iterdir()), time.monotonic() - began, result.returncode == 0


def main() -> None:
    """Parse the arguments, fuzz, print one line per target; exit 1 when an input was found."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3:])
    from fuzz_targets import TARGETS  # noqa: PLC0415 - the child must import it under instrumentation

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all without")
    parser.add_argument("--seconds", type=int, default=30, help="for each target (default: %(default)s)")
    parser.add_argument("--runs", type=int, help="inputs for each target, instead of a time")
    parser.add_argument("--corpus", type=Path, help="where inputs are kept (default: a new temporary folder)")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    folder = options.corpus or Path(tempfile.mkdtemp(prefix="lnstore-fuzz-"))
    limit = f"-runs={options.runs}" if options.runs else f"-max_total_time={options.seconds}"
    whole = True
    for name in options.targets or TARGETS:
        inputs, kept, seconds, clean = run(name, folder, limit)
        verdict = "nothing found" if clean else "FOUND A FAULT"
        sys.stdout.write(f"{name:12} {inputs:>10,} inputs  {kept:>6,} kept  {seconds:7.1f} s  {verdict}\n")
        sys.stdout.flush()
        whole = whole and clean
    sys.stdout.write(f"inputs are kept in {folder}\n")
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    main()
