"""Accounts, leases, invoices and the ledger of a node."""
