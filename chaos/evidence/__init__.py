"""The sources of evidence, and what cannot be judged without each."""
