"""4-bit experts."""
