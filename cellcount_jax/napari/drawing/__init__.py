"""Draws the dots of a session: which of them, and how."""
