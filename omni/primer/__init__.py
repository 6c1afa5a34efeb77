"""Primer: a small any-to-any mixture of experts that reads, sees, hears, watches, and answers in all four."""
