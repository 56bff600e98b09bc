"""Engines that turn a completion context into text, and the thread that owns them."""
