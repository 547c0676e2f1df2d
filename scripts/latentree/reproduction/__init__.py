"""The papers' experiments, rerun, with our figures beside theirs (`make reproduce`, docs/reproduction.md)."""
