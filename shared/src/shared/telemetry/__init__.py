"""What a service says about itself: structured logs, metrics, traces."""
