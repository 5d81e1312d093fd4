"""Comparing every document with the source: the proof that a target is right.

The one thing to know: the expected documents are the view's own query, asked of
Postgres; nothing that the stream has learnt is used.
"""
