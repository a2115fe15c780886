"""Requirements that no check tries, and why: all others are in the tables of checks."""

from __future__ import annotations

from collections.abc import Iterable

_INSIDE = "can not be seen from outside"
_PERMISSION = "is a permission"
_CLIENT = "binds clients: run with --client, or see the vectors"
_CLIENT_STATE = "binds what a client keeps, decides or pays: no node can see it"
_FILES = "binds clients among themselves: see spec/vectors"

_OPTIONAL = "a node may refuse every delegation: see spec/vectors"
_DELEGATION = " ".join([*(f"D-W{number}" for number in range(1, 6)), *(f"D-R{number}" for number in range(1, 20))])

_NODE_REASONS: dict[str, str] = {
    _OPTIONAL: _DELEGATION,
    _INSIDE: "T-R7 T-R8 T-R15 T-W9 M-W9 M-R17 R-W5 RC-W5 E-W2 S-W5 S-R1 S-R2 S-R3 S-R4 M-W12 V-R1",
    "would need hundreds of connections or accounts": "T-R9 S-W1 S-W2 S-W3 S-W4 E-W4",
    "would need the node to have lost a share": "P-W9",
    "would need the node's operator to change prices": "R-W26 R-W28 R-W29 R-W30 MA-R28",
    "would need the node's operator to decide about the account": (
        "RA-W1 RA-W2 RA-W3 RA-W4 RA-W5 RA-W6 RA-W7 RA-W8 RA-W9 RA-R3 RA-R4 RA-R5 RA-R7"
    ),
    _PERMISSION: "RC-W6 T-W8 M-W5 MA-R6 R-W25 R-R21 V-W1 V-W2",
    _CLIENT: "T-W2 T-W4 T-R3 T-W11 T-W12 T-R17 T-R21 M-R6 M-W6 M-R19 C-R10 MB-W1 F-R5 F-R7",
    _CLIENT_STATE: (
        "M-R20 MA-R2 MA-W2 MA-R9 MA-R10 MA-R11 MA-W3 MA-R15 MA-W4 MA-W5 MB-R7 MB-R17 MB-W4 MB-R24 MB-R30 MB-R32 P-W3 "
        "P-W4 P-W5 P-W6 P-R8 P-R11 P-R12 P-R15 R-W1 R-R5 R-R6 R-R7 R-R15 R-W12 R-W13 R-R20 R-R22 R-R24 R-R25 E-R1 E-R2 "
        "E-R3 MB-W5 MB-R37 MB-R38 E-R4 E-R5 E-R6 V-W3 V-W4 V-W5 V-W7 V-W8 RC-R7 RC-W3 RP-R1 RP-R4 RP-R6 RP-W6 RP-W9 "
        "MA-W8 MA-R31 MA-R26 MA-R29 R-R26 R-R27 R-R28 R-R29 RA-R1 RA-R2 RA-R6 RA-R8 RA-R9 RA-R10 RA-R11 RI-R1"
    ),
    _FILES: "F-W1 F-W2 F-R1 F-R2 F-R3 F-W3 F-W4 F-W5 F-R4 F-R6 F-W6 F-W7 F-R8 F-R9 F-R10 F-R11 F-R12 F-W8 F-R13 F-R14 "
    "F-R15 F-R16 F-R17 F-W9 F-W10 F-R18 F-R19 F-R20 F-R21 F-R22 F-R23 RC-W4 RC-R8 RC-R9",
}

NODE_UNCHECKED: dict[str, str] = {
    requirement: reason for reason, requirements in _NODE_REASONS.items() for requirement in requirements.split()
}
"""Why no check of a node tries a requirement, by requirement."""

_SELLS_NOTHING = "binds what a client pays, and the stand-in sells nothing"
_NODE = "binds nodes: run against a node"
_OF_PAYING_CLIENTS = (
    "M-R14 M-R15 M-R16 MA-R7 MA-R20 MA-R21 MA-R23 MA-R24 P-R9 P-R10 P-R13 P-R14 R-R3 R-R4 R-R8 R-R9 R-R10 R-R11 "
    "R-R12 R-R13 R-R14 R-R17 R-R18 R-R19 R-R23 RI-R2 R-W21"
)


def client_unchecked(tried: Iterable[str], on_nodes: Iterable[str]) -> dict[str, str]:
    """Why no scenario tries a requirement; `tried` are those of the scenarios, `on_nodes` those of the checks."""
    reasons = (
        dict.fromkeys(on_nodes, _NODE) | NODE_UNCHECKED | dict.fromkeys(_OF_PAYING_CLIENTS.split(), _SELLS_NOTHING)
    )
    untried = set(reasons) - set(tried)
    return {r: _CLIENT_STATE if reasons[r] == _CLIENT else reasons[r] for r in untried}
