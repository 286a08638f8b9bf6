"""Archives: thousands of hours of recordings, tagged by many workers, always with the same result."""
