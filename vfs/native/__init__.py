"""The native session layer: requests that are answered in C, before the binding and Python see them."""
