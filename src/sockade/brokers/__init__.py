"""What keeps channels: in memory, or in SQLite. Each passes the same contract suite."""
