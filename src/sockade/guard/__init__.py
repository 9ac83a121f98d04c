"""What may happen: decisions as plain functions over values, with time and counts as arguments. No I/O."""
