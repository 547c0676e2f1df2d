"""The sides of the split of an atlas, shared by what makes a split and what is fitted on one."""

SPLITS = ("train", "validation", "test")
"""Their places here are their codes."""
