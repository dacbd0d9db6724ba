"""Sinks: where finished chunks of labels go, each durable by itself, and what joins them."""
