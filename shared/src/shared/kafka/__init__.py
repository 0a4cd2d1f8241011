"""Kafka: how to connect, the topics that must exist, how to publish, and how to read."""
