"""A simulated Lightning network: virtual lightningds in one process, each with lightningd's own JSON-RPC socket.

It is what lnstore runs on where no real Core Lightning is configured. The coins are not real, and neither are the
blocks; keys, invoices, signatures, preimages and balances are computed as on the real network. State is in SQLite:
each change is one transaction, so killing the process at any time loses nothing.

Run it with `python -m lnstore.lightning.simulated --dir DIR --node alice --node bob`.
"""
