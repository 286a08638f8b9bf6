"""What a bundle takes: memory, time."""
