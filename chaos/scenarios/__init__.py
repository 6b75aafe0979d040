"""The scenarios: pytest tests, by what breaks."""
