"""Figures of other people's libraries on small inputs, and the script that made them."""
