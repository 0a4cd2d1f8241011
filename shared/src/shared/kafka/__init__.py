"""Kafka: how to connect, the topics that must exist, and how to publish."""
