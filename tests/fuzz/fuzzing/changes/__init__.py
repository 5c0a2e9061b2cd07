"""What is done to good inputs: each function takes a source of chance and gives a changed input."""
