"""Checks a running node, or a client that connects, against the numbered requirements of spec/.

    python -m lnstore_protocol.conformance lnstore://ID@host:port [--lightning-rpc SOCKET] [--json]
    python -m lnstore_protocol.conformance --client

This subpackage is the one place of lnstore_protocol that does I/O, with plain blocking sockets, and nothing else of
lnstore_protocol imports it. It needs no other package of lnstore.

A requirement that binds a reader of what nodes send is checked on a node as well: what the node sent has to be what a
client that keeps the requirement accepts.
"""

from lnstore_protocol.conformance.node_run import check_node
from lnstore_protocol.conformance.report import Outcome, Report, Result
from lnstore_protocol.conformance.trial import NodeTools
from lnstore_protocol.conformance.verdict import Failed, Skipped

__all__ = ["Failed", "NodeTools", "Outcome", "Report", "Result", "Skipped", "check_node"]
