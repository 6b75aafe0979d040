"""What can be broken: each fault injects, heals and observes itself, and proves that it holds."""
