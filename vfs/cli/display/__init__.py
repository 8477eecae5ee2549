"""How results are shown as text: versions, changes, runs, graphs and reports."""
