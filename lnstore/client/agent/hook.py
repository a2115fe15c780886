"""The user's command for alerts: told what needs a person and what does not any more, never a secret."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio

from lnstore.client.agent.store import Alert
from lnstore.client.keyfile import PASSPHRASE_FILE_VARIABLE
from lnstore.user_command import user_command

HOOK_SECONDS = 30.0


class HookFailed(Exception):
    """For the code around: the command could not be run, failed, or took too long."""


def alert_json(alert: Alert, petname: str | None) -> dict[str, Any]:
    """An alert for programs."""
    return {
        "state": alert.state,
        "job": alert.job.partition("/")[0],
        "node": petname,
        "subject": alert.subject,
        "text": alert.text,
        "opened_at": alert.opened_at,
        "closed_at": alert.closed_at,
    }


async def run_hook(command: Sequence[str], alert: Alert, *, petname: str | None, profile: Path) -> None:
    """Tell the command of one alert; HookFailed. What it starts and leaves behind is killed with it."""
    said = alert_json(alert, petname)
    inherited = {name: value for name, value in os.environ.items() if name != PASSPHRASE_FILE_VARIABLE}
    opened = datetime.fromtimestamp(alert.opened_at, UTC).isoformat()
    environment = {
        **inherited,
        "LNSTORE_HOME": str(profile),
        "LNSTORE_ALERT_STATE": said["state"],
        "LNSTORE_ALERT_JOB": said["job"],
        "LNSTORE_ALERT_NODE": petname or "",
        "LNSTORE_ALERT_SUBJECT": alert.subject,
        "LNSTORE_ALERT_TEXT": alert.text,
        "LNSTORE_ALERT_OPENED_AT": opened,
    }
    try:
        async with user_command(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        ) as process:
            with trio.fail_after(HOOK_SECONDS):
                assert process.stdin is not None  # noqa: S101 - a pipe was asked for
                with suppress(trio.BrokenResourceError):  # it need not read
                    await process.stdin.send_all(json.dumps(said).encode() + b"\n")
                await process.stdin.aclose()
                code = await process.wait()
    except (OSError, ValueError) as exc:
        raise HookFailed(f"the hook command cannot be run: {exc}") from exc
    except trio.TooSlowError:
        raise HookFailed(f"the hook command took longer than {HOOK_SECONDS:.0f} seconds and was ended") from None
    if code != 0:
        raise HookFailed(f"the hook command ended with exit status {code}")
