"""Tahoe-LAFS from the package index, in an environment of its own beside this file. Blocking."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from bench.system import BenchError

REQUIREMENT = "tahoe-lafs==1.20.*"
INSTALL_SECONDS = 900
_ENVIRONMENT = Path(__file__).parent / ".cache" / "tahoe"


def tahoe_program() -> Path:
    """The `tahoe` command, installed if it is not there yet; BenchError when that fails."""
    program = _ENVIRONMENT / "bin" / "tahoe"
    if program.exists() and _version(program):
        return program
    uv = shutil.which("uv")
    if uv is None:
        raise BenchError("uv is not on PATH; it installs Tahoe-LAFS for --peer tahoe")
    _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(_ENVIRONMENT)])
    _run([uv, "pip", "install", "--quiet", "--python", str(_ENVIRONMENT / "bin" / "python"), REQUIREMENT])
    if not _version(program):
        raise BenchError(f"{REQUIREMENT} was installed but does not run")
    return program


def tahoe_version() -> str:
    """What is installed, as in "1.20.0"; empty when nothing is."""
    return _version(_ENVIRONMENT / "bin" / "tahoe")


def _version(program: Path) -> str:
    try:
        done = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.partition("/")[2].split()[0] if done.returncode == 0 and "/" in done.stdout else ""


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.CalledProcessError as exc:
        last = (exc.stderr or "").strip().splitlines()[-1:] or ["no reason given"]
        raise BenchError(f"Tahoe-LAFS could not be installed: {last[0]}") from exc
    except subprocess.TimeoutExpired as exc:
        raise BenchError(f"installing Tahoe-LAFS took more than {INSTALL_SECONDS} s") from exc
