"""What the operator sees: the log, and the audit log in it."""
