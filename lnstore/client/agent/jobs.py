"""Which jobs a profile's agent has: some for each node with an account, some once."""

from __future__ import annotations

from collections.abc import Iterator

from lnstore.client.agent.schedule import Job
from lnstore.client.agreements import agreement_at
from lnstore.client.catalog import Catalog, NodeEntry
from lnstore.client.holdings import is_kept
from lnstore.client.losses import Losses
from lnstore.client.wallet import Wallet
from lnstore.config import AgentConfig
from lnstore_protocol.ids import NodeId
from lnstore_protocol.stages import due_seconds

CHANNELS, TOKENS, RENT, AUDIT = "channels", "tokens", "rent", "audit"
REPAIR, RETIRE, BACKUP = "repair", "retire", "backup"
ORDER = (CHANNELS, TOKENS, RENT, AUDIT, REPAIR, RETIRE, BACKUP)
"""Which comes first when several are due: what paying takes, then paying; repair when it is known what is lost, and the
backup when the rest is written."""

LOOKS_WHILE_DUE = 3
"""Rent is looked after at least so often between when it is due and when it must be paid, however short the periods."""


def jobs_of(catalog: Catalog, config: AgentConfig) -> list[Job]:
    """All of them, as the catalog is now."""
    return [*_all(catalog, config)]


def _all(catalog: Catalog, config: AgentConfig) -> Iterator[Job]:
    nodes = [node for node in catalog.nodes() if is_kept(catalog, node)]
    if not nodes:
        return
    looks = {node.node_id: _look_seconds(node, config) for node in nodes}
    yield _job(CHANNELS, min(looks.values()))
    for node in nodes:
        yield _job(TOKENS, looks[node.node_id], node)
        yield _job(RENT, looks[node.node_id], node)
        yield _job(AUDIT, config.audit_every, node)
    found = [at for at in (Losses(catalog).last_found_at(), Wallet(catalog).last_failed_at()) if at is not None]
    yield _job(REPAIR, config.repair_every, wanted_at=max(found, default=None))
    if any(node.retiring for node in nodes):
        yield _job(RETIRE, config.repair_every)
    yield _job(BACKUP, config.backup_every)


def _job(kind: str, every_seconds: int, node: NodeEntry | None = None, *, wanted_at: int | None = None) -> Job:
    return Job(job_name(kind, None if node is None else node.node_id), every_seconds, ORDER.index(kind), wanted_at)


def job_name(kind: str, node_id: NodeId | None = None) -> str:
    """What a job is called."""
    return kind if node_id is None else f"{kind}/{node_id.hex()}"


def job_parts(name: str) -> tuple[str, NodeId | None]:
    """Its kind, and its node if it is about one."""
    kind, _, node = name.partition("/")
    return kind, NodeId.from_hex(node) if node else None


def petname_of(catalog: Catalog, name: str) -> str | None:
    """The node that a job is about, as a person calls it; None if it is about none that is known."""
    _, node_id = job_parts(name)
    return next((node.petname for node in catalog.nodes() if node.node_id == node_id), None)


def _look_seconds(node: NodeEntry, config: AgentConfig) -> int:
    agreed = agreement_at(node)
    assert agreed is not None  # noqa: S101 - those with an account
    return max(min(config.rent_every, due_seconds(agreed.terms.terms.period_seconds) // LOOKS_WHILE_DUE), 1)
