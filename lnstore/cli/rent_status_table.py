"""How `lnstore rent status` shows accounts: the nodes' numbers, added up, with those marked that are not our own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lnstore.cli.output import human_msat, human_time, table
from lnstore.sizes import human_bytes

if TYPE_CHECKING:
    from lnstore.client.rent_status import RentStatus
    from lnstore_protocol.messages import AccountStatusReply

MARK = " (!)"

COLUMNS = (
    "node",
    "stage",
    "used",
    "capacity",
    "shares",
    "written",
    "read",
    "paid until",
    "rent per period",
    "deposit",
    "proofs",
    "paid in all",
)


def print_table(rows: Sequence[RentStatus]) -> None:
    """One line for each node, and one for all of them."""
    table("", list(COLUMNS), [*map(_row, rows), _sum(rows)] if rows else [])


def difference_sentence(row: RentStatus) -> str:  # MA-R11
    """What the node says otherwise than our own books; empty when nothing."""
    if not row.differences or row.status is None or row.ours is None:
        return ""
    said, ours = row.status, row.ours
    own = {
        "capacity": f"capacity {human_bytes(ours.rented.in_the_end)}",
        "paid until": f"paid until {human_time(ours.paid_until_at)}",
        "proof index": f"next proof {ours.next_proof}, it says {said.token_index}",
        "shares": f"{row.shares_in_catalog:,} shares",
        "used": f"{human_bytes(row.bytes_in_catalog)} stored",
        "proofs passed": f"{row.proofs_passed:,} proofs passed",
    }
    return (
        f"{row.node.petname}: the node's numbers differ from your own books "
        f"({'; '.join(own[name] for name in row.differences)}); ask its operator"
    )


def status_json(row: RentStatus) -> dict[str, Any]:
    """What `rent status --json` prints for a node."""
    said, coming = row.status, row.outlook.coming if row.outlook else None
    return {
        "node": row.node.petname,
        "node_id": row.node.node_id,
        "state": said.state.name.lower() if said else None,
        "stage": row.outlook.stage.name.lower() if row.outlook else None,
        "next_stage": coming.stage.name.lower() if coming else None,
        "next_stage_at": coming.at if coming else None,
        "warning_at": coming.warning_at if coming else None,
        "warning": row.warning,
        "blocked": bool(said.blocked) if said else None,
        "free": row.at_no_price if said else None,
        "capacity_bytes": said.capacity_bytes if said else None,
        "quota_bytes": said.quota_bytes if said else None,
        "shrink_to_bytes": said.shrink_to_bytes if said else None,
        "shrink_period": said.shrink_period if said else None,
        "used_bytes": said.used_bytes if said else None,
        "shares": said.shares if said else None,
        "deposit_msat": said.deposit_msat if said else None,
        "paid_until_at": said.paid_until_at if said else None,
        "ingress_bytes": said.ingress_bytes if said else None,
        "egress_bytes": said.egress_bytes if said else None,
        "proofs_passed": said.proofs_passed if said else None,
        "proofs_failed": said.proofs_failed if said else None,
        "removed_at": said.removed_at if said else None,
        "own_capacity_bytes": row.ours.rented.in_the_end if row.ours else None,
        "own_paid_until_at": row.ours.paid_until_at if row.ours else None,
        "own_proofs_passed": row.proofs_passed,
        "own_proofs_failed": row.proofs_failed,
        "shares_in_catalog": row.shares_in_catalog,
        "bytes_in_catalog": row.bytes_in_catalog,
        "rent_msat_per_period": row.rent_msat_per_period,
        "next_due_at": row.next_due_at,
        "deposited_msat": row.deposited_msat,
        "paid_msat": row.paid_msat,
        "fees_msat": row.fees_msat,
        "agrees": row.agrees,
        "differences": list(row.differences),
        "error": row.error,
    }


def _row(row: RentStatus) -> list[str]:
    said = row.status
    if said is None:
        return [row.node.petname, "no answer" if row.error else "no account", *[""] * (len(COLUMNS) - 2)]

    def marked(text: str, *names: str) -> str:
        return text + MARK if set(names) & set(row.differences) else text

    stage = row.outlook.stage if row.outlook else said.state
    state = [stage.name.lower(), *["blocked"] * bool(said.blocked), *["free"] * row.at_no_price]
    quota = "" if said.quota_bytes is None else f" (quota {human_bytes(said.quota_bytes)})"
    return [
        row.node.petname,
        ", ".join(state),
        marked(human_bytes(said.used_bytes), "used"),
        marked(human_bytes(said.capacity_bytes) + quota, "capacity"),
        marked(f"{said.shares:,}", "shares"),
        human_bytes(said.ingress_bytes),
        human_bytes(said.egress_bytes),
        marked(human_time(said.paid_until_at), "paid until"),
        human_msat(row.rent_msat_per_period),
        human_msat(said.deposit_msat),
        marked(_proofs(said.proofs_passed, said.proofs_failed), "proofs passed", "proof index"),
        human_msat(row.paid_msat + row.fees_msat),
    ]


def _sum(rows: Sequence[RentStatus]) -> list[str]:
    said = [row.status for row in rows if row.status is not None]

    def total(value: Callable[[AccountStatusReply], int | None]) -> int:
        return sum(value(status) or 0 for status in said)

    first = min((status.paid_until_at for status in said if status.capacity_bytes), default=None)
    return [
        "all",
        f"{len(said)} of {len(rows)} accounts",
        human_bytes(total(lambda status: status.used_bytes)),
        human_bytes(total(lambda status: status.capacity_bytes)),
        f"{total(lambda status: status.shares):,}",
        human_bytes(total(lambda status: status.ingress_bytes)),
        human_bytes(total(lambda status: status.egress_bytes)),
        "" if first is None else human_time(first),
        human_msat(sum(row.rent_msat_per_period for row in rows)),
        human_msat(total(lambda status: status.deposit_msat)),
        _proofs(total(lambda status: status.proofs_passed), total(lambda status: status.proofs_failed)),
        human_msat(sum(row.paid_msat + row.fees_msat for row in rows)),
    ]


def _proofs(passed: int | None, failed: int | None) -> str:
    return "" if passed is None else f"{passed:,} passed, {failed or 0:,} failed"
