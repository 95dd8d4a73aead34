//! Rows of the behaviour list, against scripted servers on loopback.
