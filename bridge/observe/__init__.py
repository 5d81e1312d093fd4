"""What the daemon tells of itself: metrics, log lines, and the pages that show them.

The one thing to know: nothing here ever holds a value of a row or a secret.
"""
