"""Every limit of a running node that is no setting, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from lnstore.node.throttle import Limits, Rate, Work
from lnstore_protocol.messages import MAX_SHARE_BYTES

READ_BYTES = 64 * 1024
"""One read from a connection, and so what a connection may hold without asking the memory budget (times two:
as it came, and decrypted)."""

MINIMUM_BUDGET_BYTES = 4 * MAX_SHARE_BYTES
"""What each half of the memory budget has at least: one share must fit, a few keep the disk busy."""

POOLED_BUFFERS = 4
"""Payload buffers kept between uploads: a fresh page costs more than the cipher that fills it."""

UPLOAD_THREADS = 8
READ_THREADS = 4
PROOF_THREADS = 2
"""Worker threads: for roots and writes of uploads (8 fsyncs at once are nearly three times as many a second as one),
for reads, and for rent proofs."""

FIRST_CONTACT_SECONDS = 5.0
"""How long a node waits for its Lightning daemon before it tells its address. Should the daemon stay away, the node
says so to those who ask."""

HEALTH_SECONDS = 30.0
"""Between two looks at a Lightning daemon that was well the last time."""

PAID_POLL_SECONDS = 30
"""One wait for a paid invoice at the Lightning daemon."""

BACKOFF_SECONDS = (0.2, 30.0)
"""First and longest pause after a failure of the Lightning daemon or of a service; doubled in between."""

CHANNEL_WATCH_SECONDS = 600.0
"""Between two looks at what the channels can still receive."""

BILLING_SECONDS = 1.0
"""Between two looks at which accounts are due."""

HEARTBEAT_SECONDS = 60
"""How often it is written down that the node is there; its absence is not held against its accounts."""

SWEEP_SECONDS = 300.0
SWEEP_STEP = 64
"""Between two sweeps nobody asked for; shares in one transaction of a sweep."""

ORPHAN_SCAN_SECONDS = 6 * 3600.0
ORPHAN_BATCH = 256
"""Between two searches for share files that no lease knows; ids per step of it."""

GROWTH_EXPIRY_SECONDS = 3600
"""How long invoices for capacity and deposits can be paid."""

GROWTH_FRESH_SECONDS = 300
"""How long the same growth invoice is given again: clients refuse one that starts 600 s before their own time."""

STRANGER_GROWTH_EXPIRY_SECONDS = 900
"""The same for the capacity of an account that never paid: it is reserved meanwhile, and paying takes seconds."""

STRANGER_SECONDS = 60.0
STRANGER_STEP = 256
"""Between two looks for accounts that never paid and whose time is over, and how many of them go in one."""

STRANGER_FULL_SECONDS = 3600
"""Their time while there are as many as there may be."""

MINIMUM_RENT_EXPIRY_SECONDS = 60

MAXIMUM_RENT_ATTEMPTS = 4
"""Proofs, with an invoice each, that one period's rent may be asked for with: each costs up to 512 shares' reading."""

MAXIMUM_DEPOSIT_MSAT = 10**12
"""10 BTC: more in one invoice is a slip of the client."""

ANCHOR_SKEW_SECONDS = 600
"""How far the client's clock may be from ours when it opens an account."""

EGRESS_STEP_BYTES = 64 * 1024 * 1024
DELEGATE_STEP_BYTES = 16 * 1024 * 1024
EGRESS_IDLE_SECONDS = 30.0
"""Traffic is paid in steps: one hold covers that much reading (less for a delegate, so that it does not keep the
holder's deposit), and is settled when nothing was read for so long."""

SETTLE_SECONDS = 5.0
"""At the end: to settle holds in the books, whatever else happens."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long the node waits, for its peers or for quiet, in seconds."""

    handshake: float = 10.0
    """From accepting a connection to the end of its handshake."""
    idle: float = 900.0
    """Without a byte received and without a request in work."""
    frame: float = 300.0
    """For one announced payload to arrive in full: it holds memory."""
    send: float = 60.0
    """For the peer to take one chunk (at most 256 KiB) of a reply: it holds memory too."""
    linger: float = 0.3
    """At the end: for the peer to read our last words before the connection is reset."""
    drain: float = 20.0
    """After the signal to stop: for requests in flight."""
    quiet: float = 10.0
    """Without traffic, before memory kept for it goes back to the system."""


NETWORKS_REMEMBERED = 16_384
"""How many accounts, and how many networks, the rate limits tell apart: some 3 MB."""

RATES = {
    Work.CONNECT: Limits(account=Rate(1000, 20.0), network=Rate(1000, 20.0)),
    Work.ASK: Limits(account=Rate(1000, 200.0), network=Rate(2000, 400.0)),
    Work.MOVE: Limits(account=Rate(10_000, 500.0), network=Rate(20_000, 1000.0)),
    Work.AUDIT: Limits(account=Rate(1000, 100.0), network=Rate(2000, 200.0)),
    Work.RECORD: Limits(account=Rate(300, 5.0), network=Rate(1000, 10.0)),
    Work.INVOICE: Limits(account=Rate(100, 0.1), network=Rate(300, 1.0)),
    Work.PROOF: Limits(account=Rate(3, 1 / 900), network=Rate(60, 1 / 20)),
    Work.OPEN: Limits(account=Rate(100, 0.1), network=Rate(300, 0.1)),
}
"""How often one account, and all of one network, may ask for what nobody pays for: some times what the busiest honest
client does. Networks may have many users; their limits are for the work of a flood. (An invoice costs lightningd some
2.5 ms, an audit this node 1 ms, a question less.)"""

PAUSE_SECONDS = (0.25, 1.0)
"""At least and at most so long nothing is read from a connection whose request came too often: refusing is work too."""

TURNS = {
    Work.ASK: (2, 4),
    Work.AUDIT: (1, 2),
    Work.RECORD: (1, 2),
    Work.INVOICE: (1, 2),
    Work.OPEN: (1, 2),
}
"""How many requests of one account, and of one network, are in work at once; more wait. Few enough that those of others
do not wait behind a flood, and that the threads of audits leave the interpreter to the event loop."""

REFUSALS_LOGGED_SECONDS = 60.0
"""Refused connections are counted, and told once in so long."""

HANDSHAKES = 256
HANDSHAKES_PER_NETWORK = 64
"""Connections whose handshake is not done: they hold a place for up to Deadlines.handshake."""


REQUESTS_PER_SESSION = 16
"""Requests in work at once on one connection; further ones wait unread."""
