"""Whole histories on real servers: the daemon as users run it, and what happens to it.

The one thing to know: each ends by comparing every document and key with SQL.
"""
