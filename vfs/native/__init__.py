"""What is answered without Python: opens of files and directories of versions, by a small library in C."""
