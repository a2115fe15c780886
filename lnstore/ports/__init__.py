"""What the node and the client need from the outside, as small Protocols.

Adapters (lightning, storage, books) implement these; node and client see nothing else of them. Every class here is a
Protocol, a frozen value, or an error that the person who meets it can act on.
"""

from lnstore.ports.books import (
    Account,
    AccountBooks,
    Books,
    BooksRefused,
    InvoiceBooks,
    Lease,
    LeaseBooks,
    LedgerBooks,
    NewLease,
    PlannedInvoice,
    Posting,
    RecordBooks,
    TrafficBooks,
)
from lnstore.ports.clock import (
    Clock,
)
from lnstore.ports.lightning import (
    OPERATING,
    Channel,
    Channels,
    Closing,
    Coin,
    DecodedInvoice,
    Feerates,
    Invoice,
    Invoices,
    InvoiceStatus,
    Lightning,
    LightningError,
    LightningIdentity,
    LightningInfo,
    LightningRefused,
    LightningUnavailable,
    OnChain,
    Outcome,
    Payment,
    Payments,
)
from lnstore.ports.storage import (
    Shares,
    StorageFull,
)

__all__ = [
    "OPERATING",
    "Account",
    "AccountBooks",
    "Books",
    "BooksRefused",
    "Channel",
    "Channels",
    "Clock",
    "Closing",
    "Coin",
    "DecodedInvoice",
    "Feerates",
    "Invoice",
    "InvoiceBooks",
    "InvoiceStatus",
    "Invoices",
    "Lease",
    "LeaseBooks",
    "LedgerBooks",
    "Lightning",
    "LightningError",
    "LightningIdentity",
    "LightningInfo",
    "LightningRefused",
    "LightningUnavailable",
    "NewLease",
    "OnChain",
    "Outcome",
    "Payment",
    "Payments",
    "PlannedInvoice",
    "Posting",
    "RecordBooks",
    "Shares",
    "StorageFull",
    "TrafficBooks",
]
