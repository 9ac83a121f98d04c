"""Sockade beside other servers, doing the same work: `make bench` (docs/performance.md)."""
