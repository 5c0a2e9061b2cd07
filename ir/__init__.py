"""The IR: dialects, types, levels, shape and work rules, and the errors that users see."""
