"""Importers: each module turns what people have into Items, lazily, with ids that stay the same from run to run.

Nothing of a text is lost or changed in silence: what can't be read is told, with its place.
"""
