"""Files that survive a crash: atomic writes, checksums, ledger, lock."""
