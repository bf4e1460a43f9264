"""The reward model: how likely it is that this user wrote an answer."""
