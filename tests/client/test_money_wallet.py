"""The wallet: intents come before money, every payment settles once, and the ledger adds up to zero."""

from __future__ import annotations

import sqlite3
import tempfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lnstore.client.budgets import Budgets
from lnstore.client.capacity import Rented
from lnstore.client.catalog import Catalog
from lnstore.client.money_errors import InvoiceFault, InvoiceRefused, PaymentOpen
from lnstore.client.wallet import Wallet
from lnstore.client.wallet_entries import Challenge, Intent, PaymentEntry, Verdict
from lnstore.ports import Outcome, Payment
from lnstore_protocol.ids import Msat, NodeId, PaymentHash, ShareId
from lnstore_protocol.messages import InvoicePurpose

NODE = NodeId(b"n" * 32)
NOW = 1_800_000_000


def intent(
    number: int, *, amount: int = 1000, purpose: InvoicePurpose = InvoicePurpose.RENT, index: int | None = None
) -> Intent:
    return Intent(
        node_id=NODE,
        purpose=purpose,
        index=number if index is None else index,
        bolt11=f"ln{number}",
        payment_hash=PaymentHash(number.to_bytes(32, "big")),
        amount_msat=Msat(amount),
        from_at=NOW,
        until_at=NOW + 60,
        capacity_bytes=0,
        token_index=number if purpose is InvoicePurpose.RENT else None,
    )


def intend(wallet: Wallet, wanted: Intent, now: int) -> PaymentEntry:
    return wallet.intend(wanted, now, fee_limit_msat=Msat(0), budgets=Budgets())


def settled(amount: int, fee: int = 0) -> Payment:
    return Payment(Outcome.SETTLED, Msat(amount), Msat(amount + fee), bytes(32))


@pytest.fixture
def wallet(tmp_path: Path) -> Wallet:
    return Wallet(Catalog.open(tmp_path / "catalog.db"))


def test_an_intent_is_open_until_the_daemon_has_spoken(wallet: Wallet) -> None:
    entry = intend(wallet, intent(1), NOW)
    assert entry.state is Outcome.UNKNOWN
    assert wallet.open_payments() == [entry]


def test_a_settled_payment_is_posted_once_with_its_fee(wallet: Wallet) -> None:
    entry = intend(wallet, intent(1), NOW)
    for _ in range(2):
        wallet.record(entry.payment_id, settled(1000, 7), NOW + 5)
    assert wallet.balances() == {"fees": 7, "lightning": -1007, f"rent:{NODE.hex()}": 1000}
    assert [posting.kind for posting in wallet.postings()] == ["rent", "fee"]


def test_what_does_not_hash_to_the_payment_hash_is_not_kept_as_its_preimage(wallet: Wallet) -> None:
    entry = intend(wallet, intent(1), NOW)
    assert wallet.record(entry.payment_id, settled(1000), NOW).preimage is None


def test_a_settled_payment_is_not_turned_back_into_a_failed_one(wallet: Wallet) -> None:
    entry = intend(wallet, intent(1), NOW)
    wallet.record(entry.payment_id, settled(1000), NOW)
    assert wallet.record(entry.payment_id, Payment(Outcome.FAILED), NOW).state is Outcome.SETTLED


def test_a_settled_invoice_is_not_intended_again(wallet: Wallet) -> None:
    entry = intend(wallet, intent(1), NOW)
    wallet.record(entry.payment_id, settled(1000), NOW)
    with pytest.raises(InvoiceRefused) as refused:
        intend(wallet, intent(1), NOW)
    assert refused.value.fault is InvoiceFault.ALREADY_PAID


def test_another_invoice_for_the_same_preimage_is_a_replay(wallet: Wallet) -> None:
    """A preimage that was paid once proves nothing any more."""
    entry = intend(wallet, intent(1), NOW)
    wallet.record(entry.payment_id, settled(1000), NOW)
    replayed = replace(intent(2), payment_hash=intent(1).payment_hash)
    with pytest.raises(InvoiceRefused) as refused:
        intend(wallet, replayed, NOW)
    assert refused.value.fault is InvoiceFault.ALREADY_PAID


def test_a_second_invoice_for_what_is_open_is_refused(wallet: Wallet) -> None:
    intend(wallet, intent(1, index=4), NOW)
    with pytest.raises(PaymentOpen):
        intend(wallet, intent(2, index=4), NOW)


def test_after_a_failure_the_same_invoice_or_another_may_be_paid(wallet: Wallet) -> None:
    first = intend(wallet, intent(1, index=4), NOW)
    wallet.record(first.payment_id, Payment(Outcome.FAILED), NOW)
    assert intend(wallet, intent(1, index=4), NOW + 1).payment_id == first.payment_id
    wallet.record(first.payment_id, Payment(Outcome.FAILED), NOW)
    assert intend(wallet, intent(2, index=4), NOW + 1).payment_id != first.payment_id


def test_find_leaves_out_what_failed_and_what_an_older_agreement_paid(wallet: Wallet) -> None:
    failed = intend(wallet, intent(1, index=0), NOW)
    wallet.record(failed.payment_id, Payment(Outcome.FAILED), NOW)
    assert wallet.find(NODE, InvoicePurpose.RENT, 0, since_at=NOW) is None
    paid = intend(wallet, intent(2, index=0), NOW)
    wallet.record(paid.payment_id, settled(1000), NOW)
    assert wallet.find(NODE, InvoicePurpose.RENT, 0, since_at=NOW) is not None
    assert wallet.find(NODE, InvoicePurpose.RENT, 0, since_at=NOW + 1) is None


def test_spending_is_summed_by_node_and_month(wallet: Wallet) -> None:
    for number, (purpose, at) in enumerate(
        [
            (InvoicePurpose.RENT, NOW),
            (InvoicePurpose.DEPOSIT, NOW),
            (InvoicePurpose.CAPACITY, NOW + 40 * 86_400),
        ]
    ):
        entry = intend(wallet, intent(number, purpose=purpose), at)
        wallet.record(entry.payment_id, settled(1000, 3), at)
    rows = [(row.month, row.rent_msat, row.capacity_msat, row.deposit_msat, row.fees_msat) for row in wallet.spending()]
    assert rows == [("2027-01", 1000, 0, 1000, 6), ("2027-02", 0, 1000, 0, 3)]


def test_the_first_challenge_for_an_index_wins(wallet: Wallet) -> None:
    """What a revealed nonce must cover does not change when shares are added later."""
    first = Challenge(NODE, 3, 7, (ShareId(b"a" * 32),), 1)
    assert wallet.challenge(first, NOW) == first
    assert wallet.challenge(Challenge(NODE, 3, 7, (ShareId(b"b" * 32),), 2), NOW) == first


def test_rent_that_can_never_be_paid_takes_its_challenge_with_it(wallet: Wallet) -> None:
    """The next proof has the next index, and a failure that can be tried again changes nothing."""
    for t in (0, 1):
        wallet.challenge(Challenge(NODE, t, 0, (), 0), NOW)
        entry = intend(wallet, intent(t, index=0), NOW)
        assert wallet.standing(NODE, anchor_at=NOW).latest_proof == t
        wallet.record(entry.payment_id, Payment(Outcome.FAILED), NOW)
        assert wallet.standing(NODE, anchor_at=NOW).latest_proof == t
        entry = intend(wallet, intent(t, index=0), NOW)
        wallet.record(entry.payment_id, Payment(Outcome.FAILED, unpayable=True), NOW)
        assert wallet.standing(NODE, anchor_at=NOW).latest_proof == t + 1
    assert wallet.standing(NODE, anchor_at=NOW).next_proof == 0


def test_a_nonce_of_a_period_that_another_proof_paid_is_passed_over(wallet: Wallet) -> None:
    for t in (0, 1):
        wallet.challenge(Challenge(NODE, t, 0, (), 0), NOW)
    entry = intend(wallet, intent(0, index=0), NOW)
    wallet.record(entry.payment_id, settled(1000), NOW)
    standing = wallet.standing(NODE, anchor_at=NOW)
    assert (standing.next_proof, standing.latest_proof) == (1, 2)


def test_only_the_first_growth_pays_its_period_as_a_whole(wallet: Wallet) -> None:
    """One that is bought after the next period's rent was asked for reaches to that period's end, without its rent."""
    for number, until_at in ((0, NOW + 60), (1, NOW + 120)):
        growth = replace(intent(number, purpose=InvoicePurpose.CAPACITY), until_at=until_at, capacity_bytes=1000)
        wallet.record(intend(wallet, growth, NOW).payment_id, settled(1000), NOW)
    standing = wallet.standing(NODE, anchor_at=NOW)
    assert (standing.paid_until_at, standing.rented) == (NOW + 60, Rented(2000))


def test_only_a_proof_that_failed_and_was_not_paid_since_is_a_failed_challenge(wallet: Wallet) -> None:
    assert wallet.failed_challenge(NODE) is None
    first = wallet.challenge(Challenge(NODE, 0, 0, (), 0), NOW)
    assert wallet.failed_challenge(NODE) is None
    wallet.judge(NODE, 0, Verdict.FAILED)
    assert wallet.failed_challenge(NODE) == first
    assert wallet.standing(NODE, anchor_at=NOW).latest_proof == 0
    entry = intend(wallet, intent(0), NOW)
    wallet.record(entry.payment_id, settled(1000), NOW)
    assert wallet.failed_challenge(NODE) is None


def test_postings_cannot_be_changed(wallet: Wallet) -> None:
    entry = intend(wallet, intent(1), NOW)
    wallet.record(entry.payment_id, settled(1000), NOW)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"), wallet._catalog.transaction() as db:
        db.execute("DELETE FROM postings")


def test_entries_and_intents_print_no_preimage(wallet: Wallet) -> None:  # P-R15, S-R1
    preimage = b"\xab" * 32
    entry = intend(wallet, replace(intent(1), payment_hash=PaymentHash(sha256(preimage).digest())), NOW)
    entry = wallet.record(entry.payment_id, Payment(Outcome.SETTLED, Msat(1000), Msat(1000), preimage), NOW)
    assert entry.preimage == b"\xab" * 32
    assert "abab" not in repr(entry)
    assert r"\xab" not in repr(entry)


class WalletMachine(RuleBasedStateMachine):
    """Any order of intents, outcomes and restarts keeps what the wallet promises."""

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "catalog.db"
        self.catalog = Catalog.open(self.path)
        self.paid: dict[int, int] = {}
        self.known: dict[int, Intent] = {}

    @property
    def wallet(self) -> Wallet:
        return Wallet(self.catalog)

    @rule(number=st.integers(0, 5), index=st.integers(0, 2), amount=st.integers(1, 10**6))
    def intend(self, number: int, index: int, amount: int) -> None:
        wanted = self.known.get(number) or intent(number, amount=amount, index=index)
        busy = [e for e in self.wallet.open_payments() if e.index == wanted.index and e.bolt11 != wanted.bolt11]
        if number in self.paid:
            with pytest.raises(InvoiceRefused):
                intend(self.wallet, wanted, NOW)
        elif busy:
            with pytest.raises(PaymentOpen):
                intend(self.wallet, wanted, NOW)
        else:
            assert intend(self.wallet, wanted, NOW).open
            self.known[number] = wanted

    @precondition(lambda self: self.known)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome), fee=st.integers(0, 1000))
    def outcome(self, data: st.DataObject, outcome: Outcome, fee: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.known)))
        entry = next(e for e in self.wallet.payments() if e.bolt11 == f"ln{number}")
        payment = settled(entry.amount_msat, fee) if outcome is Outcome.SETTLED else Payment(outcome)
        after = self.wallet.record(entry.payment_id, payment, NOW)
        assert after.state is (outcome if entry.open else entry.state)
        if after.state is Outcome.SETTLED and entry.open:
            self.paid[number] = entry.amount_msat + fee

    @rule()
    def restart(self) -> None:
        self.catalog.close()
        self.catalog = Catalog.open(self.path)

    @invariant()
    def the_ledger_says_what_was_paid_and_adds_up(self) -> None:
        balances = self.wallet.balances()
        assert sum(balances.values()) == 0
        assert -balances.get("lightning", 0) == sum(self.paid.values())

    @invariant()
    def one_open_payment_for_each_index(self) -> None:
        open_ = [(e.node_id, e.purpose, e.index) for e in self.wallet.open_payments()]
        assert len(open_) == len(set(open_))

    def teardown(self) -> None:
        if hasattr(self, "catalog"):
            self.catalog.close()
            self.directory.cleanup()


TestWalletMachine = WalletMachine.TestCase
TestWalletMachine.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)
