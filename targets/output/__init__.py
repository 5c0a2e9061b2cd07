"""What a compilation leaves behind, all from one `Timeline`: trace, report and summary."""
