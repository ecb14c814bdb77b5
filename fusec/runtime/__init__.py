"""Moves bytes and launches callables; knows no ops."""
