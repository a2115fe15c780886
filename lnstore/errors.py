"""The base of every error that a person meets: its text says what is wrong and what to do next.

The command line prints the text without a traceback and exits with `exit_code`.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the exit status of every lnstore command means."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    NODE = 4
    PAYMENT = 5
    DATA = 6
    DIFFERS = 7
    ALERTS = 8
    AGENT_RUNNING = 9
    INTERRUPTED = 130


EXIT_CODE_MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "failed for a reason that none of the others names",
    ExitCode.USAGE: "the command line cannot be understood",
    ExitCode.CONFIGURATION: "a profile, node directory or setting is missing or wrong",
    ExitCode.NODE: "a node cannot be reached, is not who it should be, or refused",
    ExitCode.PAYMENT: "a payment was not made, or its outcome is not known yet; nothing is ever paid twice",
    ExitCode.DATA: "a file cannot be read, stored or put together again, or a capability is wrong",
    ExitCode.DIFFERS: "a check found differences: in the books, or in a bundle of receipts",
    ExitCode.ALERTS: "done, and something needs you: lnstore status says what",
    ExitCode.AGENT_RUNNING: "an agent is at work with this profile already",
    ExitCode.INTERRUPTED: "interrupted from the keyboard",
}


_SECRET_TEXT = re.compile(r"(lns[rvi]1)[0-9a-z]{8,}", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """The text, with only the beginning of the capabilities and invitations in it, such as those a person mistyped."""
    return _SECRET_TEXT.sub(r"\1…", text)


class LnstoreError(Exception):
    """Something a person can act on; the text says how, and shows no capability and no invitation."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __str__(self) -> str:
        return without_secrets(super().__str__())
