"""The command line. Heavy packages are imported by the commands that need them."""
