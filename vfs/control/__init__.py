"""Operations on a working layer, wherever it is open: one table of services, performed by its daemon or here."""
