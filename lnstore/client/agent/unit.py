"""A systemd unit for the agent, to be installed for one's own user."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lnstore.client.keyfile import PASSPHRASE_FILE_VARIABLE
from lnstore.errors import ExitCode

NAME = "lnstore-agent.service"

_UNIT = """\
[Unit]
Description=lnstore agent: pays rent, audits, repairs and backs up
StartLimitIntervalSec=0

[Service]
Type=exec
{environment}
ExecStart={command} agent run
Restart=on-failure
RestartSec=60
RestartPreventExitStatus={hopeless}
TimeoutStopSec=30
UMask=0077
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""


def unit_text(directory: Path) -> str:
    """The unit for this profile and this installation of lnstore. The passphrase's file is named if there is one."""
    variables = {"LNSTORE_HOME": str(directory.absolute())}
    if passphrase := os.environ.get(PASSPHRASE_FILE_VARIABLE):
        variables[PASSPHRASE_FILE_VARIABLE] = str(Path(passphrase).absolute())
    own = Path(sys.executable).with_name("lnstore")
    command = [str(own)] if own.exists() else [sys.executable, "-m", "lnstore"]
    return _UNIT.format(
        environment="\n".join(f"Environment={_quoted(f'{name}={value}')}" for name, value in variables.items()),
        command=" ".join(_quoted(word).replace("$", "$$") for word in command),
        hopeless=f"{ExitCode.USAGE} {ExitCode.CONFIGURATION} {ExitCode.AGENT_RUNNING}",
    )


def _quoted(text: str) -> str:
    """A word as systemd reads it, with what it would replace written twice."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
