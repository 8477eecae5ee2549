"""What mounts need of the machine and of its service manager, and mirrors behind them."""
