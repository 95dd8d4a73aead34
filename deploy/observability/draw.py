def picture(*a): pass
