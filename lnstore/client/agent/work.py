"""What the agent's jobs do: each puts together what the commands of the same names do, and adds no rule of its own."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lnstore.client.agent.jobs import AUDIT, BACKUP, CHANNELS, RENT, REPAIR, RETIRE, TOKENS
from lnstore.client.agent.lacking import files_lacking, gone_nodes
from lnstore.client.agent.store import AgentStore
from lnstore.client.backup import back_up
from lnstore.client.catalog import FileEntry, NodeEntry
from lnstore.client.channel_watch import channel_warnings, rented_bytes
from lnstore.client.diagnosis import diagnose
from lnstore.client.files import Client
from lnstore.client.looking import Depth, look
from lnstore.client.losses import Losses
from lnstore.client.money_errors import ProofFailed
from lnstore.client.node_channels import make_ready
from lnstore.client.node_errors import NodeError, NodeRefused
from lnstore.client.purse import Purse
from lnstore.client.renewal import plan_renewal, renew, renewal_due
from lnstore.client.rent import RentOutcome, pay_rent
from lnstore.client.rent_status import RentStatus, rent_status
from lnstore.client.repairing import repair_files
from lnstore.client.retiring import retire
from lnstore.client.targets import find_targets
from lnstore.client.titles import title
from lnstore.errors import LnstoreError
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import NodeId
from lnstore_protocol.messages import AccountStage

TOP_UP_SECONDS = 60.0
"""How long a top-up that is under way is waited for; the next run goes on waiting for the same one."""

_draw = random.SystemRandom()
"""No node may know what it will be asked for."""


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
    if not renewal_due(purse, node):
        return Done("no share needs new tokens")
    found = await plan_renewal(purse, node)
    return Done(f"{await renew(purse, found)} shares have new tokens")


async def look_after_rent(purse: Purse, node: NodeEntry) -> Done:
    """Pay what is due against a proof, say what is wrong there if the proof fails, and how the account stands then."""
    (paid,) = await pay_rent(purse, [node])
    found = await _diagnosed(purse, node) if isinstance(paid.error, ProofFailed) else ""
    (status,) = await rent_status(purse, [node])
    alerts = {"receipts": "; ".join(paid.receipt_warnings), "tokens": paid.warning, **_account_alerts(status)}
    alerts["diagnosis"] = found
    return Done(_paid_sentence(paid), {subject: text for subject, text in alerts.items() if text}, paid.error)


async def _diagnosed(purse: Purse, node: NodeEntry) -> str:
    """What is wrong there. All shares are looked at once; what is known to be lost does not come back by looking again.

    The audit does look again, daily.
    """
    if known := Losses(purse.catalog).at(node.node_id):
        return f"{node.petname}: {len(known)} shares are known to be lost there; see: lnstore nodes show {node.petname}"
    try:
        return (await diagnose(purse, node)).sentence
    except NodeError as exc:
        return f"{node.petname} could not be audited: {exc.reason}"


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


async def audit(purse: Purse, node: NodeEntry) -> Done:
    """Have the node show some shares drawn at random, and read a few of them whole; all of them if one is lost."""
    config = purse.config.agent
    ids = sorted({share.share_id for share in purse.catalog.shares_at(node.node_id)})
    drawn = _draw.sample(ids, min(config.audit_shares, len(ids)))
    if not drawn:
        return Done("nothing is stored there")
    shown = await look(purse, node, drawn, Depth.AUDITED)
    error, read = None, drawn[: config.audit_reads]
    if shown.sound and read:
        try:
            shown = await look(purse, node, read, Depth.READ)
        except NodeRefused as refused:
            if refused.code is not ErrorCode.PAYMENT_REQUIRED:
                raise
            error = DepositUsedUp(
                f"the deposit at {node.petname} does not suffice to read what is stored there; add to it with: "
                f"lnstore rent buy {node.petname} {rented_bytes(purse, node)} --deposit MSAT"
            )
    if not shown.sound:
        shown = await diagnose(purse, node)
        return Done(shown.sentence, {"loss": f"{shown.sentence}; see: lnstore nodes show {node.petname}"})
    return Done(f"showed {len(drawn)} of {len(ids)} shares, {0 if error else len(read)} of them in full", error=error)


class DepositUsedUp(LnstoreError):
    """There is too little left at a node to read from it."""


async def look_after_files(purse: Purse, client: Client) -> Done:
    """Store again what is lost of files that can spare few more losses, and what keeps a node from being paid."""
    config, now = purse.config.agent, purse.clock.now()
    gone = gone_nodes(AgentStore(purse.catalog).runs(), config.gone_after, now)
    alerts = {node_id.hex(): _gone_sentence(purse.catalog.node(node_id), since) for node_id, since in gone.items()}
    wanted = _to_repair(purse, gone)
    if not wanted:
        return Done("no file lacks too much", alerts)
    targets = await find_targets(client)
    count = stored = 0
    for file in wanted:
        try:
            done = await repair_files(purse, targets, files=[file], away=gone)
        except LnstoreError as exc:
            alerts[file.name] = _not_repaired(file, str(exc))
            continue
        count, stored = count + len(done), stored + sum(one.to is not None for one in done)
        if reasons := [one.reason for one in done if one.to is None]:
            alerts[file.name] = _not_repaired(file, reasons[0])
    return Done(f"{stored} of {count} shares that were lacking are stored again", alerts)


def _to_repair(purse: Purse, gone: Mapping[NodeId, int]) -> list[FileEntry]:
    """The worst files first; then those whose losses keep a node from proving the rest, and others' that we care for.

    A node that lost a share cannot be paid until the share lies elsewhere, however many may still be lost.
    """
    found = {health.file.file_id: health.file for health in files_lacking(purse, gone)}
    unproven = {node.node_id for node in purse.catalog.nodes() if purse.wallet.failed_challenge(node.node_id)}
    blocking = {loss.share.file_id for loss in Losses(purse.catalog).all() if loss.share.node_id in unproven}
    for file in purse.catalog.files():
        if file.file_id in blocking or file.verify_only:
            found.setdefault(file.file_id, file)
    return list(found.values())


def _not_repaired(file: FileEntry, reason: str) -> str:
    return f"{title(file)} is not repaired: {reason}; it is tried again, or at once with: lnstore repair --all"


def _gone_sentence(node: NodeEntry, since: int) -> str:
    return (
        f"{node.petname} has not answered since {datetime.fromtimestamp(since, UTC):%Y-%m-%d} and counts as gone: what "
        f"it held is stored at other nodes as far as they have room; ask its operator, or take leave of it with: "
        f"lnstore nodes retire {node.petname}"
    )


async def go_on_retiring(purse: Purse, client: Client) -> Done:
    """Move what is left off nodes that are to be retired, and leave those that are empty."""
    said, alerts = [], {}
    targets = await find_targets(client)
    for node in [node for node in purse.catalog.nodes() if node.retiring]:
        done = await retire(purse, node, targets)
        moved = len(done.moves) - len(done.stuck)
        said.append(f"{node.petname}: {moved} shares moved, {'left' if done.is_over else done.why_not_left}")
        if done.stuck:
            alerts[node.node_id.hex()] = (
                f"{len(done.stuck)} shares at {node.petname} find no other node: {done.stuck[0].reason}; see: lnstore "
                f"nodes retire {node.petname} --dry-run"
            )
    return Done("; ".join(said), alerts)


async def store_backup(client: Client) -> Done:
    """The catalog on the nodes."""
    made = await back_up(client)
    without = ", ".join(f"{node.petname} ({why})" for node, why in made.not_told)
    return Done(f"{made.bytes:,} bytes; {len(made.told)} nodes point to it" + (f", not: {without}" if without else ""))


OF_NODES: dict[str, Callable[[Purse, NodeEntry], Awaitable[Done]]] = {
    TOKENS: renew_tokens,
    RENT: look_after_rent,
    AUDIT: audit,
}
OF_ALL: dict[str, Callable[[Purse, Client], Awaitable[Done]]] = {
    CHANNELS: lambda purse, _: look_after_channels(purse),
    REPAIR: look_after_files,
    RETIRE: go_on_retiring,
    BACKUP: lambda _, client: store_backup(client),
}
