"""Numbers, each as a ratio to a ceiling measured in the same run: `make bench`.

The one thing to know: the machine is noisy, so a figure alone says little; only the
ratio of two that were taken side by side can be compared with last week's.
"""
