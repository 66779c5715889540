"""What came from what: the ledger that is written, and what is read from it."""
