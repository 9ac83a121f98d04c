"""Fuzzers: `python -m fuzz [NAME ...] [--count N] [--seed S]`, or `make fuzz`.

Each makes inputs by mutating good ones, gives them to the real code, and raises `Found` at the first input that is
answered wrongly or not at all. The same seed makes the same inputs. The tests run a few thousand of each.
"""
