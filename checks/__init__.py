"""The checks that ship with the doctor, in the order in which the path is walked."""
