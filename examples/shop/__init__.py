"""A pipeline of one's own: a source, a step and the steps of this repository. See docs/extending.md."""
