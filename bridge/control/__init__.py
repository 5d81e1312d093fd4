"""What is decided beside the flow: what to look at, what to create, what to drop.

The one thing to know: `reconcile` decides and does nothing; `apply` does and decides
nothing; `check` looks and changes nothing.
"""
