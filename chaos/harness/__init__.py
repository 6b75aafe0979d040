"""What a scenario test receives: its run and steps, its judging, the checks at its end."""
