"""Layers of either Keras, traced graphs, and compiled programs that are never stale. Private."""
