"""The model language: grammar, tree, checks and the builder that turns a model into IR."""
