"""What the agent's jobs do: each puts together what the commands of the same names do, and adds no rule of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from lnstore.client.agent.jobs import BACKUP, CHANNELS, RENT, TOKENS
from lnstore.client.backup import back_up
from lnstore.client.catalog import NodeEntry
from lnstore.client.channel_watch import channel_warnings
from lnstore.client.diagnosis import diagnose
from lnstore.client.files import Client
from lnstore.client.money_errors import ProofFailed
from lnstore.client.node_channels import make_ready
from lnstore.client.node_errors import NodeError
from lnstore.client.purse import Purse
from lnstore.client.renewal import plan_renewal, renew
from lnstore.client.rent import RentOutcome, pay_rent
from lnstore.client.rent_status import RentStatus, rent_status
from lnstore.errors import LnstoreError
from lnstore_protocol.messages import AccountStage

TOP_UP_SECONDS = 60.0
"""How long a top-up that is under way is waited for; the next run goes on waiting for the same one."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a job has to say: a sentence, alerts by subject, and what it failed with."""

    result: str
    alerts: dict[str, str] = field(default_factory=dict)
    error: LnstoreError | None = None


async def look_after_channels(purse: Purse) -> Done:
    """Call daemons that went away, add to channels if the profile says so, and warn of those that run out."""
    await purse.daemon()
    told: list[str] = []
    await make_ready(purse, purse.catalog.nodes(), progress=told.append, timeout_seconds=TOP_UP_SECONDS)
    warnings = await channel_warnings(purse)
    alerts = {node_id.hex(): warning for node_id, warning in warnings.items()}
    return Done("; ".join(told) or ("see the alerts" if alerts else "all channels can pay what is to come"), alerts)


async def renew_tokens(purse: Purse, node: NodeEntry) -> Done:
    """New storage tokens for shares that are soon out of them."""
    found = await plan_renewal(purse, node)
    if not found.shares:
        return Done("no share needs new tokens")
    return Done(f"{await renew(purse, found)} shares have new tokens")


async def look_after_rent(purse: Purse, node: NodeEntry) -> Done:
    """Pay what is due against a proof, say what is wrong there if the proof fails, and how the account stands then."""
    (paid,) = await pay_rent(purse, [node])
    found = ""
    if isinstance(paid.error, ProofFailed):
        try:
            found = (await diagnose(purse, node)).sentence
        except NodeError as exc:
            found = f"{node.petname} could not be audited: {exc.reason}"
    (status,) = await rent_status(purse, [node])
    alerts = {"receipts": "; ".join(paid.receipt_warnings), "tokens": paid.warning, **_account_alerts(status)}
    alerts["diagnosis"] = found
    return Done(_paid_sentence(paid), {subject: text for subject, text in alerts.items() if text}, paid.error)


def _account_alerts(status: RentStatus) -> dict[str, str]:
    """What is to be known of an account besides a payment that failed."""
    petname, seen = status.node.petname, status.outlook
    alerts = {}
    if seen is not None and (seen.stage > AccountStage.DUE or (seen.stage is AccountStage.DUE and seen.warned)):
        alerts["account"] = status.warning
    if status.differences:
        alerts["numbers"] = (
            f"{petname}: the node's numbers differ from your own books ({', '.join(status.differences)}); compare "
            "them with: lnstore rent status"
        )
    if status.change is not None:
        alerts["prices"] = f"{petname} announces other prices; see and sign them with: lnstore rent agree {petname}"
    return alerts


def _paid_sentence(outcome: RentOutcome) -> str:
    if not outcome.paid:
        return "nothing is due"
    msat = sum(paid.amount_msat + paid.fee_msat for paid in outcome.paid)
    periods = f"{len(outcome.paid)} period{'s'[: len(outcome.paid) > 1]}"
    proven = sum(paid.sampled for paid in outcome.paid)
    return f"paid {msat:,} msat with fees for {periods}, against proofs of {proven} shares"


async def store_backup(client: Client) -> Done:
    """The catalog on the nodes."""
    made = await back_up(client)
    without = ", ".join(f"{node.petname} ({why})" for node, why in made.not_told)
    return Done(f"{made.bytes:,} bytes; {len(made.told)} nodes point to it" + (f", not: {without}" if without else ""))


OF_NODES: dict[str, Callable[[Purse, NodeEntry], Awaitable[Done]]] = {
    TOKENS: renew_tokens,
    RENT: look_after_rent,
}
OF_ALL: dict[str, Callable[[Purse, Client], Awaitable[Done]]] = {
    CHANNELS: lambda purse, _: look_after_channels(purse),
    BACKUP: lambda _, client: store_backup(client),
}
