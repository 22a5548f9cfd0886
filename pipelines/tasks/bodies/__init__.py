"""The bodies, one file each: `make(...) -> Body`."""
