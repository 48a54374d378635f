"""Exploring schedules: oracles, replay tokens, searching and minimising."""
