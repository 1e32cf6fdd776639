"""The page that says what a run came to: one HTML file, nothing fetched."""
