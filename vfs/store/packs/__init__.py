"""Packs: blocks of compressed objects, the sealed files that hold them, and the index that finds them."""
