"""Backward passes that are not the derivative. Private."""
