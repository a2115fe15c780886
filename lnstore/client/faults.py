"""What a node can do wrong where money or data are at stake: a name for each, for people, for --json, for its score."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Fault(Enum):
    """What a node was found to do. The values are stable: they are in catalogs and in --json."""

    ADMITS_LOSS = "admits_loss"
    NOT_LISTED = "not_listed"
    LEFT_OUT = "left_out"
    WRONG_ANSWERS = "wrong_answers"
    REPLAYED = "replayed"
    PROVES_DROPPED = "proves_dropped"
    MALFORMED_PROOF = "malformed_proof"
    TOKENS_ALTERED = "tokens_altered"
    SHARE_GONE = "share_gone"
    SHARE_DAMAGED = "share_damaged"
    HASHES_ONLY = "hashes_only"
    OVERCHARGED = "overcharged"
    WRONG_PAYEE = "wrong_payee"
    WRONG_INVOICE = "wrong_invoice"


DECEIT = frozenset(
    {
        Fault.LEFT_OUT,
        Fault.WRONG_ANSWERS,
        Fault.REPLAYED,
        Fault.PROVES_DROPPED,
        Fault.TOKENS_ALTERED,
        Fault.HASHES_ONLY,
        Fault.OVERCHARGED,
        Fault.WRONG_PAYEE,
    }
)
"""What a node does not come to do by a broken disk and an honest word."""


@dataclass(frozen=True, slots=True)
class FaultRule:
    """A fault in words (`it …`), and how much it takes from a score of 100."""

    words: str
    penalty: int


FAULTS: dict[Fault, FaultRule] = {
    Fault.ADMITS_LOSS: FaultRule("says that it lost shares", 30),
    Fault.NOT_LISTED: FaultRule("does not list shares that it acknowledged", 60),
    Fault.LEFT_OUT: FaultRule("left shares out of its proof", 60),
    Fault.WRONG_ANSWERS: FaultRule("answered from other bytes than yours", 60),
    Fault.REPLAYED: FaultRule("answered with an earlier proof", 100),
    Fault.PROVES_DROPPED: FaultRule("proved shares that you had given up, in the place of others", 60),
    Fault.MALFORMED_PROOF: FaultRule("sent a proof that is none", 40),
    Fault.TOKENS_ALTERED: FaultRule("holds the shares, but returned other storage tokens than you made", 60),
    Fault.SHARE_GONE: FaultRule("does not hold a share any more", 30),
    Fault.SHARE_DAMAGED: FaultRule("holds a share with other bytes", 30),
    Fault.HASHES_ONLY: FaultRule("kept the hashes of a share and not its bytes", 100),
    Fault.OVERCHARGED: FaultRule("asked for more than is due", 60),
    Fault.WRONG_PAYEE: FaultRule("wanted the payment made to somebody else", 60),
    Fault.WRONG_INVOICE: FaultRule("sent an invoice that is not what is due", 30),
}
