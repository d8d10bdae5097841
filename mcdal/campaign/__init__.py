"""Labeling campaigns with people: they answer on a page, the loop trains and picks beside them."""
