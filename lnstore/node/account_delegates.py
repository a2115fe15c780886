"""Who acts for an account, and within which limits, as the operator of a node sees it."""

from __future__ import annotations

from dataclasses import dataclass

from lnstore.ports import Books
from lnstore_protocol.delegation import Certificate, SignedCertificate
from lnstore_protocol.ids import AccountId, CertificateId
from lnstore_protocol.messages import MAX_DELEGATIONS
from lnstore_protocol.usages import Usage


@dataclass(frozen=True, slots=True)
class Delegate:
    """A certificate that was presented here, and what was done under it and those below it.

    `depth` is how many certificates stand above it.
    """

    certificate: Certificate
    certificate_id: CertificateId
    depth: int
    usage: Usage

    def ended(self, now: int) -> str:  # D-R13
        """`revoked`, `expired`, or nothing for one that is good."""
        if self.usage.revoked_at is not None:
            return "revoked"
        return "expired" if self.certificate.expires_at <= now else ""


async def delegates_of(books: Books, account_id: AccountId) -> list[Delegate]:
    """All that is kept of the account's delegates, each followed by those to whom it handed on, oldest first."""
    usages: dict[CertificateId, tuple[SignedCertificate, Usage]] = {}
    after: CertificateId | None = None
    while page := await books.usages(account_id, after=after, limit=MAX_DELEGATIONS):
        for usage in page:
            signed = SignedCertificate.decode(usage.certificate)
            after = signed.certificate_id
            usages[after] = (signed, usage)
    below: dict[CertificateId | None, list[CertificateId]] = {}
    for certificate_id, (_, usage) in sorted(usages.items(), key=lambda item: (item[1][1].first_seen_at, item[0])):
        below.setdefault(usage.parent, []).append(certificate_id)
    found: list[Delegate] = []

    def follow(parent: CertificateId | None, depth: int) -> None:
        for certificate_id in below.get(parent, ()):
            signed, usage = usages[certificate_id]
            found.append(Delegate(signed.certificate, certificate_id, depth, usage))
            follow(certificate_id, depth + 1)

    follow(None, 0)
    return found
