"""Whatever is killed whenever, in any order, and restarted: each invoice is paid and credited at most once.

How far a command has come when the next rule runs is up to the machine it runs on, so no rule has a precondition:
one that cannot be followed now does nothing.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from money_town import GRACE, MIB, PERIOD, Town
from soak_length import sequences

from lnstore import logs
from lnstore.client import accounts, payments, pool
from lnstore.lightning.simulated import faults
from lnstore.node import binding

SEQUENCES = sequences(short=5)
STEPS = 25 if SEQUENCES <= 5 else 50

TROUBLES = (
    *(("crash", "client", f"payment-{moment}") for moment in ("unsent", "recorded", "recorded", "sent", "settled")),
    ("crash", "node", "invoice-created"),
    ("hold_payment", "client", None),
    ("fail_payment", "client", None),
)
"""What happens to one of the daemons next: kind of fault, daemon, moment."""
WAITS = (0.01, 0.1, 1.0)

HAPPENINGS: tuple[tuple[str, object], ...] = (
    *(("wait", seconds) for seconds in WAITS),
    ("kill_client", None),
    *(("kill_node", effect) for effect in (None, 1, 2, 3, 4, 5, 6, 8)),
    *(("crash", daemon) for daemon in ("client", "node")),
    *(("start", who) for who in (None, None, "client", "node", "storage")),
    *(("advance", seconds) for seconds in (10, 130, 4000, PERIOD, PERIOD + GRACE)),
    *(("release", outcome) for outcome in ("complete", "fail")),
)
"""What may happen between two commands, or while one is under way."""

deaths = st.none() | st.integers(1, 60)
troubles = st.none() | st.sampled_from(TROUBLES)


class MoneyMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="mm-"))
        self.town = Town(self.folder)
        self.stored = False

    @initialize(stored=st.booleans())
    def open(self, stored: bool) -> None:
        """An account, mostly with a share whose proof fixes the preimage of the rent."""
        self.town.begin("buy", None, 10)
        if stored:
            self.town.begin("put", None, 10)

    def teardown(self) -> None:
        try:
            self.town.settle()
            for what, count in self.town.check().items():
                event(f"{what}: {min(count, 5)}")
        finally:
            self.town.stop()
            shutil.rmtree(self.folder)

    # --- the client ---

    @rule(
        command=st.sampled_from(["buy", "buy", "rent", "rent", "rent", "ahead", "resolve"]),
        mib=st.sampled_from([0, 0, 1]),
        msat=st.sampled_from([0, 0, 500]),
        later=st.sampled_from([0, 130, 4000, PERIOD, PERIOD, PERIOD]),
        all_well=st.sampled_from([True, True, False]),
        trouble=troubles,
        dies_at=deaths,
        wait=st.sampled_from(WAITS),
    )
    def command(
        self,
        *,
        command: str,
        mib: int,
        msat: int,
        later: int,
        all_well: bool,
        trouble: tuple[str, str, str | None] | None,
        dies_at: int | None,
        wait: float,
    ) -> None:
        """One command of the client's, as a rule with everybody running, and something that happens meanwhile."""
        if self.town.doing is not None and self.town.wait(wait) is None:
            return
        if all_well:
            self.start(None)
        self.town.capacity_bytes += mib * MIB
        self.town.deposit_msat += msat
        self.town.advance(later)
        if trouble is not None:
            self.arm(*trouble)
        ended = self.town.begin(command, dies_at, wait)
        event(f"{command}: {ended or 'under way'}")

    # --- what happens meanwhile ---

    @rule(what=st.sampled_from(HAPPENINGS))
    def meanwhile(self, what: tuple[str, object]) -> None:
        name, argument = what
        getattr(self, name)(argument)

    def wait(self, seconds: float) -> None:
        if self.town.doing is not None:
            self.town.wait(seconds)

    def kill_client(self, _: None) -> None:
        if self.town.doing is not None:
            self.town.kill_client()

    def kill_node(self, effect: int | None) -> None:
        if effect is None:
            self.town.kill_node()
        else:
            self.town.kill_node_at(effect)

    def crash(self, daemon: str) -> None:
        self.town.crash(daemon)

    def start(self, who: str | None) -> None:
        """One of the three, or all."""
        for daemon in ("client", "node"):
            if who in {None, daemon}:
                self.town.start_daemon(daemon)
        if who in {None, "storage"}:
            self.town.start_node()

    def advance(self, seconds: int) -> None:
        self.town.advance(seconds)

    def release(self, outcome: str) -> None:
        async def release() -> None:
            self.town.simulation.release("client", outcome)

        self.town.do(release)

    def arm(self, kind: str, name: str, moment: str | None) -> None:
        async def arm() -> None:
            faults.add(self.town.simulation.db, kind, node=name, command=moment)

        self.town.do(arm)


MoneyMachine.TestCase.settings = settings(
    max_examples=SEQUENCES,
    stateful_step_count=STEPS,
    deadline=None,
    phases=(Phase.generate,),  # threads and sockets: what fails need not fail again in a shorter sequence
    suppress_health_check=list(HealthCheck),
)


class TestMoneyMachine(MoneyMachine.TestCase):  # type: ignore[misc, valid-type]
    """The machine, with waits as short as a simulated network allows."""

    @pytest.fixture(autouse=True)
    def _short(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        logs.configure("error")
        monkeypatch.setattr(accounts, "CREDIT_SECONDS", 0.5)
        monkeypatch.setattr(accounts, "CREDIT_POLL_SECONDS", 0.01)
        monkeypatch.setattr(payments, "PAY_SECONDS", 2)
        monkeypatch.setattr(pool, "BACKOFF_SECONDS", 0.05)
        monkeypatch.setattr(binding, "BACKOFF_SECONDS", (0.01, 0.1))
        monkeypatch.setattr(binding, "HEALTH_SECONDS", 0.2)
        yield
        structlog.reset_defaults()
