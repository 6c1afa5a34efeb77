"""Omni Playground: talk to an any-to-any model with text, sound, pictures and clips."""
