"""What the figures were measured on, without saying whose machine it is."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import version
from pathlib import Path

from cryptography.hazmat.backends.openssl import backend

from lnstore.client.erasure import ErasureCode

ERASURE_CODE = "erasure_code"
"""Which library computes parity: it decides which targets hold."""

LIBRARIES = ("lnstore", "trio", "cryptography", "blake3", "zfec", "msgpack", "pynacl", "sqlalchemy")


def describe(place: Path, cores: list[int]) -> dict[str, object]:
    """Processor, memory, kind of file system, and versions."""
    return {
        "processor": _processor(),
        "cores_used": len(cores),
        "cores_of_machine": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "file_system": _file_system(place),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "openssl": backend.openssl_version_text().split()[1],
        "sqlite": sqlite3.sqlite_version,
        ERASURE_CODE: ErasureCode(3, 5).library,
        **{name: version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    fields = dict.fromkeys(("model name", "Hardware", "CPU part"), "")
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in fields:
            fields[name.strip()] = value.strip()
    return next((value for value in fields.values() if value), platform.machine())


def _file_system(place: Path) -> str:
    """The type of the mount that `place` lies on."""
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    holding = [(point, kind) for point, kind in mounts if place.resolve().is_relative_to(point)]
    return max(holding, key=lambda mount: len(mount[0]))[1] if holding else "unknown"
