"""Artifacts on the disk: versioned, checked, whole or absent. The only importer of orbax."""
