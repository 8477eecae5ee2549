"""Programs that commands start: recorded runs, trials on versions, and the bisection over them."""
