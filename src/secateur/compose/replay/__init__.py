"""Run what is left of a network again and again, each time from where something changes."""
