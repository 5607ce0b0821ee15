"""What runs in an interpreter without the kit: `recorder.py`, one file for Python 3.7 and later."""
