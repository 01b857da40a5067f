"""The claim scrubber: every line of every claim against the tables in force on its service date, before it is sent."""
