"""What seeds can tell of a difference, and what they cannot: plain functions of arrays."""
