"""Training shards: dataset headers, deterministic splits, building and reading shards on the chunk graph.

Nothing is here yet.
"""
